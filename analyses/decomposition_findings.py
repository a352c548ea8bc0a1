"""The decomposition as findings: what is claimed, the table behind it, and the figure."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..types import Finding
from .split import unit_of

if TYPE_CHECKING:
    from .decomposition import Decomposition

_PARTS = ("total", "systematic", "tumor")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_METHOD = (
    "Fractional logit by quasi-likelihood with one intercept and one cohort term a bundle and hemisphere, and a term "
    "that decays exponentially with the edge-to-edge distance from tumor to reference bundle; components by "
    "g-computation over the patients, averaged within participants first. Intervals: expanded percentile bootstrap "
    "over participants, stratified by cohort, decay length profiled anew in every draw. Tests: studentized permutation "
    "of whole distance vectors within strata of tumor volume, and of cohort labels."
)
_REFERENCES = ("10.1016/j.media.2025.103766", "10.1080/00031305.2015.1089789", "10.2202/1544-6115.1585")


def findings(result: "Decomposition") -> tuple[Finding, ...]:
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


def _unit(result: "Decomposition") -> str:
    return unit_of(result.metric)


def _components(result: "Decomposition") -> Finding:
    pooled = result.table[(result.table["bundle"] == "all") & result.table["component"].isin(_PARTS)]
    main = pooled[pooled["method"] == "regression"]

    def figure(ax: Any) -> Any:
        return _bars(_axes(ax), main, f"Drop in patients ({_unit(result)})")

    return Finding(
        key="decomposition",
        title="How the drop splits",
        claim=result.verdict,
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


def _by_bundle(result: "Decomposition") -> Finding:
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
        title="Bundle by bundle",
        claim=claim,
        table=table.reset_index(drop=True),
        caveats=("p-values of single bundles are adjusted after Holm.",),
        method="The same model fitted to each bundle and hemisphere, with the pooled decay length of the same draw.",
        figure=figure,
        alt="Systematic and tumor part of the drop of each bundle and hemisphere, with intervals.",
    )


def _dots(ax: Any, table: pd.DataFrame, label: str) -> Any:
    names = list(dict.fromkeys(table["bundle"] + " " + table["hemisphere"]))
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
    ax.legend(frameon=False)
    return ax


def _distance(result: "Decomposition") -> Finding:
    decay, reach = (
        next(one for one in result.estimates if one.name == name) for name in ("decay_length", "tumor_reach")
    )
    claim = "The decay length is not given."
    if np.isfinite(decay.value):
        length = "≤ 2 mm" if decay.value <= 2.0 + 1e-9 else f"{decay.value:.0f} mm [{decay.low:.0f}, {decay.high:.0f}]"
        claim = (
            f"The tumor's effect decays with distance; its decay length is {length}, and beyond {reach.value:.0f} mm "
            f"[{reach.low:.0f}, {reach.high:.0f}] it is smaller than {result.margin:g} {_unit(result)}."
        )
    patients = result.scores[result.scores["group"] == "glioma"]

    def figure(ax: Any) -> Any:
        return _curves(_axes(ax), result, patients)

    return Finding(
        key="distance",
        title="Performance against distance to the tumor",
        claim=claim,
        estimates=(decay, reach),
        table=result.curve,
        method="Dark band: pointwise interval. Light band: simultaneous interval of the whole curve. Dash-dotted: a "
        "spline in place of the exponential, free in shape and flat beyond 40 mm.",
        figure=figure,
        alt="Each patient's bundles by distance to the tumor, with the fitted drop and its bands.",
    )


def _curves(ax: Any, result: "Decomposition", patients: pd.DataFrame) -> Any:
    healthy = result.scores.loc[result.scores["group"] == "control", "value"].mean()
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
        if len(curve) and result.metric not in ("hd95", "assd"):
            x = curve["distance_mm"].to_numpy(dtype=float)
            ax.fill_between(x, healthy - curve["high_all"], healthy - curve["low_all"], color=color, alpha=0.12)
            ax.fill_between(x, healthy - curve["high"], healthy - curve["low"], color=color, alpha=0.25)
            ax.plot(x, healthy - curve["drop"], style, color=color, label=model)
            ax.plot(free["distance_mm"], healthy - free["drop"], "-.", color=color, linewidth=0.8)
    ax.axhline(healthy, color="0.3", linewidth=0.8, linestyle=":", label="controls' mean")
    ax.set_xlabel("Distance from tumor to bundle (mm)")
    ax.set_ylabel(_unit(result))
    ax.set_xlim(left=-1)
    ax.legend(frameon=False)
    return ax


def _recovery(result: "Decomposition") -> Finding:
    table = result.recovery
    rows = table[table["component"].isin(_PARTS)]
    given = rows[np.isfinite(rows["recovered"])]
    claim = "No recovered fraction is given: there may be nothing to recover, or the split is withheld."
    if len(given):
        claim = (
            "Fine-tuning recovers "
            + ", ".join(
                f"{100 * row['recovered']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}] of the "
                f"{row['component']} part ({row['strategy']})"
                for row in given.to_dict("records")
            )
            + "."
        )

    def figure(ax: Any) -> Any:
        return _before_after(_axes(ax), rows, f"Drop in patients ({_unit(result)})")

    return Finding(
        key="recovery",
        title="What fine-tuning repairs",
        claim=claim,
        table=table,
        caveats=(
            "Before and after use the same controls, scored by the source model; what fine-tuning loses on controls is "
            "the row 'forgetting'.",
        ),
        method="(before − after) / before, by paired bootstrap over patients, every patient scored out of fold.",
        figure=figure,
        alt="Lines from the drop before to the drop after fine-tuning, one for each component.",
    )


def _before_after(ax: Any, rows: pd.DataFrame, label: str) -> Any:
    names = list(dict.fromkeys(rows["model"]))
    for position, name in enumerate(names):
        for part, marker, color in zip(_PARTS, "so^", _COLORS, strict=False):
            row = rows[(rows["model"] == name) & (rows["component"] == part)].iloc[0]
            x = np.array([0, 1]) + 2 * position
            ax.plot(
                x,
                [row["before"], row["after"]],
                marker=marker,
                color=color,
                label=part if not position else None,
                linestyle={"total": "-", "systematic": "--", "tumor": ":"}[part],
            )
    ticks = [tick for position in range(len(names)) for tick in (2 * position, 2 * position + 1)]
    ax.set_xticks(ticks, [word for name in names for word in ("before", f"after\n{name}")])
    ax.axhline(0, color="0.3", linewidth=0.8)
    ax.set_ylabel(label)
    ax.legend(frameon=False)
    return ax


def _sensitivity(result: "Decomposition") -> Finding:
    table = result.sensitivity

    def figure(ax: Any) -> Any:
        rows = table.dropna(subset=["estimate"])
        shown = rows.assign(bundle=rows["analysis"], hemisphere="")
        return _dots(
            _axes(ax), shown[~shown["analysis"].str.startswith("placebo")], f"Part of the drop ({_unit(result)})"
        )

    far = table[(table["component"] == "systematic") & np.isfinite(table["estimate"])]["estimate"]
    claim = "No other choice gave an estimate."
    if len(far):
        claim = (
            f"Under other choices the systematic part lies between {far.min():.2f} and {far.max():.2f} {_unit(result)}."
        )
    return Finding(
        key="sensitivity",
        title="What would have changed the answer",
        claim=claim,
        table=table,
        method="One choice is changed at a time; intervals of refits use a quarter of the bootstrap draws.",
        figure=figure,
        alt="Systematic and tumor part under each other choice, with intervals.",
    )
