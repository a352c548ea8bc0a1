"""The template that every participant is a deformation of: MNI152 tissue maps and bundle courses in MNI mm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator

from ..types import Bundle, Volume
from .warp import Array

SPACING_MM = 2.0
"""Voxel size of the tissue maps."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How the streamlines of one bundle run.

    Parameters
    ----------
    waypoints_mm : ndarray, shape (K, 3)
        Center line in MNI mm.
    spread_mm : ndarray, shape (K, 3)
        Standard deviation of the streamlines around the center line at each waypoint, along x, y and z:
        they fan where it grows.
    share : float
        Of the bundle's streamlines that take this course; the others branch off.
    follows : ndarray of int, shape (K,)
        The waypoint of the bundle's main course that each waypoint moves with.
    """

    waypoints_mm: Array
    spread_mm: Array
    share: float
    follows: NDArray[np.int_]


# Waypoints in MNI mm as x y z and the spread along x y z. Left and right are given apart: the bundles of the two
# hemispheres are not mirror images.
_COURSES = {
    "AFleft": """-44 20 22 6 6 8; -42 6 24 6 3 6; -37 -16 29 3 3 4; -37 -36 26 4 3 5; -42 -47 14 5 3 7;
                 -48 -45 0 5 4 6; -53 -32 -8 5 6 6; -55 -18 -14 4 6 5""",
    "AFright": """38 27 21 6 5 6; 34 10 27 6 4 6; 32 -8 33 3 4 4; 35 -30 30 4 4 5; 41 -44 22 5 4 7;
                  45 -50 6 6 4 8; 46 -49 -8 6 4 6""",
    "FATleft": "-14 6 68 5 9 3; -17 10 56 5 11 3; -23 9 44 6 11 3; -32 6 32 8 9 3; -41 8 22 7 7 3; -52 11 11 5 6 5",
    "FATright": "20 7 64 3 8 4; 19 11 52 3 10 3; 24 9 40 5 9 3; 33 8 29 7 8 3; 40 13 18 7 6 3; 49 15 11 5 5 4",
    "IFOFleft": """-15 -96 7 5 4 10; -23 -82 11 6 4 11; -34 -60 7 4 5 8; -37 -38 1 3 4 6; -37 -16 -6 3 4 4;
                   -31 8 -6 4 4 4; -29 20 -3 6 4 6; -32 34 -1 8 4 7; -24 56 -4 7 7 7""",
    "IFOFright": """20 -90 6 4 5 11; 23 -78 12 4 4 11; 31 -62 9 4 5 9; 37 -39 3 3 5 6; 36 -16 -4 3 4 4;
                    30 4 -7 4 4 4; 29 22 -4 6 4 6; 29 40 -3 8 5 7; 24 58 -5 7 5 8""",
    "ILFleft": """-16 -96 7 5 4 10; -20 -86 12 5 3 12; -27 -76 8 6 3 10; -33 -62 3 4 4 7; -38 -44 -3 3 4 6;
                  -43 -26 -11 3 4 6; -46 -10 -17 5 4 6; -48 4 -21 5 5 6""",
    "ILFright": """20 -88 16 4 4 12; 26 -77 16 6 3 11; 32 -67 13 5 3 10; 35 -56 9 3 4 9; 38 -42 2 4 4 8;
                   39 -27 -8 5 4 7; 40 -12 -16 6 4 6; 41 3 -22 6 6 6""",
    "PYTleft": """-18 -19 70 8 9 4; -24 -17 57 8 8 3; -28 -15 44 7 8 3; -28 -14 33 4 6 3; -26 -13 20 3 5 3;
                  -22 -13 6 3 4 4; -14 -17 -14 3 3 5; -7 -25 -34 3 3 5; -5 -29 -46 3 3 4""",
    "PYTright": """21 -22 69 7 9 4; 25 -18 56 7 9 3; 28 -15 43 6 8 3; 28 -14 32 4 7 3; 25 -12 18 3 5 3;
                   21 -12 4 3 4 4; 13 -18 -16 3 3 5; 6 -27 -36 3 3 5; 5 -30 -46 3 3 4""",
}

# Streamlines that leave the main course: which end, from which of its waypoints on, what share of them, and their own
# waypoints and spread, from the end of the bundle inwards for "start" and outwards for "end".
_BRANCHES: dict[str, tuple[tuple[str, int, float, str], ...]] = {
    "AFleft": (
        ("start", 2, 0.20, "-40 18 38 5 6 5; -37 2 35 4 4 4"),
        ("start", 2, 0.25, "-55 12 14 4 6 6; -47 2 23 4 4 4"),
        ("end", 4, 0.20, "-52 -42 11 4 5 4; -60 -32 12 4 6 4"),
    ),
    "AFright": (
        ("start", 2, 0.20, "46 15 8 4 5 5; 40 4 20 4 4 4"),
        ("start", 2, 0.20, "39 17 42 5 6 4; 34 4 36 4 4 4"),
        ("end", 4, 0.20, "49 -47 4 4 5 5; 57 -49 -6 4 6 4"),
    ),
    "FATleft": (
        ("start", 2, 0.20, "-11 -10 66 4 6 4; -17 -2 55 4 6 4"),
        ("start", 2, 0.25, "-16 28 52 4 6 4; -20 20 46 4 6 4"),
        ("end", 3, 0.20, "-44 2 27 4 5 4; -57 0 22 4 5 5"),
    ),
    "FATright": (
        ("start", 2, 0.20, "21 28 46 4 5 5; 22 20 42 4 5 4"),
        ("end", 3, 0.25, "44 7 26 4 5 4; 56 8 22 4 5 5"),
    ),
    "IFOFleft": (
        ("start", 2, 0.20, "-13 -96 -6 4 5 5; -24 -80 0 4 5 5"),
        ("start", 2, 0.15, "-28 -80 30 4 5 5; -32 -68 20 4 5 5"),
        ("end", 6, 0.25, "-36 28 0 4 5 4; -47 38 2 4 6 6"),
    ),
    "IFOFright": (
        ("start", 2, 0.20, "14 -96 -4 4 5 5; 22 -80 2 4 5 5"),
        ("start", 2, 0.20, "22 -80 34 4 5 5; 28 -67 22 4 5 5"),
        ("end", 6, 0.20, "34 36 -6 4 5 5; 41 54 0 5 6 6"),
    ),
    "ILFleft": (
        ("start", 3, 0.25, "-20 -82 -12 5 6 5; -28 -68 -10 4 6 4"),
        ("start", 2, 0.15, "-17 -88 36 4 4 6; -22 -82 24 4 4 6"),
        ("end", 7, 0.20, "-54 12 -14 4 5 4"),
    ),
    "ILFright": (
        ("start", 3, 0.20, "24 -82 40 5 5 5; 30 -70 27 4 5 5"),
        ("start", 2, 0.15, "20 -93 -2 4 5 5; 26 -79 4 4 5 5"),
        ("end", 6, 0.20, "48 6 -12 4 6 5"),
    ),
    "PYTleft": (
        ("start", 2, 0.20, "-11 -24 70 4 7 4; -17 -19 57 4 6 4"),
        ("start", 3, 0.20, "-47 -8 50 4 6 5; -36 -12 43 4 5 4"),
    ),
    "PYTright": (
        ("start", 2, 0.20, "17 -34 68 4 5 5; 20 -28 55 4 5 4"),
        ("start", 3, 0.20, "42 -4 54 5 5 5; 34 -8 43 4 5 4"),
    ),
}

# Other fiber systems, so that bundles cross something; S stands for the side, -1 and 1.
_MIDLINE = (
    "-34 40 16 8 8 8; -14 32 12 4 4 4; 0 28 8 3 3 3; 14 32 12 4 4 4; 34 40 16 8 8 8",
    "-40 6 46 9 9 9; -20 4 32 5 7 5; 0 2 26 4 9 3; 20 4 32 5 7 5; 40 6 46 9 9 9",
    "-44 -28 46 9 9 9; -22 -26 34 5 7 5; 0 -26 26 4 9 3; 22 -26 34 5 7 5; 44 -28 46 9 9 9",
    "-28 -76 18 8 5 8; -20 -52 20 5 5 5; 0 -40 16 3 3 4; 20 -52 20 5 5 5; 28 -76 18 8 5 8",
)
_BOTH_SIDES = (
    "30 36 34 9 9 9; 24 18 16 5 5 5; 18 2 6 3 4 3; 12 -12 4 4 4 4",
    "40 -34 44 9 9 9; 28 -28 26 5 5 5; 22 -24 10 3 3 3; 14 -20 2 4 4 4",
    "8 42 6 3 3 3; 9 20 30 3 3 3; 9 -14 36 3 3 3; 10 -42 28 3 3 3",
    "24 -24 -2 3 3 3; 38 -30 -4 3 3 3; 34 -58 4 4 4 4; 12 -86 6 5 5 5",
)

_TIGHTNESS = 0.53
"""Streamlines of one participant lie closer together than those of a population."""
_STEP_MM = 1.2
"""Distance of a streamline's points: well under a voxel, so that no voxel on its way is skipped."""


