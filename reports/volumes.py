"""Volumes small enough for a page: one gray image a participant and one overlay a case, as gzipped NIfTI."""

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..geometry import resample
from ..types import Volume

LAYERS = {"reference": 1, "prediction": 2, "after": 4, "tumor": 8}
"""Bits of an overlay's voxels; ``after`` is the prediction after fine-tuning."""

OVERVIEW_MM, DETAIL_MM = 2.5, 1.5
"""Voxels on pages of many participants and on a participant's own; coarser images keep their voxels."""

# Fewer shades compress better; the 64 that are left are more than the eye tells apart.
_GRAY_STEP = 4


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What the viewer loads for one image, as gzipped NIfTI in base64: uint8, RAS+, cropped to the head.

    Overlays, by case, share the image's grid; their voxels hold the bits of `LAYERS`.
    """

    image: str
    overlays: Mapping[str, str]

    @property
    def size(self) -> int:
        """Characters that it takes on a page."""
        return len(self.image) + sum(len(one) for one in self.overlays.values())


def pack(
    image: Volume,
    overlays: Mapping[str, Mapping[str, Volume]],
    box: NDArray[np.float64],
    window: tuple[float, float],
    spacing_mm: float,
) -> Packed:
    """Bring an image and the masks of its cases onto one small grid along world axes.

    The image may have any voxel order and be oblique; overlays, by case and layer, may each have a grid of their own.
    ``box`` is the part of the world to keep, shape (2, 3) in mm, ``window`` the values shown black and white,
    ``spacing_mm`` the edge of the voxels; images that are coarser keep their finest edge.

    Examples
    --------
    >>> ball = Volume(array=np.ones((8, 8, 8)), affine=np.diag([2.0, 2, 2, 1]))
    >>> box = np.array([[0.0, 0, 0], [14, 14, 14]])
    >>> packed = pack(ball, {"case": {"reference": ball}}, box, (0, 1), 2.0)
    >>> list(packed.overlays), gzip.decompress(base64.b64decode(packed.image))[344:347]
    (['case'], b'n+1')
    """
    edge = max(spacing_mm, min(image.spacing_mm))
    affine = np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = _corner(image, edge, box[0])
    x, y, z = (np.ceil((box[1] - box[0]) / edge).astype(int) + 1).tolist()
    shape = (x, y, z)
    gray = (_coarsen(image, edge, affine, shape) - window[0]) / max(window[1] - window[0], 1e-9)
    shades = (np.clip(gray, 0, 1) * 255).astype(np.uint8) // _GRAY_STEP * _GRAY_STEP
    done: dict[int, NDArray[np.uint8]] = {}  # a tumor is one object shared by the cases of a participant
    packed: dict[str, str] = {}
    for case, layers in overlays.items():
        # One byte a voxel holds every mask, one bit each, so that a case costs one volume.
        bits = np.zeros(shape, dtype=np.uint8)
        for name, mask in layers.items():
            if id(mask) not in done:
                done[id(mask)] = (_coarsen(mask, edge, affine, shape) >= 0.5).astype(np.uint8)
            bits |= done[id(mask)] * np.uint8(LAYERS[name])
        packed[case] = _encode(bits, affine)
    return Packed(image=_encode(shades, affine), overlays=packed)


def _corner(image: Volume, edge: float, corner: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest voxel of an image whose axes and spacing are the new grid's: its voxels are then copied as is."""
    axes = image.affine[:3, :3] / edge
    if not np.allclose(np.sort(np.abs(axes), axis=None), [0] * 6 + [1] * 3, atol=1e-6):
        return corner
    return image.world(np.round(image.voxels(corner)))


def _coarsen(
    volume: Volume, edge: float, affine: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    array = volume.array.astype(np.float32)
    # What is finer than the new grid is averaged first, or thin bundles would fall between its voxels. A Gaussian of
    # 0.4 times the excess, in voxels, keeps the volume of a bundle of two voxels within a third.
    sigma = [0.4 * max(edge / one - 1, 0.0) for one in volume.spacing_mm]
    if max(sigma) > 0.1:
        array = ndimage.gaussian_filter(array, sigma)
    return resample(volume.with_array(array), affine, shape).array


def _encode(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    import nibabel as nib

    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    # Without a time stamp the same voxels give the same bytes.
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()
