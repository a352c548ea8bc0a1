import numpy as np
from makers.segmentation import BUNDLES, SHAPE, on_grid, random_sample

from shiftkit.images import read_mask
from shiftkit.segmentation.samples.samples import canonical_peaks, load_sample, to_own_grid
from shiftkit.types import Cohort


def test_the_way_to_the_model_grid_and_back_is_exact(controls: Cohort) -> None:
    """At the model's own spacing nothing is interpolated: a mask comes back to the bit."""
    case = controls.cases[0]
    sample = load_sample(case, "fa", 2.5, SHAPE, BUNDLES)
    assert sample.target is not None
    for channel, bundle in zip(sample.target, BUNDLES, strict=True):
        back = to_own_grid(channel.astype(np.float32), sample)
        assert np.array_equal(back.array > 0.5, read_mask(case.masks[bundle]).array)


def test_model_grid_runs_from_left_to_right(controls: Cohort) -> None:
    """On the model's grid the first axis runs to the right: the left bundle lies in its lower half."""
    sample = on_grid(controls.cases[:1])[0]
    assert sample.target is not None
    assert np.argwhere(sample.target[0])[:, 0].mean() < SHAPE[0] / 2 < np.argwhere(sample.target[1])[:, 0].mean()
    assert np.linalg.det(sample.affine[:3, :3]) > 0 and (np.diag(sample.affine)[:3] == 2.5).all()


def test_canonical_peaks_take_nan_and_empty_images() -> None:
    """NaN becomes a voxel without a peak, and an image without any peak stays empty."""
    peaks = np.zeros((3, 3, 3, 9), np.float32)
    assert not canonical_peaks(peaks).any()
    peaks[1, 1, 1] = np.nan
    peaks[0, 0, 0, :3] = [0.2, 0.1, -0.7]
    made = canonical_peaks(peaks)
    assert np.isfinite(made).all()
    np.testing.assert_allclose(made[0, 0, 0, :3], [-0.2, -0.1, 0.7])


def test_the_brain_is_where_any_channel_is_not_zero() -> None:
    """Coordinates do not count, and stay when channels change."""
    sample = random_sample()
    channels = sample.channels.copy()
    channels[:, :4] = 0
    channels[1:, 4:6] = 0
    cut = sample.with_channels(channels)
    assert not cut.brain[:4].any() and cut.brain[4:].all()
    assert np.array_equal(cut.image[-3:], sample.image[-3:]) and np.array_equal(cut.channels, channels)
