"""Public data sets in their own layouts, turned into cohorts."""

import shutil
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ..cohorts.folder import load_cohort
from ..errors import ConfigError, DataError
from ..files import PART, holds, sweep
from ..types import Cohort
from ..work import Cost, Work
from . import brainptm, brats, hcp105, pyafq, tractoinferno, tractseg
from .sources import Found, folders
from .writing import write_cohort

__all__ = ["FORMATS", "import_cohort"]

FORMATS: Mapping[str, Any] = {
    "tractoinferno": tractoinferno,
    "brainptm": brainptm,
    "hcp105": hcp105,
    "tractseg": tractseg,
    "pyafq": pyafq,
    "brats": brats,
}
"""Modules that know a layout: ``find``, which looks for it, ``LAYOUT`` in a line, and ``GROUP`` of its people."""

_GROUPS = ("control", "glioma", "target_control")


def import_cohort(
    format: str,
    src: str | Path,
    out: str | Path,
    *,
    group: str | None = None,
    streamlines: int = 1,
    tumor_labels: tuple[int, ...] | None = None,
    work: Work = Work(),
) -> Cohort:
    """Turn a public data set's own layout into a cohort.

    Bundles get the names of `shiftkit.bundles.bundle_named`, streamlines become masks by exact voxel traversal, images
    keep their grid; what a data set does not have is absent.

    Parameters
    ----------
    format : {"tractoinferno", "brainptm", "hcp105", "tractseg", "pyafq", "brats"}
        Whose layout.
    src, out : str or Path
        The folder, as it was unpacked, and that of the new cohort: new or empty.
    group : str, optional
        ``control``, ``glioma`` or ``target_control``, for every participant; by default what the data set's people are.
    streamlines : int
        A voxel is inside of a bundle from so many streamlines that pass through it.
    tumor_labels : tuple of int, optional
        For ``brats``: labels that make up the tumor; all by default.
    work : Work
        Whom to tell how far it is.

    Raises
    ------
    ConfigError
        If format, group or option is unknown, or ``out`` holds something.
    DataError
        If ``src`` has not that layout, or a file is damaged. No cohort is left behind then.
    """
    if format not in FORMATS:
        raise ConfigError(f"shiftkit imports {', '.join(FORMATS)}; got {format!r}.")
    group = FORMATS[format].GROUP if group is None else group
    if group not in _GROUPS:
        raise ConfigError(f"A group is one of {', '.join(_GROUPS)}; got {group!r}.")
    if tumor_labels is not None and format != "brats":
        raise ConfigError(f"Tumor labels are chosen for format brats only; got them for {format}.")
    source, target = Path(src), Path(out)
    if not source.is_dir():
        raise DataError(f"A data set is imported from its folder; there is none at {source}.")
    if target.exists() and (not target.is_dir() or holds(target)):
        raise ConfigError(f"An imported cohort needs a new or empty folder; {target} holds something. Give another.")
    options: dict[str, Any] = {"tumor_labels": tumor_labels} if format == "brats" else {}
    found: list[Found] = FORMATS[format].find(source, **options)
    if not found:
        raise DataError(_unrecognized(format, source))
    names = [one.key for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"Each folder must give a participant of its own; letters and digits alone do not tell apart "
            f"{', '.join(twice)}. Rename the folders."
        )
    n_files = sum(len(one.images) + len(one.masks) for one in found)
    copied = [path for one in found for path in (*one.images.values(), *one.raw.values()) if path.is_file()]
    work.begin(
        f"Would import {len(found)} participants of {source}, {n_files} files, as cohort {target.name} of group "
        f"{group}.",
        Cost(seconds=2 + 0.7 * n_files, memory_gib=0.6, disk_gib=sum(one.stat().st_size for one in copied) / 2**30),
        target,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the target and moved at the end: a failure leaves no half of a cohort. By its name the next call
    # finds, and removes, what a killed one left.
    part = target.parent / f"{PART}{target.name}"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        write_cohort(part, format, found, group, streamlines, work)
        if target.exists():
            sweep(target)
            target.rmdir()
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return load_cohort(target)


_SHOWN = 8


def _unrecognized(format: str, source: Path) -> str:
    """What to say of a folder without anybody in the layout that was asked for: what it holds, and what is known."""
    there = list(islice(_samples(source), _SHOWN + 1))
    shown = ", ".join(there[:_SHOWN]) + (", …" if len(there) > _SHOWN else "") if there else "nothing"
    # Of other layouts the folder may have one; that of a damaged file is told by its own import.
    fitting = [name for name, one in FORMATS.items() if name != format and _fits(one, source)]
    hint = f" It fits {' and '.join(fitting)}: name that format." if fitting else ""
    known = "; ".join(f"{name}: {one.LAYOUT}" for name, one in FORMATS.items())
    return (
        f"{source} must hold a data set in the layout of {format}; no participant was found. The folder holds {shown}."
        f"{hint} Layouts that are read: {known}."
    )


def _fits(layout: Any, source: Path) -> bool:
    try:
        return bool(layout.find(source))
    except DataError:
        return True


def _samples(folder: Path, below: str = "", deeper: int = 4) -> Iterator[str]:
    """Files as examples of a layout: of each folder, the first two and what its first two folders hold."""
    files = sorted(one.name for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    yield from (f"{below}{name}" for name in files[:2])
    for inner in folders(folder)[:2] if deeper else ():
        yield from _samples(inner, f"{below}{inner.name}/", deeper - 1)
