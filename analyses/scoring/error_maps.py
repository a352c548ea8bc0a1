"""Errors voxel by voxel: a participant's map, and where they pile up over a cohort."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...files import write_text
from ...images import read_image, write_image
from ...types import Bundle, Case, Cohort, Predictions, Volume
from ...work import Work
from .predictions import PredictedMasks, find_predictions
from .surfaces import Mask

LABELS = {"hit": 1, "missed": 2, "false": 3}
"""Values of the voxels; 0 where neither mask is."""


def write_error_map(root: Path, key: str, bundle: Bundle, reference: Volume, prediction: Mask) -> Path:
    """Write ``sub-01/dwi/sub-01_label-AFleft_desc-errors_dseg.nii.gz``, and the table of labels beside the folders.

    Parameters
    ----------
    root : Path
        Folder for the maps of all participants.
    key : str
        Participant and session.
    bundle : Bundle
        Whose errors they are.
    reference : Volume
        Boolean; gives the grid.
    prediction : ndarray of bool, shape (X, Y, Z)
        On the same grid.

    Returns
    -------
    Path
        The image: uint8, values of `LABELS`.
    """
    truth = reference.array
    errors = np.zeros(truth.shape, dtype=np.uint8)
    errors[truth & prediction] = LABELS["hit"]
    errors[truth & ~prediction] = LABELS["missed"]
    errors[~truth & prediction] = LABELS["false"]
    path = root.joinpath(*key.split("_")) / "dwi" / f"{key}_label-{bundle.label}_desc-errors_dseg.nii.gz"
    write_image(reference.with_array(errors), path)
    lines = [f"{value}\t{name}" for name, value in LABELS.items()]
    write_text(root / "desc-errors_dseg.tsv", "\n".join(["index\tname", *lines]) + "\n")
    return path


EDGE_MM = 4
KINDS = ("missed", "false")


@dataclass(frozen=True, kw_only=True)
class ErrorPlaces:
    """In how many participants each voxel is missed or false.

    Parameters
    ----------
    missed, false : ndarray of int, shape (X, Y, Z)
        Participants with at least one such voxel of their own in this one.
    n : int
        Participants looked at.
    affine : ndarray, shape (4, 4)
        From voxel indices to MNI152 space, mm.
    """

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
        x, y, z = (index @ self.affine[:3, :3].T + self.affine[:3, 3]).T
        at = tuple(index.T)
        return pd.DataFrame(
            {"x_mm": x, "y_mm": y, "z_mm": z, "missed": self.missed[at] / self.n, "false": self.false[at] / self.n}
        )


def error_places(predictions: Predictions, cohort: Cohort, *, work: Work = Work()) -> dict[Bundle, ErrorPlaces]:
    """Count errors over a cohort, each participant brought into MNI152 space by the extent of the brain.

    Participants are moved and scaled along the three axes so that the box around their brain meets the box around the
    template's. This is enough to see at a glance where errors gather, and not to measure.

    Parameters
    ----------
    predictions, cohort : Predictions, Cohort
        Predicted masks, and the cases with reference masks and images.
    work : Work
        Processes and progress.

    Returns
    -------
    dict of Bundle to ErrorPlaces
        Bundles of which at least one case has reference and prediction.
    """
    found = find_predictions(predictions)
    affine, shape, _ = _template()
    counts: dict[Bundle, ErrorPlaces] = {}
    for places in work.map(partial(_of_case, predicted=found), cohort.cases, f"Finding errors in {cohort.name}"):
        for bundle, where in places.items():
            if bundle not in counts:
                missed, false = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
                counts[bundle] = ErrorPlaces(missed=missed, false=false, n=0, affine=affine)
            before = counts[bundle]
            for kind in KINDS:
                getattr(before, kind)[tuple(where[kind].T)] += 1
            counts[bundle] = ErrorPlaces(missed=before.missed, false=before.false, n=before.n + 1, affine=affine)
    return dict(sorted(counts.items()))


def _of_case(case: Case, predicted: PredictedMasks) -> dict[Bundle, dict[str, NDArray[np.int_]]]:
    """The template's voxels in which a case errs, by bundle and kind."""
    box = _brain_box(case)
    made: dict[Bundle, dict[str, NDArray[np.int_]]] = {}
    for bundle, path in case.masks.items():
        image = read_image(path)
        reference = image.with_array(image.array > 0.5)
        prediction = predicted.read_mask(case, bundle, reference, None, False)
        if prediction is None:
            continue
        errors: Mapping[str, Any] = {
            "missed": reference.array & ~prediction.array,
            "false": prediction.array & ~reference.array,
        }
        made[bundle] = {kind: _voxels(reference.with_array(errors[kind]), box) for kind in KINDS}
    return made


def _voxels(errors: Volume, box: NDArray[np.float64]) -> NDArray[np.int_]:
    affine, shape, template = _template()
    world = np.argwhere(errors.array) @ errors.affine[:3, :3].T + errors.affine[:3, 3]
    inside = (world - box[0]) / (box[1] - box[0]) * (template[1] - template[0]) + template[0]
    index = np.round((inside - affine[:3, 3]) / EDGE_MM).astype(int)
    return np.unique(index[((index >= 0) & (index < shape)).all(axis=1)], axis=0)


def _brain_box(case: Case) -> NDArray[np.float64]:
    """The box around the brain, shape (2, 3), mm: from FA where there is one, since it shows no skull."""
    name = next((one for one in ("fa", "ap", "t1w") if one in case.images), None)
    image = read_image(case.images[name] if name is not None else next(iter(case.masks.values())))
    array = np.nan_to_num(image.array if image.array.ndim == 3 else image.array[..., 0])
    world = np.argwhere(array > 0.05 * array.max()) @ image.affine[:3, :3].T + image.affine[:3, 3]
    if not len(world):
        return _template()[2]
    # Single voxels far out, such as noise, must not stretch the box.
    low, high = np.percentile(world, [0.1, 99.9], axis=0)
    return np.stack([low, np.maximum(high, low + 1.0)])


@cache
def _template() -> tuple[NDArray[np.float64], tuple[int, int, int], NDArray[np.float64]]:
    """Affine and shape of the common grid, and the box around the template's brain; the template is nilearn's own."""
    from nilearn.datasets import load_mni152_brain_mask

    mask: Any = load_mni152_brain_mask(resolution=EDGE_MM)
    affine = np.asarray(mask.affine, dtype=np.float64)
    world = np.argwhere(np.asarray(mask.dataobj) > 0) @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = mask.shape
    return affine, (x, y, z), np.percentile(world, [0.1, 99.9], axis=0)
