"""The regression estimator: a distance-independent drop, and one that fades with the distance to the tumor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from ..statistics.quasi import QuasiFit, Start, fit, fit_draws
from .rows import Rows

Array = NDArray[np.float64]
Index = NDArray[np.int64]
COMPONENTS = ("total", "systematic", "tumor")
_CHUNK = 500  # draws held in memory at a time


@dataclass(frozen=True, kw_only=True)
class Decay:
    """Shapes that the tumor's effect may take on the link scale: columns that are 0 far from the tumor.

    Parameters
    ----------
    columns : callable
        From distances in mm, shape (N,), to candidates of shape (L, N, Q); one is chosen by profiling.
    lengths_mm : ndarray, shape (L,)
        Decay length of each candidate; NaN where a shape has none.
    """

    columns: Callable[[Array], Array]
    lengths_mm: Array


def exponential(lengths_mm: Array) -> Decay:
    """exp(−d/λ) for each λ of a grid.

    Examples
    --------
    >>> exponential(np.array([10.0])).columns(np.array([0.0, np.inf])).ravel().tolist()
    [1.0, 0.0]
    """
    return Decay(columns=lambda d: np.exp(-d / lengths_mm[:, None])[..., None], lengths_mm=lengths_mm)


def flat_tailed(knots_mm: tuple[float, ...] = (10.0, 20.0, 40.0)) -> Decay:
    """A quadratic spline that is smooth, free in shape, and exactly 0 beyond its last knot.

    Column j is (1 − d/k_j)², cut off at its knot k_j.
    """
    knots = np.array(knots_mm)
    return Decay(columns=lambda d: np.maximum(1 - d[:, None] / knots, 0.0)[None] ** 2, lengths_mm=np.full(1, np.nan))


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Point estimates and bootstrap replicates of one set of rows.

    Parameters
    ----------
    values : ndarray, shape (M,)
        `COMPONENTS`; positive means worse in patients.
    draws : ndarray, shape (B, M)
        The same in each resampled cohort; NaN where a fit failed.
    decay_mm : float
        λ, the distance at which the tumor effect has fallen to 1/e on the link scale.
    decay_draws_mm : ndarray, shape (B,)
        The same, profiled anew in each resampled cohort.
    healthy, far, near : ndarray, shapes (1 + B, K), (1 + B, K), (1 + B, Q)
        Link-scale estimates, the point estimate first: controls' levels, patients' levels far from the tumor, and the
        slopes of the tumor's columns.
    chosen : ndarray of int, shape (1 + B,)
        Position of λ on the grid; −1 where a fit failed.
    converged : bool
        Whether the point estimate could be found.
    """

    values: Array
    draws: Array
    decay_mm: float
    decay_draws_mm: Array
    healthy: Array
    far: Array
    near: Array
    chosen: Index
    converged: bool

    def component(self, name: str) -> tuple[float, Array]:
        """Value and replicates of one component."""
        column = COMPONENTS.index(name)
        return float(self.values[column]), self.draws[:, column]


