"""Mirrored voxels: an image that fits the others better when it is flipped."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..geometry import same_grid
from .subject import Subject
from .verdict import Problem

# How much more information a flipped image must share; sound ones share two to five times less.
_BETTER = 1.3
_BINS = 24


def find(subject: Subject) -> Iterator[Problem]:
    """Images whose voxels are mirrored against those of the other images."""
    grid = subject.grid
    if grid is None:
        return
    maps = {name: _contrast(v.array) for name, v in subject.images.items() if same_grid(v, grid)}
    # Ranks, since contrasts have no common scale; a histogram of fewer voxels would be noise.
    maps = {name: _ranks(array) for name, array in maps.items() if (array > 0).sum() > 1000}
    accused: dict[str, list[int]] = defaultdict(list)
    for a, b in combinations(sorted(maps), 2):
        axis = _better_axis(maps[a], maps[b])
        if axis is not None:
            accused[a].append(axis)
            accused[b].append(axis)
    # The flipped one fits none of the others, a sound one misfits the flipped one alone; of two, either may be it.
    most = max((len(axes) for axes in accused.values()), default=0)
    guilty = [name for name, axes in accused.items() if len(axes) == most]
    for name in guilty:
        axis = max(set(accused[name]), key=accused[name].count)
        names = {"L": "left and right", "R": "left and right", "A": "front and back", "P": "front and back"}
        way = names.get(grid.orientation[axis], "top and bottom")
        others = " or ".join(f"the {other} image" for other in guilty if other != name)
        sentence = (
            f"Images of a participant show the same brain; the {name} image fits the others better with {way} "
            "exchanged." + (f" With these images alone it could as well be {others}." if others else "")
        )
        cure = f"Flip its voxels along axis {axis} and keep the affine, or convert it again from its source."
        yield subject.problem("flip", "error", subject.case.images[name], sentence, cure)


def _contrast(array: NDArray[np.float32]) -> NDArray[np.float32]:
    clean = np.nan_to_num(array, posinf=0.0, neginf=0.0)
    return clean if clean.ndim == 3 else np.linalg.norm(clean[..., :3], axis=-1)


def _ranks(array: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each voxel, such that bins above 0 hold equally many; 0 is background."""
    edges = np.quantile(array[array > 0], np.linspace(0, 1, _BINS)[1:-1])
    return np.where(array > 0, np.searchsorted(edges, array) + 1, 0)


def _better_axis(a: NDArray[np.int64], b: NDArray[np.int64]) -> int | None:
    # Some 64 voxels along each axis are plenty for a histogram of 24 × 24 bins.
    stride = tuple(slice(None, None, max(1, n // 64)) for n in a.shape)
    now = _shared_information(a[stride], b[stride])
    flipped = [_shared_information(a[stride], np.flip(b, axis)[stride]) for axis in range(3)]
    best = int(np.argmax(flipped))
    return best if flipped[best] > _BETTER * now else None


def _shared_information(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Mutual information in nats over voxels where either image shows something."""
    counts = np.bincount((a * _BINS + b).ravel(), minlength=_BINS**2).reshape(_BINS, _BINS).astype(float)
    counts[0, 0] = 0  # agreeing on what is background says nothing of the anatomy
    p = counts / counts.sum()
    outer = p.sum(axis=1, keepdims=True) * p.sum(axis=0, keepdims=True)
    filled = p > 0
    return float((p[filled] * np.log(p[filled] / outer[filled])).sum())
