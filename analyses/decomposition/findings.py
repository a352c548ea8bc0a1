"""A decomposition in words and pictures."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd

from ...results import Estimate, Finding
from ...status import Status
from ..scoring.metrics import METRICS, Metric
from ..statistics.inference import EXPLORATORY_BELOW, interval
from .result import Decomposition, Settings, Split, unit_of


def verdict_of(before: Split, repaired: pd.DataFrame, settings: Settings) -> str:
    """The answer in one to three sentences, with every number's interval."""
    unit = unit_of(settings.metric)
    total = before.estimate("total")
    if not np.isfinite(total.value):
        return f"No number is given: {Status(total.status).sentence}"
    digits = 2 if abs(total.value) >= 0.1 else 3  # small drops need the third decimal to add up
    drop = f"{total.value:z.{digits}f} {unit} {_range(total, digits)}".replace("-", "−")
    if before.status == Status.SPLIT_WITHHELD:
        return f"Patients are worse than controls by {drop}. {Status.SPLIT_WITHHELD.sentence}"
    lost = f"{drop} {_lost(settings.metric, total.value)}"
    far, near = before.estimate("systematic"), before.estimate("tumor")
    sentence = (
        f"Of the {lost}, {far.value:z.{digits}f} {_range(far, digits)} is systematic and "
        f"{near.value:z.{digits}f} {_range(near, digits)} is due to the tumor's proximity"
    ).replace("-", "−")
    if before.status == Status.NO_TUMOR_EFFECT_SHOWN:
        sentence += f", which the test did not show to differ from nothing (p = {before.p_tumor:.2g})"
    parts = [_repair(name, rows) for name, rows in repaired.groupby("model", sort=False)]
    ending = "; ".join(part for part in parts if part)
    explored = " With fewer than 20 patients this is exploratory." if before.rows.n_patients < EXPLORATORY_BELOW else ""
    return sentence + (f"; {ending}." if ending else ".") + explored


def _repair(name: object, rows: pd.DataFrame) -> str:
    words: list[str] = []
    for component, what in (("systematic", "the systematic part"), ("tumor", "the tumor's")):
        row = rows[rows["component"] == component].iloc[0]
        if np.isfinite(row["recovered"]):
            words.append(f"{recovered_percent(row)} of {what}")
    strategy = str(name).rsplit("+", 1)[-1]
    return f"fine-tuning ({strategy}) removes {' and '.join(words)}" if words else ""


def recovered_percent(row: "pd.Series[float]") -> str:
    """A recovered fraction with its interval, in percent."""
    share, low, high = (f"{100 * row[name]:.0f}".replace("-", "−") for name in ("recovered", "low", "high"))
    return f"{share} % [{low}, {high}]"


def _lost(metric: str, drop: float) -> str:
    """Shares are lost; distances grow, and a difference of logs is read as a factor."""
    found = METRICS[metric]
    if found.bounded:
        return "lost by patients" if found.better == "higher" else "by which patients are worse"
    unit = "" if found.unit == "1" else f" {found.unit}"
    return f"by which patients are worse ({found.title} + 1{unit} is {100 * np.expm1(drop):.0f} % larger)".replace(
        "-", "−"
    )


def _range(estimate: Estimate, digits: int) -> str:
    return f"[{estimate.low:z.{digits}f}, {estimate.high:z.{digits}f}]".replace("-", "−")


def notes_of(before: Split, settings: Settings) -> tuple[str, ...]:
    """What a reader must know: the status, equivalence of the systematic part, and what it mixes."""
    notes: list[str] = []
    if before.status != Status.OK:
        notes.append(Status(before.status).sentence)
    far = before.estimate("systematic")
    _, draws = before.regression.component("systematic")
    if np.isfinite(far.value):
        # Two one-sided tests at 5 % are the 90 % interval against the margin.
        low, high = interval(draws, 0.90, before.n)
        inside = -settings.margin < low and high < settings.margin
        notes.append(
            f"The systematic part is {'' if inside else 'not shown to be '}equivalent to none within "
            f"± {settings.margin:g} {unit_of(settings.metric)} (90 % interval {low:.3f} to {high:.3f})."
        )
    return (*notes, _mixture(before), *disagreements(before.table))


