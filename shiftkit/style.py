"""The look of every figure: colors, sizes, axes and legends."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

INK = "#1b2430"
"""Text and axes. Inline figures take the page's own text color in its stead, so they follow dark mode."""

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""The Okabe-Ito colors that hold at least 2:1 against white and near-black, in order of use."""

LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
"""Color is never the only difference between two lines."""

COLUMN_MM = {"column": 90.0, "page": 190.0}
"""Widths of a journal's single column and of its full page."""


def journal() -> Any:
    """Matplotlib settings for print and screen: 8 pt sans serif, thin axes, no frame, text kept as text.

    Examples
    --------
    >>> journal()["font.size"]
    8.0
    """
    from cycler import cycler

    lines = [LINE_STYLES[i % len(LINE_STYLES)] for i in range(len(PALETTE))]
    return {
        "font.family": "sans-serif",
        "font.size": 8.0,
        "axes.titlesize": 8.5,
        "axes.titlelocation": "left",
        "axes.labelsize": 8.0,
        "xtick.labelsize": 7.5,
        "ytick.labelsize": 7.5,
        "legend.fontsize": 7.5,
        "legend.frameon": False,
        "axes.prop_cycle": cycler(color=list(PALETTE)) + cycler(linestyle=lines),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "grid.color": "#7f7f7f",
        "grid.alpha": 0.25,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.4,
        "lines.markersize": 4.0,
        "errorbar.capsize": 2.0,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "svg.fonttype": "none",
        "svg.hashsalt": "shiftkit",
    }


@contextmanager
def styled() -> Generator[None]:
    """Draw in this style inside the block, and leave the caller's settings as they were."""
    import matplotlib as mpl

    with mpl.rc_context(journal()):
        yield


def new_axes(ax: Any) -> Any:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]


def legend_above(axes: Any, columns: int = 3) -> None:
    """A legend above the axes, where it covers nothing; one column where the figure is narrow."""
    narrow = axes.figure.get_figwidth() < 4.5
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncol=1 if narrow else columns)
