"""BraTS-style folders: one folder a patient, ``*_seg.nii.gz`` and four contrasts (doi 10.1109/TMI.2014.2377694).

Label maps code necrosis and non-enhancing core 1, edema 2, enhancing tumor 4 (3 in newer releases). Which of
them make up the tumor is an option; all do by default. The core is everything but edema. In 2024's release 4 is the
resection cavity, beside 3; where both occur the option must be given. ``BraTS-GLI-00005-100`` is session 100 of patient
00005.
"""

import re
from pathlib import Path

import numpy as np

from ..errors import DataError, raise_all
from ..images import read_image, whole_labels
from .sources import Found, MaskSource, person, subjects

LAYOUT = "[…/]BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz, BraTS-GLI-00000-000/BraTS-GLI-00000-000-seg.nii.gz"
GROUP = "glioma"

_CORE = (1, 3, 4)
_ENHANCING = {3, 4}
_T1 = ("t1", "t1n", "T1", "t1w")
# One patient's label map of 2020's release is called W39_1998.09.19_Segm.nii.
_SEGMENTED = ("seg", "Segm")
_TIME_POINT = re.compile(r"(BraTS-[A-Za-z]+-\d+)-(\d{3})")


def find(source: Path, tumor_labels: tuple[int, ...] | None = None) -> list[Found]:
    """The patients below a folder, or the one patient whose folder it is.

    Raises
    ------
    DataError
        If a label of the tumor occurs in no patient, enhancing tumor is asked for by the number of another release, or
        a release has both numbers and none is asked for.
    """
    patients = subjects(source.resolve(), lambda folder: _contrast(folder, *_SEGMENTED) is not None)
    _require_coded(patients, tumor_labels)
    return [_patient(folder, tumor_labels) for folder in patients]


def _patient(folder: Path, tumor_labels: tuple[int, ...] | None) -> Found:
    path, t1w = _contrast(folder, *_SEGMENTED), _contrast(folder, *_T1)
    assert path is not None
    core = tuple(label for label in _CORE if tumor_labels is None or label in tumor_labels)
    who, point = person(folder), _TIME_POINT.fullmatch(folder.name)
    if point is not None:
        who = person(folder.with_name(point[1]))
        who["session"] = f"ses-{point[2]}"
    return Found(
        **who,
        images={} if t1w is None else {"t1w": t1w},
        tumor=MaskSource(path=path, labels=tumor_labels or ()),
        core=MaskSource(path=path, labels=core),
    )


def _require_coded(patients: list[Path], tumor_labels: tuple[int, ...] | None) -> None:
    """Refuse labels that would leave tumor out, or take a cavity in, because a release numbers them otherwise."""
    problems: list[str] = []
    seen: set[int] = set()
    wanted = set(tumor_labels or ())
    for folder in patients:
        path = _contrast(folder, *_SEGMENTED)
        assert path is not None
        present = {int(label) for label in np.unique(whole_labels(np.nan_to_num(read_image(path).array), path))} - {0}
        seen |= present
        if tumor_labels is None and present >= _ENHANCING:
            raise DataError(
                f"Labels of a tumor must be known; {path} has both 3 and 4, of which 4 is the resection cavity in one "
                "release and tumor in others. Give `tumor_labels`: 1,2,3 without the cavity, or 1,2,3,4."
            )
        # Patients without enhancing tumor are many; those with the other number of it are another release's.
        other = present & _ENHANCING - wanted
        if other and wanted & _ENHANCING and not wanted & _ENHANCING & present:
            problems.append(
                f"{folder.name}: `tumor_labels` names enhancing tumor {min(wanted & _ENHANCING)}, which is absent, and "
                f"{min(other)} is left over, its number in other releases; name both"
            )
    raise_all(problems, f"{len(problems)} of {len(patients)} patients")
    if absent := wanted - seen:
        raise DataError(
            f"Each of `tumor_labels` must occur in a patient; {', '.join(map(str, sorted(absent)))} occurs in none, "
            f"labels there are {', '.join(map(str, sorted(seen))) or 'none'}. Name those that make up the tumor."
        )


def _contrast(folder: Path, *names: str) -> Path | None:
    found = (sorted(folder.glob(f"*{separator}{name}.nii*")) for name in names for separator in ("_", "-"))
    return next((paths[0] for paths in found if paths), None)
