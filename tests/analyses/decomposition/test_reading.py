"""One pass over the images of a decomposition gives what each analysis would make by itself."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from makers.tubes import SHAPE, two_groups

from shiftkit.analyses.decomposition.reading import N_SECTIONS, read_once
from shiftkit.analyses.decomposition.shells.counts import Counting, count_healthy, keep_masks
from shiftkit.analyses.decomposition.shells.study import EDGES_MM, common_bundles, shells
from shiftkit.analyses.distance import tumor as tumors
from shiftkit.analyses.scoring.cases import Look, read_cases
from shiftkit.analyses.scoring.error_maps import error_voxels, places_of
from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.analyses.scoring.sections import score_sections
from shiftkit.analyses.scoring.study import score
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.work import Work

HERE = Work(jobs=1)
INFERENCE = Inference(n_bootstrap=60)
NAMES = ("m", "fa")


@pytest.fixture
def groups(tmp_path: Path) -> Any:
    """Patients and controls with predictions; one patient and one control were not predicted."""
    tumor = np.zeros(SHAPE, dtype=bool)
    tumor[0:4, 10:14, 10:13] = True
    made, glioma, found, healthy = two_groups(tmp_path, tumor, slice(10, 14))
    made = replace(made, cohort=made.cohort.where(lambda case: case.key != "sub-g5"), failed={"sub-g5": "lost"})
    found = replace(found, cohort=found.cohort.where(lambda case: case.key != "sub-h3"))
    tuned = replace(made, model="tuned", cohort=glioma.where(lambda case: case.key != "sub-g0"))
    return made, glioma, found, healthy, tuned


def read(groups: Any, **options: Any) -> Any:
    made, glioma, found, healthy, tuned = groups
    predictions = {"patients": [made, tuned], "controls": [found]}
    return read_once(predictions, {"patients": glioma, "controls": healthy}, work=HERE, **options)


def counted_alone(made: Any, glioma: Any, found: Any, healthy: Any) -> Any:
    """Errors of patients and of controls, counted in looks of their own."""
    bundles = common_bundles(glioma, healthy, made, found)
    (kept,) = read_cases(healthy, [Look(predicted=find_predictions(found), readers={"kept": keep_masks})], HERE)
    controls, places = count_healthy(
        kept["kept"], bundles, healthy, found.failed, bundles=bundles, n_sections=N_SECTIONS, work=HERE
    )
    counting = Counting(bundles=bundles, places=places, edges_mm=EDGES_MM)
    (counted,) = read_cases(glioma, [Look(predicted=find_predictions(made), readers={"counts": counting})], HERE)
    return counting.collect(counted["counts"], bundles, glioma, made.failed), controls


def predicted_part(one: Any, cohort: Any) -> Any:
    keys = {case.key for case in one.cohort}
    return cohort.where(lambda case: case.key in keys)


def test_one_pass_gives_what_each_analysis_makes_by_itself(groups: Any):
    """Scores of every model, sections, error places and shells are the same to the last bit; failed cases are named."""
    made, glioma, found, healthy, tuned = groups
    reading = read(groups, metrics=("dice", "hd95"))
    for table, (one, cohort) in zip(
        (*reading.scores["patients"], *reading.scores["controls"]),
        ((made, glioma), (tuned, glioma), (found, healthy)),
        strict=True,
    ):
        part = predicted_part(one, cohort)
        assert len(part) < len(cohort)
        pd.testing.assert_frame_equal(table.frame, score(one, part, metrics=("dice", "hd95"), work=HERE).frame)
    by_itself = [
        score_sections(one, predicted_part(one, cohort), work=HERE)
        for one, cohort in ((made, glioma), (found, healthy))
    ]
    pd.testing.assert_frame_equal(reading.sections, pd.concat(by_itself, ignore_index=True))
    (voxels,) = read_cases(glioma, [Look(predicted=find_predictions(made), readers={"places": error_voxels})], HERE)
    alone = places_of(voxels["places"], glioma.bundles)
    assert {bundle: one.n for bundle, one in reading.places.items()} == dict.fromkeys(alone, 5)
    assert all((one.missed == reading.places[bundle].missed).all() for bundle, one in alone.items())
    assert reading.everywhere is not None and reading.everywhere.n == reading.tumors.n == 5
    assert all((reading.everywhere.missed >= one.missed).all() for one in alone.values())
    expected = shells(*counted_alone(made, glioma, found, healthy), NAMES, inference=INFERENCE)
    given = shells(*reading.counts, NAMES, inference=INFERENCE)
    pd.testing.assert_frame_equal(given.components, expected.components)
    pd.testing.assert_frame_equal(given.table, expected.table)
    assert given.skipped == expected.skipped == ("sub-g5: lost", "sub-h3: there is no prediction")


def test_each_image_is_opened_once_and_each_tumor_measured_once(groups: Any, monkeypatch: pytest.MonkeyPatch):
    """References, tumors and predictions of two models and two cohorts are opened once, one distance map a patient."""
    import nibabel as nib

    opened: Counter[str] = Counter()
    measured: list[int] = []
    load, measure = nib.Nifti1Image.from_filename, tumors.edge_distance_map

    def counted(path: Any, *args: Any, **options: Any) -> Any:
        opened[str(path)] += 1
        return load(path, *args, **options)

    def once(*args: Any) -> Any:
        measured.append(1)
        return measure(*args)

    monkeypatch.setattr(nib.Nifti1Image, "from_filename", counted)
    monkeypatch.setattr(tumors, "edge_distance_map", once)
    _, glioma, _, healthy, tuned = groups
    reading = read(groups)
    result = shells(*reading.counts, NAMES, inference=INFERENCE)
    assert len(result.table)
    references = {str(path) for cohort in (glioma, healthy) for case in cohort for path in case.masks.values()}
    assert references <= set(opened)
    # The tuned model's predictions are the references themselves here: those are opened once more, as predictions.
    again = {str(path) for case in tuned.cohort for path in case.masks.values()}
    assert {path: n for path, n in opened.items() if n != 1 + (path in again)} == {}
    assert len(measured) == len(glioma)


def test_without_shells_nothing_is_counted(groups: Any):
    """Other metrics than Dice have no shells: scores and sections are made all the same."""
    reading = read(groups, shells=False)
    assert reading.counts is None
    assert len(reading.scores["patients"][0].frame) == 5 * 2
