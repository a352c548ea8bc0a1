"""Configuration: what ``shiftkit.toml`` holds, read strictly: one table a verb, and the names a project registers.

A value comes from the flag, else from the file given with ``--config``, else from the nearest
``shiftkit.toml`` upwards from the current folder, else from the default. Unknown keys are refused with
their place. In place of a TOML file, the ``run.json`` of a decomposition gives the settings of that run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import ConfigError, raise_all
from .files import read_json, read_toml
from .options import options_of, settings_of
from .words import name_problem, readable

FILE_NAME = "shiftkit.toml"
NAMES = ("cohorts", "models")
Verbs = Mapping[str, Callable[..., Any]]


def resolve(verb: str, verbs: Verbs, given: Mapping[str, Any], file: Path | None = None) -> dict[str, Any]:
    """The values that flags and a configuration file give to a verb; what neither gives keeps its default.

    Signatures of ``verbs`` say what their tables may hold; None counts as not given; ``file`` is that of ``--config``,
    without it the nearest ``shiftkit.toml``. See `read_file` for the errors.

    Examples
    --------
    >>> resolve("cut", {}, {"n_parts": 3, "knife": None})
    {'n_parts': 3}
    """
    path = file or find_file()
    section = read_file(path, verbs).get(verb, {}) if path else {}
    return {**section, **{name: value for name, value in given.items() if value is not None}}


def find_file(start: Path | None = None) -> Path | None:
    """The nearest ``shiftkit.toml`` in ``start`` (by default the current folder) or above it."""
    start = (start or Path.cwd()).resolve()
    candidates = (folder / FILE_NAME for folder in (start, *start.parents))
    return next((path for path in candidates if path.is_file()), None)


def read_file(path: Path, verbs: Verbs) -> dict[str, dict[str, Any]]:
    """Read and validate a configuration file: one entry a table.

    Raises
    ------
    ConfigError
        Naming every unknown table, unknown key and value of the wrong type or out of bounds.
    """
    # The settings of a run are its table: replayed, they pass through the same checks as a file written by hand.
    content = {"decompose": read_record(path)["configuration"]} if path.suffix == ".json" else _parse(path)
    problems: list[str] = []
    for table, entries in content.items():
        if table in NAMES:
            problems += _check_names(table, entries)
        elif table in verbs:
            problems += _check_settings(table, entries, verbs[table])
        else:
            problems.append(f"table [{table}] is not known (known: {', '.join((*verbs, *NAMES))})")
    raise_all(problems, str(path), ConfigError)
    return content


def read_record(path: Path) -> dict[str, Any]:
    """Read the ``run.json`` of a decomposition, whose settings and inputs a later run can be held to.

    A `ConfigError` if it is none.
    """
    try:
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} must be the run.json of a decomposition; it cannot be read: {str(error).removesuffix('.')}."
        ) from error
    names = ("seeds", "configuration", "inputs")
    parts: list[Any] = [record.get(name) for name in names] if isinstance(record, dict) else [None]  # pyright: ignore
    if not all(isinstance(one, dict) for one in parts) or "decompose" not in parts[0]:
        raise ConfigError(f"{path} must be the run.json of a decomposition; it has no such settings.")
    return record


def registered_names(kind: str) -> dict[str, Path]:
    """The names that the nearest ``shiftkit.toml`` gives to ``cohorts`` or ``models``.

    Relative paths are taken from the folder of that file.
    """
    path = find_file()
    if path is None:
        return {}
    entries = _parse(path).get(kind, {})
    raise_all(_check_names(kind, entries), str(path), ConfigError)
    return {name: path.parent / Path(value).expanduser() for name, value in entries.items()}


def _parse(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be a TOML file; it cannot be read: {str(error).removesuffix('.')}.") from error


def _check_names(table: str, entries: Any) -> list[str]:
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        return [f"[{table}] must map names to paths, as in name = 'path'"]
    problems = {name: name_problem(name) for name in entries}
    return [
        f"[{table}] {readable(name)[:40]!r} is no name: it {problem}" for name, problem in problems.items() if problem
    ]


def _check_settings(table: str, entries: Any, function: Callable[..., Any]) -> list[str]:
    if not isinstance(entries, dict):
        return [f"[{table}] must be a table"]
    known, problems = settings_of(function, options_of(function)), list[str]()
    for key, value in entries.items():
        if key not in known:
            problems.append(f"[{table}] {key} is not known (known: {', '.join(known)})")
        elif problem := known[key].problem(value):
            problems.append(f"[{table}] {key} {problem}")
        elif isinstance(value, list):
            entries[key] = tuple(value)  # as flags give it: settings are compared and kept
    return problems
