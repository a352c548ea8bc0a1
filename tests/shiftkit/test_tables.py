"""Tables: the same bytes for the same numbers, and every problem of a file named at once."""

import json
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pandas as pd
import pytest

from shiftkit.catalogue import SHELLS, TABLES
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import Column, Table, read_cells, read_table, require_replaceable, write_sheet, write_table


def shells(**changes: object) -> pd.DataFrame:
    row = {name: (1.5 if column.kind == "number" else "x") for name, column in SHELLS.columns.items()}
    return pd.DataFrame([{**row, "status": "ok", **changes}])


def test_a_table_survives_writing_and_reading(tmp_path: Path) -> None:
    """Numbers, text and missing values come back as they were."""
    frame = shells(bundle="NA", observed=np.nan, excess=1 / 3)
    write_table(frame, SHELLS, tmp_path / "shells.tsv")
    back = read_table(tmp_path / "shells.tsv", SHELLS)
    pd.testing.assert_frame_equal(back, frame, check_dtype=False, rtol=1e-9)


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    """Writing what was read changes no byte."""
    write_table(shells(excess=1 / 3), SHELLS, tmp_path / "a.tsv")
    write_table(read_table(tmp_path / "a.tsv", SHELLS), SHELLS, tmp_path / "b.tsv")
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_each_table_has_a_data_dictionary(tmp_path: Path) -> None:
    """Every column written is described, with its unit, in the JSON file beside the table."""
    write_table(shells(), SHELLS, tmp_path / "shells.tsv")
    dictionary = json.loads((tmp_path / "shells.json").read_text())
    assert set(SHELLS.columns) <= set(dictionary)
    assert dictionary["shell_low_mm"]["Units"] == "mm"


def test_all_problems_of_a_file_are_named(tmp_path: Path) -> None:
    """A non-number and an unknown status word stand in the same error."""
    path = tmp_path / "shells.tsv"
    shells(observed="much", status="fine").to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError, match=r"observed.*line 2.*'much'.*status 'fine'"):
        read_table(path, SHELLS)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01", b"one column only\n1\n"])
def test_what_is_not_the_table_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    """Empty, binary and foreign files are refused without a traceback of the reader."""
    path = tmp_path / "shells.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_table(path, SHELLS)


def test_table_names_are_their_file_names() -> None:
    """The published tables are found under the name they are written with."""
    assert all(name == table.name for name, table in TABLES.items())


def test_only_an_earlier_table_of_its_kind_is_replaced(tmp_path: Path) -> None:
    """A cohort's table, a folder and somebody's JSON file are refused; the table itself may be written again."""
    table = Table("ages", "How old they are.", {"name": Column("Who."), "age": Column("Age.", "number", "years")})
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-1\t40\n")
    (tmp_path / "described.json").write_text('{"Name": "trial"}')
    for taken in ("participants.tsv", "described.tsv", "."):
        with pytest.raises(ConfigError, match=r"replaces nothing|is a folder"):
            require_replaceable(tmp_path / taken, table)
    write_table(pd.DataFrame({"name": ["a"], "age": [4.0]}), table, tmp_path / "ages.tsv")
    require_replaceable(tmp_path / "ages.tsv", table)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\tb\nx\x1b[2J\ty\n", "line 2 holds control"),
        (b'a\tb\n"x\ny"\tz\n', "line 2 holds control"),
        (b"a\tb\nx\x00\ty\n", "control"),
        (b"a\ta\n1\t2\n", "stands twice"),
        (b"\t".join(b"c%d" % n for n in range(1001)), "columns"),
        (b"a\tb\n" + b"x\ty\n" * 2**22, "cells"),
        (b"a\n" + b"x" * 200_000, "field"),
    ],
    ids=["escape", "two lines", "NUL", "twice", "wide", "long", "cell"],
)
def test_tables_that_would_harm_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Control characters, and more than a table can hold, are refused at once, with the line or the bound."""
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_cells(tmp_path / "t.tsv")


def test_a_table_larger_than_any_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A file of holes takes no time."""
    with (tmp_path / "t.tsv").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(DataError, match="64 MiB"):
        read_cells(tmp_path / "t.tsv")


def test_no_cell_that_is_written_is_computed(tmp_path: Path) -> None:
    """What a spreadsheet would run, in a cell or as a column's name, gets an apostrophe; numbers stay."""
    frame = shells(bundle="AF").assign(note="=HYPERLINK(1)", shift="-0.5", sign="-").rename(columns={"sign": "@x"})
    write_table(frame, SHELLS, tmp_path / "shells.tsv")
    head, row = (line.split("\t") for line in (tmp_path / "shells.tsv").read_text().splitlines())
    cells = dict(zip(head, row, strict=True))
    assert (cells["note"], cells["shift"], cells["'@x"]) == ("'=HYPERLINK(1)", "-0.5", "-")


@pytest.mark.parametrize("word", ["=1+1", "<b>", "../x"])
def test_names_of_a_table_are_names(tmp_path: Path, word: str) -> None:
    """A published column that holds a formula, markup or a path is named."""
    shells(model=word).to_csv(tmp_path / "shells.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match="column 'model'"):
        read_table(tmp_path / "shells.tsv", SHELLS)


def test_workbooks_and_parquet_are_bounded_too(tmp_path: Path) -> None:
    """One cell in the last corner of a sheet, or a file that unpacks to a thousand times its size, takes no memory."""
    from openpyxl import Workbook

    book = Workbook()
    book.active["A1"], book.active["XFD1048576"] = "participant_id", 1  # pyright: ignore[reportOptionalSubscript]
    book.save(tmp_path / "corner.xlsx")
    with ZipFile(tmp_path / "bomb.xlsx", "w", ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * 2**28 + b" ")
    pd.DataFrame({"a": [0] * (2**23 + 1)}).to_parquet(tmp_path / "long.parquet")
    pd.DataFrame({"a": ["x\x1b[2J"]}).to_parquet(tmp_path / "escape.parquet")
    for name, words in (
        ("corner.xlsx", "16384 columns"),
        ("bomb.xlsx", "unpacks to 256 MiB"),
        ("long.parquet", "rows, which is too much"),
        ("escape.parquet", "control characters"),
    ):
        with pytest.raises(DataError, match=words):
            read_cells(tmp_path / name)


def test_a_workbook_reads_as_people_see_it(tmp_path: Path) -> None:
    """Whole numbers without a point, others in full, a break in a cell as a blank, errors of formulas as missing."""
    frame = pd.DataFrame({"a\nb": [1.0, 0.5, None], "c": ["x\ny", "#N/A", "z"]})
    frame.to_excel(tmp_path / "t.xlsx", index=False)
    assert read_cells(tmp_path / "t.xlsx").to_dict("list") == {"a b": ["1", "0.5", ""], "c": ["x y", "nan", "z"]}


def test_no_sheet_that_is_written_holds_a_formula(tmp_path: Path) -> None:
    """What would be computed gets an apostrophe in Excel's own form too."""
    write_sheet(pd.DataFrame({"participant_id": ["=1+1"], "value": [-0.5]}), tmp_path / "t.xlsx")
    assert read_cells(tmp_path / "t.xlsx").to_numpy().tolist() == [["'=1+1", "-0.5"]]
