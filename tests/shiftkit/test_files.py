"""Files are whole, and as open as the user's other files."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shiftkit.errors import ConfigError, MachineError
from shiftkit.files import (
    array_shapes,
    atomic,
    one_at_a_time,
    read_json,
    read_toml,
    refuse_links,
    require_room,
    sweep,
    write_text,
)


def test_an_interruption_leaves_the_file_before(tmp_path: Path) -> None:
    """An error while a file is written: the old one stays, and nothing else is left in the folder."""
    path = tmp_path / "a.tsv"
    write_text(path, "before")
    with pytest.raises(KeyboardInterrupt), atomic(path) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["a.tsv"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_users_umask_is_honored(umask: int, mode: int, tmp_path: Path) -> None:
    """Written files have the permissions that the shell's own would have."""
    path = tmp_path / "a.txt"
    code = f"from pathlib import Path; from shiftkit.files import write_text; write_text(Path({str(path)!r}), 'x')"
    subprocess.run([sys.executable, "-c", code], check=True, preexec_fn=lambda: os.umask(umask))
    assert path.stat().st_mode & 0o777 == mode


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    """Half-written files go at any depth; finished ones stay."""
    write_text(tmp_path / "a" / "kept.txt", "x")
    (tmp_path / "a" / ".part-1x.nii.gz").write_bytes(b"half")
    sweep(tmp_path)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept.txt"]


def test_folders_that_are_links_are_not_written_through(tmp_path: Path) -> None:
    """A link in a folder that is gone on with is refused, and what it leads to stays; the folder may be one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    refuse_links(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "real" / "tables").symlink_to(tmp_path / "elsewhere")

    @one_at_a_time
    def go_on(out: Path, resume: bool = False) -> None:
        write_text(out / "tables" / "a.tsv", "x")

    with pytest.raises(ConfigError, match=r"tables leads to .*elsewhere"):
        go_on(out=tmp_path / "out", resume=True)
    with pytest.raises(ConfigError, match="leads to"):
        refuse_links(tmp_path / "real", tmp_path / "real" / "tables" / "deeper")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_files_that_are_links_are_replaced(tmp_path: Path) -> None:
    """Writing where a link lies leaves the file that it leads to as it was."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.txt").symlink_to(tmp_path / "mine.txt")
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "mine.txt").read_text() == "mine" and (tmp_path / "a.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('{"a": "\\ud800"}', "surrogates"),
        ("{", "Expecting"),
    ],
)
def test_json_that_no_writer_means_is_refused(tmp_path: Path, text: str, words: str) -> None:
    """Depth, double keys and half letters are an error as any other of JSON, not of the program."""
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_json(tmp_path / "a.json")


def test_toml_of_any_depth_is_an_error_of_toml(tmp_path: Path) -> None:
    """Brackets in brackets do not exhaust the interpreter."""
    (tmp_path / "a.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        read_toml(tmp_path / "a.toml")


def test_arrays_that_lie_about_their_size_are_refused(tmp_path: Path) -> None:
    """A header that asks for terabytes, or an object array, is seen before memory is taken."""
    np.savez(tmp_path / "good.npz", a=np.zeros((2, 3)), b=np.zeros(0))
    assert array_shapes(tmp_path / "good.npz") == {"a": (2, 3), "b": (0,)}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)})
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue())
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    for name in ("lies", "objects"):
        with pytest.raises(ValueError, match="size it claims"):
            array_shapes(tmp_path / f"{name}.npz")


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """A file above the folder, and a folder without leave; the place itself may be new, a folder, or a file."""
    (tmp_path / "file").write_text("")
    for place in ("new/run", "file", "."):
        require_room(tmp_path / place)
    with pytest.raises(ConfigError, match="file is a file"):
        require_room(tmp_path / "file" / "run")
    if os.geteuid():  # root may write anywhere
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(MachineError, match="Nothing may be written"):
            require_room(tmp_path / "locked" / "run")
    assert sorted(one.name for one in tmp_path.iterdir() if one.name != "locked") == ["file"]
