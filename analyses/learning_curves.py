"""How many patients transfer learning takes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..catalogue import CURVES, SHOTS
from ..errors import ConfigError, DataError
from ..results import Estimate, Finding, Result
from ..status import Status
from ..style import BLUE, GREEN, ORANGE, PINK, VERMILION, beside, intervals, legend, new_axes
from .scoring.table import ScoreTable
from .statistics.inference import Inference, as_row

ZERO_SHOT = "none"
SCRATCH = "scratch"
FEWEST = 3
"""Participants below which no interval is given."""
Key = tuple[str, int, int]
_RUN = ["strategy", "shots", "draw"]  # what a key is made of
_COLORS = (BLUE, GREEN, PINK, ORANGE)
_METHOD = (
    "In each fold the network was trained on so many of the patients outside it, in repeated random draws; fewer "
    "patients of a draw are a subset of more. Strategies share folds and draws. Every patient is scored by the model "
    "that never saw them; Dice is averaged over bundles within a patient, then over draws. Intervals: expanded "
    "percentile bootstrap over patients, the same ones in all runs, so that differences are paired."
)
_REFERENCES = ("10.1080/00031305.2015.1089789",)


@dataclass(frozen=True, kw_only=True)
class LearningCurves(Result):
    """Dice against the number of patients, for each strategy.

    ``table`` has the columns of `shiftkit.catalogue.CURVES`: Dice and gains with intervals over participants.

    Parameters
    ----------
    runs : DataFrame
        Columns of `shiftkit.catalogue.SHOTS`: one row a run and bundle; the source model as it is, is strategy ``none``
        with 0 patients.
    level : float
        Coverage of the intervals.
    left_out : int
        Participants without a Dice in every run, who are not in the curves.
    """

    runs: pd.DataFrame
    level: float
    left_out: int = 0

    @property
    def curves(self) -> pd.DataFrame:
        """The table: one row a strategy, number of patients and quantity."""
        return self.table

    @property
    def strategies(self) -> tuple[str, ...]:
        """What was trained, the control last."""
        found = [name for name in dict.fromkeys(self.curves["strategy"]) if name not in (ZERO_SHOT, SCRATCH)]
        return (*found, *([SCRATCH] if SCRATCH in set(self.curves["strategy"]) else []))

    def told(self) -> "LearningCurves":
        """The result with its claim and finding."""
        result = replace(self, claim=self._claim())
        return replace(result, findings=(result._finding(),))

    def _claim(self) -> str:
        """What most patients bring, and with how few it is shown to help."""
        said: list[str] = []
        for strategy in self.strategies:
            if strategy == SCRATCH and len(self.strategies) > 1:
                continue  # it is what the others are held against
            most = int(self.curves.loc[self.curves["strategy"] == strategy, "shots"].max())
            dice = self._at(strategy, most, "dice")
            parts = [f"{self._at(strategy, most, 'gain_over_zero_shot', '+')} over the source model as it is"]
            if SCRATCH in self.strategies and strategy != SCRATCH:
                parts.append(f"{self._at(strategy, most, 'gain_over_scratch', '+')} over training without a source")
            said.append(
                f"With {most} patient{'s' * (most != 1)}, {strategy} reaches a Dice of {dice}: {' and '.join(parts)}. "
                + self._fewest(strategy)
            )
        return " ".join(said)

    def _finding(self) -> Finding:
        """The curves, ready for a report."""
        left = f"{self.left_out} of the patients have no score in some run and are left out." if self.left_out else ""
        return Finding(
            key="shots",
            title="How many patients does fine-tuning take?",
            claim=self.claim,
            estimates=self.estimates,
            table=self.to_frame(),
            caveats=(
                "Intervals are over patients, given the folds and the draws that were made; the dots, one a draw, show "
                "how much it matters which patients are trained on.",
                "One of five patients chooses the epoch where there are more than two, and is counted.",
                *([left] if left else []),
            ),
            method=_METHOD,
            references=_REFERENCES,
            figure=self._draw,
            alt="Dice against the number of patients, for fine-tuning and training from scratch, beside zero-shot.",
        )

    def _draw(self, ax: Any = None) -> Any:
        """Dice against the number of patients, with intervals, a dot a draw, and zero-shot as a line; returns axes."""
        axes = new_axes(ax)
        source = self._row(ZERO_SHOT, 0, "dice")
        axes.axhline(source["value"], color="0.45", linestyle="--", linewidth=1, label="zero-shot")
        axes.axhspan(source["low"], source["high"], color="0.45", alpha=0.15, linewidth=0)
        pooled = self.runs[self.runs["bundle"] == "all"]
        for place, strategy in enumerate(self.strategies):
            color = VERMILION if strategy == SCRATCH else _COLORS[place % len(_COLORS)]
            aside = 1 + beside(place, len(self.strategies), 0.04)  # a factor, as the axis is logarithmic
            rows = self._rows(strategy, "dice")
            drawn = (rows[name] for name in ("value", "low", "high"))
            intervals(axes, rows["shots"] * aside, *drawn, fmt="-o", capsize=3, color=color, label=strategy)
            each = pooled[pooled["strategy"] == strategy]
            axes.plot(each["shots"] * aside, each["dice"], ".", markersize=4, alpha=0.5, color=color)
        axes.set_xscale("log", base=2)
        numbers = sorted(set(self.curves["shots"]) - {0})
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()
        axes.set_xlabel("patients trained on in each fold")
        axes.set_ylabel("Dice, out of fold")
        legend(axes)
        return axes

    def __str__(self) -> str:
        lines = [self.claim]
        for strategy in self.strategies:
            rows = self._rows(strategy, "dice")
            told = ", ".join(f"{shots:g}: {self._at(strategy, shots, 'dice')}" for shots in rows["shots"])
            lines.append(f"{strategy}, Dice by patients: {told}")
        return "\n".join(lines)

    def _fewest(self, strategy: str) -> str:
        rows = self._rows(strategy, "gain_over_zero_shot")
        better = rows[rows["low"] > 0]["shots"]
        if better.empty:
            return "With none of these numbers is it shown to be better than the source model as it is."
        return f"The smallest number with which it is shown to be better than the source model: {better.min():g}."

    def _rows(self, strategy: str, quantity: str) -> pd.DataFrame:
        return self.table[(self.table["strategy"] == strategy) & (self.table["quantity"] == quantity)]

    def _row(self, strategy: str, shots: int, quantity: str) -> dict[Any, Any]:
        rows = self._rows(strategy, quantity)
        return dict(rows[rows["shots"] == shots].iloc[0])

    def _at(self, strategy: str, shots: int, quantity: str, sign: str = "") -> str:
        row = self._row(strategy, shots, quantity)
        shown = f" [{row['low']:.3f}, {row['high']:.3f}]" if np.isfinite(row["low"]) else ""
        return f"{row['value']:{sign}.3f}{shown}"


def learning_curves(
    runs: Mapping[Key, ScoreTable], *, zero_shot: ScoreTable, inference: Inference = Inference()
) -> LearningCurves:
    """Dice against the number of patients trained on, with intervals over participants.

    Within a run a participant's Dice is averaged over bundles, then over the repeated draws of a number of patients;
    every interval resamples participants, the same ones for all runs, so that differences are paired.

    Parameters
    ----------
    runs : mapping
        Out-of-fold scores by (strategy, number of patients, draw), as
        `shiftkit.segmentation.transfer.shots.finetune_shots` makes their predictions.
    zero_shot : ScoreTable
        Scores of the source model as it is, on the same participants.

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
    >>> found = learning_curves(runs, zero_shot=scored(0.6), inference=Inference(n_bootstrap=200))
    >>> print(found.claim)  # doctest: +ELLIPSIS
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
    weights = inference.weights([len(people)]) / len(people)  # the same for all runs: differences are paired
    draws = values.groupby(["strategy", "shots"])["draw"].nunique()
    estimates: list[Estimate] = []
    rows: list[dict[str, Any]] = []
    for (strategy, shots), column in table.items():  # pyright: ignore[reportGeneralTypeIssues]
        against: dict[str, Any] = {"dice": 0.0}
        if strategy != ZERO_SHOT:
            against["gain_over_zero_shot"] = table[ZERO_SHOT, 0]
        if strategy not in (ZERO_SHOT, SCRATCH) and (SCRATCH, shots) in table:
            against["gain_over_scratch"] = table[SCRATCH, shots]
        for quantity, other in against.items():
            gain = np.asarray(column - other, dtype=np.float64)
            name = f"{strategy}, {shots:g} patients, {quantity.replace('_', ' ')}"
            one = inference.estimate(name, float(gain.mean()), weights @ gain, len(gain), "Dice", fewest=FEWEST)
            estimates.append(one)
            run = {"strategy": strategy, "shots": shots, "n_draws": int(draws[strategy, shots])}
            rows.append({**run, "quantity": quantity, **as_row(one)})
    return LearningCurves(
        table=pd.DataFrame(rows)[list(CURVES.columns)],
        estimates=tuple(estimates),
        runs=_by_bundle(values),
        level=inference.level,
        left_out=everyone - len(people),
    ).told()


