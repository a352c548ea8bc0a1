"""The regression estimator: a distance-independent drop, and one that decays with the distance to the tumor."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .quasi import QuasiFit, fit, newton, profile
from .rows import Rows

Array = NDArray[np.float64]
COMPONENTS = ("total", "systematic", "tumor", "interaction", "residual", "raw")


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Point estimates and bootstrap replicates of one set of rows.

    Parameters
    ----------
    values : ndarray, shape (6,)
        One a name in `COMPONENTS`; positive means worse in patients.
    draws : ndarray, shape (B, 6)
        The same in each resampled cohort; NaN where a fit failed.
    decay_mm : float
        λ, the distance at which the tumor effect has fallen to 1/e on the link scale.
    decay_draws_mm : ndarray, shape (B,)
        The same, profiled anew in each resampled cohort.
    intercepts, slopes : ndarray, shapes (1 + B, K) and (1 + B, P)
        Estimates, the point estimate first.
    chosen : ndarray of int, shape (1 + B,)
        Position of λ on the grid; −1 where a fit failed.
    converged : bool
        Whether the point estimate could be found.
    """

    values: Array
    draws: Array
    decay_mm: float
    decay_draws_mm: Array
    intercepts: Array
    slopes: Array
    chosen: NDArray[np.int64]
    converged: bool

    def component(self, name: str) -> tuple[float, Array]:
        """Value and replicates of one component."""
        column = COMPONENTS.index(name)
        return float(self.values[column]), self.draws[:, column]


def regress(
    rows: Rows,
    covariates: Array,
    weights: Array,
    grid_mm: Array,
    chosen: NDArray[np.int64] | None = None,
) -> Regression:
    """Fit the primary model and resample it.

    The model is logit E[Y] = α(bundle, hemisphere) + γ·covariates − θ·G − β·exp(−d/λ), by quasi-likelihood, with λ
    profiled over a grid in every draw. Components come from g-computation over the patients' rows, averaged
    within participants and then across them, so that each participant counts once.

    Parameters
    ----------
    rows : Rows
        Patients and controls.
    covariates : ndarray, shape (N, C)
        Centered within cohort.
    weights : ndarray, shape (B, people)
        How often each participant is drawn; see `shiftkit.analyses.resampling.draw_weights`.
    grid_mm : ndarray, shape (L,)
        Candidates for λ.
    chosen : ndarray of int, shape (1 + B,), optional
        Take these positions on the grid instead of profiling, as single bundles do from the pooled model.

    Returns
    -------
    Regression
    """
    proximities = np.exp(-rows.distance_mm / grid_mm[:, None])
    design = np.column_stack([rows.patient.astype(float), np.zeros(len(rows.outcome)), covariates])
    all_weights = np.vstack([np.ones(len(rows.people)), weights])
    fixed = np.full(len(all_weights), -1, dtype=np.int64) if chosen is None else chosen
    start = fit(rows.outcome, rows.level, design[:, :1], np.ones(len(rows.outcome)), len(rows.levels), rows.logit)
    first = np.concatenate([start.slopes, np.zeros(design.shape[1] - 1)])
    values, index, intercepts, slopes = _resample(
        rows.outcome,
        rows.level,
        design,
        rows.person,
        rows.patient,
        all_weights,
        proximities,
        fixed,
        start.intercepts,
        first,
        rows.logit,
    )
    decay = np.where(index >= 0, grid_mm[index], np.nan)
    return Regression(
        values=rows.sign * values[0],
        draws=rows.sign * values[1:],
        decay_mm=float(decay[0]),
        decay_draws_mm=decay[1:],
        intercepts=intercepts,
        slopes=slopes,
        chosen=index,
        converged=bool(start.converged and index[0] >= 0),
    )


