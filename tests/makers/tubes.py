"""Cohorts with two straight bundles, and predictions that miss a stretch of one."""

from pathlib import Path

import numpy as np
import pandas as pd

from shiftkit.cohorts import folder as cohorts
from shiftkit.images import write_image
from shiftkit.types import Bundle, Cohort, Predictions, Volume

SHAPE = (24, 40, 24)
AFFINE = np.array([[2.5, 0, 0, -60], [0, 2.5, 0, -50], [0, 0, 2.5, -30], [0, 0, 0, 1.0]])


def tube(x: int, gap: slice | None = None) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[x : x + 3, 2:38, 10:13] = True
    if gap is not None:
        mask[:, gap] = False
    return mask


def write(root: Path, name: str, keys: list[str], masks: dict[str, np.ndarray], tumor: np.ndarray | None) -> Cohort:
    folder = root / name
    for key in keys:
        for label, mask in masks.items():
            write_image(Volume(array=mask, affine=AFFINE), cohorts.mask_path(folder, key, Bundle.parse(label)))
        if tumor is not None:
            write_image(Volume(array=tumor, affine=AFFINE), cohorts.tumor_path(folder, key))
    group = "control" if keys[0].startswith("sub-h") else "glioma"
    cohorts.write_participants(folder, pd.DataFrame({"participant_id": keys, "group": group}))
    return cohorts.load_cohort(folder)


def predicted(cohort: Cohort) -> Predictions:
    return Predictions(cohort=cohort, model="m", modality="fa")


def two_groups(root: Path, tumor: np.ndarray | None, missed: slice) -> tuple[Predictions, Cohort, Predictions, Cohort]:
    """Perfect controls; patients whose left bundle is missed in a stretch."""
    whole = {"AFleft": tube(4), "AFright": tube(17)}
    sick = {"AFleft": tube(4, missed), "AFright": tube(17)}
    patients = [f"sub-g{i}" for i in range(6)]
    controls = [f"sub-h{i}" for i in range(4)]
    healthy = write(root, "healthy", controls, whole, None)
    found = write(root, "found", controls, whole, None)
    glioma = write(root, "glioma", patients, whole, tumor)
    made = write(root, "predicted", patients, sick, None)
    return predicted(made), glioma, predicted(found), healthy
