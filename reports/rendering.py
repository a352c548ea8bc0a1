"""Everything that is made from images for a report, one image at a time, so that each is read once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..images import read_image, read_mask
from ..types import Volume
from .contents import CasePicture, Convention
from .naming import spoken
from .planes import center_of, one_channel, three_planes, window, worth_showing
from .surfaces import Scene, scene_of
from .volumes import DETAIL_MM, OVERVIEW_MM, Packed, pack


@dataclass(frozen=True, kw_only=True)
class CaseImages:
    """What a case's files hold, read once; the image with one channel and no NaN."""

    image: Volume
    reference: Volume
    prediction: Volume
    after: Volume | None = None
    tumor: Volume | None = None

    @classmethod
    def read(cls, case: CasePicture) -> "CaseImages":
        """Read a case's files; `DataError` if one cannot be read."""
        return cls(
            image=_scalar(case.image),
            reference=read_mask(case.reference),
            prediction=read_mask(case.prediction),
            after=read_mask(case.after) if case.after is not None else None,
            tumor=_tumor(case.tumor) if case.tumor is not None else None,
        )

    @property
    def layers(self) -> dict[str, Volume]:
        """The masks that are there, by name."""
        found = {name: getattr(self, name) for name in ("reference", "prediction", "after", "tumor")}
        return {name: mask for name, mask in found.items() if mask is not None}

    def box(self) -> NDArray[np.float64]:
        """The part of the world worth showing, shape (2, 3), mm; see `shiftkit.reports.planes.worth_showing`."""
        return worth_showing(self.image, list(self.layers.values()))

    def center(self) -> NDArray[np.float64]:
        """Where the slices are cut, mm."""
        return center_of(self.reference, self.prediction, self.tumor, self.box())

    def draw(self, convention: Convention, *, after: bool = False) -> str:
        """Draw the three planes; with ``after``, the prediction is the one after fine-tuning."""
        prediction = self.after if after and self.after is not None else self.prediction
        return three_planes(self.image, self.reference, prediction, self.tumor, convention=convention)


# The cases of one participant share image and tumor and follow each other; two are kept for tables sorted otherwise.
@lru_cache(maxsize=2)
def _scalar(path: Path) -> Volume:
    return one_channel(read_image(path))


@lru_cache(maxsize=2)
def _tumor(path: Path) -> Volume:
    return read_mask(path)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A case's three planes before and after fine-tuning, or why there are none.

    At ``center_mm`` the slices are cut, and there the viewer starts.
    """

    svg: str | None = None
    after: str | None = None
    problem: str = ""
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What was made from one image and the masks of its cases, by `CasePicture.key`.

    The scene holds the surfaces of all bundles. Volumes are an overview for pages of many participants and a detail for
    the participant's own. None where nothing could be read, or nobody will look at it.
    """

    drawn: dict[str, Drawn] = field(default_factory=dict[str, Drawn])
    scene: Scene | None = None
    overview: Packed | None = None
    detail: Packed | None = None


def by_image(cases: Sequence[CasePicture]) -> dict[Path, list[CasePicture]]:
    """Cases that share an image, in order of first use."""
    groups: dict[Path, list[CasePicture]] = {}
    for case in cases:
        groups.setdefault(case.image, []).append(case)
    return groups


def render(cases: Sequence[CasePicture], convention: Convention, *, volumes: bool) -> Rendered:
    """Make pictures, and volumes for the viewer where they are wanted, of cases that share one image.

    A damaged file costs its own case: `Drawn.problem` says what is wrong with it.
    """
    drawn: dict[str, Drawn] = {}
    read: dict[str, CaseImages] = {}
    for case in cases:
        try:
            images = CaseImages.read(case)
            x, y, z = images.center().round(1).tolist()
            drawn[case.key] = Drawn(
                svg=images.draw(convention),
                after=images.draw(convention, after=True) if images.after is not None else None,
                center_mm=(x, y, z),
            )
            read[case.key] = images
        except (ValueError, OSError) as error:
            drawn[case.key] = Drawn(problem=_without_places(str(error), case))
    if not read:
        return Rendered(drawn=drawn)
    bundles = {case.key: spoken(case.bundle) for case in cases}
    scene = scene_of(next(iter(read.values())).image, {bundles[key]: images.layers for key, images in read.items()})
    if not volumes:
        return Rendered(drawn=drawn, scene=scene)
    # One grid holds every case of the image, so that stepping through them moves nothing.
    boxes = np.stack([images.box() for images in read.values()])
    box = np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])
    image = next(iter(read.values())).image
    layers = {key: images.layers for key, images in read.items()}
    shades = window(image)
    overview = pack(image, layers, box, shades, OVERVIEW_MM)
    finer = min(image.spacing_mm) < OVERVIEW_MM
    detail = pack(image, layers, box, shades, DETAIL_MM) if finer else overview
    return Rendered(drawn=drawn, scene=scene, overview=overview, detail=detail)


def _without_places(message: str, case: CasePicture) -> str:
    """A message that names files without where they are: reports are shared."""
    for path in case.files.values():
        message = message.replace(str(path), path.name)
    return message
