"""Score tables as people have them: one meaning for many spellings, and nothing lost or guessed in silence."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from makers.spreadsheets import NEEDS, SPELLINGS, joined, long_table, renamed, wide

from shiftkit.analyses.scoring.spreadsheet import template, understand
from shiftkit.analyses.scoring.table import ScoreTable
from shiftkit.errors import ConfigError, DataError

KEYS = ["participant_id", "bundle", "hemisphere"]


@pytest.fixture(scope="module")
def base() -> pd.DataFrame:
    return long_table()


def ordered(table: ScoreTable) -> pd.DataFrame:
    return table.frame.sort_values(KEYS).reset_index(drop=True)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_table(spelling: str, base: pd.DataFrame, tmp_path: Path) -> None:
    """Separators, decimal commas, .xlsx, Parquet, other names, percent and a column a bundle change no number."""
    if spelling in NEEDS:
        pytest.importorskip(NEEDS[spelling])
    SPELLINGS[spelling](base, tmp_path / spelling)
    read = ScoreTable.read(tmp_path / spelling)
    expected = ScoreTable.read(base)
    pd.testing.assert_frame_equal(ordered(read)[list(expected.frame)], ordered(expected), check_dtype=False, rtol=1e-12)
    assert (
        f"{spelling} (" in read.told[0] and "440 scores (dice) of 24 glioma, 20 control in 10 bundles" in read.told[0]
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (joined, "hemisphere from the bundle's name, metric dice"),
        (renamed, "participant_id from Subject"),
        (renamed, "glioma from 'Patient', control from 'HC'"),
        (wide, "a column a bundle"),
        (wide, "metric dice"),
        (lambda base: base.assign(value=base["value"] * 100), "dice from percent"),
        (lambda base: base.map(lambda cell: str(cell).replace(".", ",").replace("nan", "")), "decimal commas"),
        (lambda base: base.assign(handedness="right"), "Columns kept as they are: handedness"),
        (lambda base: base.rename(columns={"tumor_distance_mm": "Tumour distance [cm]"}), "tumor_distance_mm from cm"),
        (lambda base: base.rename(columns={"group": "cohort"}), "group from cohort"),
    ],
)  # fmt: skip
def test_what_was_understood_is_said(
    change: Callable[[pd.DataFrame], pd.DataFrame], told: str, base: pd.DataFrame
) -> None:
    """Each thing that was not written down is in a sentence."""
    assert any(told in line for line in understand(change(base)).told)


def test_a_share_among_percent_is_not_guessed_at(base: pd.DataFrame) -> None:
    """One score below 1 in a column of percent may be either: refused by name, and read once the table says which."""
    mixed = base.assign(value=base["value"] * 100)
    mixed.loc[3, "value"] = 0.8
    with pytest.raises(DataError, match=r"1 lie between 0 and 1.*0\.8 of"):
        understand(mixed)
    read = ScoreTable.read(mixed.assign(unit="%")).frame
    assert read["value"].min() == pytest.approx(0.008)


def test_a_table_in_our_own_words_needs_no_words() -> None:
    """Of a table that `score` wrote there is nothing to say."""
    own = ScoreTable.read(long_table(n_patients=2, n_controls=2)).frame
    assert ScoreTable.read(own).told == ()


def test_empty_cells_are_missing_values_and_are_counted(base: pd.DataFrame) -> None:
    """A score that is not there is unavailable; other words for nothing mean the same."""
    holes = base.astype({"value": object})
    for row, nothing in zip((0, 5, 9), ("", "NA", "#N/A"), strict=True):
        holes.loc[row, "value"] = nothing
    read = ScoreTable.read(holes)
    assert (read.frame["status"] == "unavailable").sum() == 3 and read.frame["value"].isna().sum() == 3
    assert any("3 without a value are unavailable, the others ok" in line for line in read.told)


def test_a_column_a_metric_gives_a_row_a_metric(base: pd.DataFrame) -> None:
    """Dice and HD95 beside each other, long or wide, are both read."""
    long = base.rename(columns={"value": "Dice"}).drop(columns="metric").assign(HD95=7.5)
    table = ScoreTable.read(long)
    assert table.metrics == ("dice", "hd95") and len(table) == 2 * len(base)
    beside = wide(base).rename(columns={"AF_left": "AF_left_DSC"}).assign(hd95_AF_left=7.5)
    flat = ScoreTable.read(beside)
    assert flat.metric("hd95")["value"].eq(7.5).all() and len(flat.metric("dice")) == len(base)


def test_a_column_that_only_looks_like_a_bundle_is_none(base: pd.DataFrame) -> None:
    """Numbers about people stay columns about people; a distance without scores is told."""
    frame = wide(base).assign(education_years=12, distance_XY_left=3.0)
    sheet = understand(frame)
    assert set(sheet.frame["bundle"]) == set(base["bundle"]) and (sheet.frame["education_years"] == 12).all()
    assert any("distance_XY_left, a distance without scores" in line for line in sheet.told)


def test_columns_are_named_where_nobody_could_guess(base: pd.DataFrame) -> None:
    """`columns` takes full and short names; its metric is in the name, and what it stands for is left aside aloud."""
    frame = base.drop(columns="metric").rename(columns={"participant_id": "Kürzel", "tumor_distance_mm": "d2t"})
    frame = frame.assign(hd95=frame["value"] * 10)
    sheet = understand(frame, columns={"participant": "kürzel", "distance": "d2t", "value": "hd95"})
    assert (sheet.frame["metric"] == "hd95").all() and sheet.frame["value"].astype(float).max() > 5
    assert any("value, as hd95 stands for it" in line for line in sheet.told)
    with pytest.raises(ConfigError, match="'particpant' is no column of a score table; did you mean participant"):
        understand(frame, columns={"particpant": "ID"})
    with pytest.raises(ConfigError, match=r"'Kurzel' is no column here; did you mean Kürzel\?"):
        understand(frame, columns={"participant": "Kurzel"})


@pytest.mark.parametrize("wide", [False, True])
def test_the_template_is_read_as_it_is(wide: bool) -> None:
    """Both forms of the example give the same scores, with the bundles that were asked for."""
    table = ScoreTable.read(template(["CST_left", "AF_right", "CC"], wide=wide))
    assert set(zip(table.frame["bundle"], table.frame["hemisphere"], strict=True)) == {
        ("PYT", "left"), ("AF", "right"), ("CC", "none"),
    }  # fmt: skip
    expected = ScoreTable.read(template(["CST_left", "AF_right", "CC"]))
    pd.testing.assert_frame_equal(ordered(table)[list(expected.frame)], ordered(expected))
    patients = table.frame[table.frame["group"] == "glioma"]
    assert patients["tumor_distance_mm"].notna().all() and len(table) == 12


@pytest.mark.parametrize("column", ["participant_id", "group", "bundle", "value", "tumor_distance_mm"])
def test_what_is_missing_is_told_with_its_reason(column: str, base: pd.DataFrame) -> None:
    """Why it is needed, what there is, and both ways out."""
    with pytest.raises(DataError, match=f"'{column}' is missing .*`columns`.*shiftkit template"):
        understand(base.drop(columns=column))


def test_one_distance_cannot_be_that_of_many_bundles(base: pd.DataFrame) -> None:
    """A wide table with one distance a participant is refused; controls alone need none."""
    frame = wide(base)
    frame = frame.drop(columns=[name for name in frame if name.startswith("distance")])
    with pytest.raises(DataError, match=r"'tumor_distance_mm' is missing.*a column a bundle too"):
        understand(frame.assign(tumor_distance_mm=4.0))
    assert understand(frame[frame["group"] == "control"]).frame["tumor_distance_mm"].isna().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda base: base.assign(ID=1, Subject=2).drop(columns="participant_id"), "'ID' and 'Subject' may both be"),
        (lambda base: base.assign(value=base["value"].where(base["group"] == "control", 60.0)), "runs from"),
        (lambda base: base.drop(columns="metric").assign(value=base["value"] * 20), "does not say which metric"),
        (lambda base: base.assign(value=base["value"].astype(str).where(base.index > 3, "50%")), "some end in %"),
        (lambda base: base.assign(bundle=base["bundle"] + "_left"), "must agree; 'AF_left' stands beside 'right'"),
        (lambda base: base.assign(value="much"), "'much' is not a number"),
        (lambda base: base.assign(group="meningioma"), "group 'meningioma'"),
    ],
)  # fmt: skip
def test_what_has_two_meanings_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], said: str, base: pd.DataFrame
) -> None:
    """Nothing is guessed where a guess could be wrong."""
    with pytest.raises(DataError, match=said):
        ScoreTable.read(change(base))
