"""Feeds damaged and malicious files to every reading entry point, and checks what comes of each.

Run as ``python benchmarks/fuzz.py``; writes ``benchmarks/fuzz.md`` and ends with 1 on any fault: an exception that is
no sentence of shiftkit's, more than 5 s, more than 1 GiB of memory, control characters in a message, or nonsense that
was accepted (an oracle checks that all of it is in range). Inputs are mutations of sound files and follow from the
seed: ``--only NAME --index N`` makes one of them again and shows what happens.

Inputs are read in forked processes that say when they begin each; one that hangs or dies is a fault, and the next
process goes on behind it.
"""

import argparse
import gzip
import io
import json
import multiprocessing
import os
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from shiftkit.analyses.comparison import compare
from shiftkit.analyses.scoring.metrics import METRICS
from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.analyses.scoring.table import ScoreTable, as_frame, without_bad
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.api import VERBS
from shiftkit.cli import main as shiftkit
from shiftkit.cohorts.folder import load_cohort
from shiftkit.cohorts.layout import read_filters
from shiftkit.cohorts.peaks import read_peaks
from shiftkit.cohorts.preparation import prepare
from shiftkit.config import read_file
from shiftkit.embeddings import COLUMNS, Embeddings
from shiftkit.errors import ShiftkitError
from shiftkit.images import read_image, read_mask
from shiftkit.importers.streamlines import header_grid, is_legacy, read_streamlines, streamline_mask
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.pipeline.inputs import bystanders, find_patients
from shiftkit.reports import report, restore, store
from shiftkit.segmentation.network.checkpoints import Model, load_model, save_model
from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.types import Bundle, Volume

MOST_S, MOST_GIB = 5.0, 1.0
_HANGS_S = 120.0
"""By the clock, after which an input is given up; what ends is judged by its processor time."""
SHAPE = (12, 14, 10)
AFFINE = np.array([[-2.5, 0, 0, 15], [0, 2.5, 0, -17], [0, 0, 2.5, -12], [0, 0, 0, 1.0]])
BUNDLES = ("AFleft", "AFright")
Random = np.random.Generator
Mutation = Callable[[Random, bytes], bytes]

# Mutations ------------------------------------------------------------------------------------------------------------

EXTREMES = [0, 1, -1, 2**7, 2**15 - 1, -(2**15), 2**31 - 1, -(2**31), 2**32 - 1, 2**62, 2**63 - 1]
NUMBERS = [0.0, -0.0, 1e-45, 1e-20, 1e20, 3e38, 1e300, -1.0, -1e9, np.nan, np.inf, -np.inf]


def pick(rng: Random, options: Sequence[Any]) -> Any:
    """One of several, whatever their types."""
    return options[int(rng.integers(len(options)))]


