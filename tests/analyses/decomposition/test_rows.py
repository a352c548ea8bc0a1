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
        (lambda f: f.assign(tumor_distance_mm=np.where(f["group"] == "glioma", 7.0, np.nan)), "Distances"),
        (lambda f: f.assign(tumor_distance_mm=np.nan), "tumor_distance_mm is empty"),
        (lambda f: f.assign(value=np.where(f.index == 3, np.nan, f["value"])), "has a finite value"),
        (lambda f: f.assign(value=f["value"] * 2), "lies in 0–1"),
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
    with pytest.raises(ConfigError, match="vary within a cohort; site"):
        decompose(frame, covariates=["site"], **FAST)
    adjusted = decompose(frame, covariates=["age"], **FAST)
    assert pooled(adjusted, "raw")["estimate"] == pytest.approx(pooled(decompose(frame, **FAST), "total")["estimate"])
    assert pooled(adjusted, "total")["estimate"] == pytest.approx(pooled(adjusted, "raw")["estimate"], abs=0.01)


def test_covariates_that_cannot_be_adjusted_for_are_refused_by_name() -> None:
    """Mediators, collinear columns and cohorts that do not overlap are refused; who lacks a value is counted."""
    frame = simulated.scores(30, 30)
    older = frame.assign(age=frame["age"] + 100 * (frame["group"] == "glioma"))
    for changed, names, message in (
        (frame, ["tumor_volume_ml"], "what the tumor does"),
        (frame.assign(months=12 * frame["age"]), ["age", "months"], "collinear"),
        (older, ["age"], "hardly overlap in age: 0 controls"),
        (frame, ["weight"], "'weight' is none"),
    ):
        with pytest.raises(ConfigError, match=message):
            decompose(changed, covariates=names, **FAST)
    frame.loc[frame["participant_id"] == "sub-003", "age"] = np.nan
    result = decompose(frame, covariates=["age"], **FAST)
    assert pooled(result, "total")["n_patients"] == 29
    lost = result.entered.set_index("reason").loc["a covariate is not known"]
    assert (lost["n_participants"], lost["n_rows"]) == (1, 10)


def test_overlap_is_counted_and_drawn() -> None:
    """Ages are compared with the other cohort's central 80 %, sites with its sites; without covariates nothing is."""
    frame = simulated.scores(30, 30).assign(site=lambda one: np.where(one["participant_id"] < "sub-020", "B", "A"))
    site = frame["participant_id"] > "sub-050"
    frame.loc[site, "site"] = "B"
    result = decompose(frame, covariates=["age", "site"], **FAST)
    ages = frame.drop_duplicates("participant_id").set_index("group")["age"]
    low, high = np.quantile(ages["glioma"], [0.1, 0.9])
    found = result.overlap.set_index(["covariate", "group"])["n_shared"]
    assert found["age", "controls"] == ages["control"].between(low, high).sum()
    assert found["site", "patients"] == 30
    (finding,) = (one for one in result.findings if one.key == "covariates")
    assert f"at least {found[:, 'controls'].min()} controls" in finding.claim
    assert len(finding.figure(None).lines) == 2
    assert not len(decompose(frame, **FAST).overlap)


def test_every_row_that_does_not_enter_is_counted_by_its_reason() -> None:
    """Rows of the score table are the sum of those that entered and those that did not, each under one reason."""
    frame = simulated.scores(30, 30).assign(seen="no")
    one = frame["participant_id"]
    frame.loc[one == "sub-031", "seen"] = "yes"
    frame.loc[(one == "sub-002") & (frame["bundle"] == "AF"), "tumor_distance_mm"] = np.nan
    rare = (frame["bundle"] == "PYT") & (frame["group"] == "control") & (one > "sub-034")
    frame = frame[~(rare & (frame["hemisphere"] == "left"))].reset_index(drop=True)
    frame.loc[frame.index[7], ["status", "value"]] = ["unavailable", np.nan]
    counts = decompose(frame, **FAST).entered
    assert counts["n_rows"].sum() == len(frame)
    by_reason = counts.groupby("reason")["n_rows"].sum()
    assert by_reason["control that the model has seen"] == 10
    assert by_reason["no distance to the tumor"] == 2
    assert by_reason["unavailable"] == 1
    assert by_reason["level_too_rare"] == 30 + 4


def test_bundles_lost_near_the_tumor_are_told() -> None:
    """Where touching bundles lack a reference more often than far ones, a note says which part is too small."""
    frame = simulated.scores(40, 40)
    lost = (frame["tumor_distance_mm"] < 8) & (np.arange(len(frame)) % 2 == 0)
    changed = frame.assign(status=np.where(lost, "unavailable", "ok"), value=frame["value"].where(~lost, np.nan))
    assert any("likely too small" in note for note in decompose(changed, **FAST).notes)
    assert not any("likely too small" in note for note in decompose(frame, **FAST).notes)
