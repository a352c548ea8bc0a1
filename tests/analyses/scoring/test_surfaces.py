import itertools

import numpy as np
import pytest
import surface_distance as deepmind
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist

from shiftkit.analyses.scoring.surfaces import MaskPair

Mask = NDArray[np.bool_]
Case = tuple[Mask, Mask, tuple[float, float, float]]
FACES = [step for step in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, step)) == 1]


def draw_mask(kind: str, shape: tuple[int, int, int], rng: np.random.Generator) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    corner = tuple(int(rng.integers(size)) for size in shape)
    if kind == "random":
        mask |= rng.random(shape) < rng.uniform(0.05, 0.9)
    elif kind == "block":
        low = [int(rng.integers(size)) for size in shape]
        mask[tuple(slice(a, a + int(rng.integers(1, 6))) for a in low)] = True
    elif kind == "thin":
        mask[:, corner[1], corner[2]] = True
    elif kind == "border":
        mask[0], mask[:, :, -1] = True, True
    mask[corner] = True
    return mask


@st.composite
def pairs(draw: st.DrawFn, largest: int = 9) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x, y, z = (draw(st.integers(1, largest)) for _ in range(3))
    kinds = st.sampled_from(("random", "block", "thin", "border", "one voxel"))
    spacing = draw(
        st.sampled_from(((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (0.85, 1.2, 0.9), (0.5, 0.7, 6.0), (3.0, 1.0, 1.0)))
    )
    return draw_mask(draw(kinds), (x, y, z), rng), draw_mask(draw(kinds), (x, y, z), rng), spacing


def slow_surface(mask: Mask) -> NDArray[np.int_]:
    def outside(voxel: NDArray[np.int_]) -> bool:
        return bool((voxel < 0).any() or (voxel >= mask.shape).any() or not mask[tuple(voxel)])

    return np.array([v for v in np.argwhere(mask) if any(outside(v + step) for step in FACES)])


def slow_distances(a: Mask, b: Mask, spacing: tuple[float, float, float]) -> tuple[NDArray[np.float64], ...]:
    between = cdist(slow_surface(a) * np.array(spacing), slow_surface(b) * np.array(spacing))
    return between.min(axis=1), between.min(axis=0)


@settings(max_examples=150, deadline=None)
@given(pairs())
def test_values_are_those_of_the_definition(case: Case) -> None:
    """HD95, ASSD, NSD and adjacency equal a brute-force evaluation of their definitions within 1e-9."""
    a, b, spacing = case
    pair = MaskPair.of(a, b, spacing)
    there, back = slow_distances(a, b, spacing)
    pooled = np.concatenate([there, back])
    assert pair.hd95 == pytest.approx(max(np.quantile(there, 0.95), np.quantile(back, 0.95)), abs=1e-9)
    assert pair.assd == pytest.approx(pooled.mean(), abs=1e-9)
    tolerance = 2.05  # not a distance that occurs, so that rounding cannot decide
    assert pair.nsd(tolerance) == pytest.approx(np.mean(pooled <= tolerance), abs=1e-12)
    between = cdist(np.argwhere(a) * np.array(spacing), np.argwhere(b) * np.array(spacing))
    expected = (between.min(axis=1).mean() + between.min(axis=0).mean()) / 2
    assert pair.adjacency == pytest.approx(expected, abs=1e-9)
    assert pair.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(pairs(largest=12))
def test_values_are_those_of_monai(case: Case) -> None:
    """Dice, Hausdorff distance, HD95, ASSD and NSD equal MONAI's within 1e-5."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_dice import compute_surface_dice
    from monai.metrics.surface_distance import compute_average_surface_distance
    from monai.metrics.utils import get_mask_edges, get_surface_distance

    a, b, spacing = case
    pair = MaskPair.of(a, b, spacing)
    p, r = torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None]
    options = {"include_background": True, "spacing": list(spacing)}
    largest = max(float(distances.max()) for distances in pair.surface_distances_mm)
    assert pair.dice == pytest.approx(float(compute_dice(p.float(), r.float())), abs=1e-5)
    assert largest == pytest.approx(float(compute_hausdorff_distance(p, r, **options)), abs=1e-5)
    assert pair.assd == pytest.approx(
        float(compute_average_surface_distance(p, r, symmetric=True, **options)), abs=1e-5
    )
    assert pair.nsd(2.05) == pytest.approx(float(compute_surface_dice(p, r, [2.05], **options)), abs=1e-5)
    edges = get_mask_edges(a, b)
    directed = [np.asarray(get_surface_distance(x, y, spacing=spacing), dtype=float) for x, y in (edges, edges[::-1])]
    # Its distances are of single precision too: 36 mm is known to 4e-6 mm.
    assert pair.hd95 == pytest.approx(max(np.quantile(d, 0.95) for d in directed), abs=1e-5)
    # MONAI multiplies the percentile's rank in single precision: n voxels put it off by up to n / 2^23, and the value
    # by that part of the step between the two distances around the rank.
    theirs = float(compute_hausdorff_distance(p, r, percentile=95, **options))
    rounding = max(len(d) * 2.0**-23 * step_at_the_rank(d) for d in directed)
    assert pair.hd95 == pytest.approx(theirs, abs=1e-5 + rounding)


def step_at_the_rank(distances: NDArray[np.float64]) -> float:
    """How much the 95th percentile changes around its rank, if that were one voxel farther or nearer."""
    ordered = np.sort(distances)
    rank = round(0.95 * (len(ordered) - 1))
    return float(ordered[min(rank + 1, len(ordered) - 1)] - ordered[max(rank - 1, 0)])


@settings(max_examples=60, deadline=None)
@given(pairs(), st.permutations((0, 1, 2)), st.integers(0, 3), st.booleans())
def test_values_do_not_depend_on_axis_order_or_padding(case: Case, axes: list[int], pad: int, fortran: bool) -> None:
    """Turning the grid, enlarging the field of view or the memory order of the arrays changes nothing."""
    a, b, spacing = case
    turned = [np.pad(mask.transpose(axes), pad) for mask in (a, b)]
    turned = [np.asfortranarray(mask) if fortran else mask for mask in turned]
    one = MaskPair.of(a, b, spacing)
    x, y, z = (spacing[axis] for axis in axes)
    two = MaskPair.of(turned[0], turned[1], (x, y, z))
    assert (two.hd95, two.nsd(2.05)) == pytest.approx((one.hd95, one.nsd(2.05)))
    assert (two.assd, two.adjacency) == pytest.approx((one.assd, one.adjacency))
    assert (two.n_prediction, two.n_reference, two.n_hit) == (one.n_prediction, one.n_reference, one.n_hit)


@settings(max_examples=40, deadline=None)
@given(pairs())
@example((np.ones((1, 1, 1), dtype=bool), np.ones((1, 1, 1), dtype=bool), (1.0, 1.0, 1.0)))
def test_a_mask_is_at_no_distance_from_itself(case: Case) -> None:
    """Against itself a mask scores 1 or 0, and swapping the masks changes no symmetric metric."""
    a, b, spacing = case
    same = MaskPair.of(a, a, spacing)
    assert (same.dice, same.hd95, same.assd, same.nsd(0.0), same.adjacency, same.cldice) == (1, 0, 0, 1, 0, 1)
    there, back = MaskPair.of(a, b, spacing), MaskPair.of(b, a, spacing)
    assert (there.hd95, there.nsd(1)) == (back.hd95, back.nsd(1))
    assert (there.assd, there.adjacency, there.cldice) == pytest.approx((back.assd, back.adjacency, back.cldice))


def test_far_voxels_are_found() -> None:
    """Masks farther apart than the offsets reach are measured through the tree, exactly."""
    a, b = np.zeros((60, 9, 9), dtype=bool), np.zeros((60, 9, 9), dtype=bool)
    a[2, 4, 4] = b[52, 4, 4] = True
    assert MaskPair.of(a, b, (1.5, 1.0, 1.0)).hd95 == 75.0


def test_masks_of_different_shape_are_refused() -> None:
    """Two shapes cannot be compared; the message names both."""
    with pytest.raises(ValueError, match=r"\(2, 2, 2\) and \(3, 2, 2\)"):
        MaskPair.of(np.ones((2, 2, 2), dtype=bool), np.ones((3, 2, 2), dtype=bool), (1.0, 1.0, 1.0))


def sphere(radius: float, center: tuple[int, int, int]) -> Mask:
    x, y, z = np.ogrid[:99, :99, :99]
    return (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2 <= radius**2


def test_reference_values_monai_shifted_spheres() -> None:
    """MONAI's Hausdorff test: radius 20, centers one voxel apart on every axis: 1.7320508."""
    pair = MaskPair.of(sphere(20, (19, 19, 19)), sphere(20, (20, 20, 20)), (1.0, 1.0, 1.0))
    assert max(d.max() for d in pair.surface_distances_mm) == pytest.approx(1.7320508, abs=1e-6)


def test_reference_values_monai_spheres_in_spheres() -> None:
    """MONAI's Hausdorff test: radius 20 in radius 40: symmetric 20.2237, HD95 20.0998."""
    pair = MaskPair.of(sphere(20, (20, 33, 22)), sphere(40, (20, 33, 22)), (1.0, 1.0, 1.0))
    assert max(d.max() for d in pair.surface_distances_mm) == pytest.approx(20.2237, abs=1e-4)
    assert pair.hd95 == pytest.approx(20.0998, abs=1e-4)


def test_reference_values_surface_distance_cubes() -> None:
    """surface-distance's cubes, spacing (2, 1, 1): Dice 0.990 and Hausdorff 2.0 agree; its surfels are not ours."""
    a, b = np.zeros((100, 100, 100), dtype=bool), np.zeros((100, 100, 100), dtype=bool)
    a[:51], b[:50] = True, True
    pair = MaskPair.of(a, b, (2.0, 1.0, 1.0))
    assert pair.dice == pytest.approx(0.990, abs=5e-4)
    assert max(d.max() for d in pair.surface_distances_mm) == 2.0
    theirs = deepmind.compute_surface_distances(b, a, (2.0, 1.0, 1.0))
    assert deepmind.compute_average_surface_distance(theirs) == pytest.approx((0.322, 0.339), abs=5e-4)
    assert deepmind.compute_surface_overlap_at_tolerance(theirs, 1) == pytest.approx((0.842, 0.830), abs=5e-4)
    assert deepmind.compute_surface_dice_at_tolerance(theirs, 1) == pytest.approx(0.836, abs=5e-4)
    assert pair.assd != pytest.approx(0.33, abs=0.02)  # voxels instead of surfels, as the docstring says


def test_reference_values_surface_distance_single_voxels() -> None:
    """Two voxels 2 mm apart, spacing (3, 2, 1): 1.5 mm between surfels, 2 mm between voxel centers."""
    a, b = np.zeros((100, 100, 100), dtype=bool), np.zeros((100, 100, 100), dtype=bool)
    a[50, 60, 70] = b[50, 60, 72] = True
    theirs = deepmind.compute_surface_distances(b, a, (3, 2, 1))
    assert deepmind.compute_average_surface_distance(theirs) == pytest.approx((1.5, 1.5))
    assert deepmind.compute_surface_dice_at_tolerance(theirs, 1) == pytest.approx(0.5)
    pair = MaskPair.of(a, b, (3.0, 2.0, 1.0))
    assert (pair.hd95, pair.assd, pair.nsd(1.0), pair.nsd(2.0)) == (2.0, 2.0, 0.0, 1.0)


def slab(shape: tuple[int, int], *boxes: tuple[slice, slice], thickness: int = 1) -> Mask:
    """A plane figure, repeated along a third axis."""
    figure = np.zeros(shape, dtype=bool)
    for box in boxes:
        figure[box] = True
    return np.repeat(figure[..., None], thickness, axis=2)


def test_reference_values_metrics_reloaded_stray_voxel() -> None:
    """Metrics Reloaded, figure 5c: a stray voxel in the reference puts the Hausdorff distance at 11.31.

    HD95 of the plane figure is 6.79 with 8 edge voxels in the square; in space its middle lies on the surface too, and
    the same interpolation over 10 instead of 9 voxels gives 0.55 instead of 0.6 of the distance.
    """
    square, stray = (slice(9, 12), slice(9, 12)), (slice(1, 2), slice(1, 2))
    pair = MaskPair.of(slab((14, 14), square), slab((14, 14), square, stray), (1.0, 1.0, 1.0))
    assert max(d.max() for d in pair.surface_distances_mm) == pytest.approx(11.31, abs=5e-3)
    assert pair.hd95 == pytest.approx(0.55 * 8 * np.sqrt(2), abs=1e-9)


def test_reference_values_metrics_reloaded_cross() -> None:
    """Metrics Reloaded, a square with arms: DSC 0.862, ASSD 0.44, NSD 0.89 at 1; a long prism has them in space."""
    square, arms = (slice(3, 8), slice(3, 8)), ((slice(5, 6), slice(1, 10)), (slice(1, 10), slice(5, 6)))
    cross, plain = (slab((11, 11), *boxes, thickness=400) for boxes in ((square, *arms), (square,)))
    pair = MaskPair.of(cross, plain, (1.0, 1.0, 1.0))
    assert pair.dice == pytest.approx(0.862, abs=5e-4)
    assert pair.assd == pytest.approx(0.44, abs=0.01)
    assert pair.nsd(1) == pytest.approx(0.89, abs=5e-3)
    assert pair.nsd(2) == 1
    there, back = pair.surface_distances_mm
    assert (there.mean() + back.mean()) / 2 == pytest.approx(
        0.425, abs=0.01
    )  # MASD, which the docstring tells from ASSD


def test_nsd_at_a_tolerance_of_one_voxel_on_an_oblique_single_precision_grid() -> None:
    """Moved by one voxel, all of a surface lies within a tolerance of one voxel, though float32 says 3.0000001 mm."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]]).astype(np.float32)
    spacing = tuple(float(size) for size in np.linalg.norm((turn * np.float32(3)).astype(float), axis=0))
    assert max(spacing) != 3.0
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[3:8, 3:8, 3:8] = True
    for axis in range(3):
        above = tuple(np.nextafter(np.float32(3), np.float32(4)) for _ in range(3))
        for sizes in (spacing, tuple(map(float, above))):
            pair = MaskPair.of(mask, np.roll(mask, 1, axis), (sizes[0], sizes[1], sizes[2]))
            assert pair.nsd(3.0) == 1.0
            assert pair.nsd(2.99) < 1.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*(st.floats(0.5, 4.0) for _ in range(3))), st.floats(-3, 3), st.floats(-3, 3))
def test_no_metric_depends_on_how_the_grid_is_turned(
    seed: int, spacing: tuple[float, float, float], a: float, b: float
) -> None:
    """Turned, and stored in single precision, or with its axes in another order: every metric stays what it was.

    The tolerance of NSD is a whole step, where rounding would decide.
    """
    rng = np.random.default_rng(seed)
    one, two = (ndimage.gaussian_filter(rng.normal(size=(9, 8, 10)), 1.2) > 0.05 for _ in range(2))
    around_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    around_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    stored = (around_z @ around_x @ np.diag(spacing)).astype(np.float32).astype(float)
    x, y, z = np.linalg.norm(stored, axis=0).tolist()
    order = rng.permutation(3)
    sizes = [spacing[axis] for axis in order]
    pairs = [
        MaskPair.of(one, two, spacing),
        MaskPair.of(one, two, (x, y, z)),
        MaskPair.of(one.transpose(order), two.transpose(order), (sizes[0], sizes[1], sizes[2])),
    ]
    step = spacing[int(rng.integers(3))]
    told = [[p.dice, p.nsd(step), p.nsd(2 * step), p.hd95, p.assd, p.adjacency] for p in pairs]
    np.testing.assert_allclose(told[1], told[0], rtol=1e-5)
    np.testing.assert_allclose(told[2], told[0], rtol=1e-9)
