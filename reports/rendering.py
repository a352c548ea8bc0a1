"""Everything that is made from images for a report, one image at a time, so that each is read once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .cases import CaseImages
from .contents import CasePicture, Convention
from .planes import window
from .volumes import DETAIL_MM, OVERVIEW_MM, Packed, pack


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

    Volumes are an overview for pages of many participants and a detail for the participant's own; None where nothing
    could be read, or nobody will look at them.
    """

    drawn: dict[str, Drawn] = field(default_factory=dict[str, Drawn])
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
    if not volumes or not read:
        return Rendered(drawn=drawn)
    # One grid holds every case of the image, so that stepping through them moves nothing.
    boxes = np.stack([images.box() for images in read.values()])
    box = np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])
    image = next(iter(read.values())).image
    layers = {key: images.layers for key, images in read.items()}
    shades = window(image)
    overview = pack(image, layers, box, shades, OVERVIEW_MM)
    finer = min(image.spacing_mm) < OVERVIEW_MM
    detail = pack(image, layers, box, shades, DETAIL_MM) if finer else overview
    return Rendered(drawn=drawn, overview=overview, detail=detail)


def _without_places(message: str, case: CasePicture) -> str:
    """A message that names files without where they are: reports are shared."""
    for path in case.files.values():
        message = message.replace(str(path), path.name)
    return message
