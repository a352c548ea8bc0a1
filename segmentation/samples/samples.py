"""From a participant's images to the model's grid and back.

The model's grid is a box of fixed size around the brain's center, in RAS order. Besides the image's
channels the network sees where each voxel lies relative to that center, so that left and right are known
whatever the patch.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...cohorts.peaks import load_peaks
from ...errors import DataError, ModelMismatchError
from ...geometry import resample
from ...images import read_image, read_mask
from ...types import MODALITIES, Bundle, Case, Volume

Array = NDArray[np.float32]
COORDINATE_CHANNELS = 3
NORMALIZATION = {
    "scalar": "1st and 99th percentile of voxels that are not 0 become 0 and 1, clipped to -0.5 and 2; background 0",
    "peaks": "world RAS+, largest component positive; 95th percentile of the first peak's length becomes 1",
    "coordinates": "three last channels: x, y, z from the center of the box, in units of 100 mm",
}
"""What is done to images before a network sees them, for whoever has the network alone."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One participant on the model's grid.

    Parameters
    ----------
    key : str
        Participant and session.
    image : ndarray, shape (C, X, Y, Z)
        Normalized channels, then three coordinate channels in units of 100 mm.
    affine : ndarray, shape (4, 4)
        Of the model's grid for this participant, RAS+ mm.
    own_affine, own_shape
        The participant's own grid.
    target : ndarray of bool, shape (B, X, Y, Z), or None
        Reference masks in the model's order.
    known : ndarray of bool, shape (B,), or None
        Which bundles the participant's annotation has.
    modality : str
        What the image channels are; a stack is joined by ``+``.
    bundles : tuple of Bundle
        What the target's channels are.
    """

    key: str
    image: Array
    affine: NDArray[np.float64]
    own_affine: NDArray[np.float64]
    own_shape: tuple[int, int, int]
    target: NDArray[np.bool_] | None = None
    known: NDArray[np.bool_] | None = None
    modality: str = "peaks"
    bundles: tuple[Bundle, ...] = ()

    @property
    def channels(self) -> Array:
        """The image's own channels: where they are 0 throughout, there is no brain."""
        return self.image[:-COORDINATE_CHANNELS]

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Where any channel is not 0."""
        return np.asarray(self.channels.any(axis=0))

    def with_channels(self, channels: Array, **changes: Any) -> Self:
        """Other channels beside the same coordinates, and whatever else is to change."""
        image = np.concatenate([channels, self.image[-COORDINATE_CHANNELS:]]).astype(np.float32, copy=False)
        return replace(self, image=image, **changes)

    @property
    def scalar_channels(self) -> list[slice]:
        """Where the channels of each scalar image are."""
        return [part for name, part in _channel_slices(self.modality) if name != "peaks"]

    @property
    def vector_channels(self) -> list[slice]:
        """Where the x, y and z component of each peak are."""
        return [
            slice(start, start + 3)
            for name, part in _channel_slices(self.modality)
            if name == "peaks"
            for start in range(part.start, part.stop, 3)
        ]


def channels_of(modality: str) -> int:
    """Number of image channels of a modality or of a stack such as ``t1w+fa``."""
    return sum(MODALITIES.get(part, 1) for part in modality.split("+"))


def _channel_slices(modality: str) -> list[tuple[str, slice]]:
    slices: list[tuple[str, slice]] = []
    for name in modality.split("+"):
        start = slices[-1][1].stop if slices else 0
        slices.append((name, slice(start, start + MODALITIES.get(name, 1))))
    return slices


def load_sample(
    case: Case,
    modality: str,
    spacing_mm: float,
    shape: tuple[int, int, int],
    bundles: tuple[Bundle, ...] = (),
) -> Sample:
    """Load one participant onto the model's grid, with reference masks if ``bundles`` are named.

    Masks that the case lacks are marked as not known.

    Raises
    ------
    DataError
        If a modality is missing or an image is empty.
    ModelMismatchError
        If an image has another number of channels than its modality says, or voxels more than twice as large as
        the model's.
    """
    images = [_load_image(case, part, spacing_mm) for part in modality.split("+")]
    own = images[0]
    affine = _model_affine(images, spacing_mm, shape)
    on_grid = [resample(image, affine, shape) for image in images]
    channels = [np.moveaxis(np.atleast_3d(v.array).reshape(*shape, -1), -1, 0) for v in on_grid]
    image = np.concatenate([*channels, _coordinates(spacing_mm, shape)]).astype(np.float32)
    target = known = None
    if bundles:
        known = np.array([bundle in case.masks for bundle in bundles])
        nothing = np.zeros(shape, dtype=bool)
        masks = [mask_on_grid(path, affine, shape) if (path := case.masks.get(one)) else nothing for one in bundles]
        target = np.stack(masks)
    return Sample(
        key=case.key,
        image=image,
        affine=affine,
        own_affine=own.affine,
        own_shape=own.shape,
        target=target,
        known=known,
        modality=modality,
        bundles=bundles,
    )


def to_own_grid(channel: Array, sample: Sample) -> Volume:
    """Put one channel on the model's grid back onto the participant's own grid."""
    return resample(Volume(array=channel, affine=sample.affine), sample.own_affine, sample.own_shape)


def canonical_peaks(peaks: Array) -> Array:
    """Give every peak the sign that makes its largest component positive; NaN becomes 0.

    A peak is an axis: both signs mean the same, and software differs in which one it writes.

    Parameters
    ----------
    peaks : ndarray, shape (X, Y, Z, 9)
        Three peaks in world axes.

    Examples
    --------
    >>> canonical_peaks(np.array([0.1, -0.9, 0, 0, 0, 0, 0, 0, 0], dtype=np.float32).reshape(1, 1, 1, 9))[0, 0, 0, :2]
    array([-0.1,  0.9], dtype=float32)
    """
    flat = np.nan_to_num(peaks, posinf=0.0, neginf=0.0).astype(np.float32).reshape(-1, peaks.shape[-1])
    brain = flat.any(axis=-1)  # most voxels are empty: leave them out of the work
    vectors = flat[brain].reshape(-1, peaks.shape[-1] // 3, 3)
    # Of equal components the first one leads, so that both signs of an axis end as the same peak.
    lead = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=-1, keepdims=True), axis=-1)
    flat[brain] = (vectors * np.where(lead < 0, np.float32(-1), np.float32(1))).reshape(len(vectors), flat.shape[1])
    return flat.reshape(peaks.shape)


def _load_image(case: Case, modality: str, spacing_mm: float) -> Volume:
    if modality not in case.images:
        there = ", ".join(sorted(case.images)) or "no image"
        raise DataError(
            f"The model reads {modality}; {case.key} has {there}. Add the missing image, or use a model for another "
            "modality."
        )
    path = case.images[modality]
    volume = load_peaks(case) if modality == "peaks" else read_image(path)
    found = 1 if volume.array.ndim == 3 else volume.array.shape[3]
    expected = MODALITIES.get(modality, 1)
    if found != expected:
        raise ModelMismatchError(
            f"An image of {modality} has {expected} channel{'s' * (expected > 1)}; {path.name} of {case.key} has "
            f"{found}. Put the image that its name promises in its place, or name this one for what it is."
        )
    if max(volume.spacing_mm) > _COARSEST * spacing_mm:
        raise ModelMismatchError(
            f"The model works at {spacing_mm:g} mm and needs images of at most twice that spacing; {path.name} of "
            f"{case.key} has voxels of {' × '.join(f'{x:.3g}' for x in volume.spacing_mm)} mm. Use a coarser model."
        )
    array = _normalize_peaks(volume.array) if modality == "peaks" else _normalize(np.nan_to_num(volume.array))
    if not array.any():
        raise DataError(f"An image must not be empty; {path.name} of {case.key} is zero everywhere.")
    return volume.with_array(array)


def _normalize_peaks(peaks: Array) -> Array:
    """Canonical signs, and the 95th percentile of the first peak's length set to 1: software differs in scale."""
    array = canonical_peaks(peaks)
    length = np.linalg.norm(array[..., :3], axis=-1)  # not the maximum: one odd voxel must not set the scale
    inside = length[length > 0]
    return array / np.float32(np.percentile(inside, 95)) if inside.size else array


