"""BraTS-style folders: one folder a patient, ``*_seg.nii.gz`` and four contrasts (doi 10.1109/TMI.2014.2377694).

Label maps code necrosis and non-enhancing core 1, edema 2, enhancing tumor 4 (3 in newer releases). Which of
them make up the tumor is an option; all do by default. The core is everything but edema.
"""

from pathlib import Path

from .sources import Found, MaskSource, participant_id, subjects

_CORE = (1, 3, 4)
_T1 = ("t1", "t1n", "T1", "t1w")


def find(source: Path, tumor_labels: tuple[int, ...] | None = None) -> list[Found]:
    """The patients below a folder, or the one patient whose folder it is."""
    patients = subjects(source, lambda folder: _contrast(folder, "seg") is not None)
    return [_patient(folder, tumor_labels) for folder in patients]


def _patient(folder: Path, tumor_labels: tuple[int, ...] | None) -> Found:
    path, t1w = _contrast(folder, "seg"), _contrast(folder, *_T1)
    assert path is not None
    core = tuple(label for label in _CORE if tumor_labels is None or label in tumor_labels)
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images={} if t1w is None else {"t1w": t1w},
        tumor=MaskSource(path=path, labels=tumor_labels),
        core=MaskSource(path=path, labels=core),
    )


def _contrast(folder: Path, *names: str) -> Path | None:
    found = (sorted(folder.glob(f"*{separator}{name}.nii*")) for name in names for separator in ("_", "-"))
    return next((paths[0] for paths in found if paths), None)
