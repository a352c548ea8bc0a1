"""The Euclidean distance transform in millimetres, exact, one axis after the other."""

# Numba's decorators and compiled functions carry no types.
# pyright: reportUntypedFunctionDecorator=false

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_FAR = 1e30  # mm², larger than any image


def distance_to(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance of every voxel's center to the nearest center inside a mask.

    The same as `scipy.ndimage.distance_transform_edt` of the complement, and several times faster: along each axis
    in turn, the lower envelope of one parabola a voxel (Felzenszwalb and Huttenlocher, doi:10.4086/toc.2012.v008a019).

    Parameters
    ----------
    mask : ndarray of bool, shape (X, Y, Z)
        At least one voxel is set.
    spacing_mm : tuple of float
        Edge lengths of a voxel; the axes are orthogonal.

    Returns
    -------
    ndarray of float32, shape (X, Y, Z)
        Millimetres, 0 inside the mask.

    Examples
    --------
    >>> mask = np.zeros((3, 1, 2), dtype=bool)
    >>> mask[0, 0, 0] = True
    >>> distance_to(mask, (3.0, 1.0, 4.0))[:, 0].tolist()
    [[0.0, 4.0], [3.0, 5.0], [6.0, 7.211102485656738]]
    """
    squared = np.where(mask, 0.0, _FAR)
    for axis, step in enumerate(spacing_mm):
        _along_last(np.moveaxis(squared, axis, 2), step)
    return np.sqrt(squared, dtype=np.float64).astype(np.float32)


@njit(cache=True, nogil=True)
def _along_last(squared: Any, step: float) -> None:
    """Replace each line by the lower envelope of its parabolas."""
    n_x, n_y, n = squared.shape
    height, apex, start = np.empty(n), np.empty(n, dtype=np.int64), np.empty(n)
    for x in range(n_x):
        for y in range(n_y):
            last = -1
            for i in range(n):
                value = squared[x, y, i]
                if value >= _FAR:
                    continue
                crossing = -np.inf
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
                continue
            segment = 0
            for i in range(n):
                while segment < last and start[segment + 1] < i:
                    segment += 1
                squared[x, y, i] = height[segment] + (step * (i - apex[segment])) ** 2
