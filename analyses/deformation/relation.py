"""Whether a network loses more, and fine-tuning helps less, where a bundle is deformed more."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...catalogue import DEFORMATION_RELATION
from ...errors import DataError
from ...results import Estimate, Finding
from ...status import Status
from ...style import legend_above, new_axes
from ...tables import parse_table
from ..scoring.metrics import METRICS
from ..scoring.table import as_frame
from ..statistics.inference import Inference
from ..statistics.people import Slopes
from .result import DeformationResult

RELATION_TITLE = "Does fine-tuning help less where a bundle is deformed more?"
_KEYS = ["participant_id", "bundle", "hemisphere"]
_NO_BASELINE = (
    "V-Norm against a template holds individual anatomy, which dilutes what a tumor's displacement does; V-Norm "
    "against an earlier scan of the same people does not."
)


MEASURES = {"template": ("v_norm_mm", "status"), "own": ("v_norm_own_mm", "own_status")}
"""What V-Norm is against, and the columns that hold it: the healthy template first, then the own baseline."""


@dataclass(frozen=True, kw_only=True)
class DeformationRelation:
    """V-Norm against what a network scores, before and after fine-tuning.

    Parameters
    ----------
    rows : DataFrame
        One row a patient and bundle: ``v_norm_mm v_norm_own_mm tumor_distance_mm`` and one column ``drop:<model>`` a
        model.
    models : tuple of str
        The source model first.
    table : DataFrame
        Columns of `shiftkit.catalogue.DEFORMATION_RELATION`: ``slope`` (drop a millimeter of V-Norm, within bundles),
        ``slope_change`` (after less before: positive where fine-tuning helps less with more V-Norm), and ``distance``:
        rank correlation of V-Norm and distance to the tumor; with V-Norm against the template, and against the own
        baseline where there is one.
    lines : DataFrame
        ``model v_norm_mm drop low high``: each model's line over V-Norm against the template, with its pointwise
        interval.
    metric : str
        What the drop is a drop of.
    """

    rows: pd.DataFrame
    models: tuple[str, ...]
    table: pd.DataFrame
    lines: pd.DataFrame
    metric: str

    def to_frame(self) -> pd.DataFrame:
        """The estimates: columns of `shiftkit.catalogue.DEFORMATION_RELATION`."""
        return self.table.copy()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Those with V-Norm against the template, then those against the own baseline."""
        return tuple(_as_estimate(row) for _, row in self.table.iterrows())

    def _given(self, quantity: str, measure: str = "template") -> list[Estimate]:
        chosen = (self.table["quantity"] == quantity) & (self.table["measure"] == measure)
        return [_as_estimate(row) for _, row in self.table[chosen].iterrows()]

    @property
    def _title(self) -> str:
        return METRICS[self.metric].title if self.metric in METRICS else self.metric

    @property
    def _worse(self) -> str:
        return "falls" if _sign(self.metric) > 0 else "rises"

    def findings(self) -> tuple[Finding, ...]:
        """The relation, ready for a report."""
        return (
            Finding(
                key="deformation-relation",
                title=RELATION_TITLE,
                claim=self._claim(),
                estimates=self.estimates,
                table=self.rows,
                caveats=(
                    "An association: deformed bundles also lie closer to the tumor, are infiltrated and are harder to "
                    "draw.",
                    *(() if self._given("slope", "own") else (_NO_BASELINE,)),
                ),
                method=(
                    "Drop below the controls' mean of the same bundle and hemisphere, regressed on V-Norm with one "
                    "intercept a bundle and hemisphere, which is where the controls' own uncertainty goes; expanded "
                    "percentile bootstrap over patients, the same draw for every model. The figure's lines have these "
                    "slopes and pass through the mean of all bundles."
                ),
                references=("10.1016/j.media.2025.103766", "10.1080/00031305.2015.1089789"),
                figure=self.plot,
                alt="Drop of each patient's bundle against its V-Norm, before and after fine-tuning, with lines and "
                "their 95 % intervals over patients.",
            ),
        )

    def _claim(self) -> str:
        first = self._given("slope")[0]
        if not np.isfinite(first.value):
            return f"How {self._title} depends on V-Norm is not given: {Status(first.status).sentence}"
        said = [
            f"With each millimeter of V-Norm, {self._title} {self._worse} by {_number(first)} before fine-tuning "
            f"({first.n} patients){'' if first.low > 0 or first.high < 0 else ', which is not shown to differ from 0'}."
        ]
        if len(self.models) == 1:
            said.append("No fine-tuned model was given, so whether it helps less there was not asked.")
        said += self._changes("template")
        own = self._given("slope", "own")
        if own and np.isfinite(own[0].value):
            said.append(f"With V-Norm against the own baseline ({own[0].n} patients) the slope is {_number(own[0])}.")
            said += self._changes("own")
        if first.status == Status.EXPLORATORY:
            said.append("With fewer than 20 patients this is exploratory.")
        return " ".join(said)

    def _changes(self, measure: str) -> list[str]:
        said: list[str] = []
        for model, one in zip(self.models[1:], self._given("slope_change", measure), strict=True):
            verdict = (
                "it helps less where V-Norm is high"
                if one.low > 0
                else "it helps more where V-Norm is high"
                if one.high < 0
                else "that it helps less where V-Norm is high is not shown"
            )
            said.append(f"After fine-tuning ({model}) the slope changes by {_number(one)}: {verdict}.")
        return said

    def plot(self, ax: Any = None) -> Any:
        """Drop against V-Norm, a color a model, lines with their intervals; returns the axes."""
        axes = new_axes(ax)
        colors = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
        x = self.rows["v_norm_mm"].to_numpy(dtype=float)
        for index, model in enumerate(self.models):
            color, marker, style = colors[index % 4], "osD^"[index % 4], ("-", "--", ":", "-.")[index % 4]
            axes.plot(x, self.rows[f"drop:{model}"], marker, color=color, markersize=3, alpha=0.4, linestyle="")
            line = self.lines[self.lines["model"] == model]
            word = "before: " if not index else "after: "
            label = (word if len(self.models) > 1 else "") + model
            # Marker and line in one entry of the legend; without a slope there is no line to draw.
            axes.plot(
                line["v_norm_mm"], line["drop"], color=color, linestyle=style, label=label, marker=marker, markevery=[]
            )
            axes.fill_between(line["v_norm_mm"], line["low"], line["high"], color=color, alpha=0.18, linewidth=0)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xlabel("mean V-Norm [mm]")
        axes.set_ylabel(f"{self._title} {'below' if _sign(self.metric) > 0 else 'above'} healthy")
        legend_above(axes, columns=2)
        return axes

    def __str__(self) -> str:
        return "\n".join([self._claim(), *map(str, self.estimates)])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self._claim())}</p>" + self.to_frame().to_html(index=False, na_rep="n/a")


