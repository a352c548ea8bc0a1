"""Participants: every random number of one person, drawn once, whatever is rendered from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Bundle
from .raters import draw_generosity
from .template import SPACING_MM, Course, bundle_courses, grow, grow_bundle, other_courses, template
from .tumors import Gliomas, Tumor, draw_tumor
from .warp import Array, Warp, coarse_points, exponentiate, interpolate, sample, smooth_noise

_STREAMLINES = 250
TYPICAL_AGE, PATIENTS_AGE = 36, 48
"""Mean age in years of controls, at which a scan shows everybody unless its profile has `aging`, and of patients."""


@dataclass(frozen=True, kw_only=True, eq=False)
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
    generosity : dict of Bundle to ndarray, shape (S, N)
        How generously the rater of this participant draws each bundle's reference mask at its streamlines' points, in
        doublings of density: the same in every scan.
    others : list of ndarray
        Streamlines of fiber systems that are not segmented.
    tumor : Tumor or None
        Drawn for patients, rendered or not.
    t1_contrast : float
        The participant's own tissue contrast.
    drawn : dict
        The numbers behind warp and bundles, ready for JSON; fields and streamlines follow from the seed.
    """

    participant_id: str
    age: int
    sex: str
    warp: Warp
    bundles: dict[Bundle, Array]
    generosity: dict[Bundle, Array]
    others: list[Array]
    tumor: Tumor | None
    t1_contrast: float
    drawn: dict[str, Any]

    @cached_property
    def own_bundles(self) -> dict[Bundle, Array]:
        """``bundles`` as they lie in the participant, without tumor."""
        return {bundle: self.warp.to_participant(one) for bundle, one in self.bundles.items()}

    @cached_property
    def own_others(self) -> list[Array]:
        """``others`` as they lie in the participant, without tumor."""
        return [self.warp.to_participant(one) for one in self.others]


def generator(seed: int, participant_id: str, purpose: str) -> np.random.Generator:
    """The generator of one participant and purpose: independent of who else is drawn, and in what order."""
    words = [seed, *participant_id.encode(), 0, *purpose.encode()]
    return np.random.default_rng(np.random.SeedSequence(words))


def aside(rng: np.random.Generator) -> np.random.Generator:
    """A generator of its own, which takes no number from the one it comes from."""
    return np.random.default_rng(cast(np.random.SeedSequence, rng.spawn(1)[0].bit_generator.seed_seq))


class Replay:
    """A generator whose numbers can be had again: two scans of a participant by one scanner share pose and noise."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng, self._drawn, self._next = rng, list[Any](), 0

    def rewound(self) -> np.random.Generator:
        """The same object, at its start."""
        self._next = 0
        return cast(np.random.Generator, self)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def draw(*args: Any, **options: Any) -> Any:
            if self._next == len(self._drawn):
                self._drawn.append(getattr(self._rng, method)(*args, **options))
            self._next += 1
            return self._drawn[self._next - 1]

        return draw


def draw_person(
    seed: int, participant_id: str, patient: bool, gliomas: Gliomas = Gliomas(), mean_age: float | None = None
) -> Person:
    """Draw one participant's anatomy from the seed and the identifier alone."""
    rng = generator(seed, participant_id, "anatomy")
    # A wide and a fine variation in mm, with their reach in mm; exponentiated, neither can fold the brain.
    velocity = 2.3 * smooth_noise(rng, 22.0) + 0.8 * smooth_noise(rng, 11.0)
    size = rng.normal(0, 0.02, 3)
    velocity = velocity + coarse_points() * size
    age = int(np.clip(rng.normal(mean_age or (PATIENTS_AGE if patient else TYPICAL_AGE), 12), 18, 80))
    grown = {bundle: _grow(courses, rng) for bundle, courses in bundle_courses().items()}
    others: list[Array] = []
    spreads: list[float] = []
    for course in other_courses():
        spreads.append(float(rng.normal(1, 0.1)))
        others.append(grow(course, _STREAMLINES, rng, spread=spreads[-1]))
    warp = exponentiate(velocity)
    bundles = {bundle: streamlines for bundle, (streamlines, _) in grown.items()}
    generosity = draw_generosity(generator(seed, participant_id, "rater"), bundles)
    return Person(
        participant_id=participant_id,
        age=age,
        sex=str(rng.choice(["F", "M"])),
        warp=warp,
        bundles=bundles,
        generosity=generosity,
        others=others,
        tumor=_draw_tumor(generator(seed, participant_id, "tumor"), warp, gliomas) if patient else None,
        t1_contrast=float(rng.normal(1, 0.08)),
        drawn={
            "size_log": size.tolist(),
            "bundles": {
                bundle.label: numbers | {"rater_generosity": round(float(generosity[bundle].mean()), 3)}
                for bundle, (_, numbers) in grown.items()
            },
            "other_spreads": spreads,
        },
    )


def _draw_tumor(rng: np.random.Generator, warp: Warp, gliomas: Gliomas) -> Tumor:
    """A tumor that fits this participant's brain."""
    own = sample(brain_distance()[..., None], warp.to_template(coarse_points()))[..., 0]
    return draw_tumor(rng, own, lambda points_mm: in_brain(points_mm, warp), gliomas)


def in_brain(points_mm: Array, warp: Warp) -> NDArray[np.bool_]:
    """Whether points, shape (..., 3) in mm, of a participant without tumor lie in the brain."""
    inside = template_brain().astype(np.float32)[..., None]
    origin = template()["t1w"].affine[:3, 3]
    return interpolate(inside, warp.to_template(points_mm), origin, SPACING_MM, zero_outside=True)[..., 0] > 0.5


def _grow(courses: Sequence[Course], rng: np.random.Generator) -> tuple[Array, dict[str, Any]]:
    """Streamlines of one bundle with the participant's own course (a shift that varies along it) and width."""
    way = courses[0].waypoints_mm
    shift = rng.normal(0, 1.0, 3) + ndimage.gaussian_filter1d(rng.normal(0, 1.4, way.shape), 1.0, axis=0)
    moved = [replace(one, waypoints_mm=one.waypoints_mm + shift[one.follows]) for one in courses]
    spread = float(np.exp(rng.normal(0, 0.12)))
    grown = grow_bundle(moved, _STREAMLINES, rng, spread=spread)
    return grown, {"spread": spread, "shift_mm": shift.round(3).tolist()}


@lru_cache(maxsize=1)
def template_brain() -> NDArray[np.bool_]:
    """The template's brain without holes, on its grid."""
    volumes = template()
    inside = (volumes["gm"].array + volumes["wm"].array) > 0.3
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(inside, iterations=3)))


@lru_cache(maxsize=1)
def brain_distance() -> Array:
    """Distance in mm to the outside of the template's brain, on the coarse grid."""
    t1w = template()["t1w"]
    depth = np.asarray(ndimage.distance_transform_edt(template_brain())) * SPACING_MM
    return interpolate(depth[..., None], coarse_points(), t1w.affine[:3, 3], SPACING_MM)[..., 0]
