"""BrainPTM 2021: patients before surgery, two tracts in both hemispheres.

One folder a case with ``T1.nii.gz``, ``Diffusion.nii.gz``, ``Diffusion.bval``, ``Diffusion.bvec``,
``brain_mask.nii.gz`` and the tracts ``CST_left``, ``CST_right``, ``OR_left``, ``OR_right``. Four of the training
cases have no CST; test cases have no tracts at all. There are no tumor masks.
"""

from pathlib import Path

from .sources import Found, first_in, folders, image_in, images_in, masks_of, participant_id

_T1W = ("T1", "T1w")
_TRACTS = ("CST_left", "CST_right", "OR_left", "OR_right")
_PLACES = (".", "tracts", "annotations", "labels")


def find(source: Path) -> list[Found]:
    """The cases below a folder, or the one case whose folder it is."""
    places = [source, *folders(source), *(inner for outer in folders(source) for inner in folders(outer))]
    return [_case(folder) for folder in places if image_in(folder, *_T1W) is not None]


def _case(folder: Path) -> Found:
    series = image_in(folder, "Diffusion", "DWI")
    tracts = [image_in(folder, *(f"{place}/{name}" for place in _PLACES)) for name in _TRACTS]
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images=images_in(folder, {"t1w": _T1W}),
        masks=masks_of(path for path in tracts if path is not None),
        raw=({} if series is None else {"dwi": series}) | first_in(folder, {"bval": "*.bval*", "bvec": "*.bvec*"}),
        brain=image_in(folder, "brain_mask"),
    )
