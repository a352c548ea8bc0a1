"""Learning curves: how good a network becomes with how many patients, and whether its source helps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..status import Status
from ..tables import CURVES, SHOTS
from .resampling import draw_weights, interval
from .score_table import ScoreTable
from .shots_result import SCRATCH, ZERO_SHOT, LearningCurves
from .split import EXPLORATORY_BELOW

Array = NDArray[np.float64]
Key = tuple[str, int, int]
FEWEST = 3
"""Participants below which no interval is given."""


def learning_curves(
    runs: Mapping[Key, ScoreTable],
    *,
    zero_shot: ScoreTable,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> LearningCurves:
    """Dice against the number of patients trained on, with intervals over participants.

    Within a run a participant's Dice is averaged over bundles, then over the repeated draws of a number of patients;
    every interval resamples participants, the same ones for all runs, so that differences are paired.

    Parameters
    ----------
    runs : mapping
        Out-of-fold scores by (strategy, number of patients, draw), as `shiftkit.segmentation.shots.finetune_shots`
        makes their predictions.
    zero_shot : ScoreTable
        Scores of the source model as it is, on the same participants.
    n_bootstrap : int
        Bootstrap draws.
    level : float
        Coverage of the intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    LearningCurves

    Raises
    ------
    ConfigError
        If there is no run.
    DataError
        If no participant is scored in all of them.

    Examples
    --------
    >>> def scored(dice):
    ...     row = dict(cohort="c", group="glioma", model="m", modality="fa", bundle="AF", hemisphere="left",
    ...                side="ipsi", metric="dice", unit="1", status="ok", tumor_distance_mm=5.0)
    ...     rows = [{**row, "participant_id": f"sub-{i}", "value": dice + 0.01 * i} for i in range(6)]
    ...     return ScoreTable(frame=pd.DataFrame(rows))
    >>> runs = {("decoder", 4, 0): scored(0.7), ("scratch", 4, 0): scored(0.5)}
    >>> print(learning_curves(runs, zero_shot=scored(0.6), n_bootstrap=200).claim)  # doctest: +ELLIPSIS
    With 4 patients, decoder reaches a Dice of 0.725 [..., ...]: +0.100 [0.100, 0.100] over the source model as it ...
    """
    if not runs:
        raise ConfigError("Learning curves need at least one fine-tuning; none was given.")
    values = pd.concat(
        [_values(scores, key) for key, scores in {(ZERO_SHOT, 0, 0): zero_shot, **runs}.items()], ignore_index=True
    )
    people = _complete(values)
    everyone = values["participant_id"].nunique()
    table = _by_participant(values, people)
    rng = np.random.default_rng(seed)
    weights = draw_weights([len(people)], n_bootstrap, rng) / len(people)
    draws = values.groupby(["strategy", "shots"])["draw"].nunique()
    rows: list[dict[str, Any]] = []
    for (strategy, shots), column in table.items():  # pyright: ignore[reportGeneralTypeIssues]
        against: dict[str, Any] = {"dice": 0.0}
        if strategy != ZERO_SHOT:
            against["gain_over_zero_shot"] = table[ZERO_SHOT, 0]
        if strategy not in (ZERO_SHOT, SCRATCH) and (SCRATCH, shots) in table:
            against["gain_over_scratch"] = table[SCRATCH, shots]
        for quantity, other in against.items():
            difference = np.asarray(column - other, dtype=np.float64)
            estimate = _estimate(difference, weights, level)
            rows.append({"strategy": strategy, "shots": shots, "quantity": quantity, **estimate})
            rows[-1]["n_draws"] = int(draws[strategy, shots])
    return LearningCurves(
        runs=_by_bundle(values),
        curves=pd.DataFrame(rows)[list(CURVES.columns)],
        level=level,
        left_out=everyone - len(people),
    )


def _values(scores: ScoreTable, key: Key) -> pd.DataFrame:
    """One row a participant and bundle; sessions are averaged."""
    frame = scores.metric("dice")
    identity = ["participant_id", "bundle", "hemisphere"]
    means = frame.groupby(identity, sort=False)["value"].mean().reset_index()
    strategy, shots, draw = key
    return means.assign(strategy=strategy, shots=shots, draw=draw)


def _complete(values: pd.DataFrame) -> list[str]:
    """Participants with a value in every run."""
    given = values.assign(run=values.groupby(["strategy", "shots", "draw"]).ngroup())
    wanted = given["run"].nunique()
    runs = given.dropna(subset=["value"]).groupby("participant_id")["run"].nunique()
    people = sorted(str(name) for name in runs.index[runs == wanted])
    if not people:
        raise DataError(
            f"Learning curves compare runs on the same participants; none has a Dice in all {wanted} runs. See why "
            "their predictions failed, or whether the runs are of one cohort."
        )
    return people


def _by_participant(values: pd.DataFrame, people: list[str]) -> pd.DataFrame:
    """Mean Dice of each participant (rows) by strategy and shots (columns): over bundles, then over draws."""
    kept = values[values["participant_id"].isin(people)]
    each = kept.groupby(["strategy", "shots", "draw", "participant_id"], sort=False)["value"].mean()
    mean = each.groupby(["strategy", "shots", "participant_id"], sort=False).mean()
    return mean.unstack(["strategy", "shots"]).loc[people]  # pyright: ignore[reportReturnType]


def _estimate(values: Array, weights: Array, level: float) -> dict[str, Any]:
    n = len(values)
    low, high = interval(weights @ values, level, n) if n >= FEWEST else (float("nan"), float("nan"))
    status = Status.TOO_FEW if n < FEWEST else Status.EXPLORATORY if n < EXPLORATORY_BELOW else Status.OK
    return {"value": float(values.mean()), "low": low, "high": high, "n_patients": n, "status": str(status)}


def _by_bundle(values: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice over participants of every run, for each bundle and for all bundles."""
    run = ["strategy", "shots", "draw"]
    pooled = values.groupby([*run, "participant_id"], sort=False)["value"].mean().reset_index()
    rows = pd.concat([pooled.assign(bundle="all", hemisphere="all"), values])
    made = rows.groupby([*run, "bundle", "hemisphere"], sort=False)["value"].agg(dice="mean", n_patients="count")
    made = made.reset_index().sort_values(run, kind="stable", ignore_index=True)
    return made.assign(status=np.where(made["n_patients"] > 0, Status.OK, Status.UNAVAILABLE))[list(SHOTS.columns)]
