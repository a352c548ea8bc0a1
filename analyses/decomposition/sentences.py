"""A decomposition in words: every sentence is read off one verdict."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...results import Estimate
from ...status import Status
from ...words import named
from ..scoring.metrics import METRICS
from ..statistics.inference import EXPLORATORY_BELOW
from .anchored import CUTS_MM, FEWEST, FEWEST_FAR, FEWEST_TO_SPLIT, SHARE_FAR
from .result import Settings, Split, unit_of
from .rows import Rows, lost_near_the_tumor
from .verdict import Part, Verdict
from .verdict import word as word_of

_LOST_NEAR = 0.10
"""Excess of lost rows near the tumor from which its part is likely too small."""


def scale_of(metric: str) -> tuple[Callable[[float], float], str]:
    """How a component is told: shares as they are; differences of log(x + 1 mm) as percent of what they are logs of."""
    found = METRICS[metric]
    if found.bounded:
        return float, f" {unit_of(metric)}"
    return (lambda value: 100 * float(np.expm1(value))), f" % larger {logged(metric)}"


def logged(metric: str) -> str:
    """What logs are taken of: not the distance, which may be 0."""
    found = METRICS[metric]
    return f"({found.title} + 1{'' if found.unit == '1' else f' {found.unit}'})"


def digits_of(part: Part, metric: str, base: int) -> int:
    """Decimals, one or more beyond ``base`` where rounding would hide that an interval excludes 0."""
    scale, _ = scale_of(metric)
    digits = base
    ends = [scale(end) for end in (part.low, part.high) if np.isfinite(end) and end != 0]
    nearest = min((abs(end) for end in ends), default=1.0)
    if part.word in ("shown", "negative", "worse_near", "better_near", "larger", "smaller"):
        while digits < 6 and round(nearest, digits) == 0:
            digits += 1
    return digits


def number(part: Part, metric: str, base: int, *, turned: bool = False) -> str:
    """A part with its interval, or the range that it lies in; ``turned`` tells a loss below 0 as a gain."""
    scale, _ = scale_of(metric)
    digits = digits_of(part, metric, base)

    def told(value: float) -> str:
        return f"{-scale(value) if turned else scale(value):z.{digits}f}".replace("-", "−")

    def pair(low: float, high: float) -> tuple[str, str]:
        return (told(high), told(low)) if turned else (told(low), told(high))

    interval = "[{}, {}]".format(*pair(part.low, part.high))
    if part.status == Status.RANGE:
        return "between {} and {} {}".format(*pair(part.bound_low, part.bound_high), interval)
    return f"{told(part.value)} {interval}"


def gained(part: Part, metric: str, base: int) -> str:
    """A part below 0 as what patients are better by, with its unit."""
    _, unit = scale_of(metric)
    return number(part, metric, base, turned=True) + unit.replace("larger", "smaller")


def digits_for(verdict: Verdict, metric: str) -> int:
    """Decimals of a result, see `digits_of_drop`."""
    return digits_of_drop(verdict.total.value, metric)


def digits_of_drop(drop: float, metric: str) -> int:
    """Decimals of what a drop is made of: two of shares, three where the drop is small; one of percent."""
    return 1 if not METRICS[metric].bounded else 2 if abs(drop) >= 0.1 else 3


def verdict_of(before: Split, repaired: pd.DataFrame, settings: Settings) -> str:
    """The answer in one to four sentences, with every number's interval."""
    verdict, metric = before.verdict, settings.metric
    if not verdict.total.given:
        return " ".join([f"No interval is given: {verdict.status.sentence}", *_help(before)])
    base = digits_for(verdict, metric)
    sentence = _drop(verdict.parts, metric, base)
    if not verdict.systematic.given:
        return " ".join([f"{sentence}.", verdict.status.sentence, *_help(before)]) + _few(before)
    endings = [_repair(str(name), rows, metric, base) for name, rows in repaired.groupby("model", sort=False)]
    return "; ".join([sentence, *(one for one in endings if one)]) + "." + _few(before)


def verdict_of_bundle(verdict: Verdict, level: tuple[str, str], metric: str) -> str:
    """The answer for one bundle and hemisphere with rows of its own, in one or two sentences."""
    # Where the whole is not split, neither are its bundles.
    parts = {"systematic": Part(status=verdict.status), **verdict.bundles[level]}
    if not parts["total"].given:
        return f"No interval is given: {parts['total'].status.sentence}"
    sentence = f"{_drop(parts, metric, digits_for(verdict, metric))}."
    return sentence if parts["systematic"].given else f"{sentence} {parts['systematic'].status.sentence}"