def flip_bits(rng: Random, data: bytes) -> bytes:
    """One to eight bits, half of the time near the beginning, where headers are."""
    changed = bytearray(data)
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 400)
    for _ in range(int(rng.integers(1, 9))):
        if reach:
            changed[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def cut(rng: Random, data: bytes) -> bytes:
    """A file that ends early, or does not begin."""
    place = int(rng.integers(len(data) + 1))
    return data[:place] if rng.random() < 0.8 else data[place:]


def repeat(rng: Random, data: bytes) -> bytes:
    """A block that stands twice, somewhere else."""
    a, b = sorted(int(n) for n in rng.integers(len(data) + 1, size=2))
    place = int(rng.integers(len(data) + 1))
    return data[:place] + data[a : min(b, a + 4096)] + data[place:]


def overwrite(rng: Random, data: bytes) -> bytes:
    """A number at the extremes of its type, at a place where one may stand."""
    packed = [struct.pack("<h", pick(rng, EXTREMES[:6])), struct.pack("<i", pick(rng, EXTREMES[:8]))]
    packed += [struct.pack("<Q", pick(rng, EXTREMES) % 2**64), struct.pack("<d", pick(rng, NUMBERS))]
    with np.errstate(all="ignore"):
        packed += [np.float32(pick(rng, NUMBERS)).tobytes(), bytes(int(rng.integers(1, 64)))]
    new = pick(rng, packed)
    reach = max(1, (len(data) if rng.random() < 0.5 else min(len(data), 400)) - len(new))
    place = int(rng.integers(reach)) & ~1
    return data[:place] + new + data[place + len(new) :]


def noise(rng: Random, data: bytes) -> bytes:
    """Nothing of the file is left, or nothing at all."""
    return pick(rng, [b"", b"\0" * len(data), rng.bytes(max(1, len(data)))])


BINARY: tuple[Mutation, ...] = (flip_bits, cut, repeat, overwrite, noise)

CELLS = (
    *(
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e999",
        "-1",
        "",
        " ",
        "n/a",
        "none",
        "0x10",
        "1_000",
        "1,5",
        "١٢",
        "1e308",
        "-0.0",
    ),
    *("=1+1", "@SUM(A1)", "+1+1", "-2+3|cmd", "=HYPERLINK(1)", "sub-../../x", "../..", "/etc/passwd", "sub-_.._.._x"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a&b", "a\x1b[31mred", "a\x07b", "a\0b", "a\rb"),
    *("\u202eabc", "\u200b", "\ufeff", "é", "𝒳", "\ud800", "x" * 3000, "9" * 400, '"', "'", "`", "a\vb", "a\x85b"),
)
"""What may stand where a word or number is expected."""


def encode(text: str) -> bytes:
    """UTF-8, of lone surrogates too, which JSON can name."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """The text again."""
    return data.decode("utf-8", "replace")


def recode(rng: Random, data: bytes) -> bytes:
    """Another encoding, another end of line, a mark at the beginning, NULs, control characters."""
    text = decode(data)
    at = int(rng.integers(len(text) + 1))
    odd = pick(rng, ["\0", "\x1b[2J", "\r", "\x08", "\x1a", "\x7f", "\u2028", "\0" * 500, "\ufeff"])
    made: list[Callable[[], bytes]] = [
        lambda: b"\xef\xbb\xbf" + data,
        lambda: text.encode("utf-16", "replace"),
        lambda: text.encode("utf-16-be", "replace"),
        lambda: text.encode("utf-32", "replace"),
        lambda: b"\xff\xfe" + data,
        lambda: text.replace("\n", "\r\n").encode(),
        lambda: text.replace("\n", "\r").encode(),
        lambda: encode(text[:at] + odd + text[at:]),
        lambda: data[:at] + b"\xff\xc3(" + data[at:],
        lambda: text.replace("a", "ä").encode("latin-1", "replace"),
    ]
    return pick(rng, made)()


def shuffle_lines(rng: Random, data: bytes) -> bytes:
    """A line that is missing, stands twice, or elsewhere."""
    lines = decode(data).split("\n")
    a, b = int(rng.integers(len(lines))), int(rng.integers(len(lines)))
    what = int(rng.integers(4))
    if what == 0:
        lines.pop(a)
    elif what == 1:
        lines.insert(b, lines[a])
    elif what == 2:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines += lines[a : a + 1] * int(rng.integers(1, 200))
    return encode("\n".join(lines))


def change_cell(rng: Random, data: bytes) -> bytes:
    """Another word in one to five cells of a table, also of its header."""
    rows = [line.split("\t") for line in decode(data).split("\n")]
    for _ in range(int(rng.integers(1, 6))):
        row = rows[int(rng.integers(len(rows)))]
        row[int(rng.integers(len(row)))] = pick(rng, CELLS)
    return encode("\n".join("\t".join(row) for row in rows))


def change_column(rng: Random, data: bytes) -> bytes:
    """One word in a whole column, a column that is missing, empty or stands twice."""
    rows = [line.split("\t") for line in decode(data).split("\n")]
    column, word, what = int(rng.integers(len(rows[0]))), pick(rng, CELLS), int(rng.integers(4))
    for number, row in enumerate(rows):
        if column >= len(row):
            continue
        if what == 0 and number:
            row[column] = word
        elif what == 1:
            row.pop(column)
        elif what == 2:
            row.append(row[column])
        elif what == 3:
            row.insert(column, "")
    return encode("\n".join("\t".join(row) for row in rows))


def lengthen(rng: Random, data: bytes) -> bytes:
    """Very many columns, or a very long cell."""
    text = decode(data)
    first, _, rest = text.partition("\n")
    return encode(pick(rng, [lambda: f"{first}{chr(9)}x" * 2000 + f"\n{rest}", lambda: f"{text}{'y' * 2_000_000}\n"])())


TABLE: tuple[Mutation, ...] = (change_cell, change_cell, change_cell, change_column, shuffle_lines, recode, flip_bits,
                               cut, lengthen, noise)  # fmt: skip


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inside:
        yield from _places(one, (*at, key))


def change_json(rng: Random, data: bytes) -> bytes:
    """One to three values of another kind, keys that are missing or new."""
    content = json.loads(data)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(content))
        # Deep lists of numbers would otherwise take nearly every draw.
        depth = int(rng.integers(1, max(2, max(map(len, places)) + 1)))
        at = pick(rng, [one for one in places if len(one) <= depth] or places)
        new = pick(rng, [None, [], {}, [[]], True, False, -1, 0, 10**400, 2**63, *NUMBERS, *CELLS, {"a": {"b": 1}}])
        if not at:
            return _as_json(new)
        inside = content
        for key in at[:-1]:
            inside = inside[key]
        if rng.random() < 0.2:
            del inside[at[-1]]
        elif isinstance(inside, dict) and rng.random() < 0.15:
            inside[pick(rng, CELLS)] = new
        else:
            inside[at[-1]] = new
    return _as_json(content)


def _as_json(content: Any) -> bytes:
    # Numbers beyond what Python writes come from other writers.
    return json.dumps(content).replace("1e+300", "1e999").encode()


def nest(rng: Random, data: bytes) -> bytes:
    """Brackets in brackets, far deeper than any reader goes, alone or as a value."""
    depth = int(pick(rng, [50, 900, 5000, 200_000]))
    deep = pick(rng, [b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    places = [found.end() for found in re.finditer(rb"[:=] ?", data)]
    if not places or rng.random() < 0.3:
        return deep
    place = pick(rng, places)
    return data[:place] + deep + re.sub(rb"^[^,\n}]*", b"", data[place:])


def twice(rng: Random, data: bytes) -> bytes:
    """A key that stands twice."""
    found = list(re.finditer(rb'"[A-Za-z_]+": ?("[^"]*"|[0-9.]+)|^[a-z_]+ = .*$', data, re.MULTILINE))
    if not found:
        return data + data
    one = pick(rng, found)
    between = b", " if one[0].startswith(b'"') else b"\n"
    return data[: one.end()] + between + one[0] + data[one.end() :]


def long_text(rng: Random, data: bytes) -> bytes:
    """A file of many megabytes."""
    return data + pick(rng, [b" ", b"\n", b"a", b"[1,", b"# x\n"]) * 20_000_000


JSON: tuple[Mutation, ...] = (*[change_json] * 6, recode, nest, twice, flip_bits, cut, noise)

_TOML = (
    *("nan", "inf", "-inf", "+nan", "0.003", "-1", "0", "1e999", "9223372036854775808", "0x7f", "1_0", "true", "[]"),
    *('"x"', '""', "[1, 2]", "{}", "1979-05-27", "07:32:00", "'''a'''", "[nan]", '["=1+1"]', "1.5", '"\\u0000"'),
)


def change_toml(rng: Random, data: bytes) -> bytes:
    """Other values of one to three keys, also in other tables."""
    lines = decode(data).split("\n")
    with_key = [number for number, line in enumerate(lines) if " = " in line]
    for _ in range(int(rng.integers(1, 4))):
        at = pick(rng, with_key)
        key = lines[at].split(" = ")[0]
        key = key if rng.random() < 0.9 else pick(rng, ["x", "a.b", '"a b"', "seed"])
        lines[at] = f"{key} = {pick(rng, _TOML)}"
    return encode("\n".join(lines))


TOML: tuple[Mutation, ...] = (*[change_toml] * 5, shuffle_lines, recode, nest, twice, flip_bits, cut, noise)


def change_field(rng: Random, data: bytes) -> bytes:
    """One to three fields of a NIfTI header at the extremes of their types."""
    header = np.frombuffer(data[:348], dtype=nib.Nifti1Header.template_dtype).copy()
    with np.errstate(all="ignore"):
        for _ in range(int(rng.integers(1, 4))):
            name = pick(rng, header.dtype.names)
            flat = header[0][name].reshape(-1) if header[name].ndim > 1 else header[name]
            if flat.dtype.kind in "iu":
                info = np.iinfo(flat.dtype)
                value = pick(rng, [info.min, info.max, 0, 1, 2, 3, 4, 8, 16, 64, 512, 1024, 1792, 255, 100])
                flat[int(rng.integers(flat.size))] = np.clip(value, info.min, info.max)
            elif flat.dtype.kind == "f":
                flat[int(rng.integers(flat.size))] = pick(rng, NUMBERS)
            if header[name].ndim > 1:
                header[0][name][:] = flat
    return header.tobytes() + data[348:]


def change_voxels(rng: Random, data: bytes) -> bytes:
    """NaN, infinite and huge values among the voxels, which are float32."""
    array = np.frombuffer(data[352:], dtype=np.float32).copy()
    some = rng.random(array.size) < pick(rng, [0.001, 0.1, 1.0])
    array[some] = np.float32(pick(rng, [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -1, 0, 2, 0.3, 255]))
    return data[:352] + array.tobytes()


NIFTI: tuple[Mutation, ...] = (*[change_field] * 4, change_voxels, flip_bits, overwrite, cut, noise)


def compressed(rng: Random, data: bytes) -> bytes:
    """A damaged image that is compressed soundly, a damaged stream of a sound one, or a bomb."""
    what = rng.random()
    if what < 0.5:
        return gzip.compress(pick(rng, NIFTI)(rng, data), 1)
    whole = gzip.compress(data, 1)
    if what < 0.9:
        return pick(rng, BINARY)(rng, whole)
    if what < 0.95:
        return whole + pick(rng, [whole, b"\0" * 512, b"trailing", gzip.compress(b"")])
    return whole[:18] + whole if rng.random() < 0.5 else gzip.compress(change_field(rng, data), 1) + _bomb()


def _bomb(mib: int = 2048) -> bytes:
    """Two GiB of zeros in two MiB: members of a gzip file may follow one another."""
    return gzip.compress(bytes(2**24), 9) * (mib // 16)


def change_tensors(rng: Random, data: bytes) -> bytes:
    """Weights that are NaN, of another type, shape or name; headers that lie."""
    what = int(rng.integers(4))
    size = int.from_bytes(data[:8], "little")
    if what == 0:
        tensors = load_tensors(data)
        name = pick(rng, list(tensors))
        value = tensors[name].copy()
        made = [np.full_like(value, pick(rng, [np.nan, np.inf, 3e38, 0])), value.astype(np.float64), value[..., None]]
        tensors[name] = pick(rng, [*made, value.astype(np.int8), value.ravel(), np.zeros(0, np.float32)])
        return save_tensors(tensors)
    if what == 1:
        told = pick(rng, [0, 1, size - 1, size + 1, len(data), 2**31, 2**62, 2**63, 2**64 - 1, 100_000_000])
        return int(told).to_bytes(8, "little") + data[8:]
    header = pick(rng, [change_json, twice, nest, recode] if what == 2 else [change_json])(rng, data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def change_tck(rng: Random, data: bytes) -> bytes:
    """Fields of a text header that lie."""
    head, _, body = data.partition(b"END")
    lines = decode(head).split("\n")
    at = int(rng.integers(len(lines)))
    value = pick(rng, ["-1", "0", "1e9", "99999999999", "Float64BE", "Int8", ". 0", ". 999999999", "nan", "x" * 10_000])
    lines[at] = f"{lines[at].split(':')[0]}: {value}"
    return encode("\n".join(lines)) + b"END" + body


def change_points(rng: Random, data: bytes, begin: int = 1000) -> bytes:
    """Points that are infinite, or farther away than any head."""
    body = bytearray(data[begin:])
    for _ in range(int(rng.integers(1, 4))):
        place = 4 * int(rng.integers(max(1, len(body) // 4 - 1)))
        body[place : place + 4] = np.float32(pick(rng, [*NUMBERS[:6], 4999, 5001, 1e7, np.nan, np.inf])).tobytes()
    return data[:begin] + bytes(body)


def change_archive(rng: Random, data: bytes) -> bytes:
    """Members of a zip archive that are damaged, renamed, pickled, or far larger than the file."""
    with zipfile.ZipFile(io.BytesIO(data)) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    name, what = pick(rng, list(members)), int(rng.integers(6))
    if what == 0:
        members[name] = pick(rng, BINARY)(rng, members[name])
    elif what == 1:
        members[f"{name}x"] = members.pop(name)
    elif what == 2:
        members[name] = _array(np.array([{"a": 1}], dtype=object))
    elif what == 3:
        dtype = pick(rng, [np.int8, np.complex64, np.float16, "U3", np.bool_])
        members[name] = _array(np.zeros(pick(rng, [(), (0,), (2, 2), (3, *SHAPE[::-1])]), dtype))
    elif what == 4:
        header = io.BytesIO()
        shape = pick(rng, [(3, 10_000, 10_000, 100), (2**40,), (4, 600, 600, 600), (-1, 3)])
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        members[name] = header.getvalue() + bytes(4096)
    else:
        shape = (3, 500, 500, 500)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return _zip_bomb(name, header.getvalue(), 4 * int(np.prod(shape)))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for one, content in members.items():
            out.writestr(one, content)
    return made.getvalue() if rng.random() < 0.7 else pick(rng, BINARY)(rng, made.getvalue())


def change_workbook(rng: Random, data: bytes) -> bytes:
    """Other words in cells; in the sheets' own XML other numbers, far cells, entities; damaged or enormous members."""
    what = int(rng.integers(5))
    if what == 0:
        frame = pd.read_excel(io.BytesIO(data), header=None, dtype=str, keep_default_na=False)
        text = io.BytesIO(change_cell(rng, frame.to_csv(sep="\t", index=False, header=False).encode()))
        made = io.BytesIO()
        changed = pd.read_csv(text, sep="\t", dtype=str, header=None, keep_default_na=False)
        changed.to_excel(made, index=False, header=False)
        return made.getvalue()
    with zipfile.ZipFile(io.BytesIO(data)) as stored:
        members = {name: stored.read(name) for name in stored.namelist()}
    name = pick(rng, [one for one in members if one.endswith(("sheet1.xml", "haredStrings.xml", "styles.xml"))])
    text = decode(members[name])
    if what == 1:
        found = list(re.finditer(r"(?<=[>\"])[A-Za-z0-9.:]+(?=[<\"])", text)) or [None]
        words = [*CELLS[:17], "XFD1048576", "ZZZZZZ9", "A0", "-1", "4294967296", "e", "s", "b", "d", "str", "inlineStr"]
        for one in sorted((pick(rng, found) for _ in range(3)), key=lambda one: -one.start()):
            text = text[: one.start()] + pick(rng, words) + text[one.end() :]
    elif what == 2:
        nested = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol"}">' for n in range(12))
        text = text.replace("?>", f"?><!DOCTYPE x [{nested}]>", 1).replace("<t>", "<t>&e11;", 1)
    elif what == 3:
        members[name] = pick(rng, BINARY)(rng, members[name])
        text = ""
    else:
        return _zip_bomb("xl/worksheets/sheet1.xml", b"<", 2**30)
    members[name] = encode(text) or members[name]
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as out:
        for one, content in members.items():
            out.writestr(one, content)
    return made.getvalue()


def change_parquet(rng: Random, data: bytes) -> bytes:
    """Other words in the cells of a column, very many rows, other types."""
    frame = pd.read_parquet(io.BytesIO(data))
    column, what = pick(rng, list(frame)), int(rng.integers(4))
    if what == 0:
        frame[column] = [pick(rng, CELLS) for _ in range(len(frame))]
    elif what == 1:
        frame = frame.loc[np.zeros(int(pick(rng, [0, 1, 10**5, 10**7])), int), [column]]
    elif what == 2:
        frame[column] = [pick(rng, [[1, 2], {"a": 1}, [b"x"]])] * len(frame)
    else:
        frame[column] = pick(rng, [pd.Timestamp(0), True, 2**62, np.nan, np.inf, b"\x1b[2J"])
    made = io.BytesIO()
    frame.to_parquet(made)
    return made.getvalue()


def _array(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


_BOMBS: dict[int, bytes] = {}


def _zip_bomb(name: str, header: bytes, size: int) -> bytes:
    """An archive whose one member is a true array of zeros, of so many bytes: gigabytes in a few megabytes."""
    if size not in _BOMBS:
        made = io.BytesIO()
        with (
            zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
            out.open(name, "w", force_zip64=True) as member,
        ):
            member.write(header)
            for _ in range(0, size, 2**24):
                member.write(bytes(min(2**24, size)))
        _BOMBS[size] = made.getvalue()
    return _BOMBS[size]


# What is read, and what of it must be so ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One reading entry point.

    ``sound`` are files that it accepts, ``place`` is where a mutated one is put below the folder that ``prepare``
    filled, ``read`` reads it, and ``nonsense`` says what is wrong with what was accepted; empty where nothing is.
    """

    inputs: int
    place: str
    sound: Callable[[], list[bytes]]
    mutations: Sequence[Mutation]
    read: Callable[[Path], Any]
    nonsense: Callable[[Any], str]
    prepare: Callable[[Path], None] = lambda _: None


ENTRIES: dict[str, Entry] = {}


def a_bundle() -> np.ndarray:
    """A bar of voxels."""
    mask = np.zeros(SHAPE, bool)
    mask[3:6, 2:12, 4:7] = True
    return mask


def nifti(array: np.ndarray, **fields: Any) -> bytes:
    """An image as the bytes of a file."""
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm")
    for name, value in fields.items():
        image.header[name] = value
    return image.to_bytes()


def a_map() -> np.ndarray:
    """Values of FA."""
    return np.random.default_rng(0).random(SHAPE, dtype=np.float32)


def bad_volume(volume: Volume) -> str:
    """A grid that no scan of a head has."""
    affine, shape = volume.affine, np.array(volume.array.shape)
    corners = volume.world(np.array([*np.ndindex(2, 2, 2)]) * (shape[:3] - 1))
    rules = {
        "affine is not finite": np.isfinite(affine).all() and (affine[3] == (0, 0, 0, 1)).all(),
        "shape is absurd": volume.array.ndim in (3, 4) and shape.min() > 0 and shape.prod(dtype=float) < 2**34,
        "voxels are absurd": min(volume.spacing_mm) >= 0.01 and max(volume.spacing_mm) <= 100,
        "voxels lie farther than any scanner reaches": np.abs(corners).max() < 1e5,
        "values are no numbers": volume.array.dtype.kind in "fb",
    }
    return _broken(rules)


def _broken(rules: Mapping[str, Any]) -> str:
    return "; ".join(rule for rule, kept in rules.items() if not kept)


def bad_mask(volume: Volume) -> str:
    """A mask that is none."""
    return "not 0 and 1" if volume.array.dtype != bool or volume.array.ndim != 3 else bad_volume(volume)


def bad_peaks(volume: Volume) -> str:
    """Vectors that are none."""
    finite = np.isfinite(volume.array).all() and volume.array.shape[3:] == (9,)
    return bad_volume(volume) if finite else "peaks are no finite vectors"


ENTRIES["image"] = Entry(
    1500, "a.nii", lambda: [nifti(a_map()), nifti(np.stack([a_map()] * 3, -1))], NIFTI,
    lambda at: read_image(at / "a.nii"), bad_volume,
)  # fmt: skip
ENTRIES["image, compressed"] = Entry(
    1200, "a.nii.gz", lambda: [nifti(a_map()), nifti(a_map(), scl_slope=2.0)], [compressed],
    lambda at: read_image(at / "a.nii.gz"), bad_volume,
)  # fmt: skip
ENTRIES["mask"] = Entry(
    800, "a.nii", lambda: [nifti(a_bundle().astype(np.float32)), nifti(a_map() * a_bundle())], NIFTI,
    lambda at: read_mask(at / "a.nii"), bad_mask,
)  # fmt: skip


def _peaks() -> bytes:
    vectors = np.random.default_rng(1).normal(0, 0.5, (*SHAPE, 9)).astype(np.float32)
    return nifti(vectors * (a_map() > 0.5)[..., None])


SIDECAR = b'{"OrientationEncoding": {"EncodingAxis": 3, "Reference": "ijk", "Type": "3vector"}}'
PEAKS = "sub-01_param-peaks_dwimap"


def _put(place: str, content: Callable[[], bytes]) -> Callable[[Path], None]:
    def prepare(at: Path) -> None:
        (at / place).parent.mkdir(parents=True, exist_ok=True)
        (at / place).write_bytes(content())

    return prepare


ENTRIES["peaks"] = Entry(
    400, f"{PEAKS}.nii", lambda: [_peaks()], NIFTI, lambda at: read_peaks(at / f"{PEAKS}.nii"), bad_peaks,
    _put(f"{PEAKS}.json", lambda: SIDECAR),
)  # fmt: skip
ENTRIES["sidecar of peaks"] = Entry(
    400, f"{PEAKS}.json", lambda: [SIDECAR], JSON, lambda at: read_peaks(at / f"{PEAKS}.nii"), bad_peaks,
    _put(f"{PEAKS}.nii", _peaks),
)  # fmt: skip

# Cohorts

_NAME = re.compile(r"sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?")
PEOPLE = "participant_id\tgroup\tage\tsex\tsite\ttumor_side\ttumor_volume_ml\tsplit\n" + "".join(
    f"sub-0{n}\t{group}\t{40 + n}\tF\tA\t{side}\t{volume}\ttrain\n"
    for n, group, side, volume in (
        (1, "glioma", "left", "12.5"), (2, "control", "n/a", "n/a"), (3, "glioma", "right", "3"),
    )
)  # fmt: skip
DESCRIPTION = b'{"Name": "trial", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}'


def _cohort(at: Path) -> None:
    (at / "dataset_description.json").write_bytes(DESCRIPTION)
    (at / "participants.tsv").write_text(PEOPLE)
    for n in (1, 2, 3):
        _put(f"sub-0{n}/dwi/sub-0{n}_label-AFleft_mask.nii.gz", lambda: gzip.compress(nifti(a_bundle().astype("u1"))))(
            at
        )


def _read_cohort(at: Path) -> Any:
    cohort = load_cohort(at)
    patients = find_patients(cohort)
    return cohort, patients, bystanders(cohort), [one.number("age") for one in cohort if _is_number(one, "age")]


def _is_number(case: Any, column: str) -> bool:
    try:
        case.number(column)
    except ShiftkitError:
        return False
    return True


def bad_cohort(found: Any) -> str:
    """People who are none."""
    cohort, patients, gone, ages = found
    words = [text for case in cohort for pair in case.attributes.items() for text in pair]
    rules = {
        "an identifier is none": all(_NAME.fullmatch(case.key) for case in cohort),
        "a group is none": all(case.group in ("control", "glioma", "target_control", "n/a") for case in cohort),
        "nobody is a patient": len(patients) > 0,
        "an attribute holds control characters": all(one.isprintable() for one in [*words, *gone, cohort.name]),
        "an age is infinite": not np.isinf(ages).any(),
    }
    return _broken(rules)


ENTRIES["participants.tsv"] = Entry(
    1000, "participants.tsv", lambda: [PEOPLE.encode()], TABLE, _read_cohort, bad_cohort, _cohort
)  # fmt: skip
ENTRIES["dataset_description.json"] = Entry(
    300, "dataset_description.json", lambda: [DESCRIPTION], JSON, _read_cohort, bad_cohort, _cohort
)  # fmt: skip
FILTERS = b'{"t1w": {"space": "ACPC", "resolution": null}, "mask": {"desc": ["a", "b"]}, "session": {"ses": "01"}}'
ENTRIES["filter file"] = Entry(
    300, "f.json", lambda: [FILTERS], (*JSON, long_text), lambda at: read_filters(at / "f.json"),
    lambda found: "" if all(isinstance(one, dict) for one in [found, *found.values()]) else "no filters",
)  # fmt: skip

# Score tables


def score_table() -> bytes:
    """Two patients and two controls, two bundles, two metrics."""
    rows: list[dict[str, Any]] = []
    for number, group in enumerate(("glioma", "glioma", "control", "control")):
        for hemisphere in ("left", "right"):
            for metric, value, unit in (("dice", 0.8, "1"), ("hd95", 4.2, "mm")):
                side = "n/a" if group == "control" else "ipsi" if hemisphere == "left" else "contra"
                row = {
                    "participant_id": f"sub-0{number}",
                    "cohort": "c",
                    "group": group,
                    "model": "m",
                    "modality": "fa",
                }
                row |= {"bundle": "AF", "hemisphere": hemisphere, "side": side, "metric": metric}
                row |= {"value": value + 0.01 * number, "unit": unit, "status": "ok"}
                row |= {"tumor_distance_mm": 12.5 * number if group == "glioma" else "n/a", "session": "n/a"}
                rows.append(row | {"penalty_mm": 100 if metric == "hd95" else "n/a", "age": 40, "seen": "no"})
    return pd.DataFrame(rows).to_csv(sep="\t", index=False).encode()


def bad_scores(frame: pd.DataFrame) -> str:
    """Rows that cannot be."""
    told = frame[frame["status"].isin(["ok", "missed"])]
    limits = np.array([1.0 if name in METRICS and METRICS[name].bounded else np.inf for name in told["metric"]])
    known = told["metric"].isin(METRICS)
    patients = frame.loc[frame["group"] == "glioma", "tumor_distance_mm"].dropna()
    names = frame[["participant_id", "cohort", "model", "modality", "bundle"]].to_numpy().ravel()
    rules = {
        "a value is out of range": ((told["value"] >= 0) & (told["value"] <= limits) | ~known).all(),
        "a value is not finite": np.isfinite(told["value"]).all(),
        "a distance is negative or infinite": (np.isfinite(patients) & (patients >= 0)).all(),
        "a group is none": frame["group"].isin(["control", "glioma", "target_control", "n/a"]).all(),
        "a hemisphere is none": frame["hemisphere"].isin(["left", "right", "none", "n/a"]).all(),
        "a side is none": frame["side"].isin(["ipsi", "contra", "bilateral", "n/a"]).all(),
        "a name is none": all(_is_name(one) for one in names),
        "a text holds control characters": all(
            str(one).isprintable() for one in frame.select_dtypes(exclude="number").to_numpy().ravel()
        ),
    }
    return _broken(rules)


def _is_name(text: str) -> bool:
    if not text or not text.isprintable() or set(text) & set("<>") or ".." in text:
        return False
    return text[0] not in "=+-@" or _is_float(text)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


ENTRIES["score table"] = Entry(
    1500, "s.tsv", lambda: [score_table()], TABLE, lambda at: as_frame(ScoreTable.load(at / "s.tsv")), bad_scores
)  # fmt: skip


def wide_table() -> pd.DataFrame:
    """A participant a row, as people write it: scores in percent, distances beside them."""
    rows = {"ID": ["P1", "P2", "C1", "C2"], "Group": ["Patient", "Patient", "HC", "HC"]}
    values = {"AF_L": [70.1, 64.0, 81.2, 83.0], "AF_R": [75.2, 71.5, 84.0, 80.9]}
    far = {f"distance_{name}": [12.0, 30.5, None, None] for name in values}
    return pd.DataFrame({**rows, **values, **far})


def _in_form(write: Callable[[pd.DataFrame, io.BytesIO], Any]) -> Callable[[], list[bytes]]:
    def sound() -> list[bytes]:
        long = pd.read_csv(io.BytesIO(score_table()), sep="\t", keep_default_na=False, na_values=["n/a"])
        made = [io.BytesIO(), io.BytesIO()]
        for frame, stream in zip((wide_table(), long), made, strict=True):
            write(frame, stream)
        return [stream.getvalue() for stream in made]

    return sound


def _scores_at(name: str) -> Callable[[Path], Any]:
    return lambda at: as_frame(ScoreTable.load(at / name))


ENTRIES["score sheet with semicolons"] = Entry(
    400, "s.csv", _in_form(lambda frame, stream: frame.to_csv(stream, sep=";", decimal=",", index=False)),
    (*TABLE, lambda rng, data: change_cell(rng, data.replace(b";", b"\t")).replace(b"\t", b";")), _scores_at("s.csv"),
    bad_scores,
)  # fmt: skip
ENTRIES["score workbook"] = Entry(
    300, "s.xlsx", _in_form(lambda frame, stream: frame.to_excel(stream, index=False)),
    (*[change_workbook] * 4, *BINARY), _scores_at("s.xlsx"), bad_scores,
)  # fmt: skip
ENTRIES["score Parquet"] = Entry(
    300, "s.parquet", _in_form(lambda frame, stream: frame.to_parquet(stream)),
    (*[change_parquet] * 3, *BINARY), _scores_at("s.parquet"), bad_scores,
)  # fmt: skip
RATINGS = b"participant_id\tbundle\themisphere\tmodel\trating\nsub-00\tAF\tleft\tm\tbad\nsub-01\tAF\tleft\tn/a\tgood\n"
ENTRIES["ratings"] = Entry(
    200, "r.tsv", lambda: [RATINGS], TABLE,
    lambda at: without_bad(ScoreTable.load(at / "s.tsv"), at / "r.tsv"),
    lambda found: "" if 0 <= found[1] <= 8 and len(found[0]) > 0 else "rows that are not there",
    _put("s.tsv", score_table),
)  # fmt: skip

# Settings


def _toml() -> bytes:
    return b"""[train]
modality = "fa"
spacing_mm = 2.5
epochs = 30
patch = [48, 48, 48]
memory_gib = 4.0
deterministic = true

[decompose]
metric = "dice"
level = 0.95
n_bootstrap = 2000
equivalence_margin = 0.02
bundles = ["AF"]

[phantom]
spacing_mm = 2.0
n_healthy = 10

[cohorts]
healthy = "data/healthy"
"""


def bad_settings(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Values that a flag would refuse."""
    bounds = {"spacing_mm": (0.5, 5), "epochs": (1, np.inf), "level": (0.5, 0.9999), "n_bootstrap": (100, np.inf)}
    bounds |= {"memory_gib": (0, np.inf), "equivalence_margin": (0, np.inf), "n_healthy": (0, np.inf)}
    rules: dict[str, Any] = {}
    for table, entries in found.items():
        for key, value in entries.items():
            low, high = bounds.get(key, (-np.inf, np.inf))
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, float | int) and not isinstance(one, bool):
                    rules[f"{table}.{key} is {one}"] = bool(np.isfinite(float(one))) and low <= one <= high
                else:
                    rules[f"{table}.{key} is of another type"] = isinstance(one, str | bool)
    return _broken(rules)


ENTRIES["shiftkit.toml"] = Entry(
    800, "shiftkit.toml", lambda: [_toml()], (*TOML, long_text), lambda at: read_file(at / "shiftkit.toml", VERBS),
    bad_settings,
)  # fmt: skip


def _profile(name: str) -> bytes:
    import shiftkit.phantoms

    return (Path(shiftkit.phantoms.__file__).parent / "profiles" / f"{name}.toml").read_bytes()


def bad_profile(profile: Any) -> str:
    """A scanner that none is, or tumors that nobody has."""
    settings = {**vars(profile), **vars(profile.gliomas)}
    del settings["gliomas"]
    numbers = {name: np.atleast_1d(value) for name, value in settings.items()}
    rules: dict[str, Any] = {"a setting is not finite": all(np.isfinite(one).all() for one in numbers.values())}
    rules["a setting is absurd"] = all(np.abs(one).max() <= 1000 for one in numbers.values())
    signed = ("distortion_mm", "label_style")
    rules |= {f"{name} is negative": one.min() >= 0 for name, one in numbers.items() if name not in signed}
    ranges = ("volume_range_ml", "mass", "edema_mm")
    return _broken(rules | {f"{name} is no range": np.diff(numbers[name]).min() >= 0 for name in ranges})


ENTRIES["acquisition profile"] = Entry(
    500, "p.toml", lambda: [_profile("source"), _profile("moderate")], TOML, lambda at: load_profile(at / "p.toml"),
    bad_profile,
)  # fmt: skip

# Checkpoints


def a_model() -> Model:
    """A small one, untrained."""
    torch.manual_seed(0)
    architecture = Architecture(in_channels=4, out_channels=2, channels=(4, 8))
    bundles = tuple(Bundle.parse(label) for label in BUNDLES)
    return Model(
        name="small",
        network=build_network(architecture).eval(),
        architecture=architecture,
        modality="fa",
        bundles=bundles,
        spacing_mm=2.5,
        shape=(16, 16, 8),
        patch=(8, 8, 8),
        thresholds=dict.fromkeys(bundles, 0.5),
        participants={"sub-01": "a" * 64},
        training={"epochs": 3, "cohort": "healthy"},
        feature_statistics={"encoder-1": {"mean": [0.1, 0.2], "sd": [0.1, 0.2], "n": 2}},
    )


def _checkpoint(at: Path) -> None:
    save_model(a_model(), at)


def _of_checkpoint(place: str) -> Callable[[], list[bytes]]:
    def sound() -> list[bytes]:
        with tempfile.TemporaryDirectory() as scratch:
            _checkpoint(Path(scratch))
            return [(Path(scratch) / place).read_bytes()]

    return sound


def bad_model(model: Model) -> str:
    """A model that no training makes."""
    numbers = [model.spacing_mm, model.overconfidence, *model.thresholds.values()]
    statistics = [x for one in model.feature_statistics.values() for x in (*one["mean"], *one["sd"], one["n"])]
    rules = {
        "a number is not finite": np.isfinite([*numbers, *statistics]).all(),
        "a threshold is no probability": all(0 <= one <= 1 for one in model.thresholds.values()),
        "a weight is not finite": all(torch.isfinite(one).all() for one in model.network.state_dict().values()),
        "a name is none": _is_name(model.name) and _is_name(model.modality),
        "bundles are not its own": len(set(model.bundles)) == model.architecture.out_channels == len(model.thresholds),
        "a bundle is none": all(re.fullmatch(r"[A-Za-z0-9]{1,40}", one.label) for one in model.bundles),
        "a box is none": len(model.shape) == 3 and max(model.shape) <= 1024,
        "participants are none": all(re.fullmatch(r"[0-9a-f]{64}", one) for one in model.participants.values()),
        "a card cannot be written": bool(str(model)) and json.dumps(model.training) is not None,
    }
    return _broken(rules)


METADATA, WEIGHTS = "configs/metadata.json", "models/model.safetensors"
ENTRIES["checkpoint, description"] = Entry(
    900, METADATA, _of_checkpoint(METADATA), JSON, load_model, bad_model, _checkpoint
)  # fmt: skip
ENTRIES["checkpoint, weights"] = Entry(
    700, WEIGHTS, _of_checkpoint(WEIGHTS), (change_tensors, change_tensors, *BINARY), load_model, bad_model, _checkpoint
)  # fmt: skip

# Tractograms, arrays


def _tractogram(ending: str) -> bytes:
    lines = [np.linspace((0, -10, 0), (0, 10, 2 + k), 12).astype(np.float32) for k in range(6)]
    tractogram = nib.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4))
    made = io.BytesIO()
    if ending == "trk":
        header = {"voxel_to_rasmm": AFFINE, "dimensions": SHAPE, "voxel_sizes": (2.5, 2.5, 2.5), "voxel_order": "LAS"}
        nib.streamlines.TrkFile(tractogram, header).save(made)
    else:
        nib.streamlines.TckFile(tractogram).save(made)
    return made.getvalue()


def _read_tractogram(ending: str) -> Callable[[Path], Any]:
    def read(at: Path) -> Any:
        path = at / f"t.{ending}"
        grid = header_grid(path)
        points, lengths = read_streamlines(path, AFFINE if is_legacy(path) else None)
        affine, shape = grid if grid is not None and np.prod(grid[1], dtype=float) < 1e7 else (AFFINE, SHAPE)
        return points, lengths, streamline_mask(points, lengths, affine, shape)

    return read


def bad_streamlines(found: Any) -> str:
    """Points that lie in no head."""
    points, lengths, mask = found
    rules = {
        "a point is not finite": np.isfinite(points).all(),
        "a point is in no head": not len(points) or np.abs(points).max() <= 5000,
        "points and lengths disagree": (lengths >= 0).all() and lengths.sum() == len(points),
    }
    return _broken(rules) or bad_mask(mask)


ENTRIES["tractogram, trk"] = Entry(
    700, "t.trk", lambda: [_tractogram("trk")], (change_points, *BINARY), _read_tractogram("trk"), bad_streamlines
)  # fmt: skip
ENTRIES["tractogram, tck"] = Entry(
    500, "t.tck", lambda: [_tractogram("tck")], (change_points, change_tck, change_tck, *BINARY),
    _read_tractogram("tck"), bad_streamlines,
)  # fmt: skip


def _probabilities() -> bytes:
    inside = a_bundle().astype(np.float16)
    made = io.BytesIO()
    np.savez_compressed(made, probabilities=np.stack([1 - inside, inside, 0 * inside]).transpose(0, 3, 2, 1))
    return made.getvalue()


DATASET = b'{"labels": {"background": 0, "AFleft": 1, "AFright": 2}, "file_ending": ".nii.gz"}'


def _nnunet(at: Path) -> None:
    (at / "dataset.json").write_bytes(DATASET)
    (at / "01.nii.gz").write_bytes(gzip.compress(nifti(a_bundle().astype("u1"))))
    (at / "01.npz").write_bytes(_probabilities())


def _read_nnunet(at: Path) -> list[Volume]:
    found = find_predictions(at)
    sources = [source for one in found.cases.values() for source in one.values()]
    if not sources:
        raise ShiftkitError("No bundle was understood.")
    return [one for source in sources for one in (source.read_mask(None), source.read_probability()) if one is not None]


def bad_predictions(found: list[Volume]) -> str:
    """Masks or probabilities that are none."""
    for one in found:
        fits = one.array.dtype == bool or (
            np.isfinite(one.array).all() and one.array.min() > -0.01 < one.array.max() < 1.01
        )
        if not fits:
            return "a probability is none"
    return "; ".join(filter(None, map(bad_volume, found)))


ENTRIES["nnU-Net, probabilities"] = Entry(
    300, "01.npz", lambda: [_probabilities()], (change_archive, change_archive, *BINARY), _read_nnunet, bad_predictions,
    _nnunet,
)  # fmt: skip
ENTRIES["nnU-Net, dataset.json"] = Entry(
    300, "dataset.json", lambda: [DATASET], JSON, _read_nnunet, bad_predictions, _nnunet
)  # fmt: skip


def _embeddings() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "e.npz"
        rows = pd.DataFrame([dict.fromkeys(COLUMNS, "a") | {"volume_ml": 1.0}])
        Embeddings(
            model="m", modality="fa", rows=rows[list(COLUMNS)], layers={"head": np.zeros((1, 4), np.float32)}
        ).save(path)
        return path.read_bytes()


ENTRIES["embeddings"] = Entry(
    200, "e.npz", lambda: [_embeddings()], (change_archive, change_archive, *BINARY),
    lambda at: Embeddings.load(at / "e.npz"),
    lambda found: "" if {len(one) for one in found.layers.values()} <= {len(found.rows)} else "rows and vectors differ",
)  # fmt: skip

# Diffusion series

BVALS, BVECS = b"0 " + b"1000 " * 20 + b"\n", None


def _bvecs() -> bytes:
    vectors = np.random.default_rng(2).normal(size=(3, 21))
    vectors = np.where(np.arange(21) > 0, vectors / np.linalg.norm(vectors, axis=0), 0)
    return "\n".join(" ".join(f"{x:.6f}" for x in row) for row in vectors).encode()


RAW = "sub-01/dwi/sub-01_dwi"


def _diffusion(at: Path) -> None:
    _cohort(at)
    series = np.random.default_rng(3).random((4, 4, 3, 21)).astype(np.float32) + 1
    (at / f"{RAW}.nii").write_bytes(nifti(series))
    (at / "sub-01/dwi/sub-01_desc-brain_mask.nii").write_bytes(nifti(np.ones((4, 4, 3), np.uint8)))
    (at / f"{RAW}.bval").write_bytes(BVALS)
    (at / f"{RAW}.bvec").write_bytes(_bvecs())


def _prepare(at: Path) -> Any:
    made = at / "sub-01/dwi/sub-01_param-fa_dwimap.nii.gz"
    made.unlink(missing_ok=True)
    found = prepare(load_cohort(at), maps=("fa",))
    return read_image(made) if not found.failed else None


def bad_anisotropy(volume: Volume | None) -> str:
    """FA out of its range."""
    return "" if volume is None or (volume.array.min() >= 0 and volume.array.max() <= 1) else "FA is out of range"


NUMERIC: tuple[Mutation, ...] = (recode, flip_bits, cut, shuffle_lines, noise)
ENTRIES["b-values"] = Entry(
    120, f"{RAW}.bval", lambda: [BVALS], NUMERIC, _prepare, bad_anisotropy, _diffusion
)  # fmt: skip
ENTRIES["gradient directions"] = Entry(
    120, f"{RAW}.bvec", lambda: [_bvecs()], NUMERIC, _prepare, bad_anisotropy, _diffusion
)  # fmt: skip

# Runs


def _report(at: Path) -> None:
    store(report([], title="t", verdict="v"), at)


def _of_report() -> list[bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        _report(Path(scratch))
        return [(Path(scratch) / "report.json").read_bytes()]


ENTRIES["report.json"] = Entry(
    300, "report.json", _of_report, JSON, restore,
    lambda found: "" if isinstance(found.title, str) else "a title is no text", _report,
)  # fmt: skip


def _run(at: Path) -> None:
    for name in ("a", "b"):
        (at / name / "tables").mkdir(parents=True)
        (at / name / "run.json").write_bytes(RECORD)
        (at / name / "tables" / "scores.tsv").write_bytes(score_table())
        (at / name / "tables" / "decomposition.tsv").write_bytes(components())


def components() -> bytes:
    """Two pooled rows of a decomposition."""
    row: dict[str, Any] = {"model": "m", "modality": "fa", "stratum": "all", "bundle": "all", "hemisphere": "all"}
    row |= {"metric": "dice", "method": "anchored", "component": "total", "estimate": 0.1, "low": 0.05, "high": 0.15}
    row |= {"bound_low": "n/a", "bound_high": "n/a", "level": 0.95, "p_value": 0.01, "p_adjusted": 0.01}
    row |= {"n_patients": 2, "n_controls": 2, "status": "ok", "word": "shown", "exploratory": "yes"}
    return pd.DataFrame([row, row | {"component": "tumor"}]).to_csv(sep="\t", index=False).encode()


RECORD = json.dumps(
    {"configuration": {"metric": "dice", "level": 0.95, "seed": 0}, "seeds": {"decompose": 0}, "verdict": "v"}
    | {"inputs": {"model": "a"}}
).encode()


def _compared(at: Path) -> Any:
    read_file(at / "a" / "run.json", VERBS)
    return compare(at / "a", at / "b", inference=Inference(n_bootstrap=100))


ENTRIES["run.json"] = Entry(
    200, "a/run.json", lambda: [RECORD], JSON, _compared, lambda found: "" if found.claim else "nothing is said", _run
)  # fmt: skip
ENTRIES["tables of a run"] = Entry(
    200, "a/tables/decomposition.tsv", lambda: [components()], TABLE, _compared,
    lambda found: "" if found.claim else "nothing is said", _run,
)  # fmt: skip


def _command(*words: str) -> Callable[[Path], str]:
    """The command line in this process: what it said, refused with `ShiftkitError` where it ended with a code."""

    def read(at: Path) -> str:
        import contextlib

        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = shiftkit([word.replace("AT", str(at)) for word in words])
        if "Internal error" in said.getvalue() or "Traceback" in said.getvalue():
            raise RuntimeError(said.getvalue().strip()[-300:])
        if code:
            raise ShiftkitError(said.getvalue())
        return said.getvalue()

    return read


def bad_words(said: str) -> str:
    """What would move a terminal's cursor."""
    return "control characters reach the terminal" if _controls(said) else ""


def _controls(text: str) -> bool:
    return any(not one.isprintable() and one not in "\n\u2028" for one in text)


ENTRIES["command line, score table"] = Entry(
    250, "s.tsv", lambda: [score_table()], TABLE,
    _command("decompose", "--scores", "AT/s.tsv", "--out", "AT/out", "--dry-run"), bad_words,
)  # fmt: skip
ENTRIES["command line, settings"] = Entry(
    150, "c.toml", lambda: [_toml()], TOML,
    _command("decompose", "--scores", "AT/s.tsv", "--out", "AT/out", "--dry-run", "--config", "AT/c.toml"), bad_words,
    _put("s.tsv", score_table),
)  # fmt: skip

# One input after another ----------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the inputs of one entry point."""

    counts: Counter[str] = field(default_factory=Counter[str])
    worst_s: float = 0.0
    worst_mib: float = 0.0
    faults: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])


