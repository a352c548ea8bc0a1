"""The look of every figure: colors, sizes, and what all figures draw alike: axes, legends, intervals and bands."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

INK = "#1b2430"
"""Text and axes. Inline figures take the page's own text color in its stead, so they follow dark mode."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""The Okabe-Ito colors that hold at least 2:1 against white and near-black, in order of use."""

BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, GRAY = PALETTE

LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
"""Color is never the only difference between two lines."""

RULE = {"color": GRAY, "linewidth": 0.8}
"""Lines that only mark a value, such as zero; seen on white and on a dark page."""

COLUMN_MM = {"column": 85.0, "page": 180.0}
"""Widths of a journal's single column and of its full page."""


def journal() -> Any:
    """Matplotlib settings for print and screen: 8 pt sans serif, thin axes, no frame, text kept as text."""
    from cycler import cycler

    lines = [LINE_STYLES[i % len(LINE_STYLES)] for i in range(len(PALETTE))]
    inked = ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inked, INK),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 7.5),
        "font.family": "sans-serif",
        "font.size": 8.0,
        "axes.titlesize": 8.5,
        "axes.titlelocation": "left",
        "axes.labelsize": 8.0,
        "legend.frameon": False,
        "axes.prop_cycle": cycler(color=list(PALETTE)) + cycler(linestyle=lines),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "grid.color": GRAY,
        "grid.alpha": 0.25,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.4,
        "lines.markersize": 4.0,
        "errorbar.capsize": 2.0,
        # Text stays text, to be searched and edited; a fixed salt gives the same ids, and bytes, every time.
        "svg.fonttype": "none",
        "svg.hashsalt": "shiftkit",
    }


@contextmanager
def styled() -> Generator[None]:
    """Draw in this style inside the block, and leave the caller's settings as they were."""
    import matplotlib as mpl

    with mpl.rc_context(journal()):
        yield


@dataclass(frozen=True)
class Look:
    """How one of several series is told from the others: in print, by eyes that see few colors, and in gray."""

    color: str
    marker: str
    line: str
    hatch: str


def look(place: int) -> Look:
    """The look of the series at a place, counted from 0.

    Examples
    --------
    >>> look(0).marker, look(1).marker, look(1).color == VERMILION
    ('o', 's', True)
    """
    return Look(
        color=PALETTE[place % len(PALETTE)],
        marker="osD^v<>p"[place % 8],
        line=("-", "--", ":", "-.")[place % 4],
        hatch=("", "//", "..", "xx")[place % 4],
    )


def new_axes(ax: Any, size: tuple[float, float] = (5.2, 3.2)) -> Any:
    """The axes given, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def legend(axes: Any, **settings: Any) -> None:
    """A legend without a frame inside the axes, where anything has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, **settings)


def legend_above(axes: Any, columns: int = 3) -> None:
    """A legend above the axes, where it covers nothing; one column where the figure is narrow."""
    # Inches: between a journal's single column, 3.5, and its page.
    narrow = axes.figure.get_figwidth() < 4.5
    legend(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncol=1 if narrow else columns)


def beside(place: int, n: int, apart: float) -> float:
    """How far the place-th of n series stands from the middle, so that their intervals do not hide each other.

    Examples
    --------
    >>> [beside(place, 3, 0.2) for place in range(3)]
    [-0.2, 0.0, 0.2]
    """
    return (place - (n - 1) / 2) * apart


def reach(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """How far intervals reach below and above their values, shape (2, n); 0 where a limit is not given.

    Examples
    --------
    >>> reach([1.0, 2.0], [0.5, float("nan")], [2.0, float("nan")]).tolist()
    [[0.5, 0.0], [1.0, 0.0]]
    """
    middle, below, above = (np.atleast_1d(np.asarray(one, dtype=np.float64)) for one in (value, low, high))
    # Rounding may put a limit on the wrong side of its value; error bars of negative length are refused.
    return np.nan_to_num(np.abs(np.stack([middle - below, above - middle])))


def intervals(
    axes: Any, places: ArrayLike, value: ArrayLike, low: ArrayLike, high: ArrayLike, *, lying: bool = False,
    **settings: Any,
) -> None:  # fmt: skip
    """Dots with whiskers, shape (n,) each; limits may be NaN where only the value is given.

    ``places`` run along the axis of names, which stand at the side where the values are ``lying``; settings are those
    of `matplotlib.axes.Axes.errorbar`, such as ``fmt``, ``color`` and ``label``.
    """
    x, y, along = (value, places, "xerr") if lying else (places, value, "yerr")
    axes.errorbar(x, y, **{along: reach(value, low, high), "fmt": "o", "markersize": 4, "capsize": 2, **settings})


def band(
    axes: Any, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str, *, alpha: float = 0.2, label: Any = None
) -> None:
    """The region between two curves, without an edge."""
    axes.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0, label=label)


def name_rows(axes: Any, names: Sequence[str], zero: float | None = 0.0) -> None:
    """Names at the side, the first one above, and a line at zero."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    if zero is not None:
        axes.axvline(zero, **RULE)


def name_columns(axes: Any, names: Sequence[str], *, slanted: bool = False, zero: float | None = 0.0) -> None:
    """Names below, slanted where they are long, and a line at zero."""
    turned: dict[str, Any] = {"rotation": 30, "ha": "right"} if slanted else {}
    axes.set_xticks(range(len(names)), names, **turned)
    if zero is not None:
        axes.axhline(zero, **RULE)
