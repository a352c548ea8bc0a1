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

_UMASK = os.umask(0o022)
os.umask(_UMASK)  # it can only be read by setting it, which is safe while there is one thread
PART = ".part-"
"""Beginning of the names of files that are being written."""


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Yield a temporary path in the same folder; move it onto ``path`` if the block succeeds.

    The temporary name keeps the suffixes of ``path``, so writers that look at them work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=PART, suffix="".join(path.suffixes[-2:]))
    # Who writes opens the path anew.
    os.close(handle)
    part = Path(name)
    try:
        yield part
        # A temporary file can be read by its owner alone, whatever the user's own rule for new files says.
        part.chmod(0o666 & ~_UMASK)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(root: Path) -> None:
    """Remove what killed processes had half-written below a folder, which must be held; see `shiftkit.locks`."""
    for path in root.rglob(f"{PART}*"):
        if path.is_file() and not path.is_symlink():
            path.unlink()


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
