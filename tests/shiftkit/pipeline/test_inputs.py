"""Who takes part: controls that somebody named, and nobody lost in silence."""

from pathlib import Path

import pytest

from shiftkit.cohorts.folder import load_cohort
from shiftkit.errors import ConfigError, DataError
from shiftkit.pipeline.inputs import (
    bystanders,
    find_controls,
    find_patients,
    one_session,
    require_apart,
    require_understood,
)
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


def test_cohorts_that_both_number_from_one_are_refused(tmp_path: Path) -> None:
    """An identifier in patients and controls is named with the cure; others may stand beside each other."""
    patients = cohort(tmp_path / "p", {"sub-1": "glioma", "sub-2": "glioma"}, ["sub-1", "sub-2"])
    controls = cohort(tmp_path / "h", {"sub-2": "control", "sub-3": "control"}, ["sub-2", "sub-3"])
    with pytest.raises(DataError, match="sub-2 stand in patients and controls; rename"):
        require_apart({"patients": patients, "controls": controls})
    require_apart({"patients": patients, "controls": controls.where(lambda case: case.key == "sub-3")})
