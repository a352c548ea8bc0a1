"""Recovery: paired, from the source model's controls, and no share of nothing."""

import numpy as np
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose


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
