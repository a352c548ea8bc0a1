"""Permutation tests of the two parts: efficient scores, studentized over participants."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..statistics.inference import p_value, permute_within, strata_of
from .regression import linear_fit, mean_of
from .rows import Rows

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_CHUNK = 500  # permutations held in memory at a time


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
    own_null = null.of_first(rows.n_patients)
    near = np.exp(-distance_table(rows)[..., None] / grid_mm)
    strata = strata_of(_volumes(rows))
    donors = np.vstack([np.arange(rows.n_patients), permute_within(strata, rng, permutations)])
    found = np.concatenate(
        [_largest_scores(donors[first : first + _CHUNK], near, own_null) for first in range(0, len(donors), _CHUNK)]
    )
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

    def of_first(self, n: int) -> "_Null":
        """The first people's part of the tables."""
        return replace(self, residual=self.residual[:n], variance=self.variance[:n], base=self.base[:n])


def _table(rows: Rows, values: Array, shape: tuple[int, ...]) -> Array:
    table = np.zeros(shape)
    table[rows.person, rows.level] = values
    return table


def _largest_scores(donors: Index, near: Array, null: _Null) -> Array:
    """Largest studentized efficient score over λ for each assignment of distance vectors to patients.

    Parameters
    ----------
    donors : ndarray of int, shape (permutations, patients)
        Whose distances each patient has.
    near : ndarray, shape (patients, K, L)
        Proximity of each patient's tumor to each level, for each λ.
    null : _Null
        Of the patients.
    """
    patients, residual = np.arange(donors.shape[1]), null.residual
    mass = null.variance.sum(axis=0)
    # A sum over patients of something of theirs times their donor's proximity is one over donors of something of
    # their receiver's: a product of matrices.
    receivers = np.argsort(donors, axis=1)
    by_level = near.transpose(1, 0, 2)

    def given(weights: Array) -> Array:
        return np.matmul(weights.T[:, receivers], by_level)

    means = given(null.variance) / np.where(mass > 0, mass, 1.0)[:, None, None]
    bases = np.moveaxis(null.base, 2, 0)
    cross = np.stack([given(null.variance * base).sum(axis=0) for base in bases]) if len(bases) else np.empty((0, 1, 1))
    tilt = np.einsum("pk,pka->pa", residual, null.base)  # how a patient's residuals lie along the null model's columns
    found = np.full(len(donors), np.nan)
    for length in range(near.shape[2]):
        scores = (residual @ near[:, :, length].T)[patients, donors]
        scores -= means[:, :, length].T @ residual.T
        if len(bases):
            scores -= cross[:, :, length].T @ null.inverse @ tilt.T
        spread = np.sqrt((scores**2).sum(axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.abs(scores.sum(axis=1)) / spread
        found = np.fmax(found, np.where(spread > 1e-12, value, np.nan))
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
