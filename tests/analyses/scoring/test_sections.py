from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.scoring.sections import score_sections
from shiftkit.cohorts.folder import load_cohort, mask_path, tumor_path, write_description, write_participants
from shiftkit.errors import ConfigError
from shiftkit.images import write_image
from shiftkit.types import Bundle, Cohort, Volume
from shiftkit.work import Work

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
AFFINE[0, 3] = -9.0
LEFT, RIGHT = Bundle.parse("AFleft"), Bundle.parse("AFright")


def tube(x: int) -> np.ndarray:
    mask = np.zeros((10, 24, 10), dtype=bool)
    mask[x : x + 3, 2:22, 3:6] = True
    return mask


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    root = tmp_path / "cohort"
    write_description(root, "cohort")
    write_participants(root, pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "group": ["glioma", "control"]}))
    for key in ("sub-1", "sub-2"):
        for bundle, x in ((LEFT, 1), (RIGHT, 6)):
            write_image(Volume(array=tube(x), affine=AFFINE), mask_path(root, key, bundle))
    tumor = np.zeros((10, 24, 10), dtype=bool)
    tumor[1:4, 18:22, 8:10] = True
    write_image(Volume(array=tumor, affine=AFFINE), tumor_path(root, "sub-1"))
    return load_cohort(root)


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """The left bundle stops short of its front quarter and has a false slab behind; the right one is empty."""
    root = tmp_path / "predicted"
    write_description(root, "predicted")
    write_participants(root, pd.DataFrame({"participant_id": ["sub-1", "sub-2"]}))
    for key in ("sub-1", "sub-2"):
        guess = tube(1)
        guess[:, 15:] = False
        guess[1:4, 2:7, 6:8] = True
        write_image(Volume(array=guess, affine=AFFINE), mask_path(root, key, LEFT))
        write_image(Volume(array=np.zeros_like(guess), affine=AFFINE), mask_path(root, key, RIGHT))
    return root


def test_errors_are_found_where_they_are(cohort: Cohort, predicted: Path) -> None:
    """Misses lie in the front section, false voxels in the back one, and the sections' volumes add up."""
    table = score_sections(predicted, cohort, n_sections=4)
    left = table[(table["participant_id"] == "sub-1") & (table["hemisphere"] == "left")].set_index("section")
    assert left.loc[1, "false_negative_rate"] == 0
    assert left.loc[1, "false_positive_rate"] == pytest.approx(0.4, abs=0.05)
    assert left.loc[2, "dice"] == pytest.approx(1, abs=0.1)
    assert left.loc[3, "false_negative_rate"] == pytest.approx(0.4, abs=0.1)
    assert (left.loc[4, "status"], left.loc[4, "dice"], left.loc[4, "false_negative_rate"]) == ("missed", 0.0, 1.0)
    assert np.isnan(left.loc[4, "false_positive_rate"])
    assert left["reference_ml"].sum() == pytest.approx(tube(1).sum() * 0.008)
    assert left["prediction_ml"].sum() == pytest.approx((3 * 13 * 3 + 3 * 5 * 2) * 0.008)
    right = table[(table["participant_id"] == "sub-1") & (table["hemisphere"] == "right")]
    assert set(right["status"]) == {"missed"}


def test_sections_carry_their_distance_to_the_tumor(cohort: Cohort, predicted: Path) -> None:
    """Distances fall towards the tumor; controls have none; sides are those of the bundle."""
    table = score_sections(predicted, cohort, n_sections=4)
    left = table[(table["participant_id"] == "sub-1") & (table["hemisphere"] == "left")]
    assert left["tumor_distance_mm"].iloc[-1] == pytest.approx(4.0)
    assert left["tumor_distance_mm"].is_monotonic_decreasing
    assert set(left["side"]) == {"ipsi"}
    assert table.loc[table["participant_id"] == "sub-2", "tumor_distance_mm"].isna().all()


def test_bundles_without_prediction_are_unavailable(cohort: Cohort, predicted: Path) -> None:
    """Nothing is counted as missed where nobody predicted."""
    for key in ("sub-1", "sub-2"):
        mask_path(predicted, key, RIGHT).unlink()
    table = score_sections(predicted, cohort, n_sections=3, work=Work(jobs=2))
    right = table[table["hemisphere"] == "right"]
    assert set(right["status"]) == {"unavailable"}
    assert right[["dice", "prediction_ml"]].isna().all(axis=None)
    with pytest.raises(ConfigError, match="two sections or more; got 1"):
        score_sections(predicted, cohort, n_sections=1)
