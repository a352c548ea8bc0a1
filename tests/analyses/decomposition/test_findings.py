"""Figures of a decomposition say what its sentences say."""

import re

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from shiftkit.analyses.decomposition.findings import bundle_verdicts, findings
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.status import Status
from shiftkit.style import styled

FAR = {
    "shown": "is systematic",
    "negative": "far from the tumor they are better",
    "negligible": "the systematic part is negligible",
    "not_shown": "a systematic part is not shown",
}
"""Words of the table as the sentence says them."""


def near_only(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(tumor_distance_mm=table["tumor_distance_mm"].clip(upper=15))


DESIGNS = {
    "ok": simulated.scores(20, 20, seed=2),
    "range": simulated.scores(14, 14, decay_mm=40, tumor=3, seed=1),
    "far_field_unmeasured": near_only(simulated.scores(15, 15, seed=1)),
    "too_few": simulated.scores(4, 6, seed=1),
    "too_few_for_split": simulated.scores(8, 6, seed=1),
}


N_NOT_GIVEN = {"ok": 0, "range": 0, "far_field_unmeasured": 2, "too_few": 3, "too_few_for_split": 2}


@pytest.mark.parametrize("status", DESIGNS)
def test_every_figure_can_be_drawn_whatever_could_be_estimated(status: str) -> None:
    """With all that a run computes besides: where no number is left to draw, there is no figure."""
    result = decompose(DESIGNS[status], inference=FAST["inference"], sensitivity=True)
    for finding in findings(result):
        if finding.figure is not None:
            axes = finding.plot(Figure().add_subplot())
            assert axes.has_data() or axes.child_axes, finding.key


@pytest.mark.parametrize("status", DESIGNS)
def test_numbers_in_the_first_figure_are_those_of_the_sentence_and_lie_within_it(status: str) -> None:
    """Every number beside an interval stands so in the claim, to the digit, or is said not to be given; none is cut."""
    result = decompose(DESIGNS[status], **FAST)
    assert result.status == status
    first = findings(result)[0]
    with styled():
        figure = Figure(figsize=(3.35, 2.85), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        ax = first.plot(figure.add_subplot())
        canvas.draw()
        boxes = [text.get_window_extent() for text in ax.texts]
    said = [text.get_text() for text in ax.texts]
    assert len(said) == 3 and all(one in result.claim or one == "not given" for one in said)
    assert said.count("not given") == N_NOT_GIVEN[status]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    points = result.participants["component"].value_counts()
    drawn = sum(len(one.get_offsets()) for one in ax.collections)
    assert drawn == points.sum() and points["total"] == int(result.estimates[0].n)


def test_before_and_after_fine_tuning_are_named_so() -> None:
    """The legend tells models by what was done, not by their names in tables."""
    before = simulated.scores(20, 20, seed=2, model="source")
    after = simulated.scores(20, 20, seed=2, systematic=0.1, model="source+decoder")
    result = decompose(before, finetuned={"source+decoder": after}, **FAST)
    for key in ("decomposition", "distance"):
        finding = next(one for one in findings(result) if one.key == key)
        ax = finding.plot(Figure().add_subplot())
        names = [text.get_text() for text in ax.get_legend().get_texts()]
        assert {"before fine-tuning", "after fine-tuning (decoder)"} <= set(names) and "source" not in " ".join(names)


def test_other_estimators_stand_beside_the_primary_one() -> None:
    """The agreement holds each estimator's systematic and tumor part with its interval, the primary one first."""
    result = decompose(DESIGNS["ok"], **FAST)
    found = next(one for one in findings(result) if one.key == "agreement")
    assert [one.name for one in found.estimates[:2]] == ["systematic, primary", "tumor, primary"]
    assert len(found.estimates) == 8 and np.isfinite([one.low for one in found.estimates]).all()


@pytest.mark.parametrize("status", ["ok", "range", "far_field_unmeasured"])
def test_each_bundle_is_told_by_its_own_rows(status: str) -> None:
    """A bundle's sentence holds the numbers and the words of its rows of the table, or why its drop is not split."""
    result = decompose(DESIGNS[status], **FAST)
    told = bundle_verdicts(result)
    assert told
    worse = {"shown": "worse than", "negative": "better than", "not_shown": "not shown to differ"}
    table = result.table[result.table["method"] == "anchored"]
    for bundle, finding in told.items():
        own = table[(table["bundle"] == bundle.name) & (table["hemisphere"] == bundle.hemisphere)]
        rows = {str(row["component"]): row for row in own.to_dict("records")}
        total, far = rows["total"], rows.get("systematic")
        turned = -1 if total["word"] == "negative" else 1
        values = [turned * total["estimate"], *sorted(turned * total[name] for name in ("low", "high"))]
        found = re.search(r"(\S+) \[(\S+), (\S+)\]", finding.claim)
        assert found is not None
        for text, value in zip(found.groups(), values, strict=True):
            # As many decimals as stand there, two at least.
            assert len(text.partition(".")[2]) >= 2
            assert f"{value:z.{len(text.partition('.')[2])}f}".replace("-", "−") == text
        assert worse[total["word"]] in finding.claim
        if far is None:  # nothing is split, and so no bundle
            assert Status(status).sentence in finding.claim
        else:
            split = far["status"] in (Status.OK, Status.RANGE)
            assert (FAR[far["word"]] if split else Status(far["status"]).sentence) in finding.claim
