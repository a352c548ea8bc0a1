"""Predicted masks on disk, whoever made them: shiftkit's layout, TractSeg's and nnU-Net's."""

from pathlib import Path

from ..cohorts import load_cohort
from ..types import Cohort, Predictions


def find_predictions(predictions: Predictions | Path | Cohort) -> Predictions:
    """Turn a folder or a cohort of predicted masks into predictions."""
    if isinstance(predictions, Predictions):
        return predictions
    cohort = predictions if isinstance(predictions, Cohort) else load_cohort(Path(predictions))
    described = cohort.description
    return Predictions(
        cohort=cohort,
        model=str(described.get("Model", cohort.name)),
        modality=str(described.get("Modality", "n/a")),
    )
