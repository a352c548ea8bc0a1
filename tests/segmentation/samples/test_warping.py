from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers.segmentation import BUNDLES, random_sample

from shiftkit.segmentation.samples import warping
from shiftkit.segmentation.samples.samples import COORDINATE_CHANNELS, Sample
from shiftkit.types import Bundle

SHAPE = (12, 14, 10)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_mirroring_twice_is_the_identity(seed: int) -> None:
    """A reflection is its own inverse: image, masks and what is known come back to the bit."""
    sample = random_sample(seed)
    twice = warping.mirror(warping.mirror(sample))
    assert np.array_equal(twice.image, sample.image)
    assert np.array_equal(twice.target, sample.target)
    assert np.array_equal(twice.known, sample.known)


def test_mirroring_swaps_left_and_right() -> None:
    """The left bundle's mask becomes the right one's, reflected; a midline bundle stays in its channel."""
    sample = random_sample()
    mirrored = warping.mirror(sample)
    assert np.array_equal(mirrored.target[0], sample.target[1][::-1])
    assert np.array_equal(mirrored.target[2], sample.target[2][::-1])
    assert mirrored.known.tolist() == [False, True, True]


def test_mirroring_flips_the_x_of_peaks_and_only_that() -> None:
    """An axis (x, y, z) becomes (−x, y, z), whichever sign it is written with; coordinates stay."""
    sample = random_sample()
    mirrored = warping.mirror(sample)
    before = sample.image[1:4, ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None, None]
    after = mirrored.image[1:4]
    assert np.all(np.isclose(np.abs((before * after).sum(0)), (before**2).sum(0), rtol=1e-5))
    assert np.array_equal(mirrored.image[0], sample.image[0, ::-1])
    assert np.array_equal(mirrored.image[-COORDINATE_CHANNELS:], sample.image[-COORDINATE_CHANNELS:])


def test_mirroring_needs_both_sides() -> None:
    """Without a channel for the mirror image the transform is refused instead of mislabeling a bundle."""
    with pytest.raises(ValueError, match="not in"):
        warping.mirror(replace(random_sample(), bundles=(BUNDLES[0], Bundle.parse("CC"), Bundle.parse("PYTleft"))))


def test_warping_by_nothing_changes_nothing() -> None:
    """A displacement of zero is the identity on scalars, peaks and masks."""
    sample = random_sample()
    still = warping.warp(sample, np.zeros((3, *SHAPE), np.float32))
    np.testing.assert_allclose(still.image, sample.image, atol=1e-5)
    assert np.array_equal(still.target, sample.target)


def along(direction: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Sample:
    """Peaks that all point along one direction."""
    sample = random_sample(shape=shape)
    image = sample.image.copy()
    image[1:10] = 0
    image[1:4] = np.asarray(direction, np.float32)[:, None, None, None]
    return warping.canonical(replace(sample, image=image))


def angle_deg(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    cosine = np.abs(np.tensordot(direction, vectors, axes=1)) / np.linalg.norm(vectors, axis=0).clip(1e-9)
    return np.rad2deg(np.arccos(np.clip(cosine / np.linalg.norm(direction), 0, 1)))


@given(st.floats(-40, 40), st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_rotating_the_anatomy_rotates_its_fibers(degrees: float, axis: int) -> None:
    """Under a rotation R of the anatomy a fiber along v runs along R v."""
    shape = (16, 16, 16)
    direction = np.array([0.8, 0.5, 0.33])
    a, b = [i for i in range(3) if i != axis]
    rotation = np.eye(3)
    rotation[[a, a, b, b], [a, b, a, b]] = [
        np.cos(np.deg2rad(degrees)),
        -np.sin(np.deg2rad(degrees)),
        np.sin(np.deg2rad(degrees)),
        np.cos(np.deg2rad(degrees)),
    ]
    centered = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
    displacement = np.tensordot(rotation.T - np.eye(3), centered, axes=1).astype(np.float32)
    turned = warping.warp(along(direction, shape), displacement).image[1:4]
    core = turned[:, 6:10, 6:10, 6:10]
    assert angle_deg(core, rotation @ direction).max() < 0.1
    np.testing.assert_allclose(np.linalg.norm(core, axis=0), np.linalg.norm(direction), rtol=1e-3)


def test_shear_turns_fibers_by_the_jacobian() -> None:
    """With x ← x + s·y pulled, fibers along y tilt to (−s, 1, 0) and fibers along x keep their direction."""
    y = np.arange(SHAPE[1], dtype=np.float32)[None, :, None] - SHAPE[1] / 2
    displacement = np.zeros((3, *SHAPE), np.float32)
    displacement[0] = 0.3 * y
    inner = (slice(None), slice(5, 7), slice(5, 9), slice(3, 7))
    tilted = warping.warp(along(np.array([0, 1, 0])), displacement).image[1:4][inner]
    assert angle_deg(tilted, np.array([-0.3, 1, 0])).max() < 0.1
    kept = warping.warp(along(np.array([1, 0, 0])), displacement).image[1:4][inner]
    assert angle_deg(kept, np.array([1, 0, 0])).max() < 0.1


def test_a_line_and_its_fibers_move_together() -> None:
    """Fibers are tangent to the curve that their bundle's mask becomes: mask and peaks use one deformation."""
    shape = (40, 40, 5)
    sample = along(np.array([1, 0, 0]), shape)
    mask = np.zeros((3, *shape), bool)
    mask[0, :, 19:21] = True
    displacement = np.zeros((3, *shape), np.float32)
    x = np.arange(40, dtype=np.float32)
    displacement[1] = (6 * np.sin(x / 40 * 2 * np.pi))[:, None, None]
    bent = warping.warp(replace(sample, target=mask), displacement)
    centers = np.array([np.flatnonzero(bent.target[0, i, :, 2]).mean() for i in range(40)])
    slope = np.gradient(np.convolve(centers, np.ones(5) / 5, mode="same"))
    for i in range(6, 34):
        vector = bent.image[1:4, i, round(centers[i]), 2]
        assert abs(np.degrees(np.arctan2(vector[1], vector[0]) - np.arctan(slope[i]))) < 8


def test_interpolated_axes_do_not_depend_on_their_signs() -> None:
    """An axis has no sign: flipping any vector of the field changes the interpolated axes' sign at most."""
    rng = np.random.default_rng(3)
    smooth = np.stack([np.full((5, 5, 5), 0.9), *rng.uniform(-0.3, 0.3, (2, 5, 5, 5))]).astype(np.float32)
    flips = rng.choice([-1, 1], (1, 5, 5, 5)).astype(np.float32)
    where = rng.uniform(0, 4, (3, 50)).astype(np.float32)
    plain = warping.interpolate_axes(smooth, where)
    flipped = warping.interpolate_axes(smooth * flips, where)
    np.testing.assert_allclose(np.abs((plain * flipped).sum(0)), (plain**2).sum(0), rtol=1e-4)


def test_shifting_there_and_back_keeps_the_inside() -> None:
    """A shift and its opposite differ from the identity only in what left the box."""
    sample = random_sample()
    back = warping.shift(warping.shift(sample, (2, -1, 0)), (-2, 1, 0))
    inside = (slice(None), slice(0, -2), slice(1, None), slice(None))
    assert np.array_equal(back.image[inside], sample.image[inside])
