import os
import struct
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shiftkit.errors import DataError
from shiftkit.importers.streamlines import read_streamlines, streamline_mask

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


def tractogram(path: Path) -> Path:
    """Two streamlines of ten points."""
    lines = [np.linspace((0, -9, z), (0, 9, z), 10).astype(np.float32) for z in (0, 2)]
    nib.streamlines.save(nib.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4)), path)  # pyright: ignore
    return path


@pytest.mark.parametrize("points", [-1, 2**31 - 1, 1000])
def test_a_streamline_that_claims_more_points_than_there_are_is_refused(tmp_path: Path, points: int) -> None:
    """The number of points is held against the size of the file before memory is asked for."""
    path = tractogram(tmp_path / "t.trk")
    assert len(read_streamlines(path)[0]) == 20
    data = bytearray(path.read_bytes())
    data[1000:1004] = struct.pack("<i", points)
    path.write_bytes(data)
    with pytest.raises(DataError, match="more than the file can hold"):
        read_streamlines(path)


@pytest.mark.parametrize("ending", ["trk", "tck"])
def test_points_farther_than_any_head_are_refused(tmp_path: Path, ending: str) -> None:
    """A point 6 m away is no point of a head, and the way to it is not walked."""
    path = tmp_path / f"t.{ending}"
    lines = [np.array([[0, 0, 0], [0, 0, 6000]], np.float32)]
    nib.streamlines.save(nib.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4)), path)  # pyright: ignore
    with pytest.raises(DataError, match="lie in a head"):
        read_streamlines(path)


def test_a_folder_or_a_pipe_is_no_tractogram(tmp_path: Path) -> None:
    """Each is told for what it is, and not waited for."""
    os.mkfifo(tmp_path / "p.tck")
    (tmp_path / "d.trk").mkdir()
    for name, words in (("p.tck", "pipe"), ("d.trk", "folder"), ("nothing.trk", "no tractogram")):
        with pytest.raises(DataError, match=words):
            read_streamlines(tmp_path / name)
