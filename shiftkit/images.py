"""NIfTI images in and out, and from one grid to another through full affines."""

import functools
import gzip
import hashlib
import io
import logging
import math
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ImageError
from .files import atomic
from .types import Cohort, Volume
from .words import readable


def read_image(path: Path, dtype: Any = np.float32, *, anywhere: bool = False) -> Volume:
    """Read a NIfTI file as it lies, shape (X, Y, Z) or (X, Y, Z, C) in the file's own grid and axis order.

    With ``anywhere`` the world that an affine leads to may be any, also one that no header declares, as for the checks,
    which tell what is wrong with it.

    Raises
    ------
    ImageError
        If the file is missing, empty, truncated, not NIfTI, does not declare its orientation, or is of absurd
        dimensions: voxels that no scanner makes, or places that none reaches.
    """
    if not path.is_file():
        raise ImageError(f"There is no image at {path}.")
    try:
        # A damaged header or scale factor carries values beyond a type: infinite ones. What is wrong is raised, not
        # logged.
        with np.errstate(all="ignore"), _unlogged():
            image = open_nifti(path)
            _require_sane_header(path, image.shape, np.dtype(image.get_data_dtype()))
            array = _voxels(path, image).astype(dtype, copy=False)
    except ImageError:
        raise
    except Exception as error:  # damaged files raise a dozen kinds, and nibabel's own share no other base
        raise ImageError(
            f"{path} must be a readable NIfTI image; it is damaged or of another kind ({readable(str(error))[:200]}). "
            "Copy it again from its source."
        ) from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    volume = Volume(array=array, affine=np.asarray(image.affine, dtype=np.float64))
    if not anywhere:
        _require_declared(path, image.header)
        _require_sane_grid(path, volume)
    return volume


def open_nifti(path: Path) -> Any:
    """The header of a NIfTI file of either version, and its voxels once they are asked for, as nibabel has them."""
    import nibabel as nib

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        size = stream.read(4)
    second = 540 in (int.from_bytes(size, "little"), int.from_bytes(size, "big"))
    return (nib.Nifti2Image if second else nib.Nifti1Image).from_filename(path)


def _voxels(path: Path, image: Any) -> NDArray[Any]:
    """Voxels of an opened file; a packed one is unpacked at once, which nibabel does in a thousand small parts.

    Its checksum is looked at too, which a reader of parts never reaches.
    """
    if path.suffix != ".gz":
        return np.asarray(image.dataobj)
    from nibabel.volumeutils import apply_read_scaling

    stored, count, offset = np.dtype(image.get_data_dtype()), math.prod(image.shape), int(image.dataobj.offset)
    whole = _unpacked(path.read_bytes(), offset + count * stored.itemsize)
    plain = np.frombuffer(whole, stored, count, offset).reshape(image.shape, order="F")
    scale, shift = (np.asanyarray(one) for one in (image.dataobj.slope, image.dataobj.inter))
    array = apply_read_scaling(plain, scale, shift)
    return array if array.flags.writeable else array.copy(order="K")


def _unpacked(packed: bytes, size: int) -> bytes:
    """The first bytes of what gzip packed; an error where it was cut off or its checksum is wrong."""
    unpacker = zlib.decompressobj(wbits=31)
    whole = unpacker.decompress(packed, size)
    if len(whole) < size:  # several members, one after the other
        with gzip.open(io.BytesIO(packed)) as stream:
            return stream.read(size)
    more = unpacker.decompress(unpacker.unconsumed_tail, 1)
    if not (more or unpacker.eof):
        raise EOFError("it ends before its checksum")
    return whole


def megavoxels(cohort: Cohort) -> float:
    """Millions of voxels of a participant's grid, from the header of the first image that can be read; 1 without any.

    For estimates of time and memory: all images of a participant share their grid, and those of a cohort nearly.
    """
    for case in cohort:
        for path in (*case.images.values(), *case.masks.values()):
            try:
                return float(np.prod(open_nifti(path).shape[:3])) / 1e6
            except Exception:  # damaged ones are told where they are read
                continue
    return 1.0


