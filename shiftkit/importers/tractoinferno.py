"""TractoInferno: healthy adults of several sites, bundles as streamlines (doi 10.1038/s41597-022-01833-1).

``[derivatives/]{trainset,validset,testset}/sub-*/`` holds ``anat/*T1w*.nii.gz``, ``dti/*__fa.nii.gz``,
``fodf/*`` and ``tractography/*__BUNDLE.trk``; the split is taken from the set's name. Peaks of the data
set are left out: their number and frame vary, so make them with ``shiftkit prepare``.
"""

from pathlib import Path

from ..bundles import bundle_from_name
from ..types import Bundle
from .sources import Found, MaskSource, folders, participant_id

_SPLITS = {"trainset": "train", "validset": "val", "testset": "test"}


def find(source: Path) -> list[Found]:
    """The subjects of the sets below a folder, or in the folder itself."""
    base = source / "derivatives" if (source / "derivatives").is_dir() else source
    sets = [base / name for name in _SPLITS if (base / name).is_dir()] or [base]
    return [
        _subject(folder, _SPLITS.get(one.name, "n/a"))
        for one in sets
        for folder in folders(one)
        if (folder / "tractography").is_dir() or (folder.name.startswith("sub-") and (folder / "anat").is_dir())
    ]


def _subject(folder: Path, split: str) -> Found:
    wanted = {"t1w": ("anat", "*T1w*.nii*"), "fa": ("dti", "*fa.nii*"), "ap": ("dti", "*_ap.nii*")}
    found = {modality: sorted((folder / place).glob(pattern)) for modality, (place, pattern) in wanted.items()}
    dwi = {name: sorted((folder / "dwi").glob(f"*{ending}")) for name, ending in _RAW.items()}
    return Found(
        participant_id=participant_id(folder.name),
        images={modality: paths[0] for modality, paths in found.items() if paths},
        masks=_masks(folder / "tractography"),
        raw={name: paths[0] for name, paths in dwi.items() if paths},
        brain=next(iter(sorted((folder / "mask").glob("*.nii*"))), None),
        split=split,
    )


_RAW = {"dwi": "dwi.nii.gz", "bval": ".bval", "bvec": ".bvec"}


def _masks(folder: Path) -> dict[Bundle, MaskSource]:
    masks: dict[Bundle, MaskSource] = {}
    for path in sorted((*folder.glob("*.trk"), *folder.glob("*.tck"))):
        bundle = bundle_from_name(path.stem.rsplit("__", 1)[-1])
        if bundle is not None:
            masks[bundle] = MaskSource(path=path)
    return masks
