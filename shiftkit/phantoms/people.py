"""Participants: every random number of one person, drawn once, whatever is rendered from it."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Bundle
from .anatomy import Course, bundle_courses, grow, other_courses, template
from .tumors import Tumor, draw_tumor
from .warp import Array, Warp, coarse_points, exponentiate, smooth_noise

_STREAMLINES = 250


@dataclass(frozen=True, kw_only=True)
class Person:
    """One participant's anatomy.

    Parameters
    ----------
    participant_id : str
        With its prefix.
    age : int
        Years.
    sex : str
        ``F`` or ``M``.
    warp : Warp
        From the template to the participant, without tumor.
    bundles : dict of Bundle to ndarray, shape (S, N, 3)
        Streamlines in template space, mm: their course and spread are the participant's own.
    others : list of ndarray
        Streamlines of fiber systems that are not segmented.
    tumor : Tumor or None
        Drawn for patients, rendered or not.
    t1_contrast : float
        The participant's own tissue contrast.
    """

    participant_id: str
    age: int
    sex: str
    warp: Warp
    bundles: dict[Bundle, Array]
    others: list[Array]
    tumor: Tumor | None
    t1_contrast: float


def generator(seed: int, participant_id: str, purpose: str) -> np.random.Generator:
    """The generator of one participant and purpose: independent of who else is drawn, and in what order."""
    words = [seed, *participant_id.encode(), 0, *purpose.encode()]
    return np.random.default_rng(np.random.SeedSequence(words))


def draw_person(seed: int, participant_id: str, patient: bool) -> Person:
    """Draw one participant's anatomy from the seed and the identifier alone."""
    rng = generator(seed, participant_id, "anatomy")
    velocity = 2.3 * smooth_noise(rng, 22.0) + 0.8 * smooth_noise(rng, 11.0)
    size = rng.normal(0, 0.02, 3)
    velocity = velocity + np.moveaxis(coarse_points() * size, -1, 0)
    age = int(np.clip(rng.normal(48 if patient else 36, 12), 18, 80))
    bundles = {bundle: _grow(course, rng) for bundle, course in bundle_courses().items()}
    others = [grow(course, _STREAMLINES, rng, spread=float(rng.normal(1, 0.1))) for course in other_courses()]
    tumor = draw_tumor(generator(seed, participant_id, "tumor"), brain_distance()) if patient else None
    return Person(
        participant_id=participant_id,
        age=age,
        sex=str(rng.choice(["F", "M"])),
        warp=exponentiate(velocity),
        bundles=bundles,
        others=others,
        tumor=tumor,
        t1_contrast=float(rng.normal(1, 0.08)),
    )


def _grow(course: Course, rng: np.random.Generator) -> Array:
    """Streamlines of one bundle with the participant's own course (a shift that varies along it) and width."""
    way = course.waypoints_mm
    shift = rng.normal(0, 1.0, 3) + ndimage.gaussian_filter1d(rng.normal(0, 1.4, way.shape), 1.0, axis=0)
    moved = replace(course, waypoints_mm=way + shift)
    return grow(moved, _STREAMLINES, rng, spread=float(np.exp(rng.normal(0, 0.12))))


@lru_cache(maxsize=1)
def brain_distance() -> NDArray[np.float64]:
    """Distance in mm to the outside of the template's brain, on the coarse grid."""
    volumes = template()
    inside = (volumes["gm"].array + volumes["wm"].array) > 0.3
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(inside, iterations=3))
    depth = ndimage.distance_transform_edt(inside) * volumes["t1w"].spacing_mm[0]
    index = np.moveaxis((coarse_points() - volumes["t1w"].affine[:3, 3]) / 2.0, -1, 0)
    return ndimage.map_coordinates(depth, index, order=1, mode="nearest")
