"""In which axes a participant's peaks are: agreement with the anatomy under every flip and permutation."""

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from ..geometry import largest_piece, neighbor_graph
from ..types import Volume

Array = NDArray[np.float64]

# How far ahead a fiber is followed: far enough to leave its own bundle where it runs the wrong way.
_STEP_MM = 10.0
# Reach of a local slope: a bundle's thickness and no more, so that bends stay bends.
_RADIUS_MM = 8.0


def axis_frames() -> dict[str, Array]:
    """The 24 ways to permute and flip axes that differ for vectors without a sign, identity first.

    Examples
    --------
    >>> frames = axis_frames()
    >>> len(frames), next(iter(frames)), frames["-x y z"].diagonal().tolist()
    (24, 'x y z', [-1.0, 1.0, 1.0])
    """
    frames: dict[str, Array] = {}
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            if sum(sign < 0 for sign in signs) > 1:
                continue  # two flips are the third one, seen from the other end of the same line
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            name = " ".join(f"{'-' if sign < 0 else ''}{'xyz'[axis]}" for sign, axis in zip(signs, order, strict=True))
            frames[name] = matrix
    return frames


def long_axes(mask: Volume, rng: np.random.Generator, most: int = 300) -> tuple[NDArray[np.int64], Array]:
    """The course of a bundle, read off its mask: the direction in which the way from one end grows.

    Distances are measured inside the largest piece of the mask, from the voxel farthest from all others;
    their local slope follows bends and fans, which a single long axis would cut.

    Returns
    -------
    index : ndarray of int, shape (N, 3)
        Voxels, ``most`` of them drawn at random.
    axis : ndarray, shape (N, 3)
        Unit vectors in world axes; their sign means nothing.
    """
    inside = np.argwhere(largest_piece(mask.array))
    if len(inside) < 30:
        return np.zeros((0, 3), dtype=int), np.zeros((0, 3))
    links = neighbor_graph(inside, mask.affine[:3, :3])
    # The voxel farthest from any one is an end: exactly so on a tree, and nearly on a bundle.
    start = int(dijkstra(links, directed=False, indices=0).argmax())
    way = dijkstra(links, directed=False, indices=start)
    places = mask.world(inside)
    chosen = rng.choice(len(inside), size=min(most, len(inside)), replace=False)
    near = KDTree(places).query_ball_point(places[chosen], _RADIUS_MM)
    sizes = np.array([len(one) for one in near])
    # Least squares of every neighborhood at once: their rows lie behind one another, and sums are taken by segment.
    rows, first = np.concatenate(near).astype(int), np.cumsum(sizes) - sizes

    def centered(values: Array) -> Array:
        return values - np.repeat(np.add.reduceat(values, first) / sizes[:, None], sizes, axis=0)

    offsets, ahead = centered(places[rows]), centered(way[rows, None])
    scatter = np.add.reduceat(offsets[:, :, None] * offsets[:, None, :], first)
    slope = (np.linalg.pinv(scatter, hermitian=True) @ np.add.reduceat(offsets * ahead, first)[..., None])[..., 0]
    size = np.linalg.norm(slope, axis=1)
    kept = (sizes >= 10) & (size > 0.7)  # at an end, or where branches meet, the way has no slope
    return inside[chosen[kept]], slope[kept] / size[kept, None]


def bundle_agreement(peaks: Volume, index: NDArray[np.int64], axis: Array, frames: Sequence[Array]) -> Array:
    """Mean cosine between a bundle's long axis and the peak nearest to it, for each frame.

    Peaks have shape (X, Y, Z, 9), ``index`` and ``axis`` are those of `long_axes`, and a frame is a matrix, shape (3,
    3), that the components of peaks are multiplied with.
    """
    vectors = peaks.array[tuple(index.T)].reshape(-1, 3, 3).astype(float)
    length = np.linalg.norm(vectors, axis=-1)
    strongest = length.max(axis=1)
    use = strongest > 0
    # Voxels of the mask without any peak, as inside a tumor, say nothing of frames.
    vectors, length, axis = vectors[use], length[use], axis[use]
    if not len(vectors):
        return np.full(len(frames), np.nan)
    unit = vectors / np.maximum(length, 1e-9)[..., None]
    # Weak peaks are often noise, and three peaks always hold one that is near: they count by their strength.
    weight = length / length.max(axis=1, keepdims=True)
    return np.array(
        [(np.abs(unit @ frame.T @ axis[..., None])[..., 0] * weight).max(axis=1).mean() for frame in frames]
    )


def coherence(peaks: Volume, rng: np.random.Generator, frames: Sequence[Array], most: int = 8000) -> Array:
    """How well the strongest peak continues in the voxels it points to: mean absolute cosine, one a frame.

    The frame in which fibers continue is the true one (after Schilling KG et al., Magn Reson Imaging 58:82
    (2019), doi 10.1016/j.mri.2019.01.018); no mask is needed, and a tumor takes part only as a place
    without direction. Peaks and frames are those of `bundle_agreement`; ``most`` voxels are drawn at random. NaN
    without peaks.
    """
    first = peaks.array[..., :3].astype(float)
    length = np.linalg.norm(first, axis=-1)
    if not (length > 0).any():
        return np.full(len(frames), np.nan)
    second = np.linalg.norm(peaks.array[..., 3:6], axis=-1)
    single = np.where(length > 0, length - second, 0.0)  # where one population leads, the direction is sure
    inside = np.argwhere(single >= np.quantile(single[length > 0], 0.6))
    inside = inside[rng.permutation(len(inside))[:most]]
    unit = first / np.maximum(length, 1e-9)[..., None]
    here = unit[tuple(inside.T)]
    to_voxels = np.linalg.inv(peaks.affine[:3, :3])
    step = max(_STEP_MM, 1.5 * max(peaks.spacing_mm))  # surely in another voxel
    scores: list[float] = []
    for frame in frames:
        there = np.rint(inside + step * (here @ frame.T) @ to_voxels.T).astype(int)
        kept = ((there >= 0) & (there < peaks.shape)).all(axis=1)
        target = tuple(there[kept].T)
        kept_here = here[kept]
        found = length[target] > 0
        cosine = np.abs((kept_here * unit[target]).sum(axis=1))[found]
        scores.append(float(cosine.mean()) if len(cosine) else float("nan"))
    return np.array(scores)
