"""A decomposition in words and pictures."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd

from ...results import Finding
from ..scoring.metrics import METRICS, Metric
from .result import Decomposition, unit_of
from .sentences import agreed, largest_drop, other_choices, reach_of, repaired_claim

_PARTS = ("total", "systematic", "tumor")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_METHOD = (
    "Weighted least squares of each patient row's loss against controls of the same bundle and hemisphere, on levels "
    "(ridge toward their mean) and bins of edge-to-edge distance from tumor to reference bundle; beyond the far cut "
    "the tumor's effect counts as gone, and the lower bound allows as much as an exponential of 25 mm would leave. The "
    "estimate is stacked over 30 shapes of decay. Standard errors: delete-one-participant jackknife stratified by "
    "cohort, with Satterthwaite's degrees of freedom; intervals after Imbens and Manski with Student's t, joined with "
    "the stacked estimate's. Single bundles: simultaneous (max-T) intervals."
)
_REFERENCES = ("10.1111/j.1468-0262.2004.00555.x", "10.1016/j.media.2025.103766", "10.2202/1544-6115.1585")


def findings(result: Decomposition) -> tuple[Finding, ...]:
    """Findings in the order in which a reader asks."""
    made = [_components(result), _by_bundle(result), _distance(result)]
    if len(result.recovery):
        made.insert(1, _recovery(result))
    if len(result.sensitivity):
        made.append(_sensitivity(result))
    if len(result.agreement):
        made.append(_agreement(result))
    made.append(_entered(result))
    return tuple(made)


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]


def _unit(result: Decomposition) -> str:
    return unit_of(result.metric)


def _components(result: Decomposition) -> Finding:
    pooled = result.table[(result.table["bundle"] == "all") & result.table["component"].isin(_PARTS)]
    main = pooled[pooled["method"] == "anchored"]

    def figure(ax: Any) -> Any:
        return _bars(_axes(ax), main, f"Drop in patients ({_unit(result)})")

    return Finding(
        key="decomposition",
        place="lead",
        title="How the drop splits",
        claim=result.claim,
        estimates=result.estimates,
        table=pooled.reset_index(drop=True),
        caveats=result.notes,
        method=_METHOD,
        references=_REFERENCES,
        figure=figure,
        alt="Bars of total, systematic and tumor part of the drop with intervals, before and after fine-tuning.",
    )


def _bars(ax: Any, table: pd.DataFrame, label: str) -> Any:
    models = list(dict.fromkeys(table["model"]))
    width = 0.8 / len(models)
    for position, model in enumerate(models):
        rows = table[table["model"] == model].set_index("component").reindex(list(_PARTS))
        x = np.arange(len(_PARTS)) + (position - (len(models) - 1) / 2) * width
        value, error = _center(rows), _reach(rows)
        # A range stands where it lies, not on the axis.
        only_bounds = rows["estimate"].isna().to_numpy()
        bottom = np.where(only_bounds, rows["bound_low"].fillna(0.0), 0.0)
        ax.bar(
            x,
            np.where(only_bounds, rows["bound_high"].fillna(0.0), value) - bottom,
            width * 0.9,
            bottom,
            label=model,
            color=_COLORS[position % len(_COLORS)],
            hatch=("", "//", "..", "xx")[position % 4],
            edgecolor="white",
        )
        ax.errorbar(x, value, yerr=error, fmt="none", ecolor="0.2", capsize=3)
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.set_xticks(range(len(_PARTS)), ["total", "systematic", "tumor"])
    ax.set_ylabel(label)
    ax.legend(frameon=False)
    return ax


def _center(rows: pd.DataFrame) -> Any:
    """The estimate, or the middle of the bounds where only a range is given."""
    return rows["estimate"].fillna((rows["bound_low"] + rows["bound_high"]) / 2).to_numpy(dtype=float)


def _reach(rows: pd.DataFrame) -> Any:
    """How far each interval reaches below and above its center, as error bars want it; 0 where it is not given."""
    value = _center(rows)
    return np.nan_to_num(np.abs(np.stack([value - rows["low"], rows["high"] - value]).astype(float)))


def _by_bundle(result: Decomposition) -> Finding:
    table = result.table[(result.table["bundle"] != "all") & result.table["component"].isin(_PARTS)]
    first = table["model"].iloc[0] if len(table) else ""
    source = table[table["model"] == first].reset_index(drop=True)

    def figure(ax: Any) -> Any:
        return _dots(_axes(ax), source, f"Drop in patients ({_unit(result)})")

    return Finding(
        key="bundles",
        place="lead",
        title="Bundle by bundle",
        claim=largest_drop(result.told, result.metric),
        table=table.reset_index(drop=True),
        caveats=("Intervals of single bundles hold for all of them at once.",),
        method="Each bundle's part of the pooled estimate; weighted by shares of the patients' rows they add up to it.",
        figure=figure,
        alt="Systematic and tumor part of the drop of each bundle and hemisphere, with intervals.",
    )


def _dots(ax: Any, table: pd.DataFrame, label: str) -> Any:
    names = [
        textwrap.fill(name, 24) for name in dict.fromkeys((table["bundle"] + " " + table["hemisphere"]).str.strip())
    ]
    for offset, (part, marker, color) in enumerate((("systematic", "o", _COLORS[0]), ("tumor", "D", _COLORS[1]))):
        rows = table[table["component"] == part]
        y = np.arange(len(rows)) + (offset - 0.5) * 0.3
        value, error = _center(rows), _reach(rows)
        ax.errorbar(value, y, xerr=error, fmt=marker, color=color, markersize=4, label=part, capsize=2)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.axvline(0, color="0.3", linewidth=0.8)
    ax.set_xlabel(label)
    # Above the axes: inside, it covers points.
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return ax


def _distance(result: Decomposition) -> Finding:
    decay, reach = (
        next(one for one in result.estimates if one.name == name) for name in ("decay_length", "tumor_reach")
    )
    patients = result.scores[result.scores["group"] == "glioma"]

    def figure(ax: Any) -> Any:
        return _curves(_axes(ax), result, patients)

    return Finding(
        key="distance",
        place="distance",
        title="Performance against distance to the tumor",
        claim=reach_of(result.told, decay, reach, unit_of(result.metric)),
        estimates=(decay, reach),
        table=result.curve,
        method="Dark band: pointwise interval. Light band: simultaneous interval of the whole curve. Dash-dotted: a "
        "spline in place of the exponential, free in shape and flat beyond 40 mm.",
        figure=figure,
        alt="Each patient's bundles by distance to the tumor, with the fitted drop and its bands.",
    )


def _curves(ax: Any, result: Decomposition, patients: pd.DataFrame) -> Any:
    metric = METRICS[result.metric]
    healthy = result.scores.loc[result.scores["group"] == "control", "value"].to_numpy(dtype=float)
    for position, model in enumerate(dict.fromkeys(patients["model"])):
        color, style = _COLORS[position % len(_COLORS)], ("-", "--", ":", "-.")[position % 4]
        points = patients[patients["model"] == model]
        ax.scatter(
            points["tumor_distance_mm"],
            points["value"],
            s=7,
            alpha=0.45,
            color=color,
            linewidths=0,
            marker="osD^"[position % 4],
        )
        own = result.curve[result.curve["model"] == model]
        curve, free = own[own["shape"] == "exponential"], own[own["shape"] == "spline"]
        if len(curve):
            x, y = (
                curve["distance_mm"].to_numpy(dtype=float),
                {name: _worse(healthy, curve[name], metric) for name in _BAND},
            )
            ax.fill_between(x, y["high_all"], y["low_all"], color=color, alpha=0.12)
            ax.fill_between(x, y["high"], y["low"], color=color, alpha=0.25)
            ax.plot(x, y["drop"], style, color=color, label=model)
            ax.plot(free["distance_mm"], _worse(healthy, free["drop"], metric), "-.", color=color, linewidth=0.8)
    mean = "controls' mean" if metric.bounded else "controls' geometric mean"
    ax.axhline(_worse(healthy, 0.0, metric), color="0.3", linewidth=0.8, linestyle=":", label=mean)
    ax.set_xlabel("Distance from tumor to bundle (mm)")
    ax.set_ylabel(metric.label)
    ax.set_xlim(left=-1)
    ax.legend(frameon=False)
    return ax


_BAND = ("drop", "low", "high", "low_all", "high_all")


def _worse(healthy: Any, drop: Any, metric: Metric) -> Any:
    """What patients score where the drop from healthy people is so large; drops of unbounded metrics are of logs."""
    if not metric.bounded:
        return np.expm1(np.log1p(healthy).mean() + drop)
    return healthy.mean() - drop if metric.better == "higher" else healthy.mean() + drop


def _recovery(result: Decomposition) -> Finding:
    table = result.recovery
    rows = table[table["component"].isin(_PARTS)]
    given = rows[np.isfinite(rows["recovered"])]

    def figure(ax: Any) -> Any:
        return _recovered(_axes(ax), given)

    return Finding(
        key="recovery",
        place="lead",
        title="What fine-tuning repairs",
        claim=repaired_claim(table, result.metric),
        table=table,
        caveats=(
            "Before and after use the same controls, scored by the source model; what fine-tuning loses on controls is "
            "the row 'forgetting'.",
        ),
        method="(before − after) / before on the rows that both models have, every patient scored out of fold; "
        "Fieller's interval with the jackknife covariance over participants.",
        figure=figure,
        alt="Recovered share of the total drop and of its systematic and tumor part, with intervals; 0 % is no repair, "
        "100 % a full one.",
    )


def _recovered(ax: Any, given: pd.DataFrame) -> Any:
    models = list(dict.fromkeys(given["model"]))
    for position, model in enumerate(models):
        rows = given[given["model"] == model]
        y = np.array([_PARTS.index(part) for part in rows["component"]]) + (position - (len(models) - 1) / 2) * 0.2
        share, low, high = (100 * rows[name].to_numpy(dtype=float) for name in ("recovered", "low", "high"))
        reach = np.nan_to_num(np.abs(np.stack([share - low, high - share])))
        look = {"color": _COLORS[position % len(_COLORS)], "fmt": "osD^"[position % 4]}
        ax.errorbar(share, y, xerr=reach, capsize=3, markersize=5, label=model, **look)
    for edge in (0, 100):
        ax.axvline(edge, color="0.3", linewidth=0.8, linestyle="-" if edge == 0 else ":")
    ax.set_yticks(range(len(_PARTS)), _PARTS)
    ax.set_ylim(len(_PARTS) - 0.5, -0.5)
    ax.set_xlabel("Recovered by fine-tuning (%)")
    if len(models) > 1:
        ax.legend(frameon=False)
    return ax


def _sensitivity(result: Decomposition) -> Finding:
    table = result.sensitivity

    def figure(ax: Any) -> Any:
        rows = table.dropna(subset=["estimate"])
        shown = rows.assign(bundle=rows["analysis"], hemisphere="")
        return _dots(_axes(ax), shown[~shown["analysis"].str.startswith("placebo")], f"Part ({_unit(result)})")

    return Finding(
        key="sensitivity",
        title="What would have changed the answer",
        claim=other_choices(table, result.told, result.metric),
        table=table,
        caveats=(
            "Where the column 'estimand' says something other than 'same', another quantity is estimated: it need not "
            "agree with the primary one.",
        ),
        method="The primary estimate with one choice changed at a time.",
        figure=figure,
        alt="Systematic and tumor part under each other choice, with intervals.",
    )


def _agreement(result: Decomposition) -> Finding:
    table = result.agreement
    return Finding(
        key="agreement",
        title="Do other estimators agree?",
        claim=agreed(table, result.told.level),
        table=table,
        caveats=("A difference that is not shown may be there: its interval says how large it can be.",),
        method="Paired difference on the same rows with the delete-one-participant jackknife; against a range, the "
        "distance to its nearer bound; p-values adjusted after Holm. The hemispheric estimator is compared on "
        "ipsilesional bundles.",
    )


def _entered(result: Decomposition) -> Finding:
    table = result.entered
    inside = table["reason"] == "entered"
    lost = int(table.loc[~inside, "n_rows"].sum())
    return Finding(
        key="entered",
        title="Who entered",
        claim=f"{int(table.loc[inside, 'n_rows'].sum())} rows entered, {lost} did not; the table says why.",
        table=table,
    )
