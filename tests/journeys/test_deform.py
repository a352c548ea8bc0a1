"""Deformation as a part of the main job."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from makers.bundles import BUNDLE, tube, write_masks

from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DEFORMATION, DEFORMATION_RELATION
from shiftkit.cli import main
from shiftkit.pipeline.inputs import Design, Inputs
from shiftkit.pipeline.studies import Occasion, further_findings
from shiftkit.runs import Run
from shiftkit.tables import read_table
from shiftkit.work import Work

DESIGN = Design(
    metric="dice",
    bundles=(),
    hemispheres=(),
    covariates=(),
    equivalence_margin=0.02,
    sensitivity=True,
    include=("deformation",),
    allow=(),
    device="cpu",
    inference=Inference(n_bootstrap=200, level=0.9),
)


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


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Six patients pushed by 1 to 11 mm, three controls."""
    patients = write_masks(tmp_path / "glioma", "glioma", {f"sub-g{i}": tube(push_mm=1.0 + 2 * i) for i in range(6)})
    controls = write_masks(tmp_path / "healthy", "control", {f"sub-h{i}": tube(push_mm=i - 1.0) for i in range(3)})
    model = cast(Any, SimpleNamespace(name="source"))
    return Inputs(model=model, patients=patients, controls=controls, seen=())


def test_the_main_job_relates_deformation_to_the_drop_before_and_after(inputs: Inputs, tmp_path: Path) -> None:
    """The drop grows with the push, fine-tuning lifts all alike: a slope, no change of it, at the level asked for."""
    rows = [score(f"sub-h{i}", "control", "source", 0.8, np.nan) for i in range(3)]
    for i in range(6):
        rows.append(score(f"sub-g{i}", "glioma", "source", 0.75 - 0.05 * i, 20.0 - 3 * i))
        rows.append(score(f"sub-g{i}", "glioma", "tuned", 0.80 - 0.05 * i, 20.0 - 3 * i))
    occasion = Occasion(
        run=Run(root=tmp_path / "run", verb="decompose").open(),
        inputs=inputs,
        finetuned=(),
        scores=pd.DataFrame(rows),
        design=DESIGN,
        work=Work(jobs=1),
    )
    run, found = occasion.run, {one.key: one for one in further_findings(occasion)}
    assert list(found) == ["deformation", "deformation-profiles", "deformation-relation"]
    assert found["deformation-relation"].figure is not None
    assert {one.level for finding in found.values() for one in finding.estimates} == {0.9}
    relation = read_table(run.root / "tables" / "deformation_relation.tsv", DEFORMATION_RELATION)
    values = relation.set_index(["quantity", "model"])
    assert values.loc[("slope", "source"), "low"] > 0
    assert values.loc[("slope_change", "tuned"), "value"] == pytest.approx(0, abs=1e-9)
    assert values.loc[("distance", "n/a"), "value"] == pytest.approx(-1)
    assert (relation["status"] == "exploratory").all()
    table = read_table(run.root / "tables" / "deformation.tsv", DEFORMATION)
    pushed = table[table["group"] == "glioma"].sort_values("participant_id")["v_norm_mm"]
    assert pushed.is_monotonic_increasing


def test_scores_without_images_say_that_deformation_cannot_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--include with --scores is a usage error, not silence."""
    table = tmp_path / "scores.tsv"
    table.write_text("participant_id\n")
    words = ["--scores", str(table), "--include", "deformation", "--out", str(tmp_path / "run")]
    assert main(["decompose", *words]) == 2
    assert "needs images" in capsys.readouterr().err
