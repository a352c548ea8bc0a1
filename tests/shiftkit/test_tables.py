"""Tables: the same bytes for the same numbers, and every problem of a file named at once."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.catalogue import SHELLS, TABLES
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import Column, Table, read_table, require_replaceable, write_table


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
