"""The tables of a run: their columns, how they are written, and how they are read back.

Every table is a TSV file with ``n/a`` for missing values and a JSON data dictionary beside it.
Writing is atomic and repeatable: the same numbers give the same bytes.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .errors import DataError, raise_all
from .files import require_file, write_json, write_text
from .status import Status
from .words import has_controls, is_formula, name_problem, readable


@dataclass(frozen=True)
class Column:
    """One column of a table: what it means, its kind (``text`` or ``number``) and its unit."""

    description: str
    kind: str = "text"
    unit: str = ""
    required: bool = True


@dataclass(frozen=True)
class Table:
    """The schema of one table."""

    name: str
    description: str
    columns: Mapping[str, Column]


def write_table(frame: pd.DataFrame, table: Table, path: Path) -> None:
    """Write a table and, beside it under the same stem, its JSON data dictionary.

    Columns that the schema does not name are kept, after those it names.

    Raises
    ------
    DataError
        If a required column is missing.
    """
    _require_columns(frame, table, path.name)
    named = [name for name in table.columns if name in frame]
    ordered = harmless(frame[named + [name for name in frame if name not in table.columns]])
    # Ten digits: more than any estimate carries, and without the last bits, in which machines differ.
    write_text(path, ordered.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.10g", lineterminator="\n"))
    write_json(path.with_suffix(".json"), data_dictionary(table))


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose texts a spreadsheet shows: what it would compute gets an apostrophe in front.

    Examples
    --------
    >>> harmless(pd.DataFrame({"site": ["A", "=1+1"], "shift": ["-0.5", "n/a"]})).to_dict("list")
    {'site': ['A', "'=1+1"], 'shift': ['-0.5', 'n/a']}
    """
    texts = {
        name: frame[name].map(lambda cell: f"'{cell}" if isinstance(cell, str) and is_formula(cell) else cell)
        for name in frame
        if not pd.api.types.is_numeric_dtype(frame[name].dtype)
        and any(isinstance(cell, str) and is_formula(cell) for cell in frame[name].unique())
    }
    frame = frame.assign(**texts) if texts else frame
    return frame.rename(columns=lambda name: f"'{name}" if is_formula(str(name)) else name)


def data_dictionary(table: Table) -> dict[str, object]:
    """The data dictionary of a table, in the form BIDS gives sidecars of TSV files."""
    columns = {
        name: {"Description": column.description, **({"Units": column.unit} if column.unit else {})}
        for name, column in table.columns.items()
    }
    return {"Description": table.description, **columns}


def read_table(path: Path, table: Table) -> pd.DataFrame:
    r"""Read a TSV file: numbers as float with NaN for ``n/a``, text as str with ``"n/a"`` kept.

    Raises
    ------
    DataError
        If the file is missing, not a table, or has missing columns, non-numbers or unknown status words;
        all problems are named at once.

    Examples
    --------
    >>> import tempfile
    >>> ages = Table("ages", "How old they are.", {"name": Column("Who."), "age": Column("Age.", "number", "years")})
    >>> path = Path(tempfile.mkdtemp()) / "ages.tsv"
    >>> _ = path.write_text("name\n")
    >>> read_table(path, ages)
    Traceback (most recent call last):
    ...
    shiftkit.errors.DataError: ages.tsv cannot be used: column 'age' is missing.
    """
    return parse_table(read_cells(path), table, path.name)


_MOST_BYTES, _MOST_COLUMNS, _MOST_CELLS = 2**26, 1000, 2**23
"""Of a table. Cells take ten times their bytes in memory, so these come to 1 GiB; a table of scores of 1,000
participants, 70 bundles and 4 metrics has a third of them."""


