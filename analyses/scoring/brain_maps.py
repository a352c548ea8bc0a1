"""Drawings of where in the brain errors and tumors lie: the participant's right on the viewer's left, as in slices."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...types import Volume
from .error_maps import EDGE_MM, KINDS, ErrorPlaces, TumorPlaces

Array = NDArray[np.float64]
_ENDS = (("A", "P"), ("R", "L"), ("R", "L"))
"""What stands left and right in panels seen along x, y and z."""


_WHOSE = {"missed": "only in the reference", "false": "only in the prediction"}


def glass(ax: Any, places: ErrorPlaces) -> Any:
    """Maximum projections from the left, the front and below, a row a kind of error, over the template's outline."""
    from matplotlib.colors import Normalize

    ax.set_axis_off()
    shares = {kind: places.share(kind) for kind in KINDS}
    most = max(*(float(one.array.max()) for one in shares.values()), 0.01)
    lines: dict[str, Any] = {"colors": [ax.xaxis.label.get_color()], "linewidths": 0.5, "alpha": 0.6}
    for kind, bottom in zip(KINDS, (0.5, 0.0), strict=True):
        shown: dict[str, Any] = {"cmap": _colors("YlOrBr" if kind == "missed" else "Blues")}
        shown["norm"] = Normalize(0.0, most)
        for through in range(3):
            panel = ax.inset_axes((0.02 + 0.29 * through, bottom, 0.28, 0.46))
            for *outline, level in _outlines(through):
                panel.contour(*outline, levels=[level], **lines)
            seen = shares[kind].array.max(axis=through)
            _image(panel, np.ma.masked_equal(seen, 0), shares[kind], through, **shown)
            _name_ends(panel, through)
        _bar(ax, (0.91, bottom + 0.03, 0.015, 0.38), "share of patients", shown, format="{x:.0%}")
        ax.text(0.0, bottom + 0.49, f"{kind}: {_WHOSE[kind]}", transform=ax.transAxes, va="top")
    return ax


def tumor_planes(ax: Any, tumors: TumorPlaces) -> Any:
    """Slices through the place that most tumors cover, over the template: how many do, counted in a color bar."""
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    ax.set_axis_off()
    counts, brain = Volume(array=tumors.counts, affine=tumors.affine), _brain()
    most = max(int(tumors.counts.max()), 1)
    colors = _colors("YlOrRd")
    shown: dict[str, Any] = {"cmap": colors, "norm": BoundaryNorm(np.arange(most + 1) + 0.5, colors.N)}
    peak = peak_of(tumors)
    at = counts.world(peak[None])[0]
    for through, name in enumerate("xyz"):
        panel = ax.inset_axes((0.29 * through, 0.0, 0.285, 0.9))
        place = int(np.round(brain.voxels(at[None])[0])[through])
        gray = np.take(brain.array, np.clip(place, 0, brain.shape[through] - 1), axis=through)
        _image(panel, np.ma.masked_less(gray, 0.1), brain, through, cmap="gray", vmin=0.0, vmax=1.1, alpha=0.75)
        covered = np.take(tumors.counts, peak[through], axis=through)
        _image(panel, np.ma.masked_equal(covered, 0), counts, through, **shown)
        _name_ends(panel, through)
        told = f"{name} = {at[through]:.0f} mm".replace("-", "−")
        ax.text(0.29 * through + 0.14, 0.95, told, transform=ax.transAxes, ha="center", va="bottom")
    ticks = MaxNLocator(6, integer=True, min_n_ticks=1)
    _bar(ax, (0.9, 0.1, 0.018, 0.7), f"patients, of {tumors.n}", shown, ticks=ticks)
    return ax


def peak_of(tumors: TumorPlaces) -> NDArray[np.int_]:
    """Index of the voxel that most tumors cover; of several, the one nearest to their middle."""
    top = np.argwhere(tumors.counts == tumors.counts.max())
    return top[np.linalg.norm(top - top.mean(axis=0), axis=1).argmin()]


def _colors(name: str) -> Any:
    """A color map without its palest third, which cannot be seen on white and outshines the rest on a dark page."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(0.35, 1, 256)))


def _image(panel: Any, seen: Any, volume: Volume, through: int, **look: Any) -> None:
    (x, y), half = _grid(volume, through), EDGE_MM / 2
    extent = (x[0] - half, x[-1] + half, y[0] - half, y[-1] + half)
    panel.imshow(seen.T, extent=extent, origin="lower", interpolation="nearest", **look)


def _name_ends(panel: Any, through: int) -> None:
    """Front, or the participant's right, on the left, and letters that say so."""
    panel.set_axis_off()
    panel.set_aspect("equal")
    panel.invert_xaxis()
    for side, x in zip(_ENDS[through], (0.02, 0.98), strict=True):
        panel.text(x, 0.95, side, transform=panel.transAxes, ha="left" if x < 0.5 else "right", va="top", size=7)


def _bar(ax: Any, where: tuple[float, float, float, float], label: str, shown: dict[str, Any], **more: Any) -> None:
    from matplotlib.cm import ScalarMappable

    ax.figure.colorbar(ScalarMappable(**shown), cax=ax.inset_axes(where), label=label, **more)


def _grid(volume: Volume, through: int) -> list[Array]:
    """World coordinates of the voxels' centers along the two axes that are not looked through, in mm."""
    shape = volume.array.shape
    at = [volume.world(np.arange(shape[axis])[:, None] * np.eye(3)[axis])[:, axis] for axis in range(3)]
    return [at[axis] for axis in range(3) if axis != through]


@cache
def _brain() -> Volume:
    """The template's brain, 0 to 1."""
    from nilearn.datasets import load_mni152_template

    image: Any = load_mni152_template(resolution=EDGE_MM)
    return Volume(array=np.asarray(image.dataobj, dtype=np.float32), affine=image.affine)


@cache
def _outlines(through: int) -> list[tuple[Array, Array, Array, float]]:
    """Silhouette of the template's brain, and the white matter in the slice through its middle, to be contoured."""
    brain = _brain()
    # Beside the midline, where the hemispheres part and no white matter lies.
    middle = np.take(brain.array, brain.array.shape[through] // 2 + (3 if through == 0 else 0), axis=through)
    x, y = _grid(brain, through)
    return [
        (x, y, brain.array.max(axis=through).T, 0.3),
        (x, y, middle.T, float(np.quantile(middle[middle > 0.3], 0.6))),
    ]
