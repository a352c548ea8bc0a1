"""The verbs train, finetune and predict on small cohorts: what they print, write and refuse."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from makers.segmentation import BUNDLES, files_in, write_cohort
from nibabel.nifti1 import Nifti1Image

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.catalogue import CURVES, SHOTS
from shiftkit.cli import main
from shiftkit.cli.commands import GROUPS
from shiftkit.cli.flags import as_json
from shiftkit.images import read_image, write_image
from shiftkit.names import BUILT_IN_MODELS
from shiftkit.segmentation.network.checkpoints import Model, load_model, save_model
from shiftkit.segmentation.samples.samples import box_shape
from shiftkit.segmentation.training import source as training
from shiftkit.segmentation.training.recipes import Recipe, digests
from shiftkit.segmentation.transfer.strategies import STRATEGIES
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume

MakeModel = Callable[..., Model]


@pytest.fixture
def source(make_model: MakeModel, tmp_path: Path) -> str:
    """A small model on disk."""
    save_model(make_model(), tmp_path / "small")
    return str(tmp_path / "small")


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_help_lists_every_strategy_as_the_library_describes_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list in ``finetune --help``, which is read without PyTorch, is that of the strategies."""
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["finetune", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for name, strategy in STRATEGIES.items():
        assert f"{name} {strategy.description}" in told


def test_help_names_the_models_that_are_built_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, in the order that they are listed in."""
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["finetune", "--help"]) == 0
    assert f"built-in: {', '.join(BUILT_IN_MODELS)}, or" in " ".join(capsys.readouterr().out.split())


def test_flags_of_train_reach_the_training(
    patients: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each flag arrives under its parameter's name; a key in the file counts where no flag is given."""
    got: dict[str, object] = {}

    def record(cohort: Cohort, *, recipe: Recipe, **options: object) -> str:
        got.update(vars(recipe) | options)
        return "trained"

    monkeypatch.setattr(training, "train", record)
    (tmp_path / "c.toml").write_text('[train]\nmodality = "fa"\nepochs = 7\npatience = 2\n')
    words = "--network segresnet --normalization batch --spacing 3 --epochs 5 --batch-size 2 --augmentation strong "
    words += "--patch 32,48,32 --deep-supervision --memory 1.5 --fast"
    given = ["--cohort", str(patients.root), "--out", str(tmp_path / "m"), "--config", str(tmp_path / "c.toml")]
    assert main(["train", *given, *words.split()]) == 0
    assert (got["network"], got["normalization"], got["spacing_mm"], got["modality"]) == ("segresnet", "batch", 3, "fa")
    assert (got["patch"], got["deep_supervision"], got["memory_gib"]) == ((32, 48, 32), True, 1.5)
    assert got["deterministic"] is False
    assert (got["epochs"], got["batch_size"], got["patience"], got["augmentation"]) == (5, 2, 2, "strong")
    (tmp_path / "c.toml").write_text('[train]\nepochs = "five"\n[finetune]\nshots = [2, "four"]\n')
    assert main(["train", *given]) == 2
    told = last_line(capsys)
    assert "epochs must be a whole number" in told and "shots must be a list, each item a whole number" in told


def test_the_box_holds_a_brain_at_every_spacing() -> None:
    """At least 160 × 200 × 160 mm, no side more than 15 voxels longer, and the box of before at the default."""
    assert box_shape(Recipe().spacing_mm) == (64, 80, 64)
    for spacing in np.linspace(0.5, 5, 46):
        lengths = np.array(box_shape(spacing)) * spacing - [160, 200, 160]
        assert (lengths > -1e-9).all() and (lengths < 16 * spacing).all()
        assert not (np.array(box_shape(spacing)) % 16).any()


def test_segmenting_and_scoring_import_nothing_that_only_others_need() -> None:
    """Importing these takes as long as segmenting one participant."""
    code = (
        "import sys; import shiftkit.cli.commands, shiftkit.segmentation.prediction.routing;"
        "from shiftkit.names import find_model;"
        "shiftkit.segmentation.prediction.routing.open_models([find_model('reference')]);"
        "import shiftkit.analyses.scoring.study; from shiftkit.work import Work;"
        "list(Work(jobs=2).map(abs, [1, 2], ''));"
        "print([name for name in ('accelerate', 'dask', 'distributed', 'nilearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_finetune_prints_what_is_loaded_trained_and_frozen(
    source: str, patients: Cohort, controls: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once, before the folds: counts as they are in the network, new heads and inputs by name."""
    words = ["finetune", "--model", source, "--cohort", str(patients.root), "--reference", str(controls.root)]
    options = ["--folds", "2", "--epochs", "1", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "t"), *options]) == 0
    told = capsys.readouterr().out
    tensors = len(load_model(Path(source)).network.state_dict())
    assert told.count("Loaded") == 1 and f"Loaded {tensors} tensors of small; skipped 0; training" in told
    assert re.search(r"frozen \d+ \(0\.\d\d M parameters\)", told)
    assert main([*words, "--out", str(tmp_path / "u"), *options, "--strategy", "magic"]) == 2
    assert f"--strategy must be one of {', '.join(STRATEGIES)}; got magic." in last_line(capsys)
    assert not (tmp_path / "u").exists()


def test_learning_curves_end_to_end(
    source: str, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--shots`` writes tables, figure and record; interrupted and resumed, tables are the same to the byte.

    ``sk.finetune(shots=…)`` writes what the verb writes, and returns the curves, with the same numbers as its table.
    """
    out = tmp_path / "curves"
    words = ["finetune", "--model", source, "--cohort", str(patients.root), "--out", str(out), "--shots", "1,2"]
    words += ["--draws", "2", "--folds", "2", "--epochs", "1", "--device", "cpu", "--jobs", "1"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "With 2 patients, decoder reaches a Dice of" in told and told.count("Strategy ") == 2
    runs, curves = (read_table(out / "tables" / f"{table.name}.tsv", table) for table in (SHOTS, CURVES))
    keys = runs[["strategy", "shots", "draw"]].drop_duplicates()
    assert len(keys) == 2 * 2 * 2 + 1
    assert set(runs["bundle"] + runs["hemisphere"]) == {"allall", "AFleft", "AFright"}
    assert set(curves["n_patients"]) == {6}
    for name in ("tables/shots.json", "figures/shots.svg", "config.toml", "run.json", "logs/failed.tsv"):
        assert (out / name).is_file(), name
    assert (out / "scratch" / "shots-2" / "draw-1" / "predictions" / "participants.tsv").is_file()
    before = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    assert main(words) == 2
    assert "--resume" in last_line(capsys)
    assert main([*words, "--resume"]) == 0
    assert {path.name: path.read_bytes() for path in (out / "tables").iterdir()} == before
    parts = tmp_path / "parts"
    options = {"shots": (1, 2), "draws": 2, "folds": 2, "epochs": 1, "device": "cpu", "jobs": 1}
    with pytest.raises(KeyboardInterrupt):
        sk.finetune(source, patients, out=parts, **options, progress=stop_after_five_folds)
    assert not (parts / "tables").exists()
    made = sk.finetune(source, patients, out=parts, **options, resume=True)
    assert {path.name: path.read_bytes() for path in (parts / "tables").iterdir()} == before
    np.testing.assert_allclose(curves["value"], made.to_frame()["value"], rtol=1e-9)


def stop_after_five_folds(done: int, total: int, text: str) -> None:
    if text == "Learning curves, folds" and done == 5:
        raise KeyboardInterrupt


def test_impossible_learning_curves_end_with_2_at_once(
    source: str, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More patients than a fold leaves, a strategy that uses none, words for numbers: refused, and nothing written."""
    words = ["finetune", "--model", source, "--cohort", str(patients.root), "--out", str(tmp_path / "t")]
    for more, told in (
        (["--shots", "2,5", "--folds", "3"], "between 1 and the 4 patients outside a fold; got 5"),
        (["--shots", "2", "--strategy", "none"], "a strategy that uses patients"),
        (["--shots", "two"], "whole numbers"),
    ):
        assert main([*words, *more]) == 2
        assert told in last_line(capsys)
    assert not (tmp_path / "t").exists()


def change_images(root: Path, change: Callable[[Volume], Volume]) -> str:
    for path in root.rglob("*_param-fa_dwimap.nii.gz"):
        write_image(change(read_image(path)), path)
    return str(root)


CHANGES: dict[str, tuple[Callable[[Volume], Volume], str]] = {
    "channels": (lambda v: v.with_array(np.stack([v.array] * 2, axis=-1)), "fa has 1 channel; sub-p0"),
    "spacing": (lambda v: dataclasses.replace(v, affine=np.diag([6.0, 6, 6, 1])), "voxels of 6 × 6 × 6 mm"),
}


@pytest.mark.parametrize("verb", ["predict", "finetune"])
@pytest.mark.parametrize("change", CHANGES)
def test_images_that_do_not_fit_the_model_end_with_5_and_leave_nothing(
    change: str, verb: str, source: str, controls: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says which channel or spacing of which file, and what the model needs."""
    write_cohort(tmp_path / "other", 4, group="glioma", prefix="p")
    cohort = change_images(tmp_path / "other", CHANGES[change][0])
    words = [verb, "--model", source, "--cohort", cohort, "--out", str(tmp_path / "out")]
    more = ["--reference", str(controls.root), "--folds", "2"] if verb == "finetune" else []
    assert main([*words, *more]) == 5
    assert CHANGES[change][1] in last_line(capsys)
    assert not (tmp_path / "out").exists()


def test_bundles_that_do_not_fit_end_with_5_and_can_be_added(
    source: str, controls: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cohort with masks of another bundle: both lists are named; with ``--bundles`` the model learns it."""
    other = write_cohort(
        tmp_path / "other", 4, group="glioma", prefix="p", bundles=(Bundle.parse("ILFleft"), Bundle.parse("ILFright"))
    )
    words = ["finetune", "--model", source, "--cohort", str(other.root), "--reference", str(controls.root)]
    words += ["--folds", "2", "--epochs", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(words) == 5
    told = last_line(capsys)
    assert "predicts AFleft AFright, cohort other has reference masks of ILFleft ILFright" in told
    assert main([*words, "--bundles", "ILX"]) == 3
    assert "--bundles must name what other has masks of: ILF; got ILX; did you mean ILF" in last_line(capsys)
    assert main([*words, "--bundles", "ILFleft,ILFright", "--shots", "2"]) == 5
    assert "Learning curves compare with the source model as it is" in last_line(capsys)
    assert not (tmp_path / "out").exists()
    assert main([*words, "--bundles", "ILFleft,ILFright"]) == 0
    assert "mapped by name: AFleft AFright; new, from the mean of these: ILFleft ILFright" in capsys.readouterr().out
    assert [bundle.name for bundle in load_model(tmp_path / "out" / "fold-2").bundles] == ["AF", "AF", "ILF", "ILF"]


def test_a_missing_modality_ends_with_5_and_names_it(
    make_model: MakeModel, controls: Cohort, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what the model reads and what the cohort has, before a network is loaded; nothing is written."""
    model = dataclasses.replace(make_model(), modality="t1w")
    save_model(model, tmp_path / "m")
    words = ["predict", "--model", str(tmp_path / "m"), "--cohort", str(patients.root), "--out", str(tmp_path / "out")]
    assert main(words) == 5
    told = "Model small reads t1w; no participant of patients has that, there is fa peaks"
    assert told in last_line(capsys)
    for verb in ("decompose", "finetune", "features"):
        assert main([verb, *words[1:], "--reference", str(controls.root)]) == 5
        assert told in last_line(capsys)
    code = f"import sys; from shiftkit.cli import main; main({words}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
    assert not (tmp_path / "out").exists()


def test_predict_averages_mirrors_and_leaves_probabilities_out(
    source: str, make_model: MakeModel, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two models are averaged as the library does; without probabilities there are masks alone."""
    save_model(make_model(seed=1), tmp_path / "second")
    words = ["predict", "--model", source, "--model", str(tmp_path / "second"), "--cohort", str(patients.root)]
    assert main([*words, "--mirrored", "--out", str(tmp_path / "a"), "--device", "cpu"]) == 0
    expected = sk.predict([source, tmp_path / "second"], patients, out=tmp_path / "b", mirrored=True, device="cpu")
    for case in expected.cohort:
        for bundle in BUNDLES:
            made = cohorts.probability_path(tmp_path / "a", case.key, bundle)
            assert made.read_bytes() == case.probabilities[bundle].read_bytes()
    assert main([*words, "--no-probabilities", "--out", str(tmp_path / "c"), "--device", "cpu"]) == 0
    assert list((tmp_path / "c").rglob("*probseg.nii.gz")) == []
    assert len(list((tmp_path / "c").rglob("*_mask.nii.gz"))) == 12
    assert "Masks of 6 participants" in capsys.readouterr().out


def test_a_folder_of_folds_routes_and_ends_with_4_for_whom_all_have_seen(
    make_model: MakeModel, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The participant that every fold was trained on is named with the reason; the others are segmented."""
    for number in (1, 2):
        seen = digests(patients.cases[:1], "fa")
        save_model(dataclasses.replace(make_model(), participants=seen), tmp_path / "src" / f"fold-{number}")
    words = ["predict", "--model", str(tmp_path / "src"), "--cohort", str(patients.root), "--out", str(tmp_path / "p")]
    assert main(words) == 4
    assert "1 failed (sub-p00: A participant is segmented by folds that never saw them" in last_line(capsys)
    words[-1] = str(tmp_path / "other")
    assert main([*words, "--model", str(tmp_path / "src" / "fold-1")]) == 2
    assert "is a folder of folds" in last_line(capsys)


DRY = {
    "phantom": "phantom OUT --n-healthy 2 --n-glioma 1",
    "implant": "implant CONTROLS OUT --like PATIENTS",
    "check": "check PATIENTS",
    "train": "train --cohort CONTROLS --modality fa --out OUT",
    "train in folds": "train --cohort CONTROLS --modality fa --folds 3 --out OUT",
    "finetune": "finetune --model MODEL --cohort PATIENTS --reference CONTROLS --out OUT",
    "finetune, curves": "finetune --model MODEL --cohort PATIENTS --shots 1,2 --out OUT",
    "predict": "predict --model MODEL --cohort PATIENTS --out OUT",
    "score": "score --predictions PATIENTS --cohort PATIENTS --metric DICE --out OUT",
    "features": "features --model MODEL --cohort PATIENTS --reference CONTROLS --out OUT",
    "deform": "deform --cohort PATIENTS --reference CONTROLS --out OUT",
    "decompose": "decompose --model MODEL --cohort PATIENTS --reference CONTROLS --out OUT",
    "demo": "demo --out OUT",
    "plan": "plan --patients 10 --controls 10 --out OUT",
    "validate": "validate --cell Gaussian --out OUT",
}


@pytest.mark.parametrize("call", DRY.values(), ids=DRY)
def test_a_dry_run_says_what_would_be_done_reads_no_image_and_writes_nothing(
    call: str,
    source: str,
    controls: Cohort,
    patients: Cohort,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two lines, or with ``--json`` one object alone on stdout, with estimates of time, memory and disk."""
    places = {"OUT": tmp_path / "out", "MODEL": source, "PATIENTS": patients.root, "CONTROLS": controls.root}
    words = [str(places.get(word, word)) for word in call.split()]

    def read(path: Path, *_: object, **__: object) -> Volume:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(Nifti1Image, "dataobj", property(read))
    before = sorted(tmp_path.iterdir())
    assert main([*words, "--dry-run"]) == 0
    would, estimated = capsys.readouterr().out.splitlines()
    assert would.startswith("Would ") and estimated.startswith("Estimated from counts: ")
    assert main([*words, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dry_run"], told["verdict"]) == (True, would)
    assert all(told["estimate"][name] > 0 for name in ("seconds", "memory_gib"))
    assert sorted(tmp_path.iterdir()) == before


REFUSED = {
    "an unknown bundle": ("--bundles AFT", 3, "got AFT; did you mean AF"),
    "an unknown hemisphere": ("--hemispheres lft", 3, "did you mean left"),
    "an unknown covariate": ("--covariates agee", 2, "did you mean age"),
    "a covariate without values": ("--covariates age", 2, "nobody of patients has age in participants.tsv"),
    "an unknown check": ("--allow flipp", 2, "did you mean flip"),
    "an unknown study": (
        "--include feature",
        2,
        "--include must be among features, deformation; got feature; did you mean features",
    ),
    "a folder without a fine-tuning": ("--finetuned nowhere", 3, "nowhere holds no predictions"),
    "a folder in use": ("--out .", 2, "A run needs an empty folder"),
    "a file above the folder": ("--out small/configs/metadata.json/run", 2, "metadata.json is a file"),
}


@pytest.mark.parametrize(("more", "code", "told"), REFUSED.values(), ids=REFUSED)
def test_what_names_tell_is_refused_before_a_network_is_loaded(
    more: str,
    code: int,
    told: str,
    source: str,
    controls: Cohort,
    patients: Cohort,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a decomposition, with the code of the reason; no folder is left behind."""

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} was loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shiftkit.segmentation.network.checkpoints.load_model", refuse)
    words = ["decompose", "--model", source, "--cohort", str(patients.root), "--reference", str(controls.root)]
    assert main([*words, "--out", "run", *more.split()]) == code
    assert told in last_line(capsys)
    assert not (tmp_path / "run").exists()


def test_json_is_one_object_on_stdout(
    source: str, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of verbs that write files: where, and of whom; of `train` the model."""
    masks, table = tmp_path / "masks", tmp_path / "scores.tsv"
    words = ["predict", "--model", source, "--cohort", str(patients.root), "--device", "cpu", "--out", str(masks)]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(masks) and told["participants"] == [case.key for case in patients] and not told["failed"]
    words = ["score", "--predictions", str(masks), "--cohort", str(patients.root), "--metric", "dice", "--jobs", "1"]
    assert main([*words, "--bundles", "AF_left", "--out", str(table), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["table"], told["rows"], sum(told["status"].values())) == (str(table), 6, 6)
    made, train = load_model(Path(source)), GROUPS["Model"]["train"]
    told = json.loads(as_json(made, train, {"folds": 1, "out": source}))
    assert told == {"out": source, "model": "small", "bundles": ["AFleft", "AFright"], "digest": made.digest}


def test_masks_of_other_bundles_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``score --bundles`` of a cohort in which all other masks are damaged ends well; without it, it does not."""
    cohort = write_cohort(tmp_path / "c", 2)
    for case in cohort:
        case.masks[BUNDLES[1]].write_bytes(b"no image")
    words = ["score", "--predictions", str(tmp_path / "c"), "--cohort", str(tmp_path / "c"), "--jobs", "1"]
    assert main([*words, "--out", str(tmp_path / "all.tsv")]) == 3
    assert main([*words, "--out", str(tmp_path / "s.tsv"), "--bundles", "AF_left"]) == 0
    assert "Table: " in capsys.readouterr().out


def test_a_few_participants_are_predicted_and_the_rest_later(
    source: str, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One by one, as BIDS apps do, and then all: the files are those of one call, to the byte; a stranger is named."""
    words = ["predict", "--model", source, "--cohort", str(patients.root)]
    assert main([*words, "--out", str(tmp_path / "whole" / "masks")]) == 0
    first, second, third = (case.participant_id for case in patients.cases[:3])
    few = [*words, "--out", str(tmp_path / "few" / "masks")]
    assert main([*few, "--participant-label", second]) == 0
    assert main([*few, "--participant-label", third.removeprefix("sub-"), "--participant-label", first]) == 2
    assert main([*few, "--participant-label", f"{third.removeprefix('sub-')},{first}", "--resume"]) == 0
    assert "probabilities of 2 participants" in capsys.readouterr().out
    made = cohorts.load_cohort(tmp_path / "few" / "masks")
    assert [case.key for case in made] == [first, second, third]
    assert all(case.group == "glioma" for case in made)
    confidence = (tmp_path / "few" / "masks" / "tables" / "confidence.tsv").read_text()
    assert all(name in confidence for name in (first, second, third))
    assert main([*few, "--resume"]) == 0
    assert files_in(tmp_path / "few") == files_in(tmp_path / "whole")
    capsys.readouterr()
    assert main([*few, "--resume", "--participant-label", f"{first[:-1]}"]) == 2
    said = last_line(capsys)
    assert "--participant-label names participants" in said and f"did you mean {first[:-1]}" in said


def test_few_patients_are_compared_with_all_controls(
    source: str, patients: Cohort, controls: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of `decompose`, `features` and `deform` labels choose patients, and controls stay; a control is no patient."""
    first, second = (case.participant_id for case in patients.cases[:2])
    shared = [
        "--cohort",
        str(patients.root),
        "--reference",
        str(controls.root),
        "--dry-run",
        "--out",
        str(tmp_path / "o"),
    ]
    for verb in (["decompose", "--model", source], ["features", "--model", source], ["deform"]):
        assert main([*verb, *shared, "--participant-label", f"{first},{second}"]) == 0
        said = capsys.readouterr().out
        both = f"2 bundles of {2 + len(controls)} participants" in said
        assert both if verb == ["deform"] else "2 patients" in said and f"{len(controls)} controls" in said
        assert main([*verb, *shared, "--participant-label", controls[0].participant_id]) == 2
        assert f"{controls[0].participant_id} is none" in last_line(capsys)
    assert main(["decompose", "--scores", "t.tsv", "--participant-label", "1", "--out", str(tmp_path / "o")]) == 2
    assert "--participant-label would be passed over" in last_line(capsys)


def test_a_fold_is_trained_alone(
    source: str, patients: Cohort, controls: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints where the model is and what to do once all are there; a fold of learning curves there is none of."""
    words = ["finetune", "--model", source, "--cohort", str(patients.root), "--folds", "2"]
    words += ["--out", str(tmp_path / "t")]
    words += ["--reference", str(controls.root), "--strategy", "none", "--jobs", "1"]
    assert main([*words, "--fold", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert f"Fold 2 of 2: {tmp_path}/t/fold-2" in said and said[-1].startswith("Next: once all 2 folds are there")
    assert main([*words, "--fold", "3"]) == 2
    assert "--fold is one of --folds, from 1 to 2; got 3" in last_line(capsys)
    assert main([*words, "--fold", "1", "--shots", "2"]) == 2
    assert main([*words, "--fold", "1", "--dry-run"]) == 0
    assert "fold 1 of 2 alone" in capsys.readouterr().out
    assert main([*words, "--resume"]) == 0
    assert len(cohorts.load_cohort(tmp_path / "t" / "predictions")) == len(patients)
