import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.deformation.relation import relate
from shiftkit.analyses.deformation.result import DeformationRelation, DeformationResult, with_healthy_range
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DEFORMATION_RELATION
from shiftkit.errors import DataError

FEW, SOME, MANY = (Inference(n_bootstrap=n) for n in (100, 200, 400))


def simulate(
    seed: int, before: float = 0.03, after: float = 0.03, n: int = 40
) -> tuple[DeformationResult, pd.DataFrame]:
    """Patients whose drop grows with V-Norm by a slope of each model's own, and whose V-Norm falls with distance."""
    rng = np.random.default_rng(seed)
    rows, scores = [], []
    for i in range(n):
        effect = rng.normal(0, 0.03)
        for bundle, easy in (("AF", 0.8), ("ILF", 0.7)):
            v_norm, distance = rng.gamma(4, 1), rng.uniform(0, 40)
            v_norm += 4 * np.exp(-distance / 10)
            key = {"participant_id": f"sub-g{i}", "bundle": bundle, "hemisphere": "left"}
            rows.append({**key, "cohort": "g", "group": "glioma", "side": "ipsi", "v_norm_mm": v_norm, "status": "ok"})
            for model, slope in (("source", before), ("tuned", after)):
                value = np.clip(easy - slope * v_norm + effect + rng.normal(0, 0.02), 0, 1)
                scores.append({**key, "group": "glioma", "model": model, "value": value, "tumor_distance_mm": distance})
    for i in range(n):
        for bundle, easy in (("AF", 0.8), ("ILF", 0.7)):
            key = {"participant_id": f"sub-h{i}", "bundle": bundle, "hemisphere": "left", "group": "control"}
            scores.append({**key, "model": "source", "value": easy + rng.normal(0, 0.03), "tumor_distance_mm": np.nan})
    frame = pd.DataFrame(scores).assign(cohort="c", modality="fa", side="n/a", metric="dice", unit="1", status="ok")
    return with_healthy_range(rows, {}), frame


@pytest.fixture(scope="module")
def replicates() -> list[DeformationRelation]:
    """Forty cohorts in which V-Norm costs 0.03 a mm before fine-tuning and 0.05 after."""
    return [
        relate(*simulate(seed, before=0.03, after=0.05), inference=Inference(n_bootstrap=200, seed=seed))
        for seed in range(40)
    ]


def test_slopes_are_recovered_and_fine_tuning_is_compared_pairwise(replicates: list[DeformationRelation]) -> None:
    """Over replicates, intervals of both slopes and of their change hold the truth, and the change is unbiased."""
    held, changes = [], []
    for relation in replicates:
        found = {one.name: one for one in relation.estimates}
        truth = {"slope source": 0.03, "slope tuned": 0.05, "slope change tuned": 0.02}
        held += [found[name].low <= value <= found[name].high for name, value in truth.items()]
        changes.append(found["slope change tuned"].value)
    assert 0.88 < np.mean(held) < 0.995
    assert np.mean(changes) == pytest.approx(0.02, abs=0.002)


def test_the_claim_says_what_is_shown() -> None:
    """A steeper slope after fine-tuning is said to help less; no change is said to be not shown."""
    worse = relate(*simulate(1, after=0.06), inference=SOME)
    same = relate(*simulate(2), inference=SOME)
    assert "it helps less where V-Norm is high" in worse.findings[0].claim
    assert "is not shown" in str(same)
    distance = next(one for one in same.estimates if one.name == "rank correlation with distance")
    assert distance.high < 0


def test_the_unit_is_the_participant() -> None:
    """Every row written five times under one participant does not narrow the interval."""
    result, scores = simulate(3, n=25)
    copies = [
        (
            result.table.assign(bundle=result.table["bundle"] + index * "x"),
            scores.assign(bundle=scores["bundle"] + index * "x"),
        )
        for index in range(5)
    ]
    more = DeformationResult(
        table=pd.concat([table for table, _ in copies], ignore_index=True), profiles=result.profiles, failed={}
    )
    once = relate(result, scores, inference=MANY).estimates[0]
    often = relate(more, pd.concat([frame for _, frame in copies], ignore_index=True), inference=MANY).estimates[0]
    assert often.value == pytest.approx(once.value)
    assert (often.high - often.low) == pytest.approx(once.high - once.low, rel=1e-6)


