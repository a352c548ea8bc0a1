"""A decomposition in words and pictures."""

import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ...results import Estimate, Finding
from ...status import Status
from ...style import RULE, band, beside, intervals, legend_above, look, name_rows
from ...types import Bundle
from ...words import ESTIMATORS, spoken_model
from ..scoring.metrics import METRICS, Metric
from .result import Decomposition, unit_of
from .sentences import (
    agreed,
    compared_claim,
    digits_for,
    largest_drop,
    logged,
    number,
    other_choices,
    reach_of,
    repaired_claim,
    scale_of,
    verdict_of_bundle,
)
from .verdict import Part

_PARTS = ("total", "systematic", "tumor")
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_METHOD = (
    "Least squares of each patient row's loss against controls of the same bundle and hemisphere, on levels and bins "
    "of edge-to-edge distance from tumor to reference bundle; beyond the far cut the tumor's effect counts as gone, "
    "and the lower bound allows as much as an exponential of 25 mm would leave. The estimate is stacked over 30 shapes "
    "of decay; the systematic part is the total less what these give where the patients' bundles lie. Standard "
    "errors: delete-one-participant jackknife stratified by cohort, with Satterthwaite's degrees of freedom; intervals "
    "after Imbens and Manski with Student's t, joined with the stacked estimate's. Single bundles: simultaneous "
    "(max-T) intervals."
)
_REFERENCES = ("10.1111/j.1468-0262.2004.00555.x", "10.1016/j.media.2025.103766", "10.2202/1544-6115.1585")


def findings(result: Decomposition) -> tuple[Finding, ...]:
    """Findings in the order in which a reader asks."""
    made = [_components(result), *([_models(result)] if len(result.models) else []), _recovery(result)]
    made += [_by_bundle(result), _distance(result)]
    if len(result.strata):
        made.append(_by_stratum(result))
    if len(result.sensitivity):
        made.append(_sensitivity(result))
    if len(result.agreement):
        made.append(_agreement(result))
    if len(result.overlap):
        made.append(_overlap(result))
    made.append(_entered(result))
    return tuple(made)


def bundle_verdicts(result: Decomposition) -> dict[Bundle, Finding]:
    """The answer for each bundle and hemisphere, to open its page with."""
    told = {level: verdict_of_bundle(result.told, level, str(result.metric)) for level in result.told.bundles}
    return {
        Bundle(name=name, hemisphere=hemisphere): Finding(  # pyright: ignore[reportArgumentType]
            key="verdict",
            title="How the drop splits here",
            claim=claim,
            caveats=("Intervals hold for all bundles at once, so that they are wider than a single bundle's.",),
            place="lead",
        )
        for (name, hemisphere), claim in told.items()
    }


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
        return _parts(_axes(ax), result, main, spoken_model)

    own = result.participants[result.participants["model"].isin(main["model"])].rename(columns={"value": "estimate"})
    return Finding(
        key="decomposition",
        place="first",
        title="How the drop splits",
        claim=result.claim,
        estimates=result.estimates,
        table=pd.concat([main.assign(participant_id="all"), own], ignore_index=True)[list(_FIGURE_COLUMNS)],
        caveats=result.notes,
        method=_METHOD,
        references=_REFERENCES,
        figure=figure,
        alt="Total, systematic and tumor part of the loss, each as an interval with the patients as points below it: "
        "a patient's mean loss, the loss of bundles beyond the far cut, and the loss within 10 mm less that far away. "
        "The tumor part is spread over all bundles, so that points of bundles near the tumor lie beyond it.",
    )


_FIGURE_COLUMNS = [
    "model",
    "component",
    "participant_id",
    "estimate",
    "low",
    "high",
    "bound_low",
    "bound_high",
    "word",
    "status",
]
_NUMBER_WIDTH = 0.52
"""Of the axis, what an estimate with its interval takes in print."""
_ROW_NAMES = {"total": "total", "systematic": "systematic\n(dots: far bundles)", "tumor": "tumor\n(dots: within 10 mm)"}


