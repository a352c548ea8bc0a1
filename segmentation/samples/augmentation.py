"""Random transforms of a sample: each draws its parameters and calls a deterministic twin.

The twins of this module change intensities; those that move anatomy are in `warping`. The coordinate
channels are never touched by either: they say where the box is, not what is in it.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from .samples import COORDINATE_CHANNELS, Sample
from .warping import canonical, elastic_field, mirror, overlap, shift, warp

Array = NDArray[np.float32]
Augment = Callable[[Sample, np.random.Generator], Sample]


def none(sample: Sample, rng: np.random.Generator) -> Sample:
    """Leave the sample as it is."""
    return sample


def light(sample: Sample, rng: np.random.Generator) -> Sample:
    """Shift, scale and noise, as healthy scans of one site differ."""
    x, y, z = rng.integers(-2, 3, 3).tolist()  # how far centers of brains are missed, in voxels
    moved = shift(sample, (x, y, z))
    factor = np.float32(rng.uniform(0.85, 1.15))
    channels, noise = moved.channels, rng.standard_normal(moved.channels.shape, np.float32)
    # As `scale` and `add_noise`, but in place, in the array that `shift` has made: it is what every step waits for.
    channels *= factor
    noise *= np.float32(rng.uniform(0, 0.06))
    noise *= moved.brain
    channels += noise
    return moved


def light_on_device(image: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What `light` does, for one participant's image and target that are on a GPU.

    Shifts and scales are the same draws; noise is drawn by the device, where it takes no time, and so is other noise.
    """
    voxels = rng.integers(-2, 3, 3).tolist()
    factor = float(rng.uniform(0.85, 1.15))
    generator = torch.Generator(image.device).manual_seed(int(rng.integers(2**62)))
    sd = float(rng.uniform(0, 0.06))
    moved, masks = torch.zeros_like(image), torch.zeros_like(target)
    moved[-COORDINATE_CHANNELS:] = image[-COORDINATE_CHANNELS:]
    there, here = overlap(voxels, image.shape[1:])
    channels = moved[:-COORDINATE_CHANNELS]
    channels[:, *there] = image[:-COORDINATE_CHANNELS, *here] * factor
    masks[:, *there] = target[:, *here]
    noise = torch.randn(channels.shape, generator=generator, device=image.device)
    channels += noise * sd * channels.any(dim=0)
    return moved, masks


def strong(sample: Sample, rng: np.random.Generator) -> Sample:
    """Other brains and other scanners: affine, elastic and acquisition changes, mirroring where that is meaningful.

    A sample whose bundles come in pairs is mirrored half of the time; see `warping.mirror`.
    """
    in_pairs = bool(sample.bundles) and {bundle.mirrored for bundle in sample.bundles} == set(sample.bundles)
    if in_pairs and rng.random() < 0.5:
        sample = mirror(sample)
    if rng.random() < 0.5:
        sample = warp(sample, draw_field(sample, rng))
    return acquisition(sample, rng)


def acquisition(sample: Sample, rng: np.random.Generator) -> Sample:
    """What scanners and protocols change: contrast, resolution, blur and noise; anatomy stays.

    The ranges span research scans (isotropic, little noise) to clinical ones (thick slices, more noise and
    a coarser angular resolution, which shows as noisier and weaker peaks).
    """
    if rng.random() < 0.5:
        # Drawn on the scale of logarithms, so that more contrast is as likely as less.
        sample = gamma(sample, float(np.exp(rng.uniform(-0.3, 0.3))))
    if rng.random() < 0.3:
        x, y, z = rng.uniform(0, 0.8, 3).tolist()
        sample = blur(sample, (x, y, z))
    if rng.random() < 0.3:
        factors = np.ones(3)
        factors[rng.integers(3)] = rng.uniform(1, 2.5)  # thick slices are thick along one axis, any of them
        x, y, z = factors.tolist()
        sample = lower_resolution(sample, (x, y, z))
    sample = scale(sample, float(rng.uniform(0.75, 1.25)))
    noise = rng.standard_normal(sample.channels.shape, np.float32)
    # Noise can turn a peak's largest component: its sign is chosen anew, as for any loaded image.
    return canonical(add_noise(sample, noise * np.float32(rng.uniform(0, 0.15))))