def _sign(metric: str) -> int:
    return -1 if metric in METRICS and METRICS[metric].better == "lower" else 1


def _number(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]".replace("-", "\N{MINUS SIGN}")


def relate(
    result: DeformationResult,
    scores: Any,
    *,
    metric: str = "dice",
    inference: Inference = Inference(),
) -> DeformationRelation:
    """Relate V-Norm to the drop in performance and to the distance from the tumor.

    Parameters
    ----------
    result : DeformationResult
        Of the patients.
    scores : ScoreTable or DataFrame
        Patients and controls, one or several models: the first that controls are scored with is the source model,
        whose controls are the reference of all.
    metric : str
        Any of `shiftkit.analyses.scoring.metrics.METRICS`; a drop is a change for the worse.
    inference : Inference
        Of the intervals, over participants.

    Returns
    -------
    DeformationRelation
        With fewer than 5 patients there is no number, and fewer than 20 are marked exploratory.

    Raises
    ------
    DataError
        If patients and scores have no row in common, or there are no controls.
    """
    frame = as_frame(scores)
    chosen = frame[(frame["metric"] == metric) & frame["status"].isin([Status.OK, Status.MISSED])]
    control = chosen[chosen["group"] == "control"]
    if control.empty:
        raise DataError(f"A drop is one below controls; the score table has no control with metric {metric!r}.")
    source = str(control["model"].iloc[0])
    rows, models = _joined(result, chosen[chosen["group"] == "glioma"], source)
    base = control[control["model"] == source].groupby(["bundle", "hemisphere"])["value"].mean().rename("healthy")
    for model in models:
        drop = rows.join(base, on=["bundle", "hemisphere"])["healthy"] - rows[model]
        rows[f"drop:{model}"] = _sign(metric) * drop
    tables: list[pd.DataFrame] = []
    lines = pd.DataFrame()
    for measure, (column, _) in MEASURES.items():
        part = Slopes.of(rows[rows[column].notna()], column, models, inference)
        if measure == "template":
            lines = part.lines()
        if len(part.x):
            tables.append(part.table(metric).assign(measure=measure))
    table = pd.concat(tables, ignore_index=True)[list(DEFORMATION_RELATION.columns)]
    return DeformationRelation(
        rows=rows.drop(columns=list(models)),
        models=models,
        table=parse_table(table, DEFORMATION_RELATION, "The relation to deformation"),
        lines=lines,
        metric=metric,
    )


def _joined(result: DeformationResult, scores: pd.DataFrame, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Patients' V-Norm beside their values, one column a model, the source model first."""
    own = result.patients
    for column, status in MEASURES.values():
        own[column] = own[column].where(own[status] == Status.OK)
    own = own.loc[own["v_norm_mm"].notna(), [*_KEYS, "v_norm_mm", "v_norm_own_mm"]]
    values = scores.pivot_table(index=_KEYS, columns="model", values="value")
    near = scores.groupby(_KEYS)["tumor_distance_mm"].first()
    rows = own.join(near, on=_KEYS).join(values, on=_KEYS, how="inner").reset_index(drop=True)
    if rows.empty or source not in rows:
        raise DataError(
            "Deformation and scores must be of the same patients and bundles, scored with the controls' model; they "
            "have no row in common. Check the cohorts of both."
        )
    return rows, (source, *sorted(str(name) for name in values if name != source))


def _as_estimate(row: pd.Series) -> Estimate:
    quantity = str(row["quantity"]).replace("_", " ").replace("distance", "rank correlation with distance")
    words = [quantity, "" if row["model"] == "n/a" else str(row["model"])]
    numbers = {name: float(row[name]) for name in ("value", "low", "high")}
    return Estimate(
        name=" ".join(filter(None, [*words, "(own baseline)" if row["measure"] == "own" else ""])),
        **numbers,
        unit=str(row["unit"]),
        n=int(row["n_patients"]),
        status=str(row["status"]),
    )
