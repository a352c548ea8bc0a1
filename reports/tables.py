"""Data frames made ready for reading: titles, rounded numbers, and one row a bundle and hemisphere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..catalogue import TABLES
from ..status import Status

_SHOWN = ("total", "systematic", "tumor")
_TITLES = {
    "participant_id": "participant",
    "p_value": "p",
    "p_adjusted": "adjusted p",
    "n_patients": "patients",
    "n_controls": "controls",
    "low": "from",
    "high": "to",
    "n": "n",
}
_DESCRIPTIONS = {name: column.description for table in TABLES.values() for name, column in table.columns.items()}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value as text, and as what it is sorted by."""

    text: str
    sort: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Header:
    """A column's title, its description, and whether few enough different texts stand in it to choose from."""

    title: str
    description: str
    numeric: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Link:
    """Where a row leads: the viewer's case, and where its static picture stands."""

    case: str
    href: str


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table for a template.

    Parameters
    ----------
    key : str
        Letters, digits and hyphens: its anchor and file name.
    caption : str
        What the rows are.
    headers, rows :
        Rows hold one `Cell` a header.
    statuses : tuple of (str, str)
        Status words that occur other than ``ok``, each with its sentence.
    tsv : str
        The whole table in tab-separated text, numbers not rounded.
    links : tuple of Link
        One a row, on its first cell; empty where rows lead nowhere.
    """

    key: str
    caption: str
    headers: tuple[Header, ...]
    rows: tuple[tuple[Cell, ...], ...]
    statuses: tuple[tuple[str, str], ...]
    tsv: str
    links: tuple[Link, ...] = ()


def view(frame: pd.DataFrame, key: str, caption: str, download: pd.DataFrame | None = None) -> TableView:
    """Turn a frame into rows of text.

    Parameters
    ----------
    frame : DataFrame
        Any columns. Column names and texts may hold anything; templates escape them.
    key, caption : str
        See `TableView`.
    download : DataFrame, optional
        What the downloaded table holds instead, such as the long form of a wide table.

    Examples
    --------
    >>> table = view(pd.DataFrame({"bundle": ["AF"], "dice": [0.71234]}), "t", "By bundle")
    >>> [cell.text for cell in table.rows[0]]
    ['AF', '0.712']
    """
    headers = tuple(_header(name, frame[name]) for name in frame)
    rows = tuple(
        tuple(_cell(value, str(name)) for name, value in zip(frame.columns, row, strict=True))
        for row in frame.itertuples(index=False, name=None)
    )
    words = dict.fromkeys(str(word) for word in frame["status"]) if "status" in frame else {}
    known = {status.value: status.sentence for status in Status}
    statuses = tuple((word, known[word]) for word in words if word in known and word != Status.OK)
    tsv = (frame if download is None else download).to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return TableView(key=key, caption=caption, headers=headers, rows=rows, statuses=statuses, tsv=tsv)


def by_bundle(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Bring the long table of components into one row a bundle and hemisphere, one table an estimator.

    Parameters
    ----------
    frame : DataFrame
        With the columns of `shiftkit.catalogue.DECOMPOSITION`; any other frame comes back as it is.

    Returns
    -------
    dict of str to DataFrame
        Estimator to its table, the primary one (``regression``) first. Total, systematic and tumor
        part stand in columns as ``estimate [low, high]``; columns that say the same in every row are left out,
        and counts of participants that do so stand in ``attrs``.
    """
    needed = {"bundle", "hemisphere", "component", "estimate", "low", "high"}
    if not needed <= set(frame):
        return {"": frame}
    methods = list(dict.fromkeys(frame["method"])) if "method" in frame else [""]
    methods.sort(key=lambda method: method != "regression")
    return {str(m): _wide(frame[frame["method"] == m] if "method" in frame else frame) for m in methods}


