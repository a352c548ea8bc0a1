"""Permutation tests of the two parts: efficient scores, studentized over participants."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from ..statistics.inference import p_value, permute_within, strata_of
from .regression import linear_fit, mean_of
from .rows import Rows

Array = NDArray[np.float64]


def tumor_test(rows: Rows, covariates: Array, grid_mm: Array, permutations: int, rng: np.random.Generator) -> float:
    """p-value of the hypothesis that performance does not depend on the distance to the tumor.

    Whole distance vectors are permuted across patients within strata of tumor volume, so that everything but the
    link between a patient's distances and performance is kept. Vectors move between left and right tumors: under
    the hypothesis the side does not matter either, and the contrast between the hemispheres is where most of the
    evidence lies. The statistic is the largest, over the grid of λ, of the efficient score for β divided by its
    participant-robust standard error.

    Parameters
    ----------
    rows : Rows
        The patients among them are used.
    covariates : ndarray, shape (N, C)
        Centered within cohort.
    grid_mm : ndarray, shape (L,)
        Candidates for λ.
    permutations : int
        Random permutations.
    rng : Generator
        Source of the permutations.

    Returns
    -------
    float
        NaN where the null model cannot be fitted or distances do not vary.

    References
    ----------
    Janssen A. Statistics & Probability Letters 36:9 (1997), doi 10.1016/S0167-7152(97)00043-6 (studentized
    permutation); Davies RB. Biometrika 74:33 (1987), doi 10.1093/biomet/74.1.33 (λ exists under the
    alternative only).
    """
    patients, own = rows.take(rows.patient), covariates[rows.patient]
    null = _Null.of(patients, own) if rows.n_patients >= 2 else None
    if null is None:
        return float("nan")
    near = np.exp(-distance_table(rows)[..., None] / grid_mm)
    strata = strata_of(_volumes(rows))
    donors = np.stack([np.arange(rows.n_patients), *(permute_within(strata, rng) for _ in range(permutations))]).astype(
        np.int64
    )
    residual, variance, base = (table[: rows.n_patients] for table in (null.residual, null.variance, null.base))
    found = _largest_scores(donors, near, residual, variance, base, null.inverse)
    return p_value(float(found[0]), found[1:])


def cohort_test(rows: Rows, covariates: Array, decay_mm: float, permutations: int, rng: np.random.Generator) -> float:
    """p-value of the hypothesis that two cohorts do not differ but by what decays with distance.

    The null model keeps the tumor's effect near the estimated λ: its column, and the column's derivative in λ, so that
    the estimation of λ is allowed for. Cohort labels are permuted over participants and the efficient score for
    the label, studentized over participants, is computed with the null model's residuals.

    Parameters
    ----------
    rows : Rows
        Participants of two cohorts.
    covariates : ndarray, shape (N, C)
        Centered within cohort.
    decay_mm : float
        λ.
    permutations : int
        Random permutations.
    rng : Generator
        Source of the permutations.

    References
    ----------
    Winkler AM et al. NeuroImage 92:381 (2014), doi 10.1016/j.neuroimage.2014.01.060.
    """
    label = np.zeros(len(rows.people))
    label[rows.person] = rows.cohort == rows.cohort.max()
    there = np.unique(rows.person)
    if min(label[there].sum(), there.size - label[there].sum()) < 2:
        return float("nan")
    near = np.exp(-rows.distance_mm / decay_mm)
    bent = np.where(rows.patient, rows.distance_mm, 0.0) / decay_mm * near
    null = _Null.of(rows, np.column_stack([near, bent, covariates]))
    if null is None:
        return float("nan")
    labels = np.tile(label, (permutations + 1, 1))
    for row in labels[1:]:
        row[there] = rng.permutation(label[there])
    mass = null.variance.sum(axis=0)
    means = labels @ null.variance / np.where(mass > 0, mass, 1.0)
    slopes = labels @ np.einsum("pk,pka->pa", null.variance, null.base) @ null.inverse
    scores = labels * null.residual.sum(axis=1) - means @ null.residual.T
    scores -= slopes @ np.einsum("pk,pka->pa", null.residual, null.base).T
    spread = np.sqrt((scores**2).sum(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(spread > 1e-12, np.abs(scores.sum(axis=1)) / spread, np.nan)
    return p_value(float(found[0]), found[1:])


@dataclass(frozen=True, kw_only=True)
class _Null:
    """A fitted null model as tables of people by levels, 0 where a participant lacks a bundle.

    ``base`` holds the model's columns, shape (people, K, A), centered within levels by the working weights
    ``variance``; ``inverse`` is the inverse of their cross product.
    """

    residual: Array
    variance: Array
    base: Array
    inverse: Array

    @classmethod
    def of(cls, rows: Rows, design: Array) -> "_Null | None":
        """Fit the null model; None where it cannot be fitted."""
        # A proximity without variation drops out instead of making the fit singular.
        design = design[:, np.abs(design).max(axis=0) > 1e-9] if design.shape[1] else design
        null = linear_fit(rows, design)
        if not null.converged:
            return None
        mu = mean_of(rows, null, design)
        variance = mu * (1 - mu) if rows.logit else np.ones_like(mu)
        n_levels = len(rows.levels)
        mass = np.bincount(rows.level, variance, minlength=n_levels)
        sums = np.zeros((n_levels, design.shape[1]))
        np.add.at(sums, rows.level, variance[:, None] * design)
        centered = design - (sums / np.where(mass > 0, mass, 1.0)[:, None])[rows.level]
        shape = (len(rows.people), n_levels)
        return cls(
            residual=_table(rows, rows.outcome - mu, shape),
            variance=_table(rows, variance, shape),
            base=_table(rows, centered, (*shape, design.shape[1])),
            inverse=np.asarray(
                np.linalg.pinv((centered * variance[:, None]).T @ centered, rcond=1e-10, hermitian=True), dtype=float
            ),
        )


def _table(rows: Rows, values: Array, shape: tuple[int, ...]) -> Array:
    table = np.zeros(shape)
    table[rows.person, rows.level] = values
    return table


@numba.njit(cache=True)
def _largest_scores(  # pyright: ignore
    donors: Any, near: Any, residual: Any, variance: Any, base: Any, inverse: Any
) -> Any:
    """Largest studentized efficient score over λ for each assignment of distance vectors to patients."""
    n_patients, n_levels, n_base = base.shape
    n_lengths = near.shape[2]
    mass = np.zeros(n_levels)
    tilt = np.zeros((n_patients, n_base))  # how a patient's residuals lie along the null model's columns
    for p in range(n_patients):
        mass += variance[p]
        for k in range(n_levels):
            tilt[p] += residual[p, k] * base[p, k]
    found = np.full(donors.shape[0], np.nan)
    means, cross = np.empty((n_levels, n_lengths)), np.empty((n_base, n_lengths))
    for number in range(donors.shape[0]):
        donor = donors[number]
        means[:], cross[:] = 0.0, 0.0
        scores = np.zeros((n_patients, n_lengths))
        for p in range(n_patients):
            for k in range(n_levels):
                v, r = variance[p, k], residual[p, k]
                if v == 0.0:
                    continue
                column = near[donor[p], k]
                for c in range(n_lengths):
                    means[k, c] += v * column[c]
                    scores[p, c] += r * column[c]
                for a in range(n_base):
                    weight = v * base[p, k, a]
                    for c in range(n_lengths):
                        cross[a, c] += weight * column[c]
        for k in range(n_levels):
            if mass[k] > 0:
                means[k] /= mass[k]
        scores -= residual @ means
        if n_base:
            scores -= tilt @ (inverse @ cross)
        for c in range(n_lengths):
            spread = np.sqrt((scores[:, c] ** 2).sum())
            if spread > 1e-12:
                value = abs(scores[:, c].sum()) / spread
                if not found[number] >= value:
                    found[number] = value
    return found


def distance_table(rows: Rows) -> Array:
    """Distance of each patient's tumor to each level; a bundle that a patient lacks gets the patients' median."""
    table = np.full((rows.n_patients, len(rows.levels)), np.nan)
    patient = rows.patient
    table[rows.person[patient], rows.level[patient]] = rows.distance_mm[patient]
    medians = np.array([np.nanmedian(column) if np.isfinite(column).any() else np.inf for column in table.T])
    return np.where(np.isfinite(table), table, medians)


def _volumes(rows: Rows) -> Array:
    if "tumor_volume_ml" not in rows.frame:
        return np.full(rows.n_patients, np.nan)
    first = rows.frame[rows.patient].drop_duplicates("participant_id").set_index("participant_id")
    return first.reindex(list(rows.people[: rows.n_patients]))["tumor_volume_ml"].to_numpy(dtype=float)
