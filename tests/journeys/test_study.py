"""A whole study on two small cohorts on disk: planned, killed, continued, and answered."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from makers.segmentation import files_in, interrupted, small_model, with_tumors, write_cohort

import shiftkit as sk
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.files import read_toml
from shiftkit.segmentation.network.checkpoints import save_model

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


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_network_of_another_modality_is_refused_by_name(place: Path, tmp_path: Path, dry_run: bool) -> None:
    """Its scores would bear the name of the modality that it was given for; so is one that lacks a bundle."""
    known: dict[str, Any] = {"healthy": str(place / "controls"), "patients": str(place / "patients"), "folds": 2}
    mine = small_model()
    save_model(mine, tmp_path / "mine")
    save_model(replace(mine, modality="peaks"), tmp_path / "other")
    save_model(replace(mine, bundles=mine.bundles[:1]), tmp_path / "few")
    lost = mine.bundles[1].name
    for wrong, told in (
        ({"checkpoints": {"fa": str(tmp_path / "other")}}, "fa names .*other, which reads peaks"),
        ({"checkpoints": {"fa": "reference"}}, "fa names reference, which reads peaks"),
        ({"checkpoints": {"fa": str(tmp_path / "few")}, "bundles": [lost]}, f"few, which does not predict {lost}"),
    ):
        with pytest.raises(ModelMismatchError, match=told):
            sk.study({**known, "modalities": ["fa"], **wrong}, out=tmp_path / "out", device="cpu", dry_run=dry_run)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_study_continues_where_it_was(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Killed while fine-tuning: what was finished is not done again, and the tables are those of a whole run.

    With a network that is there already, and as small as the images, so that it takes seconds.
    """
    save_model(small_model(), place / "mine")
    file = place / "mine.toml"
    file.write_text((place / "study.toml").read_text() + '[checkpoints]\nfa = "mine"\n')
    out, begun = tmp_path / "out", list[str]()
    asked: dict[str, Any] = {"device": "cpu", "jobs": 1}

    def killed(_done: int, _total: int, text: str) -> None:
        if len(begun) == 2 and text.startswith("Fine-tuning fold 2/2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sk.study(file, out=out, announce=begun.append, progress=killed, **asked)
    assert [line.split(": ")[1].split(" ")[0] for line in begun] == STAGES[1:3]
    first = files_in(out / "fa" / "decoder")
    assert main(["study", str(file), "--out", str(out), "--device", "cpu", "--jobs", "1", "--resume"]) == 0
    told = capsys.readouterr()
    assert "Stage 1 of 4" not in told.out and "Stage 2 of 4: fa/scratch" in told.out
    assert files_in(out / "fa" / "decoder") == first
    again = list[str]()
    whole = sk.study(file, out=tmp_path / "whole", announce=again.append, **asked)
    assert len(again) == 4
    assert _tables(out) == _tables(tmp_path / "whole")
    _is_told(whole.result, out)
    # Other settings make other stages: what is there is not taken for them.
    other = {**_content(file), "finetune": {"epochs": 2, "draws": 1}}
    with pytest.raises(ConfigError, match="epochs"):
        sk.study(other, out=out, resume=True, **asked)
    # What a finished stage left is trusted only as its verb left it.
    scores = tmp_path / "whole" / "fa" / "decomposition" / "tables" / "scores.tsv"
    scores.write_text(scores.read_text() + "\n")
    with pytest.raises(DataError, match=r"decomposition tables/scores\.tsv was changed, added or removed.*Remove"):
        sk.study(file, out=tmp_path / "whole", resume=True, **asked)


@pytest.mark.slow
def test_networks_are_trained_on_controls_that_are_not_held_out(place: Path, tmp_path: Path) -> None:
    """Of nine controls without anybody to test on, five are kept from the network; only it is there when killed."""
    begun = list[str]()
    with pytest.raises(KeyboardInterrupt):
        killed = interrupted("Loading images", 6).progress
        sk.study(place / "study.toml", out=tmp_path, device="cpu", jobs=1, announce=begun.append, progress=killed)
    assert [line.split(": ")[1].split(" ")[0] for line in begun] == STAGES[:2]
    model = sk.load_model(tmp_path / "fa" / "source")
    assert len(model.participants) == 4 and model.training["participants_tuned_on"] == 1
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["fa-source.json"]


def _content(file: Path) -> dict[str, Any]:
    """What a study file holds, with paths that need no file."""
    place = {name: str(file.parent / name) for name in ("controls", "patients", "mine")}
    told = {"healthy": place["controls"], "patients": place["patients"], "checkpoints": {"fa": place["mine"]}}
    return {**read_toml(file), **told}


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
