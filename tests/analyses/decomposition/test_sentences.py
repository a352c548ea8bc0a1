"""What is said: derived anew from the tables alone, it never contradicts the verdict's sentence."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST

from shiftkit.analyses.decomposition.result import Decomposition
from shiftkit.analyses.decomposition.sentences import number
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.decomposition.verdict import Part
from shiftkit.status import Status

SAID = {
    ("systematic", "shown"): "is systematic",
    ("systematic", "negative"): "far from the tumor they are better",
    ("systematic", "negligible"): "the systematic part is negligible",
    ("systematic", "not_shown"): "a systematic part is not shown",
    ("tumor", "worse_near"): "comes on top near the tumor",
    ("tumor", "better_near"): "near the tumor they are better",
    ("tumor", "not_shown"): "an effect of the tumor's proximity is not shown",
}


def contradictions(table: pd.DataFrame, sentence: str, margin: float) -> list[str]:
    """Everything in a table of components and its sentence that does not go together; reads nothing else."""
    found: list[str] = []
    primary = table[table["method"] == "anchored"]
    for row in primary.to_dict("records"):
        what = f"{row['bundle']} {row['component']}"
        if not np.isfinite(row["low"]):
            found += [f"{what}: a word without an interval"] * (row["word"] != "n/a")
            found += [f"{what}: ok without a number"] * (row["status"] == "ok")
            continue
        p = row["p_value"] if row["bundle"] == "all" else row["p_adjusted"]
        derived = "above" if row["low"] > 0 else "below" if row["high"] < 0 else "neither"
        meant = {"shown": "above", "worse_near": "above", "negative": "below", "better_near": "below"}
        found += [f"{what}: word {row['word']}"] * (meant.get(row["word"], "neither") != derived)
        found += [f"{what}: p {p}"] * ((p <= 0.05) != (derived != "neither"))
        wide = row["bound_high"] - row["bound_low"] > margin
        found += [f"{what}: status {row['status']}"] * ((row["status"] == "range") != wide)
        found += [f"{what}: a point of a range"] * bool(wide and np.isfinite(row["estimate"]))
        found += [f"{what}: negligible"] * (row["word"] == "negligible" and row["high"] - row["low"] > 4 * margin)
    for row in primary[primary["bundle"] == "all"].to_dict("records"):
        for (component, word), phrase in SAID.items():
            if row["component"] == component and np.isfinite(row["low"]):
                found += [f"{component}: {phrase}"] * ((row["word"] == word) != (phrase in sentence))
    by_level = (
        primary[primary["bundle"] != "all"].set_index(["bundle", "hemisphere", "component"])["estimate"].unstack()
    )
    if {"systematic", "tumor"} <= set(by_level):
        given = by_level.dropna()
        gap = (given["total"] - given["systematic"] - given["tumor"]).abs()
        found += ["bundles do not add up"] * bool((gap > 1e-9).any())
    return found


def cohort(seed: int) -> Decomposition:
    rng = np.random.default_rng(seed)
    frame = simulated.scores(
        int(rng.integers(6, 40)),
        int(rng.integers(5, 40)),
        systematic=float(rng.choice([-0.3, 0.0, 0.4])),
        tumor=float(rng.choice([-0.8, 0.0, 0.8, 2.0])),
        decay_mm=float(rng.choice([5.0, 20.0, 60.0])),
        between=float(rng.choice([0.05, 0.3])),
        seed=seed,
    )
    if seed % 5 == 0:
        frame["tumor_distance_mm"] = frame["tumor_distance_mm"].clip(upper=18.0)
    return decompose(frame, **FAST)


def test_no_result_contradicts_itself() -> None:
    """Over cohorts of every kind, words, intervals, p-values, statuses, sums and the sentence say the same."""
    words: Counter[str] = Counter()
    for seed in range(40):
        result = cohort(seed)
        assert contradictions(result.table, result.claim, result.margin) == [], seed
        words.update(result.table.loc[result.table["method"] == "anchored", "word"])
        words.update([result.status])
    assert {"shown", "not_shown", "worse_near", "far_field_unmeasured", "range", "ok"} <= set(words)


def test_the_checker_sees_contradictions() -> None:
    """A word, a p, a status or a phrase that is changed by hand is found."""
    result = next(one for one in map(cohort, range(40)) if one.status == "ok")
    first = result.table.index[(result.table["component"] == "tumor") & (result.table["bundle"] == "all")][0]
    for column, wrong in (("word", "better_near"), ("p_value", 0.5), ("status", "range"), ("low", np.nan)):
        spoiled = result.table.copy()
        spoiled.loc[first, column] = wrong if spoiled.loc[first, column] != wrong else "not_shown"
        assert contradictions(spoiled, result.claim, result.margin) != []
    assert contradictions(result.table, result.claim.replace("is systematic", ""), result.margin) != []


@pytest.mark.parametrize(
    ("part", "metric", "told"),
    [
        (Part(value=0.021, low=0.0004, high=0.06, word="shown"), "dice", "0.0210 [0.0004, 0.0600]"),
        (Part(value=0.021, low=-0.0004, high=0.06, word="not_shown"), "dice", "0.02 [0.00, 0.06]"),
        (Part(value=np.log(1.2), low=0.0, high=np.log(1.5), word="not_shown"), "hd95", "20.00 [0.00, 50.00]"),
        (
            Part(low=0.01, high=0.09, bound_low=0.03, bound_high=0.07, word="shown", status=Status.RANGE),
            "dice",
            "between 0.03 and 0.07 [0.01, 0.09]",
        ),
    ],
)
def test_rounding_never_hides_a_word(part: Part, metric: str, told: Any) -> None:
    """An end that rounds to 0 but decides the word gets more decimals; distances are told in percent."""
    assert number(part, metric, 2) == told
    assert not re.search("-", told)
