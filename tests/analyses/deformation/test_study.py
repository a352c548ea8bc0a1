from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from makers.bundles import SKELETONS_MM, Study, pushed_rows, table_of

import shiftkit as sk
from shiftkit.analyses.deformation.cases import Plan
from shiftkit.analyses.deformation.push import NAME, Push
from shiftkit.analyses.deformation.result import DeformationResult
from shiftkit.analyses.deformation.study import deform
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DEFORMATION_PROFILES
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image
from shiftkit.tables import read_table
from shiftkit.types import Bundle
from shiftkit.work import Work

pytestmark = pytest.mark.slow


def test_a_run_holds_tables_maps_templates_and_figures(run: Path) -> None:
    """Every row is there with a number or a word, tables fit their schemas, and the map is the patient's own."""
    table = table_of(run)
    assert len(table) == 12
    assert table.drop(["sub-g9", "sub-h9"])["status"].to_dict() == {
        **{f"sub-{name}": "ok" for name in ("h0", "h1", "h2", "h3", "g1", "g2", "g3", "g4")},
        "sub-g5": "empty",
        "sub-g6": "disconnected",
    }
    number = table["v_norm_mm"].notna()
    assert (number == (table["status"] == "ok")).all()
    assert table.loc["sub-g4", "side"] == "ipsi"
    assert table.loc["sub-g4", "percentile"] == 100
    assert table.loc["sub-g4", "z"] > 3
    profiles = read_table(run / "tables" / "deformation_profiles.tsv", DEFORMATION_PROFILES)
    assert (profiles[profiles["bundle"] == "AF"].groupby("participant_id").size() == 32).all()
    assert (profiles["v_norm_mm"].notna() == (profiles["status"] == "ok")).all()
    image = read_image(run / "maps" / "sub-g4" / "sub-g4_label-AFleft_desc-vnorm_map.nii.gz")
    assert image.array.max() > table.loc["sub-g4", "v_norm_mm"]
    for name in ("templates/label-AFleft_mask.nii.gz", "figures/deformation.svg", "run.json"):
        assert (run / name).is_file(), name


def test_an_interrupted_run_ends_with_the_same_tables(run: Path, study: Study) -> None:
    """With two measurements lost, one of each kind, and tables gone, --resume gives the same tables to the byte.

    What is there is kept.
    """
    before = {path.name: path.read_bytes() for path in (run / "tables").iterdir()}
    records = sorted((run / "measurements").rglob("*.json"))
    lost = {records[0], next(path for path in records if path.name == "sub-g2_label-AFleft_own.json")}
    assert len(lost) == 2
    times = {path: path.stat().st_mtime_ns for path in records if path not in lost}
    for path in (*lost, *(run / "tables").iterdir()):
        path.unlink()
    assert main(["deform", *study.words(), "--out", str(run), "--resume"]) == 4
    assert before == {path.name: path.read_bytes() for path in (run / "tables").iterdir()}
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_folder_in_use_is_refused(run: Path, study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --resume nothing is overwritten: exit 2, and the way on is named."""
    assert main(["deform", *study.words(), "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_too_few_controls_are_refused(study: Study) -> None:
    """Two controls make no healthy range, a name that nobody has is an error, and so is a lattice of 10 mm."""
    with pytest.raises(DataError, match="at least 3 controls"):
        deform(study.now, study.healthy.where(lambda case: case.key < "sub-h2"))
    with pytest.raises(DataError, match="XX"):
        deform(study.now, study.healthy, bundles=("XX",))
    with pytest.raises(ConfigError, match="1–4 mm"):
        deform(study.now, study.healthy, spacing_mm=10)


def test_a_damaged_mask_costs_its_participant_only(run: Path) -> None:
    """Of a patient or a control: the row says unavailable, the reason is kept, and everyone else has a number or word.

    The template is made of the other controls; the run ends with exit code 4.
    """
    status = table_of(run)["status"]
    assert set(status.index[status == "unavailable"]) == {"sub-g9", "sub-h9"}
    assert (status[[f"sub-h{i}" for i in range(4)]] == "ok").all()
    failed = (run / "logs" / "failed.tsv").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in failed[1:]) == ["sub-g9", "sub-h9"]


def test_seed_level_and_draws_reach_every_interval(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means, push and shares are drawn as `deform` is asked; without asking, 2,000 times from seed 0 at 95 %."""
    rows = pushed_rows(3, 0.2)[0]
    v_norms = np.linalg.norm([row["shift_mm"] for row in rows], axis=2).mean(axis=1)
    made = [
        {**row, "cohort": "c", "status": "ok", "v_norm_mm": value, "profile_mm": [value]}
        for row, value in zip(rows, v_norms, strict=True)
    ]
    monkeypatch.setattr(Plan, "tasks", lambda plan: _given(plan, made))

    def asked(**options: Any) -> DeformationResult:
        return deform(study.now, study.healthy, inference=Inference(**options), work=Work(jobs=1))

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


def test_the_public_function_takes_paths(study: Study) -> None:
    """`sk.deform` needs names or paths only, and refuses a reference without controls."""
    with pytest.raises(DataError, match="must hold controls"):
        sk.deform(str(study.healthy.root), reference=str(study.now.root))
