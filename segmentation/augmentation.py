"""Random transforms of a sample: each draws its parameters and calls a deterministic twin."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .data import COORDINATE_CHANNELS, Sample


def augment(sample: Sample, rng: np.random.Generator) -> Sample:
    """Shift, scale and noise, as healthy scans of one site differ; see the deterministic twins.

    Parameters
    ----------
    sample : Sample
        Is not changed.
    rng : Generator
        Source of every drawn parameter.
    """
    moved = shift(sample, tuple(int(n) for n in rng.integers(-2, 3, 3)))
    scaled = scale(moved, float(rng.uniform(0.85, 1.15)))
    noise = rng.standard_normal(scaled.image[:-COORDINATE_CHANNELS].shape, np.float32)
    return add_noise(scaled, noise * np.float32(rng.uniform(0, 0.06)))


def shift(sample: Sample, voxels: tuple[int, int, int]) -> Sample:
    """Move image and masks by whole voxels, as a misplaced box would; the coordinates stay.

    What leaves the box on one side is lost; zeros come in on the other.
    """
    image = sample.image.copy()
    image[:-COORDINATE_CHANNELS] = _moved(image[:-COORDINATE_CHANNELS], voxels)
    target = None if sample.target is None else _moved(sample.target, voxels)
    return replace(sample, image=image, target=target)


def scale(sample: Sample, factor: float) -> Sample:
    """Multiply the image channels."""
    image = sample.image.copy()
    image[:-COORDINATE_CHANNELS] *= np.float32(factor)
    return replace(sample, image=image)


def add_noise(sample: Sample, noise: NDArray[np.float32]) -> Sample:
    """Add noise where there is signal; the background stays empty."""
    image = sample.image.copy()
    channels = image[:-COORDINATE_CHANNELS]
    image[:-COORDINATE_CHANNELS] = channels + noise * (np.abs(channels).max(axis=0) > 0)
    return replace(sample, image=image)


def _moved(array: NDArray, voxels: tuple[int, int, int]) -> NDArray:
    moved = np.zeros_like(array)
    source = tuple(slice(max(0, -n), size - max(0, n)) for n, size in zip(voxels, array.shape[1:], strict=True))
    target = tuple(slice(max(0, n), size - max(0, -n)) for n, size in zip(voxels, array.shape[1:], strict=True))
    moved[:, *target] = array[:, *source]
    return moved
