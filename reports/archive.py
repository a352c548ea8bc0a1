"""A report as data: ``report.json`` beside it holds all but images and drawings, so that it can be rendered again.

Dataclasses, frames and mappings are kept and made again by their fields' types: a new field needs nothing here.
"""

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import read_json, write_text
from ..types import Bundle
from .report import Report

# Raised only when an older file would be misread.
_FORM = 2
# Where findings stood that were kept before they said so themselves.
_PLACES = {"decomposition": "first", "recovery": "first", "bundles": "lead", "distance": "distance"}


def store(report: Report, folder: Path) -> None:
    """Write ``report.json``, and where the images are into ``logs/images.json``, relative to the folder.

    The first is meant to be shared and names no place on this machine; the second stays with the run.
    """
    content = {"form": _FORM, **_kept(report)}
    # On one line: to indent megabytes takes Python's own encoder, many times as slow.
    write_text(folder / "report.json", json.dumps(content, ensure_ascii=False) + "\n")
    places = [{name: os.path.relpath(path, folder) for name, path in case.files.items()} for case in report.cases]
    write_text(folder / "logs" / "images.json", json.dumps(places, indent=1) + "\n")


def restore(folder: Path, cohort: Path | None = None) -> Report:
    """Read a report back from a run's folder; its drawings come from ``figures/``.

    ``cohort`` is where the patients' cohort is now, if it was moved.

    Raises
    ------
    DataError
        If the folder holds no report, or a damaged one.
    """
    content = _read(folder / "report.json", dict)
    places = _read(folder / "logs" / "images.json", list)
    try:
        if content.pop("form") != _FORM or len(places) != len(content["cases"]):
            raise ValueError("report.json and logs/images.json do not belong together")
        for case, files in zip(content["cases"], places, strict=True):
            who = case["participant_id"]
            case.update({name: _resolved(folder, place, who, cohort) for name, place in files.items()})
        for finding in (*content["findings"], *(one for found in content["bundle_findings"].values() for one in found)):
            kind = "distance" if finding["key"].endswith("-distance") else "further"
            finding.setdefault("place", _PLACES.get(finding["key"], kind))
        return _made(Report, {**content, "figures": folder / "figures"})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"report.json must be as shiftkit wrote it; the one in {folder} is damaged or of another version "
            f"({error}). Run shiftkit decompose again into a new folder."
        ) from error


def _read(path: Path, kind: type) -> Any:
    try:
        content = read_json(path) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be JSON as shiftkit wrote it; it cannot be read: {error}.") from error
    if content is None:
        raise DataError(
            f"A run whose report can be made again holds report.json and logs/images.json; there is no {path}. "
            "Name the folder that shiftkit decompose wrote, or run it again."
        )
    if not isinstance(content, kind):
        raise DataError(f"{path} must be JSON as shiftkit wrote it; it holds something else.")
    return content


def _resolved(folder: Path, place: str, participant: str, cohort: Path | None) -> Path:
    """Where a file is now; of a moved cohort, the part of its path from the participant's folder on stays."""
    path = Path(os.path.normpath(folder / place))
    parts = Path(place).parts
    if cohort is None or parts[0] != os.pardir or participant not in parts:
        return path
    return cohort.joinpath(*parts[parts.index(participant) :])


def _kept(value: Any) -> Any:
    """What JSON holds of a value; files and what draws figures are left out."""
    if type(value) in _PLAIN or (type(value) is float and math.isfinite(value)):  # nearly all there is
        return value
    if isinstance(value, Bundle):
        return [value.name, value.hemisphere]
    if isinstance(value, pd.DataFrame):
        rows = [_kept(row) for row in value.itertuples(index=False, name=None)]
        return {"columns": {str(name): str(value[name].dtype) for name in value}, "rows": rows}
    if dataclasses.is_dataclass(value):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        return {name: _kept(one) for name, one in fields.items() if not (isinstance(one, Path) or callable(one))}
    if isinstance(value, Mapping):
        return {str(key): _kept(one) for key, one in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_kept(one) for one in value]  # pyright: ignore
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no such numbers, and null stands for None.
        return {"number": repr(value)}
    if value is None or value is pd.NA:
        return None
    return value if isinstance(value, bool | int | float) else str(value)


_PLAIN = (str, int, bool, type(None))


def _made(kind: Any, content: Any) -> Any:
    """The value of a type that `_kept` made the content of."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if content is None else _made(parts[0], content)
    if kind is Bundle:
        return Bundle.parse(content) if isinstance(content, str) else Bundle(name=content[0], hemisphere=content[1])
    if kind is pd.DataFrame:
        return _frame(content)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return typing.cast(Callable[..., Any], kind)(**{name: _made(hints[name], one) for name, one in content.items()})
    if origin is tuple:
        return tuple(_made(parts[0], one) for one in content)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {_made(parts[0], key): _made(parts[1], one) for key, one in content.items()}
    value = _number(content)
    if kind in _LEAVES and not isinstance(value, _LEAVES[kind]):
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


_LEAVES: Mapping[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (float, int), bool: (bool,)}


def _frame(content: Mapping[str, Any]) -> pd.DataFrame:
    columns = [[_number(row[place]) for row in content["rows"]] for place in range(len(content["columns"]))]
    kinds = content["columns"].items()
    return pd.DataFrame({name: pd.Series(one, dtype=kind) for (name, kind), one in zip(kinds, columns, strict=True)})


def _number(value: Any) -> Any:
    return float(value["number"]) if isinstance(value, dict) and set(value) == {"number"} else value  # pyright: ignore
