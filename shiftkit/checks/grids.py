"""Grids: one shape and affine a participant, headers that agree with themselves, millimeters."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..cohorts.folder import other_name
from ..geometry import same_grid
from ..images import is_declared, open_nifti
from ..types import Volume
from .subject import Subject
from .verdict import Problem

_UNITS = {"meter": "meters", "micron": "micrometers"}
# Voxel sizes that occur in brain imaging.
_SPACING_MM = (0.2, 15.0)


def find(subject: Subject) -> Iterator[Problem]:
    """Problems with grids, headers and units."""
    for _, path, volume in subject.named():
        yield from _name(subject, path)
        yield from _header(subject, path, volume)
    yield from _common_grid(subject)


def _name(subject: Subject, path: Path) -> Iterator[Problem]:
    other = other_name(subject.case, path)
    if other:
        sentence = f"Files in the folder of {subject.case.key} carry its name; this one is called {other}."
        cure = "Find out whose image it is, and move or rename it."
        yield subject.problem("name", "error", path, sentence, cure)


def _header(subject: Subject, path: Path, volume: Volume) -> Iterator[Problem]:
    header = open_nifti(path).header
    units = str(header.get_xyzt_units()[0])
    spacing = volume.spacing_mm
    too_small, too_large = min(spacing) < _SPACING_MM[0], max(spacing) > _SPACING_MM[1]
    if units in _UNITS or too_small or too_large:
        # A voxel of 20 mm and less is under 0.02 in meters; one of 0.1 mm and more is over 100 in micrometers.
        guess = "meters" if max(spacing) < 0.02 else "micrometers" if min(spacing) > 100 else _UNITS.get(units, "")
        said = f" and the header says {units}" if units in _UNITS else ""
        found = f"they are {' × '.join(f'{size:.4g}' for size in spacing)}{said}"
        sentence = f"Voxel sizes are in mm, between {_SPACING_MM[0]:g} and {_SPACING_MM[1]:g}; {found}."
        looks = f"They look like {guess}: scale" if guess else "Scale"
        cure = f"{looks} the affine to mm and set the header's unit to mm."
        yield subject.problem("units", "error", path, sentence, cure)
    sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
    if not is_declared(header):
        sentence = "An image declares its orientation; the codes of its sform and qform are both 0, so nothing does."
        cure = (
            "Convert it again from its source, or copy the geometry of an image of the same grid whose left and right "
            "you know, and set the code to 1 or 2. A sidecar cannot say it."
        )
        yield subject.problem("undeclared", "error", path, sentence, cure)
    if sform[1] and qform[1]:
        apart = np.abs(np.asarray(sform[0]) - np.asarray(qform[0])).max()
        if apart > 0.1 * min(spacing):  # a qform is a rotation in single precision: less is rounding
            mirrored = np.linalg.det(sform[0][:3, :3]) * np.linalg.det(qform[0][:3, :3]) < 0
            differ = f"their entries differ by up to {apart:.3g} mm. The sform is used."
            if mirrored:  # no two spaces of a head are mirror images: one of them takes left for right
                differ = "one is the mirror image of the other, so left and right are not known."
            cure = "Copy the right one over the other, for example with nibabel's set_qform and set_sform."
            sentence = f"sform and qform must place voxels alike; {differ}"
            yield subject.problem("header", "error" if mirrored else "warning", path, sentence, cure)


def _common_grid(subject: Subject) -> Iterator[Problem]:
    grid = subject.grid
    if grid is None:
        return
    for what, path, volume in subject.named():
        if same_grid(volume, grid):
            continue
        if volume.shape != grid.shape:
            found = f"the {what} has shape {_times(volume.shape)}, the others {_times(grid.shape)}"
        elif volume.orientation != grid.orientation:
            found = f"the {what} is stored {volume.orientation}, the others {grid.orientation}"
        else:
            found = f"the affine of the {what} differs by up to {np.abs(volume.affine - grid.affine).max():.3g} mm"
        sentence = f"Images of a participant share shape and affine; {found}."
        yield subject.problem("grid", "error", path, sentence, _cure(volume, grid))


def _cure(volume: Volume, grid: Volume) -> str:
    # World axes along which the two grids run in opposite directions.
    a, b = (one.affine[:3, :3] / one.spacing_mm for one in (volume, grid))
    flipped = "".join("xyz"[i] for i in range(3) if (a * b).sum(axis=0)[i] < -0.99)
    # From the files alone it cannot be told whether affine or voxels are wrong, only that one of them is.
    if flipped:
        return (
            f"Either the affine is wrong: copy that of the other images; or the voxels are stored the other way along "
            f"{flipped}: resample onto the others' grid. Overlay the image on another one to see which."
        )
    return (
        "Resample onto the others' grid (nearest neighbor for masks); "
        "if the voxels already fit, copy the affine of the others."
    )


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape)
