"""Streamlines to masks: every voxel that a streamline passes through, not only those that hold a point."""

import gzip
import json
import re
import struct
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..files import require_file
from ..types import Volume
from ..words import readable

_FARTHEST_MM = 5000.0
_MOST_VOXELS = 2**28
"""Of a grid that a header names: three times a brain at 0.5 mm with what is around it."""
_MOST_POINTS = 2**26
"""Of a tractogram: of half a million streamlines of 134 points."""
_DEFLATED = 1032
"""Deflate shrinks to a thousandth at most, so compressed data hold no more than this times their size."""


def read_streamlines(
    path: Path, legacy_affine: NDArray[np.float64] | None = None, group: str | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read a tractogram: points in world RAS+ mm, shape (N, 3), and how many each streamline has.

    ``.trk``, ``.tck`` or ``.trx``. ``legacy_affine``, shape (4, 4), is that of the grid for ``.trk`` headers of version
    1, which have none; ``group`` is one of `read_groups`, without which all streamlines are read.

    Raises
    ------
    DataError
        If the file is missing, empty, truncated, no tractogram, or larger than it can be.
    """
    from nibabel.streamlines.header import Field
    from nibabel.streamlines.trk import get_affine_rasmm_to_trackvis, get_affine_trackvis_to_rasmm

    if path.suffix == ".trx":
        points, lengths = _read_trx(path, group)
        header: Any = {}
    else:
        loaded = _load(path)
        streamlines, header = loaded.tractogram.streamlines, loaded.header
        points = np.asarray(streamlines.get_data(), dtype=np.float64).reshape(-1, 3)
        lengths = np.array([len(one) for one in streamlines], dtype=np.int64)
    if not np.isfinite(points).all():
        raise DataError(f"{path} must hold finite coordinates; some are not. Make it again from its source.")
    # The way between two points is walked voxel by voxel, and a damaged coordinate can lie light years away.
    if len(points) and np.abs(points).max() > _FARTHEST_MM:
        raise DataError(
            f"{path} must hold points in mm that lie in a head; the farthest is {np.abs(points).max():.3g} mm from the "
            "origin. Make it again from its source."
        )
    if legacy_affine is not None and path.suffix == ".trk" and _lacks_affine(header):
        # Version 1 headers have no affine, so nibabel guessed one: undo that, and use the right one.
        guessed = get_affine_rasmm_to_trackvis(header)
        correct = get_affine_trackvis_to_rasmm({**header, Field.VOXEL_TO_RASMM: legacy_affine}) @ guessed
        points = points @ correct[:3, :3].T + correct[:3, 3]
    return points, lengths


_TRX_POSITIONS = re.compile(r"positions\.3\.(float16|float32|float64)")
_TRX_OFFSETS = re.compile(r"offsets\.(u?int32|u?int64)")
_TRX_GROUP = re.compile(r"groups/([^/]+)\.(u?int8|u?int16|u?int32|u?int64)")


def read_groups(path: Path) -> list[str]:
    """Names of the groups of streamlines in a ``.trx``, sorted; see `read_streamlines` for errors."""
    with _trx(path) as archive:
        return sorted(found[1] for found in map(_TRX_GROUP.fullmatch, archive.namelist()) if found is not None)


def _read_trx(path: Path, group: str | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points and lengths; read here, as the format is a ZIP of raw arrays and its library unpacks it to the disk."""
    with _trx(path) as archive:
        points = _trx_array(archive, _TRX_POSITIONS, path).reshape(-1, 3).astype(np.float64)
        n_streamlines = int(json.loads(archive.read("header.json"))["NB_STREAMLINES"])
        # Newer files end with the number of points, others with the start of the last streamline.
        starts = _trx_array(archive, _TRX_OFFSETS, path).astype(np.int64)[:n_streamlines]
        lengths = np.diff(starts, append=len(points))
        if len(starts) != n_streamlines or (lengths < 0).any() or (n_streamlines and starts[0] != 0):
            raise ValueError("its offsets do not fit its points")
        if group is None:
            return points, lengths
        wanted = re.compile(rf"groups/{re.escape(group)}\.(u?int8|u?int16|u?int32|u?int64)")
        chosen = _trx_array(archive, wanted, path).astype(np.int64)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= n_streamlines):
            raise ValueError(f"its group {group} names streamlines that it has not")
    kept = [points[starts[i] : starts[i] + lengths[i]] for i in chosen]
    return np.concatenate(kept) if kept else points[:0], lengths[chosen]


