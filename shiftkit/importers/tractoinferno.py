"""TractoInferno: healthy adults of several sites, bundles as streamlines (doi 10.1038/s41597-022-01833-1).

``[derivatives/]{trainset,validset,testset}/sub-*/`` holds ``anat/*T1w*.nii.gz``, ``dti/*__fa.nii.gz``,
``fodf/*``, ``mask/*__mask_{csf,gm,wm}.nii.gz``, whose union is the brain, and ``tractography/*__BUNDLE.trk``; the split
is taken from the set's name. Peaks of the data set are left out: their number and frame vary, so make them with
``shiftkit prepare``.
"""

from pathlib import Path

from .sources import TRACTOGRAMS, Found, first_in, masks_of, person, subjects

LAYOUT = "[derivatives/]trainset/sub-1001/tractography/sub-1001__AF_L.trk"
GROUP = "control"

_IMAGES = {"t1w": "anat/*T1w*.nii*", "fa": "dti/*fa.nii*", "ap": "dti/*_ap.nii*"}
_RAW = {"dwi": "dwi/*dwi.nii.gz", "bval": "dwi/*.bval", "bvec": "dwi/*.bvec"}
_TISSUES = {"csf": "mask/*_csf.nii*", "gm": "mask/*_gm.nii*", "wm": "mask/*_wm.nii*"}
_BRAIN = {"brain": ("mask/*brain*.nii*", "mask/*mask.nii*")}
_SPLITS = {"trainset": "train", "validset": "val", "testset": "test"}


def find(source: Path) -> list[Found]:
    """The subjects of the sets below a folder, in the folder itself, or the one subject whose folder it is."""
    return [_subject(folder) for folder in subjects(source.resolve(), _is_subject)]


def _is_subject(folder: Path) -> bool:
    named = folder.name.startswith("sub-") and folder.parent.name in _SPLITS and (folder / "anat").is_dir()
    return named or any(any((folder / "tractography").glob(f"*{ending}")) for ending in TRACTOGRAMS)


def _subject(folder: Path) -> Found:
    tissues = first_in(folder, _TISSUES)
    # One tissue alone is no brain.
    brain = tissues if len(tissues) == len(_TISSUES) else first_in(folder, _BRAIN)
    return Found(
        **person(folder),
        images=first_in(folder, _IMAGES),
        masks=masks_of(path for ending in TRACTOGRAMS for path in folder.glob(f"tractography/*{ending}")),
        raw=first_in(folder, _RAW),
        brain=tuple(brain.values()),
        split=_SPLITS.get(folder.parent.name, "n/a"),
    )
