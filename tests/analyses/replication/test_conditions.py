"""Conditions: participants are the unit, pairs are pairs, and the tests hold their level."""

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from scipy import stats

from shiftkit.analyses.replication.conditions import Arm, conditions, contrasts, paired, unpaired
from shiftkit.analyses.statistics.inference import Inference

INFERENCE = Inference(n_bootstrap=400, n_permutations=999)


def _series(values: np.ndarray) -> pd.Series:
    """One bundle a person."""
    index = pd.MultiIndex.from_tuples([(f"sub-{i:02d}", "AF", "left") for i in range(len(values))])
    return pd.Series(values, index=index)


def test_paired_differences_agree_with_student() -> None:
    """The test by sign flips and the paired t test agree, and g is d with the exact correction for small samples."""
    rng = np.random.default_rng(3)
    first = rng.normal(0.7, 0.1, 16)
    second = first - rng.normal(0.02, 0.03, 16)
    one, effect = paired(_series(first), _series(second), inference=INFERENCE)
    assert one.value == pytest.approx((first - second).mean())
    assert one.p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)
    d = (first - second).mean() / (first - second).std(ddof=1)
    assert effect == pytest.approx(d * (1 - 3 / (4 * 15 - 1)), rel=0.002)


def test_groups_are_compared_at_their_level() -> None:
    """Without a difference, with unequal spread and size, the test of groups rejects in 5 % of cohorts."""
    rng = np.random.default_rng(0)
    quick = Inference(n_bootstrap=50, n_permutations=199)
    p = [unpaired(rng.normal(0, 3, 8), rng.normal(0, 1, 24), quick)[0].p_value for _ in range(300)]
    assert np.mean(np.array(p) <= 0.05) < 0.09


def test_a_bundle_that_one_condition_lacks_is_left_out_of_both() -> None:
    """Somebody's missing bundle must not pass for a difference."""
    scores = simulated.scores(12, 12, systematic=0.3)
    after = scores.assign(model="m+decoder")
    lost = (after["participant_id"] == "sub-003") & (after["bundle"] == "AF")
    after.loc[lost, "value"] = np.nan
    arm = Arm(modality="peaks", training="plain", source="m", scores=pd.concat([scores, after]))
    table = contrasts(arm, INFERENCE)
    assert table.loc[table["contrast"] == "strategy - none", "value"].abs().max() == 0


def test_every_condition_has_its_mean_over_participants() -> None:
    """Pooled rows are the mean of the bundles' means, and every group and strategy has rows of every bundle."""
    scores = simulated.scores(12, 10, systematic=0.3)
    scores = scores[~((scores["participant_id"] == "sub-000") & (scores["bundle"] != "AF"))]
    arm = Arm(modality="peaks", training="plain", source="m", scores=scores)
    table = conditions(arm, INFERENCE).set_index(["group", "bundle", "hemisphere"])
    patients = scores[scores["group"] == "glioma"]
    own = patients.groupby(["bundle", "hemisphere"])["value"].mean().mean()
    assert table.loc[("glioma", "all", "all"), "value"] == pytest.approx(own)
    assert len(table) == 2 * 11
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()


def test_bundles_that_patients_lack_are_no_drop() -> None:
    """Half of the patients have a hard and a usual bundle alone, and nobody loses anything: no difference is shown."""
    scores = simulated.scores(30, 20, systematic=0, tumor=0, seed=3)
    hard = scores["bundle"] == "FAT"
    scores.loc[hard, "value"] -= 0.4
    half = (scores["group"] == "glioma") & scores["participant_id"].str[-1].isin(list("01234"))
    lacking = scores[~(half & ~hard & (scores["bundle"] != "AF"))]
    arm = Arm(modality="peaks", training="plain", source="m", scores=lacking)
    raw = lacking.groupby(["participant_id", "group"])["value"].mean().groupby("group").mean()
    assert raw["glioma"] - raw["control"] < -0.05  # what averaging each person first would tell
    found = contrasts(arm, INFERENCE).query("bundle == 'all'").iloc[0]
    assert abs(found["value"]) < 0.03 and found["low"] < 0 < found["high"] and found["p_value"] > 0.05
    means = conditions(arm, INFERENCE).query("bundle == 'all'").set_index("group")["value"]
    assert abs(means["glioma"] - means["control"]) < 0.03