@contextmanager
def _trx(path: Path) -> Generator[zipfile.ZipFile]:
    require_file(path, "tractogram")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except DataError:
        raise
    except Exception as error:  # as with other tractograms
        raise DataError(_damaged(path, error)) from error


def _trx_array(archive: zipfile.ZipFile, name: re.Pattern[str], path: Path) -> NDArray[Any]:
    found = [match for match in map(name.fullmatch, archive.namelist()) if match is not None]
    if len(found) != 1:
        raise ValueError(f"it must hold one {name.pattern}")
    if archive.getinfo(found[0][0]).file_size > 24 * _MOST_POINTS:
        raise DataError(_too_many(path))
    return np.frombuffer(archive.read(found[0][0]), dtype=np.dtype(found[0][found[0].lastindex or 1]).newbyteorder("<"))


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"{path} must be a readable tractogram; it is damaged or of another kind "
        f"({type(error).__name__}: {readable(str(error))[:200]}). Copy it again from its source."
    )


def _lacks_affine(header: Any) -> bool:
    return int(np.asarray(header.get("version", 2))) < 2


def header_grid(path: Path) -> tuple[NDArray[np.float64], tuple[int, int, int]] | None:
    """Affine and shape of the grid a header names; None where it names none, or one voxel as a placeholder."""
    if path.suffix == ".trx":
        with _trx(path) as archive:
            header = json.loads(archive.read("header.json"))
            shape = [int(n) for n in header["DIMENSIONS"]]
            affine = np.asarray(header["VOXEL_TO_RASMM"], dtype=float).reshape(4, 4)
    elif path.suffix == ".trk":
        header = _load(path, lazy=True).header
        shape = [int(n) for n in header["dimensions"]]
        affine = np.asarray(header["voxel_to_rasmm"], dtype=float)
    else:
        return None
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    sane = (
        np.isfinite(affine).all()
        and (affine[3] == (0, 0, 0, 1)).all()
        and edges.min() >= 0.05
        and edges.max() <= 50
        and np.abs(affine).max() <= _FARTHEST_MM
    )
    if not sane or abs(np.linalg.det(affine[:3, :3])) < 1e-9 or _lacks_affine(header):
        return None
    if min(shape) < 2 or np.prod(shape, dtype=float) > _MOST_VOXELS:
        return None
    return affine, (shape[0], shape[1], shape[2])


def is_legacy(path: Path) -> bool:
    """Whether a tractogram is a ``.trk`` of version 1, which has no affine."""
    return path.suffix == ".trk" and _lacks_affine(_load(path, lazy=True).header)


