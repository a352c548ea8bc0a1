"""Quasi-likelihood fits: equal to statsmodels and to numpy."""

import numpy as np
import pytest
from makers import simulated

from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.statistics.quasi import fit


def test_quasi_likelihood_equals_statsmodels_glm() -> None:
    """Estimates of the fractional logit equal a binomial GLM's within 1e-6, with weights and exact 0 and 1."""
    import statsmodels.api as sm

    frame = simulated.scores(8, 6)
    frame.loc[[3, 40], "value"] = [0.0, 1.0]
    rows = build_rows(frame, "dice")
    design = np.column_stack([rows.patient.astype(float), np.exp(-rows.distance_mm / 12)])
    weight = np.random.default_rng(0).integers(0, 4, len(rows.people)).astype(float)[rows.person]
    found = fit(rows.outcome, rows.level, design, weight, len(rows.levels), logit=True)
    dummies = np.eye(len(rows.levels))[rows.level]
    model = sm.GLM(rows.outcome, np.column_stack([dummies, design]), family=sm.families.Binomial(), freq_weights=weight)
    expected = model.fit(tol=1e-12).params
    assert found.converged
    np.testing.assert_allclose(np.concatenate([found.intercepts, found.slopes]), expected, atol=1e-6)


def test_least_squares_equals_numpy() -> None:
    """Without the logit link the fit is weighted least squares."""
    rows = build_rows(simulated.scores(5, 5), "dice")
    design = np.column_stack([rows.patient.astype(float), np.exp(-rows.distance_mm / 8)])
    weight = np.random.default_rng(1).uniform(0.1, 2, len(rows.outcome))
    found = fit(rows.outcome, rows.level, design, weight, len(rows.levels), logit=False)
    full = np.column_stack([np.eye(len(rows.levels))[rows.level], design]) * np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(full, rows.outcome * np.sqrt(weight), rcond=None)[0]
    np.testing.assert_allclose(np.concatenate([found.intercepts, found.slopes]), expected, atol=1e-8)


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")  # checked below instead
def test_a_mixed_model_agrees_where_it_can_be_trusted() -> None:
    """On the scale of Dice a mixed model with a participant effect finds the same tumor slope within two of its errors.

    Its variance of participants is checked to be above zero first: statsmodels can return effects of exactly zero.
    """
    import statsmodels.formula.api as smf

    frame = simulated.scores(60, 60, seed=12)
    rows = build_rows(frame, "dice")
    table = frame.reset_index(drop=True).assign(
        level=[str(number) for number in rows.level],
        cohort=[str(number) for number in rows.cohort],
        near=np.exp(-rows.distance_mm / 12),
    )
    mixed = smf.mixedlm("value ~ level * cohort + near", table, groups=table["participant_id"]).fit()
    assert float(mixed.cov_re.iloc[0, 0]) > 1e-6
    found = fit(
        rows.outcome,
        rows.level + len(rows.levels) * rows.patient,
        np.exp(-rows.distance_mm / 12)[:, None],
        np.ones(len(rows.outcome)),
        2 * len(rows.levels),
        logit=False,
    )
    assert found.slopes[0] == pytest.approx(mixed.params["near"], abs=2 * mixed.bse["near"])
