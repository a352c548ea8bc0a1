"""Feature shift: which contrast shows which simulated shift, errors of the first kind, one table for a seed."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.feature_cohorts import embeddings, shift_of, with_layers

from shiftkit.analyses.features.result import FeatureShift
from shiftkit.catalogue import FEATURES, TABLES
from shiftkit.embeddings import Embeddings
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import read_table, write_table

_TESTS = ("mmd2", "energy", "sliced_wasserstein", "frechet", "auc")


def smallest_p(result: FeatureShift, contrast: str, statistic: str = "mmd2") -> float:
    """The smallest adjusted p-value of the pooled rows."""
    return float(result.pooled(contrast, statistic)["p_adjusted"].min())


@pytest.fixture(scope="module")
def shifted() -> dict[str, FeatureShift]:
    """Cohorts with one shift each, all statistics."""
    return {
        name: shift_of(embeddings(24, 24, seed=seed, **{name: 1.2}), _TESTS, n=399)
        for seed, name in enumerate(("systematic", "tumor"), start=1)
    }


@pytest.mark.parametrize("statistic", _TESTS)
def test_a_systematic_shift_is_systematic_and_not_tumor(shifted: dict[str, FeatureShift], statistic: str) -> None:
    """Patients' features moved and spread in both hemispheres: total and systematic show it, tumor does not."""
    result = shifted["systematic"]
    assert smallest_p(result, "systematic", statistic) < 0.05
    assert smallest_p(result, "total", statistic) < 0.05
    assert smallest_p(result, "tumor", statistic) > 0.05


@pytest.mark.parametrize("statistic", _TESTS)
def test_a_tumor_is_tumor_and_not_systematic(shifted: dict[str, FeatureShift], statistic: str) -> None:
    """Features moved on the tumor's side alone: the tumor contrast shows it, the systematic one does not."""
    result = shifted["tumor"]
    assert smallest_p(result, "tumor", statistic) < 0.05
    assert smallest_p(result, "systematic", statistic) > 0.05


def test_identical_cohorts_show_neither() -> None:
    """Controls and patients from one distribution, hemispheres that differ: of 20 cohorts few show anything."""
    shown = dict.fromkeys(("Total", "Systematic", "Tumor-related"), 0)
    for seed in range(20):
        result = shift_of(embeddings(20, 20, seed=seed), ("mmd2",))
        for name in shown:
            shown[name] += f"{name} feature shift: not shown" not in result.claim
    assert max(shown.values()) <= 4  # 99.7 % of binomial(20, 0.05)


@pytest.mark.slow
def test_error_of_the_first_kind_with_correlated_regions() -> None:
    """Over 200 null cohorts of 12 and 12, the largest of all cells rejects at 0.05 in 1–10 % of each contrast.

    The hemispheres differ by far more than people do, and four of five tumors are left. The binomial 99 % range
    around 5 % at n = 200 is 1.5–9.5 %; ``benchmarks/features.md`` has 5,000.
    """
    rejected = dict.fromkeys(("total", "systematic", "tumor"), 0)
    done = dict.fromkeys(rejected, 0)
    for seed in range(200):
        made = embeddings(12, 12, seed=100 + seed, channels=(4,), asymmetry=3.0, p_left=0.8)
        result = shift_of(made, ("mmd2",), seed=seed)
        for contrast in rejected:
            family = result.table[result.table["contrast"] == contrast]["p_adjusted"].dropna()
            if len(family):
                done[contrast] += 1
                rejected[contrast] += int(family.min() <= 0.05)
    for contrast, count in rejected.items():
        assert done[contrast] > 150
        assert 0.01 <= count / done[contrast] <= 0.1, (contrast, count, done)


def test_a_systematic_shift_with_wider_spread_and_asymmetry_is_no_tumor() -> None:
    """A shift that doubles the spread and the difference between hemispheres leaves the tumor test at its level."""
    rejected = 0
    for seed in range(100):
        made = embeddings(12, 12, seed=seed, channels=(4,), asymmetry=2.0)
        patient = (made.rows["group"] == "glioma").to_numpy()[:, None]
        wider = {name: np.where(patient, 2 * vectors, vectors) for name, vectors in made.layers.items()}
        result = shift_of(with_layers(made, wider), ("mmd2",), seed=seed)
        rejected += smallest_p(result, "tumor") <= 0.05
    assert rejected <= 12  # 99 % of binomial(100, 0.05)