def _drop(parts: Mapping[str, Part], metric: str, base: int) -> str:
    """The drop and, where they are given, its parts; without the full stop."""
    opening = _opening(parts["total"], metric, base)
    if not parts["systematic"].given:
        return opening
    return f"{opening}: {_far(parts['systematic'], metric, base)}, and {_near(parts['tumor'], metric, base)}"


def _opening(total: Part, metric: str, base: int) -> str:
    unit = scale_of(metric)[1]
    return {
        "shown": f"Patients are worse than controls by {number(total, metric, base)}{unit}",
        "negative": f"Patients are better than controls by {gained(total, metric, base)}",
        "not_shown": f"Patients are not shown to differ from controls: {number(total, metric, base)}{unit}",
    }[total.word]


def _far(part: Part, metric: str, base: int) -> str:
    told = number(part, metric, base)
    return {
        "shown": f"{told} is systematic",
        "negative": f"far from the tumor they are better, by {gained(part, metric, base)}",
        "negligible": f"the systematic part is negligible, {told}",
        "not_shown": f"a systematic part is not shown, {told}",
    }[part.word]


def _near(part: Part, metric: str, base: int) -> str:
    told = number(part, metric, base)
    return {
        "worse_near": f"{told} comes on top near the tumor",
        "better_near": f"near the tumor they are better than far from it, by {gained(part, metric, base)}",
        "not_shown": f"an effect of the tumor's proximity is not shown, {told}",
    }[part.word]


def _few(before: Split) -> str:
    return " With fewer than 20 patients this is exploratory." if before.rows.n_patients < EXPLORATORY_BELOW else ""


def _help(before: Split) -> list[str]:
    """What would help most, where there is no split."""
    rows = before.rows
    far = len(set(rows.person[rows.patient & (rows.distance_mm > CUTS_MM[-1])]))
    return [one for one in [wanted(before.verdict.status, rows.n_patients, rows.n_controls, far)] if one]


def wanted(status: Status, n_patients: int, n_controls: int, n_far: int) -> str:
    """Who is missing for a split, by the rules of the design alone; nothing where nobody is.

    Parameters
    ----------
    status : Status
        Why there is none.
    n_patients, n_controls : int
        Participants.
    n_far : int
        Patients with a bundle beyond 20 mm, the nearest far cut.

    Examples
    --------
    >>> wanted(Status.FAR_FIELD_UNMEASURED, 16, 20, 5)
    '5 more patients with a bundle beyond 20 mm would give one.'
    >>> wanted(Status.TOO_FEW_FOR_SPLIT, 4, 3, 4)
    '6 more patients with a bundle beyond 20 mm and 2 more controls would give one.'
    """
    more = next(m for m in range(10_000) if n_far + m >= max(FEWEST_FAR, SHARE_FAR * (n_patients + m)))
    more = max(more, FEWEST_TO_SPLIT - n_patients)
    controls = max(FEWEST - n_controls, 0)
    if status == Status.NEAR_FIELD_UNMEASURED:
        return "Patients with a bundle near their tumor would give one."
    if status not in (Status.FAR_FIELD_UNMEASURED, Status.TOO_FEW_FOR_SPLIT, Status.TOO_FEW):
        return ""
    who = [f"{more} more patient{'s' * (more > 1)} with a bundle beyond {CUTS_MM[-1]:g} mm"] if more > 0 else []
    who += [f"{controls} more control{'s' * (controls > 1)}"] if controls else []
    return f"{' and '.join(who)} would give one." if who else ""


_WHAT = {"total": "the total drop", "systematic": "the systematic part", "tumor": "the tumor's part"}
_DONE = {"repaired": "removes", "worsened": "adds"}


def _repair(name: str, rows: pd.DataFrame, metric: str, base: int) -> str:
    told = repairs(rows[rows["component"] != "total"], metric, base)
    return f"fine-tuning ({name.rsplit('+', 1)[-1]}) {told}" if told else ""


def repairs(rows: pd.DataFrame, metric: str, base: int) -> str:
    """What one fine-tuned model does to the components, from its rows of the recovery table; nothing where unknown.

    ``base`` are decimals, as of the components (`digits_for`).
    """
    told: list[str] = []
    for word, verb in _DONE.items():
        found = rows[(rows["word"] == word) & rows["component"].isin(list(_WHAT))]
        amounts = [f"{_amount(row, metric, base)} {_WHAT[row['component']]}" for row in found.to_dict("records")]
        told += [f"{verb} {' and '.join(amounts)}"] if amounts else []
    hidden = [_WHAT[one] for one in rows.loc[rows["word"] == "not_shown", "component"] if one in _WHAT]
    told += [f"is not shown to change {' or '.join(hidden)}"] if hidden else []
    return " and ".join(told)


