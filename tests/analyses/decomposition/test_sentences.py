"""What is said: derived anew from the tables alone, it never contradicts the verdict's sentence."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.contradictions import contradictions_of
from makers.decompositions import DESIGN, any_cohort, write_run

from shiftkit.analyses.decomposition.sentences import number, reach_of
from shiftkit.analyses.decomposition.verdict import Part, Verdict
from shiftkit.results import Estimate
from shiftkit.status import Status


def spoiled(folder: Path, **changes: Any) -> list[str]:
    """What the reader finds after the pooled tumor row was changed by hand."""
    path = folder / "tables" / "decomposition.tsv"
    text = path.read_text()
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    first = table.index[(table["component"] == "tumor") & (table["bundle"] == "all") & (table["method"] == "anchored")]
    for column, value in changes.items():
        table.loc[first[0], column] = value
    table.to_csv(path, sep="\t", index=False)
    found = contradictions_of(folder)
    path.write_text(text)
    return found


def test_a_reach_without_an_upper_limit_is_told_with_the_sign_of_tables() -> None:
    """An interval that is open above ends in ∞, never in the word of a programming language."""
    given = Verdict(status=Status.OK, total=Part(), systematic=Part(), tumor=Part(), margin=0.02, level=0.95)
    decay = Estimate(name="decay_length", value=7.94, low=3.5, high=np.inf)
    reach = Estimate(name="tumor_reach", value=12.0, low=9.04, high=np.inf)
    told = reach_of(given, decay, reach, "Dice")
    assert "is 7.9 mm [3.5, ∞]" in told and "beyond 12.0 mm [9.0, ∞]" in told and "inf" not in told


@pytest.mark.slow
def test_no_run_contradicts_itself(tmp_path: Path) -> None:
    """Over 27 cohorts of every kind, table, record and page say the same, read by one who has only these.

    Two thousand more are read by `benchmarks/contradictions.py`. In the last two, patients are a little better near
    the tumor, and other estimators lie beyond a range: rare.
    """
    words: Counter[str] = Counter()
    for seed in (*range(25), 1710, 1861):
        result = write_run(tmp_path / str(seed), *any_cohort(seed))
        assert contradictions_of(tmp_path / str(seed)) == [], seed
        words.update(result.table.loc[result.table["method"] == "anchored", "word"])
        words.update([result.status])
    assert {"shown", "not_shown", "worse_near", "better_near", "far_field_unmeasured", "range", "ok"} <= set(words)


def test_the_reader_sees_contradictions(tmp_path: Path) -> None:
    """A word, a p, a status, an interval, a sentence or a claim that is changed by hand is found."""
    write_run(tmp_path, simulated.scores(24, 20, seed=3), {}, DESIGN)
    assert contradictions_of(tmp_path) == []
    for column, value in (("word", "better_near"), ("p_value", "0.5"), ("status", "range"), ("low", "-0.1")):
        assert spoiled(tmp_path, **{column: value}), column
    page, record = tmp_path / "report.html", tmp_path / "run.json"
    for path, old, new in (
        (record, "is systematic", "is not systematic at all"),
        (page, "The largest drop is in", "No drop is in"),
        (page, "with distance; its ", "with distance; the "),
    ):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        assert contradictions_of(tmp_path) != [], old
        path.write_text(text)


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
