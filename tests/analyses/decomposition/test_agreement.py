"""Agreement: paired differences on the same rows, judged by their own intervals."""

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.sentences import disagreements
from shiftkit.analyses.decomposition.study import decompose


def test_differences_are_those_of_the_tables_numbers() -> None:
    """Each difference is the other estimator's row less the primary one, with an interval around it."""
    result = decompose(simulated.scores(40, 40, tumor=0.8, decay_mm=6.0), **FAST)
    assert result.status == "ok"
    rows = result.agreement[result.agreement["rows"] == "all"]
    assert set(rows["method"]) == {"exponential", "spline"}
    for row in rows.to_dict("records"):
        own = pooled(result, row["component"])["estimate"]
        assert row["difference"] == pytest.approx(pooled(result, row["component"], row["method"])["estimate"] - own)
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["p_adjusted"] >= row["p_value"]


def test_the_hemispheric_estimator_is_compared_where_it_speaks() -> None:
    """On ipsilesional rows its tumor part differs from the primary one by noise only."""
    row = decompose(simulated.scores(60, 60, decay_mm=8.0), **FAST).agreement.set_index("rows").loc["ipsilesional"]
    assert row["method"] == "hemispheric"
    assert abs(row["difference"]) < 0.03
    assert row["low"] < 0 < row["high"]


def test_inside_a_range_nothing_disagrees() -> None:
    """An estimate between the bounds has the difference 0; one beyond them that to the nearer bound."""
    result = decompose(simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7), **FAST)
    assert result.status == "range"
    for row in result.agreement[result.agreement["rows"] == "all"].to_dict("records"):
        theirs, own = pooled(result, row["component"], row["method"])["estimate"], pooled(result, row["component"])
        low, high = own["bound_low"], own["bound_high"]
        beyond = min(theirs - low, 0) + max(theirs - high, 0)
        assert abs(row["difference"]) == pytest.approx(abs(beyond), abs=0.02)
        assert np.sign(round(row["difference"], 6)) == np.sign(round(beyond, 6))


def test_a_disagreement_is_told_only_where_it_is_shown() -> None:
    """A sentence follows the adjusted p-value, and names the estimator, the part and the direction."""
    table = pd.DataFrame(
        {
            "component": ["systematic", "tumor"],
            "method": ["exponential", "spline"],
            "difference": [-0.03, 0.01],
            "low": [-0.05, -0.01],
            "high": [-0.01, 0.03],
            "p_adjusted": [0.01, 0.4],
        }
    )
    (told,) = disagreements(table, 0.95)
    assert "systematic part: exponential says 0.030 less" in told
