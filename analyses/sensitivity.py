"""The split under other reasonable choices: what would have changed the answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..status import Status
from ..tables import SENSITIVITY
from .permutation import tumor_test
from .regression import Decay, exponential, regress
from .resampling import interval
from .rows import Rows, covariate_columns
from .split import Settings, Split

Array = NDArray[np.float64]
_FIXED_MM = (5.0, 10.0, 20.0, 40.0)


def sensitivity(rows: Rows, weights: Array, base: Split, settings: Settings, *, full: bool) -> pd.DataFrame:
    """Repeat the pooled regression with one choice changed at a time.

    Parameters
    ----------
    rows : Rows
        As they entered the primary analysis.
    weights : ndarray, shape (B, people)
        Its bootstrap draws.
    base : Split
        Its result.
    settings : Settings
        As for the primary analysis.
    full : bool
        False gives only what needs no new fit.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.tables.SENSITIVITY``.
    """
    records = _orders(base, settings)
    if full and base.status not in (Status.NOT_CONVERGED, Status.TOO_FEW):
        for decay in _FIXED_MM:
            name = f"decay length fixed at {decay:g} mm"
            records += _refit(name, rows, weights, base, settings, exponential(np.array([decay])))
        for name, change in _VARIANTS.items():
            changed = change(rows)
            if changed is not None:
                records += _refit(name, changed, weights, base, settings, exponential(settings.grid_mm))
        records += _leave_one_out(rows, base, settings)
        records += _placebo(rows, settings)
    return pd.DataFrame(records, columns=list(SENSITIVITY.columns))


def _orders(base: Split, settings: Settings) -> list[dict[str, Any]]:
    """The interaction goes to the tumor in the primary split; here to the systematic part, or in halves."""
    far, far_draws = base.regression.component("systematic")
    near, near_draws = base.regression.component("tumor")
    both, both_draws = base.regression.component("interaction")
    records: list[dict[str, Any]] = []
    for name, share in (("reversed order", 1.0), ("Shapley", 0.5)):
        for part, value, draws in (
            ("systematic", far + share * both, far_draws + share * both_draws),
            ("tumor", near - share * both, near_draws - share * both_draws),
        ):
            records.append(_record(name, part, value, draws, base.rows, base.status, settings))
    return records


def _refit(
    name: str, rows: Rows, weights: Array, base: Split, settings: Settings, decay: Decay
) -> list[dict[str, Any]]:
    n = len(set(rows.person[rows.patient]))
    if n < 3:
        empty = np.full(1, np.nan)
        return [_record(name, part, np.nan, empty, rows, Status.TOO_FEW, settings) for part in ("systematic", "tumor")]
    columns, _ = covariate_columns(rows, settings.covariates)
    # A quarter of the draws: these intervals are for comparison, not for quoting.
    found = regress(rows, columns, weights[: max(200, len(weights) // 4)], decay)
    # A split that the primary analysis withholds is not given by the back door.
    status = base.status if found.converged else Status.NOT_CONVERGED
    return [_record(name, part, *found.component(part), rows, status, settings) for part in ("systematic", "tumor")]


def _record(
    name: str, component: str, value: float, draws: Array, rows: Rows, status: str, settings: Settings
) -> dict[str, Any]:
    n = len(set(rows.person[rows.patient]))
    given = status not in (Status.NOT_CONVERGED, Status.TOO_FEW, Status.SPLIT_WITHHELD)
    low, high = interval(draws, settings.level, min(n, rows.n_controls)) if given else (np.nan, np.nan)
    first = rows.frame.iloc[0]
    return {
        "model": first["model"],
        "modality": first["modality"],
        "metric": settings.metric,
        "analysis": name,
        "component": component,
        "estimate": value if given else np.nan,
        "low": low,
        "high": high,
        "p_value": np.nan,
        "n_patients": n,
        "status": str(status),
    }


def _other_distance(column: str) -> Callable[[Rows], Rows | None]:
    def change(rows: Rows) -> Rows | None:
        if column not in rows.frame:
            return None
        values = rows.frame[column].to_numpy(dtype=float)
        if not np.isfinite(values[rows.patient]).all():
            return None
        return replace(rows, distance_mm=np.where(rows.patient, values, np.inf))

    return change


def _without_infiltrated(rows: Rows) -> Rows | None:
    """Drop patients' bundles that the tumor touches or grows into."""
    keep = ~rows.patient | (rows.distance_mm > 0)
    return rows.take(keep) if keep.sum() < keep.size else None


_VARIANTS: dict[str, Callable[[Rows], Rows | None]] = {
    "mean distance instead of the shortest": _other_distance("tumor_distance_mean_mm"),
    "distance to the tumor core": _other_distance("tumor_core_distance_mm"),
    "infiltrated bundles left out": _without_infiltrated,
}


def _leave_one_out(rows: Rows, base: Split, settings: Settings) -> list[dict[str, Any]]:
    """Range of the pooled estimates when one patient at a time is left out: the interval is that range."""
    columns, _ = covariate_columns(rows, settings.covariates)
    weights = np.ones((rows.n_patients, len(rows.people)))
    weights[np.arange(rows.n_patients), np.arange(rows.n_patients)] = 0
    found = regress(rows, columns, weights, exponential(settings.grid_mm))
    records: list[dict[str, Any]] = []
    for part in ("systematic", "tumor"):
        value, draws = found.component(part)
        record = _record("one patient left out (range)", part, value, draws, rows, base.status, settings)
        finite = draws[np.isfinite(draws)]
        if np.isfinite(record["estimate"]) and finite.size:
            record |= {"low": float(finite.min()), "high": float(finite.max())}
        records.append(record)
    return records


def _placebo(rows: Rows, settings: Settings) -> list[dict[str, Any]]:
    """Patients' tumors mirrored to the other hemisphere: no effect is expected of where no tumor is.

    Only contralesional bundles are tested, with the distance of their ipsilesional twin; bundles of the tumor's own
    side would show its real effect with the sign turned.
    """
    if "side" not in rows.frame:
        return []
    twin = {
        (person, rows.levels[level][0]): distance
        for person, level, distance, side in zip(
            rows.person, rows.level, rows.distance_mm, rows.frame["side"], strict=True
        )
        if side == "ipsi"
    }
    mirrored = rows.distance_mm.copy()
    keep = ~rows.patient
    for row in np.flatnonzero(rows.patient & (rows.frame["side"] == "contra").to_numpy()):
        distance = twin.get((rows.person[row], rows.levels[rows.level[row]][0]))
        if distance is not None:
            mirrored[row], keep[row] = distance, True
    placebo = replace(rows, distance_mm=mirrored).take(keep)
    if len(set(placebo.person[placebo.patient])) < 3 or np.ptp(placebo.distance_mm[placebo.patient]) < 1e-9:
        return []
    columns, _ = covariate_columns(placebo, settings.covariates)
    found = regress(placebo, columns, np.zeros((0, len(rows.people))), exponential(settings.grid_mm))
    p_value = tumor_test(placebo, columns, settings.grid_mm, min(settings.n_permutations, 999), settings.generator(3))
    record = _record(
        "placebo: tumor mirrored",
        "tumor",
        found.component("tumor")[0],
        np.full(1, np.nan),
        placebo,
        Status.OK,
        settings,
    )
    return [{**record, "p_value": p_value}]
