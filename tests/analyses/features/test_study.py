"""Feature shift: which contrast shows which simulated shift, errors of the first kind, statuses, pictures, the link."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.feature_cohorts import embeddings

from shiftkit.analyses.features.change import layer_change
from shiftkit.analyses.features.findings import FeatureShift, compared
from shiftkit.analyses.features.foresight import foresee
from shiftkit.analyses.features.pictures import control_components, umap
from shiftkit.analyses.features.samples import Roster, cells
from shiftkit.analyses.features.study import feature_shift
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import FEATURES, TABLES
from shiftkit.embeddings import Embeddings
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import read_table, write_table
from shiftkit.work import Work


def smallest_p(result: FeatureShift, contrast: str, statistic: str = "mmd2") -> float:
    """The smallest adjusted p-value of the pooled rows."""
    return float(result.pooled(contrast, statistic)["p_adjusted"].min())


def with_layers(made: Embeddings, change: dict[str, np.ndarray]) -> Embeddings:
    return dataclasses.replace(made, layers={**made.layers, **change})


@pytest.mark.parametrize("statistic", ["mmd2", "energy", "sliced_wasserstein", "frechet", "auc"])
def test_a_systematic_shift_is_systematic_and_not_tumor(statistic: str) -> None:
    """Patients' features moved and spread in both hemispheres: total and systematic show it, tumor does not."""
    result = feature_shift(
        embeddings(24, 24, systematic=1.2, seed=1), statistics=(statistic,), inference=Inference(n_permutations=399)
    )
    assert smallest_p(result, "systematic", statistic) < 0.05
    assert smallest_p(result, "total", statistic) < 0.05
    assert smallest_p(result, "tumor", statistic) > 0.05


@pytest.mark.parametrize("statistic", ["mmd2", "energy", "sliced_wasserstein", "frechet", "auc"])
def test_a_tumor_is_tumor_and_not_systematic(statistic: str) -> None:
    """Features moved on the tumor's side alone: the tumor contrast shows it, the systematic one does not."""
    result = feature_shift(
        embeddings(24, 24, tumor=1.2, seed=2), statistics=(statistic,), inference=Inference(n_permutations=399)
    )
    assert smallest_p(result, "tumor", statistic) < 0.05
    assert smallest_p(result, "systematic", statistic) > 0.05


def test_identical_cohorts_show_neither() -> None:
    """Controls and patients from one distribution, hemispheres that differ: of 20 cohorts few show anything."""
    shown = dict.fromkeys(("Total", "Systematic", "Tumor-related"), 0)
    for seed in range(20):
        result = feature_shift(
            embeddings(20, 20, seed=seed), statistics=("mmd2",), inference=Inference(n_permutations=99)
        )
        for name in shown:
            shown[name] += f"{name} feature shift: not shown" not in result.verdict
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
        result = feature_shift(made, statistics=("mmd2",), inference=Inference(n_permutations=99, seed=seed))
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
        result = feature_shift(
            with_layers(made, wider), statistics=("mmd2",), inference=Inference(n_permutations=99, seed=seed)
        )
        rejected += smallest_p(result, "tumor") <= 0.05
    assert rejected <= 12  # 99 % of binomial(100, 0.05)


def test_the_channel_that_was_moved_carries_the_shift() -> None:
    """One channel moved on the tumor's side: it is named, with most of the shift, and no other channel is shown."""
    made = embeddings(seed=6)
    vectors = made.layers["encoder-2"].copy()
    moved = (made.rows["hemisphere"] == made.rows["tumor_side"]).to_numpy()
    vectors[moved, 4] += 3
    result = feature_shift(
        with_layers(made, {"encoder-2": vectors}), statistics=("mmd2",), inference=Inference(n_permutations=199)
    )
    rows = result.directions[(result.directions["layer"] == "encoder-2") & (result.directions["contrast"] == "tumor")]
    assert rows["channel"].iloc[0] == 5 and rows["share"].iloc[0] > 0.7
    assert rows["p_adjusted"].iloc[0] < 0.05 < rows["p_adjusted"].iloc[1]
    carried = next(finding for finding in result.findings() if finding.key == "features-directions")
    assert "channel 5 of encoder-2" in carried.claim