def _wide(frame: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in ("metric", "model", "modality") if name in frame and frame[name].nunique() > 1]
    names = [*names, "bundle", "hemisphere"]
    present = list(dict.fromkeys(frame["component"]))
    components = [c for c in _SHOWN if c in present] or present
    rows: list[dict[str, Any]] = []
    for group, part in frame.groupby(names, sort=False):
        row: dict[str, Any] = dict(zip(names, group, strict=True))
        indexed = part.drop_duplicates("component").set_index("component")
        for component in components:
            row[component] = _interval(indexed.loc[[component]].iloc[0]) if component in indexed.index else "–"
        for count in ("n_patients", "n_controls"):
            if count in part:
                row[count] = part[count].max()
        row["status"] = _worst(part["status"]) if "status" in part else "ok"
        rows.append(row)
    wide = pd.DataFrame(rows)
    same = [name for name in ("n_patients", "n_controls") if name in wide and wide[name].nunique() == 1]
    wide.attrs.update({name: wide[name].iloc[0] for name in same})
    return wide.drop(columns=same)


def _worst(words: pd.Series) -> str:
    """The word that says most about a row: the first that is not ``ok``."""
    return next((str(word) for word in words if word != Status.OK), str(Status.OK))


def _interval(row: pd.Series, unit: str = "") -> str:
    """Estimate and limits, all of them to the same decimals."""
    value, low, high = (float(row[name]) for name in ("estimate", "low", "high"))
    if not math.isfinite(value):
        return "not given"
    if not math.isfinite(low):
        return number(value, "n" if value.is_integer() else "")
    name = "_mm" if unit == "mm" or max(abs(value), abs(low), abs(high)) >= 10 else "_exact"
    return f"{number(value, name)} [{number(low, name)}, {number(high, name)}]"


def number(value: float, name: str = "") -> str:
    """A number as a reader wants it: whole ones whole, others to three decimals or three digits.

    Examples
    --------
    >>> number(0.11251), number(24.0), number(0.0004, "p_value"), number(1234.5), number(-0.02), number(-0.0001)
    ('0.113', '24', '< 0.001', '1234', '−0.020', '0.000')
    >>> number(0.0, "distance_mm"), number(37.86, "distance_mm")
    ('0.0', '37.9')
    """
    value = float(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if name in ("p", "p_value", "p_adjusted"):
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if name.endswith("_mm") or name == "_exact":
        text = f"{value:.1f}" if name.endswith("_mm") else f"{value:.3f}"
    elif value == int(value) and abs(value) < 1e15 and (abs(value) >= 2 or name.startswith("n")):
        text = str(int(value))
    elif abs(value) >= 100:
        text = f"{value:.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.3f}"
    return text.removeprefix("-").replace("-", "−") if float(text) == 0 else text.replace("-", "−")


def estimates_frame(estimates: Sequence[Any]) -> pd.DataFrame:
    """Estimates for reading: value and interval in one column; columns in which nothing stands are left out."""
    rows = [
        {
            "quantity": one.name.replace("_", " "),
            f"estimate [{one.level:.0%} interval]": _interval(
                pd.Series({"estimate": one.value, "low": one.low, "high": one.high}), one.unit
            ),
            "unit": one.unit if one.unit != "1" else "",
            "participants": one.n,
            "p_value": one.p_value,
            "p_adjusted": one.p_adjusted,
            "status": one.status,
        }
        for one in estimates
    ]
    frame = pd.DataFrame(rows)
    bare = [name for name in ("p_value", "p_adjusted") if frame[name].isna().all()]
    bare += [
        name
        for name, nothing in (("unit", ""), ("participants", 0), ("status", "ok"))
        if (frame[name] == nothing).all()
    ]
    return frame.drop(columns=bare)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any, name: str) -> Cell:
    if hasattr(value, "item"):
        value = value.item()
    if _is_number(value):
        return Cell(text=number(value, name), sort="" if math.isnan(value) else repr(float(value)), numeric=True)
    text = "–" if value is None or value is pd.NA else str(value)
    leading = text.split(" [")[0].replace("−", "-")
    try:
        return Cell(text=text, sort=repr(float(leading)), numeric=True)
    except ValueError:
        return Cell(text=text, sort=text)


def _header(name: Any, column: pd.Series) -> Header:
    cells = [_cell(value, str(name)) for value in column]
    numeric = any(cell.numeric for cell in cells)
    texts = tuple(dict.fromkeys(cell.text for cell in cells))
    title = _TITLES.get(str(name), str(name).replace("_mm", " (mm)").replace("_ml", " (ml)").replace("_", " "))
    return Header(
        title=title,
        description=_DESCRIPTIONS.get(str(name), ""),
        numeric=numeric,
        choices=texts if not numeric and 2 <= len(texts) <= 12 else (),
    )
