"""Surfaces of bundles, tumor and head, small enough for a page, and a still picture of them."""

import base64
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from ..geometry import resample
from ..types import Volume

Points = NDArray[np.float64]
EDGE_MM, HEAD_EDGE_MM = 3.0, 6.0
"""Edges of the grids that surfaces are drawn on: of masks, and of the head around them."""
FAR_MM = 10.0
"""Distance from the reference at which the color of a prediction ends."""
COLORS = {
    "reference": (86, 180, 233), "prediction": (255, 140, 58), "after": (204, 121, 167), "tumor": (240, 228, 66),
    "head": (150, 160, 170),
}  # fmt: skip
VIEW = (-0.75, 0.25)
"""Where one looks from at first: turned about the vertical axis and tilted, radians."""

_HALF = 0.5
_CORNERS = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Triangles in the world, outward counterclockwise.

    Parameters
    ----------
    points : ndarray, shape (N, 3)
        World RAS+, mm.
    triangles : ndarray of int, shape (M, 3)
        Indices into the points.
    shade : ndarray, shape (N,), optional
        Distance to another surface, mm.
    """

    points: Points
    triangles: NDArray[np.int64]
    shade: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that is shown of one participant: parts as JSON with packed triangles, and the still as PNG.

    ``size`` counts the characters that it takes on a page; ``labels`` are the bundles, in order.
    """

    content: str
    still: str
    labels: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def size(self) -> int:
        """Characters that it takes on a page."""
        return len(self.content) + len(self.still)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A surface with what it is: one of `COLORS`, and the bundle's name where it has one."""

    kind: str
    surface: Surface
    label: str = ""


def surface(mask: Volume, edge_mm: float = EDGE_MM) -> Surface:
    """The surface of a mask on a coarser grid along world axes: surface nets, whose points lie amid their crossings.

    Parameters
    ----------
    mask : Volume, shape (X, Y, Z)
        Boolean or between 0 and 1, in any orientation; its surface lies at one half.
    edge_mm : float
        Edge of the grid's voxels; the coarser, the fewer triangles.

    Returns
    -------
    Surface
        Closed; without points where the mask is empty.

    References
    ----------
    Gibson SFF. MICCAI (1998), doi 10.1007/BFb0056277.

    Examples
    --------
    >>> ball = np.linalg.norm(np.indices((20, 20, 20)) - 9.5, axis=0) < 6
    >>> found = surface(Volume(array=ball, affine=np.eye(4)), 1.0)
    >>> bool(abs(np.linalg.norm(found.points - 9.5, axis=1).mean() - 6) < 0.5), len(found.triangles) > 500
    (True, True)
    """
    filled = np.argwhere(mask.array > _HALF)
    if not len(filled):
        return Surface(points=np.empty((0, 3)), triangles=np.empty((0, 3), dtype=np.int64))
    first, last = filled.min(axis=0), filled.max(axis=0)
    corners = mask.world(first + _CORNERS * (last - first))
    low, high = corners.min(axis=0) - 3 * edge_mm, corners.max(axis=0) + 3 * edge_mm
    affine = np.diag([edge_mm, edge_mm, edge_mm, 1.0])
    affine[:3, 3] = low
    x, y, z = (np.ceil((high - low) / edge_mm).astype(int) + 1).tolist()
    # As wide as the new voxels: steps of the old grid vanish and thin bundles stay whole.
    sigma = [0.6 * edge_mm / one for one in mask.spacing_mm]
    reach = np.ceil(np.multiply(4, sigma)).astype(int) + 1
    start, stop = np.maximum(first - reach, 0), last + reach + 1
    near = mask.array[tuple(slice(one, end) for one, end in zip(start, stop, strict=True))].astype(np.float32)
    moved = mask.affine.copy()
    moved[:3, 3] = mask.world(start[None])[0]
    smooth = Volume(array=ndimage.gaussian_filter(near, sigma, mode="constant"), affine=moved)
    coarse = resample(smooth, affine, (x, y, z)).array
    # What small and thin masks lose by smoothing, the level gives back: as many voxels lie above it as the mask fills.
    n = len(filled) * float(np.abs(np.linalg.det(mask.affine[:3, :3]))) / edge_mm**3
    ranked = np.sort(coarse, axis=None)[::-1]
    level = float(np.clip(ranked[min(int(n), ranked.size - 1)], 0.1 * ranked[0], _HALF))
    points, triangles = _nets(np.pad(coarse, 1), level)
    return Surface(points=(points - 1) * edge_mm + low, triangles=triangles)


