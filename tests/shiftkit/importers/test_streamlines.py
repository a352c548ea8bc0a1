from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shiftkit.importers.streamlines import streamline_mask

GRID = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -20], [0, 0, 2, -20], [0, 0, 0, 1]])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_traversal_marks_what_dense_sampling_marks(seed: int) -> None:
    """No voxel that a dense sampling of the line enters is missed, and none is marked that the line stays away from."""
    rng = np.random.default_rng(seed)
    line = rng.uniform(-25, 25, (4, 3))
    found = streamline_mask(line, np.array([4]), GRID, (20, 20, 20)).array
    t = np.linspace(0, 1, 4000)[:, None]
    dense = np.concatenate([a + t * (b - a) for a, b in pairwise(line)])
    index = (dense - GRID[:3, 3]) @ np.linalg.inv(GRID[:3, :3]).T
    nearest = np.floor(index + 0.5).astype(int)
    within = ((nearest >= 0) & (nearest < 20)).all(axis=1)
    sampled = np.zeros_like(found)
    sampled[tuple(nearest[within].T)] = True
    assert not (sampled & ~found).any()
    for voxel in np.argwhere(found & ~sampled):  # the line only grazes these
        assert np.abs(index - voxel).max(axis=1).min() < 0.5 + 0.02


def test_long_segments_leave_no_gap() -> None:
    """Two points forty voxels apart mark a connected line, not two voxels."""
    line = np.array([[-19.0, -17, -15], [17, 15, 16]])
    found = streamline_mask(line, np.array([2]), GRID, (20, 20, 20)).array
    assert found.sum() > 40
    assert ndimage.label(found)[1] == 1  # faces only: a traversal never jumps over an edge
