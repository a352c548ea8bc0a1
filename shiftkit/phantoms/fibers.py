"""Streamlines to what a diffusion measurement sees: densities, directions, up to three peaks a voxel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .warp import Array

_TRUNCATE = 2.5
"""Standard deviations that the smoothing reaches."""


@dataclass(frozen=True, kw_only=True)
class Population:
    """One fiber population on a grid.

    Parameters
    ----------
    box : tuple of slice
        The part of the grid that the fibers reach; beyond it both arrays are zero.
    density : ndarray, shape (X, Y, Z) of the box
        Streamline length a voxel, smoothed, relative to the family's own dense core (about 0–1).
    direction : ndarray, shape (X, Y, Z, 3) of the box
        Unit mean tangent in world axes; zero where there are no fibers.
    generosity : ndarray, shape (X, Y, Z) of the box, or None
        Of the rater who draws the reference mask there, in doublings of density; None for one who knows the truth.
        A rater draws fibers that lead from end to end; where others run too it is lower.
    """

    box: tuple[slice, slice, slice]
    density: NDArray[np.float32]
    direction: NDArray[np.float32]
    generosity: NDArray[np.float32] | None = None

    def mask(self, threshold: float, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """Where the density exceeds a threshold, as the rater sees it, on the whole grid."""
        mask = np.zeros(shape, dtype=bool)
        seen = self.density if self.generosity is None else self.density * np.exp2(self.generosity)
        mask[self.box] = seen > threshold
        return mask


def rasterize(
    streamlines_mm: Array,
    alive: NDArray[np.bool_],
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    blur_mm: float = 1.6,
    generosity: Array | None = None,
    whole: NDArray[np.bool_] | None = None,
) -> Population:
    """Turn a family of streamlines into a population.

    Parameters
    ----------
    streamlines_mm : ndarray, shape (S, N, 3)
        Points in world mm, all running the same way.
    alive : ndarray of bool, shape (S, N)
        False where fibers have ended, as in a tumor core.
    affine, shape
        The grid, with axes along the world's.
    blur_mm : float
        Standard deviation of the smoothing that fills gaps between streamlines.
    generosity : ndarray, shape (S, N), optional
        Of the rater at each point; see `Population`.
    whole : ndarray of bool, shape (S,), optional
        Streamlines that the rater draws, those that lead from end to end; all by default.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # A point stands for the piece of streamline around it: densities do not depend on how far points lie apart.
    tangent = np.gradient(streamlines_mm, axis=1)
    length = np.sqrt(np.einsum("snc,snc->sn", tangent, tangent))
    index = (streamlines_mm - affine[:3, 3]) / np.diag(affine)[:3]
    sigma = blur_mm / spacing
    box = _box(index[alive], np.ceil(_TRUNCATE * sigma).astype(int) + 1, shape)
    low, high = (np.array([getattr(one, end) for one in box]) for end in ("start", "stop"))
    carried = [] if generosity is None else [(generosity * length)[..., None]]
    if whole is not None:
        carried.append((whole[:, None] * length)[..., None])
    deposits = np.concatenate([tangent, length[..., None], *carried], axis=-1)
    sums = np.zeros((*(high - low), deposits.shape[-1]), dtype=np.float32)
    flat = index.reshape(-1, 3)
    _deposit(sums, flat, deposits.reshape(len(flat), deposits.shape[-1]), alive.ravel(), low, np.array(shape))
    smooth = [ndimage.gaussian_filter(part, sigma, truncate=_TRUNCATE) for part in np.moveaxis(sums, -1, 0)]
    density = smooth[3]
    # The core of thick and of thin bundles gets about 1, so one threshold draws all masks; a maximum is noise.
    scale = np.percentile(density[density > density.max() * 0.02], 75) if density.max() > 0 else 1.0
    vector = np.stack(smooth[:3], axis=-1)
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    direction = np.divide(vector, norm, out=np.zeros_like(vector), where=norm > 1e-6)
    leaning = None
    if generosity is not None:
        leaning = np.asarray(smooth[4] / np.maximum(density, 1e-6), dtype=np.float32)
        if whole is not None:
            leaning += np.log2(np.clip(smooth[5] / np.maximum(density, 1e-6), 2.0**-20, 1))
    return Population(
        box=box,
        density=np.asarray(density / np.float32(scale), dtype=np.float32),
        direction=direction,
        generosity=leaning,
    )


