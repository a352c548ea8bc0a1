"""How a run ends: who took no part is told in words."""

import pytest

from shiftkit.pipeline.story import LeftOut


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (LeftOut("glioma", "reference_absent", 1, 1), "1 row of 1 patient (the reference lacks the bundle)"),
        (LeftOut("control", "level_too_rare", 3, 6), "6 rows of 3 controls (fewer than 5 controls have the bundle)"),
        (LeftOut("patients", "no tumor mask", 2), "2 patients (no tumor mask)"),
        (LeftOut("other", "unknown group", 2, 4), "4 rows of 2 other (unknown group)"),
    ],
)
def test_a_status_word_is_told_as_what_it_means(left_out: LeftOut, told: str) -> None:
    """Groups are people, and words of the tables are explained where they stand in a sentence."""
    assert str(left_out) == told
