"""Streamlines to what a diffusion measurement sees: densities, directions, up to three peaks a voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from .smoothing import smooth
from .warp import Array

_TRUNCATE = 2.5
"""Standard deviations that the smoothing reaches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Population:
    """One fiber population on a grid.

    Parameters
    ----------
    box : tuple of slice
        The part of the grid that the fibers reach; beyond it all arrays are zero.
    density : ndarray, shape (X, Y, Z) of the box
        Streamline length a voxel, smoothed, relative to the family's own dense core (about 0–1).
    tangents : ndarray, shape (X, Y, Z, 3) of the box
        Sum of the streamlines' tangents a voxel in world axes, not smoothed.
    sigma : ndarray, shape (3,)
        Standard deviation of the smoothing in voxels.
    generosity : ndarray, shape (X, Y, Z) of the box, or None
        Of the rater who draws the reference mask there, in doublings of density; None for one who knows the truth.
        A rater draws fibers that lead from end to end; where others run too it is lower.
    """

    box: tuple[slice, slice, slice]
    density: NDArray[np.float32]
    tangents: NDArray[np.float32]
    sigma: NDArray[np.float64]
    generosity: NDArray[np.float32] | None = None

    @cached_property
    def course(self) -> NDArray[np.float32]:
        """Where the fibers lead, shape (X, Y, Z, 3) of the box, in world axes and of any length."""
        return smooth(self.tangents, self.sigma, truncate=_TRUNCATE)

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
    sigma = blur_mm / spacing
    index = (streamlines_mm - affine[:3, 3]) / np.diag(affine)[:3]
    box = _box(index, alive, np.ceil(_TRUNCATE * sigma).astype(int) + 1, shape)
    low, high = (np.array([getattr(one, end) for one in box]) for end in ("start", "stop"))
    tangents = np.zeros((*(high - low), 3), dtype=np.float32)
    # A point stands for the piece of streamline around it: densities do not depend on how far points lie apart.
    lengths = np.zeros((*(high - low), 1 + (generosity is not None) + (whole is not None)), dtype=np.float32)
    leans = np.empty((0, 0)) if generosity is None else generosity
    drawn = np.empty(0, dtype=bool) if whole is None else whole
    _deposit(tangents, lengths, streamlines_mm, index, alive, leans, drawn, low, np.array(shape))
    lengths = smooth(lengths, sigma, truncate=_TRUNCATE)
    density = np.ascontiguousarray(lengths[..., 0])
    # The core of thick and of thin bundles gets about 1, so one threshold draws all masks; a maximum is noise.
    scale = np.percentile(density[density > density.max() * 0.02], 75) if density.max() > 0 else 1.0
    leaning = None
    if generosity is not None:
        leaning = np.asarray(lengths[..., 1] / np.maximum(density, 1e-6), dtype=np.float32)
        if whole is not None:
            leaning += np.log2(np.clip(lengths[..., 2] / np.maximum(density, 1e-6), 2.0**-20, 1))
    return Population(
        box=box,
        density=np.asarray(density / np.float32(scale), dtype=np.float32),
        tangents=tangents,
        sigma=sigma,
        generosity=leaning,
    )