def test_p_values_are_never_0_and_reproducible() -> None:
    """A p-value is (b+1)/(B+1); the same seed gives the same table, whatever the number of processes."""
    made = embeddings(systematic=3.0)
    one, two = (
        feature_shift(made, inference=Inference(n_permutations=99, seed=4), work=Work(jobs=jobs)).to_frame()
        for jobs in (1, 2)
    )
    assert one["p_value"].min() == pytest.approx(0.01)
    pd.testing.assert_frame_equal(one, two)


def test_the_table_fits_its_schema(tmp_path: Path) -> None:
    """Written and read back, every row has a value or a status that says why not."""
    result = feature_shift(embeddings(6, 6, bundles=("AF",)), inference=Inference(n_permutations=99))
    write_table(result.to_frame(), FEATURES, tmp_path / "features.tsv")
    table = read_table(tmp_path / "features.tsv", TABLES["features"])
    assert table.loc[table["value"].isna(), "status"].isin(["ok", "exploratory"]).sum() == 0
    assert set(table["status"]) == {"exploratory"}


def test_a_constant_layer_and_nan_features_have_a_status() -> None:
    """A layer that says the same of everyone is ``constant``; one with NaN is ``not_finite``; the others go on."""
    made = embeddings(tumor=2.0)
    broken = made.layers["encoder-2"].copy()
    broken[5, 0] = np.nan
    constant = np.full_like(made.layers["encoder-1"], 0.7)
    result = feature_shift(
        with_layers(made, {"flat": constant, "broken": broken}), inference=Inference(n_permutations=99)
    )
    table = result.to_frame()
    assert set(table.loc[table["layer"] == "flat", "status"]) == {"constant"}
    assert "not_finite" in set(table.loc[table["layer"] == "broken", "status"])
    assert table.loc[table["status"].isin(["constant", "not_finite"]), "value"].isna().all()
    assert table.loc[table["layer"] == "encoder-1", "value"].notna().all()


def test_infinite_features_have_a_status() -> None:
    """Infinity of a network never becomes a number of the table."""
    made = embeddings()
    vectors = made.layers["encoder-1"].copy()
    vectors[0] = np.inf
    table = feature_shift(with_layers(made, {"encoder-1": vectors}), inference=Inference(n_permutations=99)).to_frame()
    row = table[(table["layer"] == "encoder-1") & (table["bundle"] == "AF") & (table["hemisphere"] == "left")]
    assert set(row["status"]) == {"not_finite"}


@pytest.mark.parametrize(("n_controls", "n_patients"), [(20, 1), (1, 20), (3, 3)])
def test_one_participant_is_too_few(n_controls: int, n_patients: int) -> None:
    """No contrast between controls and patients with fewer than four on a side, and the sentence says so."""
    result = feature_shift(embeddings(n_controls, n_patients), inference=Inference(n_permutations=99))
    assert set(result.pooled("total")["status"]) == {"too_few"}
    assert result.pooled("total")["value"].isna().all()
    assert "Too few participants" in str(result)


def test_tumors_on_one_side_only_withhold_the_tumor_part() -> None:
    """Left tumors only: side and hemisphere cannot be told apart; total and systematic are given."""
    result = feature_shift(embeddings(10, 10, sides=("left",) * 10), inference=Inference(n_permutations=99))
    assert set(result.pooled("tumor")["status"]) == {"split_withheld"}
    assert result.pooled("systematic")["value"].notna().all()


def test_bilateral_tumors_take_part_in_total_only() -> None:
    """They are counted in total, left out of the others, and the notes say so."""
    sides = ("left", "right") * 5 + ("bilateral", "n/a")
    result = feature_shift(embeddings(10, 12, sides=sides), inference=Inference(n_permutations=99))
    assert set(result.pooled("total")["n_target"]) == {12}
    assert set(result.pooled("tumor")["n_target"]) == {10}
    assert "2 patients" in result.notes[0]


def test_a_missing_bundle_leaves_its_owner_out_of_that_bundle_alone() -> None:
    """One control without the left AF: 19 there, 20 elsewhere."""
    made = embeddings()
    rows = made.rows
    gone = (rows["participant_id"] == "sub-000") & (rows["bundle"] == "AF") & (rows["hemisphere"] == "left")
    kept = Embeddings(
        model="m",
        modality="peaks",
        rows=rows[~gone].reset_index(drop=True),
        layers={name: vectors[~gone.to_numpy()] for name, vectors in made.layers.items()},
    )
    table = feature_shift(kept, statistics=("mmd2",), inference=Inference(n_permutations=99)).to_frame()
    total = table[(table["contrast"] == "total") & (table["layer"] == "encoder-1")].set_index(["bundle", "hemisphere"])
    assert total.loc[("AF", "left"), "n_source"] == 19
    assert total.loc[("AF", "right"), "n_source"] == 20
    assert total.loc[("ILF", "all"), "n_source"] == 20


