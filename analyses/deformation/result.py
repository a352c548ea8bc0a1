"""What was measured of deformation: tables, the healthy range, and means over participants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import DEFORMATION, DEFORMATION_PROFILES
from ...results import Estimate, Result
from ...status import Status
from ...tables import Table, parse_table
from ..scoring.metrics import METRICS
from ..statistics.inference import Inference
from ..statistics.people import mean_over_participants

FEWEST_CONTROLS = 3  # for a template without one of them, and a range of the others
# With n controls, a healthy value lies beyond all of them in one of n + 1 cases: fewer define no 95th percentile.
FEWEST_FOR_A_PERCENTILE = 19
_KEYS = ["bundle", "hemisphere"]


@dataclass(frozen=True, kw_only=True)
class DeformationResult(Result):
    """Deformation of every participant's bundles, controls among them; see `shiftkit.results.Result`.

    Its table has the columns of `shiftkit.catalogue.DEFORMATION`, and its estimates are mean V-Norm by group and side
    over participants, each participant's bundles averaged first, and the push.

    Parameters
    ----------
    profiles : DataFrame
        Columns of `shiftkit.catalogue.DEFORMATION_PROFILES`: the same along each bundle.
    failed : mapping of str to str
        Participants with a mask that could not be read, and why.
    push : Estimate or None
        The tumors' mean push by the direction of displacement; see `shiftkit.analyses.deformation.push`.
    """

    profiles: pd.DataFrame
    failed: Mapping[str, str]
    push: Estimate | None = None

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


@dataclass(frozen=True, kw_only=True)
class DeformationRelation(Result):
    """V-Norm against what a network scores, before and after fine-tuning; see `shiftkit.results.Result`.

    Its table has the columns of `shiftkit.catalogue.DEFORMATION_RELATION`: ``slope`` (drop a millimeter of V-Norm,
    within bundles), ``slope_change`` (after less before: positive where fine-tuning helps less with more V-Norm), and
    ``distance``: rank correlation of V-Norm and distance to the tumor; with V-Norm against the template, and against
    the own baseline where there is one.

    Parameters
    ----------
    rows : DataFrame
        One row a patient and bundle: ``v_norm_mm v_norm_own_mm tumor_distance_mm`` and one column ``drop:<model>`` a
        model.
    models : tuple of str
        The source model first.
    lines : DataFrame
        ``model v_norm_mm drop low high``: each model's line over V-Norm against the template, with its pointwise
        interval.
    metric : str
        What the drop is a drop of.
    """

    rows: pd.DataFrame
    models: tuple[str, ...]
    lines: pd.DataFrame
    metric: str

    def given(self, quantity: str, measure: str = "template") -> list[Estimate]:
        """The estimates of one quantity, with V-Norm against the ``template`` or the ``own`` baseline."""
        chosen = (self.table["quantity"] == quantity) & (self.table["measure"] == measure)
        return [one for one, there in zip(self.estimates, chosen, strict=True) if there]


def less_is_better(metric: str) -> bool:
    """Whether a metric gets worse as it grows; an unknown one is taken for an overlap."""
    return metric in METRICS and METRICS[metric].better == "lower"


def with_healthy_range(
    rows: Sequence[Mapping[str, Any]],
    failed: Mapping[str, str],
    push: Estimate | None = None,
    inference: Inference = Inference(),
) -> DeformationResult:
    """Place every row in the range of the controls, each of whom was measured against all others.

    Rows have the columns of the table; those with a value hold ``profile_mm`` too.
    """
    table = _placed(rows, _KEYS, DEFORMATION)
    profiles = _placed([line for row in rows for line in _lines(row)], [*_KEYS, "point"], DEFORMATION_PROFILES)
    estimates = (*_means(table, inference), *(() if push is None else (push,)))
    return DeformationResult(table=table, estimates=estimates, profiles=profiles, failed=failed, push=push)


def _placed(rows: Sequence[Mapping[str, Any]], keys: list[str], schema: Table) -> pd.DataFrame:
    frame = pd.DataFrame(rows).reindex(columns=list(schema.columns))
    order = [*_KEYS, "cohort", "participant_id", *keys[len(_KEYS) :]]
    frame = ranked(frame.sort_values(order, kind="stable").reset_index(drop=True), keys)
    return parse_table(frame[list(schema.columns)], schema, f"The table {schema.name}")


def _lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {**row, "point": point, "v_norm_mm": value, "status": Status.OK if np.isfinite(value) else Status.EMPTY}
        for point, value in enumerate(row.get("profile_mm", ()), start=1)
    ]


def _means(table: pd.DataFrame, inference: Inference) -> list[Estimate]:
    given = table[table["status"] == Status.OK]
    part = (given["group"] + " " + given["side"].where(given["side"] != "n/a", "")).str.strip()
    return [
        mean_over_participants(rows, "v_norm_mm", f"mean V-Norm, {name}", inference=inference)
        for name, rows in given.groupby(part)
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
    """Percentile (ties count half), z-score, and a word: with fewer than two others there is neither."""
    if healthy.size < FEWEST_CONTROLS - 1:
        return float("nan"), float("nan"), Status.TOO_FEW
    below = np.count_nonzero(healthy < value) + 0.5 * np.count_nonzero(healthy == value)
    spread = float(healthy.std(ddof=1))
    # Where the others are all alike but for rounding there is a rank, and nothing to divide by.
    if spread <= 1e-9 * max(abs(float(healthy.mean())), 1.0):
        return 100 * below / healthy.size, float("nan"), Status.CONSTANT
    return 100 * below / healthy.size, (value - float(healthy.mean())) / spread, Status.OK
