"""The drawings of ``docs/concepts.md``; ``python docs/concepts.py`` writes them."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

BLUE, VERMILION, GRAY = "#0072B2", "#D55E00", "0.5"


def components(path: Path) -> None:
    """Dice of controls and of patients at three distances, with the two parts of what is missing."""
    axes = plt.subplots(figsize=(7, 2.8), layout="constrained")[1]
    places = ("controls", "patients,\nfar from the tumor", "patients,\nnear the tumor")
    axes.bar(places, (0.80, 0.72, 0.60), color="0.8", width=0.6)
    axes.bar(places[1:], 0.08, bottom=(0.72, 0.72), color=BLUE, alpha=0.6, width=0.6, label="systematic")
    axes.bar(places[2:], 0.12, bottom=0.60, color=VERMILION, alpha=0.6, width=0.6, label="the tumor's part")
    axes.axhline(0.80, color=GRAY, linewidth=0.8, linestyle="--")
    axes.set(ylim=(0.4, 0.85), ylabel="Dice")
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(1, 0.4))
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.savefig(path, metadata={"Date": None})


def participants(path: Path) -> None:
    """Eight invented participants of ten bundles: the interval over rows and that over participants."""
    rng = np.random.default_rng(3)
    levels = 0.72 + rng.normal(0, 0.06, size=8)
    values = levels[:, None] + rng.normal(0, 0.02, size=(8, 10))
    axes = plt.subplots(figsize=(7, 2.8), layout="constrained")[1]
    for number, row in enumerate(values):
        axes.plot(row, np.full(10, number), ".", color=GRAY, markersize=5)
        axes.plot(row.mean(), number, "o", color="black", markersize=4)
    for place, name, numbers in ((9, "over participants", values.mean(axis=1)), (10, "over rows", values.ravel())):
        half = 1.96 * numbers.std(ddof=1) / np.sqrt(numbers.size)
        axes.errorbar(numbers.mean(), place, xerr=half, fmt="s", color=BLUE if place == 9 else VERMILION, capsize=3)
        axes.text(numbers.mean() + 0.07, place, name, va="center")
    axes.set(xlabel="Dice", yticks=[], ylabel="eight participants", ylim=(-1, 11))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write both beside this file."""
    mpl.rcParams["svg.hashsalt"], mpl.rcParams["svg.fonttype"] = "shiftkit", "none"
    components(Path(__file__).with_name("concepts.svg"))
    participants(Path(__file__).with_name("participants.svg"))


if __name__ == "__main__":
    main()