def test_a_bundle_annotated_on_one_side_is_compared_with_its_mirror_image() -> None:
    """Without right masks the mirrored region stands in for everyone, and both parts are given."""
    made = embeddings(tumor=1.5, bundles=("AF",))
    rows = made.rows.assign(region=np.where(made.rows["hemisphere"] == "left", "reference", "mirror"))
    result = feature_shift(
        dataclasses.replace(made, rows=rows), statistics=("mmd2",), inference=Inference(n_permutations=199)
    )
    assert smallest_p(result, "tumor") < 0.05
    assert set(result.table.loc[result.table["hemisphere"] == "right", "contrast"]) == set()


def test_every_control_lends_one_hemisphere_in_the_patients_proportion() -> None:
    """With 15 left and 5 right tumors, 12 of 16 controls stand in for left."""
    made = embeddings(16, 20, sides=("left",) * 15 + ("right",) * 5)
    roster = Roster.of(made, np.random.default_rng(0))
    assert (roster.side[~roster.patient] == "left").sum() == 12
    systematic = next(c for c in cells(made, roster) if c.contrast == "systematic" and c.bundle == "AF")
    assert systematic.sample is not None
    assert len(systematic.sample.person) == len(set(systematic.sample.person.tolist())) == 36


def test_wrong_requests_are_refused_in_words() -> None:
    """Unknown statistics, too few permutations, no controls, and one participant under two names of a fold."""
    made = embeddings(6, 6)
    with pytest.raises(ConfigError, match="mmd2"):
        feature_shift(made, statistics=("mmd",))
    with pytest.raises(ConfigError, match="99"):
        feature_shift(made, inference=Inference(n_permutations=10))
    with pytest.raises(DataError, match="no controls"):
        feature_shift(made.where(group="glioma"))
    with pytest.raises(DataError, match="sub-000"):
        feature_shift(Embeddings.concat([made, dataclasses.replace(made, rows=made.rows.assign(fold="2"))]))


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
        result = feature_shift(
            dataclasses.replace(made, rows=rows, layers=layers), inference=Inference(n_permutations=199)
        )
        assert (smallest_p(result, "systematic") <= 0.05) == shown


def test_results_speak_draw_and_show_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, HTML, tidy frame and axes; pictures are labelled as pictures; without umap-learn there is PCA alone."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    monkeypatch.setattr("shiftkit.analyses.features.pictures.find_spec", lambda name: None)
    before, after = (
        feature_shift(embeddings(8, 8, tumor=t, seed=1), inference=Inference(n_permutations=99)) for t in (2.0, 0.0)
    )
    found = (*before.findings(), compared(before, after))
    assert {"features", "features-bundles", "features-directions", "features-pca"} <= {finding.key for finding in found}
    for finding in found:
        assert finding.claim and finding.alt
        axes = finding.plot()
        if finding.key in ("features-pca", "features-umap"):
            assert "a picture, no test" in axes.get_title()
            assert "no evidence" in finding.claim
        plt.close(axes.figure)
    assert "Tumor-related" in before._repr_html_() and "MMD²" in str(before)


def test_the_same_seed_gives_the_same_umap() -> None:
    """Two calls give the same coordinates, to the bit; another seed gives others."""
    pytest.importorskip("umap", reason="umap-learn comes with the extra 'features'")
    scores = np.random.default_rng(0).normal(size=(60, 5))
    np.testing.assert_array_equal(umap(scores, seed=3), umap(scores, seed=3))
    assert not np.array_equal(umap(scores, seed=3), umap(scores, seed=4))


def test_components_are_fitted_on_controls_only() -> None:
    """Patients' values change nothing in the controls' coordinates."""
    made = embeddings(10, 10)
    vectors = made.layers["encoder-2"].astype(float)
    controls = (made.rows["group"] == "control").to_numpy()
    far = np.where(controls[:, None], vectors, vectors + 100)
    first, second = (control_components(each, controls)[controls] for each in (vectors, far))
    np.testing.assert_allclose(first, second)