def mutated(name: str, index: int, seed: int) -> bytes:
    """The input of this number; the first ones are the sound files themselves."""
    entry = ENTRIES[name]
    sound = _SOUND.setdefault(name, entry.sound())
    if index < len(sound):
        whole = sound[index]
        return gzip.compress(whole) if entry.mutations == [compressed] else whole
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), index])
    data = pick(rng, sound)
    for turn in range(1 if rng.random() < 0.85 else 2):
        if turn and len(data) > _LARGE:
            break
        try:
            data = pick(rng, entry.mutations)(rng, data)
        except Exception:  # of what the first mutation left, the second can make nothing
            data = flip_bits(rng, data)
    return data


_SOUND: dict[str, list[bytes]] = {}
_LARGE = 2**24
"""Bytes of what is not mutated again: as many strings and lists of it are more than the memory that is allowed."""


def judged(entry: Entry, at: Path) -> tuple[str, str]:
    """``accepted``, ``refused`` or ``fault``, with the words."""
    try:
        found = entry.read(at)
    except ShiftkitError as error:
        # What the machine lacked is no fault of the input, and must not be told as one.
        if any(isinstance(one, MemoryError) for one in _causes(error)):
            return "fault", f"ran out of {MOST_GIB:g} GiB of memory: {error}"
        text = str(error)
        if len(text) > 4000:
            return "fault", f"a message of {len(text)} characters: {text[:200]}"
        if isinstance(error, UnicodeError) or not _writable(text):
            return "fault", f"a message that cannot be written: {text[:200]!r}"
        return "refused", text
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"[:600]
    wrong = entry.nonsense(found)
    return ("fault", f"accepted: {wrong}") if wrong else ("accepted", "")


