"""V-Norm against the participant's own baseline, by what a user runs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.analyses.deformation.cases import read_lost
from shiftkit.analyses.deformation.v_norm import measure_against_own
from shiftkit.catalogue import DEFORMATION
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import write_image
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume

BUNDLE = Bundle.parse("AFleft")
CENTER_MM = np.array([-30.3, 0.4, 0.7])
TUMOR_MM = np.array([-38.0, 0.0, 0.0])


def points_of(spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (-56, -42, -22)
    n = np.ceil(np.array([52.0, 84, 44]) / spacing_mm).astype(int)
    index = np.stack(np.meshgrid(*(np.arange(k) for k in n), indexing="ij"), axis=-1)
    return affine, index * spacing_mm + affine[:3, 3]


def bundle_of(bend_mm: float, push_mm: float = 0.0, spacing_mm: float = 2.0) -> Volume:
    """A bundle along y that is bent as the participant's own is, and pushed towards the midline in the middle."""
    affine, points = points_of(spacing_mm)
    x, y, z = np.moveaxis(points - CENTER_MM, -1, 0)
    x = x - push_mm * np.exp(-((y / 12.0) ** 2)) - bend_mm * np.cos(np.pi * y / 30.0)
    return Volume(array=(np.hypot(x, z * 1.3) < 6) & (np.abs(y) < 30), affine=affine)


def ball(center_mm: np.ndarray, radius_mm: float = 8.0) -> Volume:
    affine, points = points_of(2.0)
    return Volume(array=np.linalg.norm(points - center_mm, axis=-1) < radius_mm, affine=affine)


def elsewhere(volume: Volume) -> Volume:
    """The same head, turned by 5° and shifted by 9 mm."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xz", [3.0, 4.0], degrees=True).as_matrix()
    motion[:3, 3] = (7.0, -4.0, 4.0)
    return Volume(array=volume.array, affine=motion @ volume.affine)


def write(folder: Path, group: str, masks: dict[str, Volume]) -> Cohort:
    for key, mask in masks.items():
        write_image(mask, cohorts.mask_path(folder, key, BUNDLE))
    side = "left" if group == "glioma" else "n/a"
    cohorts.write_participants(
        folder, pd.DataFrame({"participant_id": list(masks), "group": group, "tumor_side": side})
    )
    return cohorts.load_cohort(folder)


BENDS_MM = {"sub-g1": 5.0, "sub-g2": -5.0, "sub-g3": 0.0, "sub-g4": 4.0}
PUSHES_MM = {"sub-g1": 0.0, "sub-g2": 6.0, "sub-g3": 3.0, "sub-g4": 5.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cohort]:
    """Patients that differ by more than a tumor pushes; the last is not in the baseline, the third empty there."""
    root = tmp_path_factory.mktemp("study")
    now = {key: bundle_of(bend, PUSHES_MM[key]) for key, bend in BENDS_MM.items()}
    before = {key: elsewhere(bundle_of(bend)) for key, bend in BENDS_MM.items() if key != "sub-g4"}
    before["sub-g3"] = before["sub-g3"].with_array(np.zeros_like(before["sub-g3"].array))
    healthy = {f"sub-h{i}": bundle_of(bend) for i, bend in enumerate((-3.0, 0.0, 2.0, 4.0))}
    return {
        "now": write(root / "glioma", "glioma", now),
        "before": write(root / "earlier", "glioma", before),
        "healthy": write(root / "healthy", "control", healthy),
    }


@pytest.fixture(scope="module")
def run(study: dict[str, Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["deform", *words(study), "--out", str(out)]) == 0
    return out


def words(study: dict[str, Cohort]) -> list[str]:
    roots = {"cohort": study["now"], "reference": study["healthy"], "baseline": study["before"]}
    return [*(word for name, one in roots.items() for word in (f"--{name}", str(one.root))), "--jobs", "1", "-q"]


def test_the_own_baseline_tells_the_push_from_anatomy(run: Path) -> None:
    """Bent but not pushed: far from the template, near the own baseline; pushed: within 15 % or 0.5 mm of the truth."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION).set_index("participant_id")
    assert table.loc["sub-g1", "v_norm_mm"] > 1.0
    assert table.loc["sub-g1", "v_norm_own_mm"] < 0.3
    y = np.linspace(-30, 30, 601)
    push = PUSHES_MM["sub-g2"] * np.exp(-((y / 12) ** 2))
    truth = min(float(np.abs(push - shift).mean()) for shift in np.linspace(0, 3, 61))
    assert abs(table.loc["sub-g2", "v_norm_own_mm"] - truth) < max(0.15 * truth, 0.5)
    assert table.loc["sub-g2", "dice_own_after"] > 0.9


