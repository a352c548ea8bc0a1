"""Where along a bundle a prediction errs: Dice, misses and false voxels by section."""

from collections.abc import Sequence
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
from ...types import Bundle, Case, Cohort, Predictions, Volume
from ...work import Work
from ..distance.case import Anatomy
from .predictions import PredictedMasks, find_predictions
from .study import for_each_case, identify


def score_sections(
    predictions: Predictions | Path | Cohort,
    cohort: Cohort,
    *,
    n_sections: int = 10,
    threshold: float | None = None,
    resample: bool = False,
    work: Work = Work(),
) -> pd.DataFrame:
    """Score predicted masks in sections along each bundle.

    Parameters
    ----------
    predictions, cohort, threshold, resample, work
        As in `shiftkit.analyses.scoring.study.score`.
    n_sections : int
        Sections of equal length; see `positions_along`. Each voxel of the prediction belongs to the section of the
        nearest voxel of the reference, so the prediction does not move the sections.

    Returns
    -------
    DataFrame
        Columns of `shiftkit.catalogue.SECTIONS`, one row a section of each bundle that the case has a reference of.
        A section without predicted voxels is ``missed`` (Dice 0); its share of false voxels does not exist and is
        NaN. Bundles without a prediction are ``unavailable``.

    Raises
    ------
    ConfigError
        If there are fewer than two sections.
    DataError
        As in `shiftkit.analyses.scoring.study.score`.
    """
    if n_sections < 2:
        raise ConfigError(f"A bundle has two sections or more; got {n_sections}.")
    found = find_predictions(predictions)
    worker = _SectionScorer(
        predicted=found,
        cohort=cohort.name,
        bundles=cohort.bundles,
        n_sections=n_sections,
        threshold=threshold,
        resample=resample,
    )
    rows = for_each_case(worker, cohort, found, work)
    if not rows:
        raise DataError(f"Sections need reference masks with voxels; cohort {cohort.name} has none.")
    return parse_table(pd.DataFrame(rows), SECTIONS, "The table of sections")


@dataclass(frozen=True, kw_only=True)
class _SectionScorer:
    """Scores the sections of one case; made once, and sent to every process."""

    predicted: PredictedMasks
    cohort: str
    bundles: tuple[Bundle, ...]
    n_sections: int
    threshold: float | None
    resample: bool

    def __call__(self, case: Case) -> list[dict[str, Any]]:
        anatomy = Anatomy.of(case, self.bundles)
        distance = None if anatomy.tumor is None else anatomy.tumor.distance_mm
        rows: list[dict[str, Any]] = []
        for bundle, reference in anatomy.references.items():
            if reference is None or not reference.array.any():
                continue
            prediction = self.predicted.read_mask(case, bundle, reference, self.threshold, self.resample)
            common = {
                **identify(case, bundle, self.cohort, self.predicted),
                "side": anatomy.columns(bundle)["side"],
            }
            sections = _score_one(reference, prediction, self.n_sections, distance)
            rows += [{**common, **section} for section in sections]
        return rows


def _score_one(
    reference: Volume, prediction: Volume | None, n_sections: int, distance_mm: NDArray[np.float32] | None
) -> Sequence[dict[str, Any]]:
    voxels = np.argwhere(reference.array)
    section = np.minimum((positions_along(reference) * n_sections).astype(int), n_sections - 1)
    predicted = np.zeros((0, 3), dtype=int) if prediction is None else np.argwhere(prediction.array)
    of_predicted = _nearest_section(predicted, voxels, section, reference.spacing_mm)
    hit = reference.array[tuple(predicted.T)]
    to_tumor = np.full(n_sections, np.inf)
    if distance_mm is not None:
        np.minimum.at(to_tumor, section, distance_mm[reference.array])
    n_reference, n_predicted, n_hit = (
        np.bincount(which, minlength=n_sections) for which in (section, of_predicted, of_predicted[hit])
    )
    # A hit voxel is its own nearest reference voxel, so hits count once and in one section.
    rows: list[dict[str, Any]] = []
    for index in range(n_sections):
        row = _rates(int(n_reference[index]), int(n_predicted[index]), int(n_hit[index]), prediction is not None)
        rows.append(
            {
                "section": index + 1,
                **row,
                "reference_ml": n_reference[index] * reference.voxel_volume_ml,
                "prediction_ml": n_predicted[index] * reference.voxel_volume_ml if prediction is not None else np.nan,
                "tumor_distance_mm": to_tumor[index] if np.isfinite(to_tumor[index]) else np.nan,
            }
        )
    return rows


def _nearest_section(
    predicted: NDArray[np.intp],
    voxels: NDArray[np.intp],
    section: NDArray[np.intp],
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.intp]:
    if not len(predicted):
        return np.zeros(0, dtype=np.intp)
    edge = np.array(spacing_mm)
    nearest = KDTree(voxels * edge).query(predicted * edge)[1]
    return section[nearest]


def _rates(n_reference: int, n_predicted: int, n_hit: int, available: bool) -> dict[str, Any]:
    nan = float("nan")
    if not available:
        return {"dice": nan, "false_negative_rate": nan, "false_positive_rate": nan, "status": Status.UNAVAILABLE}
    if not n_reference:
        status = Status.REFERENCE_ABSENT if n_predicted else Status.BOTH_ABSENT
        return {"dice": nan, "false_negative_rate": nan, "false_positive_rate": nan, "status": status}
    return {
        "dice": 2 * n_hit / (n_reference + n_predicted),
        "false_negative_rate": 1 - n_hit / n_reference,
        "false_positive_rate": 1 - n_hit / n_predicted if n_predicted else nan,
        "status": Status.OK if n_predicted else Status.MISSED,
    }
