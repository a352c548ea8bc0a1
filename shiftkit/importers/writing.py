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
from ..geometry import same_grid
from ..images import read_image, read_mask, write_image
from ..types import Bundle, Volume
from ..work import Work
from .hcp105 import GRID_AFFINE, GRID_SHAPE
from .sources import Found, MaskSource, read_stack
from .streamlines import header_grid, is_legacy, read_streamlines, streamline_mask

# Voxel size where nothing names one: that of the HCP's diffusion images.
_SPACING_MM = 1.25
# Share of points that may leave the grid, as fibers to the spinal cord do.
_MOST_OUTSIDE = 0.05

Grid = tuple[NDArray[np.float64], tuple[int, int, int]]


def write_cohort(root: Path, name: str, found: Sequence[Found], group: str, least: int, work: Work) -> None:
    """Write participants, tables and description; `DataError` for damaged files and streamlines without a grid."""
    for one in work.each(found, "Importing"):
        _write_participant(root, one, least)
        read_stack.cache_clear()  # no stack is kept longer than for its participant
    rows = pd.DataFrame({"participant_id": [one.participant_id for one in found], "group": group})
    if any(one.split != "n/a" for one in found):
        rows["split"] = [one.split for one in found]
    if any(one.tumor is not None for one in found):
        rows["tumor_side"] = [_side(root, one) for one in found]
        rows["tumor_volume_ml"] = [_volume_ml(root, one) for one in found]
    rows["session"] = [one.session or "" for one in found]
    # Of several sessions the first, before whatever was done in between, says side and volume.
    first = rows.sort_values(["participant_id", "session"]).drop_duplicates("participant_id")
    write_participants(root, first.drop(columns="session"))
    write_description(root, f"imported from {name}", ImportedFrom=name)


def _write_participant(root: Path, one: Found, least: int) -> None:
    key = one.key
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
        write_image(_mask(source, grid, least), mask_path(root, key, bundle))
    for part, source in (("tumor", one.tumor), ("core", one.core)):
        if source is not None:
            write_image(source.read_mask(), tumor_path(root, key, part))
    if one.brain:
        brain = mask_path(root, key, Bundle(name="X")).with_name(f"{key}_desc-brain_mask.nii.gz")
        write_image(_union(one.brain), brain)
    for part, path in one.raw.items():
        ending = {"dwi": "dwi.nii.gz", "bval": "dwi.bval", "bvec": "dwi.bvec"}[part]
        if part == "dwi":
            read_image(path)  # a damaged file is found here, not in the middle of `prepare`
        destination = image_path(root, key, "fa").with_name(f"{key}_{ending}")
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)


def _union(paths: Sequence[Path]) -> Volume:
    """All that any of several masks marks, on the grid of the first; `DataError` if they do not share it."""
    masks = [MaskSource(path=path).read_mask() for path in paths]
    if not all(same_grid(masks[0], one) for one in masks):
        raise DataError(f"Masks of tissues must share a grid; {paths[0].name} and those beside it do not, {paths[0]}.")
    return masks[0].with_array(np.logical_or.reduce([one.array for one in masks]))


def _mask(source: MaskSource, grid: Grid | None, least: int) -> Volume:
    if grid is None or not source.is_streamlines:
        return source.read_mask()
    return mask_of_tractogram(source, grid, least)


def mask_of_tractogram(source: MaskSource, grid: Grid, least: int) -> Volume:
    """Voxels of a grid that so many streamlines pass through; `DataError` if these lie elsewhere."""
    points, lengths = read_streamlines(source.path, GRID_AFFINE, source.group)
    affine, shape = grid
    volume = streamline_mask(points, lengths, affine, shape, least)
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


# Share of a tumor that lies in one hemisphere, from which it is that one's.
_ONE_SIDED = 0.8


def _side(root: Path, one: Found) -> str:
    """The tumor's hemisphere, by the middle of the brain in the T1w image: that of the world may be anywhere."""
    path, t1w = tumor_path(root, one.key), image_path(root, one.key, "t1w")
    if not (path.is_file() and t1w.is_file()):
        return "n/a"
    tumor, image = read_mask(path), read_image(t1w)
    if not tumor.array.any() or not image.array.any():
        return "n/a"
    brain = image.with_array(image.array != 0).points_inside()[:, 0]
    # The outline, which a tumor on one side does not move.
    middle = np.quantile(brain, [0.01, 0.99]).mean()
    left = float((tumor.points_inside()[:, 0] < middle).mean())
    return "left" if left >= _ONE_SIDED else "right" if left <= 1 - _ONE_SIDED else "bilateral"


def _volume_ml(root: Path, one: Found) -> str:
    path = tumor_path(root, one.key)
    if not path.is_file():
        return "n/a"
    mask = read_mask(path)
    return f"{float(mask.array.sum()) * mask.voxel_volume_ml:.1f}"
