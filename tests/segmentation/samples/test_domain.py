"""How far images lie from those of a training: nothing unusual is silent, and nothing usual is called unusual."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from makers.segmentation import RECIPE, MakeModel, write_cohort

from shiftkit import cohorts
from shiftkit.errors import DataError, ShiftkitWarning
from shiftkit.images import read_image, write_image
from shiftkit.pipeline.inputs import notes_of, said_of_input, warnings_of
from shiftkit.segmentation.network.checkpoints import load_model, save_model
from shiftkit.segmentation.samples import domain
from shiftkit.segmentation.samples.domain import domain_of, measure_all, measure_images, nearness
from shiftkit.segmentation.training.processes import alone
from shiftkit.segmentation.training.recipes import recall_images, train_by
from shiftkit.types import Case, Cohort, Volume
from shiftkit.work import Work


@pytest.fixture
def many(tmp_path: Path) -> Cohort:
    """Twenty controls: few tell nothing of a range."""
    return write_cohort(tmp_path / "many", 20)


def changed(case: Case, path: Path, change: str) -> Case:
    """The same participant with another image."""
    volume = read_image(case.images["fa"])
    array, affine = volume.array.copy(), volume.affine.copy()
    if change == "spacing":
        affine[:3] *= 2
    elif change == "intensity":
        array *= 1000
    else:
        array[:, :, 8:] = 0
    write_image(Volume(array=array, affine=affine), path)
    return dataclasses.replace(case, images={"fa": path})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("spacing", r"voxel size 5 mm, 2\.5 mm in training"),
        ("intensity", r"intensity of fa \d+, 0\.\d+ in training"),
        ("coverage", r"missing coverage: brain from bottom to top 1\d mm, 3[0-9.]+ mm in training"),
    ],
)
def test_who_is_out_of_range_is_named_with_the_reason(many: Cohort, tmp_path: Path, change: str, words: str) -> None:
    """One participant of two with another spacing, scale or coverage is named; the other one is not."""
    known = domain_of(list(measure_all(many.cases[:-2], "fa").values()))
    usual, strange = many.cases[-2], changed(many.cases[-1], tmp_path / "other.nii.gz", change)
    near = nearness("m", [known], "fa", dataclasses.replace(many, cases=(usual, strange)))
    assert [one.key for one in near.outside] == [strange.key]
    assert re.search(rf"1 of 2 participants .* up to .*\({strange.key}: .*{words}", str(near)), str(near)


def test_the_length_of_peaks_is_measured(many: Cohort, tmp_path: Path) -> None:
    """Peaks of another scale are told, though what the network sees is scaled to the same."""
    known = domain_of(list(measure_all(many.cases[:-1], "peaks").values()))
    case = many.cases[-1]
    volume = read_image(case.images["peaks"])
    path = tmp_path / "sub-x_param-peaks_dwimap.nii.gz"
    write_image(volume.with_array(volume.array * np.float32(20)), path)
    cohorts.write_peaks_sidecar(path)
    strange = dataclasses.replace(case, images={"peaks": path})
    near = nearness("m", [known], "peaks", dataclasses.replace(many, cases=(strange,)))
    assert "length of peaks" in str(near)


def test_people_like_the_training_are_in_range(many: Cohort) -> None:
    """Nobody of the training itself is out of range, and few participants make no range."""
    measured = list(measure_all(many.cases, "fa").values())
    near = nearness("m", [domain_of(measured)], "fa", many)
    assert not near.outside and 0 < near.farthest < 4 and "all 20 participants" in str(near)
    assert not nearness("m", [domain_of(measured[:2])], "fa", many).outside


def test_of_several_trainings_the_nearest_counts(many: Cohort, tmp_path: Path) -> None:
    """A model that was tuned on a scanner's images does not call these strange."""
    source = domain_of(list(measure_all(many.cases, "fa").values()))
    others = [changed(case, tmp_path / f"{case.key}.nii.gz", "intensity") for case in many.cases]
    tuned = domain_of(list(measure_all(others, "fa").values()))
    cohort = dataclasses.replace(many, cases=tuple(others[:3]))
    assert len(nearness("m", [source], "fa", cohort).outside) == 3
    assert not nearness("m", [source, tuned], "fa", cohort).outside


def test_an_absurd_image_is_told_as_absurd(tmp_path: Path, many: Cohort) -> None:
    """Empty images are refused; values near the largest of their type do not overflow."""
    case, path = many.cases[0], tmp_path / "a.nii.gz"
    grid = read_image(case.images["fa"])
    for value, fine in ((0.0, False), (3e38, True)):
        write_image(grid.with_array(np.full_like(grid.array, value)), path)
        other = dataclasses.replace(case, images={"fa": path})
        if fine:
            assert np.isfinite(list(measure_images(other, "fa").values())).all()
        else:
            with pytest.raises(DataError, match="empty"):
                measure_images(other, "fa")


def test_images_are_measured_once_until_they_change(tmp_path: Path, many: Cohort) -> None:
    """In one process the same images are not measured twice; changed ones are, also where name and size stay."""
    case = changed(many.cases[0], tmp_path / "a.nii.gz", "intensity")
    first = measure_all([case], "fa")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(domain, "measure_images", lambda *_: pytest.fail("measured twice"))
        assert measure_all([case], "fa") == first
    grid = read_image(case.images["fa"])
    write_image(grid.with_array(grid.array / 2), case.images["fa"])
    assert measure_all([case], "fa")[case.key] == measure_images(case, "fa") != first[case.key]


def test_a_training_keeps_what_its_images_were_like(controls: Cohort, tmp_path: Path) -> None:
    """The checkpoint says it, gives it back, and a checkpoint of before gets the same from its own participants."""
    settled = dataclasses.replace(RECIPE, epochs=1).settled(controls)
    how = {"resume": False, "stage": "Training", "processes": alone("cpu"), "work": Work()}
    train_by(settled, controls, controls.cases, [], out=tmp_path / "m", **how)
    model = load_model(tmp_path / "m")
    assert model.image_statistics == (domain_of(list(measure_all(controls.cases, "fa").values())),)
    save_model(dataclasses.replace(model, image_statistics=()), tmp_path / "old")
    old = load_model(tmp_path / "old")
    assert old.image_statistics == ()
    assert recall_images(tmp_path / "old", controls) == len(controls)
    again = load_model(tmp_path / "old")
    assert again.image_statistics == model.image_statistics and again.digest == model.digest
    with pytest.raises(DataError, match="everybody"):
        recall_images(tmp_path / "old", dataclasses.replace(controls, cases=controls.cases[1:]))


def test_what_is_said_at_the_start_in_the_verdict_and_on_the_page(
    many: Cohort, tmp_path: Path, make_model: MakeModel
) -> None:
    """Out of range it is a warning, in range a note, and of a checkpoint of before a note that nothing is known."""
    known = domain_of(list(measure_all(many.cases, "fa").values()))
    model = dataclasses.replace(make_model(), image_statistics=(known,))
    strange = changed(many.cases[0], tmp_path / "other.nii.gz", "intensity")
    cohort = dataclasses.replace(many, cases=(strange, *many.cases[1:]))
    with pytest.warns(ShiftkitWarning, match="1 of 20 participants"):
        near = said_of_input(model, cohort)
    assert warnings_of(model, cohort, *near) == (str(near[0]),) and notes_of(*near) == ()
    near = said_of_input(model, many)
    assert warnings_of(model, many, *near) == () and "all 20" in notes_of(*near)[0]
    assert "not known" in notes_of(*said_of_input(make_model(), many))[0]
