"""The command line: exit codes that agree with the last line, and errors that say what to do."""

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.spreadsheets import long_table, renamed
from typer.main import get_command

import shiftkit as sk
from shiftkit.catalogue import SCORES, SECTIONS, TABLES
from shiftkit.cli import main
from shiftkit.cli.commands import GROUPS, MODEL, app
from shiftkit.cohorts.folder import image_path, mask_path, write_participants
from shiftkit.images import read_image, write_image
from shiftkit.names import BUILT_IN_MODELS
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_help_answers_without_heavy_imports() -> None:
    """``--help`` needs neither torch nor pandas, which is what keeps it under half a second."""
    code = (
        "import sys; from shiftkit.cli import main; main(['--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_python_runs_the_package_like_the_script() -> None:
    """``python -m shiftkit`` is the command line."""
    ran = subprocess.run([sys.executable, "-m", "shiftkit", "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, sk.__version__)


CALLS = [call for verbs in (*GROUPS.values(), MODEL) for verb in verbs.values() for call in verb.examples]


@pytest.mark.parametrize("call", CALLS)
def test_examples_in_the_help_can_be_parsed(call: str) -> None:
    """Each example is of its verb, with flags that there are, values of the right kind, and all that is required."""
    command, words = get_command(app), call.split()
    for name in words[: 2 if words[0] == "model" else 1]:
        command, words = command.commands[name], words[1:]  # pyright: ignore[reportAttributeAccessIssue]
    parsed = command.make_context(call, words)
    assert not parsed.args


def test_help_shows_groups_examples_and_no_types(capsys: pytest.CaptureFixture[str]) -> None:
    """Verbs stand under what they are for, each help has its examples, and a flag without a value shows none."""
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert [told.index(f"─ {group} ─") for group in GROUPS] == sorted(told.index(f"─ {group} ─") for group in GROUPS)
    assert main(["decompose", "-h"]) == 0
    told = capsys.readouterr().out
    assert "shiftkit decompose --scores scores.csv --out run" in told
    assert not {"<int", "<str", "<list", "<float", "<path"} & set(told.replace(">", " ").split())


def test_the_shell_completes_verbs_and_flags() -> None:
    """Bash is answered with what the words could go on with."""
    for words, expected in (("shiftkit deco", "decompose"), ("shiftkit plan --pati", "--patients")):
        asked = {"_SHIFTKIT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        ran = subprocess.run(
            [sys.executable, "-m", "shiftkit"], env=os.environ | asked, capture_output=True, text=True, check=False
        )
        assert (ran.stdout.strip(), ran.returncode) == (expected, 0)


def test_a_verb_ends_with_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line of stdout is a command that takes what was just made; with ``--json`` stdout has JSON alone."""
    table, run = tmp_path / "my $HOME's scores.tsv", tmp_path / "run"
    assert main(["template", str(table)]) == 0
    command = capsys.readouterr().out.splitlines()[-1].partition("then ")[2]
    assert shlex.split(command) == ["shiftkit", "decompose", "--scores", str(table), "--out", "run"]
    long_table(n_patients=12, n_controls=8).to_csv(table, sep="\t", index=False)
    words = ["decompose", "--scores", str(table), "--bootstrap", "100", "--permutations", "99", "--no-sensitivity"]
    assert main([*words, "--out", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Next: open {run}/report.html")
    assert main([*words, "--out", str(tmp_path / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]


def test_without_reference_masks_no_decomposition_is_proposed(
    phantoms: Callable[..., dict[str, Cohort]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `import` and `implant` it is told what can be done, and what else is needed; with masks as before."""
    healthy = phantoms(tmp_path, n_healthy=1, spacing_mm=5, seed=7)["healthy"]
    bare = tmp_path / "bare" / "p-1"
    write_image(read_image(healthy[0].images["fa"]), bare / "FA.nii.gz")
    write_image(read_image(healthy[0].images["peaks"]), bare / "peaks.nii.gz")
    (tmp_path / "masks").mkdir()
    shutil.copytree(bare, tmp_path / "masks" / "p-1")
    path = next(iter(healthy[0].masks.values()))
    write_image(read_image(path), tmp_path / "masks" / "p-1" / "bundle_segmentations" / "AF_left.nii.gz")
    for source, told, then in (("bare", "shiftkit predict", "shiftkit predict"), ("masks", "check", "decompose")):
        made = tmp_path / f"{source}-imported"
        assert main(["import", "tractseg", str(tmp_path / source), str(made)]) == 0
        assert told in (last := capsys.readouterr().out.splitlines()[-1]) and f" {made}" in last
        words = ["implant", str(made), str(tmp_path / f"{source}-implanted"), "--volume-cm3", "0", "--jobs", "1"]
        assert main(words) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert then in last and ("lay a reference mask" in last) == (source == "bare")


def test_the_doctor_says_what_is_missing_for_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A package that is not there is named with the feature that needs it and the command that installs it."""
    missing = ("pyarrow", "distributed")
    monkeypatch.setattr("shiftkit.cli.doctor.find_spec", lambda name: None if name in missing else name)
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "score tables in Parquet: no, pyarrow missing; pip install 'shiftkit[parquet]'" in told
    assert "work on a Dask cluster: no, distributed missing; pip install 'shiftkit[cluster]'" in told
    assert "models as ONNX: yes" in told
    assert not [name for name in BUILT_IN_MODELS if f"built-in model {name}: {name}: unet" not in told]


@pytest.mark.parametrize("words", [["decompose"], ["nonsense"], ["finetune", "--folds", "one"], ["score", "--metric"]])
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be parsed is a usage error, and the last line says so."""
    assert main(words) == 2
    assert "Usage error" in last_line(capsys)


def test_an_unknown_cohort_ends_with_3_and_names_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what was looked for, where, and what to do."""
    assert main(["decompose", "--model", "reference", "--cohort", "hospitl", "--out", str(tmp_path / "run")]) == 3
    message = last_line(capsys)
    assert message.startswith("Error: A cohort is a folder")
    assert "healthy, glioma" in message
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_is_no_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder ends with 3 and one paragraph."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["decompose", "--model", "reference", "--cohort", str(empty), "--out", str(tmp_path / "run")]) == 3
    assert "participants.tsv" in last_line(capsys)


def test_a_run_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that holds something is refused unless --resume is given, and keeps what it holds."""
    (tmp_path / "mine.txt").write_text("precious")
    scores = tmp_path / "scores.tsv"
    scores.write_text("a\tb\n")
    assert main(["decompose", "--scores", str(scores), "--out", str(tmp_path)]) in (2, 3)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_table_without_its_columns_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A score table that is none ends with 3 and names every missing column."""
    scores = tmp_path / "scores.tsv"
    scores.write_text("participant_id\tvalue\nsub-1\t0.5\n")
    assert main(["decompose", "--scores", str(scores), "--out", str(tmp_path / "run")]) == 3
    message = last_line(capsys)
    assert "'group' is missing" in message
    assert "'tumor_distance_mm' is missing" in message


def test_a_pickle_is_refused_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A .pth file is never opened; the message says how to convert it."""
    pickled = tmp_path / "model.pth"
    pickled.write_bytes(b"\x80\x04.")
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    assert main(["predict", "--model", str(pickled), "--cohort", str(cohort), "--out", str(tmp_path / "p")]) == 3
    assert "safetensors" in last_line(capsys)


def test_an_unknown_key_in_the_configuration_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelled setting is not ignored."""
    config = tmp_path / "c.toml"
    config.write_text("[decompose]\nbootstraps = 5\n")
    words = [
        "decompose",
        "--model",
        "reference",
        "--cohort",
        "x",
        "--out",
        str(tmp_path / "r"),
        "--config",
        str(config),
    ]
    assert main(words) == 2
    assert "bootstraps" in last_line(capsys)


def test_an_internal_error_is_one_line_without_v(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug ends with 1 and one line; -v adds the traceback."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("shiftkit.names.find_cohort", broken)
    assert main(["check", "anything"]) == 1
    first = capsys.readouterr().err
    assert "broken on purpose" in first
    assert "Traceback" not in first
    assert main(["check", "anything", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C says that what is finished is kept."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shiftkit.names.find_cohort", interrupted)
    assert main(["check", "anything"]) == 130
    assert "--resume" in last_line(capsys)


@pytest.mark.slow
def test_validate_writes_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recovery study says how many targets were met and leaves a table with a data dictionary."""
    words = ["validate", "--replicates", "10", "--cell", "Gaussian, half", "--jobs", "1", "--out", str(tmp_path)]
    assert main(words) == 0
    assert "of 4 targets met" in capsys.readouterr().out
    table = read_table(tmp_path / "tables" / "validation.tsv", TABLES["validation"])
    assert {"coverage of S", "coverage of tumor", "bias of S", "withheld"} <= set(table["property"])
    assert (tmp_path / "tables" / "validation.json").is_file()
    assert main(["validate", "--cell", "no such cell"]) == 2


AF = Bundle.parse("AFleft")
DAMAGE = {
    "truncated gzip": lambda content: content[: len(content) // 2],
    "zero bytes": lambda _: b"",
    "wrong magic": lambda content: _with_header(content, 344, b"xyz\0"),
    "absurd dimensions": lambda content: _with_header(content, 42, b"\xff\x7f" * 3),
}


def _with_header(content: bytes, field: int, value: bytes) -> bytes:
    plain = bytearray(gzip.decompress(content))
    plain[field : field + len(value)] = value
    return gzip.compress(bytes(plain))


def write_tubes(root: Path, shift: int = 0, space: str = "") -> Path:
    """A participant with one bundle that runs from back to front, and an FA map."""
    array = np.zeros((12, 30, 12), dtype=np.float32)
    array[2:6, 4 + shift : 24 + shift, 4:8] = 1
    volume = Volume(array=array, affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    for path in (mask_path(root, "sub-1", AF), image_path(root, "sub-1", "fa")):
        write_image(volume, path.with_name(path.name.replace("sub-1_", f"sub-1_{space}")))
    write_participants(root, pd.DataFrame({"participant_id": ["sub-1"], "group": ["control"]}))
    return root


def test_score_writes_sections_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``score --sections`` writes a second table, which reads back, with its data dictionary."""
    truth, guess = write_tubes(tmp_path / "truth"), write_tubes(tmp_path / "guess", shift=2)
    words = ["--predictions", str(guess), "--cohort", str(truth), "--jobs", "1"]
    tables = ["--out", str(tmp_path / "scores.tsv"), "--sections", str(tmp_path / "sections.tsv"), "--n-sections", "5"]
    assert main(["score", *words, *tables]) == 0
    sections = read_table(tmp_path / "sections.tsv", SECTIONS)
    assert sections["section"].tolist() == [1, 2, 3, 4, 5]
    assert sections["dice"].iloc[0] < 0.75 < 0.95 < sections["dice"].iloc[1]
    assert "section" in json.loads((tmp_path / "sections.json").read_text())
    assert str(tmp_path / "sections.tsv") in capsys.readouterr().out


def test_a_filter_file_settles_what_is_ambiguous(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files for one thing end with 3 and the way out; with ``--bids-filter-file`` the right one is scored."""
    guess, truth = write_tubes(tmp_path / "guess"), tmp_path / "truth"
    for space, shift in (("ACPC", 0), ("MNI", 4)):
        write_tubes(truth, shift, f"space-{space}_")
    words = ["score", "--predictions", str(guess), "--cohort", str(truth), "--out", str(tmp_path / "scores.tsv")]
    assert main([*words, "--jobs", "1"]) == 3
    assert "choose with a filter file" in last_line(capsys)
    wanted = tmp_path / "filter.json"
    for space, dice in (("ACPC", 1.0), ("MNI", 0.8)):
        wanted.write_text(json.dumps({"image": {"space": space}, "mask": {"space": space}}))
        assert main([*words, "--jobs", "1", "--metric", "dice", "--bids-filter-file", str(wanted)]) == 0
        assert read_table(tmp_path / "scores.tsv", SCORES)["value"].tolist() == pytest.approx([dice])
    wanted.write_text("[]")
    assert main([*words, "--bids-filter-file", str(wanted)]) == 2


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_file_ends_with_3_and_leaves_nothing(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """check, score and import name the file in one line, without a traceback, a table or a part of a cohort."""
    cohort, guess = write_tubes(tmp_path / "cohort"), write_tubes(tmp_path / "guess")
    damaged = mask_path(cohort, "sub-1", AF)
    damaged.write_bytes(DAMAGE[damage](damaged.read_bytes()))
    foreign = tmp_path / "foreign" / "s1" / "bundle_segmentations" / "AF_left.nii.gz"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(damaged.read_bytes())
    before = sorted(path.name for path in tmp_path.iterdir())
    for words in (
        ["check", str(cohort), "--jobs", "1"],
        [
            "score",
            "--predictions",
            str(guess),
            "--cohort",
            str(cohort),
            "--out",
            str(tmp_path / "s.tsv"),
            "--jobs",
            "1",
        ],
        [
            "score",
            "--predictions",
            str(cohort),
            "--cohort",
            str(guess),
            "--out",
            str(tmp_path / "s.tsv"),
            "--jobs",
            "1",
        ],
        ["import", "tractseg", str(tmp_path / "foreign"), str(tmp_path / "imported")],
    ):
        assert main(words) == 3
        told = capsys.readouterr()
        assert told.err.strip().splitlines()[-1].startswith("Error: ")
        assert "AF_left.nii.gz" in told.err + told.out or damaged.name in told.err + told.out
        assert "Traceback" not in told.err + told.out
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.slow
@pytest.mark.slow
def test_a_spreadsheet_of_scores_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With other names and an empty cell: what was understood is said first and reported, and JSON stays JSON."""
    base = long_table()
    sheet = renamed(base).rename(columns={"Subject": "Kürzel"})
    sheet.loc[0, "DSC"] = np.nan
    sheet.to_csv(tmp_path / "mine.csv", index=False, sep=";", decimal=",")
    words = ["decompose", "--scores", str(tmp_path / "mine.csv"), "--bootstrap", "100", "--permutations", "99"]
    words += ["--no-sensitivity", "--jobs", "1", "--out"]
    assert main([*words, str(tmp_path / "a")]) == 3
    assert "'participant_id' is missing" in (told := last_line(capsys)) and "--columns, as participant=ID" in told
    assert not (tmp_path / "a").exists()
    assert main([*words, str(tmp_path / "a"), "--columns", "participant=Kürzel"]) == 0
    told = capsys.readouterr().out
    assert "separated by semicolons" in told and "1 without a value are unavailable" in told
    assert "glioma from 'Patient'" in told and told.index("glioma from") < told.index("Patients are worse")
    assert "glioma from" in (tmp_path / "a" / "report.html").read_text()
    assert main([*words, str(tmp_path / "b"), "--columns", "participant=Kürzel,value=DSC", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["verdict"].startswith("Patients are worse") and "decimal commas" in said.err
    base.loc[0, "value"] = np.nan
    expected = sk.decompose(base, n_bootstrap=100, n_permutations=99, sensitivity=False)
    for run in ("a", "b"):
        made = read_table(tmp_path / run / "tables" / "decomposition.tsv", TABLES["decomposition"])
        pd.testing.assert_frame_equal(made, expected.table, check_dtype=False, rtol=1e-8)


def test_a_misspelled_metric_or_bundle_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The nearest name is told; other case is understood, and nothing is written."""
    long_table(n_patients=2, n_controls=2).to_csv(tmp_path / "s.csv", index=False)
    words = ["decompose", "--scores", str(tmp_path / "s.csv"), "--out", str(tmp_path / "run")]
    assert main([*words, "--metric", "dicee"]) == 2 and "did you mean dice or cldice?" in last_line(capsys)
    assert main([*words, "--bundles", "AFT"]) == 3 and "did you mean AF or FAT?" in last_line(capsys)
    assert main([*words, "--metric", "DICE", "--dry-run"]) == 0
    assert not (tmp_path / "run").exists()


def test_a_template_is_written_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what each column is for; a filled one is never written over, and another ending is refused."""
    place = str(tmp_path / "mine.csv")
    assert main(["template", place, "--bundles", "AF_left,CC"]) == 0
    assert "tumor_distance_mm: mm from the tumor" in capsys.readouterr().out
    written = (tmp_path / "mine.csv").read_bytes()
    assert main(["template", place]) == 2 and (tmp_path / "mine.csv").read_bytes() == written
    assert main(["template", str(tmp_path / "mine.docx")]) == 2
    assert "ends in .csv, .tsv or .xlsx" in last_line(capsys)