def _values(scores: ScoreTable, key: Key) -> pd.DataFrame:
    """One row a participant and bundle; sessions are averaged."""
    each = scores.metric("dice").groupby(["participant_id", "bundle", "hemisphere"], sort=False)
    return each["value"].mean().reset_index().assign(**dict(zip(_RUN, key, strict=True)))


def _complete(values: pd.DataFrame) -> list[str]:
    """Participants with a value in every run."""
    given = values.assign(run=values.groupby(_RUN).ngroup())
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
    each = kept.groupby([*_RUN, "participant_id"], sort=False)["value"].mean()
    mean = each.groupby(["strategy", "shots", "participant_id"], sort=False).mean()
    return mean.unstack(["strategy", "shots"]).loc[people]  # pyright: ignore[reportReturnType]


def _by_bundle(values: pd.DataFrame) -> pd.DataFrame:
    """Mean Dice over participants of every run, for each bundle and for all bundles."""
    pooled = values.groupby([*_RUN, "participant_id"], sort=False)["value"].mean().reset_index()
    rows = pd.concat([pooled.assign(bundle="all", hemisphere="all"), values])
    made = rows.groupby([*_RUN, "bundle", "hemisphere"], sort=False)["value"].agg(dice="mean", n_patients="count")
    made = made.reset_index().sort_values(_RUN, kind="stable", ignore_index=True)
    return made.assign(status=np.where(made["n_patients"] > 0, Status.OK, Status.UNAVAILABLE))[list(SHOTS.columns)]
