"""What an importer found for one participant, before anything is read."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..bundles import bundle_named
from ..errors import DataError
from ..images import inside, read_image, whole_labels
from ..types import Bundle, Volume


@dataclass(frozen=True, kw_only=True)
class MaskSource:
    """Where a mask comes from: an image, or streamlines (``.trk``, ``.tck``, also compressed).

    ``channel`` picks one of an image with several; ``labels`` are the values of a label map that count as inside, of
    ``()`` all but 0. Without them the image is a mask.
    """

    path: Path
    channel: int | None = None
    labels: tuple[int, ...] | None = None

    @property
    def is_streamlines(self) -> bool:
        """Whether the mask has to be made from streamlines."""
        return self.path.name.endswith((".trk", ".tck", ".trk.gz"))

    def read_mask(self) -> Volume:
        """Read an image source as a mask.

        A `DataError` if it is damaged, has no such channel, or its values leave doubt what is inside; see
        `shiftkit.images.inside` and `shiftkit.images.whole_labels`.
        """
        volume = read_image(self.path)
        array = volume.array
        if self.channel is not None:
            if array.ndim != 4 or self.channel >= array.shape[3]:
                raise DataError(f"{self.path} must have a channel {self.channel}; its shape is {array.shape}.")
            array = array[..., self.channel]
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
    (``dwi``, ``bval``, ``bvec``); ``split`` is ``train``, ``val``, ``test``, or ``n/a``.
    """

    participant_id: str
    images: Mapping[str, Path] = field(default_factory=dict[str, Path])
    masks: Mapping[Bundle, MaskSource] = field(default_factory=dict[Bundle, MaskSource])
    tumor: MaskSource | None = None
    core: MaskSource | None = None
    raw: Mapping[str, Path] = field(default_factory=dict[str, Path])
    brain: Path | None = None
    split: str = "n/a"


def participant_id(name: str) -> str:
    """A BIDS participant from a folder's name: letters and digits only; `DataError` if nothing is left.

    Examples
    --------
    >>> participant_id("Case_12"), participant_id("sub-1006")
    ('sub-Case12', 'sub-1006')
    """
    label = re.sub(r"[^A-Za-z0-9]", "", re.sub(r"^sub[-_]", "", name))
    if not label:
        raise DataError(f"A participant's folder must have letters or digits in its name; got {name!r}.")
    return f"sub-{label}"


def folders(source: Path) -> list[Path]:
    """Folders inside ``source``, sorted, without hidden ones."""
    return sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))


def subjects(source: Path, is_subject: Callable[[Path], bool]) -> list[Path]:
    """The folder itself where it is a subject's, else those in it that are."""
    return [source] if is_subject(source) else [folder for folder in folders(source) if is_subject(folder)]


def image_in(folder: Path, *names: str) -> Path | None:
    """The first of ``folder/name.nii.gz`` and ``folder/name.nii`` that exists, in the order of the names."""
    for name in names:
        for ending in (".nii.gz", ".nii"):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    return None


def first_in(folder: Path, patterns: Mapping[str, str]) -> dict[str, Path]:
    """The first file, in the order of names, of each pattern; those that match none are left out."""
    found = {name: sorted(folder.glob(pattern)) for name, pattern in patterns.items()}
    return {name: paths[0] for name, paths in found.items() if paths}


def masks_of(paths: Iterable[Path]) -> dict[Bundle, MaskSource]:
    """Files that are named after the bundle they hold, after a double underscore where there is one."""
    named = {path: bundle_named(_SUFFIX.sub("", path.name).rsplit("__", 1)[-1]) for path in sorted(paths)}
    return {bundle: MaskSource(path=path) for path, bundle in named.items() if bundle is not None}


_SUFFIX = re.compile(r"\.(nii|trk|tck)(\.gz)?$")


def images_in(folder: Path, names: Mapping[str, tuple[str, ...]]) -> dict[str, Path]:
    """One image a modality, by its possible names; those that are absent are left out."""
    found = {modality: image_in(folder, *options) for modality, options in names.items()}
    return {modality: path for modality, path in found.items() if path is not None}
