from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from shiftkit.analyses.scoring.metrics import METRICS, PROBABILISTIC, compare, compare_probability
from shiftkit.analyses.scoring.study import score
from shiftkit.analyses.scoring.table import ScoreTable
from shiftkit.catalogue import SCORES
from shiftkit.cohorts.folder import (
    load_cohort,
    mask_path,
    probability_path,
    tumor_path,
    write_description,
    write_participants,
)
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image, write_image
from shiftkit.types import Bundle, Cohort, Volume
from shiftkit.work import Work

SHAPE = (24, 20, 16)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[:3, 3] = (-23.0, -19.0, -15.0)  # x = 0 lies between voxels 11 and 12
LEFT, RIGHT, MIDLINE = (Bundle.parse(label) for label in ("AFleft", "AFright", "CC"))
Mask = NDArray[np.bool_]


def block(x: tuple[int, int], y: tuple[int, int] = (3, 17), z: tuple[int, int] = (6, 10)) -> Mask:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[slice(*x), slice(*y), slice(*z)] = True
    return mask


REFERENCES = {LEFT: block((3, 7)), RIGHT: block((17, 21)), MIDLINE: block((8, 16), (9, 13))}


def write_masks(root: Path, key: str, masks: dict[Bundle, Mask], affine: NDArray[np.float64] = AFFINE) -> None:
    for bundle, mask in masks.items():
        write_image(Volume(array=mask, affine=affine), mask_path(root, key, bundle))


def write_cohort(root: Path, rows: list[dict[str, object]]) -> None:
    write_description(root, root.name)
    write_participants(root, pd.DataFrame(rows))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """A control, a patient whose side is in the table, and one whose side only the mask tells."""
    root = tmp_path / "cohort"
    people = {
        "sub-c": {"group": "control", "age": 40, "sex": "F", "tumor_side": "n/a", "tumor_volume_ml": "n/a"},
        "sub-p": {"group": "glioma", "age": 50, "sex": "M", "tumor_side": "right", "tumor_volume_ml": 3.5},
        "sub-q": {"group": "glioma", "age": "n/a", "sex": "n/a", "tumor_side": "n/a", "tumor_volume_ml": "n/a"},
    }
    write_cohort(root, [{"participant_id": key, **row} for key, row in people.items()])
    for key in people:
        write_masks(root, key, REFERENCES)
    tumor = block((2, 6), (3, 6), (12, 15))
    write_image(Volume(array=tumor, affine=AFFINE), tumor_path(root, "sub-q"))
    write_image(Volume(array=block((3, 4), (4, 5), (13, 14)), affine=AFFINE), tumor_path(root, "sub-q", "core"))
    return load_cohort(root)


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Predictions for all three, in the cohort's own layout: shifted by one voxel along y."""
    root = tmp_path / "predicted"
    write_cohort(root, [{"participant_id": key} for key in ("sub-c", "sub-p", "sub-q")])
    for key in ("sub-c", "sub-p", "sub-q"):
        write_masks(root, key, {bundle: np.roll(mask, 1, axis=1) for bundle, mask in REFERENCES.items()})
    return root


def row(table: ScoreTable, key: str, bundle: Bundle, metric: str = "dice") -> pd.Series:
    frame = table.where(participant_id=key, bundle=bundle.name, hemisphere=bundle.hemisphere, metric=metric).frame
    assert len(frame) == 1
    return frame.iloc[0]


def test_one_row_a_metric_with_the_value_of_the_shift(cohort: Cohort, predicted: Path) -> None:
    """Every bundle and metric has its row; a shift by one of 14 voxels gives 13/14, and 2 mm at the ends."""
    table = score(predicted, cohort)
    assert len(table) == 3 * 3 * (len(METRICS) - len(PROBABILISTIC))
    assert row(table, "sub-c", LEFT)["value"] == pytest.approx(13 / 14)
    assert row(table, "sub-c", LEFT, "volume_overreach")["value"] == pytest.approx(1 / 14)
    assert row(table, "sub-c", LEFT, "volume_similarity")["value"] == 1
    assert row(table, "sub-c", MIDLINE, "hd95")["value"] == 2.0
    assert table.counts() == {"ok": 9}
    assert "counts: ok 9" in str(table)
    assert "counts: ok 9" in table._repr_html_()


