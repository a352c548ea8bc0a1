"""Folders of streamlines whoever made them: one folder a case, one file a bundle (``.trk``, ``.tck``, ``.trx``).

``CASE/AF_left.tck``, or below ``tracts``, ``tractography`` or TractSeg's ``[tractseg_output/]TOM_trackings``; pyAFQ's
own layout too, and its one file with a group a bundle.
"""

from pathlib import Path

from . import pyafq
from .sources import TRACTOGRAMS, Found, masks_of, person, subjects

_PLACES = (".", "tracts", "tractography", "TOM_trackings", "tractseg_output/TOM_trackings")


def find(source: Path) -> list[Found]:
    """Cases below a folder, with the bundles that there are streamlines of; the folder itself may be a case's."""
    return pyafq.find(source) or [
        Found(**person(folder), masks=masks_of(_files(folder)))
        for folder in subjects(source.resolve(), lambda folder: bool(masks_of(_files(folder))))
    ]


def _files(folder: Path) -> list[Path]:
    places = (folder / place for place in _PLACES)
    found = (sorted(path for ending in TRACTOGRAMS for path in place.glob(f"*{ending}")) for place in places)
    return next(filter(None, found), [])
