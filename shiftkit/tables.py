"""The tables of a run: their columns, how they are written, and how they are read back.

Every table is a TSV file with ``n/a`` for missing values and a JSON data dictionary beside it.
Writing is atomic and repeatable: the same numbers give the same bytes.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .errors import ConfigError, DataError, raise_all
from .files import require_file, write_json, write_text
from .status import Status


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
    ordered = frame[named + [name for name in frame if name not in table.columns]]
    # Ten digits: more than any estimate carries, and without the last bits, in which machines differ.
    write_text(path, ordered.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.10g", lineterminator="\n"))
    write_json(path.with_suffix(".json"), data_dictionary(table))


def require_replaceable(path: Path, table: Table) -> None:
    """Refuse to write a table over anything but an earlier one of its kind, its data dictionary included.

    Raises
    ------
    ConfigError
        Naming what is there.
    """
    needed = [name for name, column in table.columns.items() if column.required]
    if path.is_dir():
        raise ConfigError(f"A table is a file; {path} is a folder. Name the file in it, such as {table.name}.tsv.")
    for one in (path, path.with_suffix(".json")):
        if not one.exists():
            continue
        with one.open(encoding="utf-8", errors="replace") as stream:
            start = stream.read(2**16)
        # A column stands in the first line of the table, and as a key in the dictionary.
        if not set(needed) <= set(re.findall(r"\w+", start.split("\n")[0] if one == path else start)):
            raise ConfigError(
                f"A table replaces nothing but an earlier one; {one} is there and holds no {table.name}. Give another "
                "name."
            )


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


def read_cells(path: Path) -> pd.DataFrame:
    """The cells of a TSV file as text, without blanks around them and without empty columns at the end.

    A `DataError` where it is no ordinary file, no table, or a line holds more cells than the header names.
    """
    require_file(path, "table")
    try:
        with path.open("rb") as stream:
            encoding = "utf-16" if stream.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with path.open(encoding=encoding, newline="") as stream:
            names, *lines = csv.reader(stream, delimiter="\t")
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} must be a tab-separated table with a header line; it is not: {error}.") from error
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    width = len(names)
    # A tab too many at the end of a line is no cell; a cell that no column names is.
    long = [number for number, line in enumerate(lines, start=2) if any(cell.strip() for cell in line[width:])]
    problems = [f"line {long[0]} holds more cells than the {width} columns that the header names"] if long else []
    twice = sorted({name for name in names if names.count(name) > 1})
    raise_all([*problems, *(f"column {name!r} stands twice" for name in twice)], path.name)
    cells = [[cell.strip() for cell in [*line, *[""] * width][:width]] for line in lines if any(line)]
    return pd.DataFrame(cells, columns=names, dtype=object)


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
            problems += [f"column {name!r}, line {row + 2}: {text!r} is not a number" for row, text in bad[:3]]
        else:
            parsed[name] = _to_text(parsed[name])
    if "status" in table.columns:
        unknown = sorted(set(parsed["status"]) - set(Status))
        problems += [f"status {word!r} is not one of {', '.join(Status)}" for word in unknown]
    raise_all(problems, where)
    return parsed


def _require_columns(frame: pd.DataFrame, table: Table, where: str) -> None:
    missing = [name for name, column in table.columns.items() if column.required and name not in frame]
    raise_all([f"column {name!r} is missing" for name in missing], where)


def _to_text(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.StringDtype) and not column.hasnans:
        return column
    return column.astype(object).where(column.notna(), "n/a").astype(str)


def _to_numbers(column: pd.Series) -> tuple[pd.Series, list[tuple[int, str]]]:
    if pd.api.types.is_float_dtype(column.dtype):  # as most tables are that no file was read for
        return column.astype(float), []
    as_text = column.astype(object).where(column.notna(), "n/a").astype(str)
    numbers = pd.to_numeric(as_text.where(as_text != "n/a"), errors="coerce").astype(float)
    # Other tools write "nan" for n/a, or nothing.
    bad = numbers.isna() & ~as_text.isin(["n/a", "nan", ""])
    return numbers, [(position, as_text.iloc[position]) for position in bad.to_numpy().nonzero()[0].tolist()]
