"""Deformation in words and pictures."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...results import Estimate, Finding, in_mm, in_percent
from ...status import Status
from ...style import legend_above, new_axes
from ..statistics.people import mean_over_participants, share_over_participants

if TYPE_CHECKING:
    from .result import DeformationResult

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


_METHOD = (
    "Each bundle mask was brought to a healthy template (mean of the controls' rigidly aligned masks, thresholded at "
    "their mean volume; without the participant for controls) by a rigid motion and then by SyN on signed distances "
    "in millimeters, on one working lattice whatever the image's voxels. V-Norm is the mean length of the displacement "
    "over the bundle; the rigid part is given apart. Where a tumor mask says that the bundle may be destroyed, the "
    "registration does not look. Percentiles and z-scores are those among controls, each measured against all others. "
    "Means and shares are over participants, whose bundles are averaged first; intervals of means are expanded "
    "percentile bootstraps over participants, those of shares Wilson's with the effective number of bundles. The "
    "tumors' mean push, on their side, is the least-squares amplitude over all patients of the displacement that a "
    "ball of the tumor's volume would make in an incompressible medium, across the bundle and less its rigid part, "
    "beyond the amplitude in controls, times that pattern's mean length; bootstrap over patients and controls."
)
_REFERENCES = (
    "10.1016/j.media.2025.103766",
    "10.1016/j.media.2007.06.004",
    "10.3389/fninf.2014.00008",
    "10.1080/00031305.2015.1089789",
    "10.1214/ss/1009213286",
    "10.1007/s00285-007-0139-x",
)
_SURFACE = "A mask shows displacement across its surface only: V-Norm is a lower bound of how far tissue was moved."
_CAVEATS = (
    _SURFACE,
    "V-Norm against a template holds individual anatomy too, which outweighs most tumors' push: it says whether a "
    "bundle is unusual, not how far a tumor moved it. For that, use `shiftkit deform --baseline` with an earlier "
    "scan of the same people.",
    "The tumors' mean push is one number for all patients, rests on how a push spreads and rather falls short (by a "
    "quarter in phantoms): an earlier scan needs no such assumption.",
    "What a tumor destroyed cannot be told from what it pushed away where no tumor mask says so.",
)
_OWN = ("v_norm_own_mm", "own_status", "mean V-Norm, own baseline")
_LEAST_CONTROLS = 19
"""With n controls, a healthy value lies beyond all of them in one of n + 1 cases: fewer define no 95th percentile."""


def findings(result: "DeformationResult") -> tuple[Finding, ...]:
    """V-Norm by bundle, against the own baseline where there is one, and along the bundle."""
    own = (_own(result),) if result.has_baseline else ()
    return (_values(result), *own, _profiles(result))


def _values(result: "DeformationResult") -> Finding:
    return Finding(
        key="deformation",
        title="How far are the bundles from healthy ones?",
        claim=" ".join([_claim(result.table), *_pushed(result.push)]),
        estimates=result.estimates,
        table=result.to_frame(),
        caveats=(*_CAVEATS, *_absent(result.table["status"])),
        method=_METHOD,
        references=_REFERENCES,
        figure=lambda ax: draw_groups(result.table, ax),
        alt="Mean displacement of each participant's bundles: controls, and patients by side of the tumor; means with "
        "95 % intervals.",
    )


def _claim(table: pd.DataFrame) -> str:
    ipsi, contra = (part_of(table, part) for part in ("ipsi", "contra"))
    healthy = in_mm(mean_over_participants(part_of(table, "control"), "v_norm_mm"))
    if not len(ipsi) + len(contra):
        return f"No patient was measured; controls have a mean V-Norm of {healthy}."
    side, rows = ("on the tumor's side", ipsi) if len(ipsi) else ("on the other side", contra)
    mean = f"Mean V-Norm is {in_mm(mean_over_participants(rows, 'v_norm_mm'))} in patients {side} and {healthy} in "
    return " ".join([*beyond_healthy(table), f"{mean}controls."])


def _pushed(push: Estimate | None) -> list[str]:
    if push is None or not np.isfinite(push.value):
        return []
    return [f"By the pattern that growing tumors make, patients' bundles are pushed by {in_mm(push)} on average."]


def beyond_healthy(table: pd.DataFrame) -> list[str]:
    """What share of patients' bundles lies beyond the healthy range, and what share would by chance; or nothing."""
    sides = {
        name: part_of(table, part) for part, name in (("ipsi", "on the tumor's side"), ("contra", "on the other side"))
    }
    ranked = {name: rows[rows["percentile"].notna()] for name, rows in sides.items()}
    ranked = {name: rows.assign(beyond=rows["percentile"] > 95) for name, rows in ranked.items() if len(rows)}
    if not ranked:
        return []
    shares = [f"{in_percent(share_over_participants(rows, 'beyond'))} {name}" for name, rows in ranked.items()]
    every = pd.concat(list(ranked.values()))
    n = every["n_controls"].astype(int)
    few = f"{'' if n.min() == n.max() else 'at least '}{n.min()} controls"
    # The 95th percentile of few is the largest of them.
    edge = f"beyond the 95th percentile of {few}" if n.min() >= _LEAST_CONTROLS else f"further than any of {few}"
    # With n others, the ranks beyond are those above 95 % of n, out of n + 1.
    chance = float(((n - 95 * n // 100) / (n + 1)).mean())
    return [
        f"Of a patient's bundles, {' and '.join(shares)} lie {edge} ({every['participant_id'].nunique()} patients, "
        f"{len(every)} bundles); of healthy bundles {chance:.0%} would by chance."
    ]


def _absent(status: pd.Series) -> tuple[str, ...]:
    found = status.value_counts()
    without = [f"{found[word]} {word}" for word in Status if word != Status.OK and word in found]
    return ("Without a number: " + ", ".join(without) + ".",) if without else ()


def _own(result: "DeformationResult") -> Finding:
    table = result.table
    sides = {part: part_of(table, part, "own_status") for part in ("ipsi", "contra", "control")}
    names = {"ipsi": "on the tumor's side", "contra": "on the other side", "control": "in controls"}
    means = {
        part: mean_over_participants(rows, "v_norm_own_mm", f"own baseline, {names[part]}")
        for part, rows in sides.items()
        if len(rows)
    }
    said = [f"{in_mm(one)} {names[part]} ({one.n} participants)" for part, one in means.items()]
    return Finding(
        key="deformation-own",
        title="How far have the participants' bundles moved since their baseline?",
        claim=f"Against their own baseline, bundles are displaced by {', '.join(said)} on average."
        if said
        else "No bundle could be measured against its own baseline; the table says why.",
        estimates=tuple(means.values()),
        table=table[table["own_status"] != "n/a"].reset_index(drop=True),
        caveats=(
            "Another person's anatomy has no part in this value, so it is the one to take for how far a tumor moved a "
            "bundle. It holds all that happened between the two scans, also resection, growth and how the bundle was "
            "drawn; two scans of people in whom nothing happened, in both cohorts, would show how much that is. The "
            "masks of two trained raters alone are about a millimeter apart: let the same hand or tool draw both.",
            _SURFACE,
            *_absent(table.loc[table["own_status"] != "n/a", "own_status"]),
        ),
        method="As against the template, with the participant's own mask in the baseline cohort in its place. The "
        "rigid part takes how the head lay. Where either tumor mask says that the bundle may be destroyed, the "
        "registration does not look.",
        references=_REFERENCES,
        figure=(lambda ax: draw_groups(table, ax, *_OWN)) if said else None,
        alt="Mean displacement of each bundle against the participant's own baseline; means with 95 % intervals.",
    )


def _profiles(result: "DeformationResult") -> Finding:
    frame = result.profiles
    return Finding(
        key="deformation-profiles",
        title="Where along the bundles does deformation lie?",
        claim=_profile_claim(part_of(frame, "ipsi")),
        table=frame.reset_index(drop=True),
        caveats=(
            "Points at which nothing of a bundle is left have no value.",
            "At its ends, where a bundle fans out and masks are cut off at will, values are large in everybody.",
            "The place named is the most extreme of many, so its share is higher than that of new patients would be.",
        ),
        method="V-Norm of the bundle's voxels by the nearest of 32 points along the template.",
        references=_REFERENCES[:1],
        figure=lambda ax: draw_profiles(frame, ax),
        alt="Mean displacement along each bundle: the controls' 5th to 95th percentile, and the patients' mean with "
        "its 95 % interval.",
    )


def _profile_claim(ipsi: pd.DataFrame) -> str:
    ranked = ipsi[ipsi["percentile"].notna()].assign(beyond=ipsi["percentile"] > 95)
    if not len(ranked):
        return "No patient's profile has a healthy range."
    shares = ranked.groupby(["bundle", "point"])["beyond"].mean()
    name, point = shares.index[int(np.argmax(shares.to_numpy()))]
    place = ranked[(ranked["bundle"] == name) & (ranked["point"] == point)]
    share = share_over_participants(place, "beyond")
    n = int(place["n_controls"].min())
    edge = "95 % of" if n >= _LEAST_CONTROLS else "all"
    return (
        f"The place most often beyond {edge} {n} controls is point {point:g} of 32 of {name}: in {in_percent(share)} "
        f"of the {share.n} patients with a tumor on that side."
    )


_IMAGE_METHOD = (
    "Each T1w image without skull was blurred by 1.5 mm, normalized by local mean and spread (15 mm) and registered "
    "with the MNI152 template: an affine part by mutual information, then SyN on squared differences at 3 mm. Voxels "
    "of the tumor and 3 mm around it were replaced by the neutral value and took no part in the cost (cost-function "
    "masking). V-Norm is the mean length of the displacement after the affine part, over what lies outside of the "
    "tumor; the healthy range is that of the controls."
)
_IMAGE_REFERENCES = ("10.1006/nimg.2001.0845", "10.1016/j.neuroimage.2007.10.002", "10.1016/j.media.2007.06.004")
_IMAGE_CAVEATS = (
    "The template is one for everyone, so the values hold individual anatomy: only what exceeds the healthy range "
    "speaks of a tumor.",
    "Within the tumor's mask nothing is measured.",
    "A noisy or blurred scan adds to V-Norm: controls of another scanner than the patients' are no clean comparison.",
    "Noise of 6 % displaces by up to 1 mm where nothing has moved; smaller values say little.",
)


def image_findings(table: pd.DataFrame) -> tuple[Finding, ...]:
    """Displacement of the image at each bundle, and of the whole brain."""
    whole = table[(table["bundle"] == "all") & (table["status"] == Status.OK)]
    means = [
        mean_over_participants(rows, "v_norm_mm", f"whole brain, {group}") for group, rows in whole.groupby("group")
    ]
    said = [f"{in_mm(one)} in {one.n} of group {one.name.split(', ')[1]}" for one in means]
    claim = f"Beyond its affine part the brain outside of the tumor is displaced by {' and '.join(said)} on average."
    claim = " ".join([claim, *beyond_healthy(table[table["bundle"] != "all"])])
    if not said:
        claim = "No image could be registered; the table says why."
    return (
        Finding(
            key="image-deformation",
            title="How far is the brain around the bundles from a healthy one?",
            claim=claim,
            estimates=tuple(means),
            table=table,
            caveats=_IMAGE_CAVEATS,
            method=_IMAGE_METHOD,
            references=_IMAGE_REFERENCES,
            figure=lambda ax: draw_groups(table[table["bundle"] != "all"], ax, name="mean V-Norm of the image"),
            alt="Mean displacement of the image at each participant's bundles: controls, and patients by side.",
        ),
    )
