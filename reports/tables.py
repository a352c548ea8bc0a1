"""Data frames made ready for reading: titles, rounded numbers, and one row a bundle and hemisphere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..catalogue import TABLES
from ..results import Estimate
from ..status import Status
from ..words import spoken_model

_SHOWN = ("total", "systematic", "tumor")
_COUNTS = ("n_patients", "n_controls")
_TITLES = {
    "participant_id": "participant",
    "p_value": "p",
    "p_adjusted": "adjusted p",
    "n_patients": "patients",
    "n_controls": "controls",
    "low": "from",
    "high": "to",
}
_DESCRIPTIONS = {name: column.description for table in TABLES.values() for name, column in table.columns.items()}
_QUANTITIES = {"raw": "total without covariates"}
"""Estimates whose names need words."""
_SENTENCES = {status.value: status.sentence for status in Status}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value as text, and as what it is sorted by."""

    text: str
    sort: str
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Header:
    """A column's title, its description, and the texts to choose from where few enough stand in it."""

    title: str
    description: str
    numeric: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Link:
    """Where a row leads: a page, or a place on one; ``case`` is the viewer's, if it opens one."""

    href: str
    case: str = ""


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table for a template: rows hold one `Cell` a header, one of which (``linked``) leads to the row's link, if any.

    ``key`` is its anchor and file name, of letters, digits and hyphens; ``statuses`` are the status words that occur
    other than ``ok``, with their sentences; ``tsv`` is the whole table in tab-separated text, numbers not rounded.
    """

    key: str
    caption: str
    headers: tuple[Header, ...]
    rows: tuple[tuple[Cell, ...], ...]
    statuses: tuple[tuple[str, str], ...]
    tsv: str
    links: tuple[Link | None, ...] = ()
    linked: int = 0


def view(frame: pd.DataFrame, key: str, caption: str, download: pd.DataFrame | None = None) -> TableView:
    """Turn a frame into rows of text; ``download`` is what the file holds instead, such as a wide table's long form.

    Column names and texts may hold anything; templates escape them.

    Examples
    --------
    >>> table = view(pd.DataFrame({"bundle": ["AF"], "dice": [0.71234]}), "t", "By bundle")
    >>> [cell.text for cell in table.rows[0]]
    ['AF', '0.712']
    """
    columns = {str(name): [_cell(value, str(name)) for value in frame[name]] for name in frame}
    words = dict.fromkeys(str(word) for word in frame["status"]) if "status" in frame else {}
    tsv = (frame if download is None else download).to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return TableView(
        key=key,
        caption=caption,
        headers=tuple(_header(name, cells) for name, cells in columns.items()),
        rows=tuple(zip(*columns.values(), strict=True)),
        statuses=tuple((_status(word), sentence(word)) for word in words if word in _SENTENCES and word != Status.OK),
        tsv=tsv,
    )


def _status(word: str) -> str:
    """A status word as a reader has it; files keep theirs."""
    return word.replace("_", " ") if word in _SENTENCES else word


def sentence(word: str) -> str:
    """What a status word means; nothing for ``ok``."""
    return _SENTENCES.get(word, word) if word != Status.OK else ""


def by_bundle(frame: pd.DataFrame, decimals: int = 3) -> dict[str, pd.DataFrame]:
    """Bring the long table of components into one row a bundle and hemisphere, one table an estimator.

    A frame without the columns of `shiftkit.catalogue.DECOMPOSITION` comes back as it is. The primary estimator,
    ``anchored``, stands first. Total, systematic and tumor part stand in columns as ``estimate [low, high]``; counts of
    participants that are the same in every row are left out and stand in ``attrs``, as does ``estimand``: what is
    estimated, where it is something else than the primary estimator's.
    """
    if not {"bundle", "hemisphere", "component", "estimate", "low", "high"} <= set(frame):
        return {"": frame}
    if "method" not in frame:
        return {"": _wide(frame, decimals)}
    methods = sorted(dict.fromkeys(frame["method"]), key=lambda method: method != "anchored")
    return {str(method): _wide(frame[frame["method"] == method], decimals) for method in methods}


def _wide(frame: pd.DataFrame, decimals: int) -> pd.DataFrame:
    names = [name for name in ("metric", "model", "modality") if name in frame and frame[name].nunique() > 1]
    names = [*names, "bundle", "hemisphere"]
    present = list(dict.fromkeys(frame["component"]))
    components = [c for c in _SHOWN if c in present] or present
    words = {c: _estimand(frame[frame["component"] == c]) for c in components}
    # What all components share is said once, above the table.
    shared = next(iter(words.values())) if len(set(words.values())) == 1 else ""
    titles = {c: f"{c}: {word}" if word and not shared else c for c, word in words.items()}
    rows: list[dict[str, Any]] = []
    for group, part in frame.groupby(names, sort=False):
        row: dict[str, Any] = {**dict(zip(names, group, strict=True)), **dict.fromkeys(titles.values(), "–")}
        for one in part.drop_duplicates("component").to_dict("records"):
            if one["component"] in components:
                interval = _interval(one["estimate"], one["low"], one["high"], decimals=decimals)
                row[titles[one["component"]]] = interval
        row |= {count: part[count].max() for count in _COUNTS if count in part}
        words = part.get("status", ())
        # Of several words, the first that says that something is missing.
        row["status"] = next((str(word) for word in words if word != Status.OK), str(Status.OK))
        rows.append(row)
    wide = pd.DataFrame(rows)
    if "model" in wide:
        wide["model"] = [spoken_model(str(model), str(wide["model"].iloc[0])) for model in wide["model"]]
    same = [name for name in _COUNTS if name in wide and wide[name].nunique() == 1]
    wide.attrs.update({name: wide[name].iloc[0] for name in same}, estimand=shared)
    return wide.drop(columns=same)


def _estimand(rows: pd.DataFrame) -> str:
    """What an estimator estimates under a component's name, where it is something else."""
    words = set(rows["estimand"].dropna()) if "estimand" in rows else set[str]()
    other = [word for word in words if word not in ("same", "n/a")]
    return other[0] if len(other) == 1 else ""


