"""TractoInferno: healthy adults of several sites, bundles as streamlines (doi 10.1038/s41597-022-01833-1).

``[derivatives/]{trainset,validset,testset}/sub-*/`` holds ``anat/*T1w*.nii.gz``, ``dti/*__fa.nii.gz``,
``fodf/*`` and ``tractography/*__BUNDLE.trk``; the split is taken from the set's name. Peaks of the data
set are left out: their number and frame vary, so make them with ``shiftkit prepare``.
"""

from pathlib import Path

from .sources import Found, first_in, folders, masks_of, participant_id

_IMAGES = {"t1w": "anat/*T1w*.nii*", "fa": "dti/*fa.nii*", "ap": "dti/*_ap.nii*"}
_RAW = {"dwi": "dwi/*dwi.nii.gz", "bval": "dwi/*.bval", "bvec": "dwi/*.bvec"}
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
    return Found(
        participant_id=participant_id(folder.name),
        images=first_in(folder, _IMAGES),
        masks=masks_of(path for ending in ("trk", "tck") for path in folder.glob(f"tractography/*.{ending}")),
        raw=first_in(folder, _RAW),
        brain=first_in(folder, {"brain": "mask/*.nii*"}).get("brain"),
        split=split,
    )
