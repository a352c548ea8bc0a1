import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers.segmentation import SHAPE, on_grid

from shiftkit.segmentation.samples.patches import crop, draw_corner, draw_patch
from shiftkit.segmentation.samples.samples import COORDINATE_CHANNELS, Sample
from shiftkit.types import Cohort


def test_a_patch_keeps_every_voxel_in_its_place(controls: Cohort) -> None:
    """Image, masks, coordinates and world positions in a patch are those of the same voxels in the box."""
    sample = on_grid(controls.cases[:1])[0]
    assert sample.target is not None
    patch = crop(sample, (5, 2, 7), (8, 16, 8))
    assert patch.target is not None and patch.key == sample.key
    assert np.array_equal(patch.image, sample.image[:, 5:13, 2:18, 7:15])
    assert np.array_equal(patch.target, sample.target[:, 5:13, 2:18, 7:15])
    np.testing.assert_allclose(patch.affine @ [1, 2, 3, 1], sample.affine @ [6, 4, 10, 1])
    # In the box the coordinates are those of its center; in the patch they still are.
    middle = (np.array(SHAPE) - 1) / 2
    expected = (np.array([5 + 1, 2 + 2, 7 + 3]) - middle) * 2.5 / 100
    np.testing.assert_allclose(patch.image[-COORDINATE_CHANNELS:, 1, 2, 3], expected, atol=1e-6)


def blocks(*, known: tuple[bool, ...] = (True, True, True)) -> Sample:
    """A box with a bundle of one voxel, one of a thousand, and an empty one."""
    target = np.zeros((3, 24, 20, 16), dtype=bool)
    target[0, 3, 15, 4] = True
    target[1, 10:20, 0:10, 5:15] = True
    image = np.random.default_rng(0).normal(size=(4, 24, 20, 16)).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-20, 5, 7]
    return Sample(
        key="sub-1",
        image=image,
        affine=affine,
        own_affine=affine,
        own_shape=(24, 20, 16),
        target=target,
        known=np.array(known),
        modality="fa",
    )


def test_a_patch_is_a_copy() -> None:
    """Changing a patch leaves the sample it was cut from as it was."""
    sample = blocks()
    before = sample.image.copy()
    crop(sample, (0, 0, 0), (4, 4, 4)).image[:] = 7
    assert np.array_equal(sample.image, before)


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 20), st.integers(1, 16)),
    seed=st.integers(0, 2**32),
    known=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=60, deadline=None)
def test_patches_lie_within_the_box(size: tuple[int, int, int], seed: int, known: tuple[bool, bool, bool]) -> None:
    """Whatever the size and the bundles, the patch lies in the box; the same generator draws the same patch."""
    sample = blocks(known=known)
    patch = draw_patch(sample, size, np.random.default_rng(seed))
    assert patch.image.shape == (4, *size) and patch.target is not None and patch.target.shape == (3, *size)
    assert np.array_equal(patch.image, draw_patch(sample, size, np.random.default_rng(seed)).image)


def test_small_bundles_are_seen_as_often_as_large_ones() -> None:
    """Half of the patches are around a bundle, and a bundle of one voxel gets as many as one of a thousand.

    Of patches of one voxel, the single voxel is hit by 1/4, the large bundle by 1/4 and by its share of the
    other half.
    """
    sample, rng = blocks(), np.random.default_rng(1)
    assert sample.target is not None
    corners = [draw_corner(sample, (1, 1, 1), rng) for _ in range(4000)]
    hits = np.array([sample.target[:, *corner] for corner in corners]).mean(axis=0)
    voxels = sample.target[0].size
    for share, size in zip(hits[:2], (1, 1000), strict=True):
        expected = 0.25 + 0.5 * size / voxels
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("size", [(5, 7, 3), (16, 8, 8), (24, 4, 16)])
def test_half_of_the_patches_hold_the_bundle(size: tuple[int, int, int]) -> None:
    """A patch drawn around a voxel contains it, near the box's edge too."""
    sample, rng = blocks(known=(True, False, True)), np.random.default_rng(3)
    targets = [draw_patch(sample, size, rng).target for _ in range(1000)]
    assert np.mean([target is not None and target[0].any() for target in targets]) > 0.5 - 4 * 0.5 / np.sqrt(1000)


def test_unknown_bundles_attract_no_patches() -> None:
    """What an annotation lacks is not looked for: without known bundles every place is equally likely."""
    rng = np.random.default_rng(2)
    sample = blocks(known=(False, False, True))
    corners = np.array([draw_corner(sample, (20, 16, 12), rng) for _ in range(5000)])
    counts = np.bincount(np.ravel_multi_index(tuple(corners.T), (5, 5, 5)), minlength=125)
    chi_squared = ((counts - 40) ** 2 / 40).sum()
    assert chi_squared < 124 + 4 * np.sqrt(2 * 124)


def test_patches_outside_the_box_are_refused() -> None:
    """A corner that would put a part of the patch outside is an error, not a smaller patch."""
    for corner in ((-1, 0, 0), (9, 0, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match="within the box"):
            crop(blocks(), corner, (16, 20, 16))
