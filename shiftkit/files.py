"""Writing files so that an interruption never leaves half of one, one run at a time in a folder, digests."""

import functools
import hashlib
import inspect
import json
import math
import os
import secrets
import shutil
import tempfile
import threading
import time
import tomllib
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from platformdirs import user_cache_path

from .errors import ConfigError, DataError, MachineError, ShiftkitError

try:
    import fcntl
except ImportError:  # Windows: the heartbeat alone tells whether the owner lives
    fcntl = None

P = ParamSpec("P")
R = TypeVar("R")

_BEAT_S = 0.5
_SILENCE_S = 2.5  # several beats: a busy machine misses one
_MINE: set[Path] = set()  # verbs call verbs: what this process holds, it may enter again

_MOST_TEXT_BYTES = 2**26
_MOST_TOML = 2**22  # its reader takes a second for ten million letters
# Read once, for reading it means setting it, which other threads would notice.
_UMASK = os.umask(0o077)
os.umask(_UMASK)
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


def read_json(path: Path, what: str = "file") -> Any:
    """What a JSON file holds; a `ValueError` where it is none, says a thing twice, or nests deeper than any reader."""
    text = read_text(path, what)
    try:
        content = json.loads(text, object_pairs_hook=_once)
        if _HALF_A_LETTER in text.casefold():
            json.dumps(content, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None
    return content


_HALF_A_LETTER = "\\ud"
"""How JSON writes halves of letters, of which one alone can neither be printed nor written."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return made


def read_toml(path: Path, what: str = "file") -> dict[str, Any]:
    """What a TOML file holds; a `ValueError` where it is none, nests too deep for its reader, or is too large."""
    text = read_text(path, what)
    if len(text) > _MOST_TOML:
        raise ValueError(f"it has {len(text)} letters, more than {_MOST_TOML}")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deep") from None


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays in an npz file, by name; a `ValueError` where one is not as large as its header says.

    An archive unpacks to a thousand times its size, and a header can ask for any memory: look here before reading.
    """
    from numpy.lib import format as npy

    shapes: dict[str, tuple[int, ...]] = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as stream:
                first = npy.read_magic(stream)[0] == 1
                shape, _, dtype = (npy.read_array_header_1_0 if first else npy.read_array_header_2_0)(stream)
                told = stream.tell() + math.prod(shape) * dtype.itemsize
            if dtype.hasobject or min(shape, default=0) < 0 or told != member.file_size:
                raise ValueError(f"{member.filename} holds no plain array of the size it claims, {shape}")
            shapes[member.filename.removesuffix(".npy")] = shape
    return shapes


def require_room(out: Path, gib: float = 0.0) -> None:
    """Refuse a place where nothing can be written, or whose disk has not half of the space that is expected.

    Half, since what is expected is an estimate. Nothing is written.

    Raises
    ------
    ConfigError
        If a file stands where a folder is needed.
    MachineError
        If this user may not write there, or there is too little space.
    """
    place = out.absolute()
    while not (place.exists() or place.is_symlink()):
        place = place.parent
    if place != out.absolute() and not place.is_dir():
        raise ConfigError(f"A folder is needed above {out}; {place} is a file. Give another `out`.")
    if not os.access(place, os.W_OK) or (place.is_dir() and not os.access(place, os.X_OK)):
        raise MachineError(f"Nothing may be written at {place}. Give another `out`, or get leave to write there.")
    free_gib = shutil.disk_usage(place if place.is_dir() else place.parent).free / 2**30
    if free_gib < gib / 2:
        raise MachineError(
            f"About {gib:.2g} GiB are needed at {out}; {free_gib:.2g} GiB are free there. Make room, or give another "
            "`out`."
        )


def holds(folder: Path) -> list[str]:
    """Names of what lies in a folder, sorted, without what killed processes had half-written; none of no folder."""
    return sorted(one.name for one in folder.iterdir() if not one.name.startswith(PART)) if folder.is_dir() else []


def sweep(root: Path) -> None:
    """Remove what killed processes had half-written below a folder, which must be held and known to be shiftkit's."""
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


def lock_path(folder: Path) -> Path:
    """Where the lock of a folder lies: beside it, so that an empty folder stays empty."""
    return folder.parent / f".{folder.name}.lock"


@contextmanager
def held(folder: Path, verb: str, *, waits: bool = False) -> Generator[None]:
    """Keep a folder for this process while the block runs; the lock is gone at its end.

    It holds a random id, the verb and the start, no name of a machine or user; a thread touches it every half second.

    Raises
    ------
    MachineError
        If another process is at work in the folder, unless this one ``waits`` until it has ended. One that died leaves
        its lock behind, which is taken over.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> with held(folder, "train"):
    ...     lock_path(folder).is_file()
    True
    >>> lock_path(folder).exists()
    False
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay, so that the lock lies beside what was named
    if folder in _MINE:
        yield
        return
    path = lock_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = _take(path, folder, waits)
    except PermissionError:
        # A place that was lent, such as a container's volume: beside it nobody may write.
        with _held_itself(folder):
            _MINE.add(folder)
            try:
                yield
            finally:
                _MINE.discard(folder)
        return
    try:
        owner = {"owner": secrets.token_hex(8), "verb": verb, "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)
        _MINE.add(folder)
        over = threading.Event()
        threading.Thread(target=_beat, args=(path, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()
            _MINE.discard(folder)
            path.unlink(missing_ok=True)  # before it is let go: who waits for this file must see that it is gone
    finally:
        os.close(handle)


@contextmanager
def _held_itself(folder: Path) -> Generator[None]:
    """Keep a folder by a lock on itself, of which nothing is left but which other machines do not see."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _alone(handle):
            raise MachineError(_refusal(lock_path(folder), folder))
        yield
    finally:
        os.close(handle)


def refuse_links(root: Path, folder: Path | None = None) -> None:
    """Refuse to write into folders below a root, or into one of them, that are links to elsewhere.

    The root may be a link itself, and so may files be: those are replaced when they are written. A folder would be
    written through.

    Raises
    ------
    ConfigError
        Naming the first such folder.
    """
    if folder is None:
        found = (Path(place, name) for place, names, _ in os.walk(root) for name in sorted(names))
    else:
        found = (one for one in (folder, *folder.parents) if root in one.parents)
    link = next((one for one in found if one.is_symlink()), None)
    if link is not None:
        raise ConfigError(
            f"Nothing is written through links that lie inside a folder; {link} leads to {link.readlink()}. Put the "
            "folder itself there, or give another place to write to."
        )


_SHARED_OUT = ("train", "finetune")
"""Functions whose work several processes of a launcher share; in any other each is by itself."""


def launched() -> tuple[int, int]:
    """Which of how many processes of a launcher this is, from 0: ``torchrun`` and ``accelerate launch`` say it so."""
    rank, count = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    # Either alone is something else's: whoever launches several sets both.
    return (int(rank), int(count)) if rank.isdecimal() and count.isdecimal() else (0, 1)


def is_first_process() -> bool:
    """Whether this process is alone, or the one of several that writes and speaks."""
    return launched()[0] == 0


def require_one_process(instead: str) -> None:
    """Refuse, with a `ConfigError`, to be one of several processes started by ``torchrun``."""
    if (count := launched()[1]) > 1:
        raise ConfigError(f"The {count} processes of a launcher share work among them; {instead}")


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """A public function that keeps the folder it writes to, its argument ``out``, to itself while it works.

    Of several processes that share the work, as ``torchrun`` starts them, the first keeps it for all.
    Of a function with an argument ``fold`` that is given, it is the folder of this fold: several may be made at a time.
    Where nothing can be written is refused first, see `require_room`; links in it where it goes on, see `refuse_links`.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        out = given.arguments["out"]
        if given.arguments.get("fold") is not None:
            out = Path(out) / f"fold-{given.arguments['fold']}"
        if out is not None:
            require_room(Path(out))
        shared = function.__name__ in _SHARED_OUT and not is_first_process()
        if out is None or given.arguments.get("dry_run") or shared:
            return function(*args, **kwargs)
        with held(Path(out), function.__name__):
            if given.arguments.get("resume", True):  # else what is not empty is refused anyway
                refuse_links(Path(out))
            return function(*args, **kwargs)

    return call


def _take(path: Path, folder: Path, waits: bool) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _alone(handle):
                raise MachineError(_refusal(path, folder))
            if not _same_file(handle, path):
                os.close(handle)  # its owner ended, and took the file away, between the two calls
                continue
            # Something in it: its owner died here, or lives on another machine of which this file system says nothing.
            if os.fstat(handle).st_size and _beats(handle):
                raise MachineError(_refusal(path, folder))
        except MachineError:
            os.close(handle)
            if not waits:
                raise
            time.sleep(_BEAT_S)
            continue
        return handle


def _alone(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without such locks
        return True
    return True


def _same_file(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _beats(handle: int) -> bool:
    """Whether somebody touches the file: clocks of machines differ, so that only a change tells."""
    before, end = os.fstat(handle).st_mtime_ns, time.monotonic() + _SILENCE_S
    while time.monotonic() < end:
        time.sleep(_BEAT_S / 2)
        if os.fstat(handle).st_mtime_ns != before:
            return True
    return False


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(_BEAT_S):
        try:
            os.utime(path)
        except OSError:
            return


def _refusal(path: Path, folder: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        who = f"shiftkit {owner['verb']} (id {owner['owner']}, since {owner['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another run"
    return (
        f"One run at a time writes into a folder; {who} is at work in {folder}. Wait until it has ended, or give "
        "another `out`."
    )