def _parts(
    ax: Any, result: Decomposition, table: pd.DataFrame, spoken: Callable[[str, str], str], *, people: bool = True
) -> Any:
    """Each part a row a model: its number, its interval, and below it the patients where they are wanted."""
    scale, _ = scale_of(result.metric)
    scaled = np.vectorize(scale, otypes=[float])
    models = list(dict.fromkeys(table["model"]))
    height = 0.92 / len(models)
    numbers: list[tuple[list[float], float, str, str]] = []
    for position, model in enumerate(models):
        rows = table[table["model"] == model].set_index("component")
        seen, color = look(position), look(position).color
        for place, part in enumerate(_PARTS):
            if part not in rows.index:
                continue
            middle = place + beside(position, len(models), height)
            own = result.participants if people else result.participants.iloc[:0]
            points = own.loc[(own["model"] == model) & (own["component"] == part), "value"].to_numpy(dtype=float)
            # Steps of the golden ratio spread neighbors evenly and alike in every drawing.
            down = middle + height * (0.08 + 0.36 * (np.arange(len(points)) * 0.618034 % 1))
            order = np.argsort(points, kind="stable")
            ax.scatter(scaled(points[order]), down, s=7, color=color, alpha=0.5, linewidths=0)
            bar = {"color": color, "linestyle": "-", "solid_capstyle": "butt"}
            row, line = rows.loc[part], middle - 0.1 * height
            if row["status"] == Status.RANGE:
                bounds = scaled(row[["bound_low", "bound_high"]].to_numpy(dtype=float))
                ax.plot(bounds, [line, line], **bar, linewidth=5, alpha=0.45)
            if np.isfinite(row["low"]):
                ends = scaled(row[["low", "high"]].to_numpy(dtype=float))
                ax.plot(ends, [line, line], **bar, linewidth=1.6)
            if np.isfinite(row["estimate"]):
                label = spoken(model, models[0]) if place == 0 and len(models) > 1 else None
                ax.plot([scale(row["estimate"])], [line], marker=seen.marker, color=color, linewidth=0, label=label)
            ends = [scale(float(np.nan_to_num(row[name]))) for name in ("low", "high")]
            numbers.append((ends, line, _told(row, result), color))
    name_rows(ax, [_ROW_NAMES[part] if people else part for part in _PARTS])
    ax.locator_params(axis="x", nbins=5)
    # Numbers stand beside their interval, where no points are; ranges, which are long, above it in the middle.
    left, right = ax.get_xlim()
    beside_them = [ends[1] for ends, _, text, _ in numbers if not text.startswith("between")]
    ax.set_xlim(left, max([right, *(left + (end - left) / (1 - _NUMBER_WIDTH) for end in beside_them)]))
    for ends, line, text, color in numbers:
        size = {"fontsize": 7 if len(models) < 3 else 6, "color": color, "textcoords": "offset points"}
        if text.startswith("between"):
            # Of several models there are points everywhere in the middle.
            end, side = (ax.get_xlim()[1], "right") if len(models) > 2 else (sum(ax.get_xlim()) / 2, "center")
            ax.annotate(text, (end, line), (0, 4), ha=side, **size)
        else:
            ax.annotate(text, (ends[1], line), (4, 0), ha="left", va="center", **size)
    ax.set_xlabel(f"{_loss(result)}\nlines: {result.told.level:.0%} intervals{'; dots: patients' * people}")
    legend_above(ax, columns=2)
    return ax


def _loss(result: Decomposition) -> str:
    """What the axis of a part is called."""
    metric = METRICS[result.metric]
    return f"Loss against controls ({metric.title if metric.bounded else f'% larger {logged(result.metric)}'})"


def _told(row: pd.Series, result: Decomposition) -> str:
    """The number as every sentence gives it, or the status."""
    if not np.isfinite(row["low"]):
        return "not given"
    names = ("low", "high", "bound_low", "bound_high", "word")
    part = Part(value=row["estimate"], status=Status(row["status"]), **{name: row[name] for name in names})
    return number(part, result.metric, digits_for(result.told, result.metric))


def _center(rows: pd.DataFrame) -> Any:
    """The estimate, or the middle of the bounds where only a range is given."""
    return rows["estimate"].fillna((rows["bound_low"] + rows["bound_high"]) / 2).to_numpy(dtype=float)