def test_covariates_come_from_the_table_and_the_masks(cohort: Cohort, predicted: Path) -> None:
    """Side, volume and distances of the tumor are those of the mask; the participants table wins for the side."""
    table = score(predicted, cohort, metrics=["dice"])
    control = row(table, "sub-c", LEFT)
    assert (control["side"], control["tumor_side"], control["age"]) == ("n/a", "n/a", 40)
    assert np.isnan(control["tumor_distance_mm"])
    listed = row(table, "sub-p", RIGHT)
    assert (listed["side"], listed["sex"], listed["tumor_volume_ml"]) == ("ipsi", "M", 3.5)
    assert np.isnan(listed["tumor_distance_mm"])  # no mask, no distance
    ipsi, contra, midline = (row(table, "sub-q", bundle) for bundle in (LEFT, RIGHT, MIDLINE))
    assert [one["side"] for one in (ipsi, contra, midline)] == ["ipsi", "contra", "n/a"]
    assert ipsi["tumor_side"] == "left"
    assert ipsi["tumor_distance_mm"] == pytest.approx(4.0)  # two empty voxels between z = 9 and z = 12
    assert ipsi["tumor_core_distance_mm"] == pytest.approx(6.0)
    assert contra["tumor_distance_mm"] == pytest.approx(np.hypot(22.0, 4.0))
    assert contra["tumor_distance_mean_mm"] > contra["tumor_distance_p05_mm"] > 22
    assert ipsi["tumor_volume_ml"] == pytest.approx(36 * 0.008)
    assert ipsi["tumor_overlap_ml"] == 0
    assert np.isnan(ipsi["age"])
    assert ipsi["sex"] == "n/a"


def test_hard_cases_have_a_status_and_the_agreed_value(cohort: Cohort, predicted: Path) -> None:
    """Missed gives 0 and the penalty; an absent reference gives no value but the false volume; nobody is dropped."""
    nothing = np.zeros(SHAPE, dtype=bool)
    write_masks(predicted, "sub-c", {LEFT: nothing, RIGHT: nothing})
    write_masks(cohort.root, "sub-c", {RIGHT: nothing, MIDLINE: nothing})
    table = score(predicted, cohort, penalty_mm=80.0)
    missed = {metric: row(table, "sub-c", LEFT, metric)["value"] for metric in table.metrics if metric in METRICS}
    assert {missed[name] for name in ("hd95", "assd", "adjacency")} == {80.0}
    assert {missed[name] for name in ("dice", "nsd", "cldice", "sensitivity", "precision", "volume_similarity")} == {
        0.0
    }
    assert row(table, "sub-c", LEFT)["status"] == "missed"
    assert row(table, "sub-c", RIGHT)["status"] == "both_absent"
    absent = row(table, "sub-c", MIDLINE)
    assert absent["status"] == "reference_absent"
    assert np.isnan(absent["value"])
    false_volume = row(table, "sub-c", MIDLINE, "false_positive_volume")
    assert (false_volume["value"], false_volume["unit"]) == (pytest.approx(REFERENCES[MIDLINE].sum() * 0.008), "ml")
    assert table.counts() == {"ok": 6, "missed": 1, "reference_absent": 1, "both_absent": 1}
    assert "missed 1, reference_absent 1, both_absent 1" in str(table)


def test_missing_files_are_told_from_empty_masks(cohort: Cohort, predicted: Path) -> None:
    """A file that others have is refused unless told to be a miss; what nobody has, or a case, is unavailable."""
    mask_path(predicted, "sub-c", LEFT).unlink()
    for key in ("sub-c", "sub-p", "sub-q"):
        mask_path(predicted, key, MIDLINE).unlink()
    mask_path(cohort.root, "sub-p", LEFT).unlink()
    for bundle in (LEFT, RIGHT):
        mask_path(predicted, "sub-q", bundle).unlink()
    found = load_cohort(predicted).where(lambda case: case.participant_id != "sub-q")
    with pytest.raises(DataError, match=r"sub-c has no .*left.*`unwritten` as missed.* or as unavailable"):
        score(found, load_cohort(cohort.root), metrics=["dice"])
    lost = score(found, load_cohort(cohort.root), metrics=["dice"], unwritten="unavailable")
    assert row(lost, "sub-c", LEFT)["status"] == "unavailable"
    table = score(found, load_cohort(cohort.root), metrics=["dice", "hd95"], unwritten="missed")
    assert row(table, "sub-c", LEFT)["status"] == "missed"
    assert row(table, "sub-c", MIDLINE)["status"] == "unavailable"
    assert row(table, "sub-p", LEFT)["status"] == "reference_absent"
    assert row(table, "sub-q", RIGHT)["status"] == "unavailable"
    assert table.counts() == {"ok": 2, "missed": 1, "reference_absent": 1, "unavailable": 5}


