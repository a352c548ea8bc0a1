"""The split of one model: parts that add up, known effects, and silence where it must be."""

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose


def test_total_is_systematic_plus_tumor_and_matches_the_raw_drop() -> None:
    """The parts add up exactly; in a balanced design nothing is left for composition."""
    result = decompose(simulated.scores(), **FAST)
    parts = {name: pooled(result, name)["estimate"] for name in ("total", "systematic", "tumor", "raw", "residual")}
    assert parts["total"] == pytest.approx(parts["systematic"] + parts["tumor"], abs=1e-12)
    assert parts["raw"] == pytest.approx(parts["total"] + parts["residual"], abs=1e-12)
    assert abs(parts["residual"]) < 1e-8


def test_known_effects_are_found() -> None:
    """With 100 + 100 participants both parts lie within 0.015 of what was simulated, and λ within a third."""
    frame = simulated.scores(100, 100, seed=4)
    result = decompose(frame, **FAST)
    quiet = simulated.scores(100, 100, seed=4, systematic=0.0, tumor=0.0)
    far = simulated.scores(100, 100, seed=4, tumor=0.0)
    patient = frame["group"] == "glioma"
    truth = {
        "systematic": (quiet["value"] - far["value"])[patient].mean(),
        "tumor": (far["value"] - frame["value"])[patient].mean(),
    }
    # The same draws of people and noise: the difference between the tables is the effect itself.
    for name, value in truth.items():
        assert pooled(result, name)["estimate"] == pytest.approx(value, abs=0.015)
    assert result.status == "ok"
    decay = next(one for one in result.estimates if one.name == "decay_length")
    assert decay.value == pytest.approx(12, rel=1 / 3)
    assert decay.low < decay.value < decay.high


def test_an_unobserved_far_field_withholds_the_split() -> None:
    """With an effect that reaches beyond every distance there is a total and no split."""
    result = decompose(simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7), **FAST)
    assert result.status == "split_withheld"
    assert np.isnan(pooled(result, "systematic")["estimate"])
    assert np.isnan(pooled(result, "tumor")["p_value"])
    assert np.isfinite(pooled(result, "total")["estimate"])
    assert "only the total" in result.verdict


def test_few_patients_are_exploratory() -> None:
    """Under 20 patients the result carries the label wherever it stands."""
    result = decompose(simulated.scores(15, 20, tumor=2.0), **FAST)
    assert set(result.table["status"]) <= {"exploratory", "no_tumor_effect_shown", "split_withheld"}
    assert "exploratory" in result.verdict


def test_one_patient_gives_a_status_and_no_number() -> None:
    """One patient is too few: the table says so and the verdict gives no number."""
    result = decompose(simulated.scores(1, 20), **FAST)
    assert result.status in ("too_few", "not_converged")
    assert result.table["estimate"].isna().all() or set(result.table["method"]) == {"regression", "hemispheric"}
    assert result.verdict.startswith("No number is given")


def test_target_controls_split_the_systematic_part() -> None:
    """Healthy people scanned like the patients tell acquisition from disease; the parts add up exactly."""
    frame = simulated.scores(60, 60, systematic=0.8, seed=3)
    extra = simulated.scores(50, 0, systematic=0.5, tumor=0.0, seed=3)
    extra = extra.assign(group="target_control", side="n/a", tumor_side="n/a", tumor_distance_mm=np.nan)
    extra["participant_id"] = "target-" + extra["participant_id"]
    result = decompose(pd.concat([frame, extra]), **FAST)
    parts = {name: pooled(result, name) for name in ("systematic", "acquisition", "disease")}
    assert parts["acquisition"]["estimate"] + parts["disease"]["estimate"] == pytest.approx(
        parts["systematic"]["estimate"], abs=1e-12
    )
    assert parts["acquisition"]["low"] > 0
    assert parts["acquisition"]["p_value"] < 0.05
    assert parts["acquisition"]["estimate"] > parts["disease"]["estimate"]
    assert any("scanned like the patients: of the systematic part" in note for note in result.notes)
    without = decompose(frame, **FAST)
    assert parts["systematic"]["estimate"] == pytest.approx(pooled(without, "systematic")["estimate"], abs=1e-12)
