"""Whether a network loses more, and fine-tuning helps less, where a bundle is deformed more."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ..errors import DataError
from ..status import Status
from ..tables import DEFORMATION_RELATION, parse_table
from ..types import Estimate, Finding
from .deformation_result import DeformationResult
from .metrics import METRICS
from .resampling import draw_weights, interval
from .rows import as_frame

RELATION_TITLE = "Does fine-tuning help less where a bundle is deformed more?"
_KEYS = ["participant_id", "bundle", "hemisphere"]
_FEWEST = 5
_ENOUGH = 20


@dataclass(frozen=True, kw_only=True)
class DeformationRelation:
    """V-Norm against what a network scores, before and after fine-tuning.

    Parameters
    ----------
    rows : DataFrame
        One row a patient and bundle: ``v_norm_mm tumor_distance_mm`` and one column ``drop:<model>`` a model.
    models : tuple of str
        The source model first.
    estimates : tuple of Estimate
        ``slope <model>`` (drop a millimeter of V-Norm, within bundles), ``slope change <model>`` (after less before:
        positive where fine-tuning helps less with more V-Norm), and ``distance``: rank correlation of V-Norm and
        distance to the tumor.
    metric : str
        What the drop is a drop of.
    """

    rows: pd.DataFrame
    models: tuple[str, ...]
    estimates: tuple[Estimate, ...]
    metric: str

    def to_frame(self) -> pd.DataFrame:
        """The estimates: columns of `shiftkit.tables.DEFORMATION_RELATION`."""
        rows = [{**vars(one), "n_patients": one.n, **self._named(one.name)} for one in self.estimates]
        columns = list(DEFORMATION_RELATION.columns)
        return parse_table(pd.DataFrame(rows)[columns], DEFORMATION_RELATION, "The relation to deformation")

    def _named(self, name: str) -> dict[str, str]:
        for start, quantity in (("slope change ", "slope_change"), ("slope ", "slope")):
            if name.startswith(start):
                return {"quantity": quantity, "model": name.removeprefix(start), "metric": self.metric}
        return {"quantity": name, "model": "n/a", "metric": "n/a"}

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
                ),
                method=(
                    "Drop below the controls' mean of the same bundle and hemisphere, regressed on V-Norm with one "
                    "intercept a bundle and hemisphere, which is where the controls' own uncertainty goes; expanded "
                    "percentile bootstrap over patients, the same draw for every model."
                ),
                references=("10.1016/j.media.2025.103766", "10.1080/00031305.2015.1089789"),
                figure=self.plot,
                alt="Drop of each patient's bundle against its V-Norm, before and after fine-tuning, with lines.",
            ),
        )

    def _claim(self) -> str:
        change = [one for one in self.estimates if one.name.startswith("slope change")]
        first = self.estimates[0]
        if not np.isfinite(first.value):
            return f"How {self._title} depends on V-Norm is not given: {Status(first.status).sentence}"
        said = f"With each millimeter of V-Norm, {self._title} {self._worse} by {_number(first)} before fine-tuning."
        if not change:
            said += " No fine-tuned model was given, so whether it helps less there was not asked."
        for one in change:
            model = one.name.removeprefix("slope change ")
            verdict = (
                "it helps less where V-Norm is high"
                if one.low > 0
                else "it helps more where V-Norm is high"
                if one.high < 0
                else "that it helps less where V-Norm is high is not shown"
            )
            said += f" After fine-tuning ({model}) the slope changes by {_number(one)}: {verdict}."
        return said

    def plot(self, ax: Any = None) -> Any:
        """Drop against V-Norm, a color a model; returns the axes."""
        from matplotlib import pyplot as plt

        axes: Any = plt.subplots(layout="constrained")[1] if ax is None else ax
        colors = ("#d55e00", "#0072b2", "#009e73", "#cc79a7")
        x = self.rows["v_norm_mm"].to_numpy(dtype=float)
        for index, model in enumerate(self.models):
            y = self.rows[f"drop:{model}"].to_numpy(dtype=float)
            there = np.isfinite(y)
            color = colors[index % len(colors)]
            axes.plot(x[there], y[there], "osD^"[index % 4], color=color, markersize=3, alpha=0.5, label=model)
            slope = next(one.value for one in self.estimates if one.name == f"slope {model}")
            if np.isfinite(slope):
                ends = np.array([x[there].min(), x[there].max()])
                line = y[there].mean() + slope * (ends - x[there].mean())
                axes.plot(ends, line, color=color, linestyle=("-", "--", ":", "-.")[index % 4])
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xlabel("mean V-Norm [mm]")
        axes.set_ylabel(f"{self._title} {'below' if _sign(self.metric) > 0 else 'above'} healthy")
        axes.legend(frameon=False)
        return axes

    def __str__(self) -> str:
        return "\n".join([self._claim(), *map(str, self.estimates)])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self._claim())}</p>" + self.to_frame().to_html(index=False, na_rep="n/a")


def _sign(metric: str) -> int:
    return -1 if metric in METRICS and METRICS[metric].better == "lower" else 1


def _number(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def relate(
    result: DeformationResult,
    scores: Any,
    *,
    metric: str = "dice",
    n_bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
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
        Any of `shiftkit.analyses.metrics.METRICS`; a drop is a change for the worse.
    n_bootstrap, level, seed
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
    people, healthy = sorted(set(rows["participant_id"])), control[control["model"] == source]
    weights = draw_weights((len(people),), n_bootstrap, np.random.default_rng(seed))
    whole = np.ones((1, len(people)))
    who = np.array([people.index(name) for name in rows["participant_id"]], dtype=np.intp)
    level_of = rows.groupby(["bundle", "hemisphere"]).ngroup().to_numpy()
    base = healthy.groupby(["bundle", "hemisphere"])["value"].mean().rename("healthy")
    for model in models:
        drop = rows.join(base, on=["bundle", "hemisphere"])["healthy"] - rows[model]
        rows[f"drop:{model}"] = _sign(metric) * drop
    x = rows["v_norm_mm"].to_numpy(dtype=float)
    drops = {model: rows[f"drop:{model}"].to_numpy(dtype=float) for model in models}

    def slopes(drawn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {model: np.array([_slope(x, y, level_of, w[who]) for w in drawn]) for model, y in drops.items()}

    point, boot = slopes(whole), slopes(weights)
    made = [_estimate(f"slope {m}", point[m][0], boot[m], level, len(people)) for m in models]
    for model in models[1:]:
        change = point[model][0] - point[source][0], boot[model] - boot[source]
        made.append(_estimate(f"slope change {model}", change[0], change[1], level, len(people)))
    near = rows["tumor_distance_mm"].to_numpy(dtype=float)
    ranks = np.array([_spearman(x, near, w[who]) for w in weights])
    made.append(_estimate("distance", _spearman(x, near, np.ones(len(x))), ranks, level, len(people)))
    return DeformationRelation(
        rows=rows.drop(columns=list(models)), models=models, estimates=tuple(made), metric=metric
    )


def _joined(result: DeformationResult, scores: pd.DataFrame, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Patients' V-Norm beside their values, one column a model, the source model first."""
    own = result.patients
    own = own.loc[own["status"] == Status.OK, [*_KEYS, "v_norm_mm"]]
    values = scores.pivot_table(index=_KEYS, columns="model", values="value")
    near = scores.groupby(_KEYS)["tumor_distance_mm"].first()
    rows = own.join(near, on=_KEYS).join(values, on=_KEYS, how="inner").reset_index(drop=True)
    if rows.empty or source not in rows:
        raise DataError(
            "Deformation and scores must be of the same patients and bundles, scored with the controls' model; they "
            "have no row in common. Check the cohorts of both."
        )
    return rows, (source, *sorted(str(name) for name in values if name != source))


