"""The simulator gives what it says, and the decomposition finds it."""

import numpy as np
import pytest

from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.analyses.validation.cells import standard_cells
from shiftkit.analyses.validation.simulation import SPREADS, Scenario, simulate, truth
from shiftkit.analyses.validation.study import validate
from shiftkit.catalogue import SCORES, VALIDATION
from shiftkit.errors import ConfigError
from shiftkit.tables import parse_table
from shiftkit.work import Work


def test_simulated_scores_have_the_published_columns() -> None:
    """A simulated cohort is a score table like any other; tumors touch some bundles, and never reach most."""
    frame = simulate(Scenario(n_patients=200, spread=SPREADS["high"]), np.random.default_rng(0))
    parse_table(frame, SCORES, "simulated")
    patients = frame[frame["group"] == "glioma"]
    ipsi = patients[patients["side"] == "ipsi"]["tumor_distance_mm"]
    contra = patients[patients["side"] == "contra"]["tumor_distance_mm"]
    assert 0.2 < (ipsi == 0).mean() < 0.5
    assert contra.median() > 40 > ipsi.median()
    assert 0.03 < (frame["status"] == "missed").mean() < 0.07
    assert set(frame.loc[frame["status"] == "missed", "value"]) == {0.0}


def test_the_truth_is_what_large_cohorts_lose() -> None:
    """Means of 20,000 simulated patients with and without each effect differ by the stated components."""
    full = Scenario(n_patients=20_000, n_controls=1, spread=SPREADS["high"])
    far = Scenario(n_patients=20_000, n_controls=1, spread=SPREADS["high"], tumor=0.0)
    none = Scenario(n_patients=20_000, n_controls=1, spread=SPREADS["high"], tumor=0.0, systematic=0.0)
    means = []
    for scenario in (none, far, full):
        frame = simulate(scenario, np.random.default_rng(1))
        means.append(frame.loc[frame["group"] == "glioma", "value"].mean())
    known = truth(full, np.random.default_rng(2))
    assert means[0] - means[1] == pytest.approx(known.systematic, abs=0.003)
    assert means[1] - means[2] == pytest.approx(known.tumor, abs=0.003)


def test_components_are_recovered_and_null_effects_are_not_found() -> None:
    """In a small study bias stays under 0.01 Dice, coverage over 0.8, and errors of both tests under 0.15."""
    cells = [
        cell
        for cell in standard_cells()
        if cell.spread == "low"
        and cell.scenario.n_patients == 40
        and (cell.name, cell.scenario.decay_mm) in (("recovery", 15.0), ("neither", 15.0))
    ]
    found = validate(40, cells=cells, work=Work(jobs=1)).to_frame()
    parse_table(found, VALIDATION, "validation")
    values = found.set_index("property")["value"]
    assert abs(values["bias of systematic"]) < 0.01
    assert abs(values["bias of tumor"]) < 0.01
    assert min(values["coverage of systematic"], values["coverage of tumor"]) > 0.8
    assert values["type I error of the tumor test"] < 0.15
    assert values["type I error of the systematic test"] < 0.15


def test_the_study_is_the_same_on_any_number_of_processes() -> None:
    """Seeds belong to replicates, so that jobs change nothing."""
    cells = [cell for cell in standard_cells() if cell.name == "no tumor effect"][:1]
    first, second = (validate(10, cells=cells, work=Work(jobs=jobs)).to_frame() for jobs in (1, 2))
    assert first.equals(second)


def test_an_unseen_far_field_is_withheld() -> None:
    """With λ = 80 mm, 100 patients and 100 controls the split is withheld nearly always."""
    cells = [
        cell
        for cell in standard_cells()
        if cell.name == "far field unseen" and cell.scenario.n_patients == 100 and cell.spread == "low"
    ]
    found = validate(20, cells=cells, work=Work(jobs=1)).to_frame().iloc[0]
    assert found["value"] >= 0.9


def test_a_bundle_with_a_shift_of_its_own_is_not_booked_on_the_tumor() -> None:
    """Bundles near tumors with a larger systematic shift do not inflate the tumor's part.

    A model with one common shift errs by about 0.015 here, and keeps erring however many participants there are.
    """
    scenario = Scenario(n_patients=400, n_controls=400, decay_mm=25.0, spread=SPREADS["high"])
    known = truth(scenario, np.random.default_rng(0))
    quick = Inference(n_bootstrap=100, n_permutations=99)
    frames = (simulate(scenario, np.random.default_rng(seed)) for seed in range(3))
    found = [decompose(frame, inference=quick, sensitivity=False).table for frame in frames]
    pooled = [t[(t["bundle"] == "all") & (t["method"] == "regression")].set_index("component") for t in found]
    raw = [table.loc["raw", "estimate"] for table in pooled]
    assert np.mean(raw) == pytest.approx(known.systematic + known.tumor, abs=0.01)
    kept = [t for t in pooled if np.isfinite(t.loc["tumor", "estimate"])]
    assert kept
    assert np.mean([t.loc["tumor", "estimate"] for t in kept]) == pytest.approx(known.tumor, abs=0.012)


def test_a_decay_of_another_shape_is_noticed() -> None:
    """Where the decay is no exponential, a note says that the spline splits otherwise; else there is none."""
    for shape, noticed in (("gaussian", True), ("exponential", False)):
        frame = simulate(Scenario(n_patients=100, n_controls=100, shape=shape), np.random.default_rng(3))
        notes = decompose(frame, inference=Inference(n_bootstrap=200, n_permutations=99)).notes
        assert any(note.startswith("The shape of the decay matters") for note in notes) == noticed


def test_too_few_replicates_are_refused() -> None:
    """Rates of a handful of cohorts mean nothing, so the study says what it needs."""
    with pytest.raises(ConfigError, match="at least 10"):
        validate(3)
