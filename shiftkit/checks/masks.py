"""Masks: binary, not empty, in the brain, in one piece or a few; tumors of a believable size."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..geometry import pieces, same_grid
from ..types import Volume
from .subject import Subject, inside
from .verdict import Problem

# Masks may leave the brain by this much: brain masks differ, and raters are generous.
_OUTSIDE_MM = 5.0
# A declared tumor volume may differ by the larger of these: it is rounded, or was measured on a finer grid.
_VOLUME_SHARE, _VOLUME_ML = 0.2, 1.0
_UNITS = {"mm³": 1000.0, "liters": 0.001}


def find(subject: Subject) -> Iterator[Problem]:
    """Problems with bundle and tumor masks."""
    for what, path, volume in subject.named_masks():
        if volume.array.ndim != 3:
            sentence = f"A mask has three axes; the {what} has shape {volume.array.shape}."
            yield subject.problem("mask-values", "error", path, sentence, "Write one file a mask.")
            continue
        bad = _values(subject, what, path, volume)
        if bad is not None:
            yield bad
        elif path not in subject.marked:
            yield _empty(subject, what, path)
        else:
            yield from _pieces(subject, what, path)
    yield from _place(subject)
    yield from _overlap(subject)
    yield from _declared_volume(subject)


def _values(subject: Subject, what: str, path: Path, volume: Volume) -> Problem | None:
    if not np.isfinite(volume.array).all():
        sentence, cure = f"The {what} must be finite; it holds NaN or infinity.", "Write 0 there."
        return subject.problem("mask-values", "error", path, sentence, cure)
    values = np.unique(volume.array)
    binary = len(values) == 1 or (len(values) == 2 and values[0] == 0)
    # Readers take for inside what lies above 0.5: a mask of 0 and 0.3 would be read as empty.
    if binary and values[0] >= 0 and (values[-1] == 0 or values[-1] > 0.5):
        return None
    # What the values look like tells how the mask was made, and with it the way to mend it.
    whole = bool(np.allclose(values, np.rint(values)))
    few = ", ".join(f"{value:g}" for value in values[:5]) + (" …" if len(values) > 5 else "")
    if whole and values[0] >= 0:
        cure = "It is a label map: keep the labels that are meant, as 1."
    elif values[0] >= 0 and values[-1] <= 1:
        cure = "It holds probabilities or was interpolated: threshold at 0.5, and resample masks with nearest neighbor."
    else:
        cure = "Write the mask again with 0 outside and 1 inside."
    sentence = f"A mask holds 0 and one other value; the {what} holds {few}."
    return subject.problem("mask-values", "error", path, sentence, cure)


def _empty(subject: Subject, what: str, path: Path) -> Problem:
    patient_tumor = path == subject.case.tumor and subject.case.group == "glioma"
    cure = "If the bundle does not exist, this is right and counts as reference_absent; if nobody drew it, remove it."
    if path == subject.case.tumor:
        cure = "Draw the tumor, or remove the file and the participant's tumor_side."
    sentence = f"A mask marks voxels; the {what} is empty."
    return subject.problem("mask-empty", "error" if patient_tumor else "warning", path, sentence, cure)


def _pieces(subject: Subject, what: str, path: Path) -> Iterator[Problem]:
    _, labeled = pieces(subject.marked[path].array)
    sizes = np.sort(np.bincount(labeled.ravel())[1:])[::-1]
    count = len(sizes)
    rest = 1 - sizes[:3].sum() / sizes.sum()  # a tumor or a thin waist may part a bundle in two or three
    if count > 8 and rest > 0.2:
        sentence = (
            f"A mask is one region or a few; the {what} has {count} pieces, {rest:.0%} of it outside the three largest."
        )
        cure = "Look at it: scattered voxels come from a wrong threshold, noise, or interpolation."
        yield subject.problem("mask-pieces", "warning" if rest < 0.5 else "error", path, sentence, cure)


def _place(subject: Subject) -> Iterator[Problem]:
    brain = subject.brain
    if brain is None:
        return
    # From box to box, not from center to center: at 4 mm the centers of neighbors lie up to 7 mm apart.
    beyond = ~np.asarray(ndimage.binary_dilation(brain.array, np.ones((3, 3, 3))), dtype=np.bool_)
    away = np.asarray(ndimage.distance_transform_edt(beyond, sampling=brain.spacing_mm))
    for what, path, _ in subject.named_masks():
        mask = subject.marked.get(path)
        if mask is None or not same_grid(mask, brain):
            continue
        share = float((away[mask.array] > _OUTSIDE_MM).mean())
        if share > 0.05:  # a rough edge leaves a few percent outside, a shift or flip much of the mask
            sentence = f"A mask lies in the brain; {share:.0%} of the {what} lie more than {_OUTSIDE_MM:g} mm outside."
            cure = "The mask was shifted or flipped, or belongs to another participant: overlay it and write it again."
            yield subject.problem("mask-place", "error" if share > 0.2 else "warning", path, sentence, cure)


def _overlap(subject: Subject) -> Iterator[Problem]:
    tumor, brain = subject.marked.get(subject.case.tumor), subject.brain
    if tumor is None:
        return
    if brain is not None and same_grid(tumor, brain):
        share = float(tumor.array.sum() / brain.array.sum())
        if share > 0.4:  # of an adult brain that is about 500 ml, far beyond any glioma
            sentence = f"A tumor takes up a part of the brain; the mask covers {share:.0%} of it."
            cure = "This may be a brain mask under the tumor's name, or an inverted mask: write the tumor mask again."
            yield subject.problem("tumor-overlap", "error", subject.case.tumor, sentence, cure)
            return
    for bundle, path in subject.case.masks.items():
        mask = subject.marked.get(path)
        if mask is not None and same_grid(mask, tumor):
            share = float(tumor.array[mask.array].mean())
            if share > 0.9:
                sentence = f"A tumor spares a part of a bundle; the tumor mask covers {share:.0%} of {bundle.label}."
                cure = (
                    f"Look at {bundle.label}: if it was drawn through the tumor or is the tumor's mask, draw it again; "
                    "if the bundle is truly engulfed, allow this check."
                )
                yield subject.problem("tumor-overlap", "error", path, sentence, cure)


def _declared_volume(subject: Subject) -> Iterator[Problem]:
    tumor, text = subject.tumor, subject.case.attributes.get("tumor_volume_ml")
    if tumor is None or tumor.array.ndim != 3 or text is None:
        return
    try:
        declared = float(text)
    except ValueError:  # named by the check of participants.tsv
        return
    measured = float(inside(tumor).sum()) * tumor.voxel_volume_ml
    if abs(declared - measured) <= max(_VOLUME_SHARE * measured, _VOLUME_ML):
        return
    unit = next((name for name, scale in _UNITS.items() if abs(declared / scale - measured) < 0.2 * measured), None)
    cure = "Correct the cell (n/a is allowed), or find out whose mask it is, and of which session."
    cure = f"It looks like {unit}: give it in ml." if unit else cure
    sentence = f"participants.tsv says {declared:g} ml; the tumor mask holds {measured:.1f} ml."
    yield subject.problem("tumor-volume", "warning", subject.case.tumor, sentence, cure)
