"""Other choices: what is withheld stays so, and placebos find nothing."""

import numpy as np
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose


def test_a_withheld_split_is_withheld_under_other_choices_too() -> None:
    """The sensitivity table gives no part that the primary analysis refuses to give."""
    frame = simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7)
    result = decompose(frame, **{**FAST, "sensitivity": True})
    parts = result.sensitivity[~result.sensitivity["analysis"].str.startswith("placebo")]
    assert parts["estimate"].isna().all()


def test_other_choices_are_tabled_with_placebos_that_find_nothing() -> None:
    """Spline, volume, sites and both placebos are there; the placebos' tests do not reject."""
    frame = simulated.scores(40, 40, seed=11)
    number = frame["participant_id"].str[-1].astype(int)
    frame["site"] = np.where(frame["group"] == "glioma", np.where(number % 2 == 0, "B", "C"), "A")
    table = decompose(frame, **{**FAST, "sensitivity": True}).sensitivity
    names = set(table["analysis"])
    assert {
        "spline with a flat tail",
        "tumor effect changes with tumor volume",
        "patients of site B left out",
        "patients of site C left out",
        "placebo: tumor mirrored",
        "placebo: tumors in controls",
    } <= names
    placebos = table[table["analysis"].str.startswith("placebo")]
    assert (placebos["p_value"] > 0.05).all()
    spline = table[(table["analysis"] == "spline with a flat tail")].set_index("component")["estimate"]
    plain = decompose(frame, **FAST)
    assert spline["tumor"] == pytest.approx(pooled(plain, "tumor")["estimate"], abs=0.01)
