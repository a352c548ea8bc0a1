"""Errors voxel by voxel: a participant's map, and where they pile up over a cohort."""

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
        return pd.DataFrame(
            {"x_mm": x, "y_mm": y, "z_mm": z, "missed": self.missed[at] / self.n, "false": self.false[at] / self.n}
        )


Voxels = dict[str, NDArray[np.int_]]


def places_of(made: Mapping[str, Sequence[Voxels | None]], bundles: Sequence[Bundle]) -> dict[Bundle, ErrorPlaces]:
    """Count what `error_voxels` found, by case and for every bundle that a case has a reference and a prediction of."""
    affine, shape, _ = _template()
    counts: dict[Bundle, ErrorPlaces] = {}
    for place, bundle in enumerate(bundles):
        found = [one for values in made.values() if (one := values[place]) is not None]
        if found:
            piled = {kind: np.zeros(shape, dtype=int) for kind in KINDS}
            for kind, where in product(KINDS, found):
                piled[kind][tuple(where[kind].T)] += 1
            counts[bundle] = ErrorPlaces(**piled, n=len(found), affine=affine)
    return dict(sorted(counts.items()))


def error_voxels(opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> Voxels | None:
    """Reader: the template's voxels in which a case errs, by kind; None without reference or prediction.

    Participants are moved and scaled along the three axes so that the box around their brain meets the box around the
    template's. This is enough to see at a glance where errors gather, and not to measure.
    """
    reference = opened.anatomy.references[bundle]
    if reference is None or prediction is None:
        return None
    truth, drawn, box = reference.array, prediction.array, opened.brain_box_mm
    affine, shape, template = _template()
    box = template if box is None else box
    found: Voxels = {}
    for kind, wrong in zip(KINDS, (truth & ~drawn, drawn & ~truth), strict=True):
        share = (reference.with_array(wrong).points_inside() - box[0]) / (box[1] - box[0])
        index = np.round((share * (template[1] - template[0]) + template[0] - affine[:3, 3]) / EDGE_MM).astype(int)
        found[kind] = np.unique(index[((index >= 0) & (index < shape)).all(axis=1)], axis=0)
    return found


@cache
def _template() -> tuple[NDArray[np.float64], tuple[int, int, int], NDArray[np.float64]]:
    """Affine and shape of the common grid, and the box around the template's brain; the template is nilearn's own."""
    from nilearn.datasets import load_mni152_brain_mask

    image: Any = load_mni152_brain_mask(resolution=EDGE_MM)
    mask = Volume(array=np.asarray(image.dataobj) > 0, affine=image.affine)
    return mask.affine, mask.shape, np.percentile(mask.points_inside(), [0.1, 99.9], axis=0)
