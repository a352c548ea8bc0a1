"""BrainPTM 2021: patients before surgery, two tracts in both hemispheres.

One folder a case with ``T1.nii.gz``, ``Diffusion.nii.gz``, ``Diffusion.bval``, ``Diffusion.bvec``,
``brain_mask.nii.gz`` and the tracts ``CST_left``, ``CST_right``, ``OR_left``, ``OR_right``. Four of the training
cases have no CST; test cases have no tracts at all. There are no tumor masks.
"""

from pathlib import Path

from ..bundles import bundle_from_name
from ..types import Bundle
from .sources import Found, MaskSource, folders, image_in, participant_id

_TRACTS = ("CST_left", "CST_right", "OR_left", "OR_right")
_PLACES = (".", "tracts", "annotations", "labels")


def find(source: Path) -> list[Found]:
    """The cases below a folder, or the one case whose folder it is."""
    places = [source, *folders(source), *(inner for outer in folders(source) for inner in folders(outer))]
    return [_case(folder) for folder in places if image_in(folder, "T1", "T1w") is not None]


def _case(folder: Path) -> Found:
    t1w = image_in(folder, "T1", "T1w")
    raw = {
        "dwi": image_in(folder, "Diffusion", "DWI"),
        "bval": _first(folder, "*.bval*"),
        "bvec": _first(folder, "*.bvec*"),
    }
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images={"t1w": t1w} if t1w is not None else {},
        masks=_masks(folder),
        raw={name: path for name, path in raw.items() if path is not None},
        brain=image_in(folder, "brain_mask"),
    )


def _masks(folder: Path) -> dict[Bundle, MaskSource]:
    masks: dict[Bundle, MaskSource] = {}
    for name in _TRACTS:
        path, bundle = image_in(folder, *(f"{place}/{name}" for place in _PLACES)), bundle_from_name(name)
        if path is not None and bundle is not None:
            masks[bundle] = MaskSource(path=path)
    return masks


def _first(folder: Path, pattern: str) -> Path | None:
    return next(iter(sorted(folder.glob(pattern))), None)
