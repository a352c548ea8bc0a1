"""Pages that are written from the program itself: one a verb, one a public function and one of the types.

Options come from the signatures in `shiftkit.api`, examples and order from ``GROUPS`` of the command line.
"""

import inspect
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from typer.main import get_command

import shiftkit
from shiftkit.api import VERBS
from shiftkit.cli.commands import GROUPS, MODEL, app
from shiftkit.options import Declared, Input, options_of
from shiftkit.status import Status

LOADERS = ("load_cohort", "load_model", "load_scores")
TYPES = {
    "What goes in": ("shiftkit.types.Bundle", "shiftkit.types.Volume", "shiftkit.types.Case", "shiftkit.types.Cohort"),
    "What comes out": (
        "shiftkit.types.Predictions",
        "shiftkit.analyses.scoring.table.ScoreTable",
        "shiftkit.results.Estimate",
        "shiftkit.results.Finding",
        "shiftkit.results.Result",
        "shiftkit.analyses.decomposition.result.Decomposition",
        "shiftkit.analyses.deformation.result.DeformationResult",
        "shiftkit.runs.Outcome",
    ),
}


def pages(docs: Path) -> None:
    """Write ``verbs/`` and ``api/`` below the folder of the sources; both are made anew."""
    for name in ("verbs", "api"):
        shutil.rmtree(docs / name, ignore_errors=True)
        (docs / name).mkdir()
    verbs = {group: list(own) for group, own in GROUPS.items()}
    verbs["Model"] += MODEL
    for name in (one for own in verbs.values() for one in own):
        _write(docs / "verbs" / f"{_stem(name)}.md", _verb(name))
    verbs["Start here"].append("doctor")
    _write(docs / "verbs" / "doctor.md", page_of_command("doctor"))
    verbs["Model"].append("slurm")
    _write(docs / "verbs" / "slurm.md", page_of_command("slurm"))
    _write(docs / "verbs" / "index.md", _verbs(verbs))
    functions = [*LOADERS, *(one.__name__ for one in VERBS.values())]
    for name in functions:
        _write(docs / "api" / f"{name}.md", _function(name))
    _write(docs / "api" / "types.md", _types())
    _write(docs / "api" / "index.md", _functions(functions))


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _stem(verb: str) -> str:
    return verb.replace(" ", "-")


def _command(verb: str) -> click.Command:
    """What the command line made of a verb."""
    command: Any = get_command(app)
    for word in verb.split():
        command = command.commands[word]
    return command


def _first(text: str) -> str:
    return text.strip().split("\n\n")[0].replace("\n", " ")


def page_of_command(verb: str) -> Iterable[str]:
    """A verb of the command line alone: what it has to say stands in the command itself."""
    command = _command(verb)
    calls = [one.strip() for one in (command.epilog or "").split("\n\n")[1:]] or [f"shiftkit {verb}"]
    yield from (f"# shiftkit {verb}", "", command.help or "", "")
    yield from ("```console", *(f"$ {call}" for call in calls), "```", "")
    own: list[Any] = [one for one in command.params if getattr(one, "help", None) and one.name != "help"]
    if own:
        yield from ("## Options", "", "| flag | default | meaning |", "|---|---|---|")
        for one in own:
            name, default = (one.metavar, "required") if one.required else (one.opts[0], f"`{one.default}`")
            yield f"| `{name}` | {default} | {_cell(one.help)} |"


def _verb(verb: str) -> Iterable[str]:
    said = GROUPS_AND_MODEL[verb]
    function, command = VERBS[verb], _command(verb)
    yield from (f"# shiftkit {verb}", "", *_prose(command.help or ""), "")
    yield from ("```console", *(f"$ shiftkit {call}" for call in said.examples), "```", "")
    if isinstance(said.then, str) and said.then.startswith("shiftkit "):
        following = re.sub(r"{(\w+)}", lambda one: one[1].upper(), said.then)
        yield from (f"Next: `{following}`", "")
    yield from ("## Options", "", *_options(function), "")
    yield f"In Python: [`shiftkit.{function.__name__}`](../api/{function.__name__}.md)."