def _nets(values: NDArray[np.float32], level: float) -> tuple[Points, NDArray[np.int64]]:
    inside = values >= level
    last = tuple(n - 1 for n in values.shape)
    cubes = np.stack([inside[i : i + last[0], j : j + last[1], k : k + last[2]] for i, j, k in _CORNERS])
    active = cubes.any(axis=0) & ~cubes.all(axis=0)
    cells = np.argwhere(active)
    at = values[tuple((cells[:, None] + _CORNERS).transpose(2, 0, 1))].astype(np.float64)
    total, count = np.zeros((len(cells), 3)), np.zeros(len(cells))
    for a, b in _EDGES:
        crossed = (at[:, a] >= level) != (at[:, b] >= level)
        part = (level - at[crossed, a]) / (at[crossed, b] - at[crossed, a])
        total[crossed] += _CORNERS[a] + part[:, None] * (_CORNERS[b] - _CORNERS[a])
        count[crossed] += 1
    number = np.full(active.shape, -1)
    number[active] = np.arange(len(cells))
    triangles: list[NDArray[np.int64]] = []
    for axis in range(3):
        u, v = np.eye(3, dtype=np.int64)[(axis + 1) % 3], np.eye(3, dtype=np.int64)[(axis + 2) % 3]
        changed = np.argwhere(np.diff(inside, axis=axis))
        outward = inside[tuple(changed.T)]
        # The four cells around an edge; the rim of zeros keeps them inside the grid.
        around = np.stack([number[tuple((changed - step).T)] for step in (0 * u, u, u + v, v)], axis=1)
        around = np.where(outward[:, None], around, around[:, ::-1])
        triangles += [around[:, [0, 1, 2]], around[:, [0, 2, 3]]]
    return cells + total / count[:, None], np.concatenate(triangles)


def head_of(image: Volume) -> Volume:
    """What is not background in an image, holes filled."""
    inside = image.array > 0.05 * max(float(image.array.max()), 1e-6)
    return image.with_array(np.asarray(ndimage.binary_fill_holes(inside)))


def scene_of(image: Volume, layers: Mapping[str, Mapping[str, Volume]]) -> Scene | None:
    """The surfaces of one participant's bundles, by label and layer, in the head; None where nothing has a surface.

    Predictions carry how far each of their points lies from the reference.
    """
    shown: list[Shown] = []
    for label, masks in layers.items():
        own = {kind: surface(mask) for kind, mask in masks.items() if kind != "tumor"}
        for kind, found in own.items():
            if len(found.points):
                shown.append(Shown(kind=kind, label=label, surface=_shaded(found, own.get("reference"))))
    tumor = next((masks["tumor"] for masks in layers.values() if "tumor" in masks), None)
    if tumor is not None and len((found := surface(tumor)).points):
        shown.append(Shown(kind="tumor", surface=found))
    if not shown:
        return None
    shown.append(Shown(kind="head", surface=surface(head_of(image), HEAD_EDGE_MM)))
    return Scene(
        content=_packed(shown),
        still=_still(shown),
        labels=tuple(layers),
        kinds=tuple(kind for kind in COLORS if any(one.kind == kind for one in shown)),
    )


def _shaded(found: Surface, reference: Surface | None) -> Surface:
    if reference is None or found is reference or not len(reference.points):
        return found
    away = KDTree(reference.points).query(found.points)[0]
    return Surface(points=found.points, triangles=found.triangles, shade=away)


