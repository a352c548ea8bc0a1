"""What a run of deformation says of bundles that it could not measure."""

import pandas as pd

from shiftkit.pipeline.deform import without_number


def test_bundles_without_a_number_are_counted_by_reason() -> None:
    """Rows and participants are counted for each status but ok, so that no lower count goes unsaid."""
    rows = [("sub-1", "ok"), ("sub-1", "empty"), ("sub-1", "empty"), ("sub-2", "empty"), ("sub-3", "too_small")]
    told = without_number(pd.DataFrame(rows, columns=["participant_id", "status"]))
    assert [str(one) for one in told] == ["3 rows of 2 participants (empty)", "1 row of 1 participants (too_small)"]
    assert without_number(pd.DataFrame(rows[:1], columns=["participant_id", "status"])) == ()
