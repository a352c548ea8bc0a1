"""What was measured of deformation: tables, the healthy range, words and a picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import DEFORMATION, DEFORMATION_PROFILES
from ...results import Estimate, Finding, in_mm
from ...status import Status
from ...tables import parse_table
from ..statistics.people import mean_over_participants

_KEYS = ["bundle", "hemisphere"]


@dataclass(frozen=True, kw_only=True)
class DeformationResult:
    """Deformation of every participant's bundles, controls among them.

    Parameters
    ----------
    table : DataFrame
        Columns of `shiftkit.catalogue.DEFORMATION`.
    profiles : DataFrame
        Columns of `shiftkit.catalogue.DEFORMATION_PROFILES`: the same along each bundle.
    failed : mapping of str to str
        Participants with a mask that could not be read, and why.
    push : Estimate or None
        The tumors' mean push by the direction of displacement; see `shiftkit.analyses.deformation.push`.
    """

    table: pd.DataFrame
    profiles: pd.DataFrame
    failed: Mapping[str, str]
    push: Estimate | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row a participant and bundle."""
        return self.table.copy()

    @property
    def patients(self) -> pd.DataFrame:
        """The rows of patients."""
        return self.table[self.table["group"] == "glioma"].reset_index(drop=True)

    def counts(self) -> dict[str, int]:
        """How many rows have each status."""
        found = self.table["status"].value_counts()
        return {str(word): int(found[word]) for word in Status if word in found}

    @property
    def has_baseline(self) -> bool:
        """Whether participants' own baseline was given."""
        return bool((self.table["own_status"] != "n/a").any())

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Mean V-Norm by group and side over participants, each participant's bundles averaged first; the push."""
        return (*self._means(), *(() if self.push is None else (self.push,)))

    def _means(self) -> list[Estimate]:
        given = self.table[self.table["status"] == Status.OK]
        named = given.assign(part=given["group"] + " " + given["side"].where(given["side"] != "n/a", ""))
        return [mean_over_participants(rows, "v_norm_mm", str(part).strip()) for part, rows in named.groupby("part")]

    def findings(self) -> tuple[Finding, ...]:
        """What the deformation says, ready for a report."""
        from .findings import findings

        return findings(self)

    def plot(self, ax: Any = None) -> Any:
        """V-Norm by bundle, patients' two sides and controls; returns the axes."""
        from .findings import draw_groups

        return draw_groups(self.table, ax)

    def __str__(self) -> str:
        counted = ", ".join(f"{word} {n}" for word, n in self.counts().items())
        people = self.table.drop_duplicates(["cohort", "participant_id"])["group"].value_counts()
        groups = ", ".join(f"{n} {group}" for group, n in sorted(people.items()))
        means = [f"mean V-Norm, {one.name}: {in_mm(one)} over {one.n}" for one in self._means()]
        return "\n".join([f"Deformation of {groups}", f"counts: {counted}", *means])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>" + self.table.to_html(index=False, max_rows=10, na_rep="n/a")


def with_healthy_range(
    rows: Sequence[Mapping[str, Any]], failed: Mapping[str, str], push: Estimate | None = None
) -> DeformationResult:
    """Place every row in the range of the controls, each of whom was measured against all others.

    Parameters
    ----------
    rows : sequence of mapping
        Columns of the table; rows with a value hold ``profile_mm`` too.
    failed : mapping of str to str
    push : Estimate, optional
        Both go into the result.
    """
    order = ["bundle", "hemisphere", "cohort", "participant_id"]
    frame = pd.DataFrame([{name: row[name] for name in DEFORMATION.columns if name in row} for row in rows])
    for column in DEFORMATION.columns:
        if column not in frame:
            frame[column] = np.nan
    frame = frame.sort_values(order, kind="stable").reset_index(drop=True)
    along = pd.DataFrame([line for row in rows for line in _lines(row)], columns=_PROFILE)
    along = along.sort_values([*order, "point"], kind="stable").reset_index(drop=True)
    return DeformationResult(
        table=parse_table(ranked(frame, _KEYS)[list(DEFORMATION.columns)], DEFORMATION, "The deformation table"),
        profiles=parse_table(
            ranked(along, [*_KEYS, "point"])[list(DEFORMATION_PROFILES.columns)],
            DEFORMATION_PROFILES,
            "The deformation profiles",
        ),
        failed=failed,
        push=push,
    )


_PROFILE = ["participant_id", "cohort", "group", *_KEYS, "side", "point", "v_norm_mm", "status"]


def _lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    common = {name: row[name] for name in _PROFILE if name in row and name not in ("v_norm_mm", "status")}
    return [
        {
            **common,
            "point": point,
            "v_norm_mm": value,
            "status": Status.OK if np.isfinite(value) else Status.EMPTY,
        }
        for point, value in enumerate(row.get("profile_mm", ()), start=1)
    ]


def ranked(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add percentile and z-score in the controls' range; a control's own are taken among the others."""
    percentile, z, n = (np.full(len(frame), np.nan) for _ in range(3))
    word = frame["status"].to_numpy(dtype=object, copy=True)
    value = frame["v_norm_mm"].to_numpy(dtype=float)
    control = (frame["group"] == "control").to_numpy() & np.isfinite(value)
    for places in frame.groupby(keys).indices.values():
        healthy = places[control[places]]
        for place in places[np.isfinite(value[places])]:
            others = healthy[healthy != place]
            percentile[place], z[place], word[place] = _rank(value[place], value[others])
            n[place] = others.size
    return frame.assign(percentile=percentile, z=z, n_controls=n, range_status=word)


def _rank(value: float, healthy: NDArray[np.float64]) -> tuple[float, float, Status]:
    """Percentile (ties count half), z-score, and a word: with fewer than two others there is neither.

    Where the others are all alike there is a percentile and no z-score.
    """
    if healthy.size < 2:
        return float("nan"), float("nan"), Status.TOO_FEW
    below = np.count_nonzero(healthy < value) + 0.5 * np.count_nonzero(healthy == value)
    spread = float(healthy.std(ddof=1))
    if spread <= 1e-9 * max(abs(float(healthy.mean())), 1.0):
        return 100 * below / healthy.size, float("nan"), Status.CONSTANT
    return 100 * below / healthy.size, (value - float(healthy.mean())) / spread, Status.OK
