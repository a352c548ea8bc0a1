"""Recovery: paired, from the source model's controls, and no share of nothing."""

import numpy as np
import pytest
from makers import additive, simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.models.recovery import recovery
from shiftkit.analyses.decomposition.result import Settings
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.decomposition.split import split
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.statistics.inference import Inference

# What is repaired comes from the jackknife: the bootstrap of estimators beside it is not looked at.
FEW = Settings(metric="dice", grid_mm=np.array([5.0, 20.0]), margin=0.02, inference=Inference(n_bootstrap=2))


def test_recovery_is_paired_and_keeps_the_source_controls() -> None:
    """A model that halves the systematic effect recovers about half of it and none of the tumor's."""
    before = simulated.scores(60, 60, systematic=0.8, tumor=1.2, seed=8)
    after = simulated.scores(60, 60, systematic=0.4, tumor=1.2, seed=8, model="m+decoder")
    after.loc[after["group"] == "control", "value"] -= 0.05  # forgetting, which must not count as repair
    result = decompose(before, finetuned={"m+decoder": after}, **FAST)
    rows = result.recovery.set_index("component")
    assert rows.loc["systematic", "recovered"] == pytest.approx(0.5, abs=0.12)
    assert rows.loc["tumor", "low"] < 0.1
    assert rows.loc["tumor", "recovered"] == pytest.approx(0.0, abs=0.15)
    lost = rows.loc["forgetting", "before"] - rows.loc["forgetting", "after"]
    assert lost == pytest.approx(0.05, abs=1e-9)


def test_a_tumor_effect_that_was_not_shown_is_not_said_to_be_repaired() -> None:
    """Without a tumor effect there is no bounded fraction of it; the difference stands in its place."""
    before = simulated.scores(40, 40, tumor=0.0, seed=5)
    after = simulated.scores(40, 40, tumor=0.0, systematic=0.2, seed=5, model="m+full")
    result = decompose(before, finetuned={"m+full": after}, **FAST)
    row = result.recovery.set_index("component").loc["tumor"]
    assert np.isnan(row["recovered"])
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert "is not shown to change the tumor's" in result.verdict


def test_rows_that_one_model_lacks_are_left_out_of_both() -> None:
    """A bundle without a score after fine-tuning does not count before either."""
    before = simulated.scores(30, 30, seed=8)
    after = before.assign(model="m+full")
    lost = (after["participant_id"] == "sub-004") & (after["hemisphere"] == "left")
    after.loc[lost, ["status", "value"]] = ["unavailable", np.nan]
    result = decompose(before, finetuned={"m+full": after}, **FAST)
    rows = result.recovery.set_index("component").loc[["total", "systematic", "tumor"]]
    np.testing.assert_allclose(rows["difference"], 0, atol=1e-12)
    assert rows.loc["total", "before"] != pytest.approx(pooled(result, "total")["estimate"], abs=1e-12)


def test_a_repair_of_the_tumors_part_is_not_told_as_one_of_the_systematic_part() -> None:
    """Fine-tuning takes away a far-reaching effect of the tumor (25 mm) and nothing else, in 40 cohorts of 30 + 30.

    The interval of the systematic part's difference holds 0 as often as it says, and what is repaired is the tumor's.
    """
    words: list[tuple[str, str]] = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        near = additive.distances(rng, 30)
        before = additive.frame(rng, near, 0.08 + 0.12 * np.exp(-near / 25))
        patients = before["group"] == "glioma"
        after = before[patients].copy()
        repaired = 0.12 * np.exp(-after["tumor_distance_mm"] / 25)
        after["value"] = (after["value"] + repaired + rng.normal(0, 0.015, len(after))).clip(0, 1)
        base = split(build_rows(before, "dice"), np.zeros((60, 0)), FEW.inference.weights((30, 30, 0), 0), FEW)
        told = recovery(base, {"m+full": after.assign(model="m+full")}, FEW)[0].set_index("component")["word"]
        words.append((told["systematic"], told["tumor"]))
    false = sum(systematic != "not_shown" for systematic, _ in words)
    assert false <= 4 and sum(tumor == "repaired" for _, tumor in words) >= 30, words
