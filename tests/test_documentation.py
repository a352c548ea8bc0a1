"""What README and docs tell people to type, and where they point."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from shiftkit.cli.commands import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = ("verbs", "api")  # written by the build
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in MADE),
]
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs do not lie beside the tests")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command in the console blocks of a page, in order."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            assert line.startswith("$ "), f"{page.name}: a console block holds commands only; got {line!r}"
            yield shlex.split(line.removeprefix("$ "), comments=True)


CALLS = [(page, words[1:]) for page in PAGES for words in commands(page) if words[0] == "shiftkit"]


def name_of(value: object) -> str | None:
    return value.name if isinstance(value, Path) else " ".join(value) if isinstance(value, list) else None


@pytest.mark.parametrize(("page", "words"), CALLS, ids=name_of)
def test_commands_can_be_parsed(page: Path, words: list[str]) -> None:
    """Each call is of a verb, with flags that there are, values of the right kind, and all that it needs."""
    command = get_command(app)
    for name in words[: 2 if words[0] == "model" else 1]:
        command, words = command.commands[name], words[1:]  # pyright: ignore[reportAttributeAccessIssue]
    assert not command.make_context(page.name, words).args


def test_what_tables_say_is_run_is_there() -> None:
    """Each test and script that a table about data names exists, by its file or by its name."""
    suite = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    tests = set(re.findall(r"^def (test_\w+)", "\n".join(suite.values()), re.MULTILINE))
    files = {path.relative_to(ROOT).as_posix() for path in (*suite, *(ROOT / "benchmarks").glob("*.py"))}
    named = [
        (page.name, name)
        for page in sorted((DOCS / "data").glob("*.md"))
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
        for name in re.findall(r"`(test_\w+|[\w/]*(?:test_\w+|benchmarks/\w+)\.py)`", line)
    ]
    known = tests | files | {one.removeprefix("tests/") for one in files} | {path.name for path in suite}
    assert len(named) > 50 and not [(page, name) for page, name in named if name not in known]
    assert {page for page, _ in named} == {page.name for page in (DOCS / "data").glob("*.md")}


def test_verbs_of_the_command_line_alone_have_pages_with_their_examples_and_options() -> None:
    """What `slurm --help` says of flags and calls stands on its page, as written by the build."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = "\n".join(generate.page_of_command("slurm"))
    assert "$ shiftkit slurm --parts 16 predict --model mine --cohort hospital --out masks > job.sh" in page
    assert "| `--parts` | `8` | Parts, each a task of the array. |" in page and "| `VERB …` | required |" in page
    assert "$ shiftkit doctor" in "\n".join(generate.page_of_command("doctor"))


def follow(page: Path, folder: Path) -> None:
    """Type what a page says, in order, with the files that it offers beside it."""
    for offered in re.findall(r"\]\((\S+\.csv)\)", page.read_text(encoding="utf-8")):
        shutil.copy(page.parent / offered, folder)
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for words in commands(page):
        assert words[0] == "shiftkit"
        typed = [sys.executable, "-P", "-m", "shiftkit", *words[1:]]
        ran = subprocess.run(typed, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{shlex.join(words)}\n{ran.stderr}"


@pytest.mark.slow
def test_the_page_on_spreadsheets_can_be_followed(tmp_path: Path) -> None:
    """Its commands, one after the other in an empty folder, end well and leave reports with a split."""
    follow(DOCS / "data" / "spreadsheet.md", tmp_path)
    for run in ("run", "adjusted"):
        assert (tmp_path / run / "report.html").is_file()
        assert json.loads((tmp_path / run / "run.json").read_text())["split"]["status"] in ("ok", "range")


@pytest.mark.slow
def test_the_first_page_can_be_followed(tmp_path: Path) -> None:
    """Its commands, one after the other in an empty folder, end well and leave a report with a split."""
    if (ROOT / "shiftkit").is_dir():
        pytest.skip("followed where the wheel is installed, by .ci/run")
    follow(DOCS / "start.md", tmp_path)
    assert (tmp_path / "run" / "report.html").is_file()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["split"]["status"] in ("ok", "range")


def links(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    yield from re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is to a file of the repository, or to a page that the build writes."""
    relative = [link.partition("#")[0] for link in links(page) if not re.match(r"https?:|#", link)]
    targets = [(page.parent / link).resolve() for link in relative]
    made = [DOCS.resolve() / name for name in MADE]
    wrong = [str(one) for one in targets if not one.exists() and not any(one.is_relative_to(folder) for folder in made)]
    assert wrong == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebooks_lie_without_outputs(notebook: Path) -> None:
    """What a notebook shows is made by the build, from this version."""
    cells = [one for one in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if one["cell_type"] == "code"]
    assert cells and all(not one["outputs"] and one["execution_count"] is None for one in cells)
