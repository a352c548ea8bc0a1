"""What an ONNX file asks for, looked at before anything is computed or unpacked.

The rule: a network is a list of steps that is known before it is computed. ONNX's own operators, and those built into
onnxruntime, may stand in it, once each; a choice (`If`) between two lists of steps may too. Refused is what can go on
for ever (`Loop`, `Scan` and whatever else repeats a graph), functions that call themselves, operators of other domains,
which are code beside the file, weights elsewhere, and weights that only claim to be there. How large results may grow
depends on the image, and is bounded while it is computed; see `onnx_files`.

Of the file, a protocol buffer, only keys and lengths are followed, in place: once its messages are objects, as those of
the package onnx are, a few bytes can stand for any memory.
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DataError
from ...files import require_file
from ...words import readable

_MOST_BYTES = 2**31
"""Of a protocol buffer; larger networks have their weights in a file beside it."""
_MOST_WEIGHTS_BYTES = 2**32
_MOST_PARTS, _DEEPEST = 500_000, 40
"""Fields of messages in a file, and how deep these may lie in one another: a choice within a choice needs three."""
_MOST_STEPS, _MOST_CALLS = 100_000, 50
"""Steps once functions are written out, and functions within functions."""
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""Whose operators onnxruntime has built in."""
_CHOICE = ("", "If")
_MANY_BYTES = 8
"""Of a number in a file, at most: all but complex ones, which no network computes with."""

_NODE, _DOMAIN, _NAME, _TENSOR, _SPARSE, _GRAPH, _FUNCTION, _ATTRIBUTE, _ENTRY = (
    "node", "domain", "name", "tensor", "sparse tensor", "graph", "function", "attribute", "entry",
)  # fmt: skip
_FIELDS: dict[str, dict[int, str]] = {
    "model": {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {1: _NAME, 7: _NODE, 10: _DOMAIN, 11: _ATTRIBUTE},
    _NODE: {4: _NAME, 5: _ATTRIBUTE, 7: _DOMAIN},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR, 3: "size"},
    _TENSOR: {1: "size", 13: _ENTRY},
    _ENTRY: {1: "key", 2: "value"},
}
"""Of onnx.proto: which fields of a message are looked at, by their numbers."""


def require_steps(path: Path) -> list[Path]:
    """Files with weights beside an ONNX file; a `DataError` where it is none, or asks for more than a network does."""
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise DataError(
            f"An ONNX file has at most {_MOST_BYTES / 2**30:g} GiB; {path} has {size / 2**30:.1f}. Export it again, "
            "with its weights in a file beside it."
        )
    try:
        with path.open("rb") as stream:
            blob = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        model = _Reader(path).message(blob, "model")
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} must be an ONNX file; it is none, or only a part of one. Copy or export it again."
        ) from error
    if not model.of(_GRAPH):
        raise DataError(f"{path} must be an ONNX file; there is no network in it. Copy or export it again.")
    _require_known_steps(model, path)
    return _weights_beside(model, path)


@dataclass(frozen=True)
class _Message:
    """A message of the file: those within it, its texts and its numbers, by what they are."""

    kind: str
    parts: list["_Message"] = field(default_factory=list["_Message"])
    texts: dict[str, str] = field(default_factory=dict[str, str])
    sizes: list[int] = field(default_factory=list[int])

    def of(self, kind: str) -> list["_Message"]:
        """Messages of a kind right within it."""
        return [one for one in self.parts if one.kind == kind]

    def all(self, kind: str) -> Iterator["_Message"]:
        """Messages of a kind anywhere within it."""
        for one in self.parts:
            if one.kind == kind:
                yield one
            yield from one.all(kind)

    @property
    def called(self) -> tuple[str, str]:
        """Domain and name of a function or of a node's operator; ONNX's own domain has two names."""
        domain = self.texts.get(_DOMAIN, "")
        return "" if domain == "ai.onnx" else domain, self.texts.get(_NAME, "")


class _Reader:
    """Reads messages, so many at most; a `ValueError` where there is something else."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen = path, 0

    def message(self, blob: memoryview, kind: str, depth: int = 0) -> _Message:
        made, known = _Message(kind), _FIELDS[kind]
        for number, value in _entries(blob):
            self.seen += 1
            if self.seen > _MOST_PARTS or depth > _DEEPEST:
                raise DataError(
                    f"A network has at most {_MOST_PARTS} parts in at most {_DEEPEST} levels; {self.path} has more. "
                    "Export it again."
                )
            name = known.get(number)
            if name is None:
                continue
            if name == "size":
                for one in _numbers(value):
                    made.sizes.append(one)
                    if len(made.sizes) > _MOST_AXES:
                        raise ValueError("no tensor has so many axes")
            elif not isinstance(value, memoryview):
                raise ValueError(f"a {name} is a number")
            elif name in _FIELDS:
                made.parts.append(self.message(value, name, depth + 1))
            else:
                made.texts[name] = bytes(value[:_LONGEST]).decode(errors="replace")
        return made


_LONGEST, _MOST_AXES = 4096, 64


def _entries(blob: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers of the fields of a message with what they hold: a number, or bytes."""
    at = 0
    while at < len(blob):
        key, at = _number(blob, at)
        kind, number = key & 7, key >> 3
        if kind == 0:
            value, at = _number(blob, at)
        elif kind in (1, 2, 5):
            length, at = _number(blob, at) if kind == 2 else (8 if kind == 1 else 4, at)
            if at + length > len(blob):
                raise ValueError("it ends within a field")
            value, at = blob[at : at + length], at + length
        else:
            raise ValueError(f"no field is of kind {kind}")
        if not number:
            raise ValueError("no field has the number 0")
        yield number, value


