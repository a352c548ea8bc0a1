"""What a page holds for the 3D viewer: its cases, their volumes, and the script that shows them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from .contents import CasePicture
from .naming import spoken, volumes_name
from .niivue import Niivue
from .rendering import Rendered
from .tables import sentence
from .views import numbers_of
from .volumes import Packed

_ORDER = ("tumor", "reference", "prediction", "after")


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """The viewer's part of one page.

    ``cases`` is JSON: what the viewer says about each case and where its volumes are. Volumes (by name) and the script
    (niivue, gzipped, in base64) are embedded, and empty where they lie in ``folder``, seen from the page; ``layers``
    are the masks that at least one case has.
    """

    cases: Markup
    volumes: tuple[tuple[str, Markup], ...]
    script: str
    folder: str
    layers: tuple[str, ...]


def viewer_of(
    cases: Sequence[CasePicture],
    rendered: Mapping[str, tuple[str, Rendered]],
    niivue: Niivue,
    *,
    detail: bool,
    folder: str,
    static: Callable[[CasePicture], str],
) -> Viewer | None:
    """Put together what a page needs to show some cases, in the order given; None where none can be shown.

    ``rendered`` holds, by `CasePicture.key`, the name of the volumes and what was made of the image; ``detail`` takes
    the finer volumes of a participant's page; ``static`` tells where a case's picture stands; ``folder`` as in
    `Viewer`.
    """
    told: dict[str, Any] = {}
    packs: dict[str, tuple[Packed, list[str]]] = {}
    for case in cases:
        key = case.key
        name, made = rendered[key]
        packed = made.detail if detail else made.overview
        if packed is None or key not in packed.overlays:
            continue
        packs.setdefault(name, (packed, []))[1].append(key)
        told[key] = {
            "volume": name,
            "participant": case.participant_id,
            "bundle": case.bundle.name,
            "hemisphere": case.bundle.hemisphere,
            "model": case.model,
            "spoken": spoken(case.bundle),
            "numbers": numbers_of(case).partition(": ")[2],
            "status": sentence(case.status),
            "center": made.drawn[key].center_mm,
            "layers": [name for name in _ORDER if name in case.files],
            "static": static(case),
        }
    if not told:
        return None
    return Viewer(
        cases=_json(told),
        volumes=tuple((name, _volumes(*pack)) for name, pack in packs.items() if not folder),
        script="" if folder else niivue.base64,
        folder=folder,
        layers=tuple(name for name in _ORDER if any(name in one["layers"] for one in told.values())),
    )


def side_files(images: Sequence[Rendered], niivue: Niivue) -> dict[str, str]:
    """The viewer's files beside the pages: scripts, since a page opened from disk may read nothing else."""
    files = {"niivue.js": niivue.source}
    for place, made in enumerate(images):
        if made.overview is not None:
            name, content = volumes_name(place), _volumes(made.overview, list(made.overview.overlays))
            into = f"(window.shiftkitVolumes = window.shiftkitVolumes || {{}})[{_json(name)}]"
            files[f"{name}.js"] = f"{into} = {content};\n"
    return files


def _volumes(packed: Packed, keys: Sequence[str]) -> Markup:
    return _json({"image": packed.image, "overlays": {key: packed.overlays[key] for key in keys}})


def _json(content: Any) -> Markup:
    # "<" could end the script element that holds the text.
    return Markup(json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