def test_probabilities_are_thresholded_and_scored(cohort: Cohort, predicted: Path) -> None:
    """Without masks 0.5 is used, a threshold overrides masks, and Brier and calibration need probabilities."""
    for key in ("sub-c", "sub-p"):
        for bundle, mask in REFERENCES.items():
            sure = np.where(mask, 0.4, 0.0).astype(np.float32)
            sure[:, 3:10] *= 2
            write_image(Volume(array=sure, affine=AFFINE), probability_path(predicted, key, bundle))
    mask_path(predicted, "sub-c", LEFT).unlink()
    metrics = ["dice", "brier", "calibration_error"]
    by_default, low = (score(predicted, cohort, metrics=metrics, threshold=value) for value in (None, 0.3))
    assert row(by_default, "sub-c", LEFT)["value"] == pytest.approx(2 * 7 / (7 + 14))
    assert row(by_default, "sub-p", LEFT)["value"] == pytest.approx(13 / 14)
    assert row(low, "sub-p", LEFT)["value"] == 1.0
    brier = row(by_default, "sub-p", LEFT, "brier")["value"]
    region = np.zeros(SHAPE, dtype=bool)
    voxels = np.argwhere(np.ones(SHAPE))
    inside = np.argwhere(REFERENCES[LEFT])
    near = (np.linalg.norm((voxels[:, None] - inside[None]) * 2.0, axis=2).min(axis=1) <= 10.0).reshape(SHAPE)
    region |= near
    assert brier == pytest.approx((0.2**2 + 0.6**2) / 2 * REFERENCES[LEFT].sum() / region.sum(), rel=1e-5)
    assert row(by_default, "sub-q", LEFT, "brier")["status"] == "unavailable"
    assert by_default.counts() == {"ok": 9}


def test_calibration_error_of_calibrated_probabilities_is_near_zero() -> None:
    """Voxels that are inside as often as they say are calibrated; overconfident ones are not."""
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, (40, 40, 40)).astype(np.float32)
    reference = rng.uniform(0, 1, probability.shape) < probability
    calibrated = compare_probability(probability, reference, (1.0, 1.0, 1.0))
    confident = compare_probability((probability > 0.5).astype(np.float32), reference, (1.0, 1.0, 1.0))
    assert calibrated["calibration_error"] < 0.01
    assert calibrated["brier"] == pytest.approx(1 / 6, abs=0.005)  # the mean of p(1 - p)
    assert confident["calibration_error"] == pytest.approx(0.25, abs=0.01)


def test_another_grid_is_an_error_unless_resampled(cohort: Cohort, predicted: Path) -> None:
    """A mask on a flipped grid is refused with both grids named; with resampling it scores as before."""
    flipped = AFFINE.copy()
    flipped[0] *= -1
    flipped[0, 3] = -AFFINE[0, 3]
    expected = score(predicted, cohort, metrics=["dice"])
    for key in ("sub-c", "sub-p"):
        masks = {bundle: np.roll(mask, 1, axis=1)[::-1] for bundle, mask in REFERENCES.items()}
        write_masks(predicted, key, masks, flipped)
    with pytest.raises(DataError, match=r"2 of 3 cases.*sub-c.*LAS.*RAS.*sub-p.*`resample`"):
        score(predicted, cohort, metrics=["dice"])
    pd.testing.assert_frame_equal(score(predicted, cohort, metrics=["dice"], resample=True).frame, expected.frame)


def test_sheared_references_are_refused(cohort: Cohort, predicted: Path) -> None:
    """A sheared reference stops the scoring, with the case and the reason."""
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.5
    write_masks(cohort.root, "sub-p", REFERENCES, sheared)
    with pytest.raises(DataError, match=r"sub-p: .*sheared"):
        score(predicted, cohort)