def _amount(row: Mapping[Any, Any], metric: str, base: int) -> str:
    """A share of a part in percent; of a range, what it changes by."""
    adds = row["word"] == "worsened"
    if np.isfinite(row["recovered"]):
        ends = [100 * row[name] for name in ("recovered", "low", "high")]
        value, low, high = (-ends[0], -ends[2], -ends[1]) if adds else ends
        digits = 0 if round(min(abs(low), abs(high))) else 1
        told = "{} % [{}, {}]".format(*(f"{one:z.{digits}f}" for one in (value, low, high))).replace("-", "−")
        return f"another {told} to" if adds else f"{told} of"
    ends = [row[name] for name in ("difference", "difference_low", "difference_high")]
    value, low, high = (-ends[0], -ends[2], -ends[1]) if adds else ends
    told = number(Part(value=value, low=low, high=high, word="shown"), metric, base) + scale_of(metric)[1]
    return f"{told} {'to' if adds else 'of'}"


def repaired_claim(recovery: pd.DataFrame, metric: str, base: int) -> str:
    """What each fine-tuned model does, from the recovery table; ``base`` as in `repairs`."""
    told = [
        f"Fine-tuning ({str(name).rsplit('+', 1)[-1]}) {said}."
        for name, rows in recovery.groupby("model", sort=False)
        if (said := repairs(rows, metric, base))
    ]
    return " ".join(told) or "What fine-tuning repairs is not given: no split is known before or after it."


def compared_claim(models: pd.DataFrame, metric: str, base: int) -> str:
    """How much more or less each further model loses than the first, from the table of models."""
    told = [_compared(rows, metric, base) for _, rows in models.groupby("model", sort=False)]
    few = (models["exploratory"] == "yes") & np.isfinite(models["difference_low"])
    return " ".join([*told, *(["With fewer than 20 patients this is exploratory."] if few.any() else [])])


def _compared(rows: pd.DataFrame, metric: str, base: int) -> str:
    row = rows.iloc[0]
    further, first = str(row["model"]), str(row["compared_with"])
    names = {"value": "difference", **{end: f"difference_{end}" for end in ("low", "high", "bound_low", "bound_high")}}
    parts: dict[str, Part] = {}
    for one in rows.to_dict("records"):
        # Of models whose parts are ranges the difference may be known all the same.
        status = Status.OK if np.isfinite(one["difference"]) else Status(one["status"])
        ends = {name: one[column] for name, column in names.items()}
        parts[one["component"]] = Part(**ends, word=one["word"], status=status)
    total, unit = parts["total"], scale_of(metric)[1]
    if not total.given:
        return f"{further} is not compared with {first}: {total.status.sentence}"
    amount, gain = number(total, metric, base), number(total, metric, base, turned=True)
    if METRICS[metric].bounded:
        more, less = f", by {amount}{unit}", f", by {gain}{unit}"
    else:
        more, less = f": {logged(metric)} is {amount} % larger", f": {logged(metric)} is {gain} % smaller"
    told = {
        "larger": f"{further} loses more in patients than {first}{more}",
        "smaller": f"{further} loses less in patients than {first}{less}",
        "not_shown": f"{further} is not shown to lose more or less in patients than {first}, {amount}{unit}",
    }[total.word]
    if row["n_left_out"]:
        told += f", on the {int(row['n_patients'])} patients and {int(row['n_controls'])} controls that both have"
    if not (parts["systematic"].given and parts["tumor"].given):
        status = next(parts[name].status for name in ("systematic", "tumor") if not parts[name].given)
        return f"{told}. Their parts are not compared: {status.sentence}"
    for name in ("systematic", "tumor"):
        part = parts[name]
        amount = number(part, metric, base)
        said = {
            "larger": f"is larger by {amount}",
            "smaller": f"is smaller by {number(part, metric, base, turned=True)}",
            "not_shown": f"is not shown to differ, {amount}",
        }[part.word]
        told += f"{':' if name == 'systematic' else ', and'} {_WHAT[name]} {said}"
    return f"{told}."


