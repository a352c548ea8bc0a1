"""Deformation, and its relation to what a network scores, in words and pictures."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...results import Estimate, Finding, in_mm, in_percent
from ...status import Status
from ...style import BLUE, GRAY, RULE, VERMILION, band, beside, intervals, legend_above, look, name_columns, new_axes
from ..scoring.metrics import METRICS
from ..statistics.inference import Inference
from ..statistics.people import mean_over_participants, share_over_participants
from .result import FEWEST_FOR_A_PERCENTILE, DeformationRelation, DeformationResult, less_is_better

_PARTS = {
    "control": ("control", "o", GRAY),
    "contra": ("patients, other side", "s", BLUE),
    "ipsi": ("patients, tumor side", "D", VERMILION),
}
"""What the parts of a table are called, and how they look."""
_SIDES = {"ipsi": "on the tumor's side", "contra": "on the other side"}
_APART = 36
"""Places on the axis from one bundle's 32 points to the next's."""
_TEMPLATE = ("v_norm_mm", "status", "mean V-Norm")
_OWN = ("v_norm_own_mm", "own_status", "mean V-Norm, own baseline")
RELATION_TITLE = "Does fine-tuning help less where a bundle is deformed more?"


def told(result: DeformationResult, inference: Inference = Inference()) -> DeformationResult:
    """The result and its findings: V-Norm by bundle, against the own baseline where there is one, and along bundles."""
    own = (_own(result, inference),) if result.has_baseline else ()
    findings = (_values(result, inference), *own, _profiles(result, inference))
    return replace(result, claim=findings[0].claim, findings=findings)


def _level(level: float) -> str:
    return f"{100 * level:g} %"


def part_of(frame: pd.DataFrame, part: str, status: str = "status") -> pd.DataFrame:
    """The rows with a number of ``control``, or of patients' ``ipsi`` or ``contra`` sides."""
    given = frame[frame[status] == Status.OK]
    if part == "control":
        return given[given["group"] == "control"]
    patients = given[given["group"] == "glioma"]
    return patients[patients["side"].isin(["ipsi", "bilateral"] if part == "ipsi" else ["contra"])]


def draw_groups(frame: pd.DataFrame, inference: Inference, columns: tuple[str, str, str], ax: Any = None) -> Any:
    """Values of a table by bundle, with the means of controls and of patients' two sides; returns the axes.

    ``columns`` are those of the value and of its status, and the value's name.
    """
    axes, (column, status, name) = new_axes(ax), columns
    bundles = list(dict.fromkeys(frame["bundle"]))
    drawn = {part: rows for part in _PARTS if len(rows := part_of(frame, part, status))}
    for place, (part, rows) in enumerate(drawn.items()):
        label, marker, color = _PARTS[part]
        for index, bundle in enumerate(bundles):
            of = rows[rows["bundle"] == bundle]
            values = of[column].to_numpy(dtype=float)
            middle = index + beside(place, len(drawn), 0.27)
            # Dots are scattered sideways by their place in the table, not at random: a figure is drawn alike every
            # time. The prime separates neighbors, whose values are alike where the table is sorted.
            aside = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else np.zeros(len(values))
            aside = aside[np.argsort(np.arange(len(values)) * 7919 % max(len(values), 1))]
            text = None if index else label
            axes.plot(middle + aside, values, marker, color=color, markersize=3, alpha=0.4, linestyle="", label=text)
            own = mean_over_participants(of, column, inference=inference)
            if np.isfinite(own.value):
                limits = own.value, own.low, own.high
                intervals(axes, middle + 0.11, *limits, fmt="_", color=color, markersize=7, linewidth=1.4)
    name_columns(axes, bundles, zero=None)
    axes.set_ylabel(f"{name} [mm]")
    axes.set_ylim(bottom=0)
    legend_above(axes)
    return axes


def draw_profiles(frame: pd.DataFrame, inference: Inference, ax: Any = None) -> Any:
    """Bundles one after another: the healthy range shaded, the patients' mean on either side with its interval."""
    axes = new_axes(ax)
    names = list(dict.fromkeys(frame["bundle"]))
    for index, name in enumerate(names):
        rows = frame[frame["bundle"] == name]
        start = index * _APART
        healthy = part_of(rows, "control").groupby("point")["v_norm_mm"]
        if healthy.ngroups:
            low, high = healthy.quantile(0.05), healthy.quantile(0.95)
            text = None if index else "controls, 5–95 %"
            band(axes, low.index + start, low, high, GRAY, alpha=0.25, label=text)
        for part, style in (("contra", "-"), ("ipsi", "--")):
            label, _, color = _PARTS[part]
            points = part_of(rows, part).groupby("point")
            means = {point: mean_over_participants(own, "v_norm_mm", inference=inference) for point, own in points}
            if not means:
                continue
            x = np.array([float(str(point)) for point in means]) + start
            text = None if index else f"{label}, mean"
            axes.plot(x, [one.value for one in means.values()], color=color, linestyle=style, label=text)
            band(axes, x, [one.low for one in means.values()], [one.high for one in means.values()], color)
    axes.set_xticks([index * _APART + 16.5 for index in range(len(names))], names)
    axes.set_xlabel(f"32 points along each bundle (bands: {_level(inference.level)} intervals)")
    axes.set_ylabel("V-Norm [mm]")
    axes.set_ylim(bottom=0)
    legend_above(axes)
    return axes


