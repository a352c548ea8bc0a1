"""BraTS-style folders: one folder a patient, ``*_seg.nii.gz`` and four contrasts (doi 10.1109/TMI.2014.2377694).

Label maps code necrosis and non-enhancing core 1, edema 2, enhancing tumor 4 (3 in newer releases). Which of
them make up the tumor is an option; all do by default. The core is everything but edema.
"""

from pathlib import Path

import numpy as np

from ..errors import DataError, raise_all
from ..images import read_image, whole_labels
from .sources import Found, MaskSource, participant_id, subjects

_CORE = (1, 3, 4)
_ENHANCING = {3, 4}
_T1 = ("t1", "t1n", "T1", "t1w")


def find(source: Path, tumor_labels: tuple[int, ...] | None = None) -> list[Found]:
    """The patients below a folder, or the one patient whose folder it is.

    Raises
    ------
    DataError
        If a label of the tumor occurs in no patient, or enhancing tumor is asked for by the number of another release.
    """
    patients = subjects(source, lambda folder: _contrast(folder, "seg") is not None)
    if tumor_labels is not None:
        _require_coded(patients, set(tumor_labels))
    return [_patient(folder, tumor_labels) for folder in patients]


def _patient(folder: Path, tumor_labels: tuple[int, ...] | None) -> Found:
    path, t1w = _contrast(folder, "seg"), _contrast(folder, *_T1)
    assert path is not None
    core = tuple(label for label in _CORE if tumor_labels is None or label in tumor_labels)
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images={} if t1w is None else {"t1w": t1w},
        tumor=MaskSource(path=path, labels=tumor_labels or ()),
        core=MaskSource(path=path, labels=core),
    )


def _require_coded(patients: list[Path], wanted: set[int]) -> None:
    """Refuse labels that would leave a part of the tumor out because a release numbers it otherwise."""
    problems: list[str] = []
    seen: set[int] = set()
    for folder in patients:
        path = _contrast(folder, "seg")
        assert path is not None
        present = {int(label) for label in np.unique(whole_labels(np.nan_to_num(read_image(path).array), path))} - {0}
        seen |= present
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
