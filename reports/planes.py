"""Three planes through a bundle as SVG, with reference, prediction and tumor outlined."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Volume
from .contents import Convention

Points = NDArray[np.float64]


_LOOKS = {"tumor": ("#f0e442", "1.2 2.2"), "reference": ("#56b4e9", ""), "prediction": ("#ff8c3a", "5 2.5")}
"""Color and dash pattern of each outline, in the order of drawing: dotted yellow, solid blue, dashed orange."""

_PLANES = ((2, "axial"), (1, "coronal"), (0, "sagittal"))
_BAR_MM = 20.0
_MARGIN_MM, _BETWEEN_MM = 6.0, 4.0
_TEXT_MM = 9.0
"""Height of the line of text below a slice."""


@dataclass(frozen=True, kw_only=True)
class _Cut:
    """What the three slices of a picture share; lengths in mm."""

    anatomy: Volume
    masks: dict[str, Volume]
    center: Points
    box: Points
    step: float
    black: float
    white: float
    convention: Convention


def three_planes(
    image: Volume,
    reference: Volume,
    prediction: Volume,
    tumor: Volume | None = None,
    *,
    convention: Convention = "radiological",
) -> str:
    """Draw the axial, coronal and sagittal slices in which the reference is largest.

    Parameters
    ----------
    image : Volume, shape (X, Y, Z) or (X, Y, Z, C)
        Any voxel order, oblique grids included: slices are cut along world axes. Of several channels the
        first is shown.
    reference, prediction, tumor : Volume
        Masks, boolean or between 0 and 1, each on a grid of its own if need be.
    convention : {"radiological", "neurological"}
        Radiological: the participant's right is on the viewer's left.

    Returns
    -------
    str
        A complete SVG file, one unit a millimeter, with the anatomy as gray-scale PNG inside, letters for the
        sides and a scale bar. It names no participant.

    Examples
    --------
    >>> import numpy as np
    >>> blob = np.zeros((20, 20, 20)); blob[4:8, 8:12, 8:12] = 1
    >>> volume = Volume(array=blob, affine=np.diag([2.0, 2, 2, 1]))
    >>> svg = three_planes(volume, volume, volume)
    >>> svg.startswith("<svg"), "axial" in svg
    (True, True)
    """
    given = {"reference": reference, "prediction": prediction} | ({} if tumor is None else {"tumor": tumor})
    masks = {name: one.with_array(one.array.astype(np.float32, copy=False)) for name, one in given.items()}
    anatomy = one_channel(image)
    box = worth_showing(anatomy, list(masks.values()))
    # The image's own resolution keeps pages small; browsers smooth it. Coarse images need smoother outlines.
    step = float(np.clip(min(anatomy.spacing_mm), 1.0, 2.0))
    center = center_of(reference, prediction, tumor, box)
    black, white = window(anatomy)
    shades = {"black": black, "white": white}
    cut = _Cut(anatomy=anatomy, masks=masks, center=center, box=box, step=step, convention=convention, **shades)
    height = max(float(box[1, 2] - box[0, 2]), float(box[1, 1] - box[0, 1])) + _TEXT_MM
    panels: list[str] = []
    offset = 0.0
    for axis, name in _PLANES:
        panel, width, rows = _panel(cut, axis, name)
        panels.append(f'<g transform="translate({offset:.1f} {height - _TEXT_MM - rows:.1f})">{panel}</g>')
        offset += width + _BETWEEN_MM
    width = offset - _BETWEEN_MM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.1f} {height:.1f}" '
        f'width="{width * 2:.0f}" height="{height * 2:.0f}" font-family="Arial, Helvetica, sans-serif" font-size="7">'
        f'<rect width="100%" height="100%" fill="#000"/>{"".join(panels)}</svg>'
    )


def one_channel(image: Volume) -> Volume:
    """An image's first channel, single precision, with 0 for what is not finite."""
    anatomy = image if image.array.ndim == 3 else image.with_array(image.array[..., 0])
    if anatomy.array.dtype == np.float32 and np.isfinite(anatomy.array).all():
        return anatomy
    return anatomy.with_array(np.nan_to_num(anatomy.array.astype(np.float32)))


def worth_showing(anatomy: Volume, masks: list[Volume]) -> Points:
    """The part of the world worth showing, shape (2, 3), mm: where the image is not background, and all masks."""
    # A twentieth of the brightest voxel is above the noise of air and below all tissue.
    inside = anatomy.array > 0.05 * max(float(anatomy.array.max()), 1e-6)
    cloud = np.concatenate([_corners(anatomy, inside)] + [_corners(mask, mask.array > 0.5) for mask in masks])
    if not len(cloud):
        cloud = _corners(anatomy, np.ones(anatomy.shape, dtype=bool))
    return np.stack([cloud.min(axis=0) - _MARGIN_MM, cloud.max(axis=0) + _MARGIN_MM])


def _corners(volume: Volume, inside: NDArray[np.bool_]) -> Points:
    """World coordinates of the corners of the box around a mask, shape (8, 3), or (0, 3) for an empty one."""
    if not inside.any():
        return np.empty((0, 3))
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    return volume.world(np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3))