def bundle_courses() -> dict[Bundle, tuple[Course, ...]]:
    """The ten bundles in MNI space: the main course of each, then its branches."""
    courses: dict[Bundle, tuple[Course, ...]] = {}
    for label, text in _COURSES.items():
        main, specs = _course(text), _BRANCHES[label]
        rest = 1.0 - sum(share for _, _, share, _ in specs)
        courses[Bundle.parse(label)] = (replace(main, share=rest), *(_branch(main, *spec) for spec in specs))
    return courses


def other_courses() -> tuple[Course, ...]:
    """Fiber systems that are not segmented but cross those that are."""
    sided = [_course(text, side) for text in _BOTH_SIDES for side in (-1, 1)]
    return (*(_course(text) for text in _MIDLINE), *sided)


def _course(text: str, side: int = 1) -> Course:
    table = _table(text)
    return Course(
        waypoints_mm=table[:, :3] * (side, 1, 1), spread_mm=table[:, 3:], share=1.0, follows=np.arange(len(table))
    )


def _branch(main: Course, end: str, junction: int, share: float, text: str) -> Course:
    """The main course with the waypoints beyond a junction, which stays, replaced by others."""
    table = np.concatenate([main.waypoints_mm, main.spread_mm], axis=1)
    own = _table(text)
    if end == "start":
        table = np.concatenate([own, table[junction:]])
        follows = np.concatenate([np.full(len(own), junction), main.follows[junction:]])
    else:
        table = np.concatenate([table[: junction + 1], own])
        follows = np.concatenate([main.follows[: junction + 1], np.full(len(own), junction)])
    return Course(waypoints_mm=table[:, :3], spread_mm=table[:, 3:], share=share, follows=follows)


