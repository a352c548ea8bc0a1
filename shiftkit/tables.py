"""The tables of a run: their columns, how they are written, and how they are read back.

Every table is a TSV file with ``n/a`` for missing values and a JSON data dictionary beside it.
Writing is atomic and repeatable: the same numbers give the same bytes.
"""

import csv
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

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


def write_table(frame: pd.DataFrame, table: Table, path: Path, facts: Mapping[str, object] | None = None) -> None:
    """Write a table and, beside it under the same stem, its JSON data dictionary.

    Columns that the schema does not name are kept, after those it names; ``facts`` of this very table go into the
    dictionary under their names.

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
    write_json(path.with_suffix(".json"), {**data_dictionary(table), **(facts or {})})


def write_sheet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table for a spreadsheet: .xlsx, tabs for .tsv and commas for .csv; missing values are empty cells.

    A `ConfigError` for another ending, or a file that is there: somebody may have filled it in.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already and is not written over. Give another name.")
    separator = {".csv": ",", ".tsv": "\t", ".xlsx": ""}.get(path.suffix.lower())
    if separator is None:
        raise ConfigError(f"A table for a spreadsheet ends in .csv, .tsv or .xlsx; got {path.name}.")
    if separator:
        write_text(path, frame.to_csv(index=False, sep=separator, lineterminator="\n"))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_excel(path, index=False, engine="openpyxl")


def data_dictionary(table: Table) -> dict[str, object]:
    """The data dictionary of a table, in the form BIDS gives sidecars of TSV files."""
    columns = {
        name: {"Description": column.description, **({"Units": column.unit} if column.unit else {})}
        for name, column in table.columns.items()
    }
    return {"Description": table.description, **columns}


def read_table(path: Path, table: Table) -> pd.DataFrame:
    r"""Read a table: numbers as float with NaN for ``n/a``, text as str with ``"n/a"`` kept.

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
    """The cells of a table as text, without blanks around them; see `read_sheet`."""
    return read_sheet(path)[0]


def read_sheet(path: Path) -> tuple[pd.DataFrame, str]:
    """The cells of a table as text, without blanks around them and without empty columns at the end; and its form.

    Text separated by tabs, semicolons or commas, whichever the header uses, Excel's .xlsx, of which the first sheet
    that holds something is read, and Parquet, told by the content and not by the name. The form is said in a few words,
    such as ``separated by semicolons``.

    Raises
    ------
    DataError
        Where it is no ordinary file, no table, or a line holds more cells than the header names.
    """
    require_file(path, "table")
    magic = b""
    try:
        with path.open("rb") as stream:
            magic = stream.read(8)
        if magic.startswith(b"PK\x03\x04"):
            lines, form = _excel(path)
        elif magic.startswith(b"PAR1"):
            return cells_of(pd.read_parquet(path)), "Parquet"
        elif magic.startswith(b"\xd0\xcf\x11\xe0"):
            raise DataError(f"{path.name} is a workbook of an old Excel (.xls), which is not read. Save it as .xlsx.")
        else:
            lines, form = _text(path, "utf-16" if magic[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        first = next(number for number, line in enumerate(lines) if any(line))
    except ImportError as error:
        extra = "openpyxl" if magic.startswith(b"PK") else "'shiftkit[parquet]'"
        raise DataError(
            f"{path.name} needs a package that is not installed ({error}). Install it with pip install {extra}, or "
            "save the table as text."
        ) from error
    except (OSError, UnicodeError, ValueError, KeyError, BadZipFile, csv.Error, StopIteration) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} must be a table with a header line: text with tabs, semicolons or commas, .xlsx or Parquet; it is "
            f"not: {error or 'it is empty'}."
        ) from error
    names, lines = lines[first], lines[first + 1 :]
    while names and not names[-1]:
        names.pop()
    width = len(names)
    # A tab too many at the end of a line is no cell; a cell that no column names is.
    long = [number for number, line in enumerate(lines, start=first + 2) if any(line[width:])]
    problems = [f"line {long[0]} holds more cells than the {width} columns that the header names"] if long else []
    twice = sorted({name for name in names if names.count(name) > 1})
    raise_all([*problems, *(f"column {name!r} stands twice" for name in twice)], path.name)
    cells = [[*line, *[""] * width][:width] for line in lines if any(line)]
    return pd.DataFrame(cells, columns=names, dtype=object), form


def cells_of(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame as `read_cells` gives a file: named levels of the index are columns, values are text, missing ones empty.

    Examples
    --------
    >>> cells_of(pd.DataFrame({"value": [0.5, None]}, index=pd.Index(["P1", "P2"], name="ID"))).values.tolist()
    [['P1', '0.5'], ['P2', '']]
    """
    whole = frame.reset_index() if any(name is not None for name in frame.index.names) else frame
    whole = whole.set_axis([str(name).strip() for name in whole], axis=1)
    columns = [
        whole[name].astype(object).where(whole[name].notna(), "").map(lambda cell: str(cell).strip()) for name in whole
    ]
    return pd.concat(columns, axis=1).reset_index(drop=True) if columns else whole


_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}


def _text(path: Path, encoding: str) -> tuple[list[list[str]], str]:
    """Cells of a text file line by line, and what separates them."""
    text = path.read_bytes().decode(encoding)
    if "\0" in text:
        raise ValueError("it holds bytes that no text has")
    head = next((line for line in text.splitlines() if line.strip()), "")
    if head.lower().startswith("sep="):  # for Excel alone
        separator, text = head[4:5], text.partition(head)[2]
    else:
        bare = "".join(head.split('"')[::2])  # without what is quoted
        separator = "\t" if "\t" in head else max(";,", key=bare.count) if {";", ","} & {*bare} else "\t"
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator)]
    return lines, f"separated by {_SEPARATORS.get(separator, separator)}"


def _excel(path: Path) -> tuple[list[list[str]], str]:
    """The same of the first sheet of a workbook that holds anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on styles and validation lists, which are not read
        sheets = pd.read_excel(
            path, sheet_name=None, header=None, dtype=str, keep_default_na=False, na_values=[], engine="openpyxl"
        )
    full = [name for name, sheet in sheets.items() if len(sheet)]
    if not full:
        return [], ""
    form = "Excel" + (f", the first of {len(full)} sheets that hold something ({full[0]})" if len(full) > 1 else "")
    return [[str(cell).strip() for cell in line] for line in sheets[full[0]].to_numpy()], form


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
