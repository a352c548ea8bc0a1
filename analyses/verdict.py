"""The answer in words, and what to know before quoting it."""

import numpy as np
import pandas as pd

from ..status import Status
from ..types import Estimate
from .metrics import METRICS
from .resampling import interval
from .split import Settings, Split, unit_of


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
    explored = " With fewer than 20 patients this is exploratory." if before.rows.n_patients < 20 else ""
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
        low, high = interval(draws, 0.90, min(before.rows.n_patients, before.rows.n_controls))
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
