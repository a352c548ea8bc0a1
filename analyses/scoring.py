"""Predicted masks against reference masks: one row a participant, bundle, hemisphere and metric."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import images
from ..errors import ConfigError, DataError
from ..images import read_image, read_mask, same_grid
from ..status import Status
from ..types import Bundle, Case, Cohort, Predictions, Volume
from .distance import Tumor, bundle_distance, check_orthogonal, side_of
from .predictions import find_predictions
from .score_table import ScoreTable
from .surfaces import surface_distances

Mask = NDArray[np.bool_]
Progress = Callable[[int, int, str], None]

METRICS: dict[str, str] = {
    "dice": "1",
    "sensitivity": "1",
    "precision": "1",
    "volume_overlap": "1",
    "volume_overreach": "1",
    "volume_similarity": "1",
    "hd95": "mm",
    "assd": "mm",
    "nsd": "1",
}
"""The metrics and their units."""


def score(
    predictions: Predictions | Path | Cohort,
    cohort: Cohort,
    *,
    metrics: Sequence[str] = tuple(METRICS),
    tolerance_mm: float = 2.0,
    penalty_mm: float = 100.0,
    threshold: float | None = None,
    resample: bool = False,
    jobs: int = 1,
    error_maps: Path | None = None,
    progress: Progress | None = None,
) -> ScoreTable:
    """Score predicted masks against a cohort's reference masks."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ConfigError(f"Metrics are {', '.join(METRICS)}; got {', '.join(unknown)}.")
    found = find_predictions(predictions)
    rows: list[dict[str, object]] = []
    for index, case in enumerate(cohort):
        predicted = next((one for one in found.cohort if one.key == case.key), None)
        if predicted is not None:
            rows += _score_case(case, predicted, cohort, found, metrics, tolerance_mm, penalty_mm, threshold, resample)
        if progress is not None:
            progress(index + 1, len(cohort), f"scored {case.key}")
    if not rows:
        raise DataError(f"No case of {cohort.name} has a prediction in {found.cohort.name}.")
    return ScoreTable(frame=pd.DataFrame(rows))


def _score_case(
    case: Case,
    predicted: Case,
    cohort: Cohort,
    found: Predictions,
    metrics: Sequence[str],
    tolerance_mm: float,
    penalty_mm: float,
    threshold: float | None,
    to_grid: bool,
) -> list[dict[str, object]]:
    side = case.attributes.get("tumor_side")
    tumor = Tumor.of(read_mask(case.tumor), side) if case.tumor and case.group == "glioma" else None
    core = Tumor.of(read_mask(case.tumor_core), side) if case.tumor_core and case.group == "glioma" else None
    rows: list[dict[str, object]] = []
    for bundle, path in case.masks.items():
        if bundle not in found.cohort.bundles:
            continue
        reference = read_mask(path)
        check_orthogonal(reference.affine, str(path.name))
        mask = _predicted_mask(predicted, bundle, reference, threshold, to_grid)
        status, values = score_masks(mask, reference.array, reference.spacing_mm, metrics, tolerance_mm, penalty_mm)
        place = bundle_distance(tumor, reference.array) if tumor else None
        base = {
            "participant_id": case.participant_id,
            "cohort": cohort.name,
            "group": case.group,
            "model": found.model,
            "modality": found.modality,
            "bundle": bundle.name,
            "hemisphere": bundle.hemisphere,
            "side": side_of(bundle.hemisphere, tumor.side if tumor else "n/a"),
            "status": status,
            "tumor_distance_mm": place.edge_mm if place else np.nan,
            "tumor_distance_mean_mm": place.mean_mm if place else np.nan,
            "tumor_core_distance_mm": bundle_distance(core, reference.array).edge_mm if core else np.nan,
            "tumor_overlap_ml": place.overlap_ml if place else np.nan,
            "tumor_volume_ml": tumor.volume_ml if tumor else np.nan,
            "tumor_side": tumor.side if tumor else "n/a",
            "age": case.number("age"),
            **{name: case.attributes.get(name, "n/a") for name in ("sex", "site", "scanner")},
        }
        if status == Status.REFERENCE_ABSENT:
            volume = float(mask.sum()) * reference.voxel_volume_ml
            rows.append({**base, "metric": "false_positive_volume", "value": volume, "unit": "ml"})
        rows += [{**base, "metric": name, "value": values[name], "unit": METRICS[name]} for name in metrics]
    return rows


def _predicted_mask(predicted: Case, bundle: Bundle, reference: Volume, threshold: float | None, to_grid: bool) -> Mask:
    if bundle in predicted.masks and threshold is None:
        volume = read_mask(predicted.masks[bundle])
    elif bundle in predicted.probabilities:
        volume = read_image(predicted.probabilities[bundle])
    else:
        return np.zeros(reference.shape, dtype=bool)
    if not same_grid(volume, reference):
        if not to_grid:
            raise DataError(
                f"A prediction must lie on the grid of its reference; {bundle} of {predicted.key} has shape "
                f"{volume.shape}, the reference {reference.shape}. Resample it, or ask for it with --resample."
            )
        volume = images.resample(volume.with_array(volume.array.astype(np.float32)), reference.affine, reference.shape)
    return np.asarray(volume.array >= (0.5 if threshold is None else threshold))


def score_masks(
    prediction: Mask,
    reference: Mask,
    spacing_mm: tuple[float, float, float],
    metrics: Sequence[str],
    tolerance_mm: float,
    penalty_mm: float,
) -> tuple[Status, dict[str, float]]:
    """Status and value of each metric for one pair of masks on one grid."""
    n_prediction, n_reference = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    if not n_reference:
        return Status.REFERENCE_ABSENT if n_prediction else Status.BOTH_ABSENT, dict.fromkeys(metrics, float("nan"))
    if not n_prediction:
        worst = {"hd95": penalty_mm, "assd": penalty_mm}
        return Status.MISSED, {name: worst.get(name, 0.0) for name in metrics}
    hit = int(np.count_nonzero(prediction & reference))
    values = {
        "dice": 2 * hit / (n_prediction + n_reference),
        "sensitivity": hit / n_reference,
        "precision": hit / n_prediction,
        "volume_overlap": hit / n_reference,
        "volume_overreach": (n_prediction - hit) / n_reference,
        "volume_similarity": 1 - abs(n_prediction - n_reference) / (n_prediction + n_reference),
    }
    if {"hd95", "assd", "nsd"} & set(metrics):
        distances = surface_distances(prediction, reference, spacing_mm)
        values |= {"hd95": distances.hd95, "assd": distances.assd, "nsd": distances.nsd(tolerance_mm)}
    return Status.OK, {name: values[name] for name in metrics}
