"""Deformation as findings: what is claimed, the table behind it, and the figure."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..status import Status
from ..types import Finding

if TYPE_CHECKING:
    from .deformation_result import DeformationResult

_PARTS = (("control", "control", "o"), ("contra", "patients, other side", "s"), ("ipsi", "patients, tumor side", "D"))
_COLORS = ("#7f7f7f", "#0072b2", "#d55e00")
_METHOD = (
    "Each bundle mask was brought to a healthy template (mean of the controls' rigidly aligned masks, thresholded at "
    "their mean volume; without the participant for controls) by a rigid motion and then by SyN on signed distances "
    "in millimeters, on one working lattice whatever the image's voxels. V-Norm is the mean length of the displacement "
    "over the bundle; the rigid part is given apart. Where a tumor mask says that the bundle may be destroyed, the "
    "registration does not look. Percentiles and z-scores are those among controls, each measured against all others."
)
_REFERENCES = ("10.1016/j.media.2025.103766", "10.1016/j.media.2007.06.004", "10.3389/fninf.2014.00008")
_CAVEATS = (
    "A mask shows displacement across its surface only: V-Norm is a lower bound of how far tissue was moved.",
    "V-Norm holds individual anatomy too; only what exceeds the healthy range speaks of a tumor.",
    "What a tumor destroyed cannot be told from what it pushed away where no tumor mask says so.",
)


def findings(result: "DeformationResult") -> tuple[Finding, ...]:
    """V-Norm by bundle, and along the bundle."""
    return _values(result), _profiles(result)


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]


def part_of(frame: pd.DataFrame, part: str) -> pd.DataFrame:
    """The rows with a number of ``control``, or of patients' ``ipsi`` or ``contra`` sides."""
    given = frame[frame["status"] == Status.OK]
    if part == "control":
        return given[given["group"] == "control"]
    patients = given[given["group"] == "glioma"]
    return patients[patients["side"].isin(["ipsi", "bilateral"] if part == "ipsi" else ["contra"])]


def _values(result: "DeformationResult") -> Finding:
    return Finding(
        key="deformation",
        title="How far are the bundles from healthy ones?",
        claim=_claim(result),
        estimates=result.estimates,
        table=result.to_frame(),
        caveats=(*_CAVEATS, *_absent(result)),
        method=_METHOD,
        references=_REFERENCES,
        figure=lambda ax: draw_values(result, ax),
        alt="Mean displacement of each participant's bundles: controls, and patients by side of the tumor.",
    )


def _claim(result: "DeformationResult") -> str:
    ipsi, contra = (part_of(result.table, part) for part in ("ipsi", "contra"))
    if not len(ipsi) + len(contra):
        control = part_of(result.table, "control")
        return f"No patient was measured; controls have a mean V-Norm of {control['v_norm_mm'].mean():.2f} mm."
    said = [
        f"{(rows['percentile'] > 95).mean():.0%} of {len(rows)} bundles on the {side} side"
        for rows, side in ((ipsi, "tumor's"), (contra, "other"))
        if len(rows)
    ]
    control = part_of(result.table, "control")["v_norm_mm"].mean()
    mean = ipsi["v_norm_mm"].mean() if len(ipsi) else contra["v_norm_mm"].mean()
    return (
        f"Beyond the 95th percentile of healthy people lie {' and '.join(said)}; mean V-Norm is {mean:.2f} mm in "
        f"patients{' on the tumor side' if len(ipsi) else ''} and {control:.2f} mm in controls."
    )


def _absent(result: "DeformationResult") -> tuple[str, ...]:
    without = {word: n for word, n in result.counts().items() if word != Status.OK}
    if not without:
        return ()
    return ("Without a number: " + ", ".join(f"{n} {word}" for word, n in without.items()) + ".",)


def draw_values(result: "DeformationResult", ax: Any = None) -> Any:
    """Every bundle of every participant a dot, by group and side of the tumor."""
    return draw_groups(result.table, ax)


def draw_groups(frame: pd.DataFrame, ax: Any = None) -> Any:
    """Values of a table by bundle, with the medians of controls and of patients' two sides; returns the axes."""
    axes = _axes(ax)
    names = list(dict.fromkeys(frame["bundle"]))
    for offset, ((part, label, marker), color) in enumerate(zip(_PARTS, _COLORS, strict=True)):
        rows = part_of(frame, part)
        if not len(rows):
            continue
        x = np.array([names.index(name) for name in rows["bundle"]]) + (offset - 1) * 0.25
        # The same dots lie side by side in the order of the table, so that a figure is drawn alike every time.
        x = x + np.linspace(-0.08, 0.08, len(rows))[np.argsort(np.arange(len(rows)) * 7919 % len(rows))]
        axes.plot(x, rows["v_norm_mm"], marker, color=color, markersize=3, alpha=0.6, linestyle="", label=label)
        for index, name in enumerate(names):
            own = rows.loc[rows["bundle"] == name, "v_norm_mm"]
            if len(own):
                middle = index + (offset - 1) * 0.25
                axes.plot([middle - 0.11, middle + 0.11], [own.median()] * 2, "-", color=color, linewidth=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("mean V-Norm [mm]")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


def _profiles(result: "DeformationResult") -> Finding:
    frame = result.profiles
    ipsi = part_of(frame, "ipsi")
    beyond = ipsi.assign(beyond=ipsi["percentile"] > 95).groupby(["bundle", "point"])["beyond"].mean()
    claim = "No patient has a profile."
    if len(beyond):
        name, point = beyond.index[int(np.argmax(beyond.to_numpy()))]
        claim = (
            f"The place most often beyond the healthy range is point {point:g} of 32 of {name}: in "
            f"{beyond.max():.0%} of the patients with a tumor on that side."
        )
    return Finding(
        key="deformation-profiles",
        title="Where along the bundles does deformation lie?",
        claim=claim,
        table=frame.reset_index(drop=True),
        caveats=("Points at which nothing of a bundle is left have no value.",),
        method="V-Norm of the bundle's voxels by the nearest of 32 points along the template.",
        references=_REFERENCES[:1],
        figure=lambda ax: draw_profiles(result, ax),
        alt="Mean displacement along each bundle: the controls' 5th to 95th percentile, and the patients' median.",
    )


def draw_profiles(result: "DeformationResult", ax: Any = None) -> Any:
    """Bundles one after another: the healthy range shaded, the patients' median on either side as lines."""
    axes = _axes(ax)
    frame = result.profiles
    names = list(dict.fromkeys(frame["bundle"]))
    for index, name in enumerate(names):
        rows = frame[frame["bundle"] == name]
        start = index * 36
        healthy = part_of(rows, "control").groupby("point")["v_norm_mm"]
        if healthy.ngroups:
            low, high = healthy.quantile(0.05), healthy.quantile(0.95)
            axes.fill_between(
                low.index + start, low, high, color="0.85", label=None if index else "controls, 5th–95th percentile"
            )
        for (part, label, _), color, style in zip(_PARTS[1:], _COLORS[1:], ("-", "--"), strict=True):
            middle = part_of(rows, part).groupby("point")["v_norm_mm"].median()
            text = None if index else f"{label}, median"
            axes.plot(middle.index + start, middle, color=color, linestyle=style, label=text)
    axes.set_xticks([index * 36 + 16.5 for index in range(len(names))], names)
    axes.set_xlabel("32 points along each bundle")
    axes.set_ylabel("V-Norm [mm]")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes
