from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers.bundles import SKELETONS_MM, pushed_rows, tube, write_masks

import shiftkit as sk
from shiftkit.analyses.deformation.cases import Plan
from shiftkit.analyses.deformation.push import NAME, Push
from shiftkit.analyses.deformation.result import DeformationResult
from shiftkit.analyses.deformation.study import deform
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DEFORMATION, DEFORMATION_PROFILES
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort
from shiftkit.work import Work


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Cohort]:
    """Four controls that differ a little; patients: pushed, empty, cut in two."""
    root = tmp_path_factory.mktemp("study")
    healthy = {f"sub-h{i}": tube(2.5, push_mm=push) for i, push in enumerate((-1.0, 0.0, 1.0, 2.0))}
    pushed = tube(2.5, push_mm=12.0)
    cut = pushed.array.copy()
    cut[:, 14:20] = False
    patients = {
        "sub-g1": pushed,
        "sub-g2": pushed.with_array(np.zeros_like(cut)),
        "sub-g3": pushed.with_array(cut),
    }
    return (
        write_masks(root / "glioma", "glioma", patients),
        write_masks(root / "healthy", "control", healthy),
    )


@pytest.fixture(scope="module")
def run(study: tuple[Cohort, Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    glioma, healthy = study
    words = ["--cohort", str(glioma.root), "--reference", str(healthy.root), "--out", str(out), "--jobs", "1"]
    assert main(["deform", *words, "-q"]) == 0
    return out


def test_a_run_holds_tables_maps_templates_and_figures(run: Path) -> None:
    """Every row is there with a number or a word, tables fit their schemas, and the map is the patient's own."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION).set_index("participant_id")
    assert len(table) == 7
    assert table["status"].to_dict() == {
        **{f"sub-h{i}": "ok" for i in range(4)},
        "sub-g1": "ok",
        "sub-g2": "empty",
        "sub-g3": "disconnected",
    }
    number = table["v_norm_mm"].notna()
    assert (number == (table["status"] == "ok")).all()
    assert table.loc["sub-g1", "side"] == "ipsi"
    assert table.loc["sub-g1", "percentile"] == 100
    assert table.loc["sub-g1", "z"] > 3
    profiles = read_table(run / "tables" / "deformation_profiles.tsv", DEFORMATION_PROFILES)
    assert (profiles.groupby("participant_id").size() == 32).all()
    assert (profiles["v_norm_mm"].notna() == (profiles["status"] == "ok")).all()
    image = read_image(run / "maps" / "sub-g1" / "sub-g1_label-AFleft_desc-vnorm_map.nii.gz")
    assert image.array.max() > table.loc["sub-g1", "v_norm_mm"]
    for name in ("templates/label-AFleft_mask.nii.gz", "figures/deformation.svg", "run.json"):
        assert (run / name).is_file(), name


def test_an_interrupted_run_ends_with_the_same_tables(run: Path, study: tuple[Cohort, Cohort]) -> None:
    """With measurements lost and tables gone, --resume gives the same tables to the byte and keeps what is there."""
    before = {path.name: path.read_bytes() for path in (run / "tables").iterdir()}
    records = sorted((run / "measurements").rglob("*.json"))
    times = {path: path.stat().st_mtime_ns for path in records[1:]}
    records[0].unlink()
    for path in (run / "tables").iterdir():
        path.unlink()
    glioma, healthy = study
    words = ["--cohort", str(glioma.root), "--reference", str(healthy.root), "--out", str(run), "--jobs", "1"]
    assert main(["deform", *words, "--resume", "-q"]) == 0
    assert before == {path.name: path.read_bytes() for path in (run / "tables").iterdir()}
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_folder_in_use_is_refused(
    run: Path, study: tuple[Cohort, Cohort], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --resume nothing is overwritten: exit 2, and the way on is named."""
    assert main(["deform", "--cohort", str(study[0].root), "--reference", str(study[1].root), "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_too_few_controls_are_refused(study: tuple[Cohort, Cohort]) -> None:
    """Two controls make no healthy range, a name that nobody has is an error, and so is a lattice of 10 mm."""
    glioma, healthy = study
    with pytest.raises(DataError, match="at least 3 controls"):
        deform(glioma, healthy.where(lambda case: case.key < "sub-h2"))
    with pytest.raises(DataError, match="XX"):
        deform(glioma, healthy, bundles=("XX",))
    with pytest.raises(ConfigError, match="1–4 mm"):
        deform(glioma, healthy, spacing_mm=10)


def test_a_damaged_mask_of_a_control_costs_that_control_only(study: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    """The template is made of the others, the control's row says unavailable, and everyone else has a number."""
    glioma, _ = study
    masks = {f"sub-h{i}": tube(2.5, push_mm=push) for i, push in enumerate((-1.0, 0.0, 1.0, 2.0))}
    healthy = write_masks(tmp_path / "healthy", "control", masks)
    next(iter(healthy.cases[0].masks.values())).write_bytes(b"no image")
    result = deform(glioma.where(lambda case: case.key == "sub-g1"), healthy)
    status = result.table.set_index("participant_id")["status"].to_dict()
    assert status == {"sub-h0": "unavailable", "sub-h1": "ok", "sub-h2": "ok", "sub-h3": "ok", "sub-g1": "ok"}
    assert list(result.failed) == ["sub-h0"]


def test_a_damaged_mask_costs_its_participant_only(study: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    """The row says unavailable, the reason is kept, and the run ends with exit code 4."""
    glioma, healthy = study
    broken = write_masks(tmp_path / "glioma", "glioma", {"sub-g9": tube(2.5)})
    next(iter(broken.cases[0].masks.values())).write_bytes(b"no image")
    words = ["--cohort", str(broken.root), "--reference", str(healthy.root), "--out", str(tmp_path / "out")]
    assert main(["deform", *words, "--jobs", "1", "-q"]) == 4
    table = read_table(tmp_path / "out" / "tables" / "deformation.tsv", DEFORMATION)
    assert table.set_index("participant_id").loc["sub-g9", "status"] == "unavailable"
    assert "sub-g9" in (tmp_path / "out" / "logs" / "failed.tsv").read_text()
    assert glioma.root.is_dir()


def test_seed_level_and_draws_reach_every_interval(
    study: tuple[Cohort, Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means, push and shares are drawn as `deform` is asked; without asking, 2,000 times from seed 0 at 95 %."""
    rows = pushed_rows(3, 0.2)[0]
    v_norms = np.linalg.norm([row["shift_mm"] for row in rows], axis=2).mean(axis=1)
    made = [
        {**row, "cohort": "c", "status": "ok", "v_norm_mm": value, "profile_mm": [value]}
        for row, value in zip(rows, v_norms, strict=True)
    ]
    monkeypatch.setattr(Plan, "tasks", lambda plan: _given(plan, made))

    def asked(**options: Any) -> DeformationResult:
        return deform(*study, inference=Inference(**options), work=Work(jobs=1))

    usual, *others = asked(), asked(seed=5), asked(n_bootstrap=150), asked(level=0.5)
    assert usual.estimates == asked(seed=0, n_bootstrap=2000, level=0.95).estimates
    assert usual.estimates[-1] == Push.of(rows, SKELETONS_MM).estimate()
    for other in others:
        assert [one.name for one in other.estimates] == ["mean V-Norm, control", "mean V-Norm, glioma ipsi", NAME]
        for one, before in zip(other.estimates, usual.estimates, strict=True):
            assert one.value == before.value and (one.low, one.high) != (before.low, before.high)
    assert {one.level for one in others[-1].estimates} == {0.5}
    assert others[-1].claim != usual.claim


def _given(plan: Plan, rows: list[dict[str, Any]]) -> Iterator[Any]:
    """Tasks that find these rows."""
    plan.skeletons_mm.update(
        {Bundle(name=name, hemisphere="left"): SKELETONS_MM[name, "left"] for name in ("AF", "PYT")}
    )
    return (partial(dict, row) for row in rows)


def test_the_public_function_takes_paths(study: tuple[Cohort, Cohort]) -> None:
    """`sk.deform` needs names or paths only, and refuses a reference without controls."""
    glioma, healthy = study
    with pytest.raises(DataError, match="must hold controls"):
        sk.deform(str(healthy.root), reference=str(glioma.root))