def _prose(text: str) -> Iterable[str]:
    """Help as Markdown: what follows a backspace, as click has it, keeps its lines."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.startswith("\b")
        yield from (["```text", *paragraph.splitlines()[1:], "```"] if kept else [paragraph])
        yield ""


def _options(function: Callable[..., Any]) -> Iterable[str]:
    options = list(options_of(function).values())
    yield from ("| flag | in Python | default | meaning |", "|---|---|---|---|")
    for one in options:
        flag = one.flag or one.option.metavar
        name = f"`{one.name}`" + ("" if isinstance(one.option, Input) else " ⚙")
        yield f"| `{flag}` | {name} | {_default(one)} | {_cell(_meaning(one))} |"
    if any(not isinstance(one.option, Input) for one in options):
        yield from ("", "⚙ can also stand in `shiftkit.toml`, under that name.")


def _meaning(one: Declared) -> str:
    several = " Can be given several times." if one.option.many else ""
    plain = one.option.max is None and one.option.min in (0, 1)  # that a number of things is not negative is no news
    bounds = f" {one.bounds[0].upper()}{one.bounds[1:]}." if one.bounds and not plain else ""
    return one.option.help + bounds + several


def _default(one: Declared) -> str:
    if one.option.required or one.default is inspect.Parameter.empty:
        return "required"
    if one.default is None or one.default == ():
        return ""
    if isinstance(one.default, bool):
        return "on" if one.default else "off"
    return f"`{', '.join(one.default) if isinstance(one.default, tuple) else one.default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _verbs(groups: Mapping[str, list[str]]) -> Iterable[str]:
    yield from ("# The command line", "")
    yield from ("`shiftkit --help` lists the verbs, `shiftkit VERB --help` the options of one.", "")
    for group, names in groups.items():
        yield from (f"## {group}", "", "| verb | what it does |", "|---|---|")
        yield from (f"| [`{name}`]({_stem(name)}.md) | {_cell(_first(_command(name).help or ''))} |" for name in names)
        yield ""
    yield from ("## Exit codes", "", "| code | meaning |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    yield from ("", "## Status words", "", "Column `status` of every table: why a number is there, or is not.", "")
    yield from ("| word | meaning |", "|---|---|", *(f"| `{one.value}` | {_cell(one.sentence)} |" for one in Status))
    yield from ("", "```{toctree}", ":hidden:", "", *(_stem(name) for own in groups.values() for name in own), "```")


EXIT_CODES = {
    0: "done",
    1: "the machine failed, or an internal error",
    2: "usage: a flag or a value is wrong",
    3: "the data cannot be used",
    4: "done, but not for all participants or bundles",
    5: "model and data do not fit",
    130: "interrupted; `--resume` continues",
}


def _function(name: str) -> Iterable[str]:
    function = getattr(shiftkit, name)
    options = options_of(inspect.unwrap(function))
    yield from (f"# {name}", "", "```{eval-rst}", f".. py:function:: shiftkit.{name}({_signature(function)})", "")
    text = inspect.getdoc(function) or ""
    yield from (f"   {line}".rstrip() for line in _restructured(text))
    yield from ("", "```", "")
    if options:
        verb = next(verb for verb, one in VERBS.items() if one is function)
        yield from ("## Options", "", "| name | default | meaning |", "|---|---|---|")
        yield from (f"| `{one.name}` | {_default(one)} | {_cell(_meaning(one))} |" for one in options.values())
        yield from ("", f"On the command line: [`shiftkit {verb}`](../verbs/{_stem(verb)}.md).")


def _restructured(text: str) -> list[str]:
    from sphinx.ext.napoleon import Config, NumpyDocstring

    listed = re.sub(r"\x08\n((?:.+\n)+)", lambda one: "::\n\n    " + one[1].replace("\n", "\n    ") + "\n", text)
    return str(NumpyDocstring(listed, Config(napoleon_use_rtype=False))).splitlines()


def _signature(function: Callable[..., Any]) -> str:
    """Names and defaults; types and meanings stand below."""
    parts: list[str] = []
    for name, one in inspect.signature(inspect.unwrap(function)).parameters.items():
        if one.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        parts.append(name if one.default is inspect.Parameter.empty else f"{name}={one.default!r}")
    return ", ".join(parts)


def _functions(names: Iterable[str]) -> Iterable[str]:
    yield from ("# Python", "", "`import shiftkit as sk`; every verb is one function, with the same defaults.", "")
    yield from ("| function | what it does |", "|---|---|")
    for name in names:
        told = _first(inspect.getdoc(getattr(shiftkit, name)) or "").replace("`", "")
        yield f"| [`{name}`]({name}.md) | {_cell(told)} |"
    yield from ("", "[The types](types.md) that go in and come out.", "")
    yield from ("```{toctree}", ":hidden:", "", *names, "types", "```")


def _types() -> Iterable[str]:
    yield from ("# Types", "", "All are frozen: a change makes another one.", "")
    for title, names in TYPES.items():
        yield from (f"## {title}", "", "```{eval-rst}")
        yield from (line for name in names for line in (f".. autoclass:: {name}", ""))
        yield from ("```", "")


GROUPS_AND_MODEL = {name: said for own in (*GROUPS.values(), MODEL) for name, said in own.items()}
