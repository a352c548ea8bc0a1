"""Writing what an importer found as a cohort."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..cohorts.folder import image_path, mask_path, tumor_path, write_description, write_participants
from ..cohorts.peaks import write_peaks_sidecar
from ..errors import DataError
from ..files import write_text
from ..images import read_image, read_mask, write_image
from ..types import Bundle, Volume
from ..work import Work
from .hcp105 import GRID_AFFINE, GRID_SHAPE
from .sources import Found, MaskSource
from .streamlines import header_grid, is_legacy, read_streamlines, streamline_mask

# Voxel size where nothing names one: that of the HCP's diffusion images.
_SPACING_MM = 1.25
# Share of points that may leave the grid, as fibers to the spinal cord do.
_MOST_OUTSIDE = 0.05

Grid = tuple[NDArray[np.float64], tuple[int, int, int]]


def write_cohort(root: Path, name: str, found: Sequence[Found], group: str, work: Work) -> None:
    """Write participants, tables and description; `DataError` for damaged files and streamlines without a grid."""
    for one in work.each(found, "Importing"):
        _write_participant(root, one)
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
        if np.isinf(volume.array).any():
            raise DataError(f"{path} must hold finite numbers; it holds infinite ones. Export it again.")
        # NaN is how some tools say that nothing was measured there.
        write_image(volume.with_array(np.nan_to_num(volume.array)), image_path(root, key, modality))
        if modality == "peaks":
            write_peaks_sidecar(image_path(root, key, modality))
    grid = _grid(one) if any(source.is_streamlines for source in one.masks.values()) else None
    for bundle, source in one.masks.items():
        write_image(_mask(source, grid), mask_path(root, key, bundle))
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


def _mask(source: MaskSource, grid: Grid | None) -> Volume:
    if grid is None or not source.is_streamlines:
        return source.read_mask()
    points, lengths = read_streamlines(source.path, GRID_AFFINE)
    affine, shape = grid
    volume = streamline_mask(points, lengths, affine, shape)
    voxels = volume.voxels(points)
    # Voxels reach half an edge beyond their centers.
    outside = ((voxels < -0.5) | (voxels > np.array(shape) - 0.5)).any(axis=1)
    if len(points) and outside.mean() > _MOST_OUTSIDE:
        raise DataError(
            f"Streamlines must lie on the images' grid; {outside.mean():.0%} of the points of {source.path} lie "
            "outside. They are in another space or another participant's: bring them into the images' space first."
        )
    return volume


def _grid(one: Found) -> Grid:
    """Where a participant's streamlines become masks.

    The grid of the first image; else the one that the headers name; else HCP's for headers too old to name
    one; else voxels of 1.25 mm around all streamlines.
    """
    for path in one.images.values():  # the first: all are on one grid, or the check of grids says so
        volume = read_image(path)
        return volume.affine, volume.shape
    paths = [source.path for source in one.masks.values() if source.is_streamlines]
    if own := next(filter(None, map(header_grid, paths)), None):
        return own
    if all(is_legacy(path) for path in paths):
        return GRID_AFFINE, GRID_SHAPE
    every = np.concatenate([read_streamlines(path)[0] for path in paths])
    # With a voxel of margin at each side.
    low, high = np.floor(every.min(axis=0) / _SPACING_MM - 1), np.ceil(every.max(axis=0) / _SPACING_MM + 1)
    affine = np.diag([_SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = low * _SPACING_MM
    x, y, z = (int(n) + 1 for n in high - low)
    return affine, (x, y, z)


def _volume_ml(root: Path, one: Found) -> str:
    path = tumor_path(root, one.participant_id)
    if not path.is_file():
        return "n/a"
    mask = read_mask(path)
    return f"{float(mask.array.sum()) * mask.voxel_volume_ml:.1f}"
