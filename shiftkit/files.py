"""Writing files so that an interruption never leaves half of one, and digests of what they hold."""

import hashlib
import json
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from .errors import DataError, ShiftkitError

_MOST_TEXT_BYTES = 2**26
# Read once, for reading it means setting it, which other threads would notice.
_UMASK = os.umask(0o077)
os.umask(_UMASK)


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Yield a temporary path in the same folder; move it onto ``path`` if the block succeeds.

    The temporary name keeps the suffixes of ``path``, so writers that look at them work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix="".join(path.suffixes[-2:]))
    # Who writes opens the path anew.
    os.close(handle)
    part = Path(name)
    try:
        yield part
        # A temporary file can be read by its owner alone; what replaces it is as open as the user's files are.
        part.chmod(0o666 & ~_UMASK)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def require_file(path: Path, what: str, error: type[ShiftkitError] = DataError) -> None:
    """Refuse, before it is opened, what is no ordinary file: a device or a pipe can be read forever.

    Examples
    --------
    >>> require_file(Path("nowhere.tsv"), "table")
    Traceback (most recent call last):
    ...
    shiftkit.errors.DataError: There is no table at nowhere.tsv. Check the path.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise error(f"A {what} is a file; {path} is a folder. Give the file in it.")
    if path.exists():
        raise error(f"A {what} is an ordinary file; {path} is a device or a pipe. Save it as a file first.")
    raise error(f"There is no {what} at {path}. Check the path.")


def read_text(path: Path, what: str = "text") -> str:
    """The text of a small UTF-8 file, with or without the mark that spreadsheets put first.

    A `DataError` for what is no ordinary file, or larger than any that people write; see `require_file`.
    """
    require_file(path, what)
    if path.stat().st_size > _MOST_TEXT_BYTES:
        raise DataError(f"A {what} has at most {_MOST_TEXT_BYTES / 2**20:g} MiB; {path} is larger.")
    return path.read_text(encoding="utf-8-sig")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write plain values as a JSON file, atomically, for people to read too."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_dir() -> Path:
    """The folder for what can be made again: ``SHIFTKIT_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("SHIFTKIT_CACHE") or user_cache_path("shiftkit"))