def _load(path: Path, *, lazy: bool = False) -> Any:
    import warnings

    import nibabel as nib

    require_file(path, "tractogram")
    try:
        _require_sane_lengths(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers without an affine, which are known and dealt with
            return nib.streamlines.load(path, lazy_load=lazy)
    except DataError:
        raise
    except Exception as error:  # damaged files raise a dozen kinds, and nibabel's own share no other base
        raise DataError(_damaged(path, error)) from error


def _require_sane_lengths(path: Path) -> None:
    """Refuse a file whose numbers of points lie: its reader would ask the system for so much memory."""
    size = path.stat().st_size
    if not path.name.endswith((".trk", ".trk.gz")):
        if size > 12 * _MOST_POINTS:
            raise DataError(_too_many(path))
        return
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rb") as stream:
        head = stream.read(1000)
        if len(head) < 1000:
            raise ValueError("its header is cut short")
        order = "<" if struct.unpack("<i", head[996:1000])[0] == 1000 else ">"
        n_scalars, n_properties = (
            struct.unpack(f"{order}h", head[36:38])[0],
            struct.unpack(f"{order}h", head[238:240])[0],
        )
        if min(n_scalars, n_properties) < 0:
            raise ValueError("its header counts less than nothing")
        most, points, streamlines = size * (_DEFLATED if opened is gzip.open else 1), 0, 0
        while len(count := stream.read(4)) == 4:
            length = struct.unpack(f"{order}i", count)[0]
            block = 4 * (length * (3 + n_scalars) + n_properties)
            if length < 0 or block > most:
                raise ValueError(f"a streamline claims {length} points, more than the file can hold")
            points, streamlines = points + length, streamlines + 1
            if points * (3 + n_scalars) / 3 + streamlines > _MOST_POINTS:
                raise DataError(_too_many(path))
            stream.seek(block, 1)


def _too_many(path: Path) -> str:
    return f"A tractogram has at most {_MOST_POINTS / 1e6:.0f} million points; {path} has more. Take fewer streamlines."


def streamline_mask(
    points: NDArray[Any],
    lengths: NDArray[Any],
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    least: int = 1,
) -> Volume:
    """Mark every voxel of a grid that so many streamlines pass through; see `read_streamlines` for the points.

    The grid is traversed from face to face (Amanatides & Woo, Eurographics 1987,
    doi 10.2312/egtp.19871000), so no voxel is skipped however far points lie apart. Parts outside the grid
    are left out.

    Examples
    --------
    >>> line = np.array([[0.0, 0, 0], [3, 0, 0]])
    >>> streamline_mask(line, np.array([2]), np.eye(4), (5, 1, 1)).array.ravel().tolist()
    [True, True, True, True, False]
    """
    grid = Volume(array=np.zeros(shape, dtype=np.int32), affine=affine)
    voxels = np.ascontiguousarray(grid.voxels(points) + 0.5)  # voxel i covers [i, i + 1)
    _traverse(voxels, np.asarray(lengths, dtype=np.int64), grid.array, np.full(shape, -1, dtype=np.int32))
    return grid.with_array(grid.array >= least)


@numba.njit(cache=True)
def _traverse(
    points: NDArray[Any], lengths: NDArray[Any], counts: NDArray[Any], last: NDArray[Any]
) -> None:  # pragma: no cover - compiled
    start = 0
    for n in range(len(lengths)):
        for i in range(start, start + lengths[n]):
            _mark(points[i], points[min(i + 1, start + lengths[n] - 1)], counts, last, n)
        start += lengths[n]


@numba.njit(cache=True)
def _mark(
    begin: NDArray[Any], end: NDArray[Any], counts: NDArray[Any], seen: NDArray[Any], streamline: int
) -> None:  # pragma: no cover - compiled
    voxel = np.empty(3, dtype=np.int64)
    last = np.empty(3, dtype=np.int64)
    step = np.zeros(3, dtype=np.int64)
    # Where on the segment, from 0 to 1, each axis meets its next face, and how far apart its faces are.
    to_next = np.full(3, np.inf)
    per_voxel = np.full(3, np.inf)
    steps = 0
    for a in range(3):
        voxel[a] = int(np.floor(begin[a]))
        last[a] = int(np.floor(end[a]))
        steps += abs(last[a] - voxel[a])
        length = end[a] - begin[a]
        if length > 0:
            step[a] = 1
            to_next[a] = (voxel[a] + 1 - begin[a]) / length
            per_voxel[a] = 1 / length
        elif length < 0:
            step[a] = -1
            to_next[a] = (voxel[a] - begin[a]) / length
            per_voxel[a] = -1 / length
    # Each step crosses one face, so how many there are is known, and the loop ends whatever rounding does.
    for n in range(steps + 1):
        inside = 0 <= voxel[0] < counts.shape[0] and 0 <= voxel[1] < counts.shape[1] and 0 <= voxel[2] < counts.shape[2]
        # A streamline that comes back to a voxel is counted there once.
        if inside and seen[voxel[0], voxel[1], voxel[2]] != streamline:
            seen[voxel[0], voxel[1], voxel[2]] = streamline
            counts[voxel[0], voxel[1], voxel[2]] += 1
        if n == steps:
            return
        nearest = -1
        for a in range(3):  # an axis that has arrived takes no further step, so rounding cannot overshoot
            if voxel[a] != last[a] and (nearest < 0 or to_next[a] < to_next[nearest]):
                nearest = a
        voxel[nearest] += step[nearest]
        to_next[nearest] += per_voxel[nearest]
