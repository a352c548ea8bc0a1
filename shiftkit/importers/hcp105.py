"""HCP105: 72 reference tracts of 105 subjects as streamlines (doi 10.5281/zenodo.1477956).

One folder a subject, with ``tracts/NAME.trk`` (or the files in the folder itself). Headers of the older
release lack the affine; its grid is the one of the subjects' diffusion images: 145 × 174 × 145 voxels of
1.25 mm. Diffusion images and the T1w are not part of the data set; those placed beside ``tracts`` are taken.
"""

from pathlib import Path

import numpy as np

from .sources import Found, images_in, masks_of, participant_id, subjects

GRID_SHAPE = (145, 174, 145)
GRID_AFFINE = np.array([[-1.25, 0, 0, 90], [0, 1.25, 0, -126], [0, 0, 1.25, -72], [0, 0, 0, 1]])
"""Grid of the diffusion images of the Human Connectome Project, RAS+ mm."""

_IMAGES = {"t1w": ("T1w_acpc_dc_restore_1.25", "T1w"), "fa": ("FA",)}


def find(source: Path) -> list[Found]:
    """The subjects below a folder, or the one subject whose folder it is."""
    places = ("*.trk", "tracts/*.trk")
    return [_subject(one) for one in subjects(source, lambda folder: any(any(folder.glob(p)) for p in places))]


def _subject(folder: Path) -> Found:
    place = folder / "tracts" if (folder / "tracts").is_dir() else folder
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images=images_in(folder, _IMAGES),
        masks=masks_of(place.glob("*.trk")),
    )
