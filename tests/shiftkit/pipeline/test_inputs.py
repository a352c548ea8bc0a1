"""Who takes part: controls that somebody named, and nobody lost in silence."""

import dataclasses
import warnings
from pathlib import Path

import pytest
from makers.segmentation import small_model, write_cohort

from shiftkit.cohorts.folder import load_cohort
from shiftkit.errors import ConfigError, DataError, ShiftkitWarning
from shiftkit.images import read_image, write_image
from shiftkit.pipeline.inputs import (
    bystanders,
    find_controls,
    find_patients,
    gather,
    one_session,
    require_apart,
    require_understood,
)
from shiftkit.segmentation.network.checkpoints import save_model
from shiftkit.segmentation.samples.domain import domain_of, measure_all
from shiftkit.types import Cohort


def cohort(root: Path, rows: dict[str, str], folders: list[str]) -> Cohort:
    for folder in folders:
        (root / folder).mkdir(parents=True)
    lines = [f"{name}\t{group}" for name, group in rows.items()]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tgroup ", *lines]) + "\n")
    return load_cohort(root)


def test_nobody_is_compared_with_controls_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without own controls or a registered cohort the phantom does not stand in; each of the two is taken."""
    monkeypatch.chdir(tmp_path)
    patients = cohort(tmp_path / "p", {"sub-1": "glioma"}, ["sub-1"])
    with pytest.raises(ConfigError, match=r"`reference`.*shiftkit.toml"):
        find_controls(patients)
    both = cohort(tmp_path / "both", {"sub-1": "glioma", "sub-2": "HC"}, ["sub-1", "sub-2"])
    assert [case.key for case in find_controls(both)] == ["sub-2"]
    cohort(tmp_path / "h", {"sub-9": "control"}, ["sub-9"])
    (tmp_path / "shiftkit.toml").write_text('[cohorts]\nhealthy = "h"\n')
    assert [case.key for case in find_controls(patients)] == ["sub-9"]


def test_spellings_of_people_are_understood_or_named(tmp_path: Path) -> None:
    """Zeros, prefixes and capitals cost nobody; a folder without a row and an unknown group are refused."""
    understood = cohort(tmp_path / "a", {"4": "Glioma ", "SUB-005": "Patient"}, ["sub-004", "sub-005"])
    assert [case.key for case in find_patients(understood)] == ["sub-004", "sub-005"]
    lost = cohort(tmp_path / "b", {"sub-4": "glioma", "sub-2": "glioma"}, ["sub-g004", "sub-2"])
    with pytest.raises(DataError, match="sub-g004 has a folder and no row; rows without a folder: sub-4"):
        require_understood(lost)
    strange = cohort(tmp_path / "c", {"sub-1": "meningioma", "sub-2": "glioma"}, ["sub-1", "sub-2"])
    with pytest.raises(DataError, match="group of sub-1 is 'meningioma'"):
        find_patients(strange)


def test_who_cannot_take_part_is_told_with_the_reason(tmp_path: Path) -> None:
    """A row without a folder and a participant without a group are counted, not refused."""
    some = cohort(tmp_path / "a", {"sub-1": "glioma", "sub-2": "n/a", "sub-3": "glioma"}, ["sub-1", "sub-2"])
    assert bystanders(some) == {"sub-3": "no folder", "sub-2": "no group in participants.tsv"}


def test_one_session_of_each_patient(tmp_path: Path) -> None:
    """Two sessions are refused before anything is computed, and one can be chosen."""
    twice = cohort(tmp_path / "a", {"sub-1": "glioma"}, ["sub-1/ses-pre", "sub-1/ses-post"])
    with pytest.raises(DataError, match="`session`"):
        one_session(twice, None)
    assert [case.key for case in one_session(twice, "pre")[0]] == ["sub-1_ses-pre"]


def test_whoever_lies_outside_the_training_is_told_patients_and_controls(tmp_path: Path) -> None:
    """Controls of another scanner are named at the start and with every number, patients like the training are not."""
    trained = write_cohort(tmp_path / "trained", 12, prefix="t")
    statistics = domain_of(list(measure_all(trained.cases, "fa").values()))
    save_model(dataclasses.replace(small_model(), image_statistics=(statistics,)), tmp_path / "model")
    patients = write_cohort(tmp_path / "patients", 4, group="glioma", prefix="g")
    controls = write_cohort(tmp_path / "controls", 3, prefix="h")
    for case in controls:
        volume = read_image(case.images["fa"])
        write_image(volume.with_array(3 * volume.array), case.images["fa"])
    with pytest.warns(ShiftkitWarning, match="3 of 3 participants of controls lie outside") as told:
        inputs = gather(tmp_path / "model", patients, controls)
    assert len(told) == 1 and "intensity of fa" in str(told[0].message)
    assert [one.cohort for one in inputs.near] == ["patients", "controls"] and not inputs.near[0].outside
    assert inputs.warnings == (str(inputs.near[1]),) and inputs.notes == (str(inputs.near[0]),)


def test_the_built_in_model_on_images_that_are_no_phantom_is_told(tmp_path: Path) -> None:
    """One sentence at the start, which stands with every number of the run; nothing of it is said of a phantom."""
    patients = write_cohort(tmp_path / "mine", 3, group="glioma", prefix="g")
    controls = write_cohort(tmp_path / "own", 3, prefix="h")
    drawn = dataclasses.replace(patients, description={**patients.description, "Phantom": {}})
    for cohort, n in ((patients, 1), (drawn, 0)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            inputs = gather("reference", cohort, controls)
        said = tuple(str(one.message) for one in told if issubclass(one.category, ShiftkitWarning))
        assert said == inputs.warnings and sum("mine is no phantom" in one for one in said) == n
        assert sum("lie outside" in one for one in said) == 2


def test_cohorts_that_both_number_from_one_are_refused(tmp_path: Path) -> None:
    """An identifier in patients and controls is named with the cure; others may stand beside each other."""
    patients = cohort(tmp_path / "p", {"sub-1": "glioma", "sub-2": "glioma"}, ["sub-1", "sub-2"])
    controls = cohort(tmp_path / "h", {"sub-2": "control", "sub-3": "control"}, ["sub-2", "sub-3"])
    with pytest.raises(DataError, match="sub-2 stand in patients and controls; rename"):
        require_apart({"patients": patients, "controls": controls})
    require_apart({"patients": patients, "controls": controls.where(lambda case: case.key == "sub-3")})