def _normalize(array: Array) -> Array:
    """Scale so that the brain's 1st and 99th percentiles become 0 and 1; the background stays 0."""
    brain = array != 0
    if not brain.any():
        return array
    # The outermost percent is vessels and artifacts; somewhat beyond is kept, for lesions can be brighter.
    low, high = np.percentile(array[brain], [1, 99])
    return np.asarray(np.clip((array - low) / max(high - low, 1e-6), -0.5, 2) * brain, dtype=np.float32)


def _model_affine(images: list[Volume], spacing_mm: float, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """RAS grid around the brain; snapped to the image's own voxels, so that equal spacings interpolate nothing."""
    first = images[0]
    brain = first if first.array.ndim == 3 else first.with_array(np.asarray(first.array.any(axis=-1)))
    # Percentiles, for a single bright voxel far outside must not move the box.
    center = np.percentile(brain.points_inside(), [1, 99], axis=0).mean(axis=0)
    # A corner half-way between voxels is rounded towards the same place in the world, however axes run.
    corner = center - spacing_mm * ((np.array(shape) - 1) / 2 - 1e-3)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = first.world(np.round(first.voxels(corner[None])))[0]
    return affine


def _coordinates(spacing_mm: float, shape: tuple[int, int, int]) -> Array:
    # In units of 100 mm, so that they are about as large as the normalized channels beside them.
    axes = [(np.arange(n) - (n - 1) / 2) * spacing_mm / 100 for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)


def mask_on_grid(path: Path, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where more than half of a voxel of a grid lies in a mask, by linear interpolation."""
    mask = read_mask(path)
    return np.asarray(resample(mask.with_array(mask.array.astype(np.float32)), affine, shape).array > 0.5)


_COARSEST = 2.02
"""Times the model's spacing: twice, and a little for spacings that were rounded when they were written."""

_BOX_MM = (160.0, 200.0, 160.0)
"""Right to left, back to front, bottom to top: what an adult's brain needs."""
_MULTIPLE = 16
"""Networks of four depths halve the grid three times, and one of five could be trained on the same box."""


def box_shape(spacing_mm: float) -> tuple[int, int, int]:
    """Shape of the smallest box that holds a brain at a spacing; RAS, each side a multiple of 16 voxels.

    Examples
    --------
    >>> box_shape(2.5), box_shape(2.0)
    ((64, 80, 64), (80, 112, 80))
    """
    x, y, z = (_MULTIPLE * math.ceil(length / spacing_mm / _MULTIPLE) for length in _BOX_MM)
    return x, y, z
