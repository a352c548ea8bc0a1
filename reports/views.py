"""What templates show: findings with their drawings, cases with their pictures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..results import Finding
from ..types import Bundle
from .contents import CasePicture, Contents, Convention
from .figures import Drawing, Point, draw, drawn_before, with_points
from .naming import file_stem, slug, spoken
from .rendering import Drawn
from .tables import Cell, Link, TableView, estimates_frame, sentence, view

_MENU = {"bundles": "Bundles", "sensitivity": "Other choices", "agreement": "Other estimators"}
# Longer data stand in their file alone: a page of thousands of cells is read by nobody.
_MOST_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """A finding with its drawings and tables made, and what a menu calls it."""

    key: str
    finding: Finding
    menu: str
    wide: Drawing | None
    narrow: Drawing | None
    estimates: TableView | None
    table: TableView | None


@dataclass(frozen=True, kw_only=True)
class CaseView:
    """A case with its pictures, what they show in words, and what its status means."""

    case: CasePicture
    drawn: Drawn
    alt: str
    alt_after: str
    status: str


def finding_view(finding: Finding, prefix: str, report: Contents, points: Sequence[Point]) -> FindingView:
    """Draw a finding, or take the drawings of an earlier report where it has no figure of its own.

    Parameters
    ----------
    finding : Finding
        What to show.
    prefix : str
        Makes ids unique on the page.
    report : Contents
        Whose ``figures`` are drawings of an earlier report, and whose decimals its numbers have.
    points : sequence of Point
        Cases that a click in the drawing opens; only drawings against distance take them.
    """
    key = slug(finding.key)
    wide, narrow = (
        _drawing(finding, key, width, f"{prefix}{width[0]}", report.figures) for width in ("page", "column")
    )
    if finding.place == "distance":
        wide, narrow = (one and with_points(one, points) for one in (wide, narrow))
    estimates = estimates_frame(finding.estimates, report.opening.decimals) if finding.estimates else None
    return FindingView(
        key=key,
        finding=finding,
        menu=_MENU.get(finding.key, finding.title),
        wide=wide,
        narrow=narrow,
        estimates=view(estimates, f"{key}-estimates", f"Estimates: {finding.title}") if estimates is not None else None,
        table=_data(finding.table, key, finding.title) if finding.table is not None else None,
    )


def _data(table: pd.DataFrame, key: str, title: str) -> TableView:
    first = f", the first {_MOST_ROWS} of {len(table)} rows" if len(table) > _MOST_ROWS else ""
    return view(table.head(_MOST_ROWS), f"{key}-data", f"Data: {title}{first}", table)


def _drawing(finding: Finding, key: str, width: str, prefix: str, folder: Path | None) -> Drawing | None:
    if finding.figure is not None:
        return draw(finding, width, prefix)
    path = folder / f"{file_stem(key, width)}.svg" if folder is not None else None
    return drawn_before(path.read_text(encoding="utf-8"), prefix) if path is not None and path.is_file() else None


def case_view(case: CasePicture, drawn: Drawn, convention: Convention) -> CaseView:
    """A case as a card shows it."""
    after = _describe(replace(case, score=case.score_after), convention, "after fine-tuning ")
    alt = _describe(case, convention)
    return CaseView(case=case, drawn=drawn, alt=alt, alt_after=after, status=sentence(case.status))


def points_of(cases: Sequence[CasePicture]) -> list[Point]:
    """Where the cases stand in a drawing of the score against distance."""
    return [
        Point(x=case.distance_mm, y=case.score, key=case.key, text=f"{case.participant_id}, {numbers_of(case)}")
        for case in cases
        if math.isfinite(case.score) and math.isfinite(case.distance_mm)
    ]


def cases_table(cases: Sequence[CasePicture], caption: str, links: Sequence[Link]) -> TableView:
    """Every case a row, with a link to its image; columns in which nothing stands are left out."""
    frame = pd.DataFrame(
        [
            {
                "participant_id": case.participant_id,
                "bundle": case.bundle.name,
                "hemisphere": case.bundle.hemisphere,
                "model": case.model,
                case.title: case.score,
                f"{case.title} after fine-tuning": case.score_after,
                "distance_mm": case.distance_mm,
                "status": case.status,
            }
            for case in cases
        ]
    )
    bare = [name for name in frame if frame[name].isna().all() or (frame[name] == "").all()]
    # What is the same in every row of many says nothing.
    bare += [
        name for name in ("bundle", "hemisphere", "model", "status") if len(frame) > 1 and frame[name].nunique() == 1
    ]
    told = frame.drop(columns=bare)
    # As everywhere else on the page; the file to download holds what was measured.
    digits = 1 if cases[0].unit else 2

    def rounded(score: float) -> Any:
        return f"{score:.{digits}f}" if math.isfinite(score) else score

    shown = told.copy()
    for name in told:
        if str(name).startswith(cases[0].title):
            shown[name] = [rounded(float(score)) for score in told[name]]
    return replace(view(shown, "cases-table", caption, told), links=tuple(links))


def rows_of(table: TableView, bundle: Bundle) -> TableView | None:
    """The rows of a bundle table that are about one bundle and hemisphere, without the columns that name them."""
    titles = [header.title for header in table.headers]
    if not {"bundle", "hemisphere"} <= set(titles):
        return None
    b, h = titles.index("bundle"), titles.index("hemisphere")
    rows = tuple(row for row in table.rows if row[b].text == bundle.name and row[h].text in (bundle.hemisphere, "all"))
    words = {cell.text for row in rows for cell in row}
    # What is the same in every row, and is said by the page or means nothing, needs no column.
    told = {b, *(place for place, title in enumerate(titles) if title in _QUIET and _all_are(rows, place, bundle))}

    def kept(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(one for place, one in enumerate(row) if place not in told)

    shown = {"headers": kept(table.headers), "rows": tuple(map(kept, rows))}
    return replace(table, **shown, statuses=tuple(one for one in table.statuses if one[0] in words)) if rows else None


_QUIET = ("hemisphere", "status")


def _all_are(rows: Sequence[tuple[Cell, ...]], place: int, bundle: Bundle) -> bool:
    return all(row[place].text in (bundle.hemisphere, "ok") for row in rows)


def provenance_list(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Nested lists of (name, text) and (name, list), in the order given."""

    def told(value: Any) -> Any:
        if isinstance(value, Mapping):
            return provenance_list(value)  # pyright: ignore[reportUnknownArgumentType]
        return (", ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)  # pyright: ignore

    return [(str(name), told(value)) for name, value in content.items()]


def numbers_of(case: CasePicture) -> str:
    """Score, score after fine-tuning and distance in one line."""
    parts = [case.spoken]
    if math.isfinite(case.score_after):
        parts.append(f"{case.number(case.score_after)} after fine-tuning")
    if math.isfinite(case.distance_mm):
        parts.append("touches the tumor" if case.distance_mm <= 0 else f"{case.distance_mm:.0f} mm from the tumor")
    return f"{spoken(case.bundle)}: {', '.join(parts)}"


def _describe(case: CasePicture, convention: str, when: str = "") -> str:
    distance = f", {case.distance_mm:.0f} mm from the tumor" if math.isfinite(case.distance_mm) else ""
    tumor = ", tumor dotted in yellow" if case.tumor is not None else ""
    return (
        f"Axial, coronal and sagittal slices of {case.participant_id} through {spoken(case.bundle)} "
        f"({case.spoken}{distance}), "
        f"{convention} convention: reference as a solid blue outline, prediction {when}dashed in orange{tumor}."
    )
