"""Pictures of cases: three planes through the bundle, with reference, prediction and tumor outlined."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..images import read_image, read_mask
from ..types import Bundle, Volume

Convention = Literal["radiological", "neurological"]


@dataclass(frozen=True, kw_only=True)
class CasePicture:
    """One participant and bundle to show.

    Parameters
    ----------
    participant_id : str
        With its prefix.
    bundle : Bundle
        The bundle.
    score : float
        How well prediction and reference agree; NaN where ``status`` says why.
    distance_mm : float
        Edge-to-edge distance from the tumor to the reference mask; NaN without a tumor.
    image : Path
        A scalar image to look at, in any orientation.
    reference, prediction : Path
        Masks.
    tumor : Path or None
        The tumor mask.
    model : str
        The model that made the prediction.
    status : str
        One of `shiftkit.status.Status`.
    after : Path or None
        The prediction after fine-tuning.
    score_after : float
        Its score.
    facts : mapping of str to str
        More about the case, such as the tumor's volume, shown beside the picture.
    measure, unit : str
        What the score is called, and its unit; empty for a share.
    higher_is_better : bool
        Whether the worst case has the lowest score.

    Examples
    --------
    >>> from pathlib import Path
    >>> files = {name: Path(f"{name}.nii.gz") for name in ("image", "reference", "prediction")}
    >>> who = {"participant_id": "sub-01", "bundle": Bundle(name="AF", hemisphere="left"), "distance_mm": 4.0}
    >>> CasePicture(**who, **files, score=0.714).spoken, CasePicture(**who, **files, score=float("nan")).spoken
    ('Dice 0.71', 'no Dice')
    >>> CasePicture(**who, **files, score=3.14, measure="HD95", unit="mm", higher_is_better=False).spoken
    'HD95 3.1 mm'
    """

    participant_id: str
    bundle: Bundle
    score: float
    distance_mm: float
    image: Path
    reference: Path
    prediction: Path
    tumor: Path | None = None
    model: str = ""
    status: str = "ok"
    after: Path | None = None
    score_after: float = float("nan")
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    measure: str = "Dice"
    unit: str = ""
    higher_is_better: bool = True

    @property
    def spoken(self) -> str:
        """The score with its name."""
        return f"{self.measure} {self.number(self.score)}" if np.isfinite(self.score) else f"no {self.measure}"

    def number(self, score: float) -> str:
        """A score with its unit."""
        return f"{score:.1f} {self.unit}" if self.unit else f"{score:.2f}"

    @property
    def title(self) -> str:
        """What a column of scores is called."""
        return f"{self.measure} ({self.unit})" if self.unit else self.measure

    @property
    def rank(self) -> tuple[bool, float, str]:
        """Sorts the worst first, and cases without a score last."""
        return np.isnan(self.score), self.score if self.higher_is_better else -self.score, self.participant_id


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A mask and how its edge is drawn; color and line style both tell it apart."""

    name: str
    mask: Volume
    color: str
    dash: str


REFERENCE, PREDICTION, TUMOR = ("#56b4e9", ""), ("#ff8c3a", "5 2.5"), ("#f0e442", "1.2 2.2")
"""Color and dash pattern of each outline: solid blue, dashed orange, dotted yellow."""

_PLANES = ((2, "axial"), (1, "coronal"), (0, "sagittal"))
_BAR_MM = 20.0


def worst_first(cases: "tuple[CasePicture, ...]") -> "tuple[CasePicture, ...]":
    """Sort cases by score; those without one come last."""
    return tuple(sorted(cases, key=lambda case: case.rank))


