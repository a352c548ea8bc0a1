"""Flags of a verb, made from the signature of its public function, and how a verb is run with them."""

import inspect
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_origin

import typer

from ..api import VERBS
from ..config import resolve
from ..errors import ShiftkitError, Unfinished
from ..options import Declared, Input, options_of, settings_of
from ..work import Planned
from .bars import progress, remark, say

Show = Callable[[Any, Mapping[str, Any]], Iterable[str]]
"""What a verb prints, from what its function returned and the values given to it."""
Facts = Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
"""The same for machines: plain values by name."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line: what it prints, two calls to start from, and what to do with what it made.

    ``then`` is filled in with the values given to the verb, quoted for a shell; it may depend on what was made and on
    these, and nothing is said where it is empty. ``facts`` are what ``--json`` prints where the result has no
    ``to_dict`` of its own.
    """

    show: Show
    examples: tuple[str, str]
    then: str | Callable[[Any, Mapping[str, Any]], str] = ""
    facts: Facts | None = None

    def next_step(self, made: Any, given: Mapping[str, Any]) -> str:
        """What to do next, which can be pasted into a shell."""
        then = self.then(made, given) if callable(self.then) else self.then
        return then.format_map({name: shlex.quote(str(value)) for name, value in given.items()})


_NOTHING = " "
"""What stands for the value of a flag without one; an empty word would be replaced by its type."""
_CONFIG = typer.Option("--config", help="TOML file with settings, or a run.json to replay; flags win.", metavar="PATH")
_JSON = typer.Option(
    "--json", help="Print the result as JSON on stdout; without a result nothing stands there.", metavar=_NOTHING
)


def add(app: typer.Typer, verb: str, said: Verb, *, group: str | None = None, table: str = "") -> None:
    """Make a command of a verb of `shiftkit.api.VERBS`, under its last word.

    ``table`` is the table of ``shiftkit.toml``, where it is that of another verb.
    """
    function = VERBS[verb]
    options = options_of(function)
    takes = inspect.signature(function).parameters

    def run(config: Path | None = None, json: bool = False, **words: Any) -> None:
        given = {name: as_value(options[name], word) for name, word in words.items()}
        values = resolve(table or verb, VERBS, given, config)
        # Settings that are another verb's, for the table was: demo hands them on to decompose.
        further = {name: values.pop(name) for name in [*values] if name not in options}
        # With --json, stdout is for the result alone.
        called: dict[str, Any] = {"settings": further, "progress": progress, "announce": remark if json else say}
        if config is not None and config.suffix == ".json":
            called["replay"] = config
        try:
            made = function(**values, **{name: value for name, value in called.items() if name in takes})
            known = {**{name: one.default for name, one in options.items()}, **values}
            if json:
                say(as_json(made, said, known))
            lines = str(made).splitlines() if isinstance(made, Planned) else said.show(made, known)
            for line in lines:  # also with --json: some verbs raise after the last one
                if not json:
                    say(line)
        except ShiftkitError as error:
            raise type(error)(in_flags(str(error), options)) from error
        progress.close()
        if told := failures(getattr(made, "failed", None) or {}):
            raise Unfinished(told)
        if not json and not isinstance(made, Planned) and (step := said.next_step(made, known)):
            say(f"Next: {step}")

    parameters = [_parameter(one) for one in options.values()]
    if settings_of(function, options):
        parameters.append(_keyword("config", Path | None, _CONFIG, None))
    parameters.append(_keyword("json", bool, _JSON, False))
    # typer looks at annotations and signature, click at the name and the docstring.
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    run.__doc__ = _help(function)
    calls = "\n\n".join(["Examples:", *(f"  shiftkit {call}" for call in said.examples)])
    app.command(verb.split()[-1], rich_help_panel=group, epilog=calls)(run)


