"""A whole study on two small cohorts on disk: planned, killed, continued, and answered."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from makers.segmentation import files_in, interrupted, with_tumors, write_cohort

import shiftkit as sk
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError

STAGES = ["fa/source", "fa/decoder", "fa/scratch", "fa/curves", "fa/decomposition"]
TABLES = ("replication", "conditions", "contrasts", "decomposition", "recovery", "learning_curves")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nine controls, six patients with tumors, and a study file beside them."""
    root = tmp_path_factory.mktemp("hospital")
    write_cohort(root / "controls", 9)
    for path in (root / "controls").rglob("*param-peaks*"):  # drawn of noise, which the checks of a study find
        path.unlink()
    with_tumors(write_cohort(root / "plain", 6, group="glioma", prefix="p"), root / "patients")
    (root / "study.toml").write_text(
        """
healthy = "controls"
patients = "patients"
modalities = ["fa"]
strategies = ["decoder", "scratch"]
shots = [2]
folds = 2
[train]
spacing_mm = 5.0
epochs = 2
[finetune]
epochs = 1
draws = 1
[decompose]
n_bootstrap = 100
n_permutations = 99
sensitivity = false
allow = ["duplicate"]
"""
    )
    return root


def _study(place: Path, out: Path, **more: Any) -> Any:
    return sk.study(place / "study.toml", out=out, device="cpu", jobs=1, **more)


def _tables(out: Path) -> dict[str, bytes]:
    return {name: (out / "tables" / f"{name}.tsv").read_bytes() for name in TABLES}


def test_a_dry_run_lists_every_stage_with_its_time(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In their order, with an estimate each, from cohorts alone; nothing is written."""
    words = ["study", str(place / "study.toml"), "--out", str(tmp_path / "out"), "--device", "cpu", "--dry-run"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] is True and told["estimate"]["seconds"] > 10
    lines = told["verdict"].splitlines()
    assert lines[0].startswith("Would do 5 stages")
    assert [line.strip().split(":")[0] for line in lines[1:]] == STAGES
    assert not (tmp_path / "out").exists()


def test_what_the_cohorts_lack_is_refused_before_anything_is_computed(place: Path, tmp_path: Path) -> None:
    """A modality that one cohort lacks, a bundle that nobody has, too few controls, more shots than patients."""
    known: dict[str, Any] = {"healthy": str(place / "controls"), "patients": str(place / "patients"), "folds": 2}
    for wrong, error, told in (
        ({"modalities": ["peaks"]}, DataError, "Cohort controls cannot be used: modality peaks is missing"),
        ({"modalities": ["fa"], "bundles": ["AFF"]}, DataError, "did you mean AF"),
        ({"modalities": ["fa"], "healthy": str(place / "plain")}, DataError, "no participant with group 'control'"),
        ({"modalities": ["fa"], "shots": [5]}, ConfigError, "5"),
        ({"modalities": ["fa"], "train": {"network": "vnet"}}, ConfigError, "vnet"),
    ):
        with pytest.raises(error, match=told):
            sk.study({**known, **wrong}, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_study_continues_where_it_was(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed while fine-tuning: what was finished is not done again, and the tables are those of a whole run."""
    out, begun = tmp_path / "out", list[str]()
    with pytest.raises(KeyboardInterrupt):
        _study(place, out, announce=begun.append, progress=interrupted("Fine-tuning fold 2/2", 1).progress)
    assert [line.split(": ")[1].split(" ")[0] for line in begun] == STAGES[:2]
    source = files_in(out / "fa" / "source")
    words = ["study", str(place / "study.toml"), "--out", str(out), "--device", "cpu", "--jobs", "1", "--resume"]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "Stage 1 of 5" not in told.out and "Stage 2 of 5: fa/decoder" in told.out
    assert files_in(out / "fa" / "source") == source
    again = list[str]()
    result = _study(place, out, resume=True, announce=again.append)
    assert again == []
    whole = _study(place, tmp_path / "whole")
    assert _tables(out) == _tables(tmp_path / "whole")
    _is_told(result.result, out)
    assert whole.claim == result.claim
    # Another number of epochs is another study: only what depends on it is asked for again, and refused in its folder.
    with pytest.raises(ConfigError, match=r"epochs|learning|other settings"):
        sk.study({**_content(place), "train": {"spacing_mm": 5.0, "epochs": 3}}, out=out, device="cpu", resume=True)


def _content(place: Path) -> dict[str, Any]:
    from shiftkit.files import read_toml

    told = read_toml(place / "study.toml")
    return {**told, "healthy": str(place / "controls"), "patients": str(place / "patients")}


def _is_told(result: Any, out: Path) -> None:
    """Three findings with one answer each, whose words and numbers are those of page and table."""
    page = (out / "report.html").read_text(encoding="utf-8")
    answers = [one for number in (1, 2, 3) for one in result.of(number)]
    assert [one.finding for one in answers] == [1, 2, 3]
    assert "Finding 3, fine-tuning cannot handle what the tumor does: undecided with fa." in page
    # Two passes teach a network nothing, and six patients cannot tell the parts apart: the page says why.
    assert all(one.criteria[0].reason and one.criteria[0].reason in page for one in answers[1:])
    table = pd.read_csv(out / "tables" / "replication.tsv", sep="\t", keep_default_na=False)
    assert set(table["answer"]) <= {"supported", "not_supported", "undecided"}
    groups = pd.read_csv(out / "tables" / "conditions.tsv", sep="\t").groupby(["group", "strategy"]).size()
    assert set(groups.index) == {(g, s) for g in ("control", "glioma") for s in ("none", "decoder", "scratch")}
