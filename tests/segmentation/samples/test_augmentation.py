from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from makers.segmentation import random_sample

from shiftkit.segmentation.samples import augmentation, warping
from shiftkit.segmentation.samples.samples import COORDINATE_CHANNELS, Sample

SHAPE = (12, 14, 10)


@given(st.floats(0.4, 2.5))
@settings(max_examples=15, deadline=None)
def test_gamma_is_undone_by_its_inverse(exponent: float) -> None:
    """Exponents multiply, so g and 1/g cancel, for scalars and for the lengths of peaks alike."""
    sample = random_sample()
    back = augmentation.gamma(augmentation.gamma(sample, exponent), 1 / exponent)
    np.testing.assert_allclose(back.image, sample.image, rtol=2e-3, atol=1e-4)


def test_gamma_keeps_directions() -> None:
    """Contrast is about lengths: each peak stays parallel to itself."""
    sample = random_sample()
    changed = augmentation.gamma(sample, 1.7)
    cross = np.cross(sample.image[1:4], changed.image[1:4], axis=0)
    assert np.abs(cross).max() < 1e-4


def test_blur_and_resolution_keep_constants_and_empty_background() -> None:
    """Averages of equal values are that value, and voxels outside the brain stay zero."""
    sample = random_sample()
    image = sample.image.copy()
    image[:10] = 0.7
    flat = replace(sample, image=image)
    for changed in (augmentation.blur(flat, (1, 0.5, 2)), augmentation.lower_resolution(flat, (2, 1, 3))):
        np.testing.assert_allclose(changed.image[:10], 0.7, rtol=1e-5)
    image = image.copy()
    image[:10, :4] = 0
    assert not augmentation.blur(replace(sample, image=image), (2, 2, 2)).image[:10, :4].any()


def along(direction: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Sample:
    """Peaks that all point along one direction."""
    sample = random_sample(shape=shape)
    image = sample.image.copy()
    image[1:10] = 0
    image[1:4] = np.asarray(direction, np.float32)[:, None, None, None]
    return warping.canonical(replace(sample, image=image))


def test_lower_resolution_leaves_other_axes_alone() -> None:
    """Thick slices along z do not mix neighbors in the plane."""
    sample = random_sample()
    changed = augmentation.lower_resolution(sample, (1, 1, 2))
    image = sample.image.copy()
    image[:10, 3] += 1
    other = augmentation.lower_resolution(replace(sample, image=image), (1, 1, 2))
    assert np.array_equal(np.delete(changed.image, 3, axis=1), np.delete(other.image, 3, axis=1))


@pytest.mark.parametrize("name", sorted(augmentation.AUGMENTATIONS))
def test_every_augmentation_follows_its_generator(name: str) -> None:
    """The same generator state gives the same sample, the input is not changed, and shapes stay."""
    sample = random_sample()
    before = sample.image.copy()
    one = augmentation.AUGMENTATIONS[name](sample, np.random.default_rng(5))
    two = augmentation.AUGMENTATIONS[name](sample, np.random.default_rng(5))
    assert np.array_equal(one.image, two.image) and np.array_equal(one.target, two.target)
    assert np.array_equal(sample.image, before)
    assert one.image.shape == sample.image.shape and one.image.dtype == np.float32
    assert np.array_equal(one.image[-COORDINATE_CHANNELS:], before[-COORDINATE_CHANNELS:])
    assert np.isfinite(one.image).all()


def test_light_on_a_device_is_light_with_other_noise() -> None:
    """Anatomy moves and scales by the same draws as on the CPU, background and coordinates stay, noise has its size."""
    sample = random_sample(shape=(24, 22, 20))
    image = sample.image.copy()
    image[:-COORDINATE_CHANNELS, :5] = 0
    sample = replace(sample, image=image)
    tensors = torch.from_numpy(sample.image), torch.from_numpy(sample.target).float()
    for seed in range(4):
        made, target = augmentation.light_on_device(*tensors, np.random.default_rng(seed))
        again, _ = augmentation.light_on_device(*tensors, np.random.default_rng(seed))
        assert torch.equal(made, again)
        rng = np.random.default_rng(seed)
        voxels, factor = rng.integers(-2, 3, 3).tolist(), rng.uniform(0.85, 1.15)
        rng.integers(2**62)
        sd = rng.uniform(0, 0.06)
        moved = warping.shift(sample, tuple(voxels))
        host = augmentation.light(sample, np.random.default_rng(seed))
        assert np.array_equal(target.numpy() > 0.5, moved.target) and np.array_equal(moved.target, host.target)
        assert np.array_equal(made[-COORDINATE_CHANNELS:].numpy(), sample.image[-COORDINATE_CHANNELS:])
        noise = made.numpy()[:-COORDINATE_CHANNELS] - moved.channels * np.float32(factor)
        assert not noise[:, ~moved.brain].any()
        inside = noise[:, moved.brain]
        assert inside.std() == pytest.approx(sd, rel=0.05) and abs(inside.mean()) < 0.1 * sd
    before = torch.from_numpy(image.copy())
    assert torch.equal(tensors[0], before)