def _packed(shown: list[Shown]) -> str:
    every = np.concatenate([one.surface.points for one in shown])
    low, span = every.min(axis=0), float(np.ptp(every, axis=0).max())
    parts: list[dict[str, object]] = []
    data = b""
    for one in shown:
        points = np.round((one.surface.points - low) / span * 65535).astype("<u2")
        wide = "<u4" if len(points) > 65535 else "<u2"
        shade = one.surface.shade
        near = b"" if shade is None else np.round(np.clip(shade / FAR_MM, 0, 1) * 255).astype("u1").tobytes()
        parts.append(
            {"kind": one.kind, "label": one.label, "points": len(points), "triangles": len(one.surface.triangles),
             "wide": wide == "<u4", "shaded": shade is not None}
        )  # fmt: skip
        data += points.tobytes() + one.surface.triangles.astype(wide).tobytes() + near
        data += b"\0" * (-len(data) % 4)
    # Without a time stamp the same surfaces give the same bytes.
    packed = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
    content = {"low": low.tolist(), "span": span, "view": VIEW, "colors": COLORS, "parts": parts, "data": packed}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def turned(view: tuple[float, float]) -> Points:
    """Rows: what points right, up and toward the viewer, in the world; at (0, 0) one looks from the front.

    Examples
    --------
    >>> (turned((0.0, 0.0)) + 0.0).tolist()  # the participant's right is on the viewer's left
    [[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    around, tilt = view
    toward = np.array([np.sin(around) * np.cos(tilt), np.cos(around) * np.cos(tilt), np.sin(tilt)])
    right = np.array([-np.cos(around), np.sin(around), 0.0])
    return np.stack([right, np.cross(toward, right), toward])


def _still(shown: list[Shown], width: int = 720, height: int = 480) -> str:
    """The scene as PNG in base64, from back to front; predictions, which would hide references, are left out."""
    from PIL import Image, ImageDraw

    # Twice as large and then halved: smooth edges.
    paper = Image.new("RGB", (2 * width, 2 * height), (11, 14, 18))
    draw = ImageDraw.Draw(paper, "RGBA")
    axes = turned(VIEW)
    every = np.concatenate([one.surface.points for one in shown])
    middle = (every.min(axis=0) + every.max(axis=0)) / 2
    seen = (every - middle) @ axes.T
    scale = 0.94 * min(width / np.abs(seen[:, 0]).max(), height / np.abs(seen[:, 1]).max())
    depths: list[NDArray[np.float64]] = []
    corners: list[NDArray[np.float64]] = []
    inks: list[NDArray[np.int64]] = []
    for one in shown:
        if one.kind in ("prediction", "after"):
            continue
        at = ((one.surface.points - middle) @ axes.T)[one.surface.triangles]
        normal = np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0])
        facing = normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
        at, facing = at[facing > 0], facing[facing > 0]
        glass = one.kind == "head"
        light = np.ones_like(facing) if glass else 0.35 + 0.65 * facing
        alpha = 14 + 110 * (1 - facing) ** 3 if glass else np.full_like(facing, 255.0)
        inks.append(np.column_stack([light[:, None] * np.array(COLORS[one.kind]), alpha]).round().astype(np.int64))
        # The glass lies over all.
        depths.append(at[..., 2].mean(axis=1) + (1e6 if glass else 0.0))
        corners.append(np.stack([width + scale * at[..., 0], height - scale * at[..., 1]], axis=-1).reshape(-1, 6))
    order = np.argsort(np.concatenate(depths), kind="stable")
    drawn = zip(np.concatenate(corners)[order].tolist(), np.concatenate(inks)[order].tolist(), strict=True)
    for corner, ink in drawn:
        draw.polygon(corner, fill=tuple(ink))
    buffer = io.BytesIO()
    paper.resize((width, height)).quantize(96).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
