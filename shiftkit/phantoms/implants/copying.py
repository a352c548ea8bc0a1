"""Tumors of patients as something to copy: their volumes, where they lie, and how far bundles are from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from ...cohorts.peaks import load_peaks
from ...distances import distance_to, edge_distance_map
from ...errors import DataError
from ...geometry import same_grid
from ...images import read_image, read_mask
from ...types import Bundle, Case, Cohort, Volume
from ...work import Work
from ..tumors import radius_of
from ..warp import Array
from .brains import Brain, find_brain
from .growth import Order, inwards

_FARTHEST_MM = 60.0
"""Beyond it a distance says nothing of what a tumor does."""
_SHIFTS_MM = np.array(list(product((-12.0, -6.0, 0.0, 6.0, 12.0), repeat=3)))
_SHIFT_COSTS = 0.1
"""What a place a millimeter away costs, in mm of distance to bundles: of equals, the nearest."""
_PUSHED = 0.65
"""Of a tumor's volume, that is pushed aside on average."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Copied:
    """A patient's tumor.

    Parameters
    ----------
    key : str
        Whose.
    volume_ml : float
        Of its mask.
    place : ndarray, shape (3,)
        Its center of mass, as `shiftkit.phantoms.implants.brains.Brain.place_of`.
    distance_mm : mapping of Bundle to float
        From edge to edge, of the bundles that the patient has a mask of.
    """

    key: str
    volume_ml: float
    place: Array
    distance_mm: Mapping[Bundle, float]


def tumors_of(cohort: Cohort, work: Work) -> tuple[Copied, ...]:
    """The tumors of a cohort, of whoever has a mask of one that is not empty; a `DataError` if nobody has."""
    cases = [case for case in cohort if case.tumor is not None]
    found = [one for one in work.map(_copied, cases, f"Reading tumors of {cohort.name}") if one is not None]
    if not found:
        raise DataError(
            f"Tumors are copied from a cohort with tumor masks; nobody of {cohort.name} has one that is not empty. Add "
            "anat/*_label-tumor_mask.nii.gz, or leave `like` out."
        )
    return tuple(found)


def _copied(case: Case) -> Copied | None:
    assert case.tumor is not None
    tumor = read_mask(case.tumor)
    if not tumor.array.any():
        return None
    brain = find_brain(read_images(case), case.key)
    near = edge_distance_map(tumor.array, tumor.spacing_mm)
    distances: dict[Bundle, float] = {}
    for bundle, path in case.masks.items():
        mask = read_mask(path)
        if same_grid(mask, tumor) and mask.array.any():
            distances[bundle] = float(near[mask.array].min())
    return Copied(
        key=case.key,
        volume_ml=float(tumor.array.sum()) * tumor.voxel_volume_ml,
        place=brain.place_of(tumor.points_inside().mean(axis=0)),
        distance_mm=distances,
    )


def read_images(case: Case) -> dict[str, Volume]:
    """All images of a case, numbers only, peaks in world axes; a `DataError` unless they share their grid."""
    if not case.images:
        raise DataError(f"{case.key} has no image. Add images of the layout, or leave the participant out.")
    images: dict[str, Volume] = {}
    for name, path in sorted(case.images.items()):
        volume = load_peaks(case) if name == "peaks" else read_image(path)
        images[name] = volume.with_array(np.nan_to_num(volume.array, posinf=0.0, neginf=0.0))
        first = next(iter(images.values()))
        if not same_grid(first, volume):
            raise DataError(
                f"All images of a participant must share one grid; {path.name} does not share that of {case.key}'s "
                f"{next(iter(images))}. Resample it."
            )
    return images


def deal(keys: Sequence[str], tumors: Sequence[Copied], rng: np.random.Generator) -> dict[str, Copied]:
    """A tumor for each key, so that all are used about equally often: in an order drawn anew each round."""
    dealt: list[Copied] = []
    while len(dealt) < len(keys):
        dealt += [tumors[i] for i in rng.permutation(len(tumors))]
    return dict(zip(keys, dealt, strict=False))


def fitted(tumor: Copied, brain: Brain, masks: Mapping[Bundle, Volume]) -> Order:
    """Where a copied tumor lies in another brain: near its place, where bundles are as far as they were.

    Masks are those of the healthy participant. Without common bundles it is the place itself.
    """
    order = Order(volume_ml=tumor.volume_ml, place=tumor.place, copied_from=tumor.key)
    common = [bundle for bundle in tumor.distance_mm if bundle in masks and masks[bundle].array.any()]
    if not common:
        return order
    radius = radius_of(tumor.volume_ml)
    step = float(np.mean(brain.mask.spacing_mm))
    start = brain.point_at(tumor.place)
    inside = partial(inwards, brain, radius_mm=radius, falx=False)
    places = np.array([inside(start + shift) for shift in _SHIFTS_MM])
    cost = _SHIFT_COSTS * np.linalg.norm(places - start, axis=1)
    for bundle in common:
        before = brain.at(distance_to(masks[bundle].array, brain.mask.spacing_mm), places)
        # Mass effect moves a bundle at a distance D from the center to where the volume between them is larger.
        after = (before**3 + _PUSHED * radius**3) ** (1 / 3) - radius - step  # from edge to edge
        wanted = min(tumor.distance_mm[bundle], _FARTHEST_MM)
        cost += np.abs(np.clip(after, 0, _FARTHEST_MM) - wanted) / len(common)
    return Order(volume_ml=tumor.volume_ml, place=brain.place_of(places[int(cost.argmin())]), copied_from=tumor.key)