def _reach(rows: pd.DataFrame) -> Any:
    """How far each interval reaches below and above its center, as error bars want it; 0 where it is not given."""
    value = _center(rows)
    return np.nan_to_num(np.abs(np.stack([value - rows["low"], rows["high"] - value]).astype(float)))


def _by_bundle(result: Decomposition) -> Finding:
    table = result.table[(result.table["bundle"] != "all") & result.table["component"].isin(_PARTS)]
    first = table["model"].iloc[0] if len(table) else ""  # of few patients there are no bundles' parts
    source = table[table["model"] == first].reset_index(drop=True)
    names = (source["bundle"] + " " + source["hemisphere"]).str.strip()

    def figure(ax: Any) -> Any:
        return _dots(_axes(ax), source, names, f"Drop in patients ({_unit(result)})")

    return Finding(
        key="bundles",
        place="lead",
        title="Bundle by bundle",
        claim=largest_drop(result.told, result.metric),
        table=table.reset_index(drop=True),
        caveats=("Intervals of single bundles hold for all of them at once.",),
        method="Each bundle's part of the pooled estimate; weighted by shares of the patients' rows they add up to it.",
        figure=figure if len(source) else None,
        alt="Systematic and tumor part of the drop of each bundle and hemisphere, with intervals.",
    )


def _by_stratum(result: Decomposition) -> Finding:
    table = result.strata[result.strata["component"].isin(_PARTS)].reset_index(drop=True)
    source = table[table["model"] == table["model"].iloc[0]]
    column = result.by

    def value(stratum: str) -> str:
        return stratum.removeprefix(f"{column}=")

    def told(part: str) -> str:
        rows = source[source["component"] == part]
        return ", ".join(f"{value(row['stratum'])} {_told(row, result)}" for _, row in rows.iterrows())

    n = source.groupby("stratum", sort=False)[["n_patients", "n_controls"]].first()
    people = "; ".join(f"{value(str(name))}: {row['n_patients']} and {row['n_controls']}" for name, row in n.iterrows())
    unknown = int(result.table["n_patients"].iloc[0]) - int(n["n_patients"].sum())
    lacking = (f"{unknown} patients have no {column} that is known, and are in none.",) if unknown else ()

    def figure(ax: Any) -> Any:
        return _dots(_axes(ax), source, source["stratum"], f"Drop in patients ({_unit(result)})")

    return Finding(
        key="strata",
        place="lead",
        title=f"By {column}",
        claim=f"By {column}, the drop is: {told('total')}; its systematic part: {told('systematic')}.",
        table=table,
        caveats=(
            "Each interval holds for its own value; whether values differ is not tested.",
            f"Patients and controls: {people}.",
            *lacking,
        ),
        method=f"The primary estimate for the patients of each {column}, with the far cut and the levels of all "
        "patients, and the controls of the same value where enough of these have each bundle, else all controls.",
        figure=figure,
        alt=f"Systematic and tumor part of the drop by {column}, with intervals.",
    )


def _dots(ax: Any, table: pd.DataFrame, rows_of: pd.Series, label: str) -> Any:
    """Systematic and tumor part of each bundle or stratum, whose names stand at the side."""
    names = [textwrap.fill(name, 24) for name in dict.fromkeys(rows_of)]
    for offset, (part, marker, color) in enumerate((("systematic", "o", _COLORS[0]), ("tumor", "D", _COLORS[1]))):
        rows = table[table["component"] == part]
        y = np.arange(len(rows)) + (offset - 0.5) * 0.3
        value, error = _center(rows), _reach(rows)
        ax.errorbar(value, y, xerr=error, fmt=marker, color=color, markersize=4, label=part, capsize=2)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.axvline(0, **RULE)
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
        title="By distance to the tumor",
        claim=reach_of(result.told, decay, reach, unit_of(result.metric)),
        estimates=(decay, reach),
        table=result.curve,
        method="Curve: the primary estimate's average over 30 shapes of decay, levels weighted as in the pooled parts; "
        "band: its delete-one-participant jackknife interval at each distance. Decay length and reach come from an "
        "exponential fitted beside it; they describe, and decide nothing.",
        figure=figure,
        alt="Each patient's bundles by distance to the tumor, the patients' mean with its interval, and the controls' "
        "mean.",
    )


