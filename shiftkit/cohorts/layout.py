"""Which file is what: names with BIDS entities, and the choice among several that could serve."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..files import read_json as parse_json

_NAME = re.compile(r"(sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9+]+)*)_([A-Za-z0-9]+)\.nii(?:\.gz)?")
# Long names of entities, as filter files of other tools use them.
_LONG = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "reconstruction": "rec",
    "resolution": "res",
    "description": "desc",
    "direction": "dir",
}

_TUMOR_LABELS = ("tumor", "lesion")
_KNOWN_MAPS = ("ap", "fa", "peaks")
_HEMISPHERES = {"L": "left", "R": "right"}

Filters = Mapping[str, Mapping[str, Sequence[str] | None]]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that could fill a slot, with all entities of its name, ``suffix`` among them.

    Slots are ``("image", "fa")``, ``("mask", "AFleft")``, ``("probseg", "AFleft")``, ``("tumor", "")`` and
    ``("core", "")``. Lower ranks are preferred: 0 for the plain name, 1 for the lesion mask of other data sets, 2 for
    names with further entities.
    """

    slot: tuple[str, str]
    path: Path
    entities: Mapping[str, str]
    rank: int


def candidate(path: Path) -> Candidate | None:
    """What the file at ``path`` could be, judged by its name; None if it is nothing shiftkit reads.

    Examples
    --------
    >>> found = candidate(Path("sub-01_space-T1w_model-tensor_param-fa_dwimap.nii.gz"))
    >>> found.slot, found.rank
    (('image', 'fa'), 2)
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    entities = dict(part.split("-", 1) for part in match[1].split("_"))
    suffix = match[2]
    slot, own = _slot(suffix, entities)
    if slot is None:
        return None
    further = set(entities) - {"sub", "ses", *own}
    other_name = slot[0] == "tumor" and (entities["label"], suffix) != ("tumor", "mask")
    rank = 2 if further else int(other_name)
    return Candidate(slot=slot, path=path, entities={**entities, "suffix": suffix}, rank=rank)


def _slot(suffix: str, entities: Mapping[str, str]) -> tuple[tuple[str, str] | None, tuple[str, ...]]:
    """What a file is, and the entities that say so."""
    label = entities.get("label", "")
    if suffix == "T1w" and not label:
        return ("image", "t1w"), ()
    if suffix == "dwimap" and "param" in entities:
        param = entities["param"]
        # Any other map is called as its files call it.
        return ("image", param.lower() if param.lower() in _KNOWN_MAPS else param), ("param",)
    if label in _TUMOR_LABELS and suffix in ("mask", "roi"):
        return ("tumor", ""), ("label",)
    if label == "core" and suffix == "mask":
        return ("core", ""), ("label",)
    if suffix in ("mask", "probseg") and label.isalnum():
        return (suffix, label + _HEMISPHERES.get(entities.get("hemi", ""), "")), ("label", "hemi")
    return None, ()


def candidates(folder: Path) -> Iterator[Candidate]:
    """Every candidate in ``anat/`` and ``dwi/`` of a participant's or session's folder."""
    for kind in ("anat", "dwi"):
        place = folder / kind
        if place.is_dir():
            names = sorted(os.listdir(place))  # noqa: PTH208 - a tenth of the time of Path.iterdir on 16,000 files
            yield from filter(None, (candidate(place / name) for name in names))


def choose(found: Sequence[Candidate], filters: Filters) -> tuple[dict[tuple[str, str], Path], list[str]]:
    """Choose one file a slot; what is ambiguous is told in one sentence a slot, naming its candidates.

    The rules, in order: what the filters rule out is gone; the plain name (no entities beyond those that
    say what it is) wins; ``label-tumor_mask`` wins over ``label-lesion_roi``; a single file with further
    entities is taken. Several that are left are ambiguous.
    """
    slots: dict[tuple[str, str], list[Candidate]] = {}
    for one in found:
        if _passes(one, filters):
            slots.setdefault(one.slot, []).append(one)
    chosen: dict[tuple[str, str], Path] = {}
    ambiguous: list[str] = []
    for slot, several in slots.items():
        best = min(one.rank for one in several)
        left = [one for one in several if one.rank == best]
        if len(left) == 1:
            chosen[slot] = left[0].path
        else:
            what = " ".join(part for part in slot if part)
            ambiguous.append(f"{what} could be {' or '.join(one.path.name for one in left)}")
    return chosen, ambiguous


def _passes(one: Candidate, filters: Filters) -> bool:
    kind, name = one.slot
    for key in (kind, name):
        for entity, wanted in filters.get(key, {}).items():
            value = one.entities.get(entity)
            if (value is not None) if wanted is None else (value not in wanted):
                return False
    return True


def read_filters(path: Path) -> Filters:
    """Read a filter file in the manner of fMRIPrep's: which entities the file of a slot must carry.

    A JSON object; its keys are modalities (``t1w``, ``fa``, ``peaks``, …) or ``image``, ``mask``, ``probseg``,
    ``tumor``, ``core``, or a bundle's label; each holds entities with the wanted value, a list of values, or
    null for "must not be there". Long names of entities (``session``, ``resolution``) are understood.

    Raises
    ------
    ConfigError
        If the file is missing, not JSON, or of another shape.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "filter.json"
    >>> _ = path.write_text('{"t1w": {"space": "ACPC", "resolution": null}}')
    >>> read_filters(path)
    {'t1w': {'space': ('ACPC',), 'res': None}}
    """
    shape = 'such as {"t1w": {"space": "ACPC", "desc": null}}'
    try:
        content = parse_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"A filter file is a JSON object, {shape}; {path} cannot be read: {error}.") from error
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise ConfigError(f"A filter file maps what to choose to its entities, {shape}; {path} does not.")
    return {
        str(key): {_LONG.get(str(entity), str(entity)): _wanted(value, path) for entity, value in entities.items()}
        for key, entities in content.items()
    }


def _wanted(value: Any, path: Path) -> tuple[str, ...] | None:
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int) for one in values):
        raise ConfigError(f"An entity in a filter file takes a text, a list of texts or null; {path} has {value!r}.")
    return tuple(str(one) for one in values)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; `DataError` if it cannot be read or holds something else."""
    try:
        content = parse_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be a JSON file; it cannot be read: {error}. Correct it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} must be a JSON object; it holds a {type(content).__name__}. Correct it.")
    return content
