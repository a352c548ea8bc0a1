"""HCP105: 72 reference tracts of 105 subjects as streamlines (doi 10.5281/zenodo.1477956).

One folder a subject, with ``tracts/NAME.trk`` (or the files in the folder itself). Headers of the older
release lack the affine; its grid is the one of the subjects' diffusion images: 145 × 174 × 145 voxels of
1.25 mm. Diffusion images and the T1w are not part of the data set; those placed beside ``tracts`` are taken.
"""

from pathlib import Path

import numpy as np

from ..bundles import bundle_from_name
from .sources import Found, MaskSource, folders, images_in, participant_id

GRID_SHAPE = (145, 174, 145)
GRID_AFFINE = np.array([[-1.25, 0, 0, 90], [0, 1.25, 0, -126], [0, 0, 1.25, -72], [0, 0, 0, 1]])
"""Grid of the diffusion images of the Human Connectome Project, RAS+ mm."""

_IMAGES = {"t1w": ("T1w_acpc_dc_restore_1.25", "T1w"), "fa": ("FA",)}


def find(source: Path) -> list[Found]:
    """The subjects below a folder, or the one subject whose folder it is."""
    own = [source] if any(source.glob("*.trk")) or any(source.glob("tracts/*.trk")) else folders(source)
    return [_subject(folder) for folder in own if any(folder.glob("*.trk")) or any(folder.glob("tracts/*.trk"))]


def _subject(folder: Path) -> Found:
    place = folder / "tracts" if (folder / "tracts").is_dir() else folder
    named = {path: bundle_from_name(path.stem) for path in sorted(place.glob("*.trk"))}
    return Found(
        participant_id=participant_id(folder.resolve().name),
        images=images_in(folder, _IMAGES),
        masks={bundle: MaskSource(path=path) for path, bundle in named.items() if bundle is not None},
    )