_METHOD = (
    "Each bundle mask was brought to a healthy template (mean of the controls' rigidly aligned masks, thresholded at "
    "their mean volume; without the participant for controls) by a rigid motion and then by SyN on signed distances "
    "in millimeters, on one working lattice whatever the image's voxels. V-Norm is the mean length of the displacement "
    "over the bundle; the rigid part is given apart. Where a tumor mask says that the bundle may be destroyed, the "
    "registration does not look. Percentiles and z-scores are those among controls, each measured against all others. "
    "Means and shares are over participants, whose bundles are averaged first; intervals of means are expanded "
    "percentile bootstraps over participants, those of shares Wilson's with the effective number of bundles. The "
    "tumors' mean push, on their side, is the least-squares amplitude over all patients of the displacement that a "
    "ball of the tumor's volume would make in an incompressible medium, across the bundle and less its rigid part, "
    "beyond the amplitude in controls, times that pattern's mean length; bootstrap over patients and controls."
)
_REFERENCES = (
    "10.1016/j.media.2025.103766",
    "10.1016/j.media.2007.06.004",
    "10.3389/fninf.2014.00008",
    "10.1080/00031305.2015.1089789",
    "10.1214/ss/1009213286",
    "10.1007/s00285-007-0139-x",
)
_SURFACE = "A mask shows displacement across its surface only: V-Norm is a lower bound of how far tissue was moved."
_CAVEATS = (
    _SURFACE,
    "V-Norm against a template predicts nothing of how far a tumor moved a bundle (in phantoms its rank correlation "
    "with the true displacement is 0.11; against the participant's own baseline it is 0.99): it holds individual "
    "anatomy, which outweighs most tumors' push. It describes, and is no evidence for the tumor's part of a drop. Use "
    "`shiftkit deform --baseline` with an earlier scan of the same people.",
    "The tumors' mean push is one number for all patients, rests on how a push spreads and rather falls short (by a "
    "quarter in phantoms): an earlier scan needs no such assumption.",
    "What a tumor destroyed cannot be told from what it pushed away where no tumor mask says so.",
)


def _values(result: DeformationResult, inference: Inference) -> Finding:
    return Finding(
        key="deformation",
        title="How far are the bundles from healthy ones?",
        claim=_claim(result.table, inference) + _pushed(result.push),
        estimates=result.estimates,
        table=result.to_frame(),
        caveats=(*_CAVEATS, *_absent(result.table["status"])),
        method=_METHOD,
        references=_REFERENCES,
        figure=lambda ax: draw_groups(result.table, inference, _TEMPLATE, ax),
        alt="Mean displacement of each participant's bundles: controls, and patients by side of the tumor; means with "
        f"{_level(inference.level)} intervals.",
    )


def _claim(table: pd.DataFrame, inference: Inference) -> str:
    means = {
        part: in_mm(mean_over_participants(rows, "v_norm_mm", inference=inference))
        for part in _PARTS
        if len(rows := part_of(table, part)) or part == "control"
    }
    part = next((side for side in _SIDES if side in means), None)
    if part is None:
        return f"No patient was measured; controls have a mean V-Norm of {means['control']}."
    mean = f"Mean V-Norm is {means[part]} in patients {_SIDES[part]} and {means['control']} in controls."
    return " ".join([*_beyond_healthy(table, inference), mean])


def _pushed(push: Estimate | None) -> str:
    if push is None or not np.isfinite(push.value):
        return ""
    return f" By the pattern that growing tumors make, patients' bundles are pushed by {in_mm(push)} on average."


