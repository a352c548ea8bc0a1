"""Deformation as a part of the main job."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DEFORMATION, DEFORMATION_RELATION
from shiftkit.cli import main
from shiftkit.images import write_image
from shiftkit.options import options_of, passed_on, settings_of
from shiftkit.pipeline.inputs import Design, Inputs
from shiftkit.pipeline.studies import Occasion, further_findings
from shiftkit.results import Finding
from shiftkit.runs import Run
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume
from shiftkit.work import Work

# These images are coarser than those that the reference was trained on, which is told, and is not what is tested.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The images of:shiftkit.errors.ShiftkitWarning"),
]
BUNDLE = Bundle.parse("AFleft")


def tube(push_mm: float) -> Volume:
    """A bundle along y, its middle pushed along x; 2.5 mm voxels."""
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    x, y, z = np.meshgrid(*(np.arange(n) * 2.5 for n in (20, 24, 14)), indexing="ij")
    inside = np.hypot(x - 20 - push_mm * np.exp(-(((y - 30) / 10) ** 2)), z - 17) < 6
    return Volume(array=inside & (np.abs(y - 30) < 24), affine=affine)


def write(folder: Path, group: str, pushes_mm: dict[str, float]) -> Cohort:
    for key, push_mm in pushes_mm.items():
        write_image(tube(push_mm), cohorts.mask_path(folder, key, BUNDLE))
    rows = pd.DataFrame({"participant_id": list(pushes_mm), "group": group, "tumor_side": "left"})
    cohorts.write_participants(folder, rows)
    return cohorts.load_cohort(folder)


def score(key: str, group: str, model: str, value: float, distance_mm: float) -> dict[str, object]:
    return {
        "participant_id": key,
        "cohort": group,
        "group": group,
        "model": model,
        "modality": "fa",
        "bundle": BUNDLE.name,
        "hemisphere": BUNDLE.hemisphere,
        "side": "ipsi",
        "metric": "dice",
        "value": value,
        "unit": "1",
        "status": "ok",
        "tumor_distance_mm": distance_mm,
    }


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Six patients pushed by 1 to 11 mm, three controls."""
    root = tmp_path_factory.mktemp("inputs")
    patients = write(root / "glioma", "glioma", {f"sub-g{i}": 1.0 + 2 * i for i in range(6)})
    controls = write(root / "healthy", "control", {f"sub-h{i}": float(i - 1) for i in range(3)})
    model = cast(Any, SimpleNamespace(name="source"))
    return Inputs(model=model, patients=patients, controls=controls, seen=())


@dataclass(frozen=True)
class Made:
    """A run, what is in its folder, and what was found."""

    folder: Path
    found: dict[str, Finding]


@pytest.fixture(scope="module")
def measured(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The drop grows with the push and fine-tuning lifts every patient alike."""
    rows = [score(f"sub-h{i}", "control", "source", 0.8, np.nan) for i in range(3)]
    for i in range(6):
        rows.append(score(f"sub-g{i}", "glioma", "source", 0.75 - 0.05 * i, 20.0 - 3 * i))
        rows.append(score(f"sub-g{i}", "glioma", "tuned", 0.80 - 0.05 * i, 20.0 - 3 * i))
    folder = tmp_path_factory.mktemp("runs") / "run"
    findings = further_findings(occasion_of(inputs, folder, seed=0), pd.DataFrame(rows)).findings
    return Made(folder, {one.key: one for one in findings})


def occasion_of(inputs: Inputs, out: Path, seed: int) -> Occasion:
    """A decomposition with deformation, as it stands when further studies begin."""
    options = settings_of(sk.decompose, {name: one.default for name, one in options_of(sk.decompose).items()})
    asked = passed_on(Design, options)
    inference = Inference(n_bootstrap=200, seed=seed)
    return Occasion(
        run=Run(root=out, verb="decompose").open(),
        inputs=inputs,
        finetuned=(),
        design=Design(**{**asked, "include": ("deformation",)}, inference=inference),
        work=Work(jobs=1),
    )


def test_the_main_job_relates_deformation_to_the_drop_before_and_after(measured: Made) -> None:
    """Slope shown, no change of it: the drop grows with the push and fine-tuning lifts every patient alike."""
    found = measured.found
    assert list(found) == ["deformation", "deformation-profiles", "deformation-relation"]
    assert found["deformation-relation"].figure is not None
    relation = read_table(measured.folder / "tables" / "deformation_relation.tsv", DEFORMATION_RELATION)
    values = relation.set_index(["quantity", "model"])
    assert values.loc[("slope", "source"), "low"] > 0
    assert values.loc[("slope_change", "tuned"), "value"] == pytest.approx(0, abs=1e-9)
    assert values.loc[("distance", "n/a"), "value"] == pytest.approx(-1)
    assert (relation["status"] == "exploratory").all()
    table = read_table(measured.folder / "tables" / "deformation.tsv", DEFORMATION)
    pushed = table[table["group"] == "glioma"].sort_values("participant_id")["v_norm_mm"]
    assert pushed.is_monotonic_increasing


def test_the_seed_of_a_decomposition_reaches_deformation(inputs: Inputs, measured: Made, tmp_path: Path) -> None:
    """Another seed gives the same numbers with other intervals; the same seed the same bytes."""
    rows = [score(f"sub-h{i}", "control", "source", 0.8, np.nan) for i in range(3)]
    rows += [score(f"sub-g{i}", "glioma", "source", 0.75 - 0.04 * i * i, 20.0 - 3 * i) for i in range(6)]
    made = {}
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        occasion = occasion_of(inputs, tmp_path / name, seed)
        # What is measured does not depend on the seed, and is kept.
        shutil.copytree(measured.folder / "measurements", tmp_path / name / "measurements")
        estimates = [
            one for finding in further_findings(occasion, pd.DataFrame(rows)).findings for one in finding.estimates
        ]
        made[name] = [(one.name, one.value) for one in estimates], [(one.low, one.high) for one in estimates]
    assert repr(made["first"]) == repr(made["again"])
    assert repr(made["first"][0]) == repr(made["other"][0])
    assert repr(made["first"][1]) != repr(made["other"][1])


def test_scores_without_images_say_that_deformation_cannot_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--include with --scores is a usage error, not silence."""
    table = tmp_path / "scores.tsv"
    table.write_text("participant_id\n")
    words = ["--scores", str(table), "--include", "deformation", "--out", str(tmp_path / "run")]
    assert main(["decompose", *words]) == 2
    assert "needs images" in capsys.readouterr().err
