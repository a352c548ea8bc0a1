import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.distance.case import Anatomy
from shiftkit.cli import main
from shiftkit.cohorts import load_cohort
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image, read_mask
from shiftkit.phantoms.implants import Implanted, implant
from shiftkit.types import Cohort
from shiftkit.work import Work


@pytest.fixture(scope="module")
def people(phantoms: Callable[..., dict[str, Cohort]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cohort]:
    return phantoms(tmp_path_factory.mktemp("people"), n_healthy=3, n_glioma=2, spacing_mm=5, seed=7)


@pytest.fixture(scope="module")
def made(people: dict[str, Cohort], tmp_path_factory: pytest.TempPathFactory) -> Implanted:
    out = tmp_path_factory.mktemp("implanted") / "cohort"
    return implant(people["healthy"], out, like=people["glioma"], seed=3, work=Work(jobs=1))


def digests(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and ".lock" not in path.name]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth_of(cohort: Cohort, key: str) -> dict:
    return json.loads((cohort.root / key / "anat" / f"{key}_desc-truth_implant.json").read_text())


def test_the_same_people_are_patients_now(made: Implanted, people: dict[str, Cohort]) -> None:
    """Ids, images and masks are those of the healthy cohort; group, side and volume are a patient's."""
    healthy, cohort = people["healthy"], load_cohort(made.cohort.root)
    assert [one.key for one in cohort] == [one.key for one in healthy] and not made.failed
    for before, after in zip(healthy, cohort, strict=True):
        assert after.group == "glioma" and after.attributes["tumor_side"] in ("left", "right", "bilateral")
        assert set(after.images) == set(before.images) and set(after.masks) == set(before.masks)
        assert after.attributes["age"] == before.attributes["age"]
        assert after.tumor is not None and after.number("tumor_volume_ml") == pytest.approx(
            read_mask(after.tumor).array.sum() * 0.125, abs=0.01
        )
    assert {bundle.label for bundle in cohort.bundles} == {bundle.label for bundle in healthy.bundles}


def test_volumes_are_those_of_the_patients(made: Implanted, people: dict[str, Cohort]) -> None:
    """To what voxels of 5 mm allow; all patients are used, and it is told whose tumor was copied."""
    volumes = {case.key: case.number("tumor_volume_ml") for case in people["glioma"]}
    truths = [truth_of(made.cohort, case.key) for case in made.cohort]
    assert {one["tumor_copied_from"] for one in truths} == set(volumes)
    for one in truths:
        assert one["tumor_volume_ml"] == pytest.approx(volumes[one["tumor_copied_from"]], rel=0.08)
        assert one["jacobian_range"][0] > 0 and one["displacement_max_mm"] > 1


def test_bundles_do_not_grow(made: Implanted) -> None:
    """Of no participant is a reference mask more than a tenth larger with the tumor; voxels of 5 mm move by as much."""
    volumes = [pair for case in made.cohort for pair in truth_of(made.cohort, case.key)["bundle_volume_ml"].values()]
    assert len(volumes) > 20 and max(after / before for before, after in volumes) < 1.1
    assert min(after / before for before, after in volumes) < 0.95


def test_truth_lies_beside_the_images(made: Implanted) -> None:
    """Displacement in mm on the images' grid, and the mask of edema, which is no bundle's."""
    for case in made.cohort:
        folder = case.images["t1w"].parent
        moved = read_image(folder / f"{case.key}_desc-masseffect_displacement.nii.gz")
        edema = read_mask(folder / f"{case.key}_desc-edema_mask.nii.gz")
        assert moved.array.shape == (*read_image(case.images["fa"]).shape, 3) and edema.array.any()
        assert np.linalg.norm(moved.array, axis=-1).max() == pytest.approx(
            truth_of(made.cohort, case.key)["displacement_max_mm"], rel=1e-4
        )


def test_the_number_of_processes_changes_nothing(made: Implanted, people: dict[str, Cohort], tmp_path: Path) -> None:
    """Two processes write the same bytes as one; another seed does not."""
    like = people["glioma"]
    implant(people["healthy"], tmp_path / "two", like=like, seed=3, work=Work(jobs=2))
    assert digests(tmp_path / "two") == digests(made.cohort.root)
    one = people["healthy"].where(lambda case: case.key == "sub-h001")
    other = implant(one, tmp_path / "other", like=like, seed=4, work=Work(jobs=1)).cohort
    assert truth_of(other, "sub-h001") != truth_of(made.cohort, "sub-h001")


def test_an_interrupted_cohort_is_continued(made: Implanted, people: dict[str, Cohort], tmp_path: Path) -> None:
    """What is complete is kept and what lacks its truth made again, to the same bytes; other settings are refused."""
    one = people["healthy"].where(lambda case: case.key == "sub-h001")
    out = tmp_path / "half"
    implant(one, out, volume_cm3=20, work=Work(jobs=1))
    before = digests(out)
    (out / "sub-h001" / "anat" / "sub-h001_desc-truth_implant.json").unlink()
    (out / "sub-h001" / "dwi" / "sub-h001_param-fa_dwimap.nii.gz").unlink()
    implant(one, out, volume_cm3=20, resume=True, work=Work(jobs=1))
    assert digests(out) == before
    with pytest.raises(ConfigError, match="another volume_ml"):
        implant(one, out, volume_cm3=30, resume=True)
    with pytest.raises(ConfigError, match="`resume`"):
        implant(one, out, volume_cm3=20)


def test_no_volume_gives_the_same_images_and_several_tumors_are_sessions(
    people: dict[str, Cohort], tmp_path: Path
) -> None:
    """Of volume 0 every image and mask is the healthy one's; two implants are two sessions of one participant."""
    one = people["healthy"].where(lambda case: case.key == "sub-h001")
    made = implant(one, tmp_path / "none", volume_cm3=0, n_implants=2, work=Work(jobs=1)).cohort
    assert [case.key for case in made] == ["sub-h001_ses-implant1", "sub-h001_ses-implant2"]
    for case in made:
        for name, path in case.images.items():
            assert (read_image(path).array == read_image(one[0].images[name]).array).all(), name
        for bundle, path in case.masks.items():
            assert (read_mask(path).array == read_mask(one[0].masks[bundle]).array).all(), bundle


def test_of_several_tumors_each_has_its_own_volume_and_side(people: dict[str, Cohort], tmp_path: Path) -> None:
    """The one row of a participant says n/a of both, so that each session's mask tells them."""
    one = people["healthy"].where(lambda case: case.key == "sub-h001")
    made = implant(one, tmp_path / "two", n_implants=2, seed=2, work=Work(jobs=1)).cohort
    assert not any({"tumor_volume_ml", "tumor_side"} & set(case.attributes) for case in made)
    for case in made:
        truth = json.loads(next((made.root / "sub-h001").rglob(f"{case.key}_desc-truth_implant.json")).read_text())
        found = Anatomy.of(case, sorted(case.masks))
        assert found.tumor_volume_ml == pytest.approx(truth["tumor_volume_ml"], abs=0.01)
        assert found.tumor_side == truth["tumor_side"]


def test_bad_input_is_refused(people: dict[str, Cohort], tmp_path: Path) -> None:
    """Patients without healthy people, nobody to copy, two volumes, an unknown shape: each in one sentence."""
    healthy, patients = people["healthy"], people["glioma"]
    for wrong, error, match in (
        ({"cohort": patients}, DataError, "nobody of group control"),
        ({"like": healthy}, DataError, "nobody of .* has one that is not empty"),
        ({"like": patients, "volume_cm3": 3.0}, ConfigError, "both are given"),
        ({"out": healthy.root / "implanted"}, ConfigError, "implanted lies in the folder of healthy"),
        ({"like": patients, "out": patients.root}, ConfigError, "lies in the folder of glioma|holds files"),
        ({"shape": "square"}, ConfigError, "`shape` is lobed or ellipsoid; got 'square'"),
        ({"volume_cm3": 5000.0}, ConfigError, "must fit into the brain"),
    ):
        with pytest.raises(error, match=match):
            implant(**{"cohort": healthy, "out": tmp_path / "out", "work": Work(jobs=1), **wrong})


def test_a_participant_that_cannot_be_used_costs_nobody_else(
    phantoms: Callable[..., dict[str, Cohort]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged images are named with the reason, the others get their tumors, and the exit code is 4."""
    healthy = phantoms(tmp_path / "people", n_healthy=2, spacing_mm=5, seed=7)["healthy"]
    healthy[1].images["fa"].write_bytes(b"no image")
    assert main(["implant", str(healthy.root), str(tmp_path / "out"), "--volume-cm3", "20", "--jobs", "1"]) == 4
    told = capsys.readouterr()
    assert "1 failed (sub-h002" in told.err and "1 participants failed" in told.out
    rows = pd.read_csv(tmp_path / "out" / "participants.tsv", sep="\t")
    assert rows["participant_id"].tolist() == ["sub-h001"]
