"""The hemispheric estimator: its definition, and nothing where there is no other hemisphere."""

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.hemispheric import hemispheric
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.decomposition.study import decompose


def test_the_hemispheric_estimator_equals_its_definition() -> None:
    """On complete data the difference in differences equals the one computed with group means."""
    frame = simulated.scores(12, 9)
    rows = build_rows(frame, "dice")
    values, _, n = hemispheric(rows, np.zeros((0, len(rows.people))))
    healthy = frame[frame["group"] == "control"].groupby(["bundle", "hemisphere"])["value"].mean()
    patients = frame[frame["group"] == "glioma"]
    expected = healthy.reindex(list(zip(patients["bundle"], patients["hemisphere"], strict=True))).to_numpy()
    lost = pd.Series(expected - patients["value"].to_numpy(), index=patients["side"])
    assert n == 12
    assert values[1] == pytest.approx(lost["contra"].mean())
    assert values[2] == pytest.approx(lost["ipsi"].mean() - lost["contra"].mean())


def test_one_hemisphere_only_leaves_the_hemispheric_estimator_out() -> None:
    """Without the other hemisphere there is no contrast, and no number in its place."""
    frame = simulated.scores(30, 30)
    result = decompose(frame[frame["hemisphere"] == "left"], **FAST)
    assert np.isnan(pooled(result, "tumor", "hemispheric")["estimate"])
    assert pooled(result, "tumor", "hemispheric")["status"] == "unavailable"
    assert np.isfinite(pooled(result, "total")["estimate"])