def _curves(ax: Any, result: Decomposition, patients: pd.DataFrame) -> Any:
    metric = METRICS[result.metric]
    healthy = result.scores.loc[result.scores["group"] == "control", "value"].to_numpy(dtype=float)
    models = list(dict.fromkeys(patients["model"]))
    for position, model in enumerate(models):
        seen = look(position)
        points = patients[patients["model"] == model]
        ax.scatter(
            points["tumor_distance_mm"],
            points["value"],
            s=7,
            alpha=0.45,
            color=seen.color,
            linewidths=0,
            marker=seen.marker,
        )
        own = result.curve[(result.curve["model"] == model) & (result.curve["shape"] == "stacked")]
        if len(own):
            # Beyond the last bundle nothing was measured that could be drawn.
            own = own[own["distance_mm"] <= points["tumor_distance_mm"].max()]
            x, y = (
                own["distance_mm"].to_numpy(dtype=float),
                {name: _worse(healthy, own[name], metric) for name in ("drop", "low", "high")},
            )
            name = "patients' mean" if len(models) == 1 else spoken_model(model, models[0])
            band(ax, x, y["high"], y["low"], seen.color, alpha=0.25)
            ax.plot(x, y["drop"], seen.line, color=seen.color, label=name)
    mean = "controls' mean" if metric.bounded else "controls' geometric mean"
    ax.axhline(_worse(healthy, 0.0, metric), **{**RULE, "linestyle": ":"}, label=mean)
    ax.set_xlabel("Distance from tumor to bundle (mm)\ndots: a patient's bundle; bands: intervals")
    ax.set_ylabel(metric.label)
    ax.set_xlim(left=-1)
    legend_above(ax)
    return ax


def _worse(healthy: Any, drop: Any, metric: Metric) -> Any:
    """What patients score where the drop from healthy people is so large; drops of unbounded metrics are of logs."""
    if not metric.bounded:
        return np.expm1(np.log1p(healthy).mean() + drop)
    return healthy.mean() - drop if metric.better == "higher" else healthy.mean() + drop


def _models(result: Decomposition) -> Finding:
    table = result.models
    first, further = str(table["compared_with"].iloc[0]), list(dict.fromkeys(table["model"]))
    drawn = _pairs(table, first)

    def figure(ax: Any) -> Any:
        return _parts(_axes(ax), result, drawn, lambda model, _: model, people=False)

    base, level = digits_for(result.told, result.metric), float(table["level"].iloc[0])
    estimates = tuple(
        Estimate(
            name=f"{row['component']}, {row['model']} less {first}",
            value=row["difference"], low=row["difference_low"], high=row["difference_high"], level=level,
            unit=unit_of(result.metric), n=int(row["n_patients"]), p_value=row["p_value"],
            p_adjusted=row["p_adjusted"],
            status=str(Status.OK) if np.isfinite(row["difference"]) else row["status"],
        )
        for row in table[table["component"].isin(_PARTS)].to_dict("records")
    )  # fmt: skip
    at_once = (f"Intervals of differences hold for all {len(further)} comparisons at once.",) * (len(further) > 1)
    return Finding(
        key="models",
        place="first",
        title="Models side by side",
        claim=compared_claim(table, result.metric, base),
        estimates=estimates,
        table=table[list(_COMPARED_COLUMNS)],
        caveats=(
            *result.compared,
            "A model that segments nobody well has little to lose: look at the scores of controls and patients too.",
            *at_once,
        ),
        method="Each further model's split by the same estimate on the participants and bundles that it shares with "
        "the first, with one far cut and the same levels, each model against its own scores of controls. Differences "
        "are paired: delete-one-participant jackknife of the difference itself, the hull of the estimates' and of both "
        "ends' of what is possible; adjusted over the models after Bonferroni.",
        figure=figure if np.isfinite(drawn["low"]).any() else None,
        alt="Total, systematic and tumor part of the loss by each model, with intervals, of whom both have scored.",
    )


