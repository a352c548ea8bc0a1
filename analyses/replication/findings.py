"""Words, tables and figures of a replication."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ...results import Estimate, Finding
from ...style import beside, intervals, legend_above, look, name_columns, name_rows, new_axes
from ..scoring.metrics import METRICS
from .answers import NOT_SUPPORTED, QUESTIONS, SUPPORTED, UNDECIDED, Answer, number_of
from .conditions import CONTROLS, NONE, PATIENTS
from .result import Replication

_METHOD = (
    "Participants are the unit of every interval and test, and values are compared within bundle and hemisphere: "
    "pooled means are those of the bundles' means, and groups differ by values less the bundle's mean in controls. "
    "Networks are judged on patients they never saw, and against controls that none has seen. A claim is supported if "
    "the interval lies on its side, not supported if it lies on the other side or is shown to be smaller than the "
    "margin, and undecided if it holds both. Intervals are not adjusted over the three findings and the inputs; those "
    "of single bundles are widened after Bonferroni, and tests adjusted after Holm."
)
_WORDS = {SUPPORTED: "supported", NOT_SUPPORTED: "not supported", UNDECIDED: "undecided"}


def claim_of(result: Replication) -> str:
    """Each finding with the inputs that support it, do not, and leave it open."""
    return " ".join(_summary(number, result.of(number)) for number in QUESTIONS)


def _summary(number: int, answers: Iterable[Answer]) -> str:
    by_word: dict[str, list[str]] = {}
    for one in answers:
        by_word.setdefault(one.word, []).append(one.arm.name)
    told = "; ".join(f"{said} with {', '.join(by_word[word])}" for word, said in _WORDS.items() if word in by_word)
    return f"Finding {number}, {QUESTIONS[number][0].lower()}{QUESTIONS[number][1:]}: {told}."


def findings(result: Replication) -> tuple[Finding, ...]:
    """The answers, then what they rest on."""
    made = [_answered(result, number) for number in QUESTIONS]
    made += [_by_condition(result), _differences(result), _repaired(result)]
    return (*made, *([_curves(result)] if len(result.curves) else []), _by_bundle(result))


def _answered(result: Replication, number: int) -> Finding:
    shown = result.of(number)
    rows = result.table[(result.table["finding"] == number) & (result.table["bundle"] == "all")]
    return Finding(
        key=f"finding-{number}",
        place="first" if number == 1 else "lead",
        title=f"{number}. {QUESTIONS[number]}",
        claim=" ".join(one.sentence for one in shown),
        estimates=tuple(estimate for _, estimate in numbers_of(shown)),
        table=rows,
        caveats=("Other strategies than the one that the study names first are shown beside it and decide nothing.",)
        if len(rows) > len(shown)
        else (),
        method=_METHOD,
        references=("10.1016/j.media.2025.103766",),
        figure=partial(_draw_answers, shown) if any(np.isfinite(one.low) for _, one in numbers_of(shown)) else None,
        alt="What each criterion of the finding is, with its interval; right of zero it speaks for the finding.",
    )


def numbers_of(shown: Iterable[Answer]) -> list[tuple[str, Estimate]]:
    """What each criterion is called beside others, and its number."""
    told = [(f"{one.arm.name}: {c.name.replace('_', ' ')}", c.estimate) for one in shown for c in one.criteria]
    return [(name, replace(one, name=name)) for name, one in told]


def _draw_answers(shown: tuple[Answer, ...], ax: Any = None) -> Any:
    """Every criterion with its interval; right of zero it speaks for the finding."""
    axes = new_axes(ax)
    rows = numbers_of(shown)
    numbers = zip(*((one.value, one.low, one.high) for _, one in rows), strict=True)
    intervals(axes, np.arange(len(rows)), *map(list, numbers), lying=True)
    name_rows(axes, [name for name, _ in rows])
    axes.figure.set_figheight(0.7 + 0.3 * len(rows))
    axes.set_xlabel("speaks against the finding  |  speaks for it")
    return axes


def _by_condition(result: Replication) -> Finding:
    pooled = result.conditions[result.conditions["bundle"] == "all"]
    title = METRICS[result.arms[0].metric].title
    told = [
        f"{arm.name}: controls {_mean(pooled, arm, CONTROLS, NONE)}, patients {_mean(pooled, arm, PATIENTS, NONE)}, "
        + ", ".join(f"after {one} {_mean(pooled, arm, PATIENTS, one)}" for one in arm.strategies)
        for arm in result.arms
    ]
    return Finding(
        key="conditions",
        place="lead",
        title=f"{title} by condition",
        claim="; ".join(told) + ".",
        table=result.conditions,
        method=_METHOD,
        figure=partial(_draw_conditions, result) if pooled["value"].notna().any() else None,
        alt=f"{title} of controls, of patients by the source network, and of patients after each strategy.",
    )


def _mean(table: pd.DataFrame, arm: Any, group: str, strategy: str) -> str:
    rows = _rows_of(table, arm)
    rows = rows[(rows["group"] == group) & (rows["strategy"] == strategy)]
    if rows.empty:
        return "n/a"
    return _span(rows.iloc[0], sign="")


def _rows_of(table: pd.DataFrame, arm: Any) -> pd.DataFrame:
    return table[(table["modality"] == arm.modality) & (table["training"] == arm.training)]


def _draw_conditions(result: Replication, ax: Any = None) -> Any:
    axes = new_axes(ax)
    strategies = list(dict.fromkeys(name for arm in result.arms for name in arm.strategies))
    places = [(CONTROLS, NONE), (PATIENTS, NONE), *((PATIENTS, name) for name in strategies)]
    pooled = result.conditions[result.conditions["bundle"] == "all"]
    for number, arm in enumerate(result.arms):
        rows = _rows_of(pooled, arm).set_index(["group", "strategy"]).reindex(places)
        x = np.arange(len(places)) + beside(number, len(result.arms), 0.15)
        one = look(number)
        told = (rows[name] for name in ("value", "low", "high"))
        intervals(axes, x, *told, fmt=one.marker, color=one.color, label=arm.name)
    names = ["controls", "patients", *(f"patients, {name}" for name in strategies)]
    name_columns(axes, names, slanted=True, zero=None)
    axes.set_ylabel(METRICS[result.arms[0].metric].label)
    legend_above(axes)
    return axes


def _differences(result: Replication) -> Finding:
    pooled = result.contrasts[result.contrasts["bundle"] == "all"]
    forgotten = pooled[(pooled["group"] == CONTROLS) & (pooled["strategy"] == result.primary)]
    told = [
        f"{row['modality']}: {_span(row)}"
        for row in forgotten[forgotten["training"] == "plain"].to_dict("records")
        if np.isfinite(row["low"])
    ]
    lost = f"In controls {result.primary} changes the score by {', '.join(told)}: what it forgets." if told else ""
    n = int((pooled["p_adjusted"] < 0.05).sum())
    return Finding(
        key="contrasts",
        title="Differences between conditions",
        claim=f"{n} of {len(pooled)} differences of all bundles together have an adjusted p under 0.05. {lost}".strip(),
        table=result.contrasts,
        method="Paired differences are tested by flipping signs over participants, patients against controls by "
        "permuting them with Welch's t; effect sizes are Hedges' g, of paired differences with their own spread. "
        "Holm over the rows of all bundles together, and over an input's rows of single bundles.",
        references=("10.3389/fpsyg.2013.00863", "10.1016/S0167-7152(97)00043-6"),
    )


def _repaired(result: Replication) -> Finding:
    rows = result.recovery[result.recovery["component"].isin(["systematic", "tumor"])]
    told = [
        f"{row['modality']}, {row['strategy']}: {row['component']} part {_span(row, of='difference')}"
        for row in rows[(rows["strategy"] == result.primary) & (rows["training"] == "plain")].to_dict("records")
        if np.isfinite(row["difference_low"])
    ]
    return Finding(
        key="recovery",
        place="lead",
        title="What each strategy repairs of each part",
        claim=f"Repaired, by {'; '.join(told)}." if told else "The drop could not be split before and after.",
        table=result.recovery,
        method="The split before and after fine-tuning with the source network's controls on both sides, paired; see "
        "the decomposition of each input.",
        figure=partial(_draw_repaired, rows) if rows["difference_low"].notna().any() else None,
        alt="What each strategy takes away of the systematic and the tumor's part, with intervals.",
    )


def _draw_repaired(rows: pd.DataFrame, ax: Any = None) -> Any:
    axes = new_axes(ax)
    names = (rows["modality"] + ", " + rows["strategy"]).where(
        rows["training"] == "plain", rows["modality"] + " + " + rows["training"] + ", " + rows["strategy"]
    )
    labels = list(dict.fromkeys(names))
    for number, component in enumerate(("systematic", "tumor")):
        own = rows["component"] == component
        y = names[own].map(labels.index) + beside(number, 2, 0.25)
        told = (rows.loc[own, name] for name in ("difference", "difference_low", "difference_high"))
        one = look(number)
        intervals(axes, y, *told, lying=True, fmt=one.marker, color=one.color, label=f"{component} part")
    name_rows(axes, labels)
    axes.set_xlabel("taken away by fine-tuning")
    legend_above(axes)
    return axes


def _curves(result: Replication) -> Finding:
    rows = result.curves[result.curves["quantity"] == "dice"]
    told: list[str] = []
    for arm in result.arms:
        own = _rows_of(result.curves, arm)
        better = own[(own["quantity"] == "gain_over_scratch") & (own["low"] > 0)]
        fewest = f"from {better['shots'].min():g} patients on" if len(better) else "with none of these numbers"
        told.append(f"{arm.name}: shown to be better than training from scratch {fewest}")
    return Finding(
        key="curves",
        place="lead",
        title="By number of patients",
        claim="; ".join(told) + ".",
        table=result.curves,
        figure=partial(_draw_curves, rows) if rows.loc[rows["shots"] > 0, "value"].notna().any() else None,
        alt="Dice against the number of patients trained on, for fine-tuning and training from scratch.",
    )


def _draw_curves(rows: pd.DataFrame, ax: Any = None) -> Any:
    axes = new_axes(ax)
    groups = list(rows[rows["shots"] > 0].groupby(["modality", "training", "strategy"], sort=False))
    for number, ((modality, training, strategy), own) in enumerate(groups):
        one = look(number)
        x = own["shots"] + beside(number, len(groups), 0.1)
        told = (own[name] for name in ("value", "low", "high"))
        label = f"{modality}, {strategy}" + ("" if training == "plain" else f", {training}")
        intervals(axes, x, *told, fmt=one.marker, linestyle=one.line, color=one.color, label=label)
    axes.set_xlabel("patients trained on in each fold")
    axes.set_ylabel("Dice, out of fold")
    legend_above(axes, columns=2)
    return axes


def _by_bundle(result: Replication) -> Finding:
    rows = result.table[result.table["bundle"] != "all"]
    counted = rows.drop_duplicates(["finding", "modality", "training", "bundle"])
    told = [
        f"finding {number}: " + ", ".join(f"{sum(part['answer'] == word)} {said}" for word, said in _WORDS.items())
        for number, part in counted.groupby("finding")
    ]
    return Finding(
        key="answers-by-bundle",
        place="cohort",
        title="The same of each bundle",
        claim=f"Bundles and inputs, {'; '.join(told)}." if told else "There is one bundle alone.",
        table=rows,
        caveats=("Intervals are those that hold for all bundles of an input at once, after Bonferroni.",),
    )


def further(tables: Mapping[str, pd.DataFrame], primary: str) -> tuple[Finding, ...]:
    """What the stages found besides, of all inputs together: tables of `shiftkit.catalogue` by their names."""
    told: dict[str, tuple[str, Callable[[pd.DataFrame, str], list[str]]]] = {
        "deformation_relation": ("Deformation, and what fine-tuning helps", _slopes),
        "features": ("Feature shift before and after fine-tuning", _layers),
        "cka": ("How much fine-tuning changes each layer", _changes),
        "implants": ("The tumor's part, measured with implanted tumors", _measured),
    }
    return tuple(
        Finding(
            key=name.replace("_", "-"),
            title=title,
            claim="; ".join(say(tables[name], primary)) + ".",
            table=tables[name],
        )
        for name, (title, say) in told.items()
        if name in tables and len(tables[name])
    )


def _by_arm(table: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    for (modality, training), rows in table.groupby(["modality", "training"], sort=False):
        yield str(modality) if training == "plain" else f"{modality}, {training}", rows


def _span(row: Any, digits: int = 3, of: str = "value", sign: str = "+") -> str:
    low, high = ("low", "high") if of == "value" else (f"{of}_low", f"{of}_high")
    one = Estimate(name=of, value=float(row[of]), low=float(row[low]), high=float(row[high]))
    return number_of(one, sign, digits)


def _slopes(table: pd.DataFrame, primary: str) -> list[str]:
    made: list[str] = []
    for name, rows in _by_arm(table):
        for quantity, of in (("slope", "before"), ("slope_change", f"changed by {primary}")):
            own = rows[rows["quantity"] == quantity]
            own = own[own["model"].str.endswith(f"+{primary}") == (quantity == "slope_change")]
            made += [
                f"{name}, {of}: {_span(row, 4)} Dice lost a mm of V-Norm" for row in own.head(1).to_dict("records")
            ]
    return made


def _layers(table: pd.DataFrame, primary: str) -> list[str]:
    made: list[str] = []
    for name, rows in _by_arm(table):
        shown = rows[(rows["contrast"] == "systematic") & (rows["p_adjusted"] < 0.05)]
        after = shown["model"].str.endswith(f"+{primary}")
        n = [part["layer"].nunique() for part in (shown[~shown["model"].str.contains("+", regex=False)], shown[after])]
        made.append(f"{name}: layers with a shown systematic shift, {n[0]} before and {n[1]} after {primary}")
    return made


def _changes(table: pd.DataFrame, primary: str) -> list[str]:
    made: list[str] = []
    for name, rows in _by_arm(table[table["model"].str.endswith(f"+{primary}") & table["cka"].notna()]):
        least = rows.nsmallest(1, "cka").to_dict("records")[0]
        made.append(f"{name}, {primary}: least alike is {least['layer']}, with a CKA of {least['cka']:.2f}")
    return made


def _measured(table: pd.DataFrame, _: str) -> list[str]:
    rows = table[table["zone"].str.startswith("all")]
    return [f"{name}, {row['source']}: {_span(row)}" for name, own in _by_arm(rows) for row in own.to_dict("records")]