def is_declared(header: Any) -> bool:
    """Whether a NIfTI header says where left is; where both codes are 0 readers invent a frame, each its own."""
    return bool(header["sform_code"] or header["qform_code"])


def _require_declared(path: Path, header: Any) -> None:
    if not is_declared(header):
        raise ImageError(
            f"{path} must declare its orientation; the codes of its sform and qform are both 0, so nothing tells left "
            "from right. Convert it again from its source, or copy the geometry of an image of the same grid whose "
            "left and right you know, and set the code to 1 or 2."
        )


@contextmanager
def _unlogged() -> Generator[None]:
    """What nibabel repairs in a header goes nowhere: it would stand on the terminal, without the file's name."""
    from nibabel.imageglobals import logger

    # Its own context manager takes the handlers away, after which Python's last resort prints.
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


_EDGES_MM = (0.05, 50.0)
"""Edges of voxels: of the finest images of a whole brain ex vivo, and thicker than any slice."""
_FARTHEST_MM = 10_000.0
"""From the world's origin: a scanner's isocenter, or a point in a template, is at most a room away."""


def _require_sane_grid(path: Path, volume: Volume) -> None:
    """Refuse places that no scan has; distances, volumes and files made from them would be nonsense."""
    spacing = volume.spacing_mm
    last = np.array(volume.shape) - 1
    far = float(np.abs(volume.world(np.array([*np.ndindex(2, 2, 2)]) * last)).max())
    low, high = _EDGES_MM
    if low <= min(spacing) and max(spacing) <= high and far <= _FARTHEST_MM:
        return
    raise ImageError(
        f"{path} must lie in the world in millimeters, with voxels of {low:g}–{high:g} mm within "
        f"{_FARTHEST_MM / 1000:g} m of the origin; it has voxels of {' × '.join(f'{edge:.3g}' for edge in spacing)} "
        f"mm, up to {far:.3g} mm away. "
        "Correct the affine: it may be in other units."
    )


def _require_sane_header(path: Path, shape: tuple[int, ...], stored: np.dtype[Any]) -> None:
    """Refuse what would fill the memory before anything is read."""
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ImageError(f"{path} must be an image of three or four axes; its header says shape {shape}.")
    size = float(np.prod(shape, dtype=float)) * stored.itemsize
    # Deflate shrinks to a thousandth at most, so a file that is far smaller than that cannot hold the image.
    if size > 2**36 or size > 2000 * path.stat().st_size + 2**20:
        raise ImageError(
            f"{path} must hold the image that its header describes; shape {shape} asks for {size / 2**30:.1f} GiB and "
            f"the file has {path.stat().st_size} bytes. Copy it again from its source."
        )
    if stored.kind not in "iufb":
        raise ImageError(f"{path} must hold real numbers; its voxels are of type {stored}. Convert it.")


def read_mask(path: Path) -> Volume:
    """Read a mask: a three-dimensional image of 0 and one other value, or of probabilities, inside from 0.5 on.

    Raises `ImageError` as `read_image` does, if the image has channels, and as `inside` does.
    """
    volume = read_image(path)
    if volume.array.ndim != 3:
        raise ImageError(f"{path} must be a mask with three axes; it has shape {volume.array.shape}.")
    return volume.with_array(inside(volume.array, path))


_SLACK = 1e-3
"""By how much stored scale factors, float32 times float32, may miss a whole number."""