def _mixture(before: Split) -> str:
    """What the systematic part stands for: a mixture, unless controls were scanned like the patients."""
    if not before.rows.n_target_controls:
        return (
            "The systematic part mixes scanner, protocol, pre-processing, label style, age and diffuse disease, unless "
            "controls were scanned like the patients."
        )
    table = before.table[(before.table["bundle"] == "all") & (before.table["method"] == "regression")]
    parts = {
        name: table[table["component"] == name].iloc[0].to_dict() for name in ("systematic", "acquisition", "disease")
    }
    told = {
        name: f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]".replace("-", "−")
        if np.isfinite(row["estimate"])
        else "a number that is withheld"
        for name, row in parts.items()
    }
    return (
        f"{before.rows.n_target_controls} controls were scanned like the patients: of the systematic part, "
        f"{told['systematic']}, the acquisition (scanner, protocol, pre-processing) makes up {told['acquisition']}; "
        f"{told['disease']} is left for diffuse disease, age and whatever else sets patients apart."
    )


def disagreements(components: pd.DataFrame) -> tuple[str, ...]:
    """Sentences on estimators of the same quantity whose intervals do not overlap, pooled over bundles.

    The hemispheric estimator's tumor part speaks of ipsilesional bundles only, so it is compared in the systematic
    part alone.
    """
    pooled = components[components["bundle"] == "all"]
    first = pooled["model"].iloc[0] if len(pooled) else ""
    pooled = pooled[(pooled["model"] == first) & np.isfinite(pooled["low"]) & np.isfinite(pooled["high"])]
    told: list[str] = []
    for component, others in (("systematic", ("hemispheric", "shell")), ("tumor", ("shell",))):
        rows = pooled[pooled["component"] == component].set_index("method")
        for other in others:
            if {"regression", other} <= set(rows.index):
                a, b = rows.loc["regression"].to_dict(), rows.loc[other].to_dict()
                if a["high"] < b["low"] or b["high"] < a["low"]:
                    told.append(
                        f"The estimators disagree on the {component} part: regression {a['estimate']:.3f} "
                        f"[{a['low']:.3f}, {a['high']:.3f}], {other} {b['estimate']:.3f} [{b['low']:.3f}, "
                        f"{b['high']:.3f}]. Trust neither until you know why.".replace("-", "−")
                    )
    return tuple(told)


def shape_note(before: Split, other_choices: pd.DataFrame, settings: Settings) -> tuple[str, ...]:
    """A sentence if a curve that is free in shape splits otherwise, by more than the effect that counts as none.

    Simulated tumors whose effect does not decay exponentially make the regression err by more than its interval says
    (``benchmarks/validation.md``); the spline of the sensitivity table shows it.
    """
    spline = other_choices[other_choices["analysis"] == "spline with a flat tail"].set_index("component")["estimate"]
    far = before.estimate("systematic").value
    if "systematic" not in spline or not abs(spline["systematic"] - far) > settings.margin:
        return ()
    return (
        "The shape of the decay matters here: with a spline that is free in shape and flat beyond 40 mm the systematic "
        f"part is {spline['systematic']:.3f} instead of {far:.3f}. Quote both.".replace("-", "−"),
    )


_PARTS = ("total", "systematic", "tumor")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MODEL = {True: "Fractional logit by quasi-likelihood", False: "Linear model of log(x + 1) by least squares"}
_METHOD = (
    " with one intercept and one cohort term a bundle and hemisphere, and a term "
    "that decays exponentially with the edge-to-edge distance from tumor to reference bundle; components by "
    "g-computation over the patients, averaged within participants first. Intervals: expanded percentile bootstrap "
    "over participants, stratified by cohort, decay length profiled anew in every draw. Tests: studentized permutation "
    "of whole distance vectors within strata of tumor volume, and of cohort labels."
)
_REFERENCES = ("10.1016/j.media.2025.103766", "10.1080/00031305.2015.1089789", "10.2202/1544-6115.1585")


def findings(result: Decomposition) -> tuple[Finding, ...]:
    """Findings in the order in which a reader asks."""
    made = [_components(result), _by_bundle(result), _distance(result)]
    if len(result.recovery):
        made.insert(1, _recovery(result))
    if len(result.sensitivity):
        made.append(_sensitivity(result))
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
    main = pooled[pooled["method"] == "regression"]

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
        method=_MODEL[METRICS[result.metric].bounded] + _METHOD,
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
        value = rows["estimate"].to_numpy(dtype=float)
        error = _reach(rows)
        ax.bar(
            x,
            value,
            width * 0.9,
            yerr=error,
            capsize=3,
            label=model,
            color=_COLORS[position % len(_COLORS)],
            hatch=("", "//", "..", "xx")[position % 4],
            edgecolor="white",
        )
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.set_xticks(range(len(_PARTS)), ["total", "systematic", "tumor"])
    ax.set_ylabel(label)
    ax.legend(frameon=False)
    return ax


