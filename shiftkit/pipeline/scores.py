"""Predictions and scores of every cohort of a run, which several stages start from."""

from collections.abc import Mapping, Sequence

import pandas as pd

from ..runs import Run
from ..types import Cohort, Predictions
from ..work import Work
from .inputs import Inputs


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
        frame = score(one, predicted(cohorts[name], one), metrics=metrics, work=work).to_frame()
        tables.append(frame.assign(group="target_control") if name == "target_controls" else frame)
    return pd.concat(tables, ignore_index=True)


def predicted(cohort: Cohort, predictions: Predictions) -> Cohort:
    """The cases that have predictions."""
    keys = {case.key for case in predictions.cohort}
    return cohort.where(lambda case: case.key in keys)
