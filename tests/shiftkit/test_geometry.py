"""Grids, pieces of masks and the way along them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse.csgraph import dijkstra

from shiftkit.geometry import brain_of, largest_piece, neighbor_graph, positions_along, resample, same_grid
from shiftkit.types import Volume


def oblique(angle: float, spacing: tuple[float, float, float], mirrored: bool) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing) @ np.diag([-1.0 if mirrored else 1.0, 1, 1])
    affine[:3, 3] = (-20, 7, 3)
    return affine


angles = st.floats(-1.0, 1.0)


@given(angles, st.booleans(), st.integers(0, 2**32 - 1))
def test_axis_changes_round_trip_exactly(angle: float, mirrored: bool, seed: int) -> None:
    """Voxels brought to another order and flip of the same oblique axes, and back, are the same voxels."""
    rng = np.random.default_rng(seed)
    volume = Volume(
        array=rng.integers(0, 9, (5, 6, 7)).astype(np.float64), affine=oblique(angle, (2, 1.5, 3), mirrored)
    )
    order, flips = rng.permutation(3), rng.integers(0, 2, 3).astype(bool)
    shape = tuple(int(volume.shape[axis]) for axis in order)
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, old in enumerate(order):
        change[old, new] = -1 if flips[new] else 1
        change[old, 3] = volume.shape[old] - 1 if flips[new] else 0
    there = resample(volume, volume.affine @ change, shape, order=0)
    back = resample(there, volume.affine, volume.shape, order=0)
    np.testing.assert_array_equal(back.array, volume.array)
    assert same_grid(back, volume)


@given(angles, angles, st.booleans())
def test_linear_fields_survive_any_grid(angle: float, other: float, mirrored: bool) -> None:
    """A field that is linear in world coordinates reads the same on every grid, oblique ones included."""
    source = oblique(angle, (2, 2, 2.5), mirrored)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (24, 24, 24)), indexing="ij"), -1)
    slope = np.array([0.3, -0.7, 1.1])
    field = (index @ source[:3, :3].T + source[:3, 3]) @ slope
    target = oblique(other, (1.7, 1.3, 2.1), not mirrored)
    middle = source[:3, :3] @ np.array([11.5, 11.5, 11.5]) + source[:3, 3]
    target[:3, 3] = middle - target[:3, :3] @ np.array([2.0, 2, 2])
    found = resample(Volume(array=field, affine=source), target, (5, 5, 5)).array
    small = np.stack(np.meshgrid(*(np.arange(5),) * 3, indexing="ij"), -1)
    np.testing.assert_allclose(found, (small @ target[:3, :3].T + target[:3, 3]) @ slope, atol=1e-6)


@given(
    order=st.permutations([0, 1, 2]),
    scales=st.lists(st.floats(0.3, 3.0), min_size=3, max_size=3),
    flips=st.lists(st.booleans(), min_size=3, max_size=3),
    start=st.lists(st.integers(-300, 900).map(lambda n: n / 100), min_size=3, max_size=3),
    shape=st.lists(st.integers(1, 7), min_size=3, max_size=3),
    outside=st.sampled_from([0.0, -2.5]),
    seed=st.integers(0, 1000),
)
def test_parallel_grids_are_interpolated_as_any_others(
    order: list[int],
    scales: list[float],
    flips: list[bool],
    start: list[float],
    shape: list[int],
    outside: float,
    seed: int,
) -> None:
    """Axis by axis gives what SciPy gives for all at once: any order, direction and size of voxels, each channel.

    But for places that miss the border by what headers round, which SciPy takes to be outside.
    """
    volume = Volume(array=np.random.default_rng(seed).random((5, 6, 4, 2)), affine=np.eye(4))
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[order] * np.where(flips, -1, 1) * scales
    affine[:3, 3] = start
    made = resample(volume, affine, (shape[0], shape[1], shape[2]), outside=outside)
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + start
    clear = (np.abs(places) > 2e-3).all(axis=-1) & (np.abs(places - np.array([4, 5, 3])) > 2e-3).all(axis=-1)
    for channel in range(2):
        expected = ndimage.affine_transform(
            volume.array[..., channel], affine[:3, :3], affine[:3, 3], output_shape=tuple(shape), order=1, cval=outside
        )
        np.testing.assert_allclose(made.array[clear, channel], expected[clear], atol=1e-12)


@pytest.mark.parametrize("spacing_mm", [0.8, 1.2, 1.7, 2.2, 2.4])
def test_how_an_axis_is_stored_changes_no_voxel(spacing_mm: float) -> None:
    """A mask whose x axis runs the other way, with a header's rounding, becomes the same mask to the last plane."""
    array = np.random.default_rng(0).random((20, 18, 16)).astype(np.float32)
    forward = np.diag([spacing_mm] * 3 + [1.0])
    backward = forward @ np.array([[-1.0, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    one, other = (affine.astype(np.float32).astype(np.float64) for affine in (forward, backward))
    target = np.diag([spacing_mm / 2] * 3 + [1.0])
    shape = (39, 35, 31)
    first = resample(Volume(array=array, affine=one), target, shape, outside=-1).array
    second = resample(Volume(array=array[::-1], affine=other), target, shape, outside=-1).array
    assert (first >= 0).all() and (second >= 0).all()  # down to the voxels on the border
    np.testing.assert_allclose(second, first, atol=1e-4)
    np.testing.assert_allclose(first[::2, ::2, ::2], array, atol=1e-4)


def test_positions_follow_a_bend() -> None:
    """Round a horseshoe the position runs along the arc: the two ends, 6 voxels apart, are 0 and 1."""
    angles = np.linspace(0, np.pi, 400)
    array = np.zeros((40, 40, 3), dtype=bool)
    array[np.round(20 + 15 * np.cos(angles)).astype(int), np.round(5 + 28 * np.sin(angles)).astype(int), 1] = True
    mask = Volume(array=array, affine=np.diag([-2.0, 2.0, 2.0, 1.0]))
    positions = positions_along(mask)
    voxels = np.argwhere(array)
    middle = voxels[np.abs(positions - 0.5) < 0.03]
    assert (middle[:, 1] > 30).all()  # half way is the top of the arc
    ends = voxels[(positions < 0.02) | (positions > 0.98)]
    assert (ends[:, 1] < 8).all()


def test_positions_start_behind_below_or_outside_in_both_hemispheres() -> None:
    """Mirrored bundles get mirrored positions, also where they run from side to side, whatever the voxel order."""
    array = np.zeros((20, 5, 5), dtype=bool)
    array[2:9, 2, 2] = True
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = -19.0
    left = positions_along(Volume(array=array, affine=affine))
    right = positions_along(Volume(array=array[::-1], affine=affine))
    assert left[0] == 0
    assert left[-1] == 1
    np.testing.assert_allclose(right, left[::-1])
    flipped = np.diag([2.0, -2.0, 2.0, 1.0])
    upright = np.zeros((3, 6, 3), dtype=bool)
    upright[1, :, 1] = True
    assert positions_along(Volume(array=upright, affine=flipped)).tolist() == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])


def test_stray_voxels_follow_the_nearest_part() -> None:
    """A voxel off the largest component takes the position of its neighbor there; one voxel alone lies half way."""
    array = np.zeros((3, 12, 5), dtype=bool)
    array[1, 1:11, 1] = True
    array[1, 10, 4] = True
    positions = positions_along(Volume(array=array, affine=np.eye(4)))
    assert positions[-1] == 1.0
    single = np.zeros((3, 3, 3), dtype=bool)
    single[1, 1, 1] = True
    assert positions_along(Volume(array=single, affine=np.eye(4))).tolist() == [0.5]


def test_the_largest_piece_is_held_together_by_corners() -> None:
    """Two voxels that share a corner outnumber one; nothing remains nothing."""
    mask = np.zeros((6, 3, 3), dtype=bool)
    mask[0, 0, 0] = mask[3, 1, 1] = mask[4, 2, 2] = True
    assert np.argwhere(largest_piece(mask)).tolist() == [[3, 1, 1], [4, 2, 2]]
    assert not largest_piece(np.zeros_like(mask)).any()


def test_ways_are_as_long_as_in_the_world() -> None:
    """Round a corner of an oblique grid, the way is the sum of its steps in mm; apart, there is none."""
    voxels = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [5, 5, 5]])
    affine = oblique(0.3, (2.0, 3.0, 1.0), False)
    ways = dijkstra(neighbor_graph(voxels, affine[:3, :3]), directed=False, indices=0)
    assert ways.tolist() == pytest.approx([0.0, 2.0, 2.0 + np.hypot(2.0, 3.0), np.inf])


def test_the_brain_is_where_the_first_channel_is_bright() -> None:
    """Traces and NaN outside do not count, nor what only a later channel shows."""
    array = np.zeros((4, 1, 1, 2))
    array[:, 0, 0, 0] = [1.0, 0.04, np.nan, 0.06]
    array[1, 0, 0, 1] = 9.0
    assert brain_of(Volume(array=array, affine=np.eye(4))).ravel().tolist() == [True, False, False, True]


@pytest.mark.parametrize("places", [2, 3])
@given(angle=angles, mirrored=st.booleans())
def test_rounded_affines_place_the_same_voxels(places: int, angle: float, mirrored: bool) -> None:
    """An axis-aligned or oblique affine written with few decimals is the same grid; half a voxel aside is another."""
    affine = oblique(angle if places == 3 else 0.0, (1.2345, 1.5, 2.0), mirrored)
    array = np.zeros((20, 20, 20))
    one = Volume(array=array, affine=affine)
    assert same_grid(one, Volume(array=array, affine=np.round(affine, places)))
    aside = affine.copy()
    aside[1, 3] += 0.6
    assert not same_grid(one, Volume(array=array, affine=aside))
