"""The tables of a run: their columns, how they are written, and how they are read back.

Every table is a TSV file with ``n/a`` for missing values and a JSON data dictionary beside it.
Writing is atomic and repeatable: the same numbers give the same bytes.
"""

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pandas as pd

from .errors import ConfigError, DataError, raise_all
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
    ordered = harmless(frame[named + [name for name in frame if name not in table.columns]])
    # Ten digits: more than any estimate carries, and without the last bits, in which machines differ.
    write_text(path, ordered.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.10g", lineterminator="\n"))
    write_json(path.with_suffix(".json"), {**data_dictionary(table), **(facts or {})})


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


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose texts a spreadsheet shows: what it would compute gets an apostrophe in front.

    Examples
    --------
    >>> harmless(pd.DataFrame({"site": ["A", "=1+1"], "shift": ["-0.5", "n/a"]})).to_dict("list")
    {'site': ['A', "'=1+1"], 'shift': ['-0.5', 'n/a']}
    """
    texts: dict[str, pd.Series] = {
        str(name): frame[name].map(lambda cell: f"'{cell}" if isinstance(cell, str) and is_formula(cell) else cell)
        for name in frame
        if not pd.api.types.is_numeric_dtype(frame[name].dtype)
        and any(isinstance(cell, str) and is_formula(cell) for cell in frame[name].unique())
    }
    frame = frame.assign(**texts) if texts else frame
    return frame.rename(columns=lambda name: f"'{name}" if is_formula(str(name)) else name)


def write_sheet(frame: pd.DataFrame, path: Path) -> None:
    """Write a table for a spreadsheet: .xlsx, tabs for .tsv and commas for .csv; missing values are empty cells.

    A `ConfigError` for another ending, or a file that is there: somebody may have filled it in.
    """
    if path.exists():
        raise ConfigError(f"{path} is there already and is not written over. Give another name.")
    separator = {".csv": ",", ".tsv": "\t", ".xlsx": ""}.get(path.suffix.lower())
    if separator is None:
        raise ConfigError(f"A table for a spreadsheet ends in .csv, .tsv or .xlsx; got {path.name}.")
    frame = harmless(frame)
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


_MOST_BYTES, _MOST_COLUMNS, _MOST_CELLS = 2**26, 1000, 2**23
"""Of a table. Cells take ten times their bytes in memory, so these come to 1 GiB; a table of scores of 1,000
participants, 70 bundles and 4 metrics has a third of them."""
_MOST_UNPACKED = 2**28
"""Bytes of a workbook once unpacked: XML takes four times those of text."""


def read_cells(path: Path) -> pd.DataFrame:
    """The cells of a table as text, without blanks around them; see `read_sheet`."""
    return read_sheet(path)[0]


def read_sheet(path: Path) -> tuple[pd.DataFrame, str]:
    """The cells of a table as text, without blanks around them and without empty columns at the end; and its form.

    Text separated by tabs, semicolons or commas, whichever the header uses, Excel's .xlsx, of which the first sheet
    that holds something is read, and Parquet, told by the content and not by the name. The form is said in a few words,
    such as ``separated by semicolons``. In a workbook a line break within a cell is read as a blank; in text, where a
    stray quotation mark would swallow lines, it is refused as control characters are.

    Raises
    ------
    DataError
        Where it is no ordinary file, no table, too large, a line holds more cells than the header names, or a cell
        holds control characters.
    """
    require_file(path, "table")
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"A table has at most {_MOST_BYTES / 2**20:g} MiB; {path} is larger. Split it.")
    magic = b""
    try:
        with path.open("rb") as stream:
            magic = stream.read(8)
        if magic.startswith(b"PK\x03\x04"):
            lines, form = _excel(path)
        elif magic.startswith(b"PAR1"):
            frame = _parquet(path)
            rows: list[list[str]] = [[str(name) for name in frame], *frame.to_numpy().tolist()]
            lines, form = dict(enumerate(rows, start=1)), "Parquet"
        elif magic.startswith(b"\xd0\xcf\x11\xe0"):
            raise DataError(f"{path.name} is a workbook of an old Excel (.xls), which is not read. Save it as .xlsx.")
        else:
            lines, form = _text(path, "utf-16" if magic[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except ImportError as error:
        extra = "openpyxl" if magic.startswith(b"PK") else "'shiftkit[parquet]'"
        raise DataError(
            f"{path.name} needs a package that is not installed ({error}). Install it with pip install {extra}, or "
            "save the table as text."
        ) from error
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} must be a table with a header line: text with tabs, semicolons or commas, .xlsx or Parquet; it is "
            f"not: {readable(str(error))[:200]}."
        ) from error
    return _table(lines, path.name), form


def _table(lines: dict[int, list[str]], where: str) -> pd.DataFrame:
    """Lines, of which the first names columns, by their numbers."""
    lines = {number: [cell.strip() for cell in line] for number, line in lines.items()}
    head = min(lines)
    names = lines.pop(head)
    while names and not names[-1]:
        names.pop()
    width = len(names)
    # A tab too many at the end of a line is no cell; a cell that no column names is.
    long = [number for number, line in lines.items() if any(line[width:])]
    problems = [f"line {long[0]} holds more cells than the {width} columns that the header names"] if long else []
    twice = sorted(name for name, n in Counter(names).items() if n > 1)[:_SHOWN]
    problems += [f"column {name[:_SHOWN_LETTERS]!r} stands twice" for name in twice]
    cells = [[*line, *[""] * width][:width] for line in lines.values()]
    strange = [
        number for number, line in zip((head, *lines), (names, *cells), strict=True) if any(map(has_controls, line))
    ]
    if strange:
        problems.append(f"line {strange[0]} holds control characters; {len(strange)} lines do")
    raise_all(problems, where)
    return pd.DataFrame(cells, columns=names, dtype=object)


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


def _text(path: Path, encoding: str) -> tuple[dict[int, list[str]], str]:
    """Cells of a text file line by line, and what separates them."""
    text = path.read_bytes().decode(encoding)
    if "\0" in text:
        raise ValueError("it holds control characters that no text has")
    head = next((line for line in text.splitlines() if line.strip()), "")
    if head.lower().startswith("sep="):  # for Excel alone
        separator, text = head[4:5], text.partition(head)[2]
    else:
        bare = "".join(head.split('"')[::2])  # without what is quoted
        separator = "\t" if "\t" in head else max(";,", key=bare.count) if {";", ","} & {*bare} else "\t"
    lines = _filled_lines(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    return lines, f"separated by {_SEPARATORS.get(separator, separator)}"


def _excel(path: Path) -> tuple[dict[int, list[str]], str]:
    """The same of the first sheet of a workbook that holds anything."""
    from openpyxl import load_workbook

    full: dict[str, dict[int, list[str]]] = {}
    with _damage_told("workbook"):
        with ZipFile(path) as archive:
            size = sum(one.file_size for one in archive.infolist())
        if size > _MOST_UNPACKED:
            raise ValueError(f"it unpacks to {size / 2**20:.0f} MiB, more than {_MOST_UNPACKED / 2**20:g}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on styles and validation lists, which are not read
            # Cells are taken as they come: one in the last row and column would make a whole frame of 17 billion.
            workbook = load_workbook(path, read_only=True, data_only=True)
            for sheet in workbook.worksheets:
                sheet.reset_dimensions()
                lines = _filled_lines(_excel_rows(sheet), needed=False)
                if lines:
                    full[sheet.title] = lines
            workbook.close()
    if not full:
        raise ValueError("it is empty")
    name, lines = next(iter(full.items()))
    form = "Excel" + (f", the first of {len(full)} sheets that hold something ({name})" if len(full) > 1 else "")
    return lines, form


def _excel_rows(sheet: Any) -> Iterator[list[str]]:
    """Cells as text, without empty ones at the end; what a formula could not compute is missing."""
    for row in sheet.rows:
        cells = ["nan" if cell.data_type == "e" else _plain(cell.value) for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        yield cells


def _plain(value: Any) -> str:
    """Whole numbers as people write them: a workbook knows floats alone."""
    if value is None:
        return ""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return _BREAKS.sub(" ", text)


def _parquet(path: Path) -> pd.DataFrame:
    """The cells of a Parquet file whose footer says that it is of bounded size."""
    from pyarrow.parquet import ParquetFile

    with _damage_told("Parquet file"), ParquetFile(path) as file:
        told = file.metadata
        size = sum(told.row_group(number).total_byte_size for number in range(told.num_row_groups))
        if told.num_columns > _MOST_COLUMNS or told.num_rows * told.num_columns > _MOST_CELLS:
            raise ValueError(f"it has {told.num_columns} columns and {told.num_rows} rows, which is too much")
        if size > _MOST_UNPACKED:
            raise ValueError(f"it unpacks to {size / 2**20:.0f} MiB, more than {_MOST_UNPACKED / 2**20:g}")
        return cells_of(file.read().to_pandas())  # here, as bytes that are no text are found late


@contextmanager
def _damage_told(what: str) -> Generator[None]:
    """Turn what a reader raises of a damaged file, a dozen kinds that share no base, into a `ValueError`."""
    try:
        yield
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"the {what} is damaged ({type(error).__name__}: {error})") from error


def _filled_lines(rows: Iterable[list[str]], needed: bool = True) -> dict[int, list[str]]:
    """All lines that are not empty, by their numbers; a `ValueError` for too much, or for none where one is needed."""
    lines: dict[int, list[str]] = {}
    left = _MOST_CELLS
    for number, row in enumerate(rows, start=1):
        if any(cell.strip() for cell in row):
            lines[number] = row
            left -= len(row) + 1
        if len(row) > _MOST_COLUMNS:
            raise ValueError(f"line {number} has {len(row)} columns, more than {_MOST_COLUMNS}")
        if left < 0:
            raise ValueError(f"it has more than {_MOST_CELLS} cells")
    if needed and not lines:
        raise ValueError("it is empty")
    return lines


_SHOWN, _SHOWN_LETTERS = 5, 40
_BREAKS = re.compile(r"[\t\n\r]+")


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
