import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from makers.segmentation import BUNDLES, PATCH, MakeModel, files_in, interrupted

from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.cohorts.folder import load_cohort, read_description
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.images import read_image, read_mask, write_image
from shiftkit.segmentation.prediction.cohort import predict, read_predictions
from shiftkit.types import Cohort


def test_predictions_lie_on_the_participants_own_grid(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Masks and probabilities have each image's shape, affine and axis order, LPS here."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    assert [case.key for case in made.cohort] == [case.key for case in controls] and not made.failed
    for case, source in zip(made.cohort, controls, strict=True):
        image = read_image(source.images["fa"])
        assert image.orientation == "LPS"
        for bundle in BUNDLES:
            probability, mask = read_image(case.probabilities[bundle]), read_mask(case.masks[bundle])
            for volume in (probability, mask):
                assert volume.shape == image.shape
                np.testing.assert_allclose(volume.affine, image.affine, atol=1e-5)
            assert probability.array.min() >= 0 and probability.array.max() <= 1
            near = np.abs(probability.array - 0.5) > 1 / 255
            assert np.array_equal(mask.array[near], probability.array[near] >= 0.5)


def test_predictions_say_what_they_were_made_from(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """The sidecars of masks and probabilities link to the images that the network saw, in a data set that is named."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu").cohort
    assert made.description["DatasetLinks"] == {"source": controls.name}
    for case, source in zip(made, controls, strict=True):
        folder = next(iter(case.masks.values())).parent
        for kind in ("mask", "probseg"):
            (link,) = json.loads((folder / f"{case.key}_{kind}.json").read_text())["Sources"]
            assert controls.root / link.removeprefix("bids:source:") == source.images["fa"]
            assert str(tmp_path) not in link
    bare = predict(make_model(), controls, out=tmp_path / "q", device="cpu", probabilities=False).cohort
    assert not list(bare.root.rglob("sub-*_probseg.nii.gz")) and not list(bare.root.rglob("sub-c00_probseg.json"))


def test_a_failed_case_does_not_stop_the_others(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """A participant without the modality is reported with the reason; all others are segmented."""
    bare = dataclasses.replace(controls.cases[1], images={"peaks": controls.cases[1].images["peaks"]})
    mixed = dataclasses.replace(controls, cases=(controls.cases[0], bare, *controls.cases[2:]))
    made = predict(make_model(), mixed, out=tmp_path / "p", device="cpu")
    assert list(made.failed) == [bare.key] and "reads fa" in made.failed[bare.key]
    assert len(made.cohort) == len(controls) - 1
    alone = dataclasses.replace(controls, cases=(bare,))
    with pytest.raises(ModelMismatchError, match="Model small reads fa; no participant of controls has that"):
        predict(make_model(), alone, out=tmp_path / "q", device="cpu")
    assert not (tmp_path / "q").exists()  # nothing that would pass for a result


def test_interrupted_prediction_resumes_to_the_same_bytes(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Stopped half-way and resumed, every file is that of an undisturbed run; another model is refused."""
    predict(make_model(), controls, out=tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        predict(make_model(), controls, out=tmp_path / "parts", device="cpu", work=interrupted("Segmenting", 2))
    with pytest.raises(ConfigError, match="resume"):
        predict(make_model(), controls, out=tmp_path / "parts", device="cpu")
    with pytest.raises(ConfigError, match="made otherwise: Digest is"):
        predict(make_model(seed=1), controls, out=tmp_path / "parts", device="cpu", resume=True)
    predict(make_model(), controls, out=tmp_path / "parts", device="cpu", resume=True)
    assert files_in(tmp_path / "whole") == files_in(tmp_path / "parts")


def test_predictions_read_back(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """A folder of predictions says who made it; a plain cohort is refused."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    again = read_predictions(tmp_path / "p")
    assert (again.model, again.modality, again.cohort) == (made.model, made.modality, made.cohort)
    with pytest.raises(DataError, match="which model"):
        read_predictions(controls.root)


def test_confidence_table_has_a_row_a_mask(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Every predicted mask has its expected Dice in the table, and its volume in ml."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    lines = (tmp_path / "p" / "tables" / "confidence.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(controls) * len(BUNDLES)
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    mask = read_mask(made.cohort[row["participant_id"]].masks[BUNDLES[0]])
    assert float(row["volume_ml"]) == pytest.approx(mask.array.sum() * 2.5**3 / 1000, abs=1e-3)
    assert json.loads((tmp_path / "p" / "dataset_description.json").read_text())["Model"]["Name"] == "small"


def test_the_window_is_part_of_a_predictions_record(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Predictions say which window was asked for, and are not resumed with another; impossible ones are refused."""
    one = dataclasses.replace(controls, cases=controls.cases[:1])
    model = make_model()
    made = predict(model, one, out=tmp_path / "p", window=PATCH, device="cpu")
    assert read_description(tmp_path / "p")["Model"]["Window"] == list(PATCH)
    with pytest.raises(ConfigError, match="made otherwise"):
        predict(model, one, out=tmp_path / "p", resume=True, device="cpu")
    plain = predict(dataclasses.replace(model, patch=PATCH), one, out=tmp_path / "q", device="cpu")
    assert "Window" not in read_description(tmp_path / "q")["Model"]
    for bundle in BUNDLES:
        asked, own = (read_image(each.cohort.cases[0].probabilities[bundle]).array for each in (made, plain))
        assert np.array_equal(asked, own)
    for window, words in (((10, 8, 8), "multiples of 4"), ((32, 8, 8), "within the model's box")):
        with pytest.raises(ConfigError, match=f"`window` must .*{words}"):
            predict(model, one, out=tmp_path / "r", window=window, device="cpu")
    assert not (tmp_path / "r").exists()


def test_an_image_that_changed_is_not_left_with_its_old_prediction(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Resumed over a changed image, the prediction is refused by name and the finished folder is left as it is.

    What says nothing of its image is made again.
    """
    root = Path(shutil.copytree(controls.root, tmp_path / "cohort"))
    cohort = load_cohort(root)
    predict(make_model(), cohort, out=tmp_path / "p", device="cpu")
    before, case = files_in(tmp_path / "p"), cohort.cases[0]
    note = next((tmp_path / "p").rglob(f"{case.key}_desc-confidence_probseg.json"))
    content = json.loads(note.read_text())
    note.write_text(json.dumps({"Confidence": content["Confidence"]}))
    predict(make_model(), cohort, out=tmp_path / "p", device="cpu", resume=True)
    assert files_in(tmp_path / "p") == before
    image = read_image(case.images["fa"])
    write_image(image.with_array(image.array * 0.5), case.images["fa"])
    with pytest.raises(ConfigError, match=rf"a prediction of {case.key} made otherwise: images\.fa"):
        predict(make_model(), cohort, out=tmp_path / "p", device="cpu", resume=True)
    assert files_in(tmp_path / "p") == before


def test_predictions_of_an_earlier_version_are_made_again(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """What an earlier version computed otherwise is neither kept beside new masks nor in the way of a resume."""
    predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    whole = files_in(tmp_path / "p")
    case = controls.cases[0]
    note = next((tmp_path / "p").rglob(f"{case.key}_desc-confidence_probseg.json"))
    content = json.loads(note.read_text(encoding="utf-8"))
    content["Made"]["format"] -= 1
    note.write_text(json.dumps(content), encoding="utf-8")
    mask = next((tmp_path / "p" / case.participant_id).rglob("*_mask.nii.gz"))
    mask.write_bytes(b"of that version")
    predict(make_model(), controls, out=tmp_path / "p", device="cpu", resume=True)
    assert files_in(tmp_path / "p") == whole


def test_interrupted_predictions_are_unfinished_and_never_scored(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Masks not yet written must not count as missed: reading and scoring name the state, until it is resumed."""
    with pytest.raises(KeyboardInterrupt):
        predict(make_model(), controls, out=tmp_path / "p", device="cpu", work=interrupted("Segmenting", 2))
    for use in (read_predictions, find_predictions):
        with pytest.raises(DataError, match="unfinished"):
            use(tmp_path / "p")
    predict(make_model(), controls, out=tmp_path / "p", device="cpu", resume=True)
    assert read_predictions(tmp_path / "p").cohort.cases
