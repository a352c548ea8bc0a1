"""Exact distance maps, and the grids they need."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shiftkit.distances import check_orthogonal, distance_to, edge_distance_map, shell_of
from shiftkit.errors import DataError

SPACINGS = st.tuples(*(st.floats(0.3, 6.0) for _ in range(3)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*(st.integers(1, 10) for _ in range(3))), SPACINGS)
def test_distance_transform_is_scipys(
    seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """The transform equals scipy's within single precision, for any density, shape and spacing."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.choice([0.02, 0.2, 0.8])
    mask[tuple(rng.integers(shape))] = True
    expected = ndimage.distance_transform_edt(~mask, sampling=spacing)
    np.testing.assert_allclose(distance_to(mask, spacing), expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*(st.integers(1, 7) for _ in range(3))), SPACINGS)
def test_edge_distance_is_between_boxes(
    seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    """The map equals the smallest gap between a voxel's box and the boxes of the mask, border or not."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.1
    mask[tuple(rng.integers(shape))] = True
    apart = np.abs(np.argwhere(np.ones(shape))[:, None] - np.argwhere(mask)[None])
    gaps = np.maximum(apart - 1, 0) * np.array(spacing)
    expected = np.sqrt((gaps**2).sum(axis=2)).min(axis=1).reshape(shape)
    np.testing.assert_allclose(edge_distance_map(mask, spacing), expected, rtol=1e-6, atol=1e-6)


def test_sheared_affines_are_refused() -> None:
    """A shear is refused with the angle and what to do; a rotation is not."""
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    with pytest.raises(DataError, match=r"sheared.*78\.7°.*Resample"):
        check_orthogonal(sheared, "mask.nii.gz")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), SPACINGS, st.floats(-3, 3), st.floats(-3, 3))
def test_distances_do_not_depend_on_how_the_grid_is_turned(
    seed: int, spacing: tuple[float, float, float], a: float, b: float
) -> None:
    """From edge to edge, an oblique anisotropic grid in single precision measures as the straight one.

    So do its axes in another order; and shells whose edges are whole steps hold the same voxels.
    """
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 7, 5)) < 0.1
    mask[tuple(rng.integers((6, 7, 5)))] = True
    around_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    around_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    stored = (around_z @ around_x @ np.diag(spacing)).astype(np.float32)  # as NIfTI keeps it
    x, y, z = np.linalg.norm(stored.astype(float), axis=0).tolist()
    straight, turned = edge_distance_map(mask, spacing), edge_distance_map(mask, (x, y, z))
    np.testing.assert_allclose(turned, straight, rtol=1e-5)
    order = rng.permutation(3)
    sizes = [spacing[axis] for axis in order]
    other = edge_distance_map(np.ascontiguousarray(mask.transpose(order)), (sizes[0], sizes[1], sizes[2]))
    np.testing.assert_allclose(other, straight.transpose(order), rtol=1e-6)
    edges = np.array([0.0, 1, 2, 3, np.inf]) * spacing[0]
    assert (shell_of(turned, edges, (x, y, z)) == shell_of(straight, edges, spacing)).all()
