"""``shiftkit features`` on a small phantom: tables, stored embeddings, report, before and after fine-tuning."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import shiftkit as sk
from shiftkit.catalogue import TABLES
from shiftkit.cli import main
from shiftkit.segmentation.network.checkpoints import Model, save_model
from shiftkit.segmentation.network.networks import Architecture, build_network, part_of
from shiftkit.segmentation.training.recipes import digests
from shiftkit.tables import read_table, write_table

# These images are coarser than those that the reference was trained on, which is told, and is not what is tested.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The images of:shiftkit.errors.ShiftkitWarning"),
]


@pytest.fixture(scope="module")
def cohorts(phantoms: Callable[..., dict[str, sk.Cohort]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight controls and eight patients at 5 mm."""
    root = tmp_path_factory.mktemp("phantom")
    phantoms(root, n_healthy=8, n_glioma=8, spacing_mm=5, seed=7)
    return root


@pytest.fixture(scope="module")
def models(cohorts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained source model, and a folder as fine-tuning leaves it: two folds whose decoders were moved.

    Each fold's checkpoint names the images of the other fold's patients as those it has seen.
    """
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    bundles = tuple(sk.Bundle.parse(label) for label in ("AFleft", "AFright"))
    architecture = Architecture(in_channels=4, out_channels=2, channels=(4, 8))
    source = Model(
        name="small",
        network=build_network(architecture).eval(),
        architecture=architecture,
        modality="fa",
        bundles=bundles,
        spacing_mm=5.0,
        shape=(32, 40, 32),
        thresholds=dict.fromkeys(bundles, 0.5),
        participants={},
    )
    save_model(source, root / "source")
    patients = sk.load_cohort(cohorts / "glioma").cases
    for fold in (1, 2):
        network = build_network(architecture).eval()
        network.load_state_dict(source.network.state_dict())
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if part_of(name) != "encoder":
                    parameter.add_(0.5 * torch.randn_like(parameter))
        seen = digests([case for number, case in enumerate(patients) if number % 2 != fold - 1], "fa")
        tuned = dataclasses.replace(source, name="small+decoder", network=network, participants=seen)
        save_model(tuned, root / "tuned" / f"fold-{fold}")
    return root


def test_the_verb_end_to_end(cohorts: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every table fits its schema, fine-tuning is set beside the source model, and --resume gives the same bytes."""
    out = tmp_path / "run"
    words = ["--model", str(models / "source"), "--cohort", str(cohorts / "glioma")]
    words += ["--reference", str(cohorts / "healthy"), "--finetuned", str(models / "tuned"), "--out", str(out)]
    words += ["--permutations", "99", "--jobs", "1", "-q"]
    assert main(["features", *words]) == 0
    for name in ("features", "directions", "cka", "foresight", "images"):
        read_table(out / "tables" / f"{name}.tsv", TABLES[name])
    table = read_table(out / "tables" / "features.tsv", TABLES["features"])
    assert set(table["model"]) == {"small", "small+decoder"}
    assert set(table["contrast"]) == {"total", "systematic", "tumor"}
    given = table[table["value"].notna()]
    assert (given["p_value"] > 0).all() and (given["p_adjusted"] >= given["p_value"] - 1e-12).all()
    cka = read_table(out / "tables" / "cka.tsv", TABLES["cka"]).set_index("layer")["cka"]
    assert cka["encoder-2"] == pytest.approx(1.0, abs=1e-4), "the encoder was left as it was"
    assert cka["decoder-1"] < 1 - 1e-4
    page = (out / "report.html").read_text()
    assert "a picture, no test" in page and "Which layers did fine-tuning move?" in page
    assert str(tmp_path) not in (out / "run.json").read_text() + page
    before = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    stamps = {path: path.stat().st_mtime_ns for path in (out / "embeddings").rglob("*.npz")}
    assert len(stamps) == 2 * 16
    capsys.readouterr()
    assert main(["features", *words, "--resume", "--json"]) == 0
    assert "feature shift" in json.loads(capsys.readouterr().out)["verdict"]
    assert {path.name: path.read_bytes() for path in (out / "tables").iterdir()} == before
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_a_network_of_ones_own_end_to_end(cohorts: Path, tmp_path: Path) -> None:
    """A module from a file of code: its layers are chosen, called by the author's own paths, and compared."""
    code = tmp_path / "net.py"
    code.write_text(
        "import shiftkit as sk\nfrom torch import nn\n\n\ndef make_network():\n"
        "    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 1, 1))\n"
        "    return sk.Model(network=network, modality='fa', bundles=['AFleft'], spacing_mm=5, shape=(32, 40, 32))\n"
    )
    words = ["--model", f"{code}:make_network", "--cohort", str(cohorts / "glioma")]
    words += ["--reference", str(cohorts / "healthy"), "--permutations", "99", "--jobs", "1", "-q"]
    assert main(["features", *words, "--out", str(tmp_path / "run")]) == 0
    table = read_table(tmp_path / "run" / "tables" / "features.tsv", TABLES["features"])
    assert set(table["layer"]) == {"0", "1", "2"} and table["value"].notna().any()


def test_wrong_folders_and_layers_are_refused(
    cohorts: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown layer, a folder that is no fine-tuning, and folds that have seen everyone: each says what to do."""
    words = ["features", "--model", str(models / "source"), "--cohort", str(cohorts / "glioma")]
    words += ["--reference", str(cohorts / "healthy"), "-q"]
    assert main([*words, "--layers", "encoder-9", "--out", str(tmp_path / "a")]) == 2
    assert "encoder-1" in capsys.readouterr().err
    more = ["--layers", "encoder-1", "--out"]
    assert main([*words, "--finetuned", str(tmp_path), *more, str(tmp_path / "b")]) == 3
    assert "fold-1" in capsys.readouterr().err
    one = tmp_path / "one"
    shutil.copytree(models / "tuned" / "fold-1", one / "fold-1")
    assert main([*words, "--finetuned", str(one), *more, str(tmp_path / "c")]) == 3
    assert "never saw them" in capsys.readouterr().err


def test_the_python_function_is_the_verb(cohorts: Path, models: Path, tmp_path: Path) -> None:
    """``sk.features`` returns what the verb writes, with findings that a report can take; scores can be given."""
    patients, controls = sk.load_cohort(cohorts / "glioma"), sk.load_cohort(cohorts / "healthy")
    model = sk.load_model(models / "source")
    tables = [sk.score(sk.predict(model, cohort), cohort, metrics=("dice",)) for cohort in (patients, controls)]
    scores = tmp_path / "scores.tsv"
    write_table(pd.concat([table.to_frame() for table in tables]), TABLES["scores"], scores)
    settings = {"layers": ("encoder-1",), "n_permutations": 99, "jobs": 1}
    study = sk.features(
        models / "source", patients, reference=controls, out=tmp_path / "run", scores=scores, **settings
    )
    assert set(study.to_frame()["layer"]) == {"encoder-1"}
    assert {"features", "features-images", "features-foresight"} <= {finding.key for finding in study.findings}
    assert not (tmp_path / "run" / "predictions").exists()
    assert "feature shift" in str(study) and "<p>" in study._repr_html_()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_umap() -> None:
    """Two calls give the same coordinates, to the bit; another seed gives others.

    Here, where runs have drawn UMAP: it compiles itself in every process for half a minute.
    """
    from shiftkit.analyses.features.pictures import umap

    scores = np.random.default_rng(0).normal(size=(60, 5))
    np.testing.assert_array_equal(umap(scores, seed=3), umap(scores, seed=3))
    assert not np.array_equal(umap(scores, seed=3), umap(scores, seed=4))
