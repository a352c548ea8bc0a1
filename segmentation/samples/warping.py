"""Deterministic transforms that move anatomy: masks, images and the directions of peaks move together.

Peaks are axes, and a sample gives each of them the sign that makes its largest component positive
(`samples.canonical_peaks`). What turns directions restores that convention, and what interpolates between
voxels first gives the neighbors a common sign.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .samples import Sample, canonical_peaks

Array = NDArray[np.float32]


def shift(sample: Sample, voxels: tuple[int, int, int]) -> Sample:
    """Move image and masks by whole voxels, as a misplaced box would; the coordinates stay.

    What leaves the box on one side is lost; zeros come in on the other.
    """
    target = None if sample.target is None else _moved(sample.target, voxels)
    return sample.with_channels(_moved(sample.channels, voxels), target=target)


def mirror(sample: Sample) -> Sample:
    """Reflect the anatomy at the box's middle sagittal plane.

    Left bundles become right bundles, so their masks swap channels, and the x components of peaks change
    sign. Mirroring twice gives the sample back, to the bit. A `ValueError` if a bundle's mirror image is not among the
    sample's bundles.
    """
    channels = sample.channels[:, ::-1].copy()
    for vectors in sample.vector_channels:
        channels[vectors.start] *= -1  # x runs from left to right
        channels[vectors] = _canonical(channels[vectors])
    if sample.target is None or sample.known is None:
        return sample.with_channels(channels)
    order = [sample.bundles.index(bundle.mirrored) for bundle in sample.bundles]
    return sample.with_channels(channels, target=sample.target[order, ::-1].copy(), known=sample.known[order])


def canonical(sample: Sample) -> Sample:
    """Give every peak the sign that the network is used to; see `samples.canonical_peaks`."""
    image = sample.image.copy()
    for vectors in sample.vector_channels:
        image[vectors] = _canonical(image[vectors])
    return replace(sample, image=image)


def warp(sample: Sample, displacement: Array) -> Sample:
    """Deform the anatomy: the value at x comes from x + u(x).

    A fiber with direction v at x + u(x) runs along (I + ∂u/∂x)⁻¹ v at x, by the chain rule; lengths of peaks
    stay what they were, for they are amplitudes.

    ``displacement`` is u in voxels, shape (3, X, Y, Z); the sample's voxel axes lie along the world's, as those of the
    model's grid do.

    References
    ----------
    Alexander DC et al. IEEE Trans Med Imaging 2001;20:1131, doi 10.1109/42.963816.
    """
    shape = sample.image.shape[1:]
    where = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij")) + displacement
    made = np.zeros_like(sample.channels)
    for part in sample.scalar_channels:
        for channel in range(part.start, part.stop):
            made[channel] = ndimage.map_coordinates(sample.channels[channel], where, order=1)
    # The map pulls values from where they were, so directions go the other way: by the inverse of its derivative.
    inverse = _inverse_jacobian(displacement)
    for vectors in sample.vector_channels:
        pulled = interpolate_axes(sample.channels[vectors], where)
        made[vectors] = _canonical(_turn(pulled, inverse))
    if sample.target is None:
        return sample.with_channels(made)
    # More than half of a voxel, as when a mask is brought onto the model's grid.
    masks = [ndimage.map_coordinates(mask.astype(np.float32), where, order=1) > 0.5 for mask in sample.target]
    return sample.with_channels(made, target=np.stack(masks))


def interpolate_axes(vectors: Array, where: Array) -> Array:
    """Interpolate a field of axes linearly, after giving the eight neighbors the sign of the heaviest one.

    ``vectors`` has shape (3, X, Y, Z), one vector a voxel, of either sign; ``where`` (3, ...) are points in voxels.
    Zeros lie outside.
    """
    base = np.floor(where).astype(int)
    share = where - base
    corners: list[tuple[Array, Array]] = []
    size = np.array(vectors.shape[1:]).reshape(3, *[1] * (where.ndim - 1))
    for offset in product((0, 1), repeat=3):
        step = np.array(offset).reshape(3, *[1] * (where.ndim - 1))
        place = base + step
        inside = ((place >= 0) & (place < size)).all(axis=0)
        x, y, z = np.clip(place, 0, size - 1)
        weight = np.where(step == 1, share, 1 - share).prod(axis=0) * inside
        corners.append((vectors[:, x, y, z], weight.astype(np.float32)))
    # Opposite signs of one axis would cancel in a mean; a peak that counts little must not decide which sign leads.
    heaviest = np.argmax([weight * np.linalg.norm(values, axis=0) for values, weight in corners], axis=0)
    lead = np.take_along_axis(np.stack([values for values, _ in corners]), heaviest[None, None], axis=0)[0]
    total = np.zeros_like(lead)
    for values, weight in corners:
        total += values * np.where((values * lead).sum(axis=0) < 0, -weight, weight)
    return total


def elastic_field(
    shape: tuple[int, ...], rng: np.random.Generator, *, amplitude: float, smoothness: float
) -> NDArray[np.float64]:
    """Draw a smooth displacement of given root mean square length and correlation length, both in voxels."""
    # Truncated early: the tails of a wide Gaussian cost most of the time and hardly bend anything.
    field = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), smoothness, truncate=2) for _ in range(3)])
    return np.asarray(field * amplitude / max(float(np.sqrt((field**2).sum(axis=0).mean())), 1e-12))


def _turn(vectors: Array, matrices: Array) -> Array:
    turned = np.einsum("...ij,j...->i...", matrices, vectors)
    before, after = np.linalg.norm(vectors, axis=0), np.linalg.norm(turned, axis=0)
    return (turned * np.divide(before, after, out=np.zeros_like(before), where=after > 0)).astype(np.float32)


def _inverse_jacobian(displacement: Array) -> Array:
    gradient = np.stack([np.stack(np.gradient(component), axis=-1) for component in displacement], axis=-2)
    return np.asarray(np.linalg.inv(np.eye(3, dtype=np.float32) + gradient), dtype=np.float32)


def _canonical(vectors: Array) -> Array:
    return np.moveaxis(canonical_peaks(np.moveaxis(vectors, 0, -1)), -1, 0)


def _moved(array: NDArray, voxels: tuple[int, int, int]) -> NDArray:
    moved = np.zeros_like(array)
    there, here = overlap(voxels, array.shape[1:])
    moved[:, *there] = array[:, *here]
    return moved


def overlap(voxels: Sequence[int], shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where in a box that is moved by whole voxels what stays in it lies, after and before.

    Examples
    --------
    >>> overlap((2, -1), (10, 10))
    ((slice(2, 10, None), slice(0, 9, None)), (slice(0, 8, None), slice(1, 10, None)))
    """
    before = tuple(slice(max(0, -n), size - max(0, n)) for n, size in zip(voxels, shape, strict=True))
    after = tuple(slice(max(0, n), size - max(0, -n)) for n, size in zip(voxels, shape, strict=True))
    return after, before
