"""Public data sets in their own layouts, turned into cohorts."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..cohorts.folder import load_cohort
from ..errors import ConfigError, DataError
from ..files import PART, holds, sweep
from ..types import Cohort
from ..work import Cost, Work
from . import brainptm, brats, hcp105, tractoinferno, tractseg
from .sources import Found
from .writing import write_cohort

__all__ = ["FORMATS", "import_cohort"]

FORMATS: dict[str, Callable[..., list[Found]]] = {
    "tractoinferno": tractoinferno.find,
    "brainptm": brainptm.find,
    "hcp105": hcp105.find,
    "tractseg": tractseg.find,
    "brats": brats.find,
}

_GROUPS = ("control", "glioma", "target_control")


def import_cohort(
    format: str,
    src: str | Path,
    out: str | Path,
    *,
    group: str = "control",
    tumor_labels: tuple[int, ...] | None = None,
    work: Work = Work(),
) -> Cohort:
    """Turn a public data set's own layout into a cohort.

    Bundles get the names of `shiftkit.bundles.bundle_named`, streamlines become masks by exact voxel traversal, images
    keep their grid; what a data set does not have is absent.

    Parameters
    ----------
    format : {"tractoinferno", "brainptm", "hcp105", "tractseg", "brats"}
        Whose layout.
    src, out : str or Path
        The folder, as it was unpacked, and that of the new cohort: new or empty.
    group : str
        ``control``, ``glioma`` or ``target_control``, for every participant.
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
    found = FORMATS[format](source, **options)
    if not found:
        raise DataError(
            f"{source} must hold a data set in the layout of {format}; no participant was found in it. "
            f"The layout is described in shiftkit.importers.{format}."
        )
    names = [one.participant_id for one in found]
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
        write_cohort(part, format, found, group, work)
        if target.exists():
            sweep(target)
            target.rmdir()
        part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return load_cohort(target)
