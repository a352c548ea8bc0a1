"""Fiber peaks on disk: which axes their components refer to, and reading them in world RAS+."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import file_digest, write_json
from ..images import read_image
from ..types import Case, Volume
from .layout import read_json, sidecar_path

Reference = Literal["xyz", "ijk", "bvec"]
"""World RAS+ axes; voxel axes; FSL's gradient axes (voxel axes, the first one mirrored unless already left-handed)."""

_ALIASES: dict[str, Reference] = {"xyz": "xyz", "world": "xyz", "ijk": "ijk", "voxel": "ijk", "bvec": "bvec"}
_WAY = (
    'Write a file of the same name ending in .json that holds {"OrientationEncoding": {"EncodingAxis": 3, '
    '"Reference": "xyz", "Type": "3vector"}}, with "xyz" for world axes (as MRtrix writes), "ijk" for voxel axes or '
    '"bvec" for FSL\'s; shiftkit check says which of them fits the anatomy'
)


def read_sidecar(path: Path) -> dict[str, Any]:
    """What the JSON files that apply to an image say of it, by the inheritance principle of BIDS; empty without any.

    A file applies if it has the image's suffix and no entity that the image has not; it lies beside the image or in
    one of the folders above, up to the cohort's own. What stands nearer to the image wins, key by key.

    Raises
    ------
    DataError
        If a file that applies is not a JSON object.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "sub-01" / "dwi").mkdir(parents=True)
    >>> _ = (root / "param-peaks_dwimap.json").write_text('{"OrientationEncoding": {"Reference": "xyz"}}')
    >>> read_sidecar(root / "sub-01" / "dwi" / "sub-01_param-peaks_dwimap.nii.gz")
    {'OrientationEncoding': {'Reference': 'xyz'}}
    """
    content: dict[str, Any] = {}
    for sidecar in _sidecars(path):
        content |= read_json(sidecar)
    return content


_MEANING = ("OrientationEncoding", "Virtual")
"""What a sidecar says that changes how an image is read."""


def meaning_digest(path: Path) -> str:
    """One SHA-256 over an image's file and, where sidecars say how it is read, what they say of that.

    Raises
    ------
    DataError
        If a sidecar that applies is not a JSON object.
    """
    sidecars = read_sidecar(path)
    told = {name: sidecars[name] for name in _MEANING if name in sidecars}
    digest = file_digest(path)
    return hashlib.sha256(f"{digest} {json.dumps(told, sort_keys=True)}".encode()).hexdigest() if told else digest


def _sidecars(path: Path) -> list[Path]:
    """The JSON files that apply to an image, the nearest one last."""
    folder = path.parent
    folders = [folder] if folder.is_dir() else []
    # Up to the cohort's own folder, which has none of these names.
    while folder.name.startswith(("sub-", "ses-")) or folder.name in ("anat", "dwi"):
        folder = folder.parent
        folders.append(folder)
    own = set(sidecar_path(path).stem.split("_"))
    suffix = sidecar_path(path).stem.rsplit("_", 1)[-1]
    found: list[Path] = []
    for place in reversed(folders):
        names = (name for name in os.listdir(place) if name.endswith(f"{suffix}.json"))  # noqa: PTH208 - ten times faster
        parts = {name: name.removesuffix(".json").split("_") for name in names}
        fitting = [name for name, words in parts.items() if words[-1] == suffix and own.issuperset(words)]
        found += [place / name for name in sorted(fitting, key=lambda name: (len(parts[name]), name))]
    return found


def write_peaks_sidecar(path: Path, reference: Reference = "xyz") -> None:
    """Say beside a file of peaks, at ``path``, which axes its vectors refer to.

    The fields are those of the BIDS proposal for diffusion derivatives (BEP016).
    """
    content = {"OrientationEncoding": {"EncodingAxis": 3, "Reference": reference, "Type": "3vector"}}
    write_json(sidecar_path(path), content)


def peaks_reference(path: Path) -> Reference:
    """Which axes the peaks at ``path`` refer to, by `read_sidecar`.

    Where no file says it, or one is damaged, the `DataError` holds the way to add one.
    """
    try:
        told = read_sidecar(path)
    except DataError as error:
        raise DataError(f"{error} {_WAY}.") from error
    encoding = told.get("OrientationEncoding")
    word = encoding.get("Reference") if isinstance(encoding, dict) else None
    if isinstance(word, str) and word in _ALIASES:
        return _ALIASES[word]
    found = "it is missing" if word is None else f"it is {word!r}"
    raise DataError(
        f"Peaks need a sidecar whose OrientationEncoding.Reference is xyz, ijk or bvec; in the files that apply to "
        f"{path} {found}. {_WAY}."
    )


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
    # FSL mirrors the first axis where the voxel axes are right-handed.
    if reference == "bvec" and np.linalg.det(rotation) > 0:
        rotation = rotation @ np.diag([-1.0, 1.0, 1.0])
    return np.asarray(rotation)


def read_peaks(path: Path) -> Volume:
    """Read peaks as float32, shape (X, Y, Z, 9): three vectors a voxel in world RAS+, as long as their amplitude.

    Grid and voxel order are the file's own; where there is no peak, the vector is zero.

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
    """Read the peaks of a case; see `read_peaks`. `DataError` if it has none."""
    if "peaks" not in case.images:
        raise DataError(f"Peaks are needed here; {case.key} has none. Make them with shiftkit prepare.")
    return read_peaks(case.images["peaks"])
