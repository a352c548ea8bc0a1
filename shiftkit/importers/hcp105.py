"""HCP105: 72 reference tracts of 105 subjects as streamlines (doi 10.5281/zenodo.1477956).

One folder a subject, with ``tracts/NAME.trk`` (or the files in the folder itself). Headers of the older
release lack the affine; its grid is the one of the subjects' diffusion images: 145 × 174 × 145 voxels of
1.25 mm. Diffusion images and the T1w are not part of the data set; those placed beside ``tracts`` are taken.

TractSeg's training data of the same subjects, as in ``HCP_for_training_COPY/599469``, hold ``bundle_masks_72.nii.gz``
(or ``bundle_masks.nii.gz``, whose first volume is the background) and ``mrtrix_peaks.nii.gz`` or
``270g_125mm_peaks.nii.gz``.
"""

from pathlib import Path

import numpy as np

from .sources import Found, image_in, images_in, masks_of, person, stacked_masks, subjects

LAYOUT = "599469/tracts/AF_left.trk, or 599469/bundle_masks_72.nii.gz and mrtrix_peaks.nii.gz"
GROUP = "control"

GRID_SHAPE = (145, 174, 145)
GRID_AFFINE = np.array([[-1.25, 0, 0, 90], [0, 1.25, 0, -126], [0, 0, 1.25, -72], [0, 0, 0, 1]])
"""Grid of the diffusion images of the Human Connectome Project, RAS+ mm."""

_IMAGES = {
    "peaks": ("mrtrix_peaks", "270g_125mm_peaks", "90g_125mm_peaks", "12g_125mm_peaks"),
    "fa": ("FA", "270g_125mm_FA"),
    "t1w": ("T1w_acpc_dc_restore_1.25", "T1w"),
}
_STACKED = ("bundle_masks_72", "bundle_masks")


def find(source: Path) -> list[Found]:
    """The subjects below a folder, or the one subject whose folder it is."""
    return [_subject(one) for one in subjects(source.resolve(), _is_subject)]


def _is_subject(folder: Path) -> bool:
    return (
        any(any(folder.glob(place)) for place in ("*.trk", "tracts/*.trk")) or image_in(folder, *_STACKED) is not None
    )


def _subject(folder: Path) -> Found:
    place = folder / "tracts" if (folder / "tracts").is_dir() else folder
    stacked = image_in(folder, *_STACKED)
    return Found(
        **person(folder),
        images=images_in(folder, _IMAGES),
        masks=masks_of(place.glob("*.trk")) or ({} if stacked is None else stacked_masks(stacked)),
    )
