import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.segmentation import MakeModel, files_in, interrupted

from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image
from shiftkit.segmentation.network.checkpoints import Model, save_model
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.segmentation.prediction.inference import predict_probabilities
from shiftkit.segmentation.prediction.routing import Folds, fold_folders, open_models
from shiftkit.segmentation.training.recipes import digests
from shiftkit.types import Cohort


@pytest.fixture
def folds(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> Path:
    """Three folds: patients 0 and 1 unseen by one each, 2 seen by all, the others by none."""
    seen = ((1, 2), (0, 2), (0, 1, 2))
    for number, members in enumerate(seen, start=1):
        cases = [patients.cases[index] for index in members]
        model = dataclasses.replace(make_model(seed=number), participants=digests(cases, "fa"), name=f"fold-{number}")
        save_model(model, tmp_path / "src" / f"fold-{number}")
    return tmp_path / "src"


def test_each_participant_gets_the_models_that_never_saw_them(folds: Path, patients: Cohort, tmp_path: Path) -> None:
    """Masks are those of the unseen fold, or of the mean of several; the table of routes says which they were."""
    models = open_models([folds])
    assert isinstance(models, Folds) and models.name == "src×3"
    made = predict(models, patients, out=tmp_path / "p", device="cpu")
    routes = pd.read_csv(tmp_path / "p" / "tables" / "routes.tsv", sep="\t", keep_default_na=False)
    assert routes["folds"].tolist() == ["fold-1", "fold-2", "n/a", *["fold-1 fold-2 fold-3"] * 3]
    for index, route in ((0, ["fold-1"]), (1, ["fold-2"]), (4, ["fold-1", "fold-2", "fold-3"])):
        case = patients.cases[index]
        expected = predict_probabilities([models.models[name] for name in route], case)
        for bundle, volume in expected.items():
            written = read_image(made.cohort[case.key].probabilities[bundle]).array
            np.testing.assert_allclose(written, volume.array, atol=0.51 / 255)


def test_whom_every_fold_has_seen_fails_with_a_reason(folds: Path, patients: Cohort, tmp_path: Path) -> None:
    """The others are segmented; a cohort of nobody else is an error and leaves no folder."""
    models = open_models([folds])
    made = predict(models, patients, out=tmp_path / "p", device="cpu")
    seen = patients.cases[2].key
    assert set(made.failed) == {seen} and "every fold of src×3 was trained or tuned on" in made.failed[seen]
    assert len(made.cohort) == len(patients) - 1
    alone = patients.where(lambda case: case.key == seen)
    with pytest.raises(DataError, match="have seen all 1 cases of patients"):
        predict(models, alone, out=tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_a_participant_is_known_by_the_image_whatever_the_name_and_in_every_session(
    folds: Path, patients: Cohort
) -> None:
    """Renamed participants keep their routes, and a new scan of somebody seen is not routed to who saw them."""
    models = open_models([folds])
    assert isinstance(models, Folds)
    renamed = [dataclasses.replace(case, participant_id=f"sub-x{i}") for i, case in enumerate(patients)]
    again = dataclasses.replace(patients, cases=tuple(renamed))
    assert list(models.routes(again).values()) == list(models.routes(patients).values())
    known, new = patients.cases[0], patients.cases[4]
    sessions = tuple(
        dataclasses.replace(case, participant_id="sub-1", session=f"ses-{i}") for i, case in enumerate((known, new))
    )
    routes = models.routes(dataclasses.replace(patients, cases=sessions))
    assert set(routes.values()) == {("fold-1",)}


def test_an_interrupted_prediction_resumes_to_the_same_bytes(folds: Path, patients: Cohort, tmp_path: Path) -> None:
    """Stopped after two participants and resumed, the files are those of an undisturbed run; other options are not."""
    models = open_models([folds])
    options = {"device": "cpu", "probabilities": False}
    predict(models, patients, out=tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        predict(models, patients, out=tmp_path / "parts", work=interrupted("Segmenting", 2), **options)
    with pytest.raises(ConfigError, match="made otherwise: Mirrored is nothing there, True now"):
        predict(models, patients, out=tmp_path / "parts", resume=True, mirrored=True, **options)
    predict(models, patients, out=tmp_path / "parts", resume=True, **options)
    whole = files_in(tmp_path / "whole")
    assert len(whole) > 15 and not any("probseg.nii" in file.name for file in whole)
    assert whole == files_in(tmp_path / "parts")


def test_what_is_named_decides_how_it_is_used(folds: Path, patients: Cohort, tmp_path: Path) -> None:
    """A checkpoint is one model, several are averaged, a folder of folds is routed and cannot be one of several."""
    paths = fold_folders(folds)
    assert [path.name for path in paths] == ["fold-1", "fold-2", "fold-3"]
    assert isinstance(open_models(paths[:1]), Model) and fold_folders(paths[0]) == []
    several = open_models(paths)
    assert isinstance(several, list)
    with pytest.raises(ConfigError, match="is a folder of folds"):
        open_models([folds, paths[0]])
    one = patients.where(lambda case: case is patients.cases[4])
    averaged = predict(several, one, out=tmp_path / "a", device="cpu")
    routed = predict(open_models([folds]), one, out=tmp_path / "b", device="cpu")
    for bundle, path in averaged.cohort.cases[0].masks.items():
        assert np.array_equal(read_image(path).array, read_image(routed.cohort.cases[0].masks[bundle]).array)
