"""Pictures of deformation: by bundle, and along the bundles."""

from typing import Any

import numpy as np
import pandas as pd

from ..status import Status
from .by_participant import mean_over_participants

PARTS = (("control", "control", "o"), ("contra", "patients, other side", "s"), ("ipsi", "patients, tumor side", "D"))
_COLORS = ("#7f7f7f", "#0072b2", "#d55e00")
_APART = 36
"""Places on the axis from one bundle's 32 points to the next's."""


def part_of(frame: pd.DataFrame, part: str, status: str = "status") -> pd.DataFrame:
    """The rows with a number of ``control``, or of patients' ``ipsi`` or ``contra`` sides."""
    given = frame[frame[status] == Status.OK]
    if part == "control":
        return given[given["group"] == "control"]
    patients = given[given["group"] == "glioma"]
    return patients[patients["side"].isin(["ipsi", "bilateral"] if part == "ipsi" else ["contra"])]


def draw_groups(
    frame: pd.DataFrame, ax: Any = None, column: str = "v_norm_mm", status: str = "status", name: str = "mean V-Norm"
) -> Any:
    """Values of a table by bundle, with the means of controls and of patients' two sides; returns the axes."""
    axes = new_axes(ax)
    bundles = list(dict.fromkeys(frame["bundle"]))
    styles = zip(PARTS, _COLORS, strict=True)
    drawn = [(part, color, rows) for part, color in styles if len(rows := part_of(frame, part[0], status))]
    for offset, ((_, label, marker), color, rows) in enumerate(drawn):
        for index, bundle in enumerate(bundles):
            values = rows.loc[rows["bundle"] == bundle, column].to_numpy(dtype=float)
            middle = index + (offset - (len(drawn) - 1) / 2) * 0.27
            # Dots lie side by side in the order of the table, so that a figure is drawn alike every time.
            aside = np.linspace(-0.06, 0.06, len(values)) if len(values) > 1 else np.zeros(len(values))
            aside = aside[np.argsort(np.arange(len(values)) * 7919 % max(len(values), 1))]
            text = None if index else label
            axes.plot(middle + aside, values, marker, color=color, markersize=3, alpha=0.4, linestyle="", label=text)
            own = mean_over_participants(rows[rows["bundle"] == bundle], column)
            if np.isfinite(own.value):
                reach = [[own.value - own.low], [own.high - own.value]] if np.isfinite(own.low) else None
                axes.errorbar(middle + 0.11, own.value, yerr=reach, fmt="_", color=color, markersize=7, linewidth=1.4)
    axes.set_xticks(range(len(bundles)), bundles)
    axes.set_ylabel(f"{name} [mm]")
    axes.set_ylim(bottom=0)
    legend_above(axes)
    return axes


def draw_profiles(frame: pd.DataFrame, ax: Any = None) -> Any:
    """Bundles one after another: the healthy range shaded, the patients' mean on either side with its interval."""
    axes = new_axes(ax)
    names = list(dict.fromkeys(frame["bundle"]))
    for index, name in enumerate(names):
        rows = frame[frame["bundle"] == name]
        start = index * _APART
        healthy = part_of(rows, "control").groupby("point")["v_norm_mm"]
        if healthy.ngroups:
            low, high = healthy.quantile(0.05), healthy.quantile(0.95)
            text = None if index else "controls, 5–95 %"
            axes.fill_between(low.index + start, low, high, color="0.5", alpha=0.25, linewidth=0, label=text)
        for (part, label, _), color, style in zip(PARTS[1:], _COLORS[1:], ("-", "--"), strict=True):
            points = part_of(rows, part).groupby("point")
            means = {point: mean_over_participants(own, "v_norm_mm") for point, own in points}
            if not means:
                continue
            x = np.array([float(str(point)) for point in means]) + start
            text = None if index else f"{label}, mean"
            axes.plot(x, [one.value for one in means.values()], color=color, linestyle=style, label=text)
            ends = [one.low for one in means.values()], [one.high for one in means.values()]
            axes.fill_between(x, *ends, color=color, alpha=0.2, linewidth=0)
    axes.set_xticks([index * _APART + 16.5 for index in range(len(names))], names)
    axes.set_xlabel("32 points along each bundle (bands: 95 % intervals)")
    axes.set_ylabel("V-Norm [mm]")
    axes.set_ylim(bottom=0)
    legend_above(axes)
    return axes


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
