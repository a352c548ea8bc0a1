"""The drawing of ``docs/split.md``: what is pinned down, and what is bounded; ``python docs/split.py`` writes it."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

SYSTEMATIC, TUMOR, CUT_MM, LAMBDA_MM = 0.06, 0.12, 40.0, 25.0
BLUE, VERMILION, GRAY = "#0072B2", "#D55E00", "0.5"


def main() -> None:
    """Draw an effect that fades as an exponential of 25 mm, the longest that the bounds allow."""
    mpl.rcParams["svg.hashsalt"], mpl.rcParams["svg.fonttype"] = "shiftkit", "none"
    d = np.linspace(0, 80, 400)
    drop = SYSTEMATIC + TUMOR * np.exp(-d / LAMBDA_MM)
    upper = drop[d > CUT_MM].mean()  # what is measured beyond the cut
    axes = plt.subplots(figsize=(7, 3.6), layout="constrained")[1]
    axes.plot(d, drop, color="black", label="drop of patients' bundles")
    axes.axvspan(CUT_MM, 80, color="0.93")
    axes.hlines(upper, 0, 80, color=BLUE, label="upper bound: the effect is gone beyond the cut")
    axes.hlines(SYSTEMATIC, 0, 80, color=BLUE, linestyle="--", label="lower bound: an exponential of 25 mm goes on")
    axes.fill_between([0, 80], SYSTEMATIC, upper, color=BLUE, alpha=0.2)
    axes.fill_between(d, upper, drop, where=drop > upper, color=VERMILION, alpha=0.25)
    axes.text(7, upper + 0.018, "the tumor's part", color=VERMILION)
    axes.text(20, 0.025, "systematic part", color=BLUE)
    axes.text(CUT_MM + 2, 0.13, "far from the tumor:\nthis is pinned down", color=GRAY)
    axes.axvline(CUT_MM, color=GRAY, linewidth=0.8)
    axes.set(xlim=(0, 80), ylim=(0, 0.2), xlabel="Distance from tumor to bundle (mm)", ylabel="Drop (Dice)")
    axes.legend(frameon=False, fontsize=8)
    axes.figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
