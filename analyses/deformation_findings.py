"""Deformation as findings: what is claimed, the table behind it, and the figure."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..status import Status
from ..types import Estimate, Finding
from .by_participant import in_mm, in_percent, mean_over_participants, share_over_participants
from .deformation_figures import draw_groups, draw_profiles, part_of

if TYPE_CHECKING:
    from .deformation_result import DeformationResult

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
