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

from .errors import DataError


@contextmanager
def atomic(path: Path) -> Generator[Path]:
    """Yield a temporary path in the same folder; move it onto ``path`` if the block succeeds.

    The temporary name keeps the suffixes of ``path``, so writers that look at them work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix="".join(path.suffixes[-2:]))
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write plain values as a JSON file, atomically, for people to read too."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    DataError
        If the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a JSON file; it cannot be read: {error}. Correct it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must be a JSON object; it holds a {type(content).__name__}. Correct it.")
    return content


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def cache_dir() -> Path:
    """The folder for what can be made again: ``SHIFTKIT_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("SHIFTKIT_CACHE") or user_cache_path("shiftkit"))