def _pairs(table: pd.DataFrame, first: str) -> pd.DataFrame:
    """Every model's parts as they are compared; the first one's once, or once a pair where pairs share other people."""
    parts = table[table["component"].isin(_PARTS)]
    ends = ("low", "high", "bound_low", "bound_high")
    names = {"first": "estimate", **{f"first_{end}": end for end in ends}}
    mine = parts.drop(columns=["estimate", *ends]).rename(columns=names)
    numbers = [*names.values(), "component"]
    alike = all(
        rows[numbers].reset_index(drop=True).equals(mine.iloc[: len(_PARTS)][numbers].reset_index(drop=True))
        for _, rows in mine.groupby("model", sort=False)
    )
    if alike:
        mine = mine.iloc[: len(_PARTS)].assign(model=first)
    else:
        mine = mine.assign(model=[f"{first}, scored by {one} too" for one in mine["model"]])
    both = pd.concat([mine, parts], ignore_index=True)
    # The status there is the difference's: of one of both it says that both ends are given in place of a number.
    given = np.where(np.isfinite(both["estimate"]), str(Status.OK), str(Status.RANGE))
    return both.assign(status=np.where(np.isfinite(both["low"]), given, both["status"]))


_COMPARED_COLUMNS = [
    "component",
    "compared_with",
    *("first", "first_low", "first_high"),
    "model",
    *("estimate", "low", "high"),
    *("difference", "difference_low", "difference_high"),
    "p_adjusted",
    "word",
    "status",
]


