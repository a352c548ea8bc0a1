import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shiftkit.files import sweep, write_text


@pytest.mark.parametrize("mask", [0o077, 0o002])
def test_new_files_have_the_mode_that_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    """A cohort written under umask 077 is its owner's alone; under 002 the group may write."""
    code = f"import os; os.umask({mask}); from shiftkit.files import write_text; from pathlib import Path; " + (
        f"write_text(Path({str(tmp_path / 'a.txt')!r}), 'x')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    """Half-written files go at any depth; finished ones stay."""
    write_text(tmp_path / "a" / "kept.txt", "x")
    (tmp_path / "a" / ".part-1x.nii.gz").write_bytes(b"half")
    sweep(tmp_path)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept.txt"]