def _interval(value: float, low: float, high: float, unit: str = "", decimals: int = 3) -> str:
    """Estimate and limits, all of them to the same decimals.

    Examples
    --------
    >>> _interval(0.126, 0.096, 0.157, decimals=2), _interval(0.011, 0.004, 0.02, decimals=2)
    ('0.13 [0.10, 0.16]', '0.011 [0.004, 0.020]')
    """
    if low * high > 0:
        while decimals < 6 and round(min(abs(low), abs(high)), decimals) == 0:
            decimals += 1

    def exact(one: float) -> str:
        return f"{one:z.{decimals}f}".replace("-", "−") if math.isfinite(one) else number(one)

    if not math.isfinite(value):
        # Where only a range is known, its interval stands without a point.
        return f"range [{exact(low)}, {exact(high)}]" if math.isfinite(low) else "not given"
    if not math.isfinite(low):
        return number(value, "n" if float(value).is_integer() else "")
    # Three decimals of numbers above ten would be false precision.
    if unit == "mm" or max(abs(value), abs(low), abs(high)) >= 10:
        return f"{number(value, '_mm')} [{number(low, '_mm')}, {number(high, '_mm')}]"
    return f"{exact(value)} [{exact(low)}, {exact(high)}]"


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
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if name in ("p", "p_value", "p_adjusted") and value < 0.001:
        return "< 0.001"
    # Ones and zeros are mostly shares, which keep their decimals, unless the column counts something.
    whole = value.is_integer() and abs(value) < 1e15 and (abs(value) >= 2 or name.startswith("n"))
    digits = 0 if whole or abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    if name.endswith("_mm") or name in ("p", "p_value", "p_adjusted", "_exact"):
        digits = 1 if name.endswith("_mm") else 3
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def estimates_frame(estimates: Sequence[Estimate], decimals: int = 3) -> pd.DataFrame:
    """Estimates for reading: value and interval in one column; columns in which nothing stands are left out.

    Examples
    --------
    >>> list(estimates_frame([Estimate(name="patients with warnings", value=3.0, n=14)]))
    ['quantity', 'number', 'participants']
    """
    some = any(math.isfinite(one.low) for one in estimates)
    frame = pd.DataFrame(
        [
            {
                "quantity": _QUANTITIES.get(one.name, one.name.replace("_", " ")),
                f"estimate [{one.level:.0%} interval]" if some else "number": _interval(
                    one.value, one.low, one.high, one.unit, decimals
                ),
                "unit": one.unit if one.unit != "1" else "",
                "participants": one.n,
                "p_value": one.p_value,
                "p_adjusted": one.p_adjusted,
                "status": one.status,
            }
            for one in estimates
        ]
    )
    nothing = {"unit": "", "participants": 0, "status": "ok"}
    bare = [name for name in frame if frame[name].isna().all() or (frame[name] == nothing.get(str(name))).all()]
    return frame.drop(columns=bare)


def _cell(value: Any, name: str) -> Cell:
    value = value.item() if hasattr(value, "item") else value  # numpy's scalars are no numbers of Python
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(text=number(value, name), sort="" if math.isnan(value) else repr(float(value)), numeric=True)
    spoken = {"model": spoken_model, "status": _status}.get(name, str)
    text = "–" if value is None or value is pd.NA else spoken(str(value))
    try:
        # "0.12 [0.10, 0.14]" sorts by its estimate.
        return Cell(text=text, sort=repr(float(text.split(" [")[0].replace("−", "-"))), numeric=True)
    except ValueError:
        return Cell(text=text, sort=text)


def _header(name: str, cells: Sequence[Cell]) -> Header:
    numeric = any(cell.numeric for cell in cells)
    texts = tuple(dict.fromkeys(cell.text for cell in cells))
    return Header(
        title=_TITLES.get(name, name.replace("_mm", " (mm)").replace("_ml", " (ml)").replace("_", " ")),
        description=_DESCRIPTIONS.get(name, ""),
        numeric=numeric,
        choices=texts if not numeric and 2 <= len(texts) <= 12 else (),
    )
