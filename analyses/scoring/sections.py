"""Where along a bundle a prediction errs: Dice, misses and false voxels by section."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ...catalogue import SECTIONS
from ...errors import ConfigError, DataError
from ...geometry import positions_along
from ...status import Status
from ...tables import parse_table
from ...types import Bundle, Cohort, Predictions, Volume
from ...work import Work
from ..distance.tumor import side_of
from .cases import Look, OpenCase, identify, read_cases, require_predictions, rows_of
from .predictions import PredictedMasks, find_predictions


def score_sections(
    predictions: Predictions | PredictedMasks | Path | Cohort,
    cohort: Cohort,
    *,
    n_sections: int = 10,
    threshold: float | None = None,
    resample: bool = False,
    work: Work = Work(),
) -> pd.DataFrame:
    """Score predicted masks in sections of equal length along each bundle; else as `study.score`.

    Each voxel of the prediction belongs to the section of the nearest voxel of the reference, so the prediction does
    not move the sections.

    Returns
    -------
    DataFrame
        Columns of `shiftkit.catalogue.SECTIONS`, one row a section of each bundle that the case has a reference of.
        A section without predicted voxels is ``missed`` (Dice 0); its share of false voxels does not exist and is
        NaN. Bundles without a prediction are ``unavailable``.
    """
    found = find_predictions(predictions)
    require_predictions(cohort, found)
    sections = Sections(predicted=found, cohort=cohort.name, n_sections=n_sections)
    look = Look(predicted=found, readers={"sections": sections}, threshold=threshold, resample=resample)
    (made,) = read_cases(cohort, [look], work, failed={})
    rows = list(rows_of(made["sections"], cohort.bundles, cohort))
    if not rows:
        raise DataError(f"Sections need reference masks with voxels; cohort {cohort.name} has none.")
    return parse_table(pd.DataFrame(rows), SECTIONS, "The table of sections")


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Reader: the rows of the sections of one bundle of a case; fewer than two sections are a `ConfigError`."""

    predicted: PredictedMasks
    cohort: str
    n_sections: int = 10

    def __post_init__(self) -> None:
        if self.n_sections < 2:
            raise ConfigError(f"A bundle has two sections or more; got {self.n_sections}.")

    def __call__(self, opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> list[dict[str, Any]]:
        """One row a section; none without a reference."""
        anatomy = opened.anatomy
        reference = anatomy.references[bundle]
        if reference is None or not reference.array.any():
            return []
        side = side_of(bundle.hemisphere, anatomy.tumor_side)
        common = {**identify(opened.case, bundle, self.cohort, self.predicted), "side": side}
        distance = None if anatomy.tumor is None else anatomy.tumor.distance_mm
        return [{**common, **row} for row in _score_one(reference, prediction, self.n_sections, distance)]


def _score_one(
    reference: Volume, prediction: Volume | None, n_sections: int, distance_mm: NDArray[np.float32] | None
) -> list[dict[str, Any]]:
    section = np.minimum((positions_along(reference) * n_sections).astype(int), n_sections - 1)
    predicted = np.zeros((0, 3), dtype=int) if prediction is None else np.argwhere(prediction.array)
    tree = KDTree(np.argwhere(reference.array) * reference.spacing_mm)
    of_predicted = section[tree.query(predicted * np.array(reference.spacing_mm))[1]]
    hit = reference.array[tuple(predicted.T)]
    to_tumor = np.full(n_sections, np.inf)  # stays so where there is no tumor, or no voxel
    if distance_mm is not None:
        np.minimum.at(to_tumor, section, distance_mm[reference.array])
    # A hit voxel is its own nearest reference voxel, so hits count once and in one section.
    n_reference, n_predicted, n_hit = (
        np.bincount(which, minlength=n_sections) for which in (section, of_predicted, of_predicted[hit])
    )
    available, voxel_ml = prediction is not None, reference.voxel_volume_ml
    return [
        {
            "section": index + 1,
            **_rates(int(n_reference[index]), int(n_predicted[index]), int(n_hit[index]), available),
            "reference_ml": n_reference[index] * voxel_ml,
            "prediction_ml": n_predicted[index] * voxel_ml if available else np.nan,
            "tumor_distance_mm": to_tumor[index] if np.isfinite(to_tumor[index]) else np.nan,
        }
        for index in range(n_sections)
    ]


def _rates(n_reference: int, n_predicted: int, n_hit: int, available: bool) -> dict[str, Any]:
    names, nan = ("dice", "false_negative_rate", "false_positive_rate"), float("nan")
    if not available or not n_reference:
        status = Status.REFERENCE_ABSENT if n_predicted else Status.BOTH_ABSENT
        return {**dict.fromkeys(names, nan), "status": status if available else Status.UNAVAILABLE}
    dice, false = 2 * n_hit / (n_reference + n_predicted), 1 - n_hit / n_predicted if n_predicted else nan
    status = Status.OK if n_predicted else Status.MISSED
    return dict(zip((*names, "status"), (dice, 1 - n_hit / n_reference, false, status), strict=True))
