"""What the shell estimator found: tables, words and a picture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ....errors import ConfigError
from ....results import Estimate, Finding
from ....status import Status
from .model import METRICS


@dataclass(frozen=True, kw_only=True)
class ShellResult:
    """Error rates by distance to the tumor, and the components they imply.

    Parameters
    ----------
    shells : DataFrame
        Columns of `shiftkit.catalogue.SHELLS`; intervals are those of the excess.
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

    shells: pd.DataFrame
    components: pd.DataFrame
    level: float
    plateau_mm: float
    skipped: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The shells, one row a bundle, shell and rate."""
        return self.shells.copy()

    def decomposition(self, metric: str = "dice") -> pd.DataFrame:
        """The components of one metric, as rows of the decomposition table.

        Raises
        ------
        ConfigError
            If the metric is not one that follows from voxel-wise errors.
        """
        if metric not in METRICS:
            raise ConfigError(f"Shells give components of {', '.join(METRICS)}; got {metric!r}.")
        return self.components[self.components["metric"] == metric].reset_index(drop=True)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Pooled components on the Dice scale."""
        rows = self.decomposition()
        return tuple(
            Estimate(
                name=row["component"],
                value=row["estimate"],
                low=row["low"],
                high=row["high"],
                n=row["n_patients"],
                status=row["status"],
                unit="Dice",
                level=self.level,
            )
            for row in rows[rows["bundle"] == "all"].to_dict("records")
        )

    def findings(self) -> tuple[Finding, ...]:
        """What the shells say, ready for a report."""
        notes = [f"{len(self.skipped)} cases were left out ({'; '.join(self.skipped[:3])})."] if self.skipped else []
        return (
            Finding(
                key="shells",
                title="Where along the way from the tumor do errors occur?",
                claim=self._claim(),
                estimates=self.estimates,
                table=self.to_frame(),
                caveats=(
                    "Near the tumor the reference holds only fibers that could still be drawn: missed and false voxels "
                    "must be read together there.",
                    "The far-field excess mixes scanner, protocol, pre-processing, label style, age and diffuse "
                    "disease.",
                    *notes,
                ),
                method=(
                    "Voxel-wise false-negative and false-positive rates by distance to the edge of the tumor, less the "
                    "controls' rates in the same section along the bundle. Excess beyond "
                    f"{self.plateau_mm:g} mm is systematic; what exceeds the far-field rate of the same section is the "
                    "tumor's. Dice components are counterfactuals from these rates. Voxels weigh by their share of the "
                    f"bundle, participants alike; {self.level:.0%} bootstrap intervals over participants."
                ),
                figure=self.plot,
                alt="Excess of missed and of false voxels over healthy people, by distance to the tumor.",
            ),
        )

    def _claim(self) -> str:
        found = {estimate.name: estimate for estimate in self.estimates}
        if found["total"].status == Status.UNAVAILABLE:
            return "Errors by distance to the tumor are not available: no patient has a tumor mask and a prediction."
        said = str(found["total"]).removeprefix("total: ")
        if found["systematic"].status == Status.SPLIT_WITHHELD:
            return f"Voxel-wise errors account for a drop of {said}; {Status.SPLIT_WITHHELD.sentence}"
        parts = [str(found[name]).removeprefix(f"{name}: ") for name in ("systematic", "tumor")]
        return (
            f"Voxel-wise errors account for a drop of {said}: {parts[0]} is there far from the tumor too, and "
            f"{parts[1]} comes on top near it."
        )

    def plot(self, ax: Any = None) -> Any:
        """Excess rates by shell, all bundles together; returns the axes."""
        from matplotlib import pyplot as plt

        axes: Any = plt.subplots(layout="constrained")[1] if ax is None else ax
        rows = self.shells[self.shells["bundle"] == "all"]
        for offset, (rate, label) in enumerate(
            (("fn", "missed (of the reference)"), ("fp", "false (of the prediction)"))
        ):
            each = rows[rows["rate"] == rate]
            places = np.arange(len(each)) + 0.12 * (2 * offset - 1)
            bars = np.abs(each[["low", "high"]].to_numpy().T - each["excess"].to_numpy())
            axes.errorbar(places, each["excess"], yerr=bars, fmt="os"[offset], capsize=3, label=label)
        one = rows[rows["rate"] == "fn"]
        ends = [
            f"{low:g}–{high:g}" if np.isfinite(high) else f"> {low:g}"
            for low, high in zip(one["shell_low_mm"], one["shell_high_mm"], strict=True)
        ]
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.axvspan((one["shell_low_mm"] >= self.plateau_mm).to_numpy().argmax() - 0.5, len(ends) - 0.5, color="0.93")
        axes.set_xticks(range(len(ends)), ends)
        axes.set_xlabel("distance to the tumor [mm]; far field shaded")
        axes.set_ylabel("error rate above healthy")
        axes.legend(frameon=False)
        return axes

    def __str__(self) -> str:
        return "\n".join((self._claim(), *map(str, self.estimates)))

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self._claim())}</p>" + self.decomposition().to_html(index=False, na_rep="n/a")
