"""Diffeomorphisms from stationary velocity fields on a coarse grid in MNI mm."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .smoothing import smooth

Array = NDArray[np.floating[Any]]
ORIGIN_MM = np.array([-98.0, -134.0, -72.0])
EXTENT_MM = np.array([196.0, 232.0, 188.0])
COARSE_MM = 5.0
COARSE_SHAPE = tuple(int(n) for n in np.ceil(EXTENT_MM / COARSE_MM) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Warp:
    """A displacement field and its inverse, in mm, on the coarse grid or another one with axes along the world's.

    Parameters
    ----------
    forward, backward : ndarray, shape (X, Y, Z, 3)
        ``x + forward(x)`` carries a template point to the participant; ``backward`` the other way.
    origin_mm, spacing_mm
        The grid's first point and the step between points.
    """

    forward: Array
    backward: Array
    origin_mm: Array = field(default_factory=lambda: ORIGIN_MM)
    spacing_mm: float = COARSE_MM

    def to_participant(self, points_mm: Array) -> Array:
        """Carry template points, shape (..., 3) in mm, to the participant."""
        return points_mm + interpolate(self.forward, points_mm, self.origin_mm, self.spacing_mm)

    def to_template(self, points_mm: Array) -> Array:
        """Carry a participant's points, shape (..., 3) in mm, to the template."""
        return points_mm + interpolate(self.backward, points_mm, self.origin_mm, self.spacing_mm)


def sample(field: Array, points_mm: Array) -> Array:
    """Linear interpolation of a coarse field, shape (X, Y, Z, C), at points, shape (..., 3) in mm; shape (..., C)."""
    return interpolate(field, points_mm, ORIGIN_MM, COARSE_MM)


def interpolate(
    field: NDArray[Any], points_mm: Array, origin_mm: Array, spacing_mm: float, zero_outside: bool = False
) -> NDArray[Any]:
    """Linear interpolation of all channels at once, to the bit what `scipy.ndimage.map_coordinates` gives.

    Parameters
    ----------
    field : ndarray, shape (X, Y, Z, C)
        Values on an isotropic grid with axes along the world's.
    points_mm : ndarray, shape (..., 3)
        Where to look, in world mm.
    origin_mm, spacing_mm
        The grid's first voxel and voxel size.
    zero_outside : bool
        Zero outside the grid, rather than the nearest value.

    Returns
    -------
    ndarray, shape (..., C)
        Of the field's type.
    """
    flat = np.ascontiguousarray(points_mm, dtype=np.float64).reshape(-1, 3)
    values = np.empty((len(flat), field.shape[3]), dtype=field.dtype)
    _interpolate(np.ascontiguousarray(field), flat, origin_mm, spacing_mm, zero_outside, values)
    return values.reshape(*points_mm.shape[:-1], field.shape[3])


@numba.njit(cache=True)
def _interpolate(field, points, origin, spacing, zero_outside, values):  # pyright: ignore
    nx, ny, nz, channels = field.shape
    for p in range(points.shape[0]):
        x, y, z = (
            (points[p, 0] - origin[0]) / spacing,
            (points[p, 1] - origin[1]) / spacing,
            (points[p, 2] - origin[2]) / spacing,
        )
        if zero_outside and (x < 0 or y < 0 or z < 0 or x > nx - 1 or y > ny - 1 or z > nz - 1):
            values[p] = 0
            continue
        fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
        bx, by, bz = x - fx, y - fy, z - fz
        ax, ay, az = 1.0 - bx, 1.0 - by, 1.0 - bz
        i, j, k = _index(fx, nx), _index(fy, ny), _index(fz, nz)
        i1, j1, k1 = _index(fx + 1, nx), _index(fy + 1, ny), _index(fz + 1, nz)
        for c in range(channels):
            total = np.float64(field[i, j, k, c]) * ax * ay * az
            total += np.float64(field[i, j, k1, c]) * ax * ay * bz
            total += np.float64(field[i, j1, k, c]) * ax * by * az
            total += np.float64(field[i, j1, k1, c]) * ax * by * bz
            total += np.float64(field[i1, j, k, c]) * bx * ay * az
            total += np.float64(field[i1, j, k1, c]) * bx * ay * bz
            total += np.float64(field[i1, j1, k, c]) * bx * by * az
            total += np.float64(field[i1, j1, k1, c]) * bx * by * bz
            values[p, c] = total


@numba.njit(cache=True)
def _index(position, size):  # pyright: ignore
    """A clamped index; unsigned, so that no check for negative ones slows the loop."""
    return np.uint32(min(max(position, 0.0), size - 1.0))


@lru_cache(maxsize=1)
def coarse_points() -> Array:
    """World coordinates of the coarse grid, shape (X, Y, Z, 3) in mm, to be read only."""
    points = grid_points(COARSE_SHAPE, ORIGIN_MM, COARSE_MM)
    points.flags.writeable = False
    return points


def grid_points(shape: Sequence[int], origin_mm: Array, spacing_mm: float) -> Array:
    """World coordinates of an isotropic grid with axes along the world's, shape (X, Y, Z, 3) in mm."""
    axes = [origin_mm[a] + spacing_mm * np.arange(shape[a]) for a in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def exponentiate(
    velocity: Array, steps: int = 6, *, origin_mm: Array = ORIGIN_MM, spacing_mm: float = COARSE_MM
) -> Warp:
    """Integrate a stationary velocity field by scaling and squaring (doi 10.1007/11866565_113)."""
    forward, backward = (_square(one, steps, origin_mm, spacing_mm) for one in (velocity, -velocity))
    return Warp(forward=forward, backward=backward, origin_mm=origin_mm, spacing_mm=spacing_mm)


def smooth_noise(rng: np.random.Generator, smoothness_mm: float) -> Array:
    """A random vector field, shape (X, Y, Z, 3), with unit standard deviation and a given correlation length."""
    noise = rng.standard_normal((3, *COARSE_SHAPE))
    smoothed = smooth(noise, [smoothness_mm / COARSE_MM] * 3, first_axis=1, wrap=True)
    return np.moveaxis(smoothed / smoothed.std(), 0, -1)


def jacobian(field: Array, spacing_mm: float = COARSE_MM) -> Array:
    """Determinant of the Jacobian of ``x + field(x)``, shape (X, Y, Z), by central differences."""
    return np.linalg.det(jacobian_matrix(field, spacing_mm))


def jacobian_matrix(field: Array, spacing_mm: float = COARSE_MM) -> Array:
    """The Jacobian of ``x + field(x)``, shape (X, Y, Z, 3, 3), by central differences; derivatives in the last axis."""
    return np.eye(3) + np.stack([np.gradient(field, spacing_mm, axis=axis) for axis in range(3)], axis=-1)


def _square(velocity: Array, steps: int, origin_mm: Array, spacing_mm: float) -> Array:
    # A small step is its own exponential; composed with itself it doubles, and stays invertible.
    field = np.ascontiguousarray(velocity / 2**steps)
    standard = field.shape[:3] == COARSE_SHAPE and origin_mm is ORIGIN_MM and spacing_mm == COARSE_MM
    points = coarse_points() if standard else grid_points(field.shape, origin_mm, spacing_mm)
    for _ in range(steps):
        field = field + interpolate(field, points + field, origin_mm, spacing_mm)
    return field