def _box(index: Array, margin: NDArray[np.int_], shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The part of the grid that smoothed points reach."""
    if not len(index):
        return slice(0, 1), slice(0, 1), slice(0, 1)
    low = np.clip(np.floor(index.min(axis=0)).astype(int) - margin, 0, np.array(shape) - 1)
    high = np.clip(np.floor(index.max(axis=0)).astype(int) + 2 + margin, low + 1, shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


@numba.njit(cache=True)
def _deposit(sums, index, deposits, alive, low, shape):  # pyright: ignore
    """Add what each point carries to the eight voxels around it; ``sums`` starts at voxel ``low``."""
    nx, ny, nz = shape
    for p in range(index.shape[0]):
        if not alive[p]:
            continue
        x, y, z = index[p]
        i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        if i < 0 or j < 0 or k < 0 or i >= nx - 1 or j >= ny - 1 or k >= nz - 1:
            continue
        fx, fy, fz = x - i, y - j, z - k
        i, j, k = i - low[0], j - low[1], k - low[2]
        for a in range(2):
            wx = fx if a else 1.0 - fx
            for b in range(2):
                wy = fy if b else 1.0 - fy
                for c in range(2):
                    w = wx * wy * (fz if c else 1.0 - fz)
                    for d in range(deposits.shape[1]):
                        sums[i + a, j + b, k + c, d] += w * deposits[p, d]


def true_peaks(
    populations: Sequence[Population],
    filler: NDArray[np.float32],
    wm: NDArray[np.float32],
    room: Array,
    brain: NDArray[np.bool_],
    merged_deg: float = 30.7,
) -> NDArray[np.float32]:
    """The three strongest directions of each brain voxel, shape (V, 3, 3), their length the volume fraction.

    ``filler``, shape (V, 3), are directions of white matter that no family fills, ``wm``, shape (V,), is white matter,
    ``room``, shape (V, 2), what share of it a tumor leaves to families and to the rest, and ``brain``, shape (X, Y, Z),
    has V true voxels.
    """
    place = np.full(brain.shape, -1)
    place[brain] = np.arange(len(filler))
    density = np.zeros((len(filler), len(populations)), dtype=np.float32)
    directions = np.zeros((len(filler), len(populations) + 1, 3), dtype=np.float32)
    for i, population in enumerate(populations):
        here = place[population.box]
        inside = (here >= 0) & (population.density > 0.02)
        density[here[inside], i] = population.density[inside]
        directions[here[inside], i] = population.direction[inside]
    directions[:, -1] = filler
    merged = np.float32(round(np.cos(np.deg2rad(merged_deg)), 3))
    return strongest(_fractions(density, wm, room), directions, merged)


@numba.njit(cache=True)
def _fractions(density, wm, room):  # pyright: ignore
    """Volume fraction of each family, saturating in density, no more than there is room; the rest comes last.

    White matter that no modeled family fills has a direction too, a weaker one.
    """
    count = density.shape[1]
    fractions = np.zeros((density.shape[0], count + 1), dtype=np.float32)
    for v in range(density.shape[0]):
        total = np.float32(0.0)
        for k in range(count):
            if density[v, k] > 0:
                fractions[v, k] = density[v, k] / (density[v, k] + np.float32(0.35))
                total += fractions[v, k]
        here = min(max(wm[v] * np.float32(1.15), np.float32(0)), np.float32(1)) * room[v, 0]
        factor = here / max(np.float64(total), here + 1e-6) if total > 0 else 0.0
        filled = 0.0
        for k in range(count):
            if density[v, k] > 0:
                filled += fractions[v, k] * factor
                fractions[v, k] = fractions[v, k] * factor
        fractions[v, count] = min(max(wm[v] * room[v, 1] - filled, 0.0), 1.0) * 0.6
    return fractions


@numba.njit(cache=True)
def strongest(rest, directions, cosine_of_merged):  # pyright: ignore
    """Merge near-parallel populations and keep the three strongest: peaks, shape (V, 3, 3), strongest first.

    ``rest``, shape (V, K), volume fractions of populations, is used up; ``directions``, shape (V, K, 3), are unit
    vectors; those whose cosine is larger cannot be told apart by a measurement.
    """
    peaks = np.zeros((rest.shape[0], 3, 3), dtype=np.float32)
    for v in range(rest.shape[0]):
        for peak in range(3):
            best = rest[v].argmax()
            if rest[v, best] <= 0:
                break
            x, y, z = directions[v, best]
            for k in range(rest.shape[1]):
                if rest[v, k] <= 0:
                    continue
                cosine = directions[v, k, 0] * x + directions[v, k, 1] * y + directions[v, k, 2] * z
                if abs(cosine) > cosine_of_merged:
                    for c in range(3):
                        peaks[v, peak, c] += rest[v, k] * np.sign(cosine) * directions[v, k, c]
                    rest[v, k] = 0
    return peaks
