"""A world of voxels: counts, scores and truth of the same masks."""

import numpy as np
import pytest

from shiftkit.analyses.validation.study import validate_voxels
from shiftkit.analyses.validation.voxels import VoxelScenario, simulate_voxels
from shiftkit.catalogue import VALIDATION
from shiftkit.tables import parse_table
from shiftkit.work import Work


def test_scores_and_counts_are_of_the_same_masks() -> None:
    """Dice from the counts is the table's, and what patients lose in all is about what controls have more."""
    drawn = simulate_voxels(VoxelScenario(n_patients=60, n_controls=60), np.random.default_rng(0))
    for counts, group in ((drawn.patients, "glioma"), (drawn.controls, "control")):
        reference, missed, predicted, false = (
            one.sum(axis=(2, 3)) for one in (counts.reference, counts.missed, counts.predicted, counts.false)
        )
        assert (reference - missed == predicted - false).all()
        values = drawn.frame.loc[drawn.frame["group"] == group, "value"].to_numpy()
        assert (2 * (reference - missed) / (reference + predicted)).ravel() == pytest.approx(values)
    means = drawn.frame.groupby("group")["value"].mean()
    assert means["control"] - means["glioma"] == pytest.approx(sum(drawn.truth), abs=0.03)


def test_errors_fade_with_the_distance_to_the_tumor() -> None:
    """Without an effect no voxel near the tumor is lost for its sake; with one it costs more than 0.02 Dice."""
    none, some = (
        simulate_voxels(VoxelScenario(tumor=tumor), np.random.default_rng(1)).truth.tumor for tumor in (0.0, 2.0)
    )
    assert none == 0 and some > 0.02


def test_estimators_of_scores_and_of_voxels_find_the_truth() -> None:
    """In ten cohorts a world neither is off by 0.03, and none says the contrary of the other."""
    found = validate_voxels(10, work=Work(jobs=1)).to_frame()
    parse_table(found, VALIDATION, "validation")
    values = found.set_index(["cell", "property"])["value"].unstack()
    assert (values[["bias of S", "shells: bias of S", "shells: bias of tumor"]].abs() < 0.03).all(axis=None)
    assert (values["words that contradict"] == 0).all()
