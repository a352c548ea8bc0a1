"""``shiftkit features`` on a small phantom: tables, stored embeddings, report, before and after fine-tuning."""

import json
from pathlib import Path

import pytest

import shiftkit as sk
from shiftkit.cli import main
from shiftkit.tables import TABLES, read_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight controls and eight patients at 5 mm; the model has seen nobody."""
    root = tmp_path_factory.mktemp("phantom")
    sk.phantom(root, n_healthy=8, n_glioma=8, spacing_mm=5, seed=7)
    return root


def test_the_verb_end_to_end(cohorts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every table fits its schema, fine-tuning is set beside the source model, and --resume gives the same bytes."""
    words = ["--model", "reference", "--cohort", str(cohorts / "glioma"), "--reference", str(cohorts / "healthy")]
    tuned, out = tmp_path / "tuned", tmp_path / "run"
    assert main(["finetune", *words, "--folds", "2", "--out", str(tuned), "-q"]) == 0
    more = ["--finetuned", str(tuned), "--permutations", "99", "--layers", "encoder-2,encoder-4,decoder-1", "-q"]
    assert main(["features", *words, *more, "--jobs", "1", "--out", str(out)]) == 0
    for name in ("features", "directions", "cka", "foresight", "images"):
        read_table(out / "tables" / f"{name}.tsv", TABLES[name])
    table = read_table(out / "tables" / "features.tsv", TABLES["features"])
    assert set(table["model"]) == {"reference", "reference+decoder"}
    assert set(table["contrast"]) == {"total", "systematic", "tumor"}
    given = table[table["value"].notna()]
    assert (given["p_value"] > 0).all() and (given["p_adjusted"] >= given["p_value"] - 1e-12).all()
    cka = read_table(out / "tables" / "cka.tsv", TABLES["cka"]).set_index("layer")["cka"]
    assert cka["encoder-2"] == pytest.approx(1.0, abs=1e-4), "the decoder strategy freezes the encoder"
    assert cka["decoder-1"] < 1 - 1e-4
    page = (out / "report.html").read_text()
    assert "a picture, no test" in page and "Which layers did fine-tuning move?" in page
    assert str(tmp_path) not in (out / "run.json").read_text() + page
    before = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    stamps = {path: path.stat().st_mtime_ns for path in (out / "embeddings").rglob("*.npz")}
    assert len(stamps) == 2 * 16
    capsys.readouterr()
    assert main(["features", *words, *more, "--jobs", "1", "--out", str(out), "--resume", "--json"]) == 0
    assert "feature shift" in json.loads(capsys.readouterr().out)["verdict"]
    assert {path.name: path.read_bytes() for path in (out / "tables").iterdir()} == before
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_wrong_folders_and_layers_are_refused(
    cohorts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown layer and a folder that is no fine-tuning end with their exit code and say what there is."""
    words = ["features", "--model", "reference", "--cohort", str(cohorts / "glioma")]
    words += ["--reference", str(cohorts / "healthy"), "-q"]
    assert main([*words, "--layers", "encoder-9", "--out", str(tmp_path / "a")]) == 2
    assert "encoder-1" in capsys.readouterr().err
    assert main([*words, "--finetuned", str(tmp_path), "--layers", "encoder-4", "--out", str(tmp_path / "b")]) == 3
    assert "fold-1" in capsys.readouterr().err
