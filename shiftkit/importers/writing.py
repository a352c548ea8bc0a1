"""Writing what an importer found as a cohort."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..cohorts import image_path, mask_path, tumor_path, write_description, write_participants
from ..errors import DataError
from ..files import write_text
from ..images import read_image, write_image
from ..peaks import write_peaks_sidecar
from ..types import Bundle, Volume
from .hcp105 import GRID_AFFINE, GRID_SHAPE
from .sources import Found, MaskSource
from .streamlines import header_grid, read_streamlines, streamline_mask

Grid = tuple[NDArray[np.float64], tuple[int, int, int]]


def write_cohort(
    root: Path, name: str, found: Sequence[Found], group: str, progress: Callable[[int, int, str], None] | None = None
) -> None:
    """Write participants, tables and description below ``root``.

    Raises
    ------
    DataError
        If a file is damaged, or streamlines come without any grid.
    """
    for done, one in enumerate(found, start=1):
        _write_participant(root, one)
        if progress is not None:
            progress(done, len(found), "Importing")
    rows = pd.DataFrame({"participant_id": [one.participant_id for one in found], "group": group})
    if any(one.split != "n/a" for one in found):
        rows["split"] = [one.split for one in found]
    if any(one.tumor is not None for one in found):
        rows["tumor_volume_ml"] = [_volume_ml(root, one) for one in found]
    write_participants(root, rows.sort_values("participant_id"))
    write_description(root, f"imported from {name}", ImportedFrom=name)
    write_text(root / ".bidsignore", "*_param-*_dwimap.*\n*_probseg.*\n")


def _write_participant(root: Path, one: Found) -> None:
    key = one.participant_id
    for modality, path in one.images.items():
        volume = read_image(path)
        write_image(volume.with_array(np.nan_to_num(volume.array)), image_path(root, key, modality))
        if modality == "peaks":
            write_peaks_sidecar(image_path(root, key, modality))
    for bundle, source in one.masks.items():
        write_image(_mask(source, one), mask_path(root, key, bundle))
    for part, source in (("tumor", one.tumor), ("core", one.core)):
        if source is not None:
            write_image(source.read_mask(), tumor_path(root, key, part))
    if one.brain is not None:
        brain = mask_path(root, key, Bundle(name="X")).with_name(f"{key}_desc-brain_mask.nii.gz")
        write_image(MaskSource(path=one.brain).read_mask(), brain)
    for part, path in one.raw.items():
        ending = {"dwi": "dwi.nii.gz", "bval": "dwi.bval", "bvec": "dwi.bvec"}[part]
        if part == "dwi":
            read_image(path)  # a damaged file is found here, not in the middle of `prepare`
        destination = root / key / "dwi" / f"{key}_{ending}"
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)


def _mask(source: MaskSource, one: Found) -> Volume:
    if not source.is_streamlines:
        return source.read_mask()
    affine, shape = _grid(source, one)
    points, lengths = read_streamlines(source.path, GRID_AFFINE)
    return streamline_mask(points, lengths, affine, shape)


def _grid(source: MaskSource, one: Found) -> Grid:
    """The grid of the participant's first image, else the one the streamlines' header names, else HCP's."""
    for path in one.images.values():
        volume = read_image(path)
        return volume.affine, volume.shape
    own = header_grid(source.path)
    if own is not None:
        return own
    if source.path.suffix == ".trk":
        return GRID_AFFINE, GRID_SHAPE
    raise DataError(
        f"Streamlines become masks on a grid; {source.path} names none and {one.participant_id} has no image."
    )


def _volume_ml(root: Path, one: Found) -> str:
    path = tumor_path(root, one.participant_id)
    if not path.is_file():
        return "n/a"
    volume = read_image(path)
    return f"{float((volume.array > 0.5).sum()) * volume.voxel_volume_ml:.1f}"