def _beyond_healthy(table: pd.DataFrame, inference: Inference) -> list[str]:
    """What share of patients' bundles lies beyond the healthy range, and what share would by chance; or nothing."""
    sides = {name: rows for part, name in _SIDES.items() if len(rows := _beyond(part_of(table, part)))}
    if not sides:
        return []
    found = {name: share_over_participants(rows, "beyond", inference=inference) for name, rows in sides.items()}
    shares = [f"{in_percent(share)} {name}" for name, share in found.items()]
    every = pd.concat(list(sides.values()))
    n = every["n_controls"].astype(int)
    few = f"{'' if n.min() == n.max() else 'at least '}{n.min()} controls"
    # The 95th percentile of few is the largest of them.
    edge = f"beyond the 95th percentile of {few}" if _defined(n.min()) else f"further than any of {few}"
    # With n others, the ranks beyond are those above 95 % of n, out of n + 1.
    chance = float(((n - 95 * n // 100) / (n + 1)).mean())
    return [
        f"Of a patient's bundles, {' and '.join(shares)} lie {edge} ({every['participant_id'].nunique()} patients, "
        f"{len(every)} bundles); of healthy bundles {chance:.0%} would by chance."
    ]


def _beyond(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that have a place in the healthy range, and whether it is beyond."""
    return rows[rows["percentile"].notna()].assign(beyond=lambda frame: frame["percentile"] > 95)


def _defined(n_controls: int) -> bool:
    return n_controls >= FEWEST_FOR_A_PERCENTILE


def _absent(status: pd.Series) -> tuple[str, ...]:
    found = status.value_counts()
    without = [f"{found[word]} {word}" for word in Status if word != Status.OK and word in found]
    return ("Without a number: " + ", ".join(without) + ".",) if without else ()


def _own(result: DeformationResult, inference: Inference) -> Finding:
    table = result.table
    asked = table[table["own_status"] != "n/a"].reset_index(drop=True)
    means = {
        name: mean_over_participants(rows, "v_norm_own_mm", f"own baseline, {name}", inference=inference)
        for part, name in {**_SIDES, "control": "in controls"}.items()
        if len(rows := part_of(table, part, "own_status"))
    }
    said = [f"{in_mm(one)} {name} ({one.n} participants)" for name, one in means.items()]
    return Finding(
        key="deformation-own",
        title="How far have the participants' bundles moved since their baseline?",
        claim=f"Against their own baseline, bundles are displaced by {', '.join(said)} on average."
        if said
        else "No bundle could be measured against its own baseline; the table says why.",
        estimates=tuple(means.values()),
        table=asked,
        caveats=(
            "Another person's anatomy has no part in this value, so it is the one to take for how far a tumor moved a "
            "bundle. It holds all that happened between the two scans, also resection, growth and how the bundle was "
            "drawn; two scans of people in whom nothing happened, in both cohorts, would show how much that is. The "
            "masks of two trained raters alone are about a millimeter apart: let the same hand or tool draw both.",
            _SURFACE,
            *_absent(asked["own_status"]),
        ),
        method="As against the template, with the participant's own mask in the baseline cohort in its place. The "
        "rigid part takes how the head lay. Where either tumor mask says that the bundle may be destroyed, the "
        "registration does not look.",
        references=_REFERENCES,
        figure=(lambda ax: draw_groups(table, inference, _OWN, ax)) if said else None,
        alt="Mean displacement of each bundle against the participant's own baseline; means with "
        f"{_level(inference.level)} intervals.",
    )


def _profiles(result: DeformationResult, inference: Inference) -> Finding:
    frame = result.profiles
    return Finding(
        key="deformation-profiles",
        title="Where along the bundles does deformation lie?",
        claim=_profile_claim(part_of(frame, "ipsi"), inference),
        table=frame.reset_index(drop=True),
        caveats=(
            "Points at which nothing of a bundle is left have no value.",
            "At its ends, where a bundle fans out and masks are cut off at will, values are large in everybody.",
            "The place named is the most extreme of many, so its share is higher than that of new patients would be.",
        ),
        method="V-Norm of the bundle's voxels by the nearest of 32 points along the template.",
        references=_REFERENCES[:1],
        figure=lambda ax: draw_profiles(frame, inference, ax),
        alt="Mean displacement along each bundle: the controls' 5th to 95th percentile, and the patients' mean with "
        f"its {_level(inference.level)} interval.",
    )


def _profile_claim(ipsi: pd.DataFrame, inference: Inference) -> str:
    ranked = _beyond(ipsi)
    if not len(ranked):
        return "No patient's profile has a healthy range."
    shares = ranked.groupby(["bundle", "point"])["beyond"].mean()
    # Of equal shares the first, so that the sentence does not depend on how a table was sorted.
    name, point = shares.index[int(np.argmax(shares.to_numpy()))]
    place = ranked[(ranked["bundle"] == name) & (ranked["point"] == point)]
    share = share_over_participants(place, "beyond", inference=inference)
    n = int(place["n_controls"].min())
    edge = "95 % of" if _defined(n) else "all"
    return (
        f"The place most often beyond {edge} {n} controls is point {point:g} of 32 of {name}: in {in_percent(share)} "
        f"of the {share.n} patients with a tumor on that side."
    )


def relation_told(relation: DeformationRelation) -> DeformationRelation:
    """The relation with its finding."""
    claim = _relation_claim(relation)
    finding = Finding(
        key="deformation-relation",
        title=RELATION_TITLE,
        claim=claim,
        estimates=relation.estimates,
        table=relation.rows,
        caveats=(
            "An association: deformed bundles also lie closer to the tumor, are infiltrated and are harder to draw.",
            *(() if relation.given("slope", "own") else (_NO_BASELINE,)),
        ),
        method=(
            "Drop below the controls' mean of the same bundle and hemisphere, regressed on V-Norm with one intercept a "
            "bundle and hemisphere, which is where the controls' own uncertainty goes; expanded percentile bootstrap "
            "over patients, the same draw for every model. The figure's lines have these slopes and pass through the "
            "mean of all bundles."
        ),
        references=("10.1016/j.media.2025.103766", "10.1080/00031305.2015.1089789"),
        figure=lambda ax: draw_relation(relation, ax),
        alt="Drop of each patient's bundle against its V-Norm, before and after fine-tuning, with lines and their "
        f"{_level(relation.estimates[0].level)} intervals over patients.",
    )
    return replace(relation, claim=claim, findings=(finding,))


_NO_BASELINE = (
    "V-Norm against a template holds individual anatomy, which dilutes what a tumor's displacement does; V-Norm "
    "against an earlier scan of the same people does not."
)


def _relation_claim(relation: DeformationRelation) -> str:
    first, title = relation.given("slope")[0], _title(relation.metric)
    if not np.isfinite(first.value):
        return f"How {title} depends on V-Norm is not given: {Status(first.status).sentence}"
    worse = "rises" if less_is_better(relation.metric) else "falls"
    said = [
        f"With each millimeter of V-Norm, {title} {worse} by {_number(first)} before fine-tuning ({first.n} patients)"
        f"{'' if first.low > 0 or first.high < 0 else ', which is not shown to differ from 0'}."
    ]
    if len(relation.models) == 1:
        said.append("No fine-tuned model was given, so whether it helps less there was not asked.")
    said += _changes(relation, "template")
    own = relation.given("slope", "own")
    if own and np.isfinite(own[0].value):
        said.append(f"With V-Norm against the own baseline ({own[0].n} patients) the slope is {_number(own[0])}.")
        said += _changes(relation, "own")
    if first.status == Status.EXPLORATORY:
        said.append("With fewer than 20 patients this is exploratory.")
    return " ".join(said)


def _changes(relation: DeformationRelation, measure: str) -> Iterable[str]:
    for model, one in zip(relation.models[1:], relation.given("slope_change", measure), strict=True):
        verdict = "that it helps less where V-Norm is high is not shown"
        if one.low > 0 or one.high < 0:
            verdict = f"it helps {'less' if one.low > 0 else 'more'} where V-Norm is high"
        yield f"After fine-tuning ({model}) the slope changes by {_number(one)}: {verdict}."


def _title(metric: str) -> str:
    return METRICS[metric].title if metric in METRICS else metric


def _number(one: Estimate) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]".replace("-", "\N{MINUS SIGN}")


def draw_relation(relation: DeformationRelation, ax: Any = None) -> Any:
    """Drop against V-Norm, a color a model, lines with their intervals; returns the axes."""
    axes, rows = new_axes(ax), relation.rows
    for index, model in enumerate(relation.models):
        own = look(index)
        shape = {"color": own.color, "marker": own.marker}
        axes.plot(rows["v_norm_mm"], rows[f"drop:{model}"], **shape, markersize=3, alpha=0.4, linestyle="")
        line = relation.lines[relation.lines["model"] == model]
        label = f"{'after' if index else 'before'}: {model}" if len(relation.models) > 1 else model
        # Marker and line in one entry of the legend; without a slope there is no line to draw.
        axes.plot(line["v_norm_mm"], line["drop"], **shape, linestyle=own.line, label=label, markevery=[])
        band(axes, line["v_norm_mm"], line["low"], line["high"], own.color)
    axes.axhline(0, **RULE)
    axes.set_xlabel("mean V-Norm [mm]")
    axes.set_ylabel(f"{_title(relation.metric)} {'above' if less_is_better(relation.metric) else 'below'} healthy")
    legend_above(axes, columns=2)
    return axes
