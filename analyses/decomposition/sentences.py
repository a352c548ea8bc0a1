"""A decomposition in words: every sentence is read off one verdict."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...status import Status
from ..scoring.metrics import METRICS
from ..statistics.inference import EXPLORATORY_BELOW
from .result import Settings, Split, unit_of
from .rows import lost_near_the_tumor
from .verdict import Part, Verdict

_LOST_NEAR = 0.10
"""Excess of lost rows near the tumor from which its part is likely too small."""


def scale_of(metric: str) -> tuple[Callable[[float], float], str]:
    """How a component is told: shares as they are; differences of logs as percent of larger distance."""
    found = METRICS[metric]
    if found.bounded:
        return float, f" {unit_of(metric)}"
    return (lambda value: 100 * float(np.expm1(value))), f" % larger {found.title}"


def digits_of(part: Part, metric: str, base: int) -> int:
    """Decimals, one or more beyond ``base`` where rounding would hide that an interval excludes 0."""
    scale, _ = scale_of(metric)
    digits = base
    ends = [scale(end) for end in (part.low, part.high) if np.isfinite(end) and end != 0]
    nearest = min((abs(end) for end in ends), default=1.0)
    if part.word in ("shown", "negative", "worse_near", "better_near"):
        while digits < 6 and round(nearest, digits) == 0:
            digits += 1
    return digits


def number(part: Part, metric: str, base: int) -> str:
    """A part with its interval, or the range that it lies in."""
    scale, _ = scale_of(metric)
    digits = digits_of(part, metric, base)

    def told(value: float) -> str:
        return f"{scale(value):z.{digits}f}".replace("-", "−")

    interval = f"[{told(part.low)}, {told(part.high)}]"
    if part.status == Status.RANGE:
        return f"between {told(part.bound_low)} and {told(part.bound_high)} {interval}"
    return f"{told(part.value)} {interval}"


def verdict_of(before: Split, repaired: pd.DataFrame, settings: Settings) -> str:
    """The answer in one to four sentences, with every number's interval."""
    verdict, metric = before.verdict, settings.metric
    _, unit = scale_of(metric)
    if not np.isfinite(verdict.total.low):
        return f"No interval is given: {verdict.status.sentence}"
    base = 1 if not METRICS[metric].bounded else 2 if abs(verdict.total.value) >= 0.1 else 3
    drop = number(verdict.total, metric, base)
    if verdict.total.word == "not_shown":
        opening = f"Patients are not shown to differ from controls: {drop}{unit}"
    else:
        opening = f"Patients are {'worse' if verdict.total.value > 0 else 'better'} than controls by {drop}{unit}"
    if not np.isfinite(verdict.systematic.low):
        return " ".join([f"{opening}.", verdict.status.sentence, *_help(before)]) + _few(before)
    far, near = (number(part, metric, base) for part in (verdict.systematic, verdict.tumor))
    sentence = f"{opening}: {_far(verdict, far)}, and {_near(verdict, near)}"
    endings = [_repair(str(name), rows) for name, rows in repaired.groupby("model", sort=False)]
    return "; ".join([sentence, *(one for one in endings if one)]) + "." + _few(before)


def _far(verdict: Verdict, told: str) -> str:
    return {
        "shown": f"{told} is systematic",
        "negative": f"far from the tumor they are better, {told}",
        "negligible": f"the systematic part is negligible, {told}",
        "not_shown": f"a systematic part is not shown, {told}",
    }[verdict.systematic.word]


def _near(verdict: Verdict, told: str) -> str:
    return {
        "worse_near": f"{told} comes on top near the tumor",
        "better_near": f"near the tumor they are better by that much of it, {told}",
        "not_shown": f"an effect of the tumor's proximity is not shown, {told}",
    }[verdict.tumor.word]


def _few(before: Split) -> str:
    return " With fewer than 20 patients this is exploratory." if before.rows.n_patients < EXPLORATORY_BELOW else ""


def _help(before: Split) -> list[str]:
    """What would help most, where the far field was not measured."""
    if before.verdict.status != Status.FAR_FIELD_UNMEASURED:
        return []
    rows = before.rows
    far = len(set(rows.person[rows.patient & (rows.distance_mm > 20)]))
    more = next(m for m in range(10_000) if far + m >= max(10, 0.4 * (rows.n_patients + m)))
    return [f"{more} more patient{'s' if more > 1 else ''} with a bundle beyond 20 mm would give one."]


def _repair(name: str, rows: pd.DataFrame) -> str:
    strategy = name.rsplit("+", 1)[-1]
    words = [
        f"{recovered_percent(row)} of {what}"
        for component, what in (("systematic", "the systematic part"), ("tumor", "the tumor's"))
        for row in rows[(rows["component"] == component) & np.isfinite(rows["recovered"])].to_dict("records")
        if row["word"] != "not_shown"
    ]
    hidden = [
        what
        for component, what in (("systematic", "the systematic part"), ("tumor", "the tumor's"))
        if (rows[rows["component"] == component]["word"] == "not_shown").any()
    ]
    told = [f"removes {' and '.join(words)}"] if words else []
    told += [f"is not shown to change {' or '.join(hidden)}"] if hidden else []
    return f"fine-tuning ({strategy}) {' and '.join(told)}" if told else ""


def recovered_percent(row: Mapping[Any, Any]) -> str:
    """A recovered fraction with its interval, in percent."""
    share, low, high = (f"{100 * row[name]:.0f}".replace("-", "−") for name in ("recovered", "low", "high"))
    return f"{share} % [{low}, {high}]"


def notes_of(before: Split, frame: pd.DataFrame, settings: Settings) -> tuple[str, ...]:
    """What a reader must know: the status, what the bounds assume, what the systematic part mixes, what is lost."""
    verdict = before.verdict
    notes = [] if verdict.status == Status.OK else [verdict.status.sentence]
    if np.isfinite(verdict.systematic.low):
        told = number(replace_range(verdict.systematic), settings.metric, 3)
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
    cut = before.primary.design.far_mm
    excess = lost_near_the_tumor(frame, before.rows, settings.metric, cut) if np.isfinite(cut) else 0.0
    if excess > _LOST_NEAR:
        notes.append(
            f"Bundles within 10 mm of the tumor lack a score more often than those beyond {cut:g} mm, by "
            f"{100 * excess:.0f} points: the tumor's part is likely too small."
        )
    return tuple(notes)


def replace_range(part: Part) -> Part:
    """The part as the range that it lies in, whether or not a point is printed."""
    return replace(part, status=Status.RANGE)


def _mixture(before: Split, settings: Settings) -> str:
    """What the systematic part stands for: a mixture, unless controls were scanned like the patients."""
    n = before.rows.n_target_controls
    parts = {one.name: one for one in before.estimates}
    if "acquisition" not in parts or np.isnan(parts["acquisition"].low):
        few = f" {n} controls scanned like the patients are too few to tell them apart." if n else ""
        return (
            "The systematic part mixes scanner, protocol, pre-processing, label style, age and diffuse disease, unless "
            f"controls were scanned like the patients.{few}"
        )
    told = {
        name: f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]".replace("-", "−")
        if np.isfinite(one.value)
        else f"a range [{one.low:.3f}, {one.high:.3f}]".replace("-", "−")
        if np.isfinite(one.low)
        else "a number that is withheld"
        for name, one in parts.items()
    }
    return (
        f"{n} controls were scanned like the patients: of the systematic part, {told['systematic']}, the acquisition "
        f"(scanner, protocol, pre-processing) makes up {told['acquisition']}; {told['disease']} is left for diffuse "
        "disease, age and whatever else sets patients apart."
    )
