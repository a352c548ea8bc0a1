"""The learning curve of a training, as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic


def draw_curve(log: Sequence[Mapping[str, float]], ax: Any = None) -> Any:
    """Draw loss and validation Dice by epoch.

    Parameters
    ----------
    log : sequence of mapping
        Entries of `fitting.Fit.log`: ``epoch``, ``loss``, and ``dice`` where it was measured.
    ax : matplotlib axes, optional
        Where to draw; the Dice gets an axis of its own at the right.

    Returns
    -------
    matplotlib axes
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(5, 3), layout="constrained").subplots()
    ax.plot([one["epoch"] for one in log], [one["loss"] for one in log], color="#555555", label="training loss")
    ax.set(xlabel="epoch", ylabel="training loss")
    ax.set_ylim(bottom=0)
    validated = [one for one in log if "dice" in one]
    if validated:
        right = ax.twinx()
        dice = [one["dice"] for one in validated]
        right.plot([one["epoch"] for one in validated], dice, color="#1b6ca8", marker="o", markersize=3)
        right.set_ylabel("validation Dice", color="#1b6ca8")
        right.set_ylim(0, 1)
    return ax


def save_curve(log: Sequence[Mapping[str, float]], path: Path) -> None:
    """Write the learning curve as SVG; the same log gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "shiftkit"}), atomic(path) as part:
        draw_curve(log).figure.savefig(part, format="svg", metadata={"Date": None})
