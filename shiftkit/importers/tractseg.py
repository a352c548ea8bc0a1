"""TractSeg output: one subject's folder, or a folder of them.

Masks lie in ``bundle_segmentations/NAME.nii.gz`` or in one ``bundle_segmentations.nii.gz`` whose channels
follow TractSeg's order; both also below ``tractseg_output/``. Peaks are those of MRtrix, in world axes. Sessions are
folders ``ses-*``.
"""

from pathlib import Path

from ..types import Bundle
from .sources import Found, MaskSource, image_in, images_in, masks_of, person, stacked_masks, subjects

LAYOUT = "SUBJECT/[ses-X/][tractseg_output/]bundle_segmentations/AF_left.nii.gz, or one bundle_segmentations.nii.gz"
GROUP = "control"

_IMAGES = {
    "peaks": ("peaks", "tractseg_output/peaks"),
    "fa": ("FA", "fa"),
    "t1w": ("T1w_acpc_dc_restore_brain", "T1w", "T1"),
}
_MASKS = ("bundle_segmentations", "tractseg_output/bundle_segmentations")


def find(source: Path) -> list[Found]:
    """The subjects in a folder of TractSeg output, or the one subject whose folder it is."""
    return [_subject(folder) for folder in subjects(source.resolve(), _is_subject)]


def _is_subject(folder: Path) -> bool:
    return image_in(folder, *_IMAGES["peaks"], *_MASKS) is not None or any((folder / name).is_dir() for name in _MASKS)


def _subject(folder: Path) -> Found:
    brain = image_in(folder, "nodif_brain_mask", "tractseg_output/nodif_brain_mask")
    return Found(
        **person(folder),
        images=images_in(folder, _IMAGES),
        masks=_masks(folder),
        brain=() if brain is None else (brain,),
    )


def _masks(folder: Path) -> dict[Bundle, MaskSource]:
    for name in _MASKS:
        if (folder / name).is_dir():
            return masks_of((folder / name).glob("*.nii*"))
    stacked = image_in(folder, *_MASKS)
    return {} if stacked is None else stacked_masks(stacked)
