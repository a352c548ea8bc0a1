"""BraTS-style folders: one folder a patient, ``*_seg.nii.gz`` and four contrasts (doi 10.1109/TMI.2014.2377694).

Label maps code necrosis and non-enhancing core 1, edema 2, enhancing tumor 4 (3 in newer releases). Which of
them make up the tumor is an option; all do by default. The core is everything but edema.
"""

from pathlib import Path

from .sources import Found, MaskSource, folders, participant_id

_CORE = (1, 3, 4)
_T1 = ("t1", "t1n", "T1", "t1w")


def find(source: Path, tumor_labels: tuple[int, ...] | None = None) -> list[Found]:
    """The patients below a folder, or the one patient whose folder it is."""
    own = [source] if _segmentation(source) is not None else folders(source)
    return [_patient(folder, tumor_labels) for folder in own if _segmentation(folder) is not None]


def _patient(folder: Path, tumor_labels: tuple[int, ...] | None) -> Found:
    path = _segmentation(folder)
    t1w = _contrast(folder, *_T1)
    core = tuple(label for label in _CORE if tumor_labels is None or label in tumor_labels)
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images={"t1w": t1w} if t1w is not None else {},
        tumor=MaskSource(path=path, labels=tumor_labels) if path is not None else None,
        core=MaskSource(path=path, labels=core) if path is not None else None,
    )


def _segmentation(folder: Path) -> Path | None:
    return _contrast(folder, "seg")


def _contrast(folder: Path, *names: str) -> Path | None:
    for name in names:
        for separator in ("_", "-"):
            found = sorted(folder.glob(f"*{separator}{name}.nii*"))
            if found:
                return found[0]
    return None