def test_few_patients_get_a_word() -> None:
    """Four patients give no number, ten an exploratory one."""
    few, some = (relate(*simulate(4, n=n), inference=FEW).estimates[0] for n in (4, 10))
    assert (few.status, some.status) == ("too_few", "exploratory")
    assert np.isnan(few.value)
    assert "not given" in relate(*simulate(4, n=4), inference=FEW).findings[0].claim


def test_a_metric_of_which_less_is_better_is_turned_around() -> None:
    """A distance that grows with V-Norm gives the same slopes as an overlap that falls, and the claim says rises."""
    result, scores = simulate(7, n=20)
    overlap = relate(result, scores, inference=FEW)
    distance = relate(result, scores.assign(metric="assd", value=1 - scores["value"]), metric="assd", inference=FEW)
    assert [one.value for one in distance.estimates] == pytest.approx([one.value for one in overlap.estimates])
    assert "ASSD rises by" in str(distance)


def test_lines_have_the_slopes_and_their_bands_hold_the_truth(replicates: list[DeformationRelation]) -> None:
    """A drawn line's slope is the estimate's; over replicates its band at V-Norm 8 mm holds the mean drop there."""
    held = []
    for relation in replicates:
        line = relation.lines[relation.lines["model"] == "source"]
        slope = np.polyfit(line["v_norm_mm"], line["drop"], 1)[0]
        assert slope == pytest.approx(relation.estimates[0].value, rel=1e-6)
        low, drop, high = (np.interp(8.0, line["v_norm_mm"], line[name]) for name in ("low", "drop", "high"))
        assert low < drop < high
        held.append(low <= 8 * 0.03 <= high)
    assert np.mean(held) > 0.85


def test_the_own_baseline_is_reported_beside_the_template() -> None:
    """Where the template value is anatomy and the own one the push, only the own slope is there; both are told."""
    result, scores = simulate(9, n=40)
    noise = np.random.default_rng(0).normal(0, 3, len(result.table))
    own = result.table.assign(v_norm_own_mm=result.table["v_norm_mm"], own_status="ok", v_norm_mm=6 + noise)
    own.loc[own["participant_id"] == "sub-g1", ["v_norm_own_mm", "own_status"]] = [np.nan, "unavailable"]
    relation = relate(DeformationResult(table=own, profiles=result.profiles, failed={}), scores, inference=SOME)
    found = {one.name: one for one in relation.estimates}
    assert found["slope source"].low < 0.01
    assert found["slope source (own baseline)"].low < 0.03 < found["slope source (own baseline)"].high
    assert found["slope source (own baseline)"].n < found["slope source"].n
    assert "With V-Norm against the own baseline (" in str(relation)
    assert list(relation.to_frame()["measure"]) == ["template"] * 4 + ["own"] * 4


def test_the_table_fits_its_schema() -> None:
    """One row an estimate, in the published columns, readable again."""
    frame = relate(*simulate(8, n=10), inference=FEW).to_frame()
    assert list(frame.columns) == list(DEFORMATION_RELATION.columns)
    assert list(frame["quantity"]) == ["slope", "slope", "slope_change", "distance"]
    assert list(frame["model"]) == ["source", "tuned", "tuned", "n/a"]


def test_scores_of_others_are_refused() -> None:
    """Without controls there is no drop, and without common patients no relation."""
    result, scores = simulate(5, n=6)
    with pytest.raises(DataError, match="no control"):
        relate(result, scores[scores["group"] == "glioma"])
    with pytest.raises(DataError, match="no row in common"):
        relate(result, scores.assign(participant_id=scores["participant_id"] + "x"))


def test_the_picture_has_a_series_a_model() -> None:
    """One color a model, and both axes say their unit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    relation = relate(*simulate(6, n=10), inference=FEW)
    axes = relation.plot()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["before: source", "after: tuned"]
    assert axes.get_xlabel() == "mean V-Norm [mm]"
    assert len(axes.collections) == 2  # a band a line
    plt.close("all")