def read_cells(path: Path) -> pd.DataFrame:
    """The cells of a TSV file as text, without blanks around them and without empty columns at the end.

    A `DataError` where it is no ordinary file, no table, too large, a line holds more cells than the header names, or a
    cell holds control characters.
    """
    require_file(path, "table")
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"A table has at most {_MOST_BYTES / 2**20:g} MiB; {path} is larger. Split it.")
    try:
        with path.open("rb") as stream:
            encoding = "utf-16" if stream.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with path.open(encoding=encoding, newline="") as stream:
            lines = _filled_lines(csv.reader(stream, delimiter="\t"))
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a tab-separated table with a header line; it is not: {error}.") from error
    names = [name.strip() for name in lines.pop(1, [])]
    while names and not names[-1]:
        names.pop()
    width = len(names)
    # A tab too many at the end of a line is no cell; a cell that no column names is.
    long = [number for number, line in lines.items() if any(cell.strip() for cell in line[width:])]
    problems = [f"line {long[0]} holds more cells than the {width} columns that the header names"] if long else []
    twice = sorted(name for name, n in Counter(names).items() if n > 1)[:_SHOWN]
    problems += [f"column {name[:_SHOWN_LETTERS]!r} stands twice" for name in twice]
    cells = [[cell.strip() for cell in [*line, *[""] * width][:width]] for line in lines.values()]
    strange = [
        number for number, line in zip((1, *lines), (names, *cells), strict=True) if any(map(has_controls, line))
    ]
    if strange:
        problems.append(f"line {strange[0]} holds control characters; {len(strange)} lines do")
    raise_all(problems, path.name)
    return pd.DataFrame(cells, columns=names, dtype=object)


def _filled_lines(rows: Iterable[list[str]]) -> dict[int, list[str]]:
    """The first line and all that are not empty, by their numbers; a `ValueError` where there is too much, or none."""
    lines: dict[int, list[str]] = {}
    left = _MOST_CELLS
    for number, row in enumerate(rows, start=1):
        if number == 1 or any(row):
            lines[number] = row
            left -= len(row) + 1
        if len(row) > _MOST_COLUMNS:
            raise ValueError(f"line {number} has {len(row)} columns, more than {_MOST_COLUMNS}")
        if left < 0:
            raise ValueError(f"it has more than {_MOST_CELLS} cells")
    if not lines:
        raise ValueError("it is empty")
    return lines


_SHOWN, _SHOWN_LETTERS = 5, 40


def parse_table(frame: pd.DataFrame, table: Table, where: str) -> pd.DataFrame:
    """Validate a frame of strings or numbers against a schema; see `read_table`."""
    _require_columns(frame, table, where)
    problems: list[str] = []
    parsed = frame.copy()
    for name, column in table.columns.items():
        if name not in parsed:
            continue
        if column.kind == "number":
            parsed[name], bad = _to_numbers(parsed[name])
            problems += [
                f"column {name!r}, line {row + 2}: {text[:_SHOWN_LETTERS]!r} is not a number" for row, text in bad[:3]
            ]
        else:
            parsed[name] = _to_text(parsed[name])
            problems += _bad_texts(name, parsed[name])
    if "status" in table.columns:
        unknown = sorted(set(parsed["status"]) - set(Status))
        problems += [f"status {word[:_SHOWN_LETTERS]!r} is not one of {', '.join(Status)}" for word in unknown[:_SHOWN]]
    raise_all(problems, where)
    return parsed


def _bad_texts(name: str, column: pd.Series) -> list[str]:
    """What no text of a published table is, since all of them go into pages and messages: the first of a column."""
    bad = [(text, problem) for text in column.unique() if (problem := name_problem(text))]
    if name == "participant_id" and (column == "n/a").any():
        bad.append(("n/a", "names nobody"))
    return [f"column {name!r}: {readable(text)[:_SHOWN_LETTERS]!r} {problem}" for text, problem in bad[:1]]


def _require_columns(frame: pd.DataFrame, table: Table, where: str) -> None:
    missing = [name for name, column in table.columns.items() if column.required and name not in frame]
    raise_all([f"column {name!r} is missing" for name in missing], where)


def _to_text(column: pd.Series) -> pd.Series:
    texts = column
    if not isinstance(column.dtype, pd.StringDtype) or column.hasnans:
        texts = column.astype(object).where(column.notna(), "n/a").astype(str)
    return texts.where(texts != "", "n/a") if (texts == "").any() else texts  # nothing is how others write n/a


def _to_numbers(column: pd.Series) -> tuple[pd.Series, list[tuple[int, str]]]:
    if pd.api.types.is_float_dtype(column.dtype):  # as most tables are that no file was read for
        return column.astype(float), []
    as_text = column.astype(object).where(column.notna(), "n/a").astype(str)
    numbers = pd.to_numeric(as_text.where(as_text != "n/a"), errors="coerce").astype(float)
    # Other tools write "nan" for n/a, or nothing.
    bad = numbers.isna() & ~as_text.isin(["n/a", "nan", ""])
    return numbers, [(position, as_text.iloc[position]) for position in bad.to_numpy().nonzero()[0].tolist()]
