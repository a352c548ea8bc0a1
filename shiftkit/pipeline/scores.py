"""Predictions and scores of every cohort of a run, which several stages start from."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..cohorts.folder import (
    load_cohort,
    mask_path,
    participants_frame,
    probability_path,
    write_description,
    write_participants,
)
from ..errors import DataError, raise_all
from ..images import read_mask, write_image
from ..runs import Run
from ..types import Bundle, Case, Cohort, Predictions, Volume
from ..work import Work
from .inputs import Inputs, Tool

if TYPE_CHECKING:
    from ..analyses.decomposition.reading import Reading
    from ..analyses.scoring.predictions import PredictedMasks


def predict_cohorts(run: Run, inputs: Inputs, device: str, work: Work, place: str = "") -> dict[str, Predictions]:
    """Predict every cohort with the source model; what is on disk already is not made again.

    Predictions of a tool are put in their place, as a cohort again; those of a further model in a ``place`` of its own.
    """
    folder = run.root / "predictions" / place
    if isinstance(inputs.model, Tool):
        tool = inputs.model
        return {name: adopt(tool, cohort, folder / name, work) for name, cohort in inputs.cohorts.items()}
    from ..segmentation.prediction.cohort import predict

    return {
        name: predict(inputs.model, cohort, out=folder / name, device=device, resume=True, work=work)
        for name, cohort in inputs.cohorts.items()
    }


def unread(tool: Tool, cohort: Cohort, others: Collection[Cohort] = ()) -> dict[str, str]:
    """Whose predictions cannot be read, with the reason, as far as names of files tell.

    A `DataError` where there is nothing to read: names of cases or bundles do not match, all are unfinished, or bundles
    were written for some cases alone and ``unwritten`` is not given. Where one of the ``others`` of the same run has
    predictions, names are not at fault.
    """
    from ..analyses.scoring.cases import require_predictions, require_written

    done = [one.name for one in others if any(map(tool.predicted.of, one))]
    if done and not any(map(tool.predicted.of, cohort)):
        keys = [case.key for case in cohort.cases[:3]]
        raise DataError(
            f"Patients and controls need predictions of the same tool; {tool.predicted.name} holds those of "
            f"{' and '.join(done)}, and of nobody of {cohort.name} ({', '.join(keys)}{', …' * (len(cohort) > 3)}). "
            f"Segment {cohort.name} with it too, and name that folder as well in `predictions`."
        )
    require_predictions(cohort, tool.predicted)
    if tool.unwritten is None:
        require_written(cohort, tool.predicted)
    failed = {case.key: "there is no prediction of it" for case in cohort if not tool.predicted.of(case)}
    return failed | tool.predicted.unfinished(cohort)


def adopt(tool: Tool, cohort: Cohort, out: Path, work: Work) -> Predictions:
    """Write predictions that another tool made for a cohort as `shiftkit.predict` would, on its references' grid.

    A bundle goes by the cohort's own name. Cases without predictions, or whose images cannot be read, are in
    ``failed``, with the reason; where all are, a `DataError`. See `unread`.
    """
    failed = unread(tool, cohort)
    predicted = dataclasses.replace(tool.predicted, unwritten=tool.unwritten or "unavailable")
    wanted = [case for case in cohort if case.key not in failed]
    results = work.map(partial(_adopt_case, tool, predicted, cohort.bundles, out), wanted, f"Reading {predicted.name}")
    problems = {case.key: told for case, told in zip(wanted, results, strict=True) if told is not None}
    if problems and len(problems) == len(wanted):
        raise_all([f"{key}: {told}" for key, told in problems.items()], f"Predictions {predicted.name}")
    made_by = {"Name": tool.name, "Digest": [tool.digest], "Modality": tool.modality}
    write_description(out, f"{tool.name} on {cohort.name}", Model=made_by, Cohort=cohort.name)
    write_participants(out, participants_frame(cohort))
    made = load_cohort(out, name=cohort.name)
    there = made.where(lambda case: case.key not in {**failed, **problems})
    return Predictions(cohort=there, model=tool.name, modality=tool.modality, failed={**failed, **problems})


def _adopt_case(
    tool: Tool, predicted: "PredictedMasks", bundles: Sequence[Bundle], out: Path, case: Case
) -> str | None:
    """Write one case, or say what is wrong with it; a case is written whole or not at all."""
    made: dict[Path, Volume] = {}
    try:
        for bundle in bundles:
            reference = read_mask(case.masks[bundle]) if bundle in case.masks else None
            mask = predicted.read_mask(case, bundle, reference, tool.threshold, tool.resample)
            if mask is None:
                continue
            made[mask_path(out, case.key, bundle)] = mask
            if reference is not None:
                share = predicted.read_probability(case, bundle, reference, tool.resample)
                made |= {} if share is None else {probability_path(out, case.key, bundle): share}
    except DataError as error:
        return str(error)
    for path, volume in made.items():
        write_image(volume, path)
    return None


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

    ``models`` are predictions by cohort: those of the source model, then of others, which may lack a cohort.
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