@numba.njit(cache=True)
def _resample(  # pyright: ignore
    y: Any,
    level: Any,
    design: Any,
    person: Any,
    patient: Any,
    weights: Any,
    proximities: Any,
    fixed: Any,
    intercepts0: Any,
    slopes0: Any,
    logit: bool,
) -> Any:
    n_draws, n_people = weights.shape
    n = y.shape[0]
    k, p = intercepts0.shape[0], design.shape[1]
    values = np.full((n_draws, 6), np.nan)
    index = np.full(n_draws, -1, dtype=np.int64)
    all_intercepts, all_slopes = np.full((n_draws, k), np.nan), np.full((n_draws, p), np.nan)
    weight = np.empty(n)
    x = design.copy()
    start_k, start_p = intercepts0.copy(), slopes0.copy()
    for draw in range(n_draws):
        for i in range(n):
            weight[i] = weights[draw, person[i]]
        if _absent(level, patient, weight, k):
            continue
        intercepts, slopes = start_k.copy(), start_p.copy()
        if fixed[draw] >= 0:
            best = fixed[draw]
            x[:, 1] = proximities[best]
            _, converged = newton(y, level, x, weight, intercepts, slopes, logit)
        else:
            best, _, converged = profile(y, level, x, weight, proximities, 1, intercepts, slopes, logit)
        if not converged:
            continue
        if draw == 0:  # the full data are a good place to start from
            start_k, start_p = intercepts.copy(), slopes.copy()
        index[draw] = best
        all_intercepts[draw], all_slopes[draw] = intercepts, slopes
        values[draw] = _components(
            y, level, design, person, patient, weights[draw], proximities[best], intercepts, slopes, logit, n_people
        )
    return values, index, all_intercepts, all_slopes


@numba.njit(cache=True)
def _absent(level: Any, patient: Any, weight: Any, k: int) -> bool:  # pyright: ignore
    """Whether a draw has no patient or no control at all; a level without controls keeps the model's help."""
    n_patients = 0.0
    n_controls = 0.0
    for i in range(level.shape[0]):
        if patient[i]:
            n_patients += weight[i]
        else:
            n_controls += weight[i]
    return n_patients == 0.0 or n_controls == 0.0 or k == 0


@numba.njit(cache=True)
def _components(  # pyright: ignore
    y: Any,
    level: Any,
    design: Any,
    person: Any,
    patient: Any,
    weight: Any,
    proximity: Any,
    intercepts: Any,
    slopes: Any,
    logit: bool,
    n_people: int,
) -> Any:
    """Total, systematic, tumor, interaction, residual and raw drop, by g-computation."""
    sums = np.zeros((n_people, 5))
    counts = np.zeros(n_people)
    for i in range(y.shape[0]):
        j = person[i]
        counts[j] += 1
        sums[j, 4] += y[i]
        if not patient[i]:
            continue
        base = intercepts[level[i]]
        for a in range(2, design.shape[1]):
            base += design[i, a] * slopes[a]
        near = slopes[1] * proximity[i]
        for s in range(2):
            for t in range(2):
                eta = base + s * slopes[0] + t * near
                sums[j, 2 * s + t] += 1.0 / (1.0 + np.exp(-eta)) if logit else eta
    means = np.zeros(4)
    patients = np.zeros(2)
    controls = np.zeros(2)
    is_patient = np.zeros(n_people, dtype=np.bool_)
    for i in range(y.shape[0]):
        is_patient[person[i]] = patient[i]
    for j in range(n_people):
        if counts[j] == 0:
            continue
        if is_patient[j]:
            for c in range(4):
                means[c] += weight[j] * sums[j, c] / counts[j]
            patients[0] += weight[j] * sums[j, 4] / counts[j]
            patients[1] += weight[j]
        else:
            controls[0] += weight[j] * sums[j, 4] / counts[j]
            controls[1] += weight[j]
    out = np.full(6, np.nan)
    if patients[1] == 0 or controls[1] == 0:
        return out
    none, tumor_only, systematic_only, both = means / patients[1]
    raw = controls[0] / controls[1] - patients[0] / patients[1]
    out[0] = none - both
    out[1] = none - systematic_only
    out[2] = systematic_only - both
    out[3] = out[0] - out[1] - (none - tumor_only)
    out[4] = raw - out[0]
    out[5] = raw
    return out


def linear_fit(rows: Rows, design: Array) -> QuasiFit:
    """Fit the rows with any design; every row counts once."""
    return fit(rows.outcome, rows.level, design, np.ones(len(rows.outcome)), len(rows.levels), rows.logit)


def mean_of(rows: Rows, found: QuasiFit, design: Array) -> Array:
    """Fitted mean of each row."""
    eta = found.intercepts[rows.level] + design @ found.slopes
    return 1 / (1 + np.exp(-eta)) if rows.logit else eta
