"""pyAFQ output: bundles as streamlines, by participant and session (doi 10.52294/e6198273-b8e3-4b63-babb-6e6b0da10669).

Below ``sub-*/[ses-*/][dwi/]`` lie ``bundles/*_desc-LeftArcuate_tractography.trx`` (``.trk``), in older releases
``clean_bundles/*_desc-prob-afq-ARC_L_tractography.trk``, or all in one ``*_desc-bundles_tractography.trx`` with a group
a bundle; and the FA map. T1w images are left out: they lie on another grid.
"""

import re
from pathlib import Path

from ..bundles import bundle_named
from ..types import Bundle
from .sources import TRACTOGRAMS, Found, MaskSource, first_in, person, subjects
from .streamlines import read_groups

LAYOUT = "sub-01/[ses-X/]bundles/*_desc-LeftArcuate_tractography.trx, clean_bundles/*-ARC_L_tractography.trk"
GROUP = "control"

_PLACES = ("bundles", "clean_bundles")
_NAME = re.compile(r"_desc-(?:(?:prob|det|clean|recog|reco\d*|afq)-)*([A-Za-z0-9_]+)_tractography\.")
_TOGETHER = "*_desc-bundles_tractography.trx"
_MAPS = ("*param-fa_dwimap.nii*", "*_param-FA_dwimap.nii*", "*_model-DKI_FA.nii*", "*_model-DTI_FA.nii*", "*_FA.nii*")
_BRAIN = ("*_desc-brain_mask.nii*", "*_brain_mask.nii*")


def find(source: Path) -> list[Found]:
    """The participants, or sessions, below a folder, or the one whose folder it is."""
    return [_subject(folder) for folder in subjects(source.resolve(), _is_subject)]


def _is_subject(folder: Path) -> bool:
    return bool(_single(folder)) or any(folder.glob(_TOGETHER))


def _single(folder: Path) -> list[Path]:
    """Files of one bundle each; cleaned streamlines, where an older release wrote both, come last."""
    return [
        path
        for place in _PLACES
        for path in sorted((folder / place).glob("*_tractography.*"))
        if path.name.endswith(TRACTOGRAMS)
    ]


def _subject(folder: Path) -> Found:
    places = ("", "models/")
    patterns = {
        name: tuple(f"{place}{one}" for place in places for one in several)
        for name, several in {"fa": _MAPS, "brain": _BRAIN}.items()
    }
    found = first_in(folder, patterns)
    return Found(
        **person(folder),
        images={"fa": found["fa"]} if "fa" in found else {},
        masks=_masks(folder),
        brain=(found["brain"],) if "brain" in found else (),
    )


def _masks(folder: Path) -> dict[Bundle, MaskSource]:
    named = {path: _NAME.search(path.name) for path in _single(folder)}
    masks = {bundle_named(name[1]): MaskSource(path=path) for path, name in named.items() if name is not None}
    if not masks:
        together = sorted(folder.glob(_TOGETHER))[0]
        masks = {bundle_named(name): MaskSource(path=together, group=name) for name in read_groups(together)}
    return {bundle: mask for bundle, mask in masks.items() if bundle is not None}