def _number(blob: memoryview, at: int) -> tuple[int, int]:
    made = shift = 0
    while at < len(blob) and shift < 70:
        made |= (blob[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if blob[at - 1] < 0x80:
            return made, at
    raise ValueError("it ends within a number")


def _numbers(value: int | memoryview) -> Iterator[int]:
    """Sizes along axes, one by one or many in one field."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        one, at = _number(value, at)
        yield one


def _require_known_steps(model: _Message, path: Path) -> None:
    """Refuse what repeats a graph, other people's operators, and functions that come to too many steps."""
    functions: dict[tuple[str, str], list[_Message]] = {}
    for one in model.of(_FUNCTION):
        functions.setdefault(one.called, []).append(one)
    for node in model.all(_NODE):
        domain, name = node.called
        if node.called != _CHOICE and any(True for _ in node.all(_GRAPH)):
            raise DataError(
                f"A network is a list of steps that ends; {path} has a {readable(name)[:40]}, which repeats steps "
                "until the file's own numbers say that it is enough, or never. Export it with the steps written out, "
                "as torch.onnx.export does of a loop in Python."
            )
        if domain not in _DOMAINS and node.called not in functions:
            raise DataError(
                f"A network in a file is made of ONNX's own operators; {path} needs {readable(name)[:40]} of "
                f"{readable(domain)[:80]}, which is code that is not in it. Export it again without that."
            )
    counted: dict[tuple[str, str], int] = {}

    def steps(message: _Message, within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in message.all(_NODE):
            called, total = node.called, total + 1
            if called not in functions:
                continue
            if called in within or len(within) == _MOST_CALLS:
                raise DataError(
                    f"A network is a list of steps that ends; {path} has a function, {readable(called[1])[:40]}, that "
                    "calls itself, or too many within one another. Export it again without functions."
                )
            if called not in counted:
                counted[called] = sum(steps(one, (*within, called)) for one in functions[called])
            total += counted[called]
        return total

    total = sum(steps(one, ()) for one in model.of(_GRAPH))
    if total > _MOST_STEPS:
        raise DataError(
            f"A network has at most {_MOST_STEPS} steps; {path} comes to more once its functions are written out. "
            "Export it again without functions."
        )


def _weights_beside(model: _Message, path: Path) -> list[Path]:
    """Files with weights that a file names, as exports of PyTorch do by default; none lies out of its folder."""
    folder = path.resolve().parent
    beside: dict[Path, int] = {}
    for tensor in model.all(_TENSOR):
        told = {one.texts.get("key", ""): one.texts.get("value", "") for one in tensor.of(_ENTRY)}
        if "location" not in told:
            continue
        place = folder / told["location"].replace("\0", "?")
        try:
            inside = place.resolve().is_relative_to(folder)
            there = inside and place.exists()
        except (OSError, RuntimeError):  # a name of any length, a link to itself
            inside = there = False
        if not there:
            lies = "is not there" if inside else "lies elsewhere"
            raise DataError(
                f"An ONNX file has its weights in itself or beside it; {path.name} names "
                f"{readable(told['location'])[:200]}, which {lies}. Copy both files together, or export it again with "
                "all in one."
            )
        require_file(place, "file of weights")
        beside[place] = beside.get(place, 0) + _MANY_BYTES * math.prod(tensor.sizes)
    told_bytes = sum(one.stat().st_size for one in beside)
    needed = sum(beside.values())
    if told_bytes > _MOST_WEIGHTS_BYTES or told_bytes > needed + _SPARE_BYTES:
        raise DataError(
            f"Weights beside an ONNX file are its own, at most {_MOST_WEIGHTS_BYTES / 2**30:g} GiB; those of {path} "
            f"have {told_bytes / 2**20:.0f} MiB, and its tensors fill at most {needed / 2**20:.3g}. Export it again."
        )
    whole = path.stat().st_size + told_bytes
    sparse = sum(_MANY_BYTES * math.prod(one.sizes) for one in model.all(_SPARSE))
    if sparse > min(_MOST_SPARSE * whole + _SPARE_BYTES, _MOST_WEIGHTS_BYTES):
        raise DataError(
            f"Weights lie in their file; {path} has {whole / 2**20:.3g} MiB and names sparse tensors of "
            f"{sparse / 2**20:.3g} MiB. Export it again with ordinary ones."
        )
    return sorted(beside)


_SPARE_BYTES = 2**26
"""What a file of weights may have beside them, such as gaps between pages, and a sparse tensor beside its numbers."""
_MOST_SPARSE = 10
