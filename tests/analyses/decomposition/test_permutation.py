"""The tests of both parts: power where there is an effect, none where there is not."""

import numpy as np
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose


def test_no_tumor_effect_is_not_given_one() -> None:
    """Without an effect of distance the word says so, the permutation too, and no decay length is given."""
    result = decompose(simulated.scores(40, 40, tumor=0.0, seed=5), **{**FAST, "sensitivity": True})
    assert pooled(result, "tumor")["word"] == "not_shown"
    assert "proximity is not shown" in result.verdict
    permuted = result.sensitivity.set_index("analysis").loc["permutation of distances"]
    assert permuted["p_value"] > 0.05
    assert np.isnan(result.estimates[-1].value)
    assert result.estimates[-1].status == "no_tumor_effect_shown"
    assert abs(pooled(result, "tumor")["estimate"]) < 0.02


def test_no_systematic_shift_is_not_given_one() -> None:
    """Without a systematic shift its interval holds 0 and its test does not reject."""
    row = pooled(decompose(simulated.scores(60, 60, systematic=0.0, tumor=1.5, seed=6), **FAST), "systematic")
    assert row["low"] < 0 < row["high"]
    assert row["p_value"] > 0.05


def test_the_tumor_test_uses_the_contrast_between_hemispheres() -> None:
    """An effect of 0.02 Dice, too small for tests within one side, is found with 50 patients."""
    frame = simulated.scores(50, 50, systematic=0.15, tumor=0.5, decay_mm=8.0, between=0.2, within=0.2, seed=1)
    row = pooled(decompose(frame, **FAST), "tumor")
    assert row["estimate"] < 0.03
    assert row["p_value"] < 0.02
