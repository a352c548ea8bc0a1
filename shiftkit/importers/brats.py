"""BraTS-style folders: one folder a patient, ``*_seg.nii.gz`` and four contrasts (doi 10.1109/TMI.2014.2377694).

Label maps code necrosis and non-enhancing core 1, edema 2, enhancing tumor 4 (3 in newer releases). Which of
them make up the tumor is an option; all do by default. The core is everything but edema.
"""

from pathlib import Path
from warnings import warn

import numpy as np

from ..errors import ShiftkitWarning
from ..images import read_image, whole_labels
from .sources import Found, MaskSource, participant_id, subjects

_CORE, _EDEMA = (1, 3, 4), 2
_T1 = ("t1", "t1n", "T1", "t1w")


def find(source: Path, tumor_labels: tuple[int, ...] | None = None) -> list[Found]:
    """The patients below a folder, or the one patient whose folder it is."""
    patients = subjects(source, lambda folder: _contrast(folder, "seg") is not None)
    return [_patient(folder, tumor_labels) for folder in patients]


def _patient(folder: Path, tumor_labels: tuple[int, ...] | None) -> Found:
    path, t1w = _contrast(folder, "seg"), _contrast(folder, *_T1)
    assert path is not None
    core = tuple(label for label in _CORE if tumor_labels is None or label in tumor_labels)
    name = participant_id(folder.resolve().name)
    if tumor_labels is not None:
        _say_if_coded_otherwise(name, path, tumor_labels)
    return Found(
        participant_id=name,
        images={} if t1w is None else {"t1w": t1w},
        tumor=MaskSource(path=path, labels=tumor_labels or ()),
        core=MaskSource(path=path, labels=core),
    )


def _say_if_coded_otherwise(name: str, path: Path, wanted: tuple[int, ...]) -> None:
    """Warn where a label that was asked for is absent and one is left that is no edema: releases differ in codes."""
    there = {int(label) for label in np.unique(whole_labels(read_image(path).array, path)) if label}
    absent, left = sorted(set(wanted) - there), sorted(there - {*wanted, _EDEMA})
    if absent and left:
        taken, gone, over = (", ".join(map(str, some)) for some in (sorted(there & {*wanted}), absent, left))
        warn(
            f"Of {name} the tumor is labels {taken or 'none'}: {gone} is absent, and {over} is left out. Enhancing "
            "tumor is 4 in some releases and 3 in others; ask for both.",
            ShiftkitWarning,
            stacklevel=2,
        )


def _contrast(folder: Path, *names: str) -> Path | None:
    found = (sorted(folder.glob(f"*{separator}{name}.nii*")) for name in names for separator in ("_", "-"))
    return next((paths[0] for paths in found if paths), None)