def largest_drop(verdict: Verdict, metric: str) -> str:
    """The bundle with the largest drop, and whether it is shown."""
    totals = {level: parts["total"] for level, parts in verdict.bundles.items() if parts["total"].given}
    if not totals:
        return "No bundle has enough participants for a number of its own."
    (bundle, hemisphere), part = max(totals.items(), key=lambda one: one[1].value)
    amount = number(part, metric, digits_for(verdict, metric)) + scale_of(metric)[1]
    told = f"{' '.join(one for one in (bundle, hemisphere) if one)}: {amount}."
    if part.word == "shown":
        return f"The largest drop is in {told}"
    return f"No bundle alone is shown to be worse in patients; the largest estimate is in {told}"


def reach_of(verdict: Verdict, decay: Estimate, reach: Estimate, unit: str) -> str:
    """How far the tumor's effect goes, or why no length is given."""
    if np.isfinite(decay.value):
        length = "≤ 2 mm" if decay.value <= 2.0 + 1e-9 else _mm(decay)
        return (
            f"The tumor's effect decays with distance; its decay length is {length}, and beyond {_mm(reach)} it is "
            f"smaller than {verdict.margin:g} {unit}."
        )
    why = {
        "n/a": verdict.status.sentence,
        "not_shown": "worse performance near the tumor was not shown.",
        "better_near": "bundles near the tumor do better than those far from it.",
        "worse_near": "the effect near the tumor is no exponential that could be fitted.",
    }[verdict.tumor.word]
    return f"No decay length is given: {why}"


def _mm(estimate: Estimate) -> str:
    ends = (f"{one:.1f}" if np.isfinite(one) else "∞" for one in (estimate.low, estimate.high))
    return "{:.1f} mm [{}, {}]".format(estimate.value, *ends)


def other_choices(table: pd.DataFrame, verdict: Verdict, metric: str) -> str:
    """Between which values the systematic part lies where the same is estimated under another choice."""
    same = table[(table["component"] == "systematic") & (table["estimand"] == "same")]
    far = same["estimate"].dropna()
    ranges = int(same["estimate"].isna().sum())
    told = f" {ranges} of {len(same)} choices give a range." if ranges and len(far) else ""
    if len(far):
        scale, unit = scale_of(metric)
        ends = [scale(one) for one in (far.min(), far.max())]
        digits = _digits(ends, digits_for(verdict, metric))
        low, high = (f"{one:z.{digits}f}".replace("-", "−") for one in ends)
        where = f"stays at {low}" if low == high else f"lies between {low} and {high}"
        return f"Under other choices the systematic part {where}{unit}.{told}"
    if ranges:
        return "Other choices give a range too."
    return verdict.status.sentence if not verdict.systematic.given else "No other choice was tried."


def agreed(agreement: pd.DataFrame, level: float) -> str:
    """Which estimators are shown to differ from the primary one."""
    apart = agreement[agreement["p_adjusted"] <= 1 - level]
    named = ", ".join(f"{row['method']} ({row['component']})" for row in apart.to_dict("records"))
    return f"These differ from the primary estimate: {named}." if named else "No other estimator is shown to differ."


def disagreements(agreement: pd.DataFrame, verdict: Verdict, metric: str) -> tuple[str, ...]:
    """A sentence for each estimator whose difference from the primary one is shown."""
    told: list[str] = []
    for row in agreement[agreement["p_adjusted"] <= 1 - verdict.level].to_dict("records"):
        part, more = Part(value=row["difference"], low=row["low"], high=row["high"]), row["difference"] > 0
        part = replace(part, word=word_of(part.low, part.high))
        base, unit = digits_for(verdict, metric), scale_of(metric)[1]
        amount = number(part, metric, base) + unit if more else gained(part, metric, base)
        # A part of other rows has no range: it is compared with the point.
        ranged = verdict.status == Status.RANGE and row["rows"] == "all"
        than = f"the {'upper' if more else 'lower'} end of the primary range" if ranged else "the primary estimate"
        amount += f" {'more' if more else 'less'}" if METRICS[metric].bounded else ""
        told.append(
            f"The estimators disagree on the {row['component']} part: {row['method']} says {amount} than {than} on the "
            f"same rows (p = {row['p_adjusted']:.2g}). Quote both."
        )
    return tuple(told)


def _digits(values: Sequence[float], base: int) -> int:
    """Decimals of numbers without words: one more where one that is not 0 would be printed as 0."""
    return base + any(one != 0 and round(one, base) == 0 for one in values)