def test_masks_of_one_participant_share_a_grid(cohort: Cohort, predicted: Path) -> None:
    """A tumor mask on another grid is refused, never resampled in passing."""
    write_image(Volume(array=np.ones((3, 3, 3), dtype=bool), affine=AFFINE), tumor_path(cohort.root, "sub-q"))
    with pytest.raises(DataError, match=r"sub-q: All masks .* one grid; that of tumor"):
        score(predicted, cohort)


def test_processes_change_nothing(cohort: Cohort, predicted: Path, tmp_path: Path) -> None:
    """Two processes give the same table, to the byte, and report every participant."""
    seen: list[tuple[int, int]] = []
    one = score(predicted, cohort)
    two = score(predicted, cohort, work=Work(jobs=2, progress=lambda done, total, _: seen.append((done, total))))
    one.save(tmp_path / "one.tsv")
    two.save(tmp_path / "two.tsv")
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "two.tsv").read_bytes()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_error_maps_show_hits_misses_and_false_voxels(cohort: Cohort, predicted: Path, tmp_path: Path) -> None:
    """1, 2 and 3 stand where the masks say; the labels lie in a table beside them."""
    score(predicted, cohort, metrics=["dice"], error_maps=tmp_path / "errors")
    image = read_image(tmp_path / "errors" / "sub-c" / "dwi" / "sub-c_label-AFleft_desc-errors_dseg.nii.gz")
    truth, guess = REFERENCES[LEFT], np.roll(REFERENCES[LEFT], 1, axis=1)
    expected = np.select([truth & guess, truth, guess], [1, 2, 3], 0)
    np.testing.assert_array_equal(image.array, expected)
    np.testing.assert_allclose(image.affine, AFFINE)
    assert "2\tmissed" in (tmp_path / "errors" / "desc-errors_dseg.tsv").read_text()


def test_unknown_metrics_and_strangers_are_refused(cohort: Cohort, predicted: Path, tmp_path: Path) -> None:
    """An unknown metric, a folder that is none, and predictions of other people each say what is wrong."""
    with pytest.raises(ConfigError, match=r"cldice.*got jaccard"):
        score(predicted, cohort, metrics=["dice", "jaccard"])
    with pytest.raises(DataError, match="there is none at"):
        score(tmp_path / "nowhere", cohort)
    write_cohort(tmp_path / "others", [{"participant_id": "sub-x"}])
    write_masks(tmp_path / "others", "sub-x", REFERENCES)
    with pytest.raises(DataError, match=r"none of those in others \(sub-x\) is in cohort \(sub-c"):
        score(tmp_path / "others", cohort)


def test_table_round_trip_and_optional_columns(cohort: Cohort, predicted: Path, tmp_path: Path) -> None:
    """A saved table loads as it was; a table with only the required columns loads, one without status does not."""
    table = score(predicted, cohort)
    table.save(tmp_path / "scores.tsv")
    loaded = ScoreTable.load(tmp_path / "scores.tsv")
    pd.testing.assert_frame_equal(loaded.frame, table.frame, rtol=1e-9)
    required = [name for name, column in SCORES.columns.items() if column.required]
    lean = ScoreTable(frame=table.frame[required])
    assert lean.counts() == table.counts()
    assert (tmp_path / "scores.json").is_file()
    with pytest.raises(DataError, match="'status' is missing"):
        ScoreTable(frame=table.frame.drop(columns="status"))
    with pytest.raises(DataError, match="'perfect' is not one of"):
        ScoreTable(frame=table.frame.assign(status="perfect"))


def test_settings_travel_with_the_values(cohort: Cohort, predicted: Path, tmp_path: Path) -> None:
    """Tolerance and penalty stand beside the values they shaped, through the file; mixed settings are refused."""
    score(predicted, cohort, metrics=["dice", "nsd", "hd95"], tolerance_mm=2, penalty_mm=50).save(tmp_path / "s.tsv")
    table = ScoreTable.load(tmp_path / "s.tsv")
    settings = table.frame.groupby("metric")[["tolerance_mm", "penalty_mm"]].agg(lambda column: set(column.dropna()))
    assert settings.T.to_dict("list") == {"dice": [set(), set()], "hd95": [set(), {50.0}], "nsd": [{2.0}, set()]}
    other = score(predicted, cohort, metrics=["nsd"], tolerance_mm=3)
    with pytest.raises(DataError, match="nsd was computed with tolerance_mm 2 and 3"):
        ScoreTable.concatenate(table, other)
    silent = ScoreTable(frame=other.frame.drop(columns=["tolerance_mm", "penalty_mm"]))
    assert len(ScoreTable.concatenate(table, silent)) == len(table) + len(silent)


