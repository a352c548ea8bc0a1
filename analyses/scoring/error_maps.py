"""Errors voxel by voxel: a participant's map, and where errors and tumors pile up over a cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...files import write_text
from ...images import write_image
from ...types import Bundle, Volume
from .cases import OpenCase

LABELS = {"hit": 1, "missed": 2, "false": 3}
"""Values of the voxels; 0 where neither mask is."""


@dataclass(frozen=True, kw_only=True)
class ErrorMaps:
    """Writes ``sub-01/dwi/sub-01_label-AFleft_desc-errors_dseg.nii.gz``, uint8, and the table of its `LABELS`."""

    root: Path

    def __call__(self, opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> None:
        """Write one map, on the grid of the prediction; none without a prediction."""
        if prediction is None:
            return
        reference = opened.anatomy.references[bundle]
        truth = np.zeros_like(prediction.array) if reference is None else reference.array
        # One label map and no two masks: viewers color a _dseg by its table.
        errors = np.zeros(truth.shape, dtype=np.uint8)
        errors[truth & prediction.array] = LABELS["hit"]
        errors[truth & ~prediction.array] = LABELS["missed"]
        errors[~truth & prediction.array] = LABELS["false"]
        key = opened.case.key
        path = self.root.joinpath(*key.split("_")) / "dwi" / f"{key}_label-{bundle.label}_desc-errors_dseg.nii.gz"
        write_image(prediction.with_array(errors), path)
        lines = [f"{value}\t{name}" for name, value in LABELS.items()]
        write_text(self.root / "desc-errors_dseg.tsv", "\n".join(["index\tname", *lines]) + "\n")


EDGE_MM = 4  # finer than brains are aligned by their boxes, and quick to draw
KINDS = ("missed", "false")


@dataclass(frozen=True, kw_only=True)
class ErrorPlaces:
    """In how many of ``n`` participants each voxel of MNI152 space is missed or false; shape (X, Y, Z)."""

    missed: NDArray[np.int_]
    false: NDArray[np.int_]
    n: int
    affine: NDArray[np.float64]

    def share(self, kind: str) -> Volume:
        """Share of participants, 0 to 1."""
        counts = getattr(self, kind)
        return Volume(array=(counts / max(self.n, 1)).astype(np.float32), affine=self.affine)

    def to_frame(self) -> pd.DataFrame:
        """One row a voxel in which anybody errs: MNI152 coordinates in mm, and both shares."""
        index = np.argwhere((self.missed + self.false) > 0)
        x, y, z = self.share("missed").world(index).T
        at = tuple(index.T)
        # Pages hold this table: four decimals tell all shares of some hundred patients apart.
        shares = {kind: (getattr(self, kind)[at] / self.n).round(4) for kind in KINDS}
        return pd.DataFrame({"x_mm": x, "y_mm": y, "z_mm": z, **shares})


@dataclass(frozen=True, kw_only=True)
class TumorPlaces:
    """How many of ``n`` patients' tumors cover each voxel of MNI152 space; shape (X, Y, Z)."""

    counts: NDArray[np.int_]
    n: int
    affine: NDArray[np.float64]

    def to_frame(self) -> pd.DataFrame:
        """One row a voxel that a tumor covers: MNI152 coordinates in mm, and how many do."""
        index = np.argwhere(self.counts > 0)
        x, y, z = Volume(array=self.counts, affine=self.affine).world(index).T
        return pd.DataFrame({"x_mm": x, "y_mm": y, "z_mm": z, "n_tumors": self.counts[tuple(index.T)]})


Voxels = dict[str, NDArray[np.int_]]


def places_of(made: Mapping[str, Sequence[Voxels | None]], bundles: Sequence[Bundle]) -> dict[Bundle, ErrorPlaces]:
    """Count what `error_voxels` found, by case and for every bundle that a case has a reference and a prediction of."""
    counts: dict[Bundle, ErrorPlaces] = {}
    for place, bundle in enumerate(bundles):
        found = [one for values in made.values() if (one := values[place]) is not None]
        if found:
            counts[bundle] = _piled(found)
    return dict(sorted(counts.items()))


def places_of_all(made: Mapping[str, Sequence[Voxels | None]]) -> ErrorPlaces | None:
    """As `places_of`, for the bundles taken together: a case counts once where it errs in any; None without cases."""
    found: list[Voxels] = []
    for values in made.values():
        several = [one for one in values if one is not None]
        if several:
            found.append({kind: np.unique(np.concatenate([one[kind] for one in several]), axis=0) for kind in KINDS})
    return _piled(found) if found else None


def _piled(found: Sequence[Voxels]) -> ErrorPlaces:
    affine, shape, _ = _template()
    piled = {kind: np.zeros(shape, dtype=int) for kind in KINDS}
    for kind, where in product(KINDS, found):
        piled[kind][tuple(where[kind].T)] += 1
    return ErrorPlaces(**piled, n=len(found), affine=affine)


def tumors_of(made: Mapping[str, Sequence[NDArray[np.int_] | None]]) -> TumorPlaces | None:
    """Count what `tumor_voxels` found, by case; None where nobody has a tumor's mask."""
    affine, shape, _ = _template()
    found = [one for values in made.values() for one in values if one is not None]
    counts = np.zeros(shape, dtype=int)
    for where in found:
        counts[tuple(where.T)] += 1
    return TumorPlaces(counts=counts, n=len(found), affine=affine) if found else None


def error_voxels(opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> Voxels | None:
    """Reader: the template's voxels in which a case errs, by kind; None without reference or prediction.

    Participants are moved and scaled along the three axes so that the box around their brain meets the box around the
    template's. This is enough to see at a glance where errors gather, and not to measure.
    """
    reference = opened.anatomy.references[bundle]
    if reference is None or prediction is None:
        return None
    truth, drawn = reference.array, prediction.array
    wrong = zip(KINDS, (truth & ~drawn, drawn & ~truth), strict=True)
    return {kind: _in_template(opened, reference.with_array(mask)) for kind, mask in wrong}


def tumor_voxels(opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> NDArray[np.int_] | None:
    """Reader: the template's voxels that a case's tumor covers, told with the first bundle; None without a tumor."""
    tumor = opened.anatomy.tumor
    if tumor is None or bundle != next(iter(opened.anatomy.references)):
        return None
    return _in_template(opened, tumor.mask)


def _in_template(opened: OpenCase, mask: Volume) -> NDArray[np.int_]:
    """Indices of the template's voxels that a case's mask meets, shape (N, 3)."""
    affine, shape, template = _template()
    box = template if opened.brain_box_mm is None else opened.brain_box_mm
    share = (mask.points_inside() - box[0]) / (box[1] - box[0])
    index = np.round((share * (template[1] - template[0]) + template[0] - affine[:3, 3]) / EDGE_MM).astype(int)
    return np.unique(index[((index >= 0) & (index < shape)).all(axis=1)], axis=0)


@cache
def _template() -> tuple[NDArray[np.float64], tuple[int, int, int], NDArray[np.float64]]:
    """Affine and shape of the common grid, and the box around the template's brain; the template is nilearn's own."""
    from nilearn.datasets import load_mni152_brain_mask

    image: Any = load_mni152_brain_mask(resolution=EDGE_MM)
    mask = Volume(array=np.asarray(image.dataobj) > 0, affine=image.affine)
    return mask.affine, mask.shape, np.percentile(mask.points_inside(), [0.1, 99.9], axis=0)
