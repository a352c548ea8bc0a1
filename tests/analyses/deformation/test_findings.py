"""Deformation in words and pictures; what the relation to scores says stands in `test_relation`."""

from typing import Any

import matplotlib
import numpy as np
from makers.bundles import rows_of

from shiftkit.analyses.deformation.findings import told
from shiftkit.analyses.deformation.result import DeformationResult, with_healthy_range
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.results import Estimate
from shiftkit.style import COLUMN_MM, styled

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def healthy_range(*args: Any) -> DeformationResult:
    return told(with_healthy_range(*args))


def test_findings_speak_and_draw() -> None:
    """The claim holds the share beyond the healthy range with its interval; figures have one series a group."""
    controls = np.linspace(1.0, 2.5, 30).tolist()
    result = healthy_range(rows_of({"control": controls, "glioma": [5.0, 4.0, 3.0, 1.2, 1.1, 1.3]}), {})
    values, profiles = result.findings
    assert "Of a patient's bundles, 50% [12%, 88%] on the tumor's side lie beyond" in values.claim
    assert "the 95th percentile of 30 controls" in values.claim
    assert "of healthy bundles 6% would by chance" in values.claim
    assert "mean V-Norm, glioma ipsi: 2.600 [" in str(result)
    axes = values.plot()
    assert len(axes.get_legend().get_texts()) == 2
    assert len(axes.containers) == 2  # a mean with its interval a group
    assert profiles.plot().get_ylabel() == "V-Norm [mm]"
    assert "<table" in result._repr_html_()
    plt.close("all")


def test_the_mean_push_is_told_where_there_is_one() -> None:
    """An estimate of the push stands in the claim and among the estimates; one that is not given does not."""
    rows = rows_of({"control": [1.0, 1.5, 2.0, 2.5], "glioma": [5.0, 1.2]})
    push = Estimate(name="tumors' mean push", value=0.4, low=0.1, high=0.7, unit="mm", n=6)
    found = healthy_range(rows, {}, push)
    assert "are pushed by 0.40 [0.10, 0.70] mm" in found.findings[0].claim
    assert found.estimates[-1] == push
    unknown = Estimate(name="tumors' mean push", value=float("nan"), status="too_few")
    assert "pushed by" not in healthy_range(rows, {}, unknown).findings[0].claim


def test_few_controls_make_no_percentile() -> None:
    """With 9 controls the claim says so, and that a tenth of healthy people would lie beyond all of them."""
    result = healthy_range(rows_of({"control": list(range(9)), "glioma": [20.0, 3.0]}), {})
    assert "lie further than any of 9 controls" in result.findings[0].claim
    assert "of healthy bundles 10% would by chance" in result.findings[0].claim
    assert set(result.patients["n_controls"]) == {9}


def test_legends_cover_no_data() -> None:
    """Legends of both figures lie above the axes, on a wide and on a narrow page."""
    result = healthy_range(rows_of({"control": [1.0, 1.5, 2.0, 2.5], "glioma": [5.0, 1.2]}), {})
    with styled():
        for finding in result.findings:
            for width_mm in COLUMN_MM.values():
                figure, axes = plt.subplots(figsize=(width_mm / 25.4, 3.3), layout="constrained")
                finding.plot(axes)
                figure.canvas.draw()
                box = axes.get_legend().get_window_extent()
                assert box.y0 >= axes.get_window_extent().y1 - 1
                assert box.x1 <= figure.bbox.x1 + 1
    plt.close("all")


def test_a_level_that_is_asked_for_is_told() -> None:
    """At 80 % nothing speaks of 95 % intervals, in figures and in what is said of them."""
    rows = rows_of({"control": [1.0, 1.5, 2.0, 2.5], "glioma": [5.0, 1.2]})
    values, profiles = told(with_healthy_range(rows, {}), Inference(level=0.8)).findings
    assert "80 % intervals" in values.alt and "80 % interval" in profiles.alt
    assert "80 % intervals" in profiles.plot().get_xlabel()
    plt.close("all")
