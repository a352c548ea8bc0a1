import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, QUICK

from shiftkit.analyses.decomposition.result import Decomposition
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.validation.implants import SIMULATED, measure_implants
from shiftkit.catalogue import IMPLANTS
from shiftkit.errors import DataError
from shiftkit.tables import parse_table

SCORES = simulated.scores()


@pytest.fixture(scope="module")
def result() -> Decomposition:
    return decompose(SCORES, **FAST)


def implanted(n: int = 12, loss: float = 0.2, reach_mm: float = 20.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Controls without and with a tumor that takes less and less of a score with the distance."""
    rng = np.random.default_rng(8)
    controls = SCORES[SCORES["group"] == "control"]
    without = controls[controls["participant_id"].isin(sorted(set(controls["participant_id"]))[:n])]
    distance = rng.uniform(0, 80, len(without))
    value = without["value"] - loss * np.exp(-distance / reach_mm)
    return without, without.assign(value=value, tumor_distance_mm=distance, group="glioma")


def test_the_loss_is_paired_and_each_participant_counts_once(result: Decomposition) -> None:
    """Also where some have fewer bundles: the mean of their means, with an interval around it; zones likewise."""
    without, having = implanted()
    having = having.drop(having.index[:7])  # most of the first participant's
    check = measure_implants(without, having, result, inference=QUICK)
    lost = having.assign(loss=(without["value"] - having["value"]).reindex(having.index))
    assert check.measured.value == pytest.approx(lost.groupby("participant_id")["loss"].mean().mean())
    assert check.measured.low < check.measured.value < check.measured.high and check.measured.n == 12
    zone = check.table[check.table["zone"] == "3-10 mm"].iloc[0]
    inside = lost[(lost["tumor_distance_mm"] > 3) & (lost["tumor_distance_mm"] <= 10)]
    assert zone["value"] == pytest.approx(inside.groupby("participant_id")["loss"].mean().mean())
    assert zone["n"] == inside["participant_id"].nunique()
    parse_table(check.table, IMPLANTS, "implants")


def test_zones_fall_with_distance_and_end_at_the_far_cut(result: Decomposition) -> None:
    """Every distance lies in one zone; what is left beyond the cut is measured."""
    check = measure_implants(*implanted(loss=0.3), result, inference=QUICK)
    zones = check.table[(check.table["source"] == "implants") & (check.table["zone"] != "all")]
    assert zones["zone"].iloc[-1] == "beyond 40 mm"
    assert zones["zone_high_mm"].iloc[:-1].tolist() == zones["zone_low_mm"].iloc[1:].tolist()
    assert zones["value"].is_monotonic_decreasing and zones["value"].iloc[-1] > 0


def test_the_estimate_stands_beside_it(result: Decomposition) -> None:
    """The last row is the primary estimate of the tumor's part; claim and caveat say what either is."""
    check = measure_implants(*implanted(), result, inference=QUICK)
    beside, tumor = check.table.iloc[-1], result.told.tumor
    assert beside["source"] == "patients"
    assert [beside["value"], beside["low"], beside["high"]] == pytest.approx(
        [tumor.value, tumor.low, tumor.high], nan_ok=True
    )
    (finding,) = check.findings
    assert "12 unseen controls lose" in check.claim and "estimated from patients" in check.claim
    assert finding.place == "lead" and finding.caveats[0] == SIMULATED
    assert "of the patients" in finding.caveats[1]
    assert len(finding.plot().get_yticklabels()) == len(check.table)


def test_a_larger_distance_is_a_loss() -> None:
    """Of a metric that is better when lower, a tumor that makes it larger takes something."""
    frame = SCORES.assign(metric="hd95", unit="mm", value=20 * (1 - SCORES["value"]))
    without = frame[frame["group"] == "control"]
    having = without.assign(value=without["value"] + 2, tumor_distance_mm=5.0)
    check = measure_implants(without, having, decompose(frame, metric="hd95", **FAST), inference=QUICK)
    expected = np.log1p(having["value"]) - np.log1p(without["value"])
    assert check.measured.value == pytest.approx(expected.groupby(without["participant_id"]).mean().mean())


def test_nothing_taken_is_no_loss_and_few_give_no_interval(result: Decomposition) -> None:
    """The same scores twice are a loss of 0; with four participants there is a number without an interval."""
    without, having = implanted(n=4, loss=0.0)
    check = measure_implants(without, having, result, inference=QUICK)
    assert check.measured.value == 0 and check.measured.status == "too_few" and np.isnan(check.measured.low)
    assert "too few for an interval" in check.claim and "nan" not in check.claim


def test_without_a_pair_nothing_is_measured(result: Decomposition) -> None:
    """Participants of whom nobody was segmented with a tumor are refused."""
    without, having = implanted()
    with pytest.raises(DataError, match="with and without the tumor; there is none"):
        measure_implants(without, having.assign(status="unavailable", value=np.nan), result)