AUGMENTATIONS: Mapping[str, Augment] = {"none": none, "light": light, "strong": strong, "acquisition": acquisition}
"""Every augmentation, by name."""

ON_DEVICE: Mapping[str, Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]] = {
    "light": light_on_device
}
"""Those that a GPU makes of whole boxes by itself; of the others its host's threads make ready batches."""


def draw_field(sample: Sample, rng: np.random.Generator) -> Array:
    """Draw a smooth displacement in voxels, shape (3, X, Y, Z), for `warping.warp`.

    Rotation to 8°, scaling to 8 %, and elastic bending of about 2 voxels.
    """
    shape = sample.image.shape[1:]
    angles = np.deg2rad(rng.uniform(-8, 8, 3))
    matrix = _rotation(angles) @ np.diag(rng.uniform(0.92, 1.08, 3))
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij"))
    affine = np.tensordot(matrix - np.eye(3), grid, axes=1)  # about the box's center, as a displacement
    return np.asarray(affine + elastic_field(shape, rng, amplitude=2.0, smoothness=10.0), dtype=np.float32)


def scale(sample: Sample, factor: float) -> Sample:
    """Multiply the image channels."""
    return sample.with_channels(sample.channels * np.float32(factor))


def add_noise(sample: Sample, noise: Array) -> Sample:
    """Add noise where there is signal; the background stays empty."""
    return sample.with_channels(sample.channels + noise * sample.brain)


def gamma(sample: Sample, exponent: float) -> Sample:
    """Change contrast: scalar values v become v^exponent; peaks keep their directions, their lengths change so.

    Signs are kept, so the transform with exponent 1/g undoes the one with exponent g.
    """
    channels = sample.channels.copy()
    for part in sample.scalar_channels:
        channels[part] = np.sign(channels[part]) * np.abs(channels[part]) ** np.float32(exponent)
    for vectors in sample.vector_channels:
        length = np.linalg.norm(channels[vectors], axis=0)
        # length^exponent / length; the inner 1 keeps 0 from being raised to a negative power.
        factor = np.where(length > 0, np.where(length > 0, length, 1) ** np.float32(exponent - 1), 0)
        channels[vectors] *= factor
    return sample.with_channels(channels)


def blur(sample: Sample, sigma: tuple[float, float, float]) -> Sample:
    """Gaussian blur with standard deviations in voxels; what lay outside the brain stays empty."""
    return _inside(sample, lambda channel: np.asarray(ndimage.gaussian_filter(channel, sigma), dtype=np.float32))


def lower_resolution(sample: Sample, factors: tuple[float, float, float]) -> Sample:
    """Sample more coarsely by the given factors and interpolate back; factor 1 changes nothing along its axis."""
    shape = sample.image.shape[1:]
    # In voxels of the whole box: a side of one could not be interpolated back.
    coarse = [max(2, round(n / factor)) for n, factor in zip(shape, factors, strict=True)]

    def there_and_back(channel: Array) -> Array:
        down, up = np.divide(coarse, shape), np.divide(shape, coarse)
        small = ndimage.zoom(channel, down, order=1, grid_mode=True, mode="nearest")
        return np.asarray(ndimage.zoom(small, up, order=1, grid_mode=True, mode="nearest"), dtype=np.float32)

    return _inside(sample, there_and_back)


def _inside(sample: Sample, change: Callable[[Array], Array]) -> Sample:
    return sample.with_channels(np.stack([change(channel) for channel in sample.channels]) * sample.brain)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
