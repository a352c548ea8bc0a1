"""Diffeomorphisms from stationary velocity fields on a coarse grid in MNI mm."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
ORIGIN_MM = np.array([-98.0, -134.0, -72.0])
EXTENT_MM = np.array([196.0, 232.0, 188.0])
COARSE_MM = 5.0
COARSE_SHAPE = tuple(int(n) for n in np.ceil(EXTENT_MM / COARSE_MM) + 1)


@dataclass(frozen=True, kw_only=True)
class Warp:
    """A displacement field and its inverse, in mm, on the coarse grid.

    Parameters
    ----------
    forward, backward : ndarray, shape (3, X, Y, Z)
        ``x + forward(x)`` carries a template point to the participant; ``backward`` the other way.
    """

    forward: Array
    backward: Array

    def to_participant(self, points_mm: Array) -> Array:
        """Carry template points, shape (..., 3) in mm, to the participant."""
        return points_mm + sample(self.forward, points_mm)

    def to_template(self, points_mm: Array) -> Array:
        """Carry a participant's points, shape (..., 3) in mm, to the template."""
        return points_mm + sample(self.backward, points_mm)


def sample(field: Array, points_mm: Array) -> Array:
    """Linear interpolation of a coarse vector field at points, shape (..., 3) in mm."""
    index = ((points_mm - ORIGIN_MM) / COARSE_MM).reshape(-1, 3).T
    values = [ndimage.map_coordinates(component, index, order=1, mode="nearest") for component in field]
    return np.stack(values, axis=-1).reshape(points_mm.shape)


def coarse_points() -> Array:
    """World coordinates of the coarse grid, shape (X, Y, Z, 3) in mm."""
    axes = [ORIGIN_MM[a] + COARSE_MM * np.arange(COARSE_SHAPE[a]) for a in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def exponentiate(velocity: Array, steps: int = 6) -> Warp:
    """Integrate a stationary velocity field by scaling and squaring (doi 10.1007/11866565_113)."""
    return Warp(forward=_square(velocity, steps), backward=_square(-velocity, steps))


def compose(second: Warp, first: Warp) -> Warp:
    """The warp that carries template points by ``first`` and then by ``second``."""
    points = coarse_points()
    forward = second.to_participant(first.to_participant(points)) - points
    backward = first.to_template(second.to_template(points)) - points
    return Warp(forward=np.moveaxis(forward, -1, 0), backward=np.moveaxis(backward, -1, 0))


def smooth_noise(rng: np.random.Generator, smoothness_mm: float) -> Array:
    """A random vector field with unit standard deviation and a given correlation length."""
    noise = rng.standard_normal((3, *COARSE_SHAPE))
    smooth = np.stack([ndimage.gaussian_filter(part, smoothness_mm / COARSE_MM, mode="wrap") for part in noise])
    return smooth / smooth.std()


def _square(velocity: Array, steps: int) -> Array:
    field = velocity / 2**steps
    points = coarse_points()
    for _ in range(steps):
        field = field + np.moveaxis(sample(field, points + np.moveaxis(field, 0, -1)), -1, 0)
    return field
