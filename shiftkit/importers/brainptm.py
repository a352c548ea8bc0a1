"""BrainPTM 2021: patients before surgery, two tracts in both hemispheres (doi 10.5281/zenodo.4600679).

Unpacked, ``sheba75_data_train/case_N`` and ``sheba75_data_test/case_N`` hold ``T1.nii.gz``, ``Diffusion.nii.gz``,
``Diffusion.bvals``, ``Diffusion.bvecs`` and ``brain_mask.nii.gz``; ``sheba75_tracts_train/case_N`` the masks
``CST_left``, ``CST_right``, ``OR_left``, ``OR_right``, and ``sheba75_streamlines_train/case_N`` their streamlines. Four
training cases have no CST. Of the test cases there are dummies only, which are never read. There are no tumor masks.
"""

from pathlib import Path

from .sources import Found, first_in, image_in, images_in, masks_of, person, subjects

LAYOUT = "sheba75_data_train/case_N/T1.nii.gz beside sheba75_tracts_train/case_N/CST_left.nii.gz"
GROUP = "glioma"

_T1W = ("T1", "T1w")
_TRACTS = ("CST_left", "CST_right", "OR_left", "OR_right")
_PLACES = (".", "tracts", "annotations", "labels")


def find(source: Path) -> list[Found]:
    """The cases below a folder, or the one case whose folder it is."""
    cases = subjects(source.resolve(), lambda folder: image_in(folder, *_T1W) is not None)
    return [_case(folder) for folder in cases if image_in(folder, "Diffusion", "DWI") or _tracts(folder)]


def _case(folder: Path) -> Found:
    series, brain = image_in(folder, "Diffusion", "DWI"), image_in(folder, "brain_mask")
    test, train = (word in folder.parent.name for word in ("_test", "_train"))
    return Found(
        **person(folder),
        images=images_in(folder, {"t1w": _T1W}),
        masks=masks_of(_tracts(folder)),
        raw=({} if series is None else {"dwi": series}) | first_in(folder, {"bval": "*.bval*", "bvec": "*.bvec*"}),
        brain=() if brain is None else (brain,),
        split="test" if test else "train" if train else "n/a",
    )


def _tracts(folder: Path) -> list[Path]:
    """Masks in the case's folder or in that of the same name among the tracts; streamlines where there is no mask."""
    if "_test" in folder.parent.name:
        return []
    places = [folder / place for place in _PLACES]
    beside = [folder.parent.with_name(folder.parent.name.replace("data", kind)) for kind in ("tracts", "streamlines")]
    places += [place / folder.name for place in beside if place != folder.parent]
    found = [next(filter(None, (_tract(place, name) for place in places)), None) for name in _TRACTS]
    return [path for path in found if path is not None]


def _tract(place: Path, name: str) -> Path | None:
    streamlines = place / f"{name}.trk"
    return image_in(place, name) or (streamlines if streamlines.is_file() else None)