def _writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_input(name: str, index: int, seed: int, at: Path) -> tuple[str, str, float, float]:
    """Outcome, words, seconds and MiB of one input."""
    entry = ENTRIES[name]
    (at / entry.place).parent.mkdir(parents=True, exist_ok=True)
    (at / entry.place).write_bytes(mutated(name, index, seed))
    before, start = _resident_mib(), time.process_time()
    what, words = judged(entry, at)
    seconds = time.process_time() - start  # of this process: others share its cores
    mib = max(0.0, _peak_mib() - before)
    if seconds > MOST_S:
        what, words = "fault", f"took {seconds:.1f} s"
    if mib > 1024 * MOST_GIB:
        what, words = "fault", f"took {mib:.0f} MiB"
    return what, words, seconds, mib


def _resident_mib() -> float:
    """Memory of this process now, from where its peak is counted on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak_mib() -> float:
    return _status("VmHWM")


def _status(field_name: str) -> float:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field_name}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def _work(name: str, numbers: Sequence[int], seed: int, told: Connection) -> None:
    """In a process of its own: say when an input begins and what became of it."""
    limit = int((_status("VmSize") + 1024 * (MOST_GIB + 0.5)) * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        ENTRIES[name].prepare(Path(scratch))
        for index in numbers:
            told.send(("begins", index))
            told.send(("ended", (index, *one_input(name, index, seed, Path(scratch)))))
    told.send(("done", None))
    told.close()
    os._exit(0)


def examine(name: str, inputs: int, seed: int) -> Tally:
    """Read so many inputs of an entry point, in processes that are replaced where one hangs or dies."""
    tally, begin = Tally(), 0
    _SOUND[name] = ENTRIES[name].sound()
    with tempfile.TemporaryDirectory() as scratch:  # what is compiled or imported once is not counted
        ENTRIES[name].prepare(Path(scratch))
        one_input(name, 0, seed, Path(scratch))
    while begin < inputs:
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(name, range(begin, inputs), seed, there), daemon=True
        )
        process.start()
        there.close()
        running: int | None = None
        while True:
            try:
                # What is written and generated around a reading takes time too, and others share the cores.
                if not here.poll(_HANGS_S):
                    tally.faults.append((begin if running is None else running, f"hung for {_HANGS_S:g} s"))
                    break
                kind, content = here.recv()
            except (EOFError, OSError):
                tally.faults.append((begin if running is None else running, "the process died"))
                break
            if kind == "done":
                begin = inputs
                break
            if kind == "begins":
                running = content
                continue
            index, what, words, seconds, mib = content
            tally.counts[what] += 1
            tally.worst_s, tally.worst_mib = max(tally.worst_s, seconds), max(tally.worst_mib, mib)
            if what == "fault":
                tally.faults.append((index, words))
            begin = index + 1
        else:
            continue
        if begin < inputs:
            tally.counts["fault"] += 1
            begin = (begin if running is None else max(running, begin)) + 1
        process.kill()
        process.join()
    return tally


def show(name: str, index: int, seed: int) -> None:
    """One input in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        ENTRIES[name].prepare(Path(scratch))
        data = mutated(name, index, seed)
        print(f"{len(data)} bytes, {data[:300]!r} …")
        (Path(scratch) / ENTRIES[name].place).parent.mkdir(parents=True, exist_ok=True)
        (Path(scratch) / ENTRIES[name].place).write_bytes(data)
        found = ENTRIES[name].read(Path(scratch))
        print("accepted:", str(found)[:500], "| nonsense:", ENTRIES[name].nonsense(found) or "none")