def center_of(reference: Volume, prediction: Volume, tumor: Volume | None, box: Points) -> Points:
    """Where to cut: along each axis, the place where the reference is largest.

    The reference alone decides, so that the same slices are shown for every prediction; the prediction or the
    tumor stand in for a reference that is empty.
    """
    full = [mask for mask in (reference, prediction, tumor) if mask is not None and (mask.array > 0.5).any()]
    if not full:
        return box.mean(axis=0)
    cloud = full[0].world(np.argwhere(full[0].array > 0.5))
    # Grids may be oblique: slabs as thick as a voxel stand for slices.
    slabs = np.round(cloud / max(full[0].spacing_mm))
    center = np.empty(3)
    for axis in range(3):
        values, counts = np.unique(slabs[:, axis], return_counts=True)
        center[axis] = np.median(cloud[slabs[:, axis] == values[counts.argmax()], axis])
    return center


def window(anatomy: Volume) -> tuple[float, float]:
    """Black and white of the picture: background and the 99.5th percentile of what is not background."""
    values = anatomy.array[anatomy.array > 0]
    return (0.0, float(np.percentile(values, 99.5))) if values.size else (0.0, 1.0)


def _slice(cut: _Cut, axis: int) -> tuple[Points, float, float]:
    """World points of a slice, shape (rows, columns, 3), with its width and height in mm.

    Rows run from superior to inferior, or anterior to posterior; columns run from the participant's right to
    left in radiological convention, and from anterior to posterior in the sagittal slice.
    """
    across, up = [(1, 2), (0, 2), (0, 1)][axis]
    columns = np.arange(cut.box[0, across] + cut.step / 2, cut.box[1, across], cut.step)
    rows = np.arange(cut.box[1, up] - cut.step / 2, cut.box[0, up], -cut.step)
    # World x grows to the participant's right and y to the front; what stands on the viewer's left has the
    # largest coordinate.
    if axis == 0 or cut.convention == "radiological":
        columns = columns[::-1]
    points = np.empty((len(rows), len(columns), 3))
    points[..., axis] = cut.center[axis]
    points[..., across] = columns[None, :]
    points[..., up] = rows[:, None]
    return points, len(columns) * cut.step, len(rows) * cut.step


def _sample(volume: Volume, points: Points) -> NDArray[np.float64]:
    """Linear interpolation of an image at world points; 0 outside it."""
    where = np.moveaxis(volume.voxels(points), -1, 0)
    return ndimage.map_coordinates(volume.array, where, order=1, mode="constant", cval=0.0)


def _panel(cut: _Cut, axis: int, plane: str) -> tuple[str, float, float]:
    """One slice with its outlines and letters, and its width and height."""
    points, width, height = _slice(cut, axis)
    shades = (_sample(cut.anatomy, points) - cut.black) / max(cut.white - cut.black, 1e-9)
    letters = ("A", "P") if axis == 0 else ("R", "L") if cut.convention == "radiological" else ("L", "R")
    title = f"{plane}, {'xyz'[axis]} = {round(cut.center[axis])} mm"
    parts = [
        f'<image width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{_png(shades)}"/>',
        *(_edge(name, cut.masks[name], points, cut.step) for name in _LOOKS if name in cut.masks),
        f'<g fill="#fff" stroke="#000" stroke-width="1.6" paint-order="stroke">'
        f'<text x="2" y="{height / 2:.1f}">{letters[0]}</text>'
        f'<text x="{width - 2:.1f}" y="{height / 2:.1f}" text-anchor="end">{letters[1]}</text>'
        f'<text x="2" y="{height + 7:.1f}" font-size="6">{title}</text></g>',
    ]
    if axis == 0:
        parts.append(
            f'<path d="M{width - 2 - _BAR_MM:.1f} {height + 5.5:.1f}h{_BAR_MM:.0f}" stroke="#fff" stroke-width="1"/>'
            f'<text x="{width - 4 - _BAR_MM:.1f}" y="{height + 7:.1f}" font-size="6" fill="#fff" '
            f'text-anchor="end">{_BAR_MM:.0f} mm</text>'
        )
    return "".join(parts), width, height


def _png(values: NDArray[Any]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _edge(name: str, mask: Volume, points: Points, step: float) -> str:
    """The edge of a mask in a slice, where its interpolated value crosses one half."""
    import contourpy

    # A rim of zeros closes outlines that reach the edge of the picture.
    values = np.pad(_sample(mask, points), 1)
    drawn = "".join(
        # The first sample lies half a step inside the picture, and the rim one sample before it.
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (np.asarray(line) - 0.5) * step)
        for line in contourpy.contour_generator(z=values).lines(0.5)
    )
    if not drawn:
        return ""
    color, pattern = _LOOKS[name]
    dash = f' stroke-dasharray="{pattern}"' if pattern else ""
    # A dark line under the colored one sets it off from bright tissue.
    return (
        f'<path d="{drawn}" fill="none" stroke="#000" stroke-opacity=".55" stroke-width="1.9"/>'
        f'<path d="{drawn}" fill="none" stroke="{color}" stroke-width="1.1"{dash}><title>{name}</title></path>'
    )
