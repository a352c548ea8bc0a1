"""The split under other reasonable choices: what would have changed the answer."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import SENSITIVITY
from ...status import Status
from .permutation import distance_table, tumor_test
from .regression import Decay, exponential, flat_tailed, regress
from .result import FEWEST, Settings, Split, Teller
from .rows import PATIENT, Rows, covariate_columns

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
        In the columns of ``shiftkit.catalogue.SENSITIVITY``.
    """
    records = _orders(base, settings)
    if full and base.status not in (Status.NOT_CONVERGED, Status.TOO_FEW):
        shapes = {f"decay length fixed at {length:g} mm": exponential(np.array([length])) for length in _FIXED_MM}
        shapes["spline with a flat tail"] = flat_tailed()
        if (growing := _growing_with_volume(rows, settings)) is not None:
            shapes["tumor effect changes with tumor volume"] = growing
        for name, shape in shapes.items():
            records += _refit(name, rows, weights, base, settings, shape)
        for name, changed in {**_other_rows(rows), **_sites_left_out(rows)}.items():
            records += _refit(name, changed, weights, base, settings, exponential(settings.grid_mm))
        records += _leave_one_out(rows, base, settings)
        records += _mirrored(rows, settings) + _in_controls(rows, settings)
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
    if n < FEWEST:
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
    teller = Teller(rows=rows, settings=settings, status=status, n=min(n, rows.n_controls), n_patients=n)
    return teller.row(component, value, draws, analysis=name)


def _growing_with_volume(rows: Rows, settings: Settings) -> Decay | None:
    """exp(−d/λ)·[1 + δ·(log volume − mean)]: two columns a candidate; None where volumes are not known."""
    if "tumor_volume_ml" not in rows.frame:
        return None
    volume = rows.frame["tumor_volume_ml"].to_numpy(dtype=float)
    if not (volume[rows.patient] > 0).all():
        return None
    log = np.where(rows.patient, np.log(np.where(rows.patient, volume, 1.0)), 0.0)
    log = np.where(rows.patient, log - log[rows.patient].mean(), 0.0)
    if np.ptp(log) < 1e-9:
        return None
    plain = exponential(settings.grid_mm)

    def columns(distance_mm: Array) -> Array:
        near = plain.columns(distance_mm)
        return np.concatenate([near, near * log[:, None]], axis=2)

    return Decay(columns=columns, lengths_mm=plain.lengths_mm)


def _other_rows(rows: Rows) -> dict[str, Rows]:
    """Another distance, or fewer bundles, where the table has what that needs."""
    changed: dict[str, Rows] = {}
    for name, column in _DISTANCES.items():
        values = (
            rows.frame[column].to_numpy(dtype=float) if column in rows.frame else np.full(len(rows.outcome), np.nan)
        )
        if np.isfinite(values[rows.patient]).all():
            changed[name] = replace(rows, distance_mm=np.where(rows.patient, values, np.inf))
    apart = ~rows.patient | (rows.distance_mm > 0)
    if not apart.all():
        changed["infiltrated bundles left out"] = rows.take(apart)
    return changed


def _sites_left_out(rows: Rows) -> dict[str, Rows]:
    """The rows without each of the patients' sites in turn, where there are several."""
    if "site" not in rows.frame:
        return {}
    site = rows.frame["site"].to_numpy(dtype=str)
    names = sorted(set(site[rows.patient]))
    if len(names) < 2:
        return {}
    return {f"patients of site {name} left out": rows.take(~(rows.patient & (site == name))) for name in names}


_DISTANCES = {
    "mean distance instead of the shortest": "tumor_distance_mean_mm",
    "distance to the tumor core": "tumor_core_distance_mm",
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


def _mirrored(rows: Rows, settings: Settings) -> list[dict[str, Any]]:
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
    if len(set(placebo.person[placebo.patient])) < FEWEST or np.ptp(placebo.distance_mm[placebo.patient]) < 1e-9:
        return []
    return [_placebo("placebo: tumor mirrored", placebo, settings, 3)]


def _in_controls(rows: Rows, settings: Settings) -> list[dict[str, Any]]:
    """Patients' tumors laid into controls: half of them, at random, play the patients."""
    if rows.n_controls < 6:
        return []
    rng = settings.inference.generator(4)
    controls = np.arange(rows.n_patients, rows.n_patients + rows.n_controls)
    played = rng.permutation(controls)[: rows.n_controls // 2]
    table = distance_table(rows)[rng.integers(rows.n_patients, size=len(rows.people))]
    is_played = np.isin(rows.person, played)
    distance = np.where(is_played, table[rows.person, rows.level], np.inf)
    order = {person: position for position, person in enumerate([*played, *np.setdiff1d(controls, played)])}
    keep = rows.control
    placebo = replace(
        rows,
        cohort=np.where(is_played, PATIENT, rows.cohort),
        person=np.array([order.get(person, 0) for person in rows.person], dtype=np.int64),
        people=tuple(rows.people[person] for person in order),
        n_patients=len(played),
        n_target_controls=0,
        distance_mm=distance,
    ).take(keep)
    return [_placebo("placebo: tumors in controls", placebo, replace(settings, covariates=()), 5)]


def _placebo(name: str, rows: Rows, settings: Settings, purpose: int) -> dict[str, Any]:
    """The tumor's part and its test where there is no tumor; there is nothing to find."""
    columns, _ = covariate_columns(rows, settings.covariates)
    found = regress(rows, columns, np.zeros((0, len(rows.people))), exponential(settings.grid_mm))
    permutations, rng = min(settings.inference.n_permutations, 999), settings.inference.generator(purpose)
    p_value = tumor_test(rows, columns, settings.grid_mm, permutations, rng)
    value = found.component("tumor")[0]
    return {**_record(name, "tumor", value, np.full(1, np.nan), rows, Status.OK, settings), "p_value": p_value}
