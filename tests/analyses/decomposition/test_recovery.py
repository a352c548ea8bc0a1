"""Recovery: paired, from the source model's controls, and no share of nothing."""

import numpy as np
import pytest
from makers import simulated
from makers.decompositions import FAST

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


def test_a_tumor_effect_that_was_not_shown_gets_no_recovered_fraction() -> None:
    """Without a tumor effect the recovery table names the reason instead of a share."""
    before = simulated.scores(40, 40, tumor=0.0, seed=5)
    after = simulated.scores(40, 40, tumor=0.0, systematic=0.2, seed=5, model="m+full")
    result = decompose(before, finetuned={"m+full": after}, **FAST)
    row = result.recovery.set_index("component").loc["tumor"]
    assert row["status"] == "no_tumor_effect_shown"
    assert np.isnan(row["recovered"])
