"""A report as data: ``report.json`` beside it holds all but images and drawings, so that it can be rendered again."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError
from ..files import write_text
from ..results import Estimate, Finding
from ..types import Bundle
from .cases import CasePicture
from .contents import CohortSummary
from .report import Report

_FILES = ("image", "reference", "prediction", "tumor", "after")
_FORM = 2


def store(report: Report, folder: Path) -> None:
    """Write ``report.json``, and where the images are into ``logs/images.json``, relative to the folder.

    The first is meant to be shared and names no place on this machine; the second stays with the run.
    """
    content = {
        "form": _FORM,
        **{name: getattr(report, name) for name in ("title", "verdict", "convention", "max_cases")},
        "notes": list(report.notes),
        "limitations": list(report.limitations),
        "provenance": report.provenance,
        "cohorts": [dataclasses.asdict(cohort) for cohort in report.cohorts],
        "table": _table(report.table),
        "findings": [_finding(finding) for finding in report.findings],
        "bundle_findings": {
            bundle.label: [_finding(finding) for finding in found] for bundle, found in report.bundle_findings.items()
        },
        "cases": [_case(case) for case in report.cases],
    }
    write_text(folder / "report.json", json.dumps(_plain(content), indent=1, ensure_ascii=False) + "\n")
    places = [
        {name: os.path.relpath(getattr(case, name), folder) for name in _FILES if getattr(case, name) is not None}
        for case in report.cases
    ]
    write_text(folder / "logs" / "images.json", json.dumps(places, indent=1) + "\n")


def restore(folder: Path, cohort: Path | None = None) -> Report:
    """Read a report back; its drawings come from ``figures/``.

    Parameters
    ----------
    folder : Path
        The run.
    cohort : Path, optional
        Where the patients' cohort is now, if it was moved.

    Raises
    ------
    DataError
        If the folder holds no report, or a damaged one.
    """
    content = _read(folder / "report.json", dict[str, Any])
    places = _read(folder / "logs" / "images.json", list[Any])
    try:
        if content["form"] != _FORM or len(places) != len(content["cases"]):
            raise ValueError("report.json and logs/images.json do not belong together")
        return Report(
            **{name: content[name] for name in ("title", "verdict", "convention", "max_cases", "provenance")},
            notes=tuple(content["notes"]),
            limitations=tuple(content["limitations"]),
            cohorts=tuple(CohortSummary(**one) for one in content["cohorts"]),
            table=_frame(content["table"]),
            findings=tuple(_found(one) for one in content["findings"]),
            bundle_findings={
                Bundle.parse(label): tuple(_found(one) for one in found)
                for label, found in content["bundle_findings"].items()
            },
            cases=tuple(
                _picture(one, where, folder, cohort) for one, where in zip(content["cases"], places, strict=True)
            ),
            figures=folder / "figures",
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"report.json must be as shiftkit wrote it; the one in {folder} is damaged or of another version "
            f"({error}). Run shiftkit decompose again into a new folder."
        ) from error


def _read(path: Path, kind: Any) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"A run whose report can be made again holds report.json and logs/images.json; there is no {path}. "
            "Name the folder that shiftkit decompose wrote, or run it again."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be JSON as shiftkit wrote it; it cannot be read: {error}.") from error
    if not isinstance(content, kind.__origin__):
        raise DataError(f"{path} must be JSON as shiftkit wrote it; it holds something else.")
    return content


def _finding(finding: Finding) -> dict[str, Any]:
    content = {field.name: getattr(finding, field.name) for field in dataclasses.fields(finding)}
    content["estimates"] = [dataclasses.asdict(one) for one in finding.estimates]
    content["table"] = _table(finding.table)
    del content["figure"]
    return content


def _found(content: Mapping[str, Any]) -> Finding:
    estimates = tuple(Estimate(**{name: _number(value) for name, value in one.items()}) for one in content["estimates"])
    sequences: dict[str, Any] = {name: tuple(content[name]) for name in ("caveats", "references")}
    fields: dict[str, Any] = {**content, **sequences, "estimates": estimates, "table": _frame(content["table"])}
    return Finding(**fields)


def _case(case: CasePicture) -> dict[str, Any]:
    content = {name: value for name, value in vars(case).items() if name not in _FILES}
    return {**content, "bundle": [case.bundle.name, case.bundle.hemisphere], "facts": dict(case.facts)}


def _picture(content: Mapping[str, Any], where: Mapping[str, str], folder: Path, cohort: Path | None) -> CasePicture:
    name, hemisphere = content["bundle"]
    files: dict[str, Any] = {
        key: _resolved(folder, place, content["participant_id"], cohort) for key, place in where.items()
    }
    fields: dict[str, Any] = {key: _number(value) for key, value in content.items()}
    fields.update(files, bundle=Bundle(name=name, hemisphere=hemisphere))
    return CasePicture(**fields)


def _resolved(folder: Path, place: str, participant: str, cohort: Path | None) -> Path:
    path = Path(os.path.normpath(folder / place))
    parts = Path(place).parts
    if cohort is None or parts[0] != os.pardir or participant not in parts:
        return path
    return cohort.joinpath(*parts[parts.index(participant) :])


def _table(frame: pd.DataFrame | None) -> dict[str, Any] | None:
    if frame is None:
        return None
    return {
        "columns": {str(name): str(frame[name].dtype) for name in frame},
        "rows": [list(row) for row in frame.itertuples(index=False, name=None)],
    }


def _frame(content: Mapping[str, Any] | None) -> pd.DataFrame | None:
    if content is None:
        return None
    names = list(content["columns"])
    columns = {name: [_number(row[place]) for row in content["rows"]] for place, name in enumerate(names)}
    return pd.DataFrame({name: pd.Series(columns[name], dtype=kind) for name, kind in content["columns"].items()})


def _plain(value: Any) -> Any:
    """What JSON holds: numbers that are none become words in a mapping of their own, so that None stays None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]  # pyright: ignore
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": repr(value)}
    if value is None or value is pd.NA or isinstance(value, bool | int | float):
        return None if value is pd.NA else value
    return str(value)


def _number(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"number"}:  # pyright: ignore
        return float(value["number"])  # pyright: ignore
    return value