def test_what_the_baseline_lacks_has_a_word(run: Path) -> None:
    """An empty baseline mask and a participant who is not there: unavailable, and no number; controls too."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION).set_index("participant_id")
    assert table["own_status"].to_dict() == {
        "sub-g1": "ok",
        "sub-g2": "ok",
        **dict.fromkeys(("sub-g3", "sub-g4", "sub-h0", "sub-h1", "sub-h2", "sub-h3"), "unavailable"),
    }
    assert (table["v_norm_own_mm"].notna() == (table["own_status"] == "ok")).all()
    assert (table["status"] == "ok").all()


def test_the_run_shows_it(run: Path) -> None:
    """A figure of its own, a map of the own displacement, and the baseline among the inputs."""
    assert (run / "figures" / "deformation-own.svg").is_file()
    assert (run / "maps" / "sub-g2" / "sub-g2_label-AFleft_desc-vnormown_map.nii.gz").is_file()
    assert "baseline" in json.loads((run / "run.json").read_text())["inputs"]


def test_an_interrupted_run_measures_what_is_missing_only(run: Path, study: dict[str, Cohort]) -> None:
    """With one own measurement lost, --resume makes it again, keeps the others, and ends with the same table."""
    table = run / "tables" / "deformation.tsv"
    before = table.read_bytes()
    records = sorted((run / "measurements").rglob("*.json"))
    lost = next(path for path in records if path.name == "sub-g2_label-AFleft_own.json")
    times = {path: path.stat().st_mtime_ns for path in records if path != lost}
    lost.unlink()
    table.unlink()
    assert main(["deform", *words(study), "--out", str(run), "--resume"]) == 0
    assert table.read_bytes() == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_zero_against_the_same_mask() -> None:
    """A mask against itself has not moved, and a mask in another pose next to not."""
    mask = bundle_of(4.0)
    assert measure_against_own(mask, mask)[0].v_norm_mm == 0
    assert measure_against_own(mask, elsewhere(mask))[0].v_norm_mm < 0.3


def test_what_an_earlier_tumor_destroyed_is_not_taken_for_displacement() -> None:
    """A bite out of the baseline adds little where its tumor mask says so, and more where nothing does."""
    mask, bite = bundle_of(0.0), ball(CENTER_MM - (5.0, 0, 0))
    bitten = mask.with_array(mask.array & ~bite.array)
    looked = measure_against_own(mask, bitten)[0].v_norm_mm
    masked = measure_against_own(mask, bitten, baseline_lost=bite)[0].v_norm_mm
    assert masked < 0.5 * looked


def test_a_virtual_tumor_destroys_nothing(tmp_path: Path) -> None:
    """The mask of a tumor that is not there, as its sidecar says, is no reason to look away."""
    cohort = write(tmp_path, "glioma", {"sub-g1": bundle_of(0.0)})
    path = cohorts.tumor_path(tmp_path, "sub-g1")
    write_image(ball(TUMOR_MM), path)
    case = cohorts.load_cohort(tmp_path)["sub-g1"]
    assert len(cohort) and read_lost(case) is not None
    path.with_name("sub-g1_label-tumor_mask.json").write_text('{"Virtual": true}')
    assert read_lost(case) is None


def test_a_baseline_that_is_none_is_refused(study: dict[str, Cohort]) -> None:
    """The cohort itself is a usage error, and a cohort of other people says that nobody is in both."""
    with pytest.raises(ConfigError, match="another time"):
        sk.deform(study["now"], reference=study["healthy"], baseline=study["now"])
    with pytest.raises(DataError, match="same participant_id"):
        sk.deform(study["now"], reference=study["healthy"], baseline=study["healthy"])


def test_without_enough_controls_for_one_bundle_the_own_value_stands(study: dict[str, Cohort], tmp_path: Path) -> None:
    """A bundle that no control has: too_few against the template, a number against the own baseline."""
    other = Bundle.parse("PYTleft")
    for cohort, push_mm in (("now", 4.0), ("before", 0.0)):
        root = tmp_path / cohort
        write(root, "glioma", {"sub-g1": bundle_of(5.0)})
        write_image(bundle_of(5.0, push_mm), cohorts.mask_path(root, "sub-g1", other))
    table = sk.deform(tmp_path / "now", reference=study["healthy"], baseline=tmp_path / "before").patients
    row = table.set_index("bundle").loc["PYT"]
    assert (row["status"], row["own_status"]) == ("too_few", "ok")
    assert row["v_norm_own_mm"] > 0.5
