"""Input that cannot be decomposed is refused by name."""

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose
from shiftkit.errors import ConfigError, DataError


def test_an_unknown_metric_is_refused() -> None:
    """Which direction is worse cannot be guessed of a metric that shiftkit does not know."""
    with pytest.raises(ConfigError, match="`metric` is one of dice"):
        decompose(simulated.scores().assign(metric="iou"), metric="iou", **FAST)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[f["group"] == "glioma"], "control"),
        (lambda f: f[f["group"] == "control"], "glioma"),
        (lambda f: f.assign(value=0.5), "must vary"),
        (lambda f: f.assign(tumor_distance_mm=np.where(f["group"] == "glioma", 7.0, np.nan)), "Distances"),
        (lambda f: f.assign(tumor_distance_mm=np.nan), "tumor_distance_mm is empty"),
        (lambda f: f.assign(value=np.where(f.index == 3, np.nan, f["value"])), "must have a value"),
        (lambda f: f.assign(value=f["value"] * 2), "must lie in 0–1"),
        (lambda f: f.assign(metric="nsd"), "it holds nsd"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "stands twice"),
        (lambda f: f.assign(penalty_mm=np.where(f["group"] == "glioma", 100.0, 50.0)), "share its settings"),
        (lambda f: f.assign(model=np.where(f.index == 3, "other", "m")), "one model"),
    ],
)
def test_bad_input_is_refused_by_name(spoil: object, message: str) -> None:
    """Input that cannot be decomposed raises an error that says what is wrong, never a number."""
    with pytest.raises(DataError, match=message):
        decompose(spoil(simulated.scores()), **FAST)  # type: ignore[operator]


def test_aliased_covariates_are_refused_by_name() -> None:
    """A site that is the cohort in disguise would delete the systematic part; age may be adjusted for."""
    frame = simulated.scores()
    with pytest.raises(ConfigError, match="site=B"):
        decompose(frame, covariates=["site"], **FAST)
    adjusted = decompose(frame, covariates=["age"], **FAST)
    assert pooled(adjusted, "total")["estimate"] == pytest.approx(
        pooled(decompose(frame, **FAST), "total")["estimate"], abs=0.01
    )
