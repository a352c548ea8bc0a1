"""Grids and the world: resampling, where the brain is, pieces of a mask, and the way along it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from .types import Volume

Mask = NDArray[np.bool_]


GRID_TOLERANCE_VOXELS = 0.1
"""How far apart, in voxels, two grids may place the same voxel and still be one grid.

Affines go through text and single precision: with three decimals, columns are wrong by up to 0.0005 mm a voxel, which
over 200 voxels adds up to 0.1 mm. A tenth of a voxel changes no mask; a grid that was meant to be another one is off by
half a voxel or more.
"""


def same_grid(a: Volume, b: Volume) -> bool:
    """Whether two images have the same shape and their voxels the same place in the world.

    The affines may differ by what rounding does: no corner may move by more than `GRID_TOLERANCE_VOXELS`.

    Examples
    --------
    >>> one = Volume(array=np.zeros((40, 40, 40)), affine=np.diag([1.2345, 1.2345, 1.2345, 1.0]))
    >>> same_grid(one, Volume(array=one.array, affine=np.round(one.affine, 3)))
    True
    >>> same_grid(one, Volume(array=one.array, affine=np.diag([1.25, 1.25, 1.25, 1.0])))
    False
    """
    if a.shape != b.shape or not (np.isfinite(a.affine).all() and np.isfinite(b.affine).all()):
        return False
    last = np.array(a.shape) - 1
    corners = np.array([(*(np.array(at) * last), 1.0) for at in np.ndindex(2, 2, 2)])
    # An affine map moves nothing inside a box farther than one of its corners.
    moved = np.linalg.norm((corners @ (a.affine - b.affine).T)[:, :3], axis=1).max()
    return bool(moved <= GRID_TOLERANCE_VOXELS * min(*a.spacing_mm, *b.spacing_mm))


_NOTHING_VOXELS = 1e-9
"""Steps between grids that are rounding of a matrix inverse in double precision."""
_BORDER_VOXELS = 1e-3
"""How far beyond a border is still on it: headers round affines, and a whole plane must not be lost for that."""
_WHOLE_VOXELS = 1e-6
"""By how much a step between grids may miss a whole number and still be one: over 500 voxels, half a thousandth of
one, which would blur masks by as little for nothing."""


def resample(
    volume: Volume, affine: NDArray[np.float64], shape: tuple[int, int, int], order: int = 1, outside: float = 0.0
) -> Volume:
    """Bring an image onto another grid, with an affine of any orientation, oblique ones too.

    The spline's ``order`` is 0 for nearest, 1 for linear; NaN voxels must have been replaced. ``outside`` is the value
    where the target grid leaves the image. Channels are resampled one by one; vectors keep their components in world
    axes.

    Examples
    --------
    >>> volume = Volume(array=np.arange(8.0).reshape(2, 2, 2), affine=np.eye(4))
    >>> flipped = resample(volume, np.array([[-1.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), (2, 2, 2))
    >>> bool((flipped.array == volume.array[::-1]).all())
    True
    """
    matrix = np.linalg.inv(volume.affine) @ affine
    matrix = np.where(np.abs(matrix) < _NOTHING_VOXELS, 0.0, matrix)  # exact zeros keep axis-aligned grids exact
    if np.abs(matrix - np.round(matrix)).max() < _WHOLE_VOXELS and np.allclose(np.abs(matrix[:3, :3]).sum(axis=0), 1):
        return Volume(array=_regrid(volume.array, np.round(matrix).astype(int), shape, outside), affine=affine)
    floating = np.issubdtype(volume.array.dtype, np.floating)
    parallel = all((np.count_nonzero(matrix[:3, :3], axis=axis) == 1).all() for axis in (0, 1))
    if order == 1 and floating and parallel:
        return Volume(array=_along_axes(volume.array, matrix, shape, outside), affine=affine)

    def one(channel: NDArray[Any]) -> NDArray[Any]:
        return ndimage.affine_transform(
            channel,
            matrix[:3, :3],
            matrix[:3, 3],  # pyright: ignore[reportArgumentType] - the stubs know only a number
            output_shape=shape,
            order=order,
            mode="constant",
            cval=outside,
        )

    if volume.array.ndim == 3:
        return Volume(array=one(volume.array), affine=affine)
    channels = [one(volume.array[..., c]) for c in range(volume.array.shape[3])]
    return Volume(array=np.stack(channels, axis=-1), affine=affine)


def _along_axes(
    array: NDArray[Any], matrix: NDArray[np.float64], shape: tuple[int, int, int], outside: float
) -> NDArray[Any]:
    """Interpolate linearly where grids are parallel: one axis after the other, several times as fast as all at once."""
    rows = np.abs(matrix[:3, :3]).argmax(axis=0).tolist()  # which axis of the image each of the target runs along
    made = np.transpose(array, (*rows, *range(3, array.ndim)))
    inside = np.ones(shape, bool)
    # The axis that shrinks most goes first: there is less to do along the others then.
    for axis in sorted(range(3), key=lambda one: shape[one] / made.shape[one]):
        last = made.shape[axis] - 1
        place = matrix[rows[axis], axis] * np.arange(shape[axis]) + matrix[rows[axis], 3]
        along = [1] * array.ndim
        along[axis] = -1
        inside &= ((place >= -_BORDER_VOXELS) & (place <= last + _BORDER_VOXELS)).reshape(along[:3])
        place = np.clip(place, 0, last)
        below = np.floor(place).astype(int)
        # A weight for each neighbor, so that an axis gives the same whichever way it is stored.
        above, beneath = (part.astype(array.dtype.newbyteorder("=")) for part in (place - below, 1 - (place - below)))
        lower = np.take(made, below, axis) * beneath.reshape(along)
        made = np.take(made, np.minimum(below + 1, last), axis) * above.reshape(along)
        made += lower
    made[~inside] = outside
    return made


def _regrid(array: NDArray[Any], matrix: NDArray[np.int_], shape: tuple[int, int, int], outside: float) -> NDArray[Any]:
    """Copy voxels where the grids differ by whole voxels, flips and axis order only: nothing is interpolated."""
    order = [int(np.flatnonzero(matrix[:3, axis])[0]) for axis in range(3)]
    source = np.transpose(array, (*order, *range(3, array.ndim)))
    made = np.full((*shape, *array.shape[3:]), outside, dtype=array.dtype)
    take: list[slice] = []
    put: list[slice] = []
    for axis in range(3):
        start = int(matrix[order[axis], 3])
        if matrix[order[axis], axis] < 0:
            source = np.flip(source, axis)
            start = source.shape[axis] - 1 - start
        put.append(slice(max(0, -start), max(0, min(shape[axis], source.shape[axis] - start))))
        take.append(slice(put[-1].start + start, max(put[-1].start, put[-1].stop) + start))
    if all(one.stop > one.start for one in put):
        made[tuple(put)] = source[tuple(take)]
    return made


def brain_of(image: Volume, *, above: float = 0.05, quantile: float = 1.0) -> Mask:
    """Where an image has signal, which is where the brain is if nothing else is shown; shape (X, Y, Z).

    Of several channels the first counts; NaN is no signal. Signal is what exceeds the share ``above`` of the bright
    value, since interpolation and noise leave traces outside; bright is that ``quantile`` of the positive values, 1 for
    the largest.

    Examples
    --------
    >>> image = Volume(array=np.array([0.0, 0.01, 2.0, np.nan]).reshape(4, 1, 1), affine=np.eye(4))
    >>> brain_of(image, above=0.05).ravel().tolist()
    [False, False, True, False]
    """
    values = np.nan_to_num(image.array if image.array.ndim == 3 else image.array[..., 0])
    positive = values[values > 0]
    bright = float(np.quantile(positive.astype(np.float64), quantile)) if positive.size else 0.0
    return values > above * max(bright, 1e-12)


def largest_piece(mask: Mask, *, corners: bool = True) -> Mask:
    """The piece of a mask that has most voxels, the first of equals; an empty mask stays empty.

    With ``corners`` voxels that share an edge or a corner belong together, else only those that share a face.

    Examples
    --------
    >>> largest_piece(np.array([True, False, True, True]).reshape(4, 1, 1)).ravel().tolist()
    [False, False, True, True]
    """
    box, labeled = pieces(mask, corners=corners)
    sizes = np.bincount(labeled.ravel(), minlength=1)
    sizes[0] = 0  # the background
    largest = np.zeros(mask.shape, dtype=np.bool_)
    if sizes.any():
        largest[box] = labeled == sizes.argmax()
    return largest


def pieces(mask: Mask, *, corners: bool = True) -> tuple[tuple[slice, ...], NDArray[np.int32]]:
    """The box around a mask, and in it for each voxel the number of its piece, from 1; 0 is background.

    A bundle fills a hundredth of a brain: the rest need not be searched. See `largest_piece` for ``corners``.

    Examples
    --------
    >>> box, labeled = pieces(np.array([False, True, False, True]).reshape(4, 1, 1))
    >>> box[0], labeled.ravel().tolist()
    (slice(1, 4, None), [1, 0, 2])
    """
    axes = range(mask.ndim)
    along = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    box = tuple(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0) for where in along)
    labeled: Any = ndimage.label(mask[box], np.ones((3, 3, 3)) if corners else None)
    return box, labeled[0]


_HALF = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)])
"""One of each pair of opposite neighbors: an edge is listed once."""


def neighbor_graph(voxels: NDArray[np.intp], axes_mm: NDArray[np.float64]) -> sparse.csr_matrix:
    """The ways between N different voxels that share a face, an edge or a corner, with their lengths in mm.

    ``axes_mm`` has the steps in the world from a voxel to the next along each axis, as columns: ``affine[:3, :3]``, or
    the diagonal matrix of the edge lengths. The result, shape (N, N), has each way once, in either triangle: pass
    ``directed=False`` to the functions of `scipy.sparse.csgraph`.

    Examples
    --------
    >>> neighbor_graph(np.array([[0, 0, 0], [0, 1, 0], [5, 5, 5]]), np.diag([1.0, 2.0, 1.0])).todense().tolist()
    [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    low = voxels.min(axis=0) - 1
    # A table of the box with a margin, so that every neighbor is one look-up; −1 where there is no voxel.
    number = np.full(voxels.max(axis=0) - low + 2, -1)
    here = voxels - low
    number[tuple(here.T)] = np.arange(len(voxels))
    neighbor = np.stack([number[tuple((here + step).T)] for step in _HALF])
    step, row = np.nonzero(neighbor >= 0)
    lengths = np.array([float(np.linalg.norm(axes_mm @ one)) for one in _HALF])
    return sparse.csr_matrix((lengths[step], (row, neighbor[step, row])), shape=(len(voxels), len(voxels)))


def positions_along(mask: Volume) -> NDArray[np.float64]:
    r"""How far along a bundle each of its voxels lies, from 0 at one end to 1 at the other.

    The ends a and b are the two voxels farthest from each other *inside* the mask, so a curved bundle is followed
    round its bend; the position of a voxel is :math:`d_a / (d_a + d_b)` with geodesic distances. Position 0 is the
    end that is more posterior, inferior or lateral, on whichever of these three axes the ends differ most, so that
    sections mean the same in both hemispheres and in all participants. Axes are orthogonal; voxels off the largest
    component get the position of the nearest voxel in it. Shape (N,), in the order of ``np.argwhere(mask.array)``.

    Examples
    --------
    >>> array = np.zeros((3, 5, 3), dtype=bool)
    >>> array[1, :, 1] = True
    >>> positions_along(Volume(array=array, affine=np.diag([2.0, 2, 2, 1]))).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    voxels = np.argwhere(mask.array)
    inside = largest_piece(mask.array)[mask.array]
    main = voxels[inside]
    graph = neighbor_graph(main, np.diag(mask.spacing_mm))
    # The farthest from anywhere is an end, as in a tree, and the farthest from that the other: no need of all pairs.
    first = int(np.argmax(_geodesic(graph, 0)))
    from_first = _geodesic(graph, first)
    last = int(np.argmax(from_first))
    from_last = _geodesic(graph, last)
    length = from_first[last]
    along = from_first / (from_first + from_last) if length > 0 else np.full(len(main), 0.5)
    if not _runs_forward(main[first], main[last], mask):
        along = 1 - along
    positions = np.empty(len(voxels))
    positions[inside] = along
    if not inside.all():
        spacing = np.array(mask.spacing_mm)
        positions[~inside] = along[KDTree(main * spacing).query(voxels[~inside] * spacing)[1]]
    return positions


def _runs_forward(first: NDArray[np.intp], last: NDArray[np.intp], mask: Volume) -> bool:
    ends = mask.world(np.stack([first, last]))
    x_middle = float(mask.points_inside()[:, 0].mean())
    ends[:, 0] *= 1 if x_middle < 0 else -1  # from lateral to medial in either hemisphere
    step = ends[1] - ends[0]
    return bool(step[np.argmax(np.abs(step))] >= 0)


def _geodesic(graph: sparse.csr_matrix, start: int) -> NDArray[np.float64]:
    return np.asarray(dijkstra(graph, directed=False, indices=start), dtype=np.float64)
