"""What the shell estimator found: its result, words and a picture."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ....errors import ConfigError
from ....results import Estimate, Finding, Result
from ....status import Status
from ....style import beside, intervals, legend, look, name_columns, new_axes
from ....words import named
from ..sentences import digits_of_drop, number
from ..verdict import Part, word
from .model import METRICS


@dataclass(frozen=True, kw_only=True)
class ShellResult(Result):
    """Error rates by distance to the tumor, and the components they imply.

    ``table`` has the columns of `shiftkit.catalogue.SHELLS`, one row a bundle, shell and rate, with the intervals of
    the excess; ``estimates`` are the pooled components on the Dice scale.

    Parameters
    ----------
    components : DataFrame
        Columns of `shiftkit.catalogue.DECOMPOSITION`, method ``shell``; metric ``dice``, ``fn_rate`` or ``fp_rate``.
        Positive means worse in patients.
    level : float
        Coverage of the intervals.
    plateau_mm : float
        Where the far field begins.
    skipped : tuple of str
        Cases that could not be counted, each with its reason.
    """

    components: pd.DataFrame
    level: float
    plateau_mm: float
    skipped: tuple[str, ...] = ()

    def decomposition(self, metric: str = "dice") -> pd.DataFrame:
        """The components of one metric, as rows of the decomposition table; a `ConfigError` for other metrics."""
        if metric not in METRICS:
            raise ConfigError(f"Shells give components of {', '.join(METRICS)}; got {metric!r}.")
        return self.components[self.components["metric"] == metric].reset_index(drop=True)


def told(result: ShellResult) -> ShellResult:
    """The result with its estimates, claim and finding."""
    rows = result.decomposition()
    of_all = rows[rows["bundle"] == "all"].rename(columns={"component": "name", "estimate": "value", "n_patients": "n"})
    kept = of_all[["name", "value", "low", "high", "n", "status"]].to_dict("records")
    estimates = tuple(Estimate(unit="Dice", level=result.level, **row) for row in kept)  # pyright: ignore
    result = replace(result, estimates=estimates, claim=_claim({one.name: one for one in estimates}))
    return replace(result, findings=(_finding(result),))


def _claim(found: dict[str, Estimate]) -> str:
    if Status(found["total"].status) is Status.UNAVAILABLE:
        return "Errors by distance to the tumor are not available: no patient has a tumor mask and a prediction."
    base = digits_of_drop(found["total"].value, "dice")
    total, systematic, tumor = (_amount(found[name], base) for name in ("total", "systematic", "tumor"))
    if Status(found["systematic"].status) is Status.SPLIT_WITHHELD:
        return f"Voxel-wise errors account for a drop of {total}; {Status.SPLIT_WITHHELD.sentence}"
    top = "comes on top near it"
    if Status(found["tumor"].status) is Status.NO_TUMOR_EFFECT_SHOWN or not found["tumor"].low > 0:
        top = "is what voxels near it have more, which is not shown to differ from nothing"
    far = f"{systematic} is there far from the tumor too"
    return f"Voxel-wise errors account for a drop of {total}: {far}, and {tumor} {top}."


def _amount(one: Estimate, base: int) -> str:
    """A component as the other sentences of a report give it."""
    if not np.isfinite(one.value) or not np.isfinite(one.low):
        return str(one).removeprefix(f"{one.name}: ")
    part = Part(value=one.value, low=one.low, high=one.high, word=word(one.low, one.high))
    return f"{number(part, 'dice', base)} {one.unit}"


def _finding(result: ShellResult) -> Finding:
    left_out = f"{len(result.skipped)} cases were left out ({named(result.skipped, 3, '; ')})."
    return Finding(
        key="shells",
        title="Where along the way from the tumor do errors occur?",
        claim=result.claim,
        estimates=result.estimates,
        table=result.to_frame(),
        caveats=(
            "Near the tumor the reference holds only fibers that could still be drawn: missed and false voxels "
            "must be read together there.",
            "The far-field excess mixes scanner, protocol, pre-processing, label style, age and diffuse disease.",
            *([left_out] if result.skipped else []),
        ),
        method=(
            "Voxel-wise false-negative and false-positive rates by distance to the edge of the tumor, less the "
            "controls' rates in the same section along the bundle. Excess beyond "
            f"{result.plateau_mm:g} mm is systematic; what exceeds the far-field rate of the same section is the "
            "tumor's. Dice components are counterfactuals from these rates. Voxels weigh by their share of the "
            f"bundle, participants alike; {result.level:.0%} bootstrap intervals over participants."
        ),
        figure=lambda ax: _excess_by_shell(result, ax),
        alt="Excess of missed and of false voxels over healthy people, by distance to the tumor.",
    )


def _excess_by_shell(result: ShellResult, ax: Any) -> Any:
    """Excess rates by shell, all bundles together."""
    axes = new_axes(ax)
    rows = result.table[result.table["bundle"] == "all"]
    for place, (rate, label) in enumerate((("fn", "missed (of the reference)"), ("fp", "false (of the prediction)"))):
        each = rows[rows["rate"] == rate]
        places = np.arange(len(each)) + beside(place, 2, 0.24)
        intervals(axes, places, each["excess"], each["low"], each["high"], fmt=look(place).marker, label=label)
    one = rows[rows["rate"] == "fn"]  # both rates have the same shells
    ends = [
        f"{low:g}–{high:g}" if np.isfinite(high) else f"> {low:g}"
        for low, high in zip(one["shell_low_mm"], one["shell_high_mm"], strict=True)
    ]
    name_columns(axes, ends)
    axes.axvspan((one["shell_low_mm"] >= result.plateau_mm).to_numpy().argmax() - 0.5, len(ends) - 0.5, color="0.93")
    axes.set_xlabel("distance to the tumor [mm]; far field shaded")
    axes.set_ylabel("error rate above healthy")
    legend(axes)
    return axes