def _recovery(result: Decomposition) -> Finding:
    title = "What fine-tuning repairs"
    if not len(result.recovery):
        untold = "No fine-tuned model was given, so nothing is known of what fine-tuning repairs."
        return Finding(key="recovery", place="first", title=title, claim=untold)
    table = result.recovery
    rows = table[table["component"].isin(_PARTS)]
    given = rows[np.isfinite(rows["recovered"])]

    def figure(ax: Any) -> Any:
        return _recovered(_axes(ax), given)

    return Finding(
        key="recovery",
        place="first",
        title=title,
        claim=repaired_claim(table, result.metric, digits_for(result.told, result.metric)),
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
        y = np.array([_PARTS.index(part) for part in rows["component"]]) + beside(position, len(models), 0.2)
        share, low, high = (100 * rows[name].to_numpy(dtype=float) for name in ("recovered", "low", "high"))
        seen = look(position)
        label = spoken_model(str(model))
        intervals(ax, y, share, low, high, lying=True, color=seen.color, fmt=seen.marker, label=label)
    for edge in (0, 100):
        ax.axvline(edge, **RULE, linestyle="-" if edge == 0 else ":")
    ax.set_yticks(range(len(_PARTS)), _PARTS)
    ax.set_ylim(len(_PARTS) - 0.5, -0.5)
    ax.set_xlabel("Recovered by fine-tuning (%)")
    if len(models) > 1:
        legend_above(ax)
    return ax


def _sensitivity(result: Decomposition) -> Finding:
    table = result.sensitivity
    shown = table[table["estimate"].notna() & ~table["analysis"].str.startswith("placebo")]

    def figure(ax: Any) -> Any:
        return _dots(_axes(ax), shown, shown["analysis"], f"Part ({_unit(result)})")

    return Finding(
        key="sensitivity",
        place="lead",
        title="What would have changed the answer",
        claim=other_choices(table, result.told, result.metric),
        table=table,
        caveats=(
            "Where the column 'estimand' says something other than 'same', another quantity is estimated: it need not "
            "agree with the primary one.",
        ),
        method="The primary estimate with one choice changed at a time.",
        figure=figure if len(shown) else None,
        alt="Systematic and tumor part under each other choice, with intervals.",
    )


def _agreement(result: Decomposition) -> Finding:
    table = result.agreement
    parts = result.table["component"].isin(_PARTS[1:])
    pooled = result.table[(result.table["bundle"] == "all") & parts]
    pooled = pooled[(pooled["model"] == pooled["model"].iloc[0]) & np.isfinite(pooled["low"])]

    def figure(ax: Any) -> Any:
        return _estimators(_axes(ax), pooled, result)

    other = tuple(
        Estimate(
            name=f"{row['component']}, {_ESTIMATORS[row['method']]}",
            value=row["estimate"], low=row["low"], high=row["high"], level=row["level"], unit=unit_of(result.metric),
            n=int(row["n_patients"]), status=row["status"],
        )
        for row in pooled[pooled["method"].isin(list(_ESTIMATORS))].to_dict("records")
    )  # fmt: skip
    return Finding(
        key="agreement",
        place="lead",
        title="Do other estimators agree?",
        claim=agreed(table, result.told.level),
        estimates=other,
        table=table,
        caveats=("A difference that is not shown may be there: its interval says how large it can be.",),
        method="Paired difference on the same rows with the delete-one-participant jackknife; against a range, the "
        "distance to its nearer bound; p-values adjusted after Holm. The hemispheric estimator is compared on "
        "ipsilesional bundles. The shells are no row here: they estimate another quantity, the Dice that voxels' error "
        "rates imply, so that a difference would be no disagreement.",
        figure=figure,
        alt="Systematic and tumor part by each estimator, with intervals, the primary one above.",
    )


# Those that estimate the same parts; voxels' errors give others.
_ESTIMATORS = {name: ESTIMATORS[name] for name in ("anchored", "exponential", "spline", "hemispheric")}


def _estimators(ax: Any, table: pd.DataFrame, result: Decomposition) -> Any:
    """Every estimator a row, with its systematic and tumor part."""
    scaled = np.vectorize(scale_of(result.metric)[0], otypes=[float])
    methods = [method for method in _ESTIMATORS if (table["method"] == method).any()]
    for place, part in enumerate(_PARTS[1:]):
        rows = table[table["component"] == part]
        rows = rows[rows["method"].isin(methods)]
        y = np.array([methods.index(method) for method in rows["method"]]) + beside(place, 2, 0.25)
        # A range has no point: its middle only carries the whiskers.
        value, low, high = (scaled(one) for one in (_center(rows), rows["low"].to_numpy(), rows["high"].to_numpy()))
        fmt = look(place).marker
        intervals(ax, y, value, low, high, lying=True, color=look(place).color, fmt=fmt, label=part)
    name_rows(ax, [textwrap.fill(_ESTIMATORS[method], 20) for method in methods])
    ax.set_xlabel(_loss(result))
    legend_above(ax)
    return ax


def _overlap(result: Decomposition) -> Finding:
    table = result.overlap
    fewest = {group: int(table.loc[table["group"] == group, "n_shared"].min()) for group in ("controls", "patients")}
    return Finding(
        key="covariates",
        place="data",
        title="Do the cohorts overlap in what is adjusted for?",
        claim=f"In every covariate at least {fewest['controls']} controls lie where the patients are, and at least "
        f"{fewest['patients']} patients where the controls are.",
        table=table,
        method="Where the other cohort is: its central 80 %, or its categories. With fewer than 5 of either cohort "
        "there a covariate is refused.",
        figure=lambda ax: _overlapping(_axes(ax), table),
        alt="For each covariate the share of patients and of controls who lie where the other cohort is.",
    )


def _overlapping(ax: Any, table: pd.DataFrame) -> Any:
    """The share of either cohort that lies where the other is, a row a covariate."""
    names = list(dict.fromkeys(table["covariate"]))
    for place, group in enumerate(("patients", "controls")):
        rows = table[table["group"] == group]
        y = np.arange(len(rows)) + beside(place, 2, 0.25)
        ax.plot(100 * rows["n_shared"] / rows["n"], y, look(place).marker, color=look(place).color, label=group)
    name_rows(ax, names, zero=None)
    ax.set_xlim(-3, 103)
    ax.set_xlabel("Where the other cohort is (%)")
    legend_above(ax)
    return ax


def _entered(result: Decomposition) -> Finding:
    table = result.entered
    inside = table["reason"] == "entered"
    lost = int(table.loc[~inside, "n_rows"].sum())
    return Finding(
        key="entered",
        place="data",
        title="Who entered",
        claim=f"{int(table.loc[inside, 'n_rows'].sum())} rows entered, {lost} did not; the table says why.",
        table=table,
    )