def test_table_is_its_own_and_joins_others(cohort: Cohort, predicted: Path) -> None:
    """Changing the frame that is handed out leaves the table alone; tables join; a missing metric is named."""
    table = score(predicted, cohort, metrics=["dice", "nsd"])
    mine = table.to_frame()
    mine["value"] = 0.0
    assert table.frame["value"].min() > 0.5
    parts = [table.where(group=group) for group in ("control", "glioma")]
    assert ScoreTable.concatenate(*parts).counts() == table.counts()
    with pytest.raises(DataError, match="'hd95'; it holds dice, nsd"):
        table.metric("hd95")


def test_sessions_stay_apart(tmp_path: Path) -> None:
    """Two sessions of one participant are two rows and two counted bundles, each against its own reference."""
    for name, shifts in (("cohort", (0, 0)), ("predicted", (0, 1))):
        write_cohort(tmp_path / name, [{"participant_id": "sub-c", "group": "control"}])
        for session, shift in zip(("ses-1", "ses-2"), shifts, strict=True):
            write_masks(tmp_path / name, f"sub-c_{session}", {LEFT: np.roll(REFERENCES[LEFT], shift, axis=1)})
    table = score(tmp_path / "predicted", load_cohort(tmp_path / "cohort"), metrics=["dice"])
    assert table.frame.set_index("session")["value"].to_dict() == {"ses-1": 1.0, "ses-2": pytest.approx(13 / 14)}
    assert table.counts() == {"ok": 2}


def test_plot_draws_every_value_of_one_metric(cohort: Cohort, predicted: Path) -> None:
    """One dot a row that has a value, by group, on labeled axes."""
    import matplotlib

    matplotlib.use("Agg")
    axes = score(predicted, cohort, metrics=["dice", "hd95"]).plot(metric="hd95")
    assert sum(len(line.get_xdata()) for line in axes.get_lines()) == 9
    assert axes.get_ylabel() == "hd95 [mm]"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["control", "glioma"]


def test_compare_rejects_nothing_and_counts_false_voxels() -> None:
    """A prediction without a reference is counted in voxels."""
    found = compare(np.ones((2, 2, 2), dtype=bool), np.zeros((2, 2, 2), dtype=bool), (1.0, 1.0, 1.0))
    assert (found.status, found.n_false_positive) == ("reference_absent", 8)
    assert all(np.isnan(value) for value in found.values.values())


def test_a_damaged_image_costs_its_participant(cohort: Cohort, predicted: Path) -> None:
    """One mask cut short: the others are scored, it is named with the reason; where all are damaged, nothing is."""
    whole = mask_path(predicted, "sub-p", LEFT).read_bytes()
    mask_path(predicted, "sub-p", LEFT).write_bytes(whole[: len(whole) // 2])
    scores = score(predicted, cohort, metrics=("dice",), unwritten="unavailable")
    assert set(scores.frame["participant_id"]) == {"sub-c", "sub-q"}
    assert list(scores.failed) == ["sub-p"] and "damaged" in scores.failed["sub-p"]
    for path in predicted.rglob("*_mask.nii.gz"):
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"3 of 3 cases.*sub-c.*damaged"):
        score(predicted, cohort, metrics=("dice",), unwritten="unavailable")


def test_an_empty_folder_is_unfinished_and_not_missed(cohort: Cohort, predicted: Path) -> None:
    """A participant without any mask has none of its bundles missed, whatever unwritten bundles of others mean."""
    for path in predicted.glob("sub-p/dwi/*"):
        path.unlink()
    scores = score(predicted, cohort, metrics=("dice",), unwritten="missed")
    assert set(scores.frame.loc[scores.frame["participant_id"] == "sub-p", "status"]) == {"unavailable"}
    assert list(scores.failed) == ["sub-p"] and "unfinished" in scores.failed["sub-p"]
