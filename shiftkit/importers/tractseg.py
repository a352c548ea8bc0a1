"""TractSeg output: one subject's folder, or a folder of them.

Masks lie in ``bundle_segmentations/NAME.nii.gz`` or in one ``bundle_segmentations.nii.gz`` whose channels
follow TractSeg's order; both also below ``tractseg_output/``. Peaks are those of MRtrix, in world axes.
"""

from pathlib import Path

from ..bundles import TRACTSEG_ORDER, bundle_named
from ..types import Bundle
from .sources import Found, MaskSource, image_in, images_in, masks_of, participant_id, subjects

_IMAGES = {
    "peaks": ("peaks", "tractseg_output/peaks"),
    "fa": ("FA", "fa"),
    "t1w": ("T1w_acpc_dc_restore_brain", "T1w", "T1"),
}
_MASKS = ("bundle_segmentations", "tractseg_output/bundle_segmentations")


def find(source: Path) -> list[Found]:
    """The subjects in a folder of TractSeg output, or the one subject whose folder it is."""
    return [_subject(folder) for folder in subjects(source, _is_subject)]


def _is_subject(folder: Path) -> bool:
    return image_in(folder, *_IMAGES["peaks"], *_MASKS) is not None or any((folder / name).is_dir() for name in _MASKS)


def _subject(folder: Path) -> Found:
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images=images_in(folder, _IMAGES),
        masks=_masks(folder),
        brain=image_in(folder, "nodif_brain_mask", "tractseg_output/nodif_brain_mask"),
    )


def _masks(folder: Path) -> dict[Bundle, MaskSource]:
    for name in _MASKS:
        if (folder / name).is_dir():
            return masks_of((folder / name).glob("*.nii*"))
    stacked = image_in(folder, *_MASKS)
    if stacked is None:
        return {}
    named = enumerate(bundle_named(name) for name in TRACTSEG_ORDER)
    return {bundle: MaskSource(path=stacked, channel=i) for i, bundle in named if bundle is not None}