def as_json(made: Any, said: Verb, known: Mapping[str, Any]) -> str:
    """The one object that ``--json`` prints."""
    facts = made.to_dict() if said.facts is None or isinstance(made, Planned) else said.facts(made, known)
    return json.dumps(_plain(facts), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """What JSON can hold: paths as text, numbers of NumPy as Python's, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]  # pyright: ignore[reportUnknownVariableType]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def in_flags(message: str, options: Mapping[str, Declared]) -> str:
    """A message of the library in the words of the command line: options in backticks become flags.

    Examples
    --------
    >>> from shiftkit.api import decompose
    >>> in_flags("`n_bootstrap` must be at least 100.", options_of(decompose))
    '--bootstrap must be at least 100.'
    """
    return re.sub(r"`(\w+)`", lambda found: options[found[1]].spoken if found[1] in options else found[0], message)


def _parameter(one: Declared) -> inspect.Parameter:
    """The same option as typer wants to be told."""
    option, kind = one.option, _raw(one)
    needed = option.required or one.default is inspect.Parameter.empty
    if option.metavar:
        shown: Any = typer.Argument(metavar=option.metavar, help=option.help, show_default=False)
    else:
        # No default and no bounds are filled in: a value of the configuration file shows through, and all values are
        # held to the same bounds by the function itself. They are only told.
        shown = typer.Option(one.flag, help=_told(one, needed), show_default=False, metavar=_metavar(one))
    return _keyword(one.name, kind if needed else kind | None, shown, inspect.Parameter.empty if needed else None)


def _told(one: Declared, needed: bool) -> str:
    """Help, bounds and default in one sentence."""
    default, low, high = one.default, one.option.min, one.option.max
    if needed or default is None or default == () or isinstance(default, bool):
        told = ""
    else:
        told = f"; {', '.join(default) if isinstance(default, tuple) else default} by default"
    # That a number of things is not negative goes without saying.
    plain = high is None and low in (0, 1)
    bounds = f" ({one.bounds})" if one.bounds and not needed and not plain else ""
    return f"{one.option.help.removesuffix('.')}{bounds}{told}."


def _metavar(one: Declared) -> str:
    """What stands for the value in the help."""
    if one.kind is bool:
        return _NOTHING
    plain = {str: "NAME", int: "N", float: "X"}
    if one.option.many or (isinstance(one.option, Input) and get_origin(one.kind) is None and one.kind not in plain):
        return "PATH"
    if get_origin(one.kind) is tuple:
        return "N,N,N"
    if get_origin(one.kind) is Mapping:
        return "A=B,…"
    if get_origin(one.kind) is Sequence:
        return "A,B,…" if one.several else "N,N,…"
    return plain.get(one.kind, "NAME")


def _keyword(name: str, kind: Any, shown: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown])


def _raw(one: Declared) -> Any:
    """What a value is before it is understood."""
    if one.option.many or get_origin(one.kind) in (Sequence, Mapping):
        return list[str]
    return one.kind if one.kind in (bool, int, float) else str


def as_value(one: Declared, word: Any) -> Any:
    """Both ``--bundles AF --bundles FAT`` and ``--bundles AF,FAT`` are understood; None is what was not given."""
    if word is None or word == []:
        return None
    if one.option.many:
        return tuple(word)
    if get_origin(one.kind) is Mapping:
        return _pairs(word, one)
    if get_origin(one.kind) is Sequence:
        parts = " ".join(word).replace(",", " ").split()
        return tuple(parts) if one.several else _integers(parts, one)
    if get_origin(one.kind) is tuple:
        return _box(word, one)
    return word


def _pairs(words: Sequence[str], one: Declared) -> dict[str, str]:
    """``{"value": "Dice"}`` from ``value=Dice``; a name may hold blanks, and commas where no pair follows them."""
    pairs = [pair for word in words for pair in re.split(r",(?=[^,=]*=)", word)]
    if wrong := [pair for pair in pairs if not all(part.strip() for part in pair.partition("=")[::2])]:
        raise typer.BadParameter(f"{one.spoken} takes pairs, such as participant=ID,value=Dice; got {wrong[0]!r}.")
    return {name.strip(): told.strip() for name, _, told in (pair.partition("=") for pair in pairs)}


def _integers(parts: Sequence[str], one: Declared) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise typer.BadParameter(f"{one.spoken} takes whole numbers, such as 1,4; got {' '.join(parts)!r}.") from None


def _box(text: str, one: Declared) -> tuple[int, ...]:
    """Three numbers of voxels from ``48,48,48``; one number stands for all three."""
    numbers = _integers(text.replace(",", " ").split(), one)
    if len(numbers) not in (1, 3):
        raise typer.BadParameter(
            f"{one.spoken} takes one or three numbers of voxels, such as 48 or 48,64,48; got {text!r}."
        )
    return numbers if len(numbers) == 3 else numbers * 3


def _help(function: Callable[..., Any]) -> str:
    """The paragraphs of a docstring that speak of the command line, not of Python."""
    text = inspect.getdoc(function) or ""
    paragraphs = re.split(r"\n{2,}(?=\w+\n-{3,})", text)[0].split("\n\n")
    return "\n\n".join(one for one in paragraphs if "`" not in one)


def failures(failed: Mapping[str, str]) -> str:
    """How many participants failed, and the reasons of the first three; empty where none did."""
    listed = "; ".join(f"{participant}: {reason}" for participant, reason in list(failed.items())[:3])
    return f"{len(failed)} failed ({listed}{'; …' if len(failed) > 3 else ''})" if failed else ""
