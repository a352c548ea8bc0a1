"""What an importer found for one participant, before anything is read."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypedDict

import numpy as np

from ..bundles import TRACTSEG_ORDER, bundle_named
from ..errors import DataError
from ..images import inside, read_image, whole_labels
from ..types import Bundle, Volume


@lru_cache(maxsize=1)
def read_stack(path: Path) -> Volume:
    """Read an image with a volume a bundle, which all its masks are taken from, once."""
    return read_image(path)


@dataclass(frozen=True, kw_only=True)
class MaskSource:
    """Where a mask comes from: an image, or streamlines (``.trk``, ``.tck``, ``.trx``).

    ``channel`` is that of an image with one for each bundle of ``TRACTSEG_ORDER``; ``labels`` are the values of a label
    map that count as inside, of ``()`` all but 0. Without them the image is a mask. ``group`` is that of the
    streamlines in a ``.trx`` of several.
    """

    path: Path
    channel: int | None = None
    labels: tuple[int, ...] | None = None
    group: str | None = None

    @property
    def is_streamlines(self) -> bool:
        """Whether the mask has to be made from streamlines."""
        return self.path.name.endswith(TRACTOGRAMS)

    def read_mask(self) -> Volume:
        """Read an image source as a mask.

        A `DataError` if it is damaged, has no such channel, or its values leave doubt what is inside; see
        `shiftkit.images.inside` and `shiftkit.images.whole_labels`.
        """
        volume = read_image(self.path) if self.channel is None else read_stack(self.path)
        array = volume.array
        if self.channel is not None:
            n, wanted = (array.shape[3] if array.ndim == 4 else 1), len(TRACTSEG_ORDER)
            if n not in (wanted, wanted + 1):
                raise DataError(
                    f"{self.path} must have a volume for each of TractSeg's {wanted} bundles; it has {n}, and which is "
                    "which cannot be told. Write one file a bundle (TractSeg --output_multiple_files)."
                )
            array = array[..., self.channel + n - wanted]  # a first one more is the background
        if array.ndim != 3:
            raise DataError(f"{self.path} must be a mask with three axes; its shape is {array.shape}.")
        if self.labels is None:
            return volume.with_array(inside(array, self.path))
        labels = whole_labels(array, self.path)
        return volume.with_array(np.isin(labels, self.labels) if self.labels else labels != 0)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One participant of a public data set, with what the data set has of it.

    Images are all on one grid, which masks are made on; ``raw`` holds the diffusion data to take along for `prepare`
    (``dwi``, ``bval``, ``bvec``); the brain is all that any mask of ``brain`` marks; ``split`` is ``train``, ``val``,
    ``test``, or ``n/a``; ``stripped`` says whether the skull is gone in T1w image and series.
    """

    participant_id: str
    session: str | None = None
    images: Mapping[str, Path] = field(default_factory=dict[str, Path])
    masks: Mapping[Bundle, MaskSource] = field(default_factory=dict[Bundle, MaskSource])
    tumor: MaskSource | None = None
    core: MaskSource | None = None
    raw: Mapping[str, Path] = field(default_factory=dict[str, Path])
    brain: tuple[Path, ...] = ()
    split: str = "n/a"
    stripped: bool = True

    @property
    def key(self) -> str:
        """Participant and session, as names of files begin."""
        return self.participant_id if self.session is None else f"{self.participant_id}_{self.session}"


def participant_id(name: str) -> str:
    """A BIDS participant from a folder's name: letters and digits only; `DataError` if nothing is left.

    Examples
    --------
    >>> participant_id("Case_12"), participant_id("sub-1006"), participant_id("sub7"), participant_id("subject7")
    ('sub-Case12', 'sub-1006', 'sub-7', 'sub-subject7')
    """
    label = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^sub([-_]|(?=\d))", "", name))
    if not label:
        raise DataError(f"A participant's folder must have letters or digits in its name; got {name!r}.")
    return f"sub-{label}"


class Person(TypedDict):
    """Whose files they are: fields of `Found`."""

    participant_id: str
    session: str | None


def person(folder: Path) -> Person:
    """Whose folder it is, and of which session: by its name, or those above it where it is a part of theirs.

    Examples
    --------
    >>> person(Path("afq/sub-01/ses-pre/dwi"))
    {'participant_id': 'sub-01', 'session': 'ses-pre'}
    >>> person(Path("HCP105/599469"))
    {'participant_id': 'sub-599469', 'session': None}
    """
    place, session = folder.absolute(), None
    while place.name in _PARTS or (place.name.startswith("ses-") and session is None):
        if place.name.startswith("ses-"):
            session = f"ses-{re.sub('[^A-Za-z0-9]', '', place.name[4:])}"
        place = place.parent
    return {"participant_id": participant_id(place.name), "session": session}


# Folders that hold a part of what there is of somebody.
_PARTS = ("dwi", "anat", "tractseg_output", "TOM_trackings", "tracts", "tractography", "bundles", "clean_bundles")


def folders(source: Path) -> list[Path]:
    """Folders inside ``source``, sorted, without hidden ones."""
    return sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))


def subjects(source: Path, is_subject: Callable[[Path], bool]) -> list[Path]:
    """The folder itself where it is a subject's, else those below it that are; not those inside of another."""

    def search(folder: Path, deeper: int) -> list[Path]:
        if is_subject(folder):
            return [folder]
        return [one for inner in folders(folder) for one in search(inner, deeper - 1)] if deeper else []

    return search(source, _DEEPEST)


# Of a subject below the folder that is named: release, set, grade, participant and session have been seen.
_DEEPEST = 5


def image_in(folder: Path, *names: str) -> Path | None:
    """The first of ``folder/name.nii.gz`` and ``folder/name.nii`` that exists, in the order of the names."""
    for name in names:
        for ending in (".nii.gz", ".nii"):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    return None


def first_in(folder: Path, patterns: Mapping[str, str | tuple[str, ...]]) -> dict[str, Path]:
    """The first file of the first pattern that matches any; those that match none are left out."""
    several = {name: (given,) if isinstance(given, str) else given for name, given in patterns.items()}
    found = {name: [path for one in given for path in sorted(folder.glob(one))] for name, given in several.items()}
    return {name: paths[0] for name, paths in found.items() if paths}


def masks_of(paths: Iterable[Path]) -> dict[Bundle, MaskSource]:
    """Files that are named after the bundle they hold, after a double underscore where there is one."""
    named = {path: bundle_named(_SUFFIX.sub("", path.name).rsplit("__", 1)[-1]) for path in sorted(paths)}
    return {bundle: MaskSource(path=path) for path, bundle in named.items() if bundle is not None}


def stacked_masks(path: Path) -> dict[Bundle, MaskSource]:
    """Masks in one file with a volume a bundle, in TractSeg's order; a first one more is the background."""
    named = enumerate(bundle_named(name) for name in TRACTSEG_ORDER)
    return {bundle: MaskSource(path=path, channel=i) for i, bundle in named if bundle is not None}


TRACTOGRAMS = (".trk", ".tck", ".trx", ".trk.gz")
_SUFFIX = re.compile(r"\.(nii|trk|tck|trx)(\.gz)?$")


def images_in(folder: Path, names: Mapping[str, tuple[str, ...]]) -> dict[str, Path]:
    """One image a modality, by its possible names; those that are absent are left out."""
    found = {modality: image_in(folder, *options) for modality, options in names.items()}
    return {modality: path for modality, path in found.items() if path is not None}
