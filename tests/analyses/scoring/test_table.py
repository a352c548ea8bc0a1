from pathlib import Path

import pandas as pd
import pytest

from shiftkit.analyses.scoring.table import ScoreTable, as_frame, one_session, understood_scores, without_bad
from shiftkit.errors import DataError


def scores() -> pd.DataFrame:
    base = {"cohort": "c", "group": "glioma", "model": "m", "modality": "fa", "side": "ipsi", "metric": "dice"}
    rest = {"hemisphere": "left", "value": 0.7, "unit": "1", "status": "ok", "tumor_distance_mm": 5.0}
    rows = [{"participant_id": f"sub-{i}", "bundle": bundle} for i in range(6) for bundle in ("AF", "PYT")]
    return pd.DataFrame([{**base, **rest, **row} for row in rows])


def ratings(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["participant_id\tbundle\themisphere\tmodel\trating\tcomment", *rows]) + "\n")
    return path


def test_cases_rated_bad_are_left_out_and_counted(tmp_path: Path) -> None:
    """Only bad ones go, of the rated model only, or of all models where the rating names none."""
    rows = ["sub-1\tAF\tleft\tm\tbad\tx", "sub-2\tAF\tleft\tm\tdoubtful\t", "sub-3\tAF\tleft\tother\tbad\t"]
    kept, n = without_bad(
        ScoreTable(frame=scores()), ratings(tmp_path / "r.tsv", [*rows, "sub-4\tPYT\tleft\tn/a\tbad\t"])
    )
    gone = set(map(tuple, scores()[["participant_id", "bundle"]].values)) - set(
        map(tuple, kept.to_frame()[["participant_id", "bundle"]].values)
    )
    assert n == 2 and gone == {("sub-1", "AF"), ("sub-4", "PYT")}


def test_unknown_ratings_are_refused(tmp_path: Path) -> None:
    """A word that no report exports is named."""
    with pytest.raises(DataError, match="'awful' is not one of"):
        without_bad(ScoreTable(frame=scores()), ratings(tmp_path / "r.tsv", ["sub-1\tAF\tleft\tm\tawful\t"]))


def test_spellings_of_a_table_are_understood() -> None:
    """Case, blanks, letters for sides and other words for yes change nothing."""
    told = scores().assign(
        group="Glioma ", hemisphere="L", seen="True", participant_id=scores()["participant_id"] + " "
    )
    expected = scores().assign(seen="yes")
    pd.testing.assert_frame_equal(understood_scores(told), understood_scores(expected))


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("group", ["meningioma"], "group 'meningioma' .sub-0.* is none of control"),
        ("hemisphere", ["L", "right"], "spelled in two ways, L, right"),
        ("group", ["control", "glioma"], "sub-0 is in control and glioma"),
        ("tumor_distance_mm", [-3.0], "sub-1, .* is -3; write"),
        ("tumor_distance_mm", [float("inf")], "is inf; write"),
        ("status", ["missed"], "dice of a missed bundle is 0; .* have 0.7"),
        ("status", ["unavailable"], "status unavailable has no value"),
        ("value", [float("nan")], "finite value"),
        ("value", [70.0], "looks like percent"),
        ("model", ["=1+1"], "'model': '=1.1' begins as a formula"),
        ("bundle", ["<img src=x>"], "'bundle': '<img src=x>' holds markup"),
        ("bundle", ["AF", "AF"], "sub-0 AF left dice stands twice"),
    ],
)
def test_what_cannot_be_is_refused_by_name(column: str, values: list[object], said: str) -> None:
    """Words, distances, values and statuses that contradict each other are named with their participants."""
    frame = scores()
    frame[column] = (values * len(frame))[: len(frame)]
    with pytest.raises(DataError, match=said):
        as_frame(frame)


def test_two_spellings_of_one_participant_are_refused() -> None:
    """sub-4 and sub-004 would count as two people."""
    frame = scores().replace({"participant_id": {"sub-5": "sub-004"}})
    with pytest.raises(DataError, match="sub-004 and sub-4 look like one"):
        ScoreTable(frame=frame)


def test_an_analysis_takes_one_session() -> None:
    """Two sessions of a participant are a table that can be kept, and not compared before one is chosen."""
    both = pd.concat([scores().assign(session=one) for one in ("ses-1", "ses-2")], ignore_index=True)
    kept, gone = one_session(ScoreTable(frame=both).frame, "last")
    assert set(kept["session"]) == {"ses-2"} and len(kept) == len(scores()) and gone == {}
    with pytest.raises(DataError, match="`session`"):
        as_frame(both)


def test_nothing_is_compared_where_all_was_missed() -> None:
    """A table of misses alone says that predictions are wrong, not that patients are."""
    with pytest.raises(DataError, match="all 12 rows"):
        as_frame(scores().assign(status="missed", value=0.0))
