"""The quick part of ``benchmarks/fuzz.py``: a few hundred damaged and malicious files, in this process."""

from pathlib import Path

import pytest

from benchmarks.fuzz import ENTRIES, one_input

# Three hundred in all: as many as ten seconds hold.
_INPUTS = 11


@pytest.mark.parametrize("name", ENTRIES)
def test_no_file_does_harm(name: str, tmp_path: Path) -> None:
    """Sound files are accepted; damaged ones are refused in a sentence or are in range, in little time and memory."""
    ENTRIES[name].prepare(tmp_path)
    for index in range(_INPUTS):
        what, words, _, _ = one_input(name, index, 7, tmp_path)
        assert what != "fault", f"{words} (python benchmarks/fuzz.py --seed 7 --only {name!r} --index {index})"
        assert what == "accepted" or index, words  # the first one is sound