def _reach(rows: pd.DataFrame) -> Any:
    """How far each interval reaches below and above its estimate, as error bars want it; 0 where it is not given."""
    value = rows["estimate"]
    return np.nan_to_num(np.abs(np.stack([value - rows["low"], rows["high"] - value]).astype(float)))


def _by_bundle(result: Decomposition) -> Finding:
    table = result.table[(result.table["bundle"] != "all") & result.table["component"].isin(_PARTS)]
    first = table["model"].iloc[0] if len(table) else ""
    source = table[table["model"] == first].reset_index(drop=True)
    worst = source[source["component"] == "total"].sort_values("estimate", ascending=False)
    claim = "No bundle has enough participants for a split of its own."
    if len(worst) and np.isfinite(worst["estimate"].iloc[0]):
        top = worst.iloc[0]
        claim = (
            f"The largest drop is in {top['bundle']} {top['hemisphere']}: {top['estimate']:.2f} "
            f"[{top['low']:.2f}, {top['high']:.2f}] {_unit(result)}."
        )

    def figure(ax: Any) -> Any:
        return _dots(_axes(ax), source, f"Drop in patients ({_unit(result)})")

    return Finding(
        key="bundles",
        place="lead",
        title="Bundle by bundle",
        claim=claim,
        table=table.reset_index(drop=True),
        caveats=("p-values of single bundles are adjusted after Holm.",),
        method="The same model fitted to each bundle and hemisphere, with the pooled decay length of the same draw.",
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
        value = rows["estimate"].to_numpy(dtype=float)
        error = _reach(rows)
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
    claim = "The decay length is not given."
    if np.isfinite(decay.value):
        length = "≤ 2 mm" if decay.value <= 2.0 + 1e-9 else _mm(decay)
        claim = (
            f"The tumor's effect decays with distance; its decay length is {length}, and beyond {_mm(reach)} "
            f"it is smaller than {result.margin:g} {_unit(result)}."
        )
    patients = result.scores[result.scores["group"] == "glioma"]

    def figure(ax: Any) -> Any:
        return _curves(_axes(ax), result, patients)

    return Finding(
        key="distance",
        place="distance",
        title="Performance against distance to the tumor",
        claim=claim,
        estimates=(decay, reach),
        table=result.curve,
        method="Dark band: pointwise interval. Light band: simultaneous interval of the whole curve. Dash-dotted: a "
        "spline in place of the exponential, free in shape and flat beyond 40 mm.",
        figure=figure,
        alt="Each patient's bundles by distance to the tumor, with the fitted drop and its bands.",
    )


def _mm(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} mm [{estimate.low:.1f}, {estimate.high:.1f}]"


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
    claim = "No recovered fraction is given: there may be nothing to recover, or the split is withheld."
    if len(given):
        names = {"total": "the total drop", "systematic": "the systematic part", "tumor": "the tumor's part"}
        told = [
            f"{recovered_percent(row)} of {names[row['component']]} ({row['strategy']})" for _, row in given.iterrows()
        ]
        claim = f"Fine-tuning recovers {', '.join(told)}."

    def figure(ax: Any) -> Any:
        return _recovered(_axes(ax), given)

    return Finding(
        key="recovery",
        place="lead",
        title="What fine-tuning repairs",
        claim=claim,
        table=table,
        caveats=(
            "Before and after use the same controls, scored by the source model; what fine-tuning loses on controls is "
            "the row 'forgetting'.",
        ),
        method="(before − after) / before, by paired bootstrap over patients, every patient scored out of fold.",
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

    far = table[(table["component"] == "systematic") & np.isfinite(table["estimate"])]["estimate"]
    claim = "No other choice gave an estimate."
    if len(far):
        low, high = (f"{value:.3f}".replace("-", "−") for value in (far.min(), far.max()))
        claim = f"Under other choices the systematic part lies between {low} and {high} {_unit(result)}."
    return Finding(
        key="sensitivity",
        title="What would have changed the answer",
        claim=claim,
        table=table,
        method="One choice is changed at a time; intervals of refits use a quarter of the bootstrap draws.",
        figure=figure,
        alt="Systematic and tumor part under each other choice, with intervals.",
    )