def _slope(x: NDArray[Any], y: NDArray[Any], group: NDArray[Any], weight: NDArray[Any]) -> float:
    """Weighted least squares with one intercept a group; NaN where nothing varies."""
    weight = np.where(np.isfinite(y), weight, 0.0)
    y = np.nan_to_num(y)
    total = np.maximum(np.bincount(group, weight), 1e-12)
    a = x - (np.bincount(group, weight * x) / total)[group]
    b = y - (np.bincount(group, weight * y) / total)[group]
    spread = float((weight * a * a).sum())
    return float((weight * a * b).sum()) / spread if spread > 1e-12 else float("nan")


def _spearman(x: NDArray[Any], y: NDArray[Any], weight: NDArray[Any]) -> float:
    """Rank correlation of rows repeated by integer weights; rows without a distance do not count."""
    index = np.repeat(np.arange(len(x)), np.where(np.isfinite(y), weight, 0).astype(int))
    if len(np.unique(x[index])) < 3 or len(np.unique(y[index])) < 3:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(x[index]), stats.rankdata(y[index]))[0, 1])


def _estimate(name: str, value: float, draws: NDArray[np.float64], level: float, n: int) -> Estimate:
    if n < _FEWEST or not np.isfinite(value):
        return Estimate(name=name, value=float("nan"), n=n, level=level, status=Status.TOO_FEW)
    low, high = interval(draws, level, n)
    unit = "1" if name == "distance" else "per mm"
    status = Status.OK if n >= _ENOUGH else Status.EXPLORATORY
    return Estimate(name=name, value=value, low=low, high=high, level=level, unit=unit, n=n, status=status)
