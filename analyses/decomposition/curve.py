"""What the first figures show: each patient's own parts, the drop against the distance to the tumor, and its reach."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from ...results import Estimate
from ...status import Status
from ..statistics.inference import expansion, interval
from .anchored import outcome_table, stacked_curve
from .regression import Decay, Regression, exponential, flat_tailed
from .result import Settings, Split, length_of
from .rows import CONTROL
from .verdict import Moment

Array = NDArray[np.float64]
CURVE_MM = np.concatenate([np.arange(0, 20, 1.0), np.arange(20, 81, 2.5)])
_FINE_MM = np.arange(0, 160.5, 0.5)
_NEAR_MM = 10.0


def participants_of(part: Split) -> pd.DataFrame:
    """Each patient's own parts, for the eye: no number of the split is made from them.

    A row's loss is its level's mean in controls less its own value, larger is better, not adjusted for covariates. A
    patient's ``total`` is the mean loss, the ``systematic`` part that of rows beyond the far cut, the ``tumor`` part
    the mean loss within 10 mm less that of the same patient's far rows.

    Returns
    -------
    DataFrame
        ``model``, ``participant_id``, ``component`` and ``value``; a part that a patient has no rows for is left out.
    """
    rows, design = part.rows, part.primary.design
    table = outcome_table(rows)
    inside = rows.cohort_of_people == CONTROL
    healthy = np.array([np.mean(one[np.isfinite(one)]) for one in table[inside].T])
    own = rows.patient
    frame = pd.DataFrame(
        {
            "person": rows.person[own],
            "distance_mm": rows.distance_mm[own],
            "loss": healthy[rows.level[own]] - table[rows.person[own], rows.level[own]],
        }
    )
    far = frame[frame["distance_mm"] > design.far_mm].groupby("person")["loss"].mean()
    near = frame[frame["distance_mm"] <= _NEAR_MM].groupby("person")["loss"].mean()
    parts = {"total": frame.groupby("person")["loss"].mean(), "systematic": far, "tumor": (near - far).dropna()}
    blocks = [
        pd.DataFrame(
            {
                "model": rows.frame["model"].iloc[0],
                "participant_id": [rows.people[person] for person in values.index],
                "component": name,
                "value": values.to_numpy(dtype=float),
            }
        )
        for name, values in parts.items()
    ]
    return pd.concat(blocks, ignore_index=True)


def curve_of(part: Split, settings: Settings) -> pd.DataFrame:
    """Drop against distance: each level of bundle and hemisphere counts once.

    Returns
    -------
    DataFrame
        ``model``, ``shape`` (``stacked``, that of the primary estimate; exponential, and the spline with a flat tail
        beside it), ``distance_mm``, ``drop``, the pointwise band ``low`` ``high`` and the simultaneous band ``low_all``
        ``high_all``, which holds the whole curve with the given level and is not given of the stacked one. Empty where
        there are too few participants.
    """
    columns = ["model", "shape", "distance_mm", "drop", "low", "high", "low_all", "high_all"]
    if part.regression is None or part.spline is None:
        return pd.DataFrame(columns=columns)
    shapes = {"exponential": (part.regression, exponential(settings.grid_mm)), "spline": (part.spline, flat_tailed())}
    model = part.rows.frame["model"].iloc[0]
    blocks = [pd.DataFrame({"model": model, "shape": "stacked", **_stacked(part, settings)})]
    blocks += [
        pd.DataFrame({"model": model, "shape": name, **_bands(part, found, shape, settings)})
        for name, (found, shape) in shapes.items()
        if found.converged
    ]
    return pd.concat(blocks, ignore_index=True)[columns]


def _stacked(part: Split, settings: Settings) -> dict[str, Array]:
    """The primary estimate's own curve with its jackknife interval at each distance; empty without a split."""
    if part.primary.design.status != Status.OK:
        return {name: np.empty(0) for name in ("distance_mm", "drop", "low", "high", "low_all", "high_all")}
    drops = stacked_curve(part.primary.design, outcome_table(part.rows), CURVE_MM)
    moments = [Moment.of(column, part.primary.stratum) for column in drops.T]
    low, high = np.array([one.interval(settings.inference.level) for one in moments]).T
    nothing = np.full(len(CURVE_MM), np.nan)
    return {
        "distance_mm": CURVE_MM,
        "drop": drops[0],
        "low": low,
        "high": high,
        "low_all": nothing,
        "high_all": nothing,
    }


def lengths_of(part: Split, settings: Settings) -> tuple[Estimate, Estimate]:
    """Decay length, and how far the tumor's effect reaches; they describe, and decide nothing."""
    found = part.regression
    decay = reach = (np.nan, np.nan, np.nan)
    if found is not None and found.converged:
        decay = (found.decay_mm, *interval(found.decay_draws_mm, settings.inference.level, 10_000))
        reach = _reach_mm(part, found, settings)
    return length_of(part, "decay_length", decay, settings), length_of(part, "tumor_reach", reach, settings)


def _reach_mm(part: Split, found: Regression, settings: Settings) -> tuple[float, float, float]:
    """Distance beyond which the tumor's effect is smaller than the margin: estimate, low, high.

    0 where it is smaller everywhere, and infinite where it is not smaller at 160 mm.
    """
    drops = _drops(found, exponential(settings.grid_mm), _FINE_MM, part.rows.sign, part.rows.logit)
    if not len(drops):
        return float("nan"), float("nan"), float("nan")
    far = _drops(found, exponential(settings.grid_mm), np.array([np.inf]), part.rows.sign, part.rows.logit)
    large = np.abs(drops - far) >= settings.margin
    last = np.where(large.any(axis=1), large.shape[1] - np.argmax(large[:, ::-1], axis=1), 0)
    reach = np.append(_FINE_MM, np.inf)[last]
    low, high = np.quantile(
        reach[1:], [(1 - settings.inference.level) / 2, (1 + settings.inference.level) / 2], method="nearest"
    )
    return float(reach[0]), float(low), float(high)


def _bands(part: Split, found: Regression, shape: Decay, settings: Settings) -> dict[str, Array]:
    drops = _drops(found, shape, CURVE_MM, part.rows.sign, part.rows.logit)
    n = part.n
    low, high = np.array([settings.inference.interval(column, n) for column in drops[1:].T]).T
    spread = drops[1:].std(axis=0, ddof=1) + 1e-12
    largest = (np.abs(drops[1:] - drops[0]) / spread).max(axis=1)
    # Too short in small samples as a pointwise interval is, and by about the same factor.
    reach = np.quantile(largest, settings.inference.level) * spread * expansion(n, settings.inference.level)
    return {
        "distance_mm": CURVE_MM,
        "drop": drops[0],
        "low": low,
        "high": high,
        "low_all": drops[0] - reach,
        "high_all": drops[0] + reach,
    }


def _drops(found: Regression, shape: Decay, distances_mm: Array, sign: int, logit: bool) -> Array:
    """Drop at each distance in each draw whose fit stands, the point estimate first; shape (draws, distances)."""
    fine = found.chosen >= 0

    def mean(eta: Array) -> Array:
        return np.nanmean(special.expit(eta) if logit else eta, axis=1)

    healthy, far, near = mean(found.healthy[fine]), found.far[fine], found.near[fine]
    columns = shape.columns(distances_mm)[found.chosen[fine]]
    lost = np.einsum("bdq,bq->bd", columns, near)
    return sign * np.stack([healthy - mean(far + lost[:, [d]]) for d in range(len(distances_mm))], axis=1)