def inside(array: NDArray[Any], path: Path, threshold: float | None = None) -> NDArray[np.bool_]:
    """Which voxels of a stored mask are inside, or an `ImageError` with the range where that is not certain.

    Certain are 0 and one other value from 0.5 on, and probabilities, which lie in 0–1 and reach 0.5, or have a
    threshold of their own. Densities, percent, bytes, counts and label maps could be cut anywhere; NaN is outside where
    nothing is 0, else neither.

    Examples
    --------
    >>> inside(np.array([0.0, 0.2, 0.9]), Path("AFleft.nii.gz")).tolist()
    [False, False, True]
    """
    known = np.isfinite(array)
    if not known.all() and known.any() and array[known].min() > 0 and not np.isinf(array).any():
        array = np.nan_to_num(array)  # nothing is 0, so NaN is how the file says outside
    _require_finite(array, path)
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if low >= -_SLACK:
        half = max(high / 2, _SLACK)
        told = array[array != 0]  # few: a bundle is a small part of the brain
        binary = np.where(told >= half, np.abs(told - high) <= _SLACK * high, np.abs(told) <= _SLACK)
        if high <= _SLACK or (high >= 0.5 and binary.all()):
            return np.asarray((array >= half) & (high > _SLACK))
        if high <= 1 + _SLACK and (high >= 0.5 or threshold is not None):
            return np.asarray(array >= (0.5 if threshold is None else threshold))
    raise ImageError(
        f"{path} must be a mask: 0 and one other value, or probabilities that reach 0.5; its values run from {low:g} "
        f"to {high:g}, as those of densities, percent, counts or labels do. Write 1 where the bundle is, else 0."
    )


_LABEL_SLACK = 0.05
"""By how much labels stored as 256 steps miss a whole number; interpolated ones miss it by more."""


def whole_labels(array: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """The whole numbers of a label map, whose scale factor can make 3 into 2.9999998.

    An `ImageError` where values are NaN or far from any whole number.
    """
    _require_finite(array, path)
    labels = np.rint(array)
    far = np.abs(array - labels) > _LABEL_SLACK
    if far.any():
        raise ImageError(
            f"{path} must be a label map of whole numbers; {int(far.sum())} voxels hold others, such as "
            f"{float(array[far][0]):g}. Resample label maps with nearest neighbor, or write the labels anew."
        )
    return labels.astype(np.float32)


def _require_finite(array: NDArray[Any], path: Path) -> None:
    missing = int(array.size - np.isfinite(array).sum())
    if missing:
        raise ImageError(
            f"{path} must hold numbers; {missing} of {array.size} voxels are NaN or infinite. Write 0 where nothing is."
        )


def write_image(volume: Volume, path: Path, slope: float = 1.0) -> None:
    """Write a NIfTI file atomically; boolean arrays become uint8, and readers see values times ``slope``.

    The same voxels and affine give the same bytes: no time stamp goes into the file.
    """
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    header = _header(array.dtype.str, array.shape, volume.affine.astype(np.float64).tobytes(), slope)
    # At once: nibabel writes a slice after the other, which takes several times as long and gives the same bytes.
    plain = np.ascontiguousarray(array.T)  # x runs fastest
    content = header + plain.tobytes()
    if path.suffix == ".gz":
        # Noise has no patterns to look for, background has runs of zeros: twice as fast and no larger than the default.
        packer = zlib.compressobj(1, wbits=31, strategy=zlib.Z_RLE)
        content = packer.compress(content) + packer.flush()
    with atomic(path) as part:
        part.write_bytes(content)


@functools.lru_cache(maxsize=64)
def _header(dtype: str, shape: tuple[int, ...], affine: bytes, slope: float) -> bytes:
    """What a file begins with; the masks of a participant all begin alike."""
    import nibabel as nib

    nothing = np.broadcast_to(np.zeros((), dtype), shape)
    image = nib.Nifti1Image(nothing, np.frombuffer(affine).reshape(4, 4))
    image.header.set_xyzt_units("mm")
    # Code 2, aligned: other tools ignore an affine of code 0.
    image.set_sform(image.affine, code=2)
    image.set_qform(image.affine, code=2)
    header = image.header.copy()
    header.set_slope_inter(slope, 0.0)
    header["vox_offset"] = header.single_vox_offset
    return header.binaryblock + bytes(4)  # four bytes: no extension follows


def image_digest(path: Path) -> str:
    """SHA-256 of an image's voxel values and affine, whatever its compression or data type on disk."""
    volume = read_image(path, np.float32)
    # Adding zero turns −0 into 0: equal values must have equal digests.
    values = np.nan_to_num(volume.array) + np.float32(0)
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes())
    digest.update(np.round(volume.affine, 4).tobytes())
    digest.update(str(volume.array.shape).encode())
    return digest.hexdigest()