def test_the_channel_that_was_moved_carries_the_shift() -> None:
    """One channel moved on the tumor's side: it is named, with most of the shift, and no other channel is shown."""
    made = embeddings(seed=6)
    vectors = made.layers["encoder-2"].copy()
    moved = (made.rows["hemisphere"] == made.rows["tumor_side"]).to_numpy()
    vectors[moved, 4] += 3
    result = shift_of(with_layers(made, {"encoder-2": vectors}), ("mmd2",), n=199)
    rows = result.directions[(result.directions["layer"] == "encoder-2") & (result.directions["contrast"] == "tumor")]
    assert rows["channel"].iloc[0] == 5 and rows["share"].iloc[0] > 0.7
    assert rows["p_adjusted"].iloc[0] < 0.05 < rows["p_adjusted"].iloc[1]
    carried = next(finding for finding in result.findings if finding.key == "features-directions")
    assert "channel 5 of encoder-2" in carried.claim


def test_p_values_are_never_0_and_reproducible() -> None:
    """A p-value is (b+1)/(B+1); the same seed gives the same table, whatever the number of processes."""
    made = embeddings(10, 10, systematic=3.0, bundles=("AF",))
    one, two = (shift_of(made, seed=4, jobs=jobs).to_frame() for jobs in (1, 2))
    assert one["p_value"].min() == pytest.approx(0.01)
    pd.testing.assert_frame_equal(one, two)


def test_the_table_fits_its_schema(tmp_path: Path) -> None:
    """Written and read back, every row has a value or a status that says why not."""
    result = shift_of(embeddings(6, 6, bundles=("AF",)))
    write_table(result.to_frame(), FEATURES, tmp_path / "features.tsv")
    table = read_table(tmp_path / "features.tsv", TABLES["features"])
    assert table.loc[table["value"].isna(), "status"].isin(["ok", "exploratory"]).sum() == 0
    assert set(table["status"]) == {"exploratory"}


def test_a_bundle_annotated_on_one_side_is_compared_with_its_mirror_image() -> None:
    """Without right masks the mirrored region stands in for everyone, and both parts are given."""
    made = embeddings(tumor=1.5, bundles=("AF",))
    rows = made.rows.assign(region=np.where(made.rows["hemisphere"] == "left", "reference", "mirror"))
    result = shift_of(dataclasses.replace(made, rows=rows), ("mmd2",), n=199)
    assert smallest_p(result, "tumor") < 0.05
    assert set(result.table.loc[result.table["hemisphere"] == "right", "contrast"]) == set()


def test_wrong_requests_are_refused_in_words() -> None:
    """Unknown statistics, too few permutations, no controls, and one participant under two names of a fold."""
    made = embeddings(6, 6)
    with pytest.raises(ConfigError, match="mmd2"):
        shift_of(made, statistics=("mmd",))
    with pytest.raises(ConfigError, match="99"):
        shift_of(made, n=10)
    with pytest.raises(DataError, match="no controls"):
        shift_of(made.where(group="glioma"))
    with pytest.raises(DataError, match="sub-000"):
        shift_of(Embeddings.concat([made, dataclasses.replace(made, rows=made.rows.assign(fold="2"))]))


def test_folds_of_a_fine_tuned_model_are_strata() -> None:
    """Networks that give other numbers to the same people show no shift where there is none, and one where there is.

    Fold 2 adds 5 to every feature; a test that mixed the folds would see it.
    """
    for systematic, shown in ((0.0, False), (1.5, True)):
        made = embeddings(24, 24, systematic=systematic, seed=5)
        number = made.rows["participant_id"].str.removeprefix("sub-").astype(int)
        second = (number % 2 == 1).to_numpy()
        layers = {name: vectors + 5 * second[:, None] for name, vectors in made.layers.items()}
        rows = made.rows.assign(fold=np.where(second, "2", "1"))
        result = shift_of(dataclasses.replace(made, rows=rows, layers=layers), ("mmd2",), n=199)
        assert (smallest_p(result, "systematic") <= 0.05) == shown