def linked(n: int = 24, link: float = 1.0, seed: int = 0) -> tuple[Embeddings, pd.DataFrame]:
    """Embeddings of predicted regions, and scores that fall with each patient's own shift."""
    made = embeddings(n, n, seed=seed)
    rng = np.random.default_rng(seed)
    people = made.rows["participant_id"].unique()
    own = dict(zip(people, rng.gamma(2, 1, len(people)), strict=True))
    patient = (made.rows["group"] == "glioma").to_numpy()
    size = np.where(patient, made.rows["participant_id"].map(own), 0.0)
    layers = {name: vectors + size[:, None].astype(np.float32) for name, vectors in made.layers.items()}
    drop = link * 0.05 * size + rng.normal(0, 0.03, len(size))
    side = np.where(made.rows["tumor_side"] == made.rows["hemisphere"], "ipsi", "contra")
    scores = made.rows[["participant_id", "group", "bundle", "hemisphere"]].assign(
        value=0.8 - drop, side=np.where(patient, side, "n/a"), metric="dice", model="m"
    )
    return dataclasses.replace(made, rows=made.rows.assign(region="predicted"), layers=layers), scores


def test_a_shift_that_costs_dice_foretells_it_out_of_sample() -> None:
    """Drops that grow with the shift are predicted in held-out patients; the interval of the skill is above 0."""
    result = foresee(*linked(), inference=Inference(n_bootstrap=300))
    shift, prediction, skill = result.estimates
    assert shift.value > 0.7 and shift.p_value < 0.01
    assert prediction.low > 0.5 and skill.low > 0
    assert "foretells" in result.claim
    assert result.table["predicted"].notna().all()


def test_a_shift_that_costs_nothing_foretells_nothing() -> None:
    """Without a link no skill is claimed, in 10 of 10 cohorts."""
    for seed in range(10):
        result = foresee(*linked(12, link=0.0, seed=seed), inference=Inference(n_bootstrap=200, seed=seed))
        assert "is not shown to foretell" in result.claim


def test_the_prediction_of_a_patient_never_saw_their_score() -> None:
    """Changing one patient's own scores leaves their own predictions as they were."""
    made, scores = linked()
    worse = scores.copy()
    own = scores["participant_id"] == "sub-030"
    worse.loc[own, "value"] -= 0.5
    first, second = (
        foresee(made, each, inference=Inference(n_bootstrap=100))
        .table.set_index("participant_id")
        .loc["sub-030", "predicted"]
        for each in (scores, worse)
    )
    pd.testing.assert_series_equal(first, second)


def test_too_few_patients_for_a_link_have_a_status() -> None:
    """With five patients a status stands in every row and the claim says why."""
    made, scores = linked(5)
    result = foresee(made, scores)
    assert set(result.table["status"]) == {"too_few"}
    assert "Too few" in result.claim


def test_cka_names_the_layer_that_was_moved() -> None:
    """A layer that was replaced by noise has the lowest CKA; one that was rotated stays at 1."""
    made = embeddings(12, 12)
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    noise = rng.standard_normal(made.layers["encoder-2"].shape)
    tuned = dataclasses.replace(
        made, model="tuned", layers={"encoder-1": made.layers["encoder-1"] @ rotation, "encoder-2": noise}
    )
    result = layer_change(made, tuned)
    table = result.to_frame().set_index("layer")
    assert table.loc["encoder-1", "cka"] == pytest.approx(1.0, abs=1e-5)
    assert table.loc["encoder-2", "high"] < 0.5
    assert "encoder-2 most" in result.claim
    with pytest.raises(DataError, match="have none"):
        layer_change(made, dataclasses.replace(tuned, rows=made.rows.assign(participant_id="sub-x")))


def test_embeddings_survive_the_disk_to_the_byte(tmp_path: Path) -> None:
    """Saved and read back they are equal; saved again the file is the same; a damaged file is named."""
    made = embeddings(3, 3)
    made.save(tmp_path / "a.npz", digest="x")
    back = Embeddings.load(tmp_path / "a.npz")
    pd.testing.assert_frame_equal(made.rows, back.rows)
    np.testing.assert_array_equal(made.layers["encoder-2"], back.layers["encoder-2"])
    back.save(tmp_path / "b.npz", digest="x")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(b"PK not a zip")
    with pytest.raises(DataError, match=r"c\.npz"):
        Embeddings.load(tmp_path / "c.npz")
