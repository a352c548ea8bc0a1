"""Exact distances in mm: maps, and from edge to edge."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .errors import DataError

ROUNDING_VOXELS = 1e-4
"""What a distance in mm may exceed a limit by, in voxels, and still count as within it.

NIfTI keeps spacing and affine in single precision, seven digits: on an oblique grid of 3 mm one step is 3.0000001 mm,
and would miss a limit of 3 mm. Next to true differences, of at least a hundredth of a voxel, this is nothing.
"""


def within(distance_mm: NDArray[Any], limit_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Where distances are at most a limit, but for rounding; see `ROUNDING_VOXELS`.

    Examples
    --------
    >>> within(np.array([2.9, 3.0000001, 3.1]), 3.0, (3.0000001, 3.0, 3.0)).tolist()
    [True, True, False]
    """
    return np.asarray(distance_mm <= limit_mm + ROUNDING_VOXELS * min(spacing_mm))


def shell_of(
    distance_mm: NDArray[Any], edges_mm: Sequence[float] | NDArray[Any], spacing_mm: tuple[float, float, float]
) -> NDArray[np.intp]:
    """Which shell, each with its lower edge, distances lie in, but for rounding; −1 below the first edge.

    Without that, voxels a whole number of steps away change shells when the grid is turned; see `ROUNDING_VOXELS`.

    Examples
    --------
    >>> shell_of(np.array([0.0, 2.9, 2.9999998, 3.0]), [0.0, 3.0, 6.0], (3.0, 3.0, 3.0)).tolist()
    [0, 0, 1, 1]
    """
    return np.searchsorted(edges_mm, distance_mm + ROUNDING_VOXELS * min(spacing_mm), side="right") - 1


_FAR = 1e30  # mm², larger than any image
Mask = NDArray[np.bool_]


def distance_to(mask: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance in mm of every voxel's center to the nearest center inside a mask with at least one voxel.

    The same as `scipy.ndimage.distance_transform_edt` of the complement, and several times faster: along each axis
    in turn, the lower envelope of one parabola a voxel (Felzenszwalb and Huttenlocher, doi:10.4086/toc.2012.v008a019).
    The axes, with these edge lengths of a voxel, are orthogonal.

    Examples
    --------
    >>> mask = np.zeros((3, 1, 2), dtype=bool)
    >>> mask[0, 0, 0] = True
    >>> distance_to(mask, (3.0, 1.0, 4.0))[:, 0].tolist()
    [[0.0, 4.0], [3.0, 5.0], [6.0, 7.211102485656738]]
    """
    squared = np.where(mask, 0.0, _FAR)
    for axis, step in enumerate(spacing_mm):
        lines = np.ascontiguousarray(np.moveaxis(squared, axis, 2))  # one memory layout: compiled once
        n = lines.shape[2]
        _along_last(lines, step, np.empty((2, n)), np.empty(n, dtype=np.int64))
        squared = np.moveaxis(lines, 2, axis)
    return np.sqrt(squared, dtype=np.float64).astype(np.float32)


@njit(cache=True, nogil=True)
def _along_last(squared: Any, step: float, scratch: Any, apex: Any) -> None:
    """Replace each line by the lower envelope of its parabolas.

    The envelope is a list of parabolas from left to right: their height and apex, and where each begins to be lowest.
    Memory comes from outside, since what numpy offers in compiled code takes seconds to compile.
    """
    n_x, n_y, n = squared.shape
    height, start = scratch[0], scratch[1]
    for x in range(n_x):
        for y in range(n_y):
            last = -1
            for i in range(n):
                value = squared[x, y, i]
                if value >= _FAR:
                    continue
                crossing = -np.inf
                # A new parabola hides those that it undercuts from before they begin.
                while last >= 0:
                    j = apex[last]
                    crossing = (value - height[last]) / (2 * step * step * (i - j)) + 0.5 * (i + j)
                    if crossing > start[last]:
                        break
                    last -= 1
                if last < 0:
                    crossing = -np.inf
                last += 1
                apex[last], height[last], start[last] = i, value, crossing
            if last < 0:
                continue  # no voxel of the mask on this line: a later axis may reach it
            segment = 0
            for i in range(n):
                while segment < last and start[segment + 1] < i:
                    segment += 1
                squared[x, y, i] = height[segment] + (step * (i - apex[segment])) ** 2


LARGEST_COSINE = 1e-3
"""Between voxel axes that still count as orthogonal: 0.06° off, or the rounding of an affine to three decimals. Over a
distance of 200 mm it is an error of 0.1 mm, a tenth of the smallest voxel here."""


def check_orthogonal(affine: NDArray[np.float64], where: str) -> None:
    """Refuse an affine with a cosine between two voxel axes above `LARGEST_COSINE` (`DataError`); oblique ones pass.

    Distances between voxels are computed from edge lengths, which is right exactly where the axes are orthogonal.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if cosine > LARGEST_COSINE:
        raise DataError(
            f"Voxel axes must be at right angles for distances in millimetres; the affine of {where} is sheared: "
            f"two axes are {np.degrees(np.arccos(cosine)):.1f}° apart instead of 90°. Resample the images onto an "
            "unsheared grid first."
        )


def edge_distance_map(mask: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    r"""Distance of every voxel to a mask, from the voxel's box to the nearest box of the mask.

    Voxels are boxes, not points: the distance between two of them whose indices differ by
    :math:`(a, b, c)` is :math:`\sqrt{\sum_i (s_i \max(|d_i| - 1, 0))^2}`. It is 0 inside the mask and for
    voxels that share a face, an edge or a corner with it. Mask and axes as in `distance_to`.

    Examples
    --------
    >>> mask = np.zeros((5, 1, 1), dtype=bool)
    >>> mask[0] = True
    >>> edge_distance_map(mask, (2.0, 2.0, 2.0)).ravel().tolist()
    [0.0, 0.0, 2.0, 4.0, 6.0]
    """
    # A box's distance to a box equals its center's distance to the nearest center among that box and its 26 neighbors,
    # so the map is the distance transform of the mask grown by one voxel on all sides. A neighbor beyond the border is
    # never nearer than all others, so the border changes nothing.
    grown = mask.copy()
    for axis in range(3):
        line, before = np.moveaxis(grown, axis, 0), np.moveaxis(grown.copy(), axis, 0)
        line[1:] |= before[:-1]
        line[:-1] |= before[1:]
    return distance_to(grown, spacing_mm)
