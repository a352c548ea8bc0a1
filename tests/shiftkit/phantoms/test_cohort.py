import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shiftkit.cohorts.folder import load_cohort
from shiftkit.cohorts.preparation import prepare
from shiftkit.errors import ConfigError
from shiftkit.images import read_image, read_mask
from shiftkit.phantoms import phantom
from shiftkit.types import Bundle, Case, Cohort
from shiftkit.work import Work

FACTORIAL = ("glioma", "glioma_clean", "glioma_systematic", "glioma_tumor")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truth(case: Case) -> dict:
    path = case.images["t1w"].with_name(f"{case.key}_desc-truth_phantom.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two controls and a patient at 5 mm, written by one process."""
    root = tmp_path_factory.mktemp("three")
    phantom(root, n_healthy=2, n_glioma=1, spacing_mm=5, work=Work(jobs=1))
    return root


def test_same_bytes_whatever_the_jobs(three: Path, tmp_path: Path) -> None:
    """One process and two write the same bytes."""
    phantom(tmp_path, n_healthy=2, n_glioma=1, spacing_mm=5, work=Work(jobs=2))
    assert digests(tmp_path) == digests(three)


def test_a_participant_depends_on_seed_and_identifier_alone(three: Path, tmp_path: Path) -> None:
    """The first control of one is the first control of more, to the byte, tables aside; another seed's is another."""
    for name, seed in (("few", 0), ("other", 1)):
        phantom(tmp_path / name, n_healthy=1, n_glioma=0, spacing_mm=5, seed=seed)
    few, other, many = (digests(root / "healthy/sub-h001") for root in (tmp_path / "few", tmp_path / "other", three))
    assert few == many
    assert all(few[name] != other[name] for name in few if name.endswith("T1w.nii.gz"))


def test_what_is_complete_is_kept_and_what_is_missing_is_made(three: Path, tmp_path: Path) -> None:
    """A second call keeps the first one's files, adds what was asked for since, and ends as one call would."""
    shutil.copytree(three / "healthy/sub-h001", tmp_path / "twice/healthy/sub-h001")
    before = (tmp_path / "twice/healthy/sub-h001/anat/sub-h001_T1w.nii.gz").stat().st_mtime_ns
    phantom(tmp_path / "twice", n_healthy=2, n_glioma=0, spacing_mm=5)
    assert (tmp_path / "twice/healthy/sub-h001/anat/sub-h001_T1w.nii.gz").stat().st_mtime_ns == before
    phantom(tmp_path / "twice", n_healthy=2, n_glioma=0, spacing_mm=5, dwi=True)
    phantom(tmp_path / "once", n_healthy=2, n_glioma=0, spacing_mm=5, dwi=True)
    assert digests(tmp_path / "twice") == digests(tmp_path / "once")


def test_two_phantoms_do_not_mix(three: Path, tmp_path: Path) -> None:
    """A folder that holds a phantom of another seed is refused."""
    shutil.copytree(three / "healthy", tmp_path / "healthy")
    with pytest.raises(ConfigError, match="another seed"):
        phantom(tmp_path, n_healthy=2, n_glioma=0, spacing_mm=5, seed=1)


def test_somebodys_cohort_is_not_written_over(tmp_path: Path) -> None:
    """A folder whose tables are no phantom's is refused, and left as it was."""
    (tmp_path / "glioma").mkdir()
    for name, text in (("participants.tsv", "participant_id\nsub-1\n"), ("dataset_description.json", '{"Name": "x"}')):
        (tmp_path / "glioma" / name).write_text(text)
        with pytest.raises(ConfigError, match="glioma holds a cohort that is no phantom"):
            phantom(tmp_path, n_healthy=1, n_glioma=1, spacing_mm=5)
    assert not (tmp_path / "healthy").exists() and len(list((tmp_path / "glioma").iterdir())) == 2


@pytest.mark.parametrize("options", [{"n_healthy": 0, "n_glioma": 0}, {"n_healthy": -1}, {"spacing_mm": 0.5}])
def test_impossible_orders_are_refused(tmp_path: Path, options: dict) -> None:
    """No participants, or a spacing outside 1–5 mm, make no phantom."""
    with pytest.raises(ConfigError, match="at least one participant"):
        phantom(tmp_path, **options)


def test_factorial_cohorts_hold_the_same_patients(factorial: dict[str, Cohort]) -> None:
    """Identifiers, group, side, volume, distances and tumor masks are the same in all four cohorts."""
    for case in factorial["glioma"]:
        others = [factorial[name][case.participant_id] for name in FACTORIAL]
        assert {one.group for one in others} == {"glioma"}
        for key in ("tumor_side", "tumor_volume_ml", "age", "sex"):
            assert len({one.attributes[key] for one in others}) == 1
        assert all(truth(one)["tumor_bundle_distance_mm"] == truth(case)["tumor_bundle_distance_mm"] for one in others)
        for part in ("tumor", "tumor_core"):
            masks = [read_mask(getattr(one, part)).array for one in others]
            assert masks[0].any()
            assert all((mask == masks[0]).all() for mask in masks)


def test_virtual_masks_say_so(factorial: dict[str, Cohort]) -> None:
    """A sidecar with Virtual lies beside the mask of a tumor that is not rendered, and only there."""
    for name in FACTORIAL:
        for case in factorial[name]:
            assert case.tumor is not None
            sidecar = case.tumor.with_name(case.tumor.name.replace(".nii.gz", ".json"))
            hidden = name in ("glioma_clean", "glioma_systematic")
            assert sidecar.is_file() == hidden
            assert not hidden or json.loads(sidecar.read_text(encoding="utf-8")) == {"Virtual": True}


def test_factors_change_what_they_should(factorial: dict[str, Cohort]) -> None:
    """Without the tumor, the clean scan departs from the tumor-only one near the tumor only; the scanner everywhere."""
    case = factorial["glioma_clean"].cases[0]
    clean, tumor, systematic = (
        read_image(factorial[name][case.participant_id].images["fa"]).array
        for name in ("glioma_clean", "glioma_tumor", "glioma_systematic")
    )
    assert case.tumor is not None
    inside = read_mask(case.tumor).array
    outside = (clean > 0) & (tumor > 0) & (systematic > 0) & ~inside
    change = np.abs(clean - tumor)
    assert change[inside].mean() > 3 * change[outside].mean()
    assert np.abs(clean - systematic)[outside].mean() > 2 * change[outside].mean()


def test_target_controls_are_healthy_people_in_the_patients_scanner(tmp_path: Path) -> None:
    """They have their own folder, identifiers and group, no tumor, and scans worse than those of controls."""
    made = phantom(tmp_path, n_healthy=1, n_glioma=0, n_target_controls=1, spacing_mm=5)
    (control,), (target,) = made["healthy"].cases, made["target_controls"].cases
    assert (target.participant_id, target.group, target.attributes["scanner"]) == (
        "sub-t001",
        "target_control",
        "target",
    )
    assert target.tumor is None and control.group == "control"
    peaks = [read_image(one.images["peaks"]).array for one in (control, target)]
    false = [np.abs(one[..., 6:]).mean() / np.abs(one[..., :3]).mean() for one in peaks]
    assert false[1] > 1.3 * false[0]


def test_truth_holds_what_was_drawn(factorial: dict[str, Cohort]) -> None:
    """The sidecar holds seed, version, pose, bundles and tumor; its volume is the mask's, and so is the table's."""
    for case in factorial["glioma"]:
        known = truth(case)
        assert known["settings"]["seed"] == 5
        assert set(known["bundles"]) == {bundle.label for bundle in case.bundles}
        assert all({"spread", "shift_mm", "rater_generosity"} == set(one) for one in known["bundles"].values())
        assert {"offset_mm", "distortion_mm"} <= set(known["pose"])
        assert 0.3 <= known["tumor_mass_share"] <= 1
        assert case.tumor is not None
        mask = read_mask(case.tumor)
        assert known["tumor_volume_ml"] == pytest.approx(mask.array.sum() * mask.voxel_volume_ml, abs=0.06)
        assert case.number("tumor_volume_ml") == known["tumor_volume_ml"]
        assert 9 <= known["tumor_volume_ml"] <= 130


def test_true_distances_are_those_of_masks(factorial: dict[str, Cohort]) -> None:
    """Where the scanner misplaces little, true distances agree with those between masks on disk to a voxel."""
    from scipy import ndimage

    for case in factorial["glioma_tumor"]:
        assert case.tumor is not None
        distance = ndimage.distance_transform_edt(~read_mask(case.tumor).array, sampling=4.0)
        for label, expected in truth(case)["tumor_bundle_distance_mm"].items():
            found = distance[read_mask(case.masks[Bundle.parse(label)]).array].min()
            assert found == pytest.approx(expected, abs=6.0)


def test_fields_lead_to_the_template(factorial: dict[str, Cohort]) -> None:
    """Mass effect is zero where no tumor is rendered, and millimeters where one is; both fields have three vectors."""
    for name in FACTORIAL:
        for case in factorial[name]:
            push = read_image(case.images["t1w"].with_name(f"{case.key}_desc-masseffect_displacement.nii.gz"))
            whole = read_image(case.images["t1w"].with_name(f"{case.key}_desc-template_displacement.nii.gz"))
            assert push.array.shape == whole.array.shape == (*read_image(case.images["fa"]).shape, 3)
            assert np.isfinite(whole.array).all()
            moved = np.linalg.norm(push.array, axis=-1).max()
            assert moved == 0 if name in ("glioma_clean", "glioma_systematic") else 0.5 < moved < 20


@pytest.mark.slow
def test_raw_diffusion_can_be_prepared(tmp_path: Path) -> None:
    """From the raw series, `prepare` finds the phantom's own FA contrast and the directions of a bundle."""
    healthy = phantom(tmp_path / "made", n_healthy=1, n_glioma=0, spacing_mm=4, seed=5, dwi=True)["healthy"]
    case = healthy.cases[0]
    copy = tmp_path / "raw"
    shutil.copytree(healthy.root, copy)
    for name in ("fa", "ap", "peaks"):
        (copy / case.images[name].relative_to(healthy.root)).unlink()
    result = prepare(load_cohort(copy), maps=("fa", "peaks"))
    assert not result.failed
    made = result.cohort.cases[0]
    own, theirs = (read_image(one.images["fa"]).array for one in (case, made))
    assert np.corrcoef(own[own > 0], theirs[own > 0])[0, 1] > 0.8
    bundle = Bundle.parse("PYTleft")
    mask = read_mask(case.masks[bundle]).array & (own > 0.45)
    first, second = (read_image(one.images["peaks"]).array[mask][:, :3] for one in (case, made))
    cosine = np.abs((first * second).sum(1)) / (np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1) + 1e-9)
    assert np.median(cosine) > 0.9