def _box(
    index: Array, alive: NDArray[np.bool_], margin: NDArray[np.int_], shape: tuple[int, int, int]
) -> tuple[slice, slice, slice]:
    """The part of the grid that smoothed points reach."""
    if not alive.any():
        return slice(0, 1), slice(0, 1), slice(0, 1)
    first, last = _extent(index, alive)
    low = np.clip(np.floor(first).astype(int) - margin, 0, np.array(shape) - 1)
    high = np.clip(np.floor(last).astype(int) + 2 + margin, low + 1, shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


@numba.njit(cache=True)
def _extent(index, alive):  # pyright: ignore
    """Least and largest coordinates of the points that are alive."""
    first, last = np.full(3, np.inf), np.full(3, -np.inf)
    for s in range(index.shape[0]):
        for n in range(index.shape[1]):
            if alive[s, n]:
                for c in range(3):
                    first[c] = min(first[c], index[s, n, c])
                    last[c] = max(last[c], index[s, n, c])
    return first, last


@numba.njit(cache=True)
def _deposit(tangents, lengths, streamlines, index, alive, generosity, whole, low, shape):  # pyright: ignore
    """Add the piece of streamline around each point to the eight voxels around it; sums start at voxel ``low``."""
    nx, ny, nz = shape
    points = streamlines.shape[1]
    tangent, carried = np.empty(3), np.empty(lengths.shape[3])
    for s in range(streamlines.shape[0]):
        for n in range(points):
            if not alive[s, n]:
                continue
            x, y, z = index[s, n]
            i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
            if i < 0 or j < 0 or k < 0 or i >= nx - 1 or j >= ny - 1 or k >= nz - 1:
                continue
            before, after = max(n - 1, 0), min(n + 1, points - 1)
            for c in range(3):
                tangent[c] = (streamlines[s, after, c] - streamlines[s, before, c]) / (after - before)
            length = np.sqrt(tangent[0] * tangent[0] + tangent[1] * tangent[1] + tangent[2] * tangent[2])
            carried[0] = length
            if generosity.shape[0]:
                carried[1] = generosity[s, n] * length
            if whole.shape[0]:
                carried[-1] = length if whole[s] else 0.0
            fx, fy, fz = x - i, y - j, z - k
            i, j, k = i - low[0], j - low[1], k - low[2]
            for a in range(2):
                wx = fx if a else 1.0 - fx
                for b in range(2):
                    wy = fy if b else 1.0 - fy
                    for c in range(2):
                        w = wx * wy * (fz if c else 1.0 - fz)
                        for d in range(3):
                            tangents[i + a, j + b, k + c, d] += w * tangent[d]
                        for d in range(carried.shape[0]):
                            lengths[i + a, j + b, k + c, d] += w * carried[d]


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
    # A voxel holds few of the families: they are listed one voxel after the other.
    counts = np.zeros(len(filler), dtype=np.int64)
    for population in populations:
        _count(place[population.box], population.density, counts)
    ends = np.concatenate([[0], np.cumsum(counts)])
    density = np.empty(ends[-1], dtype=np.float32)
    directions = np.empty((ends[-1], 3), dtype=np.float32)
    free = ends[:-1].copy()
    for population in populations:
        _enter(place[population.box], population.density, population.course, free, density, directions)
    merged = np.float32(round(np.cos(np.deg2rad(merged_deg)), 3))
    peaks = np.zeros((len(filler), 3, 3), dtype=np.float32)
    _fill(ends, density, directions, filler, wm, room, merged, len(populations), peaks)
    return peaks


_FELT = np.float32(0.02)
"""Density from which on a family counts in a voxel."""


@numba.njit(cache=True)
def _count(place, density, counts):  # pyright: ignore
    """Count a population in every voxel that feels it; ``place`` is the voxel's number, −1 outside the brain."""
    for i in range(place.shape[0]):
        for j in range(place.shape[1]):
            for k in range(place.shape[2]):
                if place[i, j, k] >= 0 and density[i, j, k] > _FELT:
                    counts[place[i, j, k]] += 1


@numba.njit(cache=True)
def _enter(place, density, course, free, densities, directions):  # pyright: ignore
    """Enter a population's density and unit direction at the next free place of every voxel that feels it."""
    for i in range(place.shape[0]):
        for j in range(place.shape[1]):
            for k in range(place.shape[2]):
                v = place[i, j, k]
                if v < 0 or density[i, j, k] <= _FELT:
                    continue
                x, y, z = course[i, j, k]
                norm = np.sqrt(x * x + y * y + z * z)
                densities[free[v]] = density[i, j, k]
                for c in range(3):
                    directions[free[v], c] = course[i, j, k, c] / norm if norm > np.float32(1e-6) else np.float32(0)
                free[v] += 1


@numba.njit(cache=True)
def _fill(ends, densities, directions, filler, wm, room, cosine_of_merged, most, peaks):  # pyright: ignore
    """Peaks of each voxel from the families in it, the last of which is the filler.

    The volume fraction of a family saturates in density, and all take no more than there is room. White matter that no
    modeled family fills has a direction too, a weaker one.
    """
    fractions = np.empty(most + 1, dtype=np.float32)
    along = np.empty((most + 1, 3), dtype=np.float32)
    for v in range(peaks.shape[0]):
        first, count = ends[v], ends[v + 1] - ends[v]
        total = np.float32(0.0)
        for k in range(count):
            density = densities[first + k]
            fractions[k] = density / (density + np.float32(0.35))
            total += fractions[k]
            along[k] = directions[first + k]
        here = min(max(wm[v] * np.float32(1.15), np.float32(0)), np.float32(1)) * room[v, 0]
        factor = here / max(np.float64(total), here + 1e-6) if total > 0 else 0.0
        filled = 0.0
        for k in range(count):
            filled += fractions[k] * factor
            fractions[k] = fractions[k] * factor
        fractions[count] = min(max(wm[v] * room[v, 1] - filled, 0.0), 1.0) * 0.6
        along[count] = filler[v]
        _keep_strongest(fractions[: count + 1], along, cosine_of_merged, peaks[v])


@numba.njit(cache=True)
def strongest(rest, directions, cosine_of_merged):  # pyright: ignore
    """Merge near-parallel populations and keep the three strongest: peaks, shape (V, 3, 3), strongest first.

    ``rest``, shape (V, K), volume fractions of populations, is used up; ``directions``, shape (V, K, 3), are unit
    vectors; those whose cosine is larger cannot be told apart by a measurement.
    """
    peaks = np.zeros((rest.shape[0], 3, 3), dtype=np.float32)
    for v in range(rest.shape[0]):
        _keep_strongest(rest[v], directions[v], cosine_of_merged, peaks[v])
    return peaks


@numba.njit(cache=True)
def _keep_strongest(rest, directions, cosine_of_merged, peaks):  # pyright: ignore
    """`strongest` for one voxel, whose peaks are zero before."""
    for peak in range(3):
        best = rest.argmax()
        if rest[best] <= 0:
            break
        x, y, z = directions[best]
        for k in range(rest.shape[0]):
            if rest[k] <= 0:
                continue
            cosine = directions[k, 0] * x + directions[k, 1] * y + directions[k, 2] * z
            if abs(cosine) > cosine_of_merged:
                for c in range(3):
                    peaks[peak, c] += rest[k] * np.sign(cosine) * directions[k, c]
                rest[k] = 0
