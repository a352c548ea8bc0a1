"""Smoothing of many channels."""

import numpy as np
import pytest
from scipy import ndimage

from shiftkit.phantoms.smoothing import smooth


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sigma", [(0.8, 0.8, 0.8), (0.6, 0.0, 3.1), (0.0, 9.0, 0.0)])
@pytest.mark.parametrize("wrap", [False, True])
def test_smoothing_is_scipys_to_the_bit(dtype: type, sigma: tuple[float, ...], wrap: bool) -> None:
    """Channels last or first, kernels longer than the image, mirrored or wrapped: the numbers are SciPy's."""
    image = np.random.default_rng(0).standard_normal((11, 7, 45, 4)).astype(dtype)
    mode = "wrap" if wrap else "reflect"
    channels = np.moveaxis(image, -1, 0)
    wanted = np.stack([ndimage.gaussian_filter(one, sigma, mode=mode, truncate=2.5) for one in channels])
    last = smooth(image, sigma, truncate=2.5, wrap=wrap)
    first = smooth(channels, sigma, first_axis=1, truncate=2.5, wrap=wrap)
    assert last.dtype == first.dtype == dtype
    np.testing.assert_array_equal(first, wanted)
    np.testing.assert_array_equal(np.moveaxis(last, -1, 0), wanted)


def test_what_is_not_smoothed_stays_as_it_is() -> None:
    """A width of zero changes nothing, and the image that was handed in is not written to."""
    image = np.random.default_rng(1).standard_normal((5, 6, 7))
    before = image.copy()
    assert (smooth(image, (0.0, 0.0, 0.0)) == before).all()
    assert not (smooth(image, (1.0, 0.0, 0.0)) == before).all()
    assert (image == before).all()
