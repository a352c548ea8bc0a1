"""Voxel by voxel, what a prediction hit, missed and made up, as images."""

from pathlib import Path

import numpy as np

from ..files import write_text
from ..images import write_image
from ..types import Bundle, Volume
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
