"""The split of one model: parts that add up, known effects, and silence where it must be."""

import re

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose
from shiftkit.errors import ConfigError


def test_total_is_systematic_plus_tumor_and_matches_the_raw_drop() -> None:
    """The parts add up exactly; without covariates the total is the raw one."""
    result = decompose(simulated.scores(), **FAST)
    parts = {name: pooled(result, name)["estimate"] for name in ("total", "systematic", "tumor", "raw")}
    assert parts["total"] == pytest.approx(parts["systematic"] + parts["tumor"], abs=1e-12)
    assert parts["raw"] == pytest.approx(parts["total"], abs=1e-12)


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


def test_an_effect_that_reaches_beyond_every_distance_gives_a_range() -> None:
    """Where the far field is touched too there are bounds instead of a point, and the verdict gives them."""
    result = decompose(simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7), **FAST)
    row = pooled(result, "systematic")
    assert result.status == row["status"] == "range"
    assert np.isnan(row["estimate"])
    assert row["bound_high"] - row["bound_low"] > 0.02
    assert np.isfinite(pooled(result, "total")["estimate"])
    assert "between" in result.verdict


def test_an_unmeasured_far_field_says_what_would_help() -> None:
    """Without bundles far from any tumor only the total is given, and how many more patients would give a split."""
    frame = simulated.scores(40, 40)
    near = frame.assign(tumor_distance_mm=frame["tumor_distance_mm"].clip(upper=19.0))
    few = frame["participant_id"].isin([f"sub-{number:03d}" for number in range(9)])
    result = decompose(near.where(~few | (frame["hemisphere"] == "right"), frame), **FAST)
    assert result.status == "far_field_unmeasured"
    assert np.isnan(pooled(result, "systematic")["low"])
    assert "more patients with a bundle beyond 20 mm" in result.verdict


def test_few_patients_are_exploratory() -> None:
    """Under 20 patients the result carries the label wherever it stands."""
    result = decompose(simulated.scores(15, 20, tumor=2.0), **FAST)
    assert set(result.table["exploratory"]) == {"yes"}
    assert "exploratory" in result.verdict


def test_one_patient_gives_a_status_and_no_interval() -> None:
    """One patient is too few: the table says so, and nothing but the total's difference is given."""
    result = decompose(simulated.scores(1, 20), **FAST)
    assert set(result.table["status"]) == {"too_few"}
    assert np.isfinite(pooled(result, "total")["estimate"])
    assert result.table[["low", "high", "p_value"]].isna().all().all()
    assert result.verdict.startswith("No interval is given")


def test_scores_that_do_not_vary_get_a_status() -> None:
    """Where everybody scores the same there is nothing to split, and no interval."""
    result = decompose(simulated.scores().assign(value=0.5), **FAST)
    assert result.status == "constant"
    assert result.table["low"].isna().all()


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


def two_sites(seed: int) -> pd.DataFrame:
    """48 patients of whom every other one, of site B, drops by 0.8 more on the logit scale, far away too."""
    frame = simulated.scores(48, 20, systematic=0.2, seed=seed)
    number = frame["participant_id"].str[-3:].astype(int)
    patient, odd = frame["group"] == "glioma", number % 2 == 1
    eta = np.log(frame["value"] / (1 - frame["value"])) - 0.8 * (patient & odd)
    return frame.assign(value=1 / (1 + np.exp(-eta)), site=np.where(~patient, "C", np.where(odd, "B", "A")))


def test_sites_with_different_shifts_are_told_apart() -> None:
    """In 12 cohorts of two sites the worse one has the larger systematic part, mostly beyond the other's interval.

    A site's numbers are those of its patients alone, and of all controls, where a site has none.
    """
    apart = 0
    for seed in range(12):
        result = decompose(two_sites(seed), by="site", **FAST)
        strata = result.strata.set_index(["stratum", "component"])
        low, high = (strata.loc[(f"site={one}", "systematic")] for one in "AB")
        assert low["estimate"] < high["estimate"] and low["n_controls"] == high["n_controls"] == 20
        apart += low["high"] < high["low"]
    assert apart >= 9
    alone = decompose(two_sites(seed).query("site != 'A'"), **FAST)
    for part in ("total", "systematic", "tumor"):
        for name in ("estimate", "low", "high"):
            assert strata.loc[("site=B", part), name] == pytest.approx(pooled(alone, part)[name], abs=1e-12)


def test_controls_of_a_site_serve_where_there_are_enough() -> None:
    """Five with each bundle are enough, four are not; the split of all stays as it is without ``by``."""
    frame = simulated.scores(30, 24, seed=5)
    number = frame["participant_id"].str[-3:].astype(int)
    frame["site"] = np.where(number < 30, np.where(number % 2, "A", "B"), np.where(number < 34, "A", "B"))
    result = decompose(frame, by="site", **FAST)
    n = result.strata.groupby("stratum")[["n_patients", "n_controls"]].first()
    assert n.loc["site=A"].tolist() == [15, 24] and n.loc["site=B"].tolist() == [15, 20]
    pd.testing.assert_frame_equal(result.table, decompose(frame, **FAST).table)
    (told,) = [one for one in result.findings if one.key == "strata"]
    assert "A: 15 and 24; B: 15 and 20" in told.caveats[1] and told.claim.count("[") == 4


def test_patients_without_a_value_are_in_no_stratum() -> None:
    """Blanks are no site of their own and are counted; a column's name may hold any sign."""
    frame = simulated.scores(30, 24, seed=5)
    number = frame["participant_id"].str[-3:].astype(int)
    frame["x=y"] = np.where(number < 4, " ", np.where(number % 2, "A=1", "B"))
    result = decompose(frame, by="x=y", **FAST)
    assert list(dict.fromkeys(result.strata["stratum"])) == ["x=y=A=1", "x=y=B"]
    (told,) = [one for one in result.findings if one.key == "strata"]
    assert told.title == "By x=y" and "is: A=1 0." in told.claim and told.caveats[2].startswith("4 patients have no")


@pytest.mark.parametrize(
    ("column", "told"), [("sight", "'sight' is none; did you mean site"), ("site", "two values of site; all have B")]
)
def test_strata_that_are_none_are_refused(column: str, told: str) -> None:
    """A column that is not there, with the nearest, and one in which all patients are alike."""
    with pytest.raises(ConfigError, match=re.escape(told)):
        decompose(simulated.scores(12, 10), by=column, **FAST)
