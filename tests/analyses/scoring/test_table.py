from pathlib import Path

import pandas as pd
import pytest

from shiftkit.analyses.scoring.table import ScoreTable, without_bad
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