def notes_of(before: Split, frame: pd.DataFrame, settings: Settings) -> tuple[str, ...]:
    """What a reader must know: the status, what the bounds assume, what the systematic part mixes, what is lost."""
    verdict = before.verdict
    notes = [] if verdict.status == Status.OK else [verdict.status.sentence]
    if verdict.systematic.given:
        part = replace_range(verdict.systematic)
        ends = [scale_of(settings.metric)[0](one) for one in (part.bound_low, part.bound_high) if np.isfinite(one)]
        told = number(part, settings.metric, _digits(ends, digits_for(verdict, settings.metric)))
        notes.append(
            f"What the tumor does beyond {before.primary.design.far_mm:g} mm is not measured. If it fades at least as "
            f"fast as an exponential of 25 mm, the systematic part lies {told}."
            if np.isfinite(verdict.systematic.bound_low)
            else "Bundles near the tumor do better than those far from it, so that no bounds are given."
        )
        if not verdict.margin_decides:
            notes.append(
                f"The drop is at most twice the margin of {settings.margin:g}, so that the margin decides nothing."
            )
    notes.append(_mixture(before, settings))
    if not METRICS[settings.metric].bounded:
        notes.append(
            f"Drops are percent of {logged(settings.metric)}, for logs of a distance of 0 there are none: from 0.5 mm "
            "to 1 mm is 33 %."
        )
    notes += _selected(before.rows, frame, settings.metric)
    cut = before.primary.design.far_mm
    excess = lost_near_the_tumor(frame, before.rows, settings.metric, cut) if np.isfinite(cut) else 0.0
    if excess > _LOST_NEAR:
        notes.append(
            f"Bundles within 10 mm of the tumor lack a score more often than those beyond {cut:g} mm, by "
            f"{100 * excess:.0f} points: the tumor's part is likely too small."
        )
    return tuple(notes)


_SELECTED = 0.1
"""Of rows; fewer cannot change much."""


def _selected(rows: Rows, frame: pd.DataFrame, metric: str) -> list[str]:
    """What rows that are not there may have done to the numbers, where there are many of them."""
    notes: list[str] = []
    scored = frame[(frame["metric"] == metric) & (frame["group"] == "glioma") & frame["status"].isin(["ok", "missed"])]
    nowhere = ~np.isfinite(scored["tumor_distance_mm"].astype(float))
    if nowhere.mean() > _SELECTED:
        notes.append(
            f"{int(nowhere.sum())} of {len(scored)} scores of patients have no distance to the tumor and are in no "
            "number, the total included: where these are the far ones, it is too large."
        )
    lacking = 1 - float(rows.control.sum()) / (rows.n_controls * len(rows.levels))
    if lacking > _SELECTED:
        notes.append(
            f"Controls lack {100 * lacking:.0f} % of the scores that they could have: where those who lack bundles do "
            "worse than others, the drop is too large."
        )
    return notes


def replace_range(part: Part) -> Part:
    """The part as the range that it lies in, whether or not a point is printed."""
    return replace(part, status=Status.RANGE)


def _mixture(before: Split, settings: Settings) -> str:
    """What the systematic part stands for: a mixture, unless controls were scanned like the patients."""
    n, parts, metric = before.rows.n_target_controls, before.verdict.parts, settings.metric
    if "acquisition" not in parts or not parts["acquisition"].given:
        few = f" {n} controls scanned like the patients are too few to tell them apart." if n else ""
        return (
            "The systematic part mixes scanner, protocol, pre-processing, label style, age and diffuse disease, unless "
            f"controls were scanned like the patients.{few}"
        )
    base, unit = digits_for(before.verdict, metric), scale_of(metric)[1]
    told = {
        name: number(part, metric, base) + _NO_WORD[part.word] if part.given else "a withheld number"
        for name, part in parts.items()
        if name in ("systematic", "acquisition", "disease")
    }
    return (
        f"{n} controls were scanned like the patients: of the systematic part, {told['systematic']}{unit}, the "
        f"acquisition (scanner, protocol, pre-processing) makes up {told['acquisition']}; {told['disease']} is left "
        f"for diffuse disease, age and whatever else sets patients apart.{_lacked(before)}"
    )


def _lacked(before: Split) -> str:
    """The bundles that target controls lack, and of which nothing is known."""
    target = before.primary.design.target
    names = [
        " ".join(level).removesuffix(" none") for level, has in zip(before.rows.levels, target, strict=True) if not has
    ]
    told = f" Both are of the bundles that these controls have; {named(names)} they lack."
    return told if names else ""


_NO_WORD = {"shown": "", "negative": "", "negligible": ", which is negligible", "not_shown": ", which is not shown"}
