import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from shiftkit.checks import CHECKS, CheckReport, check
from shiftkit.cohorts.folder import image_path, load_cohort, mask_path, tumor_path
from shiftkit.cohorts.peaks import sidecar_path, write_peaks_sidecar
from shiftkit.errors import ConfigError
from shiftkit.geometry import resample
from shiftkit.images import read_image, write_image
from shiftkit.types import Bundle, Cohort, Volume
from shiftkit.work import Work

PATIENT = "sub-g001"
AF, AF_RIGHT, ILF = (Bundle.parse(label) for label in ("AFleft", "AFright", "ILFleft"))


@pytest.fixture(scope="session")
def sound(phantoms: Callable[..., dict[str, Cohort]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom cohort with two patients and nothing wrong."""
    return phantoms(tmp_path_factory.mktemp("phantom"), n_glioma=2, spacing_mm=4.0, seed=5)["glioma"].root


@pytest.fixture
def cohort(sound: Path, tmp_path: Path) -> Path:
    """A copy to plant a fault into."""
    return Path(shutil.copytree(sound, tmp_path / "cohort"))


def examine(root: Path, participant: str = PATIENT) -> CheckReport:
    return check(load_cohort(root).where(lambda case: case.participant_id == participant))


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    volume = read_image(path)
    write_image(volume.with_array(np.ascontiguousarray(change(volume.array))), path)


def move(path: Path, affine: Callable[[np.ndarray], np.ndarray]) -> None:
    volume = read_image(path)
    write_image(Volume(array=volume.array, affine=affine(volume.affine.copy())), path)


def components(signs: tuple[int, int, int], order: tuple[int, int, int] = (0, 1, 2)) -> Callable[[Path], None]:
    """Flip and permute the components of every peak."""

    def plant(root: Path) -> None:
        def change(peaks: np.ndarray) -> np.ndarray:
            vectors = peaks.reshape(*peaks.shape[:3], 3, 3)
            return (vectors[..., list(order)] * np.array(signs, dtype=peaks.dtype)).reshape(peaks.shape)

        edit(image_path(root, PATIENT, "peaks"), change)

    return plant


def swap_bundle(root: Path) -> None:
    left, right = mask_path(root, PATIENT, AF), mask_path(root, PATIENT, AF_RIGHT)
    other = left.with_name("swap.nii.gz")
    left.rename(other)
    right.rename(left)
    other.rename(right)


def all_images(root: Path) -> list[Path]:
    return sorted((root / PATIENT).glob("*/*.nii.gz"))


def mirror_everything(root: Path) -> None:
    for path in all_images(root):
        edit(path, lambda array: array[::-1])


def turn_over_everything(root: Path) -> None:
    for path in all_images(root):
        edit(path, lambda array: array[:, :, ::-1])


def stand_off_grid(root: Path) -> None:
    volume = read_image(mask_path(root, PATIENT, ILF))
    target = volume.affine @ np.diag([0.5, 0.5, 0.5, 1])
    x, y, z = volume.shape
    write_image(resample(volume, target, (2 * x, 2 * y, 2 * z), order=0), mask_path(root, PATIENT, ILF))


def shifted_affine(affine: np.ndarray) -> np.ndarray:
    affine[1, 3] += 6
    return affine


def mirrored_affine(affine: np.ndarray) -> np.ndarray:
    affine[0] *= -1
    return affine


def in_meters(root: Path) -> None:
    for path in all_images(root):
        move(path, lambda affine: np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine)


def in_micrometers(root: Path) -> None:
    for path in all_images(root):
        move(path, lambda affine: np.diag([1e3, 1e3, 1e3, 1]) @ affine)


def damage_brain(array: np.ndarray) -> np.ndarray:
    x, y, z = (n // 2 for n in array.shape)
    array[x - 4 : x + 4, y - 4 : y + 4, z - 4 : z + 4] = np.nan
    return array


def other_qform(root: Path) -> None:
    path = image_path(root, PATIENT, "fa")
    image = nib.Nifti1Image(read_image(path).array, read_image(path).affine)
    image.set_sform(image.affine, code=2)
    image.set_qform(np.diag([1, 1, 1.5, 1]) @ image.affine, code=1)
    nib.save(image, path)


def scatter(array: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(2)
    return ((array > 0) & (rng.random(array.shape) < 0.12)).astype(array.dtype)


def engulf(root: Path) -> None:
    bundle = read_image(mask_path(root, PATIENT, ILF)).array > 0
    edit(tumor_path(root, PATIENT), lambda tumor: ((tumor > 0) | bundle).astype(np.uint8))


def brain_as_tumor(root: Path) -> None:
    brain = read_image(image_path(root, PATIENT, "fa")).array > 0
    edit(tumor_path(root, PATIENT), lambda _: brain.astype(np.uint8))


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        path = root / "participants.tsv"
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
        change(frame).to_csv(path, sep="\t", index=False)

    return plant


def other_side(frame: pd.DataFrame) -> pd.DataFrame:
    exchanged = frame["tumor_side"].map({"left": "right", "right": "left"})
    return frame.assign(tumor_side=exchanged)


def thousandfold_volume(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(tumor_volume_ml=[f"{1000 * float(text):.0f}" for text in frame["tumor_volume_ml"]])


def third_of_the_volume(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(tumor_volume_ml=[f"{float(text) / 3:.1f}" for text in frame["tumor_volume_ml"]])


def copy_from_other(root: Path) -> None:
    shutil.copyfile(image_path(root, "sub-g002", "t1w"), image_path(root, PATIENT, "t1w"))


def image(modality: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda root: edit(image_path(root, PATIENT, modality), change)


def mask(bundle: Bundle, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda root: edit(mask_path(root, PATIENT, bundle), change)


def raw(modality: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        path = image_path(root, PATIENT, modality)
        path.write_bytes(change(path.read_bytes()))

    return plant


def header(field: int, value: bytes) -> Callable[[bytes], bytes]:
    import gzip

    def change(content: bytes) -> bytes:
        plain = bytearray(gzip.decompress(content))
        plain[field : field + len(value)] = value
        return gzip.compress(bytes(plain))

    return change


# name: fault, check, part of the file's name, part of the cure
FAULTS: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    "peaks, x flipped": (components((-1, 1, 1)), "peaks", "peaks", "-x y z"),
    "peaks, y flipped": (components((1, -1, 1)), "peaks", "peaks", "x -y z"),
    "peaks, z flipped": (components((1, 1, -1)), "peaks", "peaks", "x y -z"),
    "peaks, x and y exchanged": (components((1, 1, 1), (1, 0, 2)), "peaks", "peaks", "y x z"),
    "peaks, sidecar says FSL's frame": (
        lambda root: write_peaks_sidecar(image_path(root, PATIENT, "peaks"), "bvec"),
        "peaks",
        "peaks",
        'Reference in the sidecar to "xyz"',
    ),
    "peaks without sidecar": (
        lambda root: sidecar_path(image_path(root, PATIENT, "peaks")).unlink(),
        "sidecar",
        "peaks",
        "OrientationEncoding",
    ),
    "peaks, damaged sidecar": (
        lambda root: sidecar_path(image_path(root, PATIENT, "peaks")).write_text("{"),
        "sidecar",
        "peaks",
        "OrientationEncoding",
    ),
    "peaks with six volumes": (image("peaks", lambda a: a[..., :6]), "peaks", "peaks", "three peaks"),
    "FA mirrored": (image("fa", lambda a: a[::-1]), "flip", "param-fa", "axis 0"),
    "T1w turned front to back": (image("t1w", lambda a: a[:, ::-1]), "flip", "T1w", "axis 1"),
    "AP upside down": (image("ap", lambda a: a[:, :, ::-1]), "flip", "param-ap", "axis 2"),
    "all mirrored": (mirror_everything, "side", "label-AFleft", "mirrored"),
    "all upside down": (turn_over_everything, "orientation", "", "flip them back"),
    "a bundle's sides exchanged": (swap_bundle, "side", "label-AFleft", "Exchange the names of AF"),
    "one mask mirrored": (mask(ILF, lambda a: a[::-1]), "side", "label-ILFleft", "flip"),
    "tumor side": (table(other_side), "tumor-side", "label-tumor", "tumor_side"),
    "tumor volume in mm³": (table(thousandfold_volume), "tumor-volume", "label-tumor", "looks like mm³"),
    "tumor volume": (table(third_of_the_volume), "tumor-volume", "label-tumor", "Correct the cell"),
    "mask on another grid": (stand_off_grid, "grid", "label-ILFleft", "nearest neighbor"),
    "affine shifted": (
        lambda root: move(image_path(root, PATIENT, "fa"), shifted_affine),
        "grid",
        "param-fa",
        "affine",
    ),
    "affine mirrored": (lambda root: move(image_path(root, PATIENT, "t1w"), mirrored_affine), "grid", "T1w", "along x"),
    "meters": (in_meters, "units", "T1w", "look like meters"),
    "micrometers": (in_micrometers, "units", "T1w", "look like micrometers"),
    "qform differs": (other_qform, "header", "param-fa", "set_qform"),
    "FA in thousandths": (image("fa", lambda a: a * 1000), "units", "param-fa", "multiplied by 1000"),
    "all zero": (image("t1w", np.zeros_like), "values", "T1w", "again from its source"),
    "constant": (image("ap", lambda a: np.full_like(a, 3)), "values", "param-ap", "again from its source"),
    "NaN in the brain": (image("fa", damage_brain), "values", "param-fa", "fill these voxels"),
    "duplicate": (copy_from_other, "duplicate", "T1w", "replace the other"),
    "empty bundle": (mask(AF, np.zeros_like), "mask-empty", "label-AFleft", "reference_absent"),
    "probabilities": (
        mask(AF, lambda a: ndimage.gaussian_filter(a.astype(np.float32), 1)),
        "mask-values",
        "label-AFleft",
        "threshold at 0.5",
    ),
    "mask with channels": (mask(AF, lambda a: np.stack([a, a], -1)), "mask-values", "label-AFleft", "one file a mask"),
    "map with channels": (image("ap", lambda a: np.stack([a, a], -1)), "values", "param-ap", "image of its own"),
    "labels": (
        lambda root: edit(tumor_path(root, PATIENT), lambda a: a + 3 * np.roll(a, 2, 0)),
        "mask-values",
        "label-tumor",
        "label map",
    ),
    "off the brain": (mask(AF, lambda a: np.roll(a, -8, 0)), "mask-place", "label-AFleft", "shifted"),
    "in pieces": (mask(ILF, scatter), "mask-pieces", "label-ILFleft", "scattered"),
    "bundle in the tumor": (engulf, "tumor-overlap", "label-ILFleft", "draw it again"),
    "brain mask as tumor": (brain_as_tumor, "tumor-overlap", "label-tumor", "brain mask"),
    "no row": (table(lambda f: f[f.participant_id != PATIENT]), "participants", "participants.tsv", "Add a row"),
    "unknown group": (
        table(lambda f: f.assign(group="arm 2")),
        "participants",
        "participants.tsv",
        "Correct the cell",
    ),
    **{
        f"age of {age}": (
            table(lambda f, age=age: f.assign(age=f["age"].astype(str).where(f.participant_id != PATIENT, age))),
            "participants",
            "participants.tsv",
            "Correct the cell",
        )
        for age in ("-4", "inf", "390", "nan")
    },
    "truncated gzip": (
        raw("fa", lambda content: content[: len(content) // 2]),
        "unreadable",
        "param-fa",
        "Copy the file",
    ),
    "zero bytes": (raw("t1w", lambda _: b""), "unreadable", "T1w", "Copy the file"),
    "wrong magic": (raw("fa", header(344, b"xyz\0")), "unreadable", "param-fa", "Copy the file"),
    "absurd dimensions": (raw("fa", header(42, b"\xff\x7f" * 3)), "unreadable", "param-fa", "Copy the file"),
}
WARNINGS = {"header", "mask-empty", "mask-pieces", "tumor-volume"}


SIDE_EFFECTS = {
    # A fault that breaks more than one rule may be named by each of them.
    "all mirrored": {"tumor-side", "peaks"},
    "all upside down": {"peaks"},
    "meters": {"side", "mask-place", "peaks"},
    "micrometers": {"side", "mask-place", "peaks"},
    "one mask mirrored": {"mask-place"},
    "off the brain": {"side"},
    "brain mask as tumor": {"tumor-side", "duplicate"},
    "in pieces": {"side"},
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_named(name: str, cohort: Path) -> None:
    """Each planted fault is named with its participant, its file and the right cure, and nothing else is accused."""
    plant, expected, file, cure = FAULTS[name]
    plant(cohort)
    report = check(load_cohort(cohort)) if name == "duplicate" else examine(cohort)
    hits = [one for one in report.problems if one.check == expected and file in one.file and cure in one.cure]
    assert hits, str(report)
    if name != "duplicate":  # of two same images either may be the copy
        assert {one.participant for one in hits} == {PATIENT}
    assert report.exit_code == (0 if expected in WARNINGS else 3), str(report)
    assert {one.check for one in report.errors} <= {expected} | SIDE_EFFECTS.get(name, set()), str(report)


def test_damaged_sidecar_is_named_without_the_cohorts_place(cohort: Path) -> None:
    """The sidecar is named below the cohort's folder, so that a report can be handed on."""
    sidecar_path(image_path(cohort, PATIENT, "peaks")).write_text("[]")
    found = next(one for one in examine(cohort).errors if one.check == "sidecar")
    assert f"{PATIENT}_param-peaks_dwimap.json must be a JSON object" in found.sentence
    assert str(cohort) not in str(found)


def test_inherited_sidecar_serves(cohort: Path) -> None:
    """One sidecar at the top speaks for every participant: nothing is reported."""
    for path in cohort.glob("sub-*/dwi/*_param-peaks_dwimap.json"):
        path.replace(cohort / "param-peaks_dwimap.json")
    assert examine(cohort).problems == ()


def test_sound_cohort_is_left_alone(sound: Path) -> None:
    """Nothing is reported on sound patients, whatever their tumors."""
    report = check(load_cohort(sound))
    assert report.problems == () and report.exit_code == 0


def test_peaks_are_judged_without_masks_too(cohort: Path) -> None:
    """Without any bundle mask, flipped peaks are still found from how fibers continue from voxel to voxel."""
    for path in (cohort / PATIENT / "dwi").glob("*_mask.nii.gz"):
        path.unlink()
    assert [one.check for one in examine(cohort).problems] == ["reference"]
    components((1, 1, -1))(cohort)
    assert [one.check for one in examine(cohort).errors] == ["peaks"]


def test_allowed_checks_do_not_count(cohort: Path) -> None:
    """An error of an allowed check stays listed and ends in exit code 0; an unknown name is refused."""
    engulf(cohort)
    loaded = load_cohort(cohort)
    assert check(loaded).exit_code == 3
    report = check(loaded, allow=["tumor-overlap"])
    assert report.exit_code == 0 and report.problems
    with pytest.raises(ConfigError, match="tumour"):
        check(loaded, allow=["tumour"])


def test_report_speaks_to_machines_and_people(cohort: Path) -> None:
    """JSON, table, text and findings carry the same problems, and no absolute path."""
    swap_bundle(cohort)
    report = check(load_cohort(cohort))
    told = json.loads(report.to_json())
    assert told["exit_code"] == 3 and told["verdicts"][PATIENT] == "error" and told["verdicts"]["sub-g002"] == "ok"
    assert len(told["problems"]) == len(report.to_frame()) == len(report.problems)
    assert str(cohort) not in report.to_json() + str(report) + report._repr_html_()
    assert report.findings()[0].claim in str(report)
    assert {one.check for one in report.problems} <= set(CHECKS)


def test_jobs_change_nothing(sound: Path, cohort: Path) -> None:
    """Two processes find what one finds, in the same order."""
    components((-1, 1, 1))(cohort)
    assert check(load_cohort(cohort), work=Work(jobs=2)) == check(load_cohort(cohort), work=Work(jobs=1))


def test_real_subject_is_sound(shared_data: Path, tmp_path: Path) -> None:
    """Nothing is reported on a real subject whose peaks are known to be right; with a flip, the flip is named."""
    from shiftkit.importers import import_cohort

    cohort = import_cohort("tractseg", shared_data / "tractseg_subject", tmp_path / "cohort")
    assert check(cohort).problems == ()
    path = cohort.cases[0].images["peaks"]
    write_peaks_sidecar(path, "ijk")
    found = check(cohort).errors
    assert [one.check for one in found] == ["peaks"] and '"xyz"' in found[0].cure
    write_peaks_sidecar(path, "xyz")
    for axis in range(3):
        edit(path, lambda a, axis=axis: a * np.where(np.arange(9) % 3 == axis, -1, 1).astype(a.dtype))
        assert [one.check for one in check(cohort).errors] == ["peaks"]
        edit(path, lambda a, axis=axis: a * np.where(np.arange(9) % 3 == axis, -1, 1).astype(a.dtype))


def turned(root: Path, degrees: float) -> None:
    """Store the patient on an oblique grid, with peaks turned along so that they stay in world axes."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for path in all_images(root):
        move(path, lambda affine: turn @ affine)
    rotation = turn[:3, :3].T.astype(np.float32)
    edit(
        image_path(root, PATIENT, "peaks"),
        lambda peaks: (peaks.reshape(*peaks.shape[:3], 3, 3) @ rotation).reshape(peaks.shape),
    )


def test_oblique_grids_are_sound_and_their_frame_is_told(cohort: Path) -> None:
    """An oblique grid raises nothing; peaks taken for voxel axes though they are in world axes are named."""
    turned(cohort, 25)
    assert examine(cohort).problems == ()
    write_peaks_sidecar(image_path(cohort, PATIENT, "peaks"), "ijk")
    found = examine(cohort).errors
    assert [one.check for one in found] == ["peaks"] and '"xyz"' in found[0].cure


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_voxel_order_is_no_fault(axes: tuple[int, ...], cohort: Path) -> None:
    """The same images stored in another voxel order, with the affine to match, raise nothing."""
    for path in all_images(cohort):
        volume = read_image(path)
        change = np.eye(4)
        for axis in axes:
            change[axis, axis], change[axis, 3] = -1, volume.shape[axis] - 1
        flipped = np.ascontiguousarray(np.flip(volume.array, axes))
        write_image(Volume(array=flipped, affine=volume.affine @ change), path)
    assert examine(cohort).problems == ()


def test_folder_without_data_is_no_sound_participant(cohort: Path) -> None:
    """A row without a folder and a folder without images are both named."""
    (cohort / "sub-g003").mkdir()
    table(lambda f: pd.concat([f, pd.DataFrame({"participant_id": ["sub-g003", "sub-g004"], "group": "glioma"})]))(
        cohort
    )
    named = {one.participant for one in check(load_cohort(cohort)).problems if one.check == "participants"}
    assert named == {"sub-g003", "sub-g004"}


def test_a_qform_that_mirrors_the_sform_is_an_error(cohort: Path) -> None:
    """Two frames that disagree on left and right leave it open, whichever a reader takes."""
    path = image_path(cohort, PATIENT, "fa")
    image = nib.Nifti1Image.from_filename(path)
    data, other = np.asarray(image.dataobj), np.diag([-1.0, 1, 1, 1]) @ image.affine
    image.header.set_qform(other, code=1)
    made = nib.Nifti1Image(data, image.affine, image.header)
    made.set_qform(other, code=1)
    nib.save(made, path)
    (problem,) = [one for one in examine(cohort).problems if one.check == "header"]
    assert problem.severity == "error" and "left and right are not known" in problem.sentence


def test_an_age_above_89_is_read_as_bids_writes_it(cohort: Path) -> None:
    """``89+`` hides who somebody is, and is 89 years here."""
    table(lambda f: f.assign(age="89+"))(cohort)
    assert not [one for one in examine(cohort).problems if one.check == "participants"]
    assert {case.number("age") for case in load_cohort(cohort)} == {89.0}


def test_a_link_to_nothing_is_named_as_one(cohort: Path) -> None:
    """An annexed file that was not fetched says so."""
    path = image_path(cohort, PATIENT, "fa")
    path.unlink()
    path.symlink_to("../.git/annex/objects/none.nii.gz")
    (problem,) = [one for one in examine(cohort).problems if one.check == "unreadable"]
    assert "a link to one that is not there" in problem.sentence


def test_an_orientation_that_nobody_declared_is_an_error(cohort: Path) -> None:
    """With both codes 0 readers invent a frame; the cure is not a sidecar."""
    path = image_path(cohort, PATIENT, "fa")
    image = nib.Nifti1Image.from_filename(path)
    data = np.asarray(image.dataobj)
    image.header.set_sform(image.affine, code=0)
    image.header.set_qform(image.affine, code=0)
    nib.save(nib.Nifti1Image(data, None, image.header), path)
    report = examine(cohort)
    (problem,) = [one for one in report.problems if one.check == "undeclared"]
    assert problem.severity == "error" and report.exit_code == 3 and "sidecar cannot" in problem.cure


def test_a_file_that_carries_another_name_is_an_error(cohort: Path) -> None:
    """A map of one participant in the folder of another is told by its name."""
    path = image_path(cohort, PATIENT, "fa")
    path.rename(path.with_name(path.name.replace(PATIENT, "sub-g002")))
    report = examine(cohort)
    assert [one.check for one in report.problems if one.severity == "error"] == ["name"] and report.exit_code == 3
