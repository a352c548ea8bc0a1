"""A participant's images in memory, with every file that could not be read put aside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import DataError
from ..geometry import same_grid
from ..images import read_image
from ..types import Bundle, Case, Volume
from .verdict import Problem, Severity


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the checks look at: a participant's readable files, as stored, and problems of the other ones."""

    case: Case
    root: Path
    images: Mapping[str, Volume] = field(default_factory=dict[str, Volume])
    masks: Mapping[Bundle, Volume] = field(default_factory=dict[Bundle, Volume])
    tumor: Volume | None = None
    core: Volume | None = None
    damaged: tuple[Problem, ...] = ()

    def problem(self, check: str, severity: Severity, path: Path | None, sentence: str, cure: str) -> Problem:
        """A problem of this participant."""
        who, file = self.case.key, "" if path is None else relative(path, self.root)
        return Problem(participant=who, check=check, severity=severity, file=file, sentence=sentence, cure=cure)

    def named(self) -> Iterator[tuple[str, Path, Volume]]:
        """Every readable file: what it is, where it lies, what it holds."""
        for modality, volume in self.images.items():
            yield modality, self.case.images[modality], volume
        yield from self.named_masks()

    def named_masks(self) -> Iterator[tuple[str, Path, Volume]]:
        """Every readable mask."""
        for bundle, volume in self.masks.items():
            yield f"mask of {bundle.label}", self.case.masks[bundle], volume
        if self.case.tumor is not None and self.tumor is not None:
            yield "tumor mask", self.case.tumor, self.tumor
        if self.case.tumor_core is not None and self.core is not None:
            yield "mask of the tumor's core", self.case.tumor_core, self.core

    @cached_property
    def marked(self) -> Mapping[Path | None, Volume]:
        """Masks with three axes that mark at least a voxel, as boolean, by their paths."""
        masks = {path: v.with_array(inside(v)) for _, path, v in self.named_masks() if v.array.ndim == 3}
        return {path: mask for path, mask in masks.items() if mask.array.any()}

    @cached_property
    def grid(self) -> Volume | None:
        """The grid that most files share; the first one's where none is in the majority."""
        volumes = [volume for _, _, volume in self.named()]
        counts = [sum(same_grid(one, other) for other in volumes) for one in volumes]
        return volumes[int(np.argmax(counts))] if volumes else None

    @cached_property
    def brain(self) -> Volume | None:
        """Where there is brain, from the maps on the common grid; tumors and other holes are filled.

        T1w images may hold a skull, so they serve only where nothing else does.
        """
        grid = self.grid
        fitting = {name: v for name, v in self.images.items() if grid is not None and same_grid(v, grid)}
        names = [name for name in fitting if name != "t1w"] or list(fitting)
        shown = np.logical_or.reduce([nonzero(fitting[name]) for name in names])
        if grid is None or not np.any(shown):
            return None
        # Padded, as closing takes what lies beyond the image for background and would eat into a brain that is cut off.
        closed = np.asarray(ndimage.binary_closing(np.pad(shown, 3), iterations=2), dtype=np.bool_)[3:-3, 3:-3, 3:-3]
        return grid.with_array(np.asarray(ndimage.binary_fill_holes(closed | shown)))


def nonzero(volume: Volume) -> NDArray[np.bool_]:
    """Voxels that hold something finite other than 0."""
    present = np.isfinite(volume.array) & (volume.array != 0)
    return np.asarray(present if present.ndim == 3 else present.any(axis=-1))


def inside(volume: Volume) -> NDArray[np.bool_]:
    """Voxels of a stored mask."""
    return np.nan_to_num(volume.array) > 0.5


def relative(path: Path, root: Path) -> str:
    """A path below the cohort's folder, so that reports hold no absolute ones."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def read_subject(case: Case, root: Path) -> Subject:
    """Read every file of a case once; those that cannot be read become problems."""
    damaged: list[Problem] = []
    empty = Subject(case=case, root=root)

    def load(path: Path | None) -> Volume | None:
        if path is None:
            return None
        try:
            return read_image(path, anywhere=True)
        except DataError as error:
            cure = "Copy the file again from its source, or remove it."
            sentence = str(error).replace(f"There is no image at {path}", "The file is a link to one that is not there")
            sentence = sentence.replace(str(path), "The file").replace(" Copy it again from its source.", "")
            damaged.append(empty.problem("unreadable", "error", path, sentence, cure))
            return None

    images = {name: volume for name, path in case.images.items() if (volume := load(path)) is not None}
    masks = {bundle: volume for bundle, path in case.masks.items() if (volume := load(path)) is not None}
    tumor, core = load(case.tumor), load(case.tumor_core)
    return Subject(case=case, root=root, images=images, masks=masks, tumor=tumor, core=core, damaged=tuple(damaged))
