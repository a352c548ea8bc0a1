"""The verbs, in the order in which a study needs them, and what each prints.

Options and work stand in `shiftkit.api`; nothing heavy is imported here, so that ``--help`` answers at once.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import DataError, Unfinished
from ..version import __version__
from .bars import say
from .flags import Show, add, failures

Given = Mapping[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Split the loss of a bundle-segmentation network in glioma patients into its causes.",
)
model = typer.Typer(no_args_is_help=True, help="Look at a checkpoint, verify it, export it.")
app.add_typer(model, name="model")


@app.callback()
def shiftkit(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Warnings and tracebacks too.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """-v and -q are taken out before parsing, so that they work in any place."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _itself(made: Any, _: Given) -> list[str]:
    return [str(made)]


def _outcome(made: Any, given: Given) -> list[str]:
    return [json.dumps(made.to_dict(), indent=2, ensure_ascii=False)] if given["json"] else made.lines()


def _finetuned(made: Any, given: Given) -> list[str]:
    if given["shots"]:
        return made.lines()
    return [
        f"Out-of-fold predictions of {len(made.cohort)} participants: {made.cohort.root}",
        f"What became of each tensor, by name: {Path(given['out']) / 'fold-1' / 'transfer.json'}",
    ]


def _predicted(made: Any, given: Given) -> list[str]:
    what = "Masks" if given["probabilities"] is False else "Masks and probabilities"
    return [f"{what} of {len(made.cohort)} participants: {given['out']}"]


# Both checks print first and raise then: what is wrong must be told in full before the exit code says that it is.
def _checked(made: Any, given: Given) -> Iterator[str]:
    yield made.to_json() if given["json"] else str(made)
    if made.exit_code:
        raise DataError(made.summary)


def _verified(made: Any, given: Given) -> Iterator[str]:
    yield str(made)
    if not made.sound:
        raise DataError(f"Checkpoint {given['checkpoint']} is not sound; the lines above say why. Copy it again.")


def _with_file(told: str, option: str, *below: str) -> Show:
    """The result itself and, where the option was given, the file it went to."""

    def show(made: Any, given: Given) -> list[str]:
        written = [] if given[option] is None else [f"{told}: {Path(given[option]).joinpath(*below)}"]
        return [str(made), *written]

    return show


def _scored(made: Any, given: Given) -> Iterator[str]:
    yield from (str(made), f"Table: {given['out']}")
    if told := made.unavailable():
        raise Unfinished("; ".join((told, *filter(None, [failures(made.failed)]))))


def _template(made: Any, _: Given) -> Iterator[str]:
    from ..analyses.scoring.spreadsheet import WHY

    yield f"Template: {made}"
    yield from (f"  {name}: {why}." for name, why in WHY.items())
    yield f"Replace the example rows, then: shiftkit decompose --scores {made} --out run"


SHOWN: Mapping[str, Show] = {
    "demo": _outcome,
    "template": _template,
    "decompose": _outcome,
    "phantom": lambda made, _: map(str, made.values()),
    "import": _itself,
    "prepare": lambda made, _: [f"{made.written} maps written: {made.cohort}"],
    "train": _with_file("Checkpoint", "out"),
    "finetune": _finetuned,
    "predict": _predicted,
    "score": _scored,
    "check": _checked,
    "deform": _outcome,
    "features": _outcome,
    "report": lambda made, given: [made.verdict, f"Report: {Path(given['result']) / 'report.html'}"],
    "compare": _with_file("Page", "out"),
    "cite": _itself,
    "plan": _with_file("Table", "out", "tables", "plan.tsv"),
    "validate": _with_file("Table", "out", "tables", "validation.tsv"),
}
"""What each verb prints, in the order in which ``--help`` lists them."""

# demo ends with a decomposition, and reads the settings of that one.
for _verb, _show in SHOWN.items():
    add(app, _verb, _show, as_json=_show in (_outcome, _checked), table="decompose" if _verb == "demo" else "")
for _verb, _show in {"model info": _itself, "model verify": _verified, "model export": _itself}.items():
    add(model, _verb, _show)


@app.command()
def doctor() -> None:
    """Say what shiftkit finds on this machine, and whether it can work with it."""
    from .doctor import examine

    lines, sound = examine()
    say(*lines)
    if not sound:
        raise typer.Exit(1)
