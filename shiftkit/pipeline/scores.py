"""Predictions and scores of every cohort of a run, which several stages start from."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ..runs import Run
from ..types import Cohort, Predictions
from ..work import Work
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analyses.decomposition.reading import Reading


def predict_cohorts(run: Run, inputs: Inputs, device: str, work: Work) -> dict[str, Predictions]:
    """Predict every cohort with the source model; what is on disk already is not made again."""
    from ..segmentation.prediction.cohort import predict

    folder = run.root / "predictions"
    return {
        name: predict(inputs.model, cohort, out=folder / name, device=device, resume=True, work=work)
        for name, cohort in inputs.cohorts.items()
    }


def score_cohorts(
    predictions: Mapping[str, Predictions], cohorts: Mapping[str, Cohort], metrics: Sequence[str], work: Work
) -> pd.DataFrame:
    """Score each cohort that has predictions, in one pass over its cases; the parts go into one table."""
    from ..analyses.scoring.study import score

    tables: list[pd.DataFrame] = []
    for name, one in predictions.items():
        tables.append(_grouped(score(one, predicted(cohorts[name], one), metrics=metrics, work=work).to_frame(), name))
    return pd.concat(tables, ignore_index=True)


def read_cohorts(
    models: Sequence[Mapping[str, Predictions]],
    cohorts: Mapping[str, Cohort],
    metrics: Sequence[str],
    *,
    count: bool,
    work: Work,
) -> "tuple[Reading, list[pd.DataFrame]]":
    """Everything a decomposition takes from images, each of which is opened once; and the scores of each model.

    ``models`` are predictions by cohort: those of the source model, then of fine-tuned ones, which may lack a cohort.
    With ``count`` errors around the tumor are counted too.
    """
    from ..analyses.decomposition.reading import read_once

    # Asked cohort by cohort, so that a reference is read once for all models; answered model by model.
    several = {name: [one[name] for one in models if name in one] for name in cohorts}
    reading = read_once(several, cohorts, metrics=metrics, shells=count, work=work)
    left = {name: iter(tables) for name, tables in reading.scores.items()}
    parts = [[_grouped(next(left[name]).to_frame(), name) for name in model] for model in models]
    return reading, [pd.concat(of_model, ignore_index=True) for of_model in parts]


def _grouped(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    # Healthy people scanned like the patients may be called controls in a cohort of their own.
    return frame.assign(group="target_control") if name == "target_controls" else frame


def predicted(cohort: Cohort, predictions: Predictions) -> Cohort:
    """The cases that have predictions."""
    keys = {case.key for case in predictions.cohort}
    return cohort.where(lambda case: case.key in keys)
