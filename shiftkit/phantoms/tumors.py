"""Gliomas: where they grow, what shape they take, and how they push."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .warp import COARSE_MM, ORIGIN_MM, Array, Warp, coarse_points, exponentiate, smooth_noise

# Lobe, share of gliomas and box of centers (|x|, y, z in MNI mm); shares after Larjavaara R et al.,
# Neuro-Oncology 9:319 (2007), doi 10.1215/15228517-2007-016, the insula counted apart.
_SITES = (
    ("frontal", 0.40, (18, 40), (5, 45), (5, 40)),
    ("temporal", 0.28, (30, 48), (-35, 5), (-28, -5)),
    ("insular", 0.14, (32, 40), (-15, 15), (-8, 12)),
    ("parietal", 0.18, (18, 40), (-60, -28), (22, 48)),
)


@dataclass(frozen=True, kw_only=True)
class Tumor:
    """One participant's tumor.

    Parameters
    ----------
    center_mm : ndarray, shape (3,)
        In the participant's space after the push.
    radius_mm : float
        Radius of the ball of the same volume, infiltrated rim included.
    core_share : float
        Radius of the core over that of the whole.
    site, side : str
        Lobe and hemisphere.
    roughness : ndarray, shape (X, Y, Z)
        Relative modulation of the radius on the coarse grid.
    push : Warp
        Mass effect, from the participant without to the participant with the tumor.
    """

    center_mm: Array
    radius_mm: float
    core_share: float
    site: str
    side: str
    roughness: Array
    push: Warp

    def depth(self, points_mm: Array) -> Array:
        """Distance from the center over the local radius: under 1 is inside the tumor."""
        distance = np.linalg.norm(points_mm - self.center_mm, axis=-1)
        index = ((points_mm - ORIGIN_MM) / COARSE_MM).reshape(-1, 3).T
        rough = ndimage.map_coordinates(self.roughness, index, order=1, mode="nearest").reshape(distance.shape)
        return distance / (self.radius_mm * (1 + rough))


def draw_tumor(rng: np.random.Generator, brain_distance: Array, side: str | None = None) -> Tumor:
    """Draw a tumor.

    Parameters
    ----------
    rng : Generator
        Source of every drawn number.
    brain_distance : ndarray, shape (X, Y, Z)
        Distance in mm to the outside of the brain on the coarse grid: the push stops at the skull.
    side : str, optional
        Force a hemisphere.
    """
    site, _, *box = _SITES[rng.choice(len(_SITES), p=[share for _, share, *_ in _SITES])]
    side = side or str(rng.choice(["left", "right"]))
    center = np.array([rng.uniform(*limits) for limits in box])
    center[0] *= -1 if side == "left" else 1
    volume_ml = float(np.clip(np.exp(rng.normal(np.log(35), 0.8)), 5, 150))
    radius = (3000 * volume_ml / (4 * np.pi)) ** (1 / 3)
    return Tumor(
        center_mm=center,
        radius_mm=radius,
        core_share=float(rng.uniform(0.5, 0.75)),
        site=site,
        side=side,
        roughness=np.clip(0.18 * smooth_noise(rng, 9.0)[0], -0.4, 0.4),
        push=_push(center, radius, float(rng.uniform(0.25, 0.6)), brain_distance),
    )


def _push(center: Array, radius: float, mass: float, brain_distance: Array) -> Warp:
    """Outward displacement of an incompressible medium around a growing ball, damped towards the skull.

    A growing ball of final radius r pushes its surroundings like a point source: the velocity falls with
    the square of the distance, which conserves volume outside the source.
    """
    offset = coarse_points() - center
    distance = np.linalg.norm(offset, axis=-1)
    source = mass * radius**3 / 3
    soft = 0.8 * radius
    speed = source * distance / (distance**2 + soft**2) ** 1.5
    speed *= np.clip(brain_distance / 12.0, 0, 1)
    direction = offset / np.maximum(distance, 1e-6)[..., None]
    return exponentiate(np.moveaxis(direction * speed[..., None], -1, 0))
