"""Sides: left bundles left, right ones right, the tumor where the table says, and nobody upside down."""

from collections.abc import Iterator

import numpy as np

from ..types import Bundle
from .subject import Subject
from .verdict import Problem

# How far beyond the midline a bundle's center must lie before it counts as lying on the other side.
_MARGIN_MM = 6.0

# By axis: in every brain the first bundle lies farther in front (axis 1) or higher (axis 2) than the second one.
_ORDER = {
    1: (("FAT", "ILF"), ("FAT", "AF"), ("UF", "ILF")),
    2: (("AF", "ILF"), ("AF", "IFOF"), ("FAT", "IFOF")),
}
# Distance between centers from which an order is read: mass effect shifts a center by less.
_ORDER_MM = 8.0


def find(subject: Subject) -> Iterator[Problem]:
    """Problems with left and right, and with the whole participant's orientation."""
    paths = {bundle: path for bundle, path in subject.case.masks.items() if path in subject.marked}
    centers = {bundle: subject.marked[path].points_inside().mean(axis=0) for bundle, path in paths.items()}
    middle = _middle(subject, centers)
    turned = _turned_over(centers)
    if turned:
        sentence = f"AF lies above ILF and IFOF, FAT in front; here the order along {turned} is reversed in every pair."
        cure = f"All images are flipped along {turned}, or their affines are: flip them back with their affines kept."
        yield subject.problem("orientation", "error", None, sentence, cure)
    yield from _bundles(subject, centers, middle)
    yield from _tumor(subject, middle)


def _bundles(subject: Subject, centers: dict[Bundle, np.ndarray], middle: float | None) -> Iterator[Problem]:
    wrong = [bundle for bundle in centers if _lies_wrong(bundle, centers, middle)]
    sided = [bundle for bundle in centers if bundle.hemisphere != "none"]
    everyone = len(wrong) == len(sided) > 2
    for bundle in wrong:
        other = "right" if bundle.hemisphere == "left" else "left"
        if everyone:
            cure = (
                "Every bundle of this participant is on the other side: the images are mirrored, or the files' left "
                "and right are in the radiological convention. Find out which; flip the images, or exchange all names."
            )
        elif bundle.mirrored in wrong:
            cure = f"Exchange the names of {bundle.label} and {bundle.mirrored.label}."
        else:
            cure = f"Name it {bundle.mirrored.label}, or, if the file was flipped, flip it back."
        sentence = (
            f"A {bundle.hemisphere} bundle lies in the {bundle.hemisphere} hemisphere; the center of {bundle.label} "
            f"lies in the {other} one, at x = {centers[bundle][0]:.0f} mm"
            + (f" (midline at {middle:.0f} mm)." if middle is not None else ".")
        )
        yield subject.problem("side", "error", subject.case.masks[bundle], sentence, cure)


def _lies_wrong(bundle: Bundle, centers: dict[Bundle, np.ndarray], middle: float | None) -> bool:
    if bundle.hemisphere == "none":
        return False
    sign = 1 if bundle.hemisphere == "left" else -1
    x = float(centers[bundle][0])
    if bundle.mirrored in centers:
        partner = float(centers[bundle.mirrored][0])
        if sign * (x - partner) > _MARGIN_MM:
            # The pair is crossed: both are wrong, unless the midline clears one of them.
            return middle is None or sign * (x - middle) > 0
    return middle is not None and sign * (x - middle) > _MARGIN_MM


def _turned_over(centers: dict[Bundle, np.ndarray]) -> str:
    turned = ""
    for axis, pairs in _ORDER.items():
        orders = [
            float(centers[a][axis] - centers[b][axis])
            for first, second in pairs
            for a in centers
            for b in centers
            if a.name == first and b.name == second and a.hemisphere == b.hemisphere
        ]
        # Every pair must agree: a single one can be turned by a tumor or a wrong name.
        if orders and max(orders) < -_ORDER_MM:
            turned += "xyz"[axis]
    return " and ".join(turned)


def _tumor(subject: Subject, middle: float | None) -> Iterator[Problem]:
    declared = subject.case.attributes.get("tumor_side")
    tumor = subject.marked.get(subject.case.tumor)
    if tumor is None or middle is None or declared not in ("left", "right", "bilateral"):
        return
    left = float((tumor.points_inside()[:, 0] < middle).mean())
    cure = "Correct tumor_side in participants.tsv, or flip the mask if its overlay on the T1w image is mirrored."
    if declared == "bilateral":
        # A rim across the midline makes no tumor bilateral.
        if min(left, 1 - left) < 0.02:
            sentence = f"A bilateral tumor reaches both hemispheres; {max(left, 1 - left):.0%} of the mask lie in one."
            yield subject.problem("tumor-side", "warning", subject.case.tumor, sentence, cure)
        return
    share = left if declared == "left" else 1 - left
    if share < 0.4:
        sentence = f"participants.tsv says {declared}; {1 - share:.0%} of the tumor mask lie on the other side."
        yield subject.problem("tumor-side", "error" if share < 0.2 else "warning", subject.case.tumor, sentence, cure)


def _middle(subject: Subject, centers: dict[Bundle, np.ndarray]) -> float | None:
    """World x of the midline: the brain's, else half way between bundles that come in pairs."""
    brain = subject.brain
    if brain is not None:
        low, high = np.quantile(brain.points_inside()[:, 0], [0.01, 0.99])
        return float((low + high) / 2)  # the outline, which a tumor on one side does not move
    pairs = [(c, centers[b.mirrored]) for b, c in centers.items() if b.hemisphere == "left" and b.mirrored in centers]
    return float(np.mean([(a[0] + b[0]) / 2 for a, b in pairs])) if pairs else None
