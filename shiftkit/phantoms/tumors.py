"""Gliomas: where they grow, what shape they take, and how they push."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .warp import COARSE_MM, Array, Warp, coarse_points, exponentiate, sample, smooth_noise

# Lobe, share of gliomas and box of centers (|x|, y, z in MNI mm); shares after Larjavaara R et al.,
# Neuro-Oncology 9:319 (2007), doi 10.1215/15228517-2007-016, the insula counted apart.
SITES = (
    ("frontal", 0.40, (18, 40), (5, 45), (5, 40)),
    ("temporal", 0.28, (30, 48), (-35, 5), (-28, -5)),
    ("insular", 0.14, (32, 40), (-15, 15), (-8, 12)),
    ("parietal", 0.18, (18, 40), (-60, -28), (22, 48)),
)


# Growth pattern: share of gliomas, places in their ranges of mass and of edema (0-1), core over whole radius,
# elongation, roughness. Expansive ones push, infiltrating ones leave fibers running in them, necrotic ones swell.
_FAMILIES = {
    "expansive": (0.35, (0.6, 1.0), (0.0, 0.4), (0.65, 0.85), (1.0, 1.25), 0.10),
    "infiltrating": (0.35, (0.0, 0.5), (0.1, 0.6), (0.35, 0.6), (1.2, 1.8), 0.25),
    "necrotic": (0.30, (0.3, 0.9), (0.4, 1.0), (0.55, 0.8), (1.0, 1.5), 0.18),
}


@dataclass(frozen=True, kw_only=True)
class Gliomas:
    """The tumors of a group of patients, those of ``profiles/moderate.toml`` by default.

    Median volume, standard deviation of its logarithm, and ranges; the rest as in `Tumor`.
    """

    volume_ml: float = 55.0
    volume_log_sd: float = 0.7
    volume_range_ml: tuple[float, float] = (10.0, 120.0)
    mass: tuple[float, float] = (0.3, 1.0)
    edema_mm: tuple[float, float] = (0.0, 25.0)
    fading: float = 0.6
    severed: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Tumor:
    """One participant's tumor.

    Parameters
    ----------
    center_mm : ndarray, shape (3,)
        In scan space, after the push.
    volume_ml : float
        What is to be seen of it inside the brain, infiltrated rim included.
    radius_mm : float
        Mean radius.
    core_share : float
        Radius of the core over that of the whole.
    site, side, family : str
        Lobe, hemisphere and growth pattern.
    axes : ndarray, shape (3, 3)
        From an offset in mm to one in the ball that the tumor would be without elongation; determinant 1.
    roughness : ndarray, shape (X, Y, Z, 1)
        Relative modulation of the radius on the coarse grid.
    mass : float
        Volume of the tissue that is pushed aside over the tumor's own; the rest is infiltrated.
    edema_mm : float
        How far edema reaches beyond the infiltrated rim.
    fading : float
        Share of a peak's length that edema takes at its worst.
    severed : bool
        Whether fibers that the core cuts are missing from reference masks all along.
    push : Warp
        Mass effect, from the participant without to the participant with the tumor.
    """

    center_mm: Array
    volume_ml: float
    radius_mm: float
    core_share: float
    site: str
    side: str
    family: str
    axes: Array
    roughness: Array
    mass: float
    edema_mm: float
    fading: float
    severed: bool
    push: Warp

    def depth(self, points_mm: Array) -> Array:
        """Distance from the center over the local radius: under 1 is inside the tumor."""
        rough = sample(self.roughness, points_mm)[..., 0]
        return ellipsoid_depth(points_mm - self.center_mm, self.radius_mm, self.axes, rough)

    def edema(self, depth: Array, wm: Array) -> Array:
        """Share of edema at depths in tissue of some share of white matter; see `edema_share`."""
        return edema_share(depth, wm, self.edema_mm / self.radius_mm)


# What a tumor does to tissue, by the depth at which that lies: as in `Tumor.depth`, for whatever has a tumor.


def ellipsoid_depth(offset_mm: Array, radius_mm: float, axes: Array, rough: Array) -> Array:
    """Distance from the center over the local radius of a stretched ball, from offsets, shape (..., 3)."""
    return np.linalg.norm(offset_mm @ axes.T, axis=-1) / (radius_mm * (1 + rough))


RIM = 1.35
"""How many radii the infiltrated rim reaches."""


def edema_share(depth: Array, wm: Array, edema_radii: float) -> Array:
    """Share of edema, 0-1, at depths in tissue of some share of white matter, along which it spreads."""
    reach = 0.35 + edema_radii
    share = np.clip((1 + reach - depth) / (reach + 0.15), 0, 1)
    return np.where(depth < RIM, share, share * np.clip(wm, 0, 1))


def fiber_room(depth: Array, core_share: float) -> Array:
    """What is left of fibers, 0-1: they end in the core and thin out through the infiltrated rim."""
    return np.clip((depth - core_share) / (RIM - core_share), 0, 1)


def darkened_t1(t1: Array, depth: Array, edema: Array, bright: float = 1.0) -> Array:
    """T1w with dark tumor in place of gyri: darkest at the center, fading into the tissue around, as edema is.

    ``bright`` is the intensity of white matter. Water lengthens T1: edema is a little darker.
    """
    share = 0.85 * np.clip((1.2 - depth) / 0.5, 0, 1)
    return (t1 * (1 - share) + share * (bright * (0.35 + 0.2 * np.clip(depth, 0, 1)))) * (1 - 0.2 * edema)


def draw_tumor(
    rng: np.random.Generator,
    brain_distance: Array,
    in_brain: Callable[[Array], NDArray[np.bool_]],
    gliomas: Gliomas = Gliomas(),
) -> Tumor:
    """Draw a tumor.

    Parameters
    ----------
    rng : Generator
        Source of every drawn number.
    brain_distance : ndarray, shape (X, Y, Z)
        Distance in mm to the outside of the participant's brain on the coarse grid: the push stops at the skull.
    in_brain : callable
        Whether points, shape (..., 3) in mm, of the participant without the tumor lie in the brain.
    gliomas : Gliomas
        What tumors the group has.
    """
    site, side, center = draw_site(rng)
    volume_ml = draw_volume(rng, gliomas)
    radius = radius_of(volume_ml)
    family = str(rng.choice(list(_FAMILIES), p=[share for share, *_ in _FAMILIES.values()]))
    _, masses, edemas, cores, elongations, rough = _FAMILIES[family]
    mass = float(np.interp(rng.uniform(*masses), (0, 1), gliomas.mass))
    center = _inwards(center, radius, brain_distance)
    tumor = Tumor(
        center_mm=center,
        volume_ml=volume_ml,
        radius_mm=radius,
        core_share=float(rng.uniform(*cores)),
        site=site,
        side=side,
        family=family,
        axes=stretched(rng, float(rng.uniform(*elongations))),
        roughness=np.clip(rough * smooth_noise(rng, 9.0)[..., :1], -0.4, 0.4),
        mass=mass,
        edema_mm=float(np.interp(rng.uniform(*edemas), (0, 1), gliomas.edema_mm)),
        fading=gliomas.fading,
        severed=bool(gliomas.severed),
        push=_push(center, radius, mass, brain_distance),
    )
    return _fill(tumor, brain_distance, in_brain)


def draw_site(rng: np.random.Generator) -> tuple[str, str, Array]:
    """Lobe and side of a glioma, and its center in MNI mm."""
    site, _, *box = SITES[rng.choice(len(SITES), p=[share for _, share, *_ in SITES])]
    side = str(rng.choice(["left", "right"]))
    center = np.array([rng.uniform(*limits) for limits in box])
    center[0] *= -1 if side == "left" else 1
    return site, side, center


def draw_volume(rng: np.random.Generator, gliomas: Gliomas) -> float:
    """Volume of a glioma of a group in ml."""
    size = np.exp(rng.normal(np.log(gliomas.volume_ml), gliomas.volume_log_sd))
    return float(np.clip(size, *gliomas.volume_range_ml))


def stretched(rng: np.random.Generator, elongation: float) -> Array:
    """Longer by a factor along one axis; along x it is not, where the falx would be crossed."""
    along = rng.standard_normal(3) * (0.3, 1, 1)
    along /= np.linalg.norm(along)
    return elongation ** (1 / 3) * (np.eye(3) - (1 - 1 / elongation) * np.outer(along, along))


SOURCE = 0.75
"""Share of the radius within which tissue is new."""


def radius_of(volume_ml: float) -> float:
    """Radius in mm of a ball."""
    return (3000 * volume_ml / (4 * np.pi)) ** (1 / 3)


def _inwards(center: Array, radius: float, brain_distance: Array) -> Array:
    """Move a center away from skull and midline until most of the tumor has room."""
    slope = np.stack([np.gradient(brain_distance, COARSE_MM, axis=axis) for axis in range(3)], axis=-1)
    wanted = min(0.6 * radius, 15.0)
    for _ in range(15):
        if sample(brain_distance[..., None], center)[0] >= wanted:
            break
        way = sample(slope, center)
        center = center + 2.0 * way / max(float(np.linalg.norm(way)), 1e-6)
    # The falx holds a hemisphere's tumor back.
    return np.array([np.copysign(max(abs(center[0]), 0.85 * radius), center[0]), *center[1:]])


def _fill(tumor: Tumor, brain_distance: Array, in_brain: Callable[[Array], NDArray[np.bool_]]) -> Tumor:
    """Scale the radius until the part inside the brain has the drawn volume: skull takes nothing away from it."""
    step = 2.0 if tumor.volume_ml < 40 else 3.0
    for _ in range(6):
        axis = np.arange(-2 * tumor.radius_mm, 2 * tumor.radius_mm + step, step)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1) + tumor.center_mm
        points = points[tumor.depth(points) < 1]
        seen_ml = max(float(in_brain(tumor.push.to_template(points)).sum()), 1.0) * step**3 / 1000
        if abs(seen_ml / tumor.volume_ml - 1) < 0.03:
            break
        radius = tumor.radius_mm * float(np.clip((tumor.volume_ml / seen_ml) ** (1 / 3), 0.8, 1.25))
        tumor = replace(tumor, radius_mm=radius, push=_push(tumor.center_mm, radius, tumor.mass, brain_distance))
    return tumor


def _push(center: Array, radius: float, mass: float, brain_distance: Array) -> Warp:
    """Outward displacement of an incompressible medium around a growing ball, damped towards the skull.

    The inner three quarters expand evenly, what lies around is infiltrated and carried along: there the velocity
    falls with the square of the distance, which conserves volume. The damping within 12 mm of the skull does not:
    there, fluid makes room.

    References
    ----------
    Hogea C, Davatzikos C, Biros G. J Math Biol 56:793 (2008), doi 10.1007/s00285-007-0139-x.
    """
    velocity = outward(center, SOURCE * radius, mass * radius**3 / 3)
    return exponentiate(velocity * np.clip(brain_distance / 12.0, 0, 1)[..., None])


def outward(center: Array, radius: float, strength: float, points: Array | None = None) -> Array:
    """Velocity away from a ball: with the distance inside, strength/distance² outside, smooth where they meet.

    At points, shape (..., 3) in mm, those of the coarse grid by default.
    """
    offset = (coarse_points() if points is None else points) - center
    distance = np.linalg.norm(offset, axis=-1)[..., None]
    return strength * offset / np.sqrt(distance**6 + radius**6)