def main() -> None:
    """Read all, write the table, fail on any fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of inputs")
    parser.add_argument("--only", default="", help="entry points whose name holds this; others keep their lines")
    parser.add_argument("--index", type=int, help="show this one input")
    options = parser.parse_args()
    names = [name for name in ENTRIES if options.only in name]
    if options.index is not None:
        show(names[0], options.index, options.seed)
        return
    lines: dict[str, str] = {}
    for name in names:
        tally = examine(name, max(3, int(ENTRIES[name].inputs * options.scale)), options.seed)
        n = tally.counts
        line = [name, n.total(), n["accepted"], n["refused"], f"{tally.worst_s:.2f}", f"{tally.worst_mib:.0f}"]
        lines[name] = f"| {' | '.join(map(str, line))} | {len(tally.faults)} |"
        print(lines[name], flush=True)
        for kind, several in _by_kind(tally.faults).items():
            print(f"    {len(several)} × {kind} (--index {several[0]})", flush=True)
    if options.scale >= 1:
        _write(Path(__file__).parent / "fuzz.md", lines, options.seed)
    inputs, _, _, faults = _totals(lines.values())
    print(f"{inputs} inputs, {faults} faults.")
    sys.exit(bool(faults))


def _write(path: Path, lines: Mapping[str, str], seed: int) -> None:
    """The table; entry points that were not read now keep the line they had."""
    before = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in before if line.startswith("| ")}
    table = [line for name in ENTRIES if (line := lines.get(name) or kept.get(name))]
    inputs, accepted, refused, faults = _totals(table)
    head = [
        "# Damaged and malicious files",
        "",
        f"`python benchmarks/fuzz.py`, seed {seed}: {inputs} inputs, {accepted} accepted and in range, {refused} "
        f"refused in a sentence, {faults} faults. A fault is an exception that is no sentence, over {MOST_S:g} s of "
        f"processor time, over {MOST_GIB:g} GiB, or nonsense that was accepted.",
        "",
        "| entry point | inputs | accepted | refused | worst time [s] | worst memory [MiB] | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    path.write_text("\n".join([*head, *table]) + "\n", encoding="utf-8")


def _totals(table: Iterable[str]) -> tuple[int, int, int, int]:
    """Inputs, accepted and refused ones, and faults, over lines of the table."""
    cells = [[int(line.split("|")[place]) for place in (2, 3, 4, 7)] for line in table]
    inputs, accepted, refused, faults = (sum(column) for column in zip(*cells, strict=True))
    return inputs, accepted, refused, faults


def _by_kind(faults: Sequence[tuple[int, str]]) -> dict[str, list[int]]:
    """Numbers of the inputs by what happened, digits aside."""
    found: dict[str, list[int]] = {}
    for index, words in faults:
        found.setdefault(re.sub(r"\d+", "#", re.sub(r"/tmp/\S+", "PATH", words))[:220], []).append(index)
    return dict(sorted(found.items(), key=lambda one: -len(one[1])))


if __name__ == "__main__":
    main()