@dataclass(frozen=True, kw_only=True)
class CaseImages:
    """What a case's files hold, read once.

    Parameters
    ----------
    image, reference, prediction : Volume
        The image with one channel and no NaN.
    after, tumor : Volume or None
        Where there are any.
    """

    image: Volume
    reference: Volume
    prediction: Volume
    after: Volume | None = None
    tumor: Volume | None = None

    @classmethod
    def read(cls, case: CasePicture) -> "CaseImages":
        """Read a case's files.

        Raises
        ------
        DataError
            If an image cannot be read.
        """
        return cls(
            image=_scalar(case.image),
            reference=read_mask(case.reference),
            prediction=read_mask(case.prediction),
            after=read_mask(case.after) if case.after is not None else None,
            tumor=_mask(case.tumor) if case.tumor is not None else None,
        )

    @property
    def layers(self) -> dict[str, Volume]:
        """The masks that are there, by name."""
        found = {name: getattr(self, name) for name in ("reference", "prediction", "after", "tumor")}
        return {name: mask for name, mask in found.items() if mask is not None}

    def box(self) -> NDArray[np.float64]:
        """The part of the world worth showing, shape (2, 3), mm: where the image is not background, and all masks."""
        return _box(self.image, list(self.layers.values()))

    def center(self, box: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the slices are cut, mm."""
        return _center(self.reference, self.prediction, self.tumor, box)

    def draw(self, convention: Convention, *, after: bool = False) -> str:
        """Draw the three planes; with ``after``, the prediction is the one after fine-tuning."""
        prediction = self.after if after and self.after is not None else self.prediction
        return three_planes(self.image, self.reference, prediction, self.tumor, convention=convention)


def picture(case: CasePicture, convention: Convention = "radiological", *, after: bool = False) -> str:
    """Draw a case from its files; see `three_planes`.

    With ``after``, the prediction is the one after fine-tuning.

    Raises
    ------
    DataError
        If an image cannot be read.
    """
    return CaseImages.read(case).draw(convention, after=after)


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
    outlines = [
        Outline(name="reference", mask=reference, color=REFERENCE[0], dash=REFERENCE[1]),
        Outline(name="prediction", mask=prediction, color=PREDICTION[0], dash=PREDICTION[1]),
    ]
    if tumor is not None:
        outlines.insert(0, Outline(name="tumor", mask=tumor, color=TUMOR[0], dash=TUMOR[1]))
    anatomy = _one_channel(image)
    low, high = window(anatomy)
    box = _box(anatomy, [outline.mask for outline in outlines])
    # The image's own resolution keeps pages small; browsers smooth it. Coarse images need smoother outlines.
    step = float(np.clip(min(anatomy.spacing_mm), 1.0, 2.0))
    center = _center(reference, prediction, tumor, box)
    height = max(float(box[1, 2] - box[0, 2]), float(box[1, 1] - box[0, 1])) + 9.0
    panels: list[str] = []
    offset = 0.0
    for axis, name in _PLANES:
        panel, width, rows = _panel(anatomy, outlines, axis, name, center, box, step, (low, high), convention)
        panels.append(f'<g transform="translate({offset:.1f} {height - 9.0 - rows:.1f})">{panel}</g>')
        offset += width + 4.0
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {offset - 4.0:.1f} {height:.1f}" '
        f'width="{(offset - 4.0) * 2:.0f}" height="{height * 2:.0f}" font-family="Arial, Helvetica, sans-serif" '
        f'font-size="7">'
        f'<rect width="100%" height="100%" fill="#000"/>{"".join(panels)}</svg>'
    )


@lru_cache(maxsize=2)
def _scalar(path: Path) -> Volume:
    """Read an image that several pictures of one participant share."""
    return _one_channel(read_image(path))


@lru_cache(maxsize=2)
def _mask(path: Path) -> Volume:
    """Read a tumor mask that several pictures of one participant share."""
    return read_mask(path)


def _one_channel(image: Volume) -> Volume:
    anatomy = image if image.array.ndim == 3 else image.with_array(image.array[..., 0])
    if anatomy.array.dtype == np.float32 and np.isfinite(anatomy.array).all():
        return anatomy
    return anatomy.with_array(np.nan_to_num(anatomy.array.astype(np.float32)))


def _world(volume: Volume, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """World coordinates of the voxels inside a mask, shape (N, 3)."""
    return np.argwhere(inside) @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def _box(anatomy: Volume, masks: list[Volume]) -> NDArray[np.float64]:
    """The part of the world worth showing, shape (2, 3): where the image is not background, and all masks."""
    inside = anatomy.array > 0.05 * max(float(anatomy.array.max()), 1e-6)
    corners = [_corners(anatomy, inside)] + [_corners(mask, mask.array > 0.5) for mask in masks]
    cloud = np.concatenate(corners)
    if not len(cloud):
        cloud = _corners(anatomy, np.ones(anatomy.shape, dtype=bool))
    return np.stack([cloud.min(axis=0) - 6.0, cloud.max(axis=0) + 6.0])


def _corners(volume: Volume, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """World coordinates of the corners of the box around a mask, shape (8, 3), or (0, 3) for an empty one."""
    if not inside.any():
        return np.empty((0, 3))
    spans = [np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    index = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 3)
    return index @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def _center(
    reference: Volume, prediction: Volume, tumor: Volume | None, box: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where to cut: along each axis, the place where the reference is largest.

    The reference alone decides, so that the same slices are shown for every prediction; the prediction or the
    tumor stand in for a reference that is empty.
    """
    full = [mask for mask in (reference, prediction, tumor) if mask is not None and (mask.array > 0.5).any()]
    if not full:
        return box.mean(axis=0)
    step = max(full[0].spacing_mm)
    cloud = _world(full[0], full[0].array > 0.5)
    center = np.empty(3)
    for axis in range(3):
        values, counts = np.unique(np.round(cloud[:, axis] / step), return_counts=True)
        chosen = np.round(cloud[:, axis] / step) == values[counts.argmax()]
        center[axis] = np.median(cloud[chosen, axis])
    return center


def window(anatomy: Volume) -> tuple[float, float]:
    """Black and white of the picture: background and the 99.5th percentile of what is not background."""
    values = anatomy.array[anatomy.array > 0]
    return (0.0, float(np.percentile(values, 99.5))) if values.size else (0.0, 1.0)


def _grid(
    axis: int, center: NDArray[np.float64], box: NDArray[np.float64], step: float, convention: Convention
) -> tuple[NDArray[np.float64], float, float]:
    """World points of a slice, ``step`` mm apart, shape (rows, columns, 3), with its width and height in mm.

    Rows run from superior to inferior, or anterior to posterior; columns run from the participant's right to
    left in radiological convention, and from anterior to posterior in the sagittal slice.
    """
    across, up = [(1, 2), (0, 2), (0, 1)][axis]
    columns = np.arange(box[0, across] + step / 2, box[1, across], step)
    rows = np.arange(box[1, up] - step / 2, box[0, up], -step)
    # World x grows to the participant's right and y to the front; what stands on the viewer's left has the
    # largest coordinate.
    if axis == 0 or convention == "radiological":
        columns = columns[::-1]
    points = np.empty((len(rows), len(columns), 3))
    points[..., axis] = center[axis]
    points[..., across] = columns[None, :]
    points[..., up] = rows[:, None]
    return points, len(columns) * step, len(rows) * step


def _sample(volume: Volume, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation of an image at world points."""
    inverse = np.linalg.inv(volume.affine)
    voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
    return ndimage.map_coordinates(
        volume.array.astype(np.float32), np.moveaxis(voxels, -1, 0), order=1, mode="constant", cval=0.0
    )


def _panel(
    anatomy: Volume,
    outlines: list[Outline],
    axis: int,
    name: str,
    center: NDArray[np.float64],
    box: NDArray[np.float64],
    step: float,
    window: tuple[float, float],
    convention: Convention,
) -> tuple[str, float, float]:
    points, width, height = _grid(axis, center, box, step, convention)
    slice_ = (_sample(anatomy, points) - window[0]) / max(window[1] - window[0], 1e-9)
    parts = [
        f'<image width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{_png(slice_)}"/>'
    ]
    parts += [_path(outline, points, step) for outline in outlines]
    letters = ("A", "P") if axis == 0 else ("R", "L") if convention == "radiological" else ("L", "R")
    title = f"{name}, {'xyz'[axis]} = {round(center[axis])} mm"
    middle = height / 2
    parts += [
        f'<g fill="#fff" stroke="#000" stroke-width="1.6" paint-order="stroke">'
        f'<text x="2" y="{middle:.1f}">{letters[0]}</text>'
        f'<text x="{width - 2:.1f}" y="{middle:.1f}" text-anchor="end">{letters[1]}</text>'
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


def _path(outline: Outline, points: NDArray[np.float64], step: float) -> str:
    """The edge of a mask in a slice, where its interpolated value crosses one half."""
    import contourpy

    # A rim of zeros closes outlines that reach the edge of the picture.
    values = np.pad(_sample(outline.mask, points), 1)
    lines = contourpy.contour_generator(z=values).lines(0.5)
    drawn = "".join(
        # The first sample lies half a step inside the picture, and the rim one sample before it.
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (np.asarray(line) - 0.5) * step)
        for line in lines
    )
    if not drawn:
        return ""
    dash = f' stroke-dasharray="{outline.dash}"' if outline.dash else ""
    return (
        f'<path d="{drawn}" fill="none" stroke="#000" stroke-opacity=".55" stroke-width="1.9"/>'
        f'<path d="{drawn}" fill="none" stroke="{outline.color}" stroke-width="1.1"{dash}><title>{outline.name}'
        "</title></path>"
    )
