"""Fiber peaks on disk: which axes their components refer to, and reading them in world RAS+."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .files import write_text
from .images import read_image
from .types import Case, Volume

Reference = Literal["xyz", "ijk", "bvec"]
"""World RAS+ axes; voxel axes; FSL's gradient axes (voxel axes, the first one mirrored unless already left-handed)."""

_ALIASES: dict[str, Reference] = {"xyz": "xyz", "world": "xyz", "ijk": "ijk", "voxel": "ijk", "bvec": "bvec"}
_WAY = (
    'Write a file of the same name ending in .json that holds {"OrientationEncoding": {"EncodingAxis": 3, '
    '"Reference": "xyz", "Type": "3vector"}}, with "xyz" for world axes (as MRtrix writes), "ijk" for voxel axes or '
    '"bvec" for FSL\'s; shiftkit check says which of them fits the anatomy'
)


def sidecar_path(path: Path) -> Path:
    """The JSON file beside an image.

    Examples
    --------
    >>> sidecar_path(Path("sub-01_T1w.nii.gz")).name
    'sub-01_T1w.json'
    """
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def write_peaks_sidecar(path: Path, reference: Reference = "xyz") -> None:
    """Say beside a file of peaks, at ``path``, which axes its vectors refer to.

    The fields are those of the BIDS proposal for diffusion derivatives (BEP016).
    """
    content = {"OrientationEncoding": {"EncodingAxis": 3, "Reference": reference, "Type": "3vector"}}
    write_text(sidecar_path(path), json.dumps(content, indent=2) + "\n")


def peaks_reference(path: Path) -> Reference:
    """Which axes the peaks at ``path`` refer to, read from the sidecar.

    Raises
    ------
    DataError
        If there is no sidecar, or it does not say it. The message holds the way to add one.
    """
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        raise DataError(f"Peaks need a sidecar that says which axes they refer to; {path} has none. {_WAY}.")
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        word = content["OrientationEncoding"]["Reference"]
        return _ALIASES[word]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The sidecar of peaks must give OrientationEncoding.Reference as xyz, ijk or bvec; {sidecar} does not "
            f"({type(error).__name__}: {error}). {_WAY}."
        ) from error


def frame_rotation(affine: NDArray[np.float64], reference: Reference) -> NDArray[np.float64]:
    """The 3 × 3 matrix that turns vectors of a reference into world RAS+ axes.

    Examples
    --------
    >>> frame_rotation(np.diag([-2.0, 2, 2, 1]), "ijk").diagonal().tolist()
    [-1.0, 1.0, 1.0]
    """
    if reference == "xyz":
        return np.eye(3)
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    rotation = u @ vt  # the nearest orthogonal matrix: a sheared affine must not lengthen vectors
    if reference == "bvec" and np.linalg.det(rotation) > 0:
        rotation = rotation @ np.diag([-1.0, 1.0, 1.0])
    return np.asarray(rotation)


def read_peaks(path: Path) -> Volume:
    """Read peaks, with components in world RAS+ and zero vectors where there is no peak.

    Parameters
    ----------
    path : Path
        Image of shape (X, Y, Z, 9): three vectors a voxel, as long as their amplitude.

    Returns
    -------
    Volume
        float32, shape (X, Y, Z, 9), on the file's own grid and voxel order.

    Raises
    ------
    DataError
        If the image cannot be read, has not nine volumes, or has no usable sidecar.
    """
    reference = peaks_reference(path)
    volume = read_image(path)
    if volume.array.ndim != 4 or volume.array.shape[3] != 9:
        raise DataError(f"Peaks are an image of 9 volumes, three vectors a voxel; {path} has {volume.array.shape}.")
    array = np.nan_to_num(volume.array, posinf=0.0, neginf=0.0)
    if reference != "xyz":
        rotation = frame_rotation(volume.affine, reference).astype(np.float32)
        array = (array.reshape(*array.shape[:3], 3, 3) @ rotation.T).reshape(array.shape)
    return volume.with_array(array)


def load_peaks(case: Case) -> Volume:
    """Read the peaks of a case in world RAS+; see `read_peaks`.

    Raises
    ------
    DataError
        As `read_peaks`, or if the case has no peaks.
    """
    if "peaks" not in case.images:
        raise DataError(f"Peaks are needed here; {case.key} has none. Make them with shiftkit prepare.")
    return read_peaks(case.images["peaks"])
