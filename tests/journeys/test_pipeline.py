"""The main job on a small phantom: files, statuses, resuming, and inputs that do not fit."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import shiftkit as sk
from shiftkit.catalogue import TABLES
from shiftkit.cli import main
from shiftkit.errors import DataError
from shiftkit.pipeline.inputs import gather
from shiftkit.segmentation.network.checkpoints import Model, save_model
from shiftkit.segmentation.training.recipes import Recipe, digests
from shiftkit.segmentation.training.source import train
from shiftkit.tables import read_table

# These images are coarser than those that the reference was trained on, which is told, and is not what is tested.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The images of:shiftkit.errors.ShiftkitWarning"),
]
FAST: dict[str, Any] = {"n_bootstrap": 200, "n_permutations": 199, "jobs": 1, "sensitivity": False}


@pytest.fixture(scope="module")
def cohorts(phantoms: Callable[..., dict[str, sk.Cohort]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six controls and six patients at 5 mm; the seed is not the built-in one, so the model has seen nobody."""
    root = tmp_path_factory.mktemp("phantom")
    phantoms(root, n_healthy=6, n_glioma=6, spacing_mm=5, seed=7)
    return root


@pytest.fixture(scope="module")
def inputs(cohorts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Patients, controls, and two healthy people scanned like the patients."""
    root = tmp_path_factory.mktemp("more")
    sk.phantom(root, n_healthy=0, n_glioma=0, n_target_controls=2, spacing_mm=5, seed=8, jobs=1)
    return {"cohort": cohorts / "glioma", "reference": cohorts / "healthy", "target_controls": root / "target_controls"}


@pytest.fixture(scope="module")
def run(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one bundle of ten: most of a run's time goes into the pages of bundles."""
    out = tmp_path_factory.mktemp("runs") / "run"
    sk.decompose(out=out, model="reference", **inputs, bundles=("AF",), check_with_implants=5, **FAST)
    return out


@pytest.fixture(scope="module")
def small(cohorts: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that predicts in a twentieth of the time: one bundle, learned for seconds; it is said to know nobody."""
    root = tmp_path_factory.mktemp("models")
    recipe = Recipe(bundles=("AFleft", "AFright"), channels=(8, 16), spacing_mm=5, epochs=20, augmentation="none")
    model = train(sk.load_cohort(cohorts / "healthy"), out=root / "trained", recipe=recipe)
    assert isinstance(model, Model)
    save_model(dataclasses.replace(model, participants={}), root / "small")
    return str(root / "small")


def test_a_run_holds_what_the_contract_names(run: Path) -> None:
    """Report, configuration, record, tables with dictionaries; every table passes its own schema."""
    for name in ("report.html", "config.toml", "run.json", "logs/failed.tsv", "CITATION.md", "CITATION.bib"):
        assert (run / name).is_file(), name
    for name in ("scores", "decomposition", "recovery", "sensitivity", "shells"):
        path = run / "tables" / f"{name}.tsv"
        read_table(path, TABLES[name])
        assert path.with_suffix(".json").is_file()


def test_what_implanted_tumors_take_stands_beside_the_estimate(run: Path) -> None:
    """Five controls are segmented with the patients' tumors in them; table, record and report tell what that took."""
    table = read_table(run / "tables" / "implants.tsv", TABLES["implants"])
    whole = table[(table["source"] == "implants") & (table["zone"] == "all")].iloc[0]
    assert whole["n"] == 5 and whole["low"] < whole["value"] < whole["high"]
    assert (table["source"] == "patients").sum() == 1
    record = json.loads((run / "run.json").read_text())
    assert record["implants"]["claim"].startswith("Measured with implanted tumors: 5 unseen controls lose")
    told = {one["key"]: one for one in json.loads((run / "report.json").read_text())["findings"]}["implants"]
    assert told["claim"] == record["implants"]["claim"] and "simulation of mass effect" in told["caveats"][0]
    implanted = sk.load_cohort(run / "implants" / "implanted")
    scored = read_table(run / "tables" / "scores.tsv", TABLES["scores"])
    controls = set(scored[scored["group"] == "control"]["participant_id"])
    assert len(implanted) == 5 and {case.participant_id for case in implanted} < controls
    assert {bundle.name for bundle in implanted.bundles} == {"AF"}


def test_every_participant_and_bundle_is_scored(run: Path) -> None:
    """Fourteen participants, a bundle on both sides, one row each; patients have distances, controls have none."""
    scores = read_table(run / "tables" / "scores.tsv", TABLES["scores"])
    assert len(scores) == 28 and set(scores["bundle"]) == {"AF"}
    assert scores[scores["group"] == "glioma"]["tumor_distance_mm"].notna().all()
    assert scores[scores["group"] != "glioma"]["tumor_distance_mm"].isna().all()
    assert set(scores["seen"]) == {"no"}


def test_the_report_says_what_the_checks_of_the_images_found(run: Path) -> None:
    """Patients and controls were checked; the report gives the counts of each."""
    told = {one["key"]: one["claim"] for one in json.loads((run / "report.json").read_text())["findings"]}
    assert "all 6 participants look sound." in told["check-patients"]
    assert "all 6 participants look sound." in told["check-controls"]


def test_the_first_page_says_where_data_and_model_come_from(run: Path) -> None:
    """That data are drawn, that the model was made for them, and who the answer rests on stand on the first screen."""
    opening = json.loads((run / "report.json").read_text())["opening"]
    assert any("digital phantom" in sentence for sentence in opening["origin"])
    assert "Model reference was trained on that phantom's healthy people." in opening["origin"]
    assert opening["facts"]["patients"] == "6" and opening["facts"]["bundles"] == "1 (2 with hemispheres)"
    page = (run / "report.html").read_text()
    assert page.index("was trained on that phantom") < page.index('class="screen"') and opening["question"][:20] in page


def test_the_record_names_versions_digests_and_the_verdict_but_no_place(run: Path, cohorts: Path) -> None:
    """run.json can be shared: it has digests and versions, and no absolute path."""
    text = (run / "run.json").read_text()
    record = json.loads(text)
    assert {"shiftkit", "packages", "inputs", "seeds", "verdict", "started"} <= set(record)
    assert len(record["inputs"]["model"]) == 64
    for file in ("run.json", "config.toml", "report.html"):
        assert str(cohorts.parent) not in (run / file).read_text()


def test_the_report_is_made_again_with_the_same_bytes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``report`` needs no cohort named and estimates nothing; every page and drawing comes out as it was."""
    pages = [*run.glob("*.html"), *run.glob("reports/*.html"), *run.glob("figures/*.svg"), *run.glob("CITATION.*")]
    before = {path: path.read_bytes() for path in pages}
    assert len(list(run.glob("reports/bundle-*.html"))) == 2
    assert main(["report", str(run)]) == 0
    assert {path: path.read_bytes() for path in pages} == before


def test_a_run_compared_with_itself_differs_in_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``compare`` gives a difference of zero, no setting that differs, and a page; ``cite`` prints its numbers."""
    assert main(["compare", str(run), str(run), "--out", str(tmp_path / "comparison.html")]) == 0
    assert "scores +0.000 [+0.000, +0.000] Dice" in capsys.readouterr().out
    assert "Settings, versions and input are the same." in (tmp_path / "comparison.html").read_text()
    assert main(["cite", str(run)]) == 0
    told = capsys.readouterr().out
    assert (run / "CITATION.md").read_text() in told and "@software{shiftkit," in told


def test_an_interrupted_run_ends_with_the_same_tables(run: Path, inputs: dict[str, Path], tmp_path: Path) -> None:
    """Half of the predictions, an implant less and no tables: --resume gives every table again, to the byte."""
    broken = tmp_path / "run"
    shutil.copytree(run, broken)
    shutil.rmtree(broken / "tables")
    (broken / "run.json").unlink()
    for folder in sorted((broken / "predictions" / "patients").glob("sub-*"))[3:]:
        shutil.rmtree(folder)
    shutil.rmtree(next((broken / "implants" / "implanted").glob("sub-*")))
    sk.decompose(out=broken, model="reference", **inputs, bundles=("AF",), check_with_implants=5, **FAST, resume=True)
    for path in sorted((run / "tables").iterdir()):
        assert path.read_bytes() == (broken / "tables" / path.name).read_bytes(), path.name


def test_scores_alone_give_the_same_regression(run: Path, tmp_path: Path) -> None:
    """--scores needs no images and gives the numbers that the images gave; what needs images is absent."""
    words = ["decompose", "--scores", str(run / "tables" / "scores.tsv"), "--out", str(tmp_path / "again")]
    assert main([*words, "--bootstrap", "200", "--permutations", "199", "-q"]) == 0
    first, again = (
        read_table(folder / "tables" / "decomposition.tsv", TABLES["decomposition"])
        for folder in (run, tmp_path / "again")
    )
    first = first[first["method"] != "shell"].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again[again["method"] != "shell"].reset_index(drop=True))
    assert "could not be checked" in (tmp_path / "again" / "report.html").read_text()


def test_a_run_is_replayed_from_its_record(
    run: Path, inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--config run.json takes that run's settings and gives its numbers; with other inputs it ends, naming them."""
    words = ["decompose", "--config", str(run / "run.json"), "--model", "reference", "-q"]
    words += ["--reference", str(inputs["reference"]), "--target-controls", str(inputs["target_controls"]), "--cohort"]
    assert main([*words, str(inputs["cohort"]), "--out", str(tmp_path / "again")]) == 0
    for name in ("scores.tsv", "decomposition.tsv", "shells.tsv"):
        assert (run / "tables" / name).read_bytes() == (tmp_path / "again" / "tables" / name).read_bytes()
    shutil.copytree(inputs["cohort"], tmp_path / "other")
    frame = pd.read_csv(tmp_path / "other" / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    frame.iloc[1:].to_csv(tmp_path / "other" / "participants.tsv", sep="\t", index=False)
    shutil.rmtree(tmp_path / "other" / frame["participant_id"].iloc[0])
    assert main([*words, str(tmp_path / "other"), "--out", str(tmp_path / "third")]) == 3
    assert "what differs is: patients" in capsys.readouterr().err
    assert not (tmp_path / "third").exists()


def test_scores_of_several_models_need_the_name_of_the_source(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a table with two models the one named is the source and the other counts as fine-tuned; unnamed it ends."""
    frame = read_table(run / "tables" / "scores.tsv", TABLES["scores"])
    better = frame.assign(model="tuned", value=1 - 0.5 * (1 - frame["value"]))
    pd.concat([frame, better]).to_csv(tmp_path / "both.tsv", sep="\t", index=False, na_rep="n/a")
    words = ["decompose", "--scores", str(tmp_path / "both.tsv"), "--bootstrap", "200", "--permutations", "199", "-q"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 2
    assert "holds scores of reference, tuned" in capsys.readouterr().err
    assert main([*words, "--model", "reference", "--out", str(tmp_path / "b")]) == 0
    recovery = read_table(tmp_path / "b" / "tables" / "recovery.tsv", TABLES["recovery"])
    assert set(recovery["model"]) == {"tuned"}


def test_target_controls_split_the_systematic_part(run: Path) -> None:
    """Healthy people scanned like the patients are predicted and scored too, and their part is tabled."""
    scores = read_table(run / "tables" / "scores.tsv", TABLES["scores"])
    assert scores.groupby("group")["participant_id"].nunique().to_dict() == {
        "control": 6,
        "glioma": 6,
        "target_control": 2,
    }
    table = read_table(run / "tables" / "decomposition.tsv", TABLES["decomposition"])
    assert {"acquisition", "disease"} <= set(table["component"])


def test_controls_that_the_model_has_seen_are_left_out_by_their_images(cohorts: Path, tmp_path: Path) -> None:
    """A renamed copy of a training image is recognized; if nobody is left, the message says what to do."""
    model = sk.load_model("reference")
    healthy = sk.load_cohort(cohorts / "healthy")
    some = {f"renamed-{key}": digest for key, digest in digests(healthy.cases[:4], "peaks").items()}
    save_model(dataclasses.replace(model, participants=some), tmp_path / "some")
    inputs = gather(tmp_path / "some", cohorts / "glioma", cohorts / "healthy")
    assert (len(inputs.controls), len(inputs.seen)) == (2, 4)
    save_model(dataclasses.replace(model, participants=digests(healthy.cases, "peaks")), tmp_path / "all")
    with pytest.raises(DataError, match=r"has not seen.*`folds`"):
        gather(tmp_path / "all", cohorts / "glioma", cohorts / "healthy")


def test_a_missing_modality_ends_with_5(cohorts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cohort without peaks cannot be segmented by a model that reads peaks."""
    bare = tmp_path / "bare"
    shutil.copytree(cohorts / "glioma", bare)
    for path in bare.rglob("*peaks*"):
        path.unlink()
    words = ["predict", "--model", "reference", "--cohort", str(bare), "--out", str(tmp_path / "p"), "-q"]
    assert main(words) == 5
    assert "peaks" in capsys.readouterr().err


def test_a_model_for_other_bundles_ends_with_5(
    cohorts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cohort with masks of bundles that the model does not know is a mismatch, with both lists named."""
    other = tmp_path / "other"
    shutil.copytree(cohorts / "glioma", other)
    for path in other.rglob("*_mask.nii.gz"):
        if "tumor" not in path.name and "core" not in path.name:
            path.unlink() if "AFleft" not in path.name else path.rename(
                path.with_name(path.name.replace("AFleft", "UFleft"))
            )
    words = ["decompose", "--model", "reference", "--cohort", str(other), "--reference", str(cohorts / "healthy")]
    assert main([*words, "--out", str(tmp_path / "run"), "-q"]) == 5
    message = capsys.readouterr().err
    assert "UFleft" in message
    assert "AFleft" in message


def test_finetuning_and_comparing_end_to_end(cohorts: Path, small: str, tmp_path: Path) -> None:
    """Two folds, decoder only: out-of-fold predictions of everyone, and a recovery table."""
    words = ["--cohort", str(cohorts / "glioma"), "--reference", str(cohorts / "healthy"), "--model", small]
    tuned = tmp_path / "tuned"
    learned = ["--bundles", "AFleft,AFright", "--folds", "2", "--epochs", "2"]
    assert main(["finetune", *words, *learned, "--out", str(tuned), "-q"]) == 0
    predicted = {path.parents[1].name for path in (tuned / "predictions").rglob("*AFleft*_mask.nii.gz")}
    assert predicted == {case.key for case in sk.load_cohort(cohorts / "glioma")}
    out = tmp_path / "run"
    more = ["--bundles", "AF", "--bootstrap", "200", "--permutations", "199"]
    assert main(["decompose", *words, "--finetuned", str(tuned), "--out", str(out), *more, "-q"]) == 0
    recovery = read_table(out / "tables" / "recovery.tsv", TABLES["recovery"])
    assert set(recovery["component"]) == {"total", "systematic", "tumor", "forgetting"}
    assert set(recovery["strategy"]) == {"decoder"}