def regress(rows: Rows, covariates: Array, weights: Array, decay: Decay) -> Regression:
    """Fit one shape of decay to all rows, and resample it.

    The model is logit E[Y] = α(bundle, hemisphere) + γ·covariates − θ(bundle, hemisphere)·G − β·exp(−d/λ), by
    quasi-likelihood, with λ profiled over a grid in every draw. Components come from g-computation over the patients'
    rows, averaged within participants and then across them, so that each participant counts once.

    The systematic shift θ is free to differ between bundles: bundles also differ in how near tumors grow, and a
    common θ would book a bundle's own shift as an effect of distance (``benchmarks/validation.md``).

    Parameters
    ----------
    rows : Rows
        Patients, controls and, if there are any, target controls.
    covariates : ndarray, shape (N, C)
        See `shiftkit.analyses.decomposition.rows.on_rows`.
    weights : ndarray, shape (B, people)
        How often each participant is drawn; see `shiftkit.analyses.statistics.inference.draw_weights`.
    decay : Decay
        Shapes of the tumor's effect to choose from.
    """
    all_weights = np.vstack([np.ones(len(rows.people)), weights])
    cells = _Cells.of(rows, covariates, decay)
    start, sound = _null_fit(rows, cells)
    parts: list[_Draws] = []
    for first in (0, *range(1, len(all_weights), _CHUNK)):  # the point estimate comes first: draws start from it
        chunk = slice(first, first + _CHUNK if first else 1)
        parts.append(_resample(rows, cells, all_weights[chunk], start))
        if not first and parts[0].chosen[0] >= 0:
            start = Start(parts[0].intercepts[0], parts[0].slopes[0], int(parts[0].chosen[0]))
    draws = _Draws(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    lengths = np.where(draws.chosen >= 0, decay.lengths_mm[draws.chosen], np.nan)
    return Regression(
        values=rows.sign * draws.values[0],
        draws=rows.sign * draws.values[1:],
        decay_mm=float(lengths[0]),
        decay_draws_mm=lengths[1:],
        healthy=draws.levels[:, 0],
        far=draws.levels[:, -1],
        near=draws.slopes[:, cells.covariates.shape[1] :],
        chosen=draws.chosen,
        converged=bool(sound and draws.chosen[0] >= 0),
    )


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Rows that the model cannot tell apart count as one, with their weighted mean outcome.

    Controls without covariates differ by level only, so a draw costs what its patients cost. ``stratum`` counts the
    levels of the controls, then those of the target controls if there are any, then those of the patients.
    """

    of_row: Index
    stratum: Index
    n_strata: int
    covariates: Array
    near: Array

    @classmethod
    def of(cls, rows: Rows, covariates: Array, decay: Decay) -> "_Cells":
        stratum = rows.level + len(rows.levels) * np.searchsorted(rows.cohorts, rows.cohort)
        keys = np.column_stack([stratum, covariates, np.where(rows.patient, rows.distance_mm, -1.0)])
        _, first, of_row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        return cls(
            of_row=of_row.ravel().astype(np.int64),
            stratum=stratum[first].astype(np.int64),
            n_strata=len(rows.levels) * len(rows.cohorts),
            covariates=np.ascontiguousarray(covariates[first]),
            near=np.ascontiguousarray(decay.columns(rows.distance_mm)[:, first]),
        )


class _Draws(NamedTuple):
    """Of some draws: components, estimates, levels by cohort (B, cohorts, K), and the candidate chosen."""

    values: Array
    intercepts: Array
    slopes: Array
    levels: Array
    chosen: Index


def _null_fit(rows: Rows, cells: _Cells) -> tuple[Start, bool]:
    """The fit to all participants without a tumor effect, from which the first one starts, and whether it stands."""
    stratum, design, ones = cells.stratum[cells.of_row], cells.covariates[cells.of_row], np.ones(len(rows.outcome))
    null = fit(rows.outcome, stratum, design, ones, cells.n_strata, rows.logit)
    slopes = np.concatenate([null.slopes, np.zeros(cells.near.shape[2])])
    return Start(null.intercepts, slopes, 0), null.converged


def _resample(rows: Rows, cells: _Cells, weights: Array, start: Start) -> _Draws:
    chosen = np.full(len(weights), -1, dtype=np.int64)
    shape = (len(rows.people), len(cells.stratum))
    mass = weights @ _matrix(np.ones(len(rows.outcome)), rows.person, cells.of_row, shape)
    total = weights @ _matrix(rows.outcome, rows.person, cells.of_row, shape)
    outcome = np.divide(total, mass, out=np.zeros_like(total), where=mass > 0)
    intercepts, slopes, index = fit_draws(
        outcome, mass, cells.stratum, cells.covariates, cells.near, chosen, start, rows.logit
    )
    # A level that nobody in the draw has is not known.
    inside = np.stack([mass[:, cells.stratum == one].sum(axis=1) > 0 for one in range(cells.n_strata)], axis=1)
    levels = np.where(inside, intercepts, np.nan).reshape(len(weights), len(rows.cohorts), len(rows.levels))
    values = _components(rows, cells, weights, intercepts, slopes, levels, index)
    return _Draws(values, intercepts, slopes, levels, index)


def _matrix(values: Array, row: Index, column: Index, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((values, (row, column)), shape=shape)


def _components(
    rows: Rows, cells: _Cells, weights: Array, intercepts: Array, slopes: Array, levels: Array, index: Index
) -> Array:
    """G-computation over the patients' rows with each effect on or off; the columns are `COMPONENTS`."""
    patient = rows.patient
    used, cell = np.unique(cells.of_row[patient], return_inverse=True)
    average = _average(rows, weights, cell.ravel(), len(used))
    n_covariates = cells.covariates.shape[1]
    both = intercepts[:, cells.stratum[used]] + slopes[:, :n_covariates] @ cells.covariates[used].T
    tumor = np.einsum("bcq,bq->bc", cells.near[:, used][index], slopes[:, n_covariates:])
    shift = (levels[:, 0] - levels[:, -1])[:, cells.stratum[used] % len(rows.levels)]

    def mean(eta: Array) -> Array:
        # A draw of few participants can separate them: far out, 0 and 1 are the answer and no overflow.
        values = special.expit(eta) if rows.logit else eta
        return np.where(average > 0, average * values, 0.0).sum(axis=1)

    none, far, full = mean(both + shift), mean(both), mean(both + tumor)
    return np.where((index >= 0)[:, None], np.column_stack([none - full, none - far, far - full]), np.nan)


def _average(rows: Rows, weights: Array, cell: Index, n_cells: int) -> Array:
    """Weights of patients' cells that average within, then across patients, shape (B, cells)."""
    person = rows.person[rows.patient]
    share = 1.0 / np.bincount(person, minlength=len(rows.people))[person]
    there = np.zeros(len(rows.people))
    there[person] = 1.0  # a single bundle may be lacking in some
    with np.errstate(divide="ignore", invalid="ignore"):
        return (weights @ _matrix(share, person, cell, (len(rows.people), n_cells))) / (weights @ there)[:, None]


def linear_fit(rows: Rows, design: Array) -> QuasiFit:
    """Fit the rows with any design; every row counts once."""
    return fit(rows.outcome, rows.level, design, np.ones(len(rows.outcome)), len(rows.levels), rows.logit)


def mean_of(rows: Rows, found: QuasiFit, design: Array) -> Array:
    """Fitted mean of each row."""
    eta = found.intercepts[rows.level] + design @ found.slopes
    return 1 / (1 + np.exp(-eta)) if rows.logit else eta
