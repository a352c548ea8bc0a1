"""The regression: the best of its grid, and resampling as copying."""

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.regression import exponential, regress
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.statistics.quasi import fit


def test_profiled_decay_is_the_best_of_the_grid() -> None:
    """The coarse-to-fine search ends at the grid point that an exhaustive search finds."""
    grid = np.geomspace(2, 40, 25)
    for seed in range(5):
        rows = build_rows(simulated.scores(20, 20, decay_mm=15, seed=seed), "dice")
        found = regress(rows, np.zeros((len(rows.outcome), 0)), np.zeros((0, len(rows.people))), exponential(grid))
        deviances = [
            fit(
                rows.outcome,
                rows.level + len(rows.levels) * rows.patient,
                np.exp(-rows.distance_mm / decay)[:, None],
                np.ones(len(rows.outcome)),
                2 * len(rows.levels),
                logit=True,
            ).deviance
            for decay in grid
        ]
        assert found.chosen[0] == int(np.argmin(deviances))


def test_a_bootstrap_draw_is_the_fit_of_the_copied_participants() -> None:
    """A weight of two is the same as having the participant twice."""
    frame = simulated.scores(8, 8)
    rows = build_rows(frame, "dice")
    weight = np.ones(len(rows.people))
    weight[[0, 3]], weight[[1, 10]] = 2, 0
    grid = np.array([5.0, 12.0, 25.0])
    empty = np.zeros((len(rows.outcome), 0))
    drawn = regress(rows, empty, weight[None], exponential(grid)).draws[0]
    copies = [
        frame[frame["participant_id"] == name].assign(participant_id=f"{name}x{copy}")
        for name, times in zip(rows.people, weight, strict=True)
        for copy in range(int(times))
    ]
    copied = build_rows(pd.concat(copies), "dice")
    direct = regress(
        copied, np.zeros((len(copied.outcome), 0)), np.zeros((0, len(copied.people))), exponential(grid)
    ).values
    np.testing.assert_allclose(drawn, direct, atol=1e-8)


def test_covariates_adjust_the_shift_too() -> None:
    """A covariate's scale and origin change nothing, and what it explains between the cohorts is no shift."""
    frame = simulated.scores(40, 40)
    frame["age"] = frame.groupby("participant_id")["age"].transform("first")
    moved = frame.assign(age=20 - 3 * frame["age"])
    first, second = (decompose(one, covariates=["age"], **FAST).table for one in (frame, moved))
    for column in ("estimate", "low", "high"):
        np.testing.assert_allclose(first[column], second[column], atol=1e-6)
    # The same effect of age on everybody, and patients ten years older.
    gap = frame["age"] + 10 * (frame["group"] == "glioma")
    eta = np.log(frame["value"] / (1 - frame["value"])) - 0.03 * (gap - 45)
    aged = frame.assign(age=gap, value=1 / (1 + np.exp(-eta)))
    for method in ("anchored", "exponential"):
        raw, adjusted, plain = (
            pooled(decompose(one, covariates=names, **FAST), "systematic", method)["estimate"]
            for one, names in ((aged, []), (aged, ["age"]), (frame, []))
        )
        assert raw > plain + 0.04
        assert adjusted == pytest.approx(plain, abs=0.025)
