"""Other choices: each changes one thing, and placebos find nothing."""

import numpy as np
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose


def test_a_range_stays_a_range_unless_the_choice_narrows_it() -> None:
    """With an effect that fades within 10 mm at most the bounds are no wider, with 60 mm wider, than the primary's."""
    result = decompose(simulated.scores(60, 60, tumor=2.0, decay_mm=30.0, seed=7), **FAST)
    rows = result.sensitivity[result.sensitivity["component"] == "systematic"].set_index("analysis")
    width = rows["bound_high"] - rows["bound_low"]
    primary = pooled(result, "systematic")
    near, far = (width[f"effect reaches with at most {length} mm"] for length in (10, 60))
    assert near <= primary["bound_high"] - primary["bound_low"] < far


def test_other_choices_are_tabled_with_placebos_that_find_nothing() -> None:
    """Reaches, sites, infiltrated and missed bundles and both placebos are there; the placebos' tests do not reject."""
    frame = simulated.scores(40, 40, seed=11)
    number = frame["participant_id"].str[-1].astype(int)
    frame["site"] = np.where(frame["group"] == "glioma", np.where(number % 2 == 0, "B", "C"), "A")
    frame.loc[frame.index % 20 == 0, ["status", "value"]] = ["missed", 0.0]
    frame.loc[frame["tumor_distance_mm"] < 4, "tumor_distance_mm"] = 0.0
    result = decompose(frame, **{**FAST, "sensitivity": True})
    table = result.sensitivity
    assert {
        "effect reaches with at most 10 mm",
        "effect reaches with at most 60 mm",
        "infiltrated bundles left out (another estimand)",
        "missed bundles left out (another estimand)",
        "one patient left out (range)",
        "patients of site B left out",
        "patients of site C left out",
        "permutation of distances",
        "placebo: tumor mirrored",
        "placebo: tumors in controls",
    } == set(table["analysis"])
    placebos = table[table["analysis"].str.startswith("placebo")]
    assert (placebos["p_value"] > 0.05).all()
    sites = table[table["analysis"].str.contains("site") & (table["component"] == "systematic")]
    assert sites["n_patients"].sum() == 40
    middle = sites["estimate"].mean()
    assert middle == pytest.approx(pooled(result, "systematic")["estimate"], abs=0.02)