def _table(text: str) -> Array:
    return np.array([[float(word) for word in point.split()] for point in text.split(";")])


def grow_bundle(courses: Sequence[Course], count: int, rng: np.random.Generator, spread: float = 1.0) -> Array:
    """Grow the streamlines of a bundle: each branch its share of them, all with as many points as the longest needs.

    Parameters
    ----------
    courses : sequence of Course
        Main course and branches; their shares sum to one.
    count : int
        Streamlines in all.
    rng, spread
        See `grow`.

    Returns
    -------
    ndarray, shape (count, N, 3)
        Points in MNI mm.
    """
    ends = np.round(np.cumsum([0.0, *(course.share for course in courses)]) * count).astype(int)
    points = max(_points(course) for course in courses)
    parts = zip(courses, np.diff(ends), strict=True)
    return np.concatenate([grow(course, int(n), rng, spread=spread, points=points) for course, n in parts])


def grow(course: Course, count: int, rng: np.random.Generator, spread: float = 1.0, points: int | None = None) -> Array:
    """Grow a family of streamlines along a course.

    Each streamline keeps its place in the bundle from end to end, up to a slow wander, so that neighbors
    stay neighbors.

    Parameters
    ----------
    course : Course
        Center line and spread.
    count : int
        Streamlines.
    rng : Generator
        Source of places and wander.
    spread : float
        Factor on the course's spread.
    points : int, optional
        Points a streamline, evenly along the course; one every 1.2 mm by default.

    Returns
    -------
    ndarray, shape (count, N, 3)
        Points in MNI mm.
    """
    way, arc = course.waypoints_mm, _arc_mm(course)
    s = np.linspace(0, arc[-1], points or _points(course))
    center = CubicSpline(arc, way)(s)
    width = np.maximum(PchipInterpolator(arc, course.spread_mm)(s), 1.0) * (_TIGHTNESS * spread)
    place = np.clip(rng.standard_normal((count, 3)), -2, 2)
    knots = rng.standard_normal((count, 3, 5)) * 0.25  # so few that a wander takes a quarter of the way
    wander = np.moveaxis(CubicSpline(np.linspace(0, arc[-1], 5), knots, axis=2)(s), 1, 2)
    return center + (place[:, None, :] + wander) * width


def _arc_mm(course: Course) -> Array:
    """Way from the first waypoint to each, along straight lines."""
    steps = np.linalg.norm(np.diff(course.waypoints_mm, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _points(course: Course) -> int:
    return max(8, int(_arc_mm(course)[-1] / _STEP_MM))


@lru_cache(maxsize=1)
def template() -> dict[str, Volume]:
    """T1, gray and white matter of the MNI152 template, values in 0–1.

    References
    ----------
    Fonov V et al. NeuroImage 54:313 (2011), doi 10.1016/j.neuroimage.2010.07.033.
    """
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    loaders = {"t1w": load_mni152_template, "gm": load_mni152_gm_template, "wm": load_mni152_wm_template}
    volumes: dict[str, Volume] = {}
    for name, load in loaders.items():
        image = load(resolution=int(SPACING_MM))
        volumes[name] = Volume(array=np.asarray(image.get_fdata(), dtype=np.float32), affine=image.affine)
    return volumes
