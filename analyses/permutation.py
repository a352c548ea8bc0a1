"""Permutation tests of the two parts: score statistics, studentized over participants."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .regression import linear_fit, mean_of
from .resampling import p_value, permute_within, strata_of
from .rows import Rows

Array = NDArray[np.float64]


def tumor_test(rows: Rows, covariates: Array, grid_mm: Array, permutations: int, rng: np.random.Generator) -> float:
    """p-value of the hypothesis that performance does not depend on the distance to the tumor.

    Whole distance vectors are permuted across patients within strata of tumor side and volume tertile, so that
    everything but the link between a patient's distances and performance is kept. The statistic is the largest,
    over the grid of λ, of the efficient score for β divided by its participant-robust standard error.

    Parameters
    ----------
    rows : Rows
        Patients and controls.
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
    design = np.column_stack([rows.patient.astype(float), covariates])
    scores = _efficient_scores(rows, design) if rows.n_patients >= 2 else None
    if scores is None:
        return float("nan")
    near = np.exp(-_distance_table(rows) / grid_mm[:, None, None])
    patient_rows = np.flatnonzero(rows.patient)
    person, level = rows.person[patient_rows], rows.level[patient_rows]
    proximity = np.zeros((len(grid_mm), len(rows.outcome)))

    def statistic(donor: NDArray[np.int64]) -> float:
        proximity[:, patient_rows] = near[:, donor[person], level]
        return _largest(scores(proximity), rows)

    observed = statistic(np.arange(rows.n_patients))
    if not np.isfinite(observed):
        return float("nan")
    strata = _strata(rows)
    permuted = np.array([statistic(permute_within(strata, rng)) for _ in range(permutations)])
    return p_value(observed, permuted)


def systematic_test(
    rows: Rows, covariates: Array, decay_mm: float, permutations: int, rng: np.random.Generator
) -> float:
    """p-value of the hypothesis that there is no distance-independent drop.

    The null model keeps the tumor's effect at the estimated λ. Cohort labels are permuted over participants and
    the efficient score for θ, studentized over participants, is computed with the null model's residuals.

    References
    ----------
    Winkler AM et al. NeuroImage 92:381 (2014), doi 10.1016/j.neuroimage.2014.01.060.
    """
    proximity = np.exp(-rows.distance_mm / decay_mm)[:, None]
    design = np.column_stack([proximity, covariates])
    scores = _efficient_scores(rows, design) if min(rows.n_patients, rows.n_controls) >= 2 else None
    if scores is None:
        return float("nan")
    labels = np.zeros((permutations + 1, len(rows.people)))
    labels[0, : rows.n_patients] = 1.0
    for row in range(1, permutations + 1):
        labels[row] = rng.permutation(labels[0])
    statistics = np.array([_largest(scores(label[None, rows.person]), rows) for label in labels])
    return p_value(float(statistics[0]), statistics[1:])


def _largest(scores: Array, rows: Rows) -> float:
    """Largest |sum over participants| / root of the sum of squares, over the rows of ``scores``."""
    best = float("nan")
    for score in scores:
        by_person = np.bincount(rows.person, score, minlength=len(rows.people))
        spread = np.sqrt((by_person**2).sum())
        if spread > 1e-12:
            best = np.nanmax([best, abs(by_person.sum()) / spread])
    return float(best)


def _efficient_scores(rows: Rows, design: Array) -> Callable[[Array], Array] | None:
    """Fit the null model and return what turns columns into their efficient scores, row by row.

    The efficient part of a column is its residual in a weighted regression on the intercepts and the design. None
    where the null model cannot be fitted.
    """
    null = linear_fit(rows, design)
    if not null.converged:
        return None
    mu = mean_of(rows, null, design)
    residual = rows.outcome - mu
    variance = mu * (1 - mu) if rows.logit else np.ones_like(mu)
    n_levels = len(rows.levels)
    mass = np.bincount(rows.level, variance, minlength=n_levels)

    def center(columns: Array) -> Array:
        means = np.stack([np.bincount(rows.level, variance * c, minlength=n_levels) for c in columns]) / mass
        return columns - means[:, rows.level]

    base = center(design.T)
    gram = (base * variance) @ base.T
    # A covariate or proximity of no variation drops out instead of making the system singular.
    inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)

    def scores(columns: Array) -> Array:
        centered = center(columns)
        return (centered - ((centered * variance) @ base.T @ inverse) @ base) * residual

    return scores


def _distance_table(rows: Rows) -> Array:
    """Distance of each patient's tumor to each level; a bundle that a patient lacks gets the patients' median."""
    table = np.full((rows.n_patients, len(rows.levels)), np.nan)
    patient = rows.patient
    table[rows.person[patient], rows.level[patient]] = rows.distance_mm[patient]
    medians = np.array([np.nanmedian(column) if np.isfinite(column).any() else np.inf for column in table.T])
    return np.where(np.isfinite(table), table, medians)


def _strata(rows: Rows) -> NDArray[np.int64]:
    first = rows.frame[rows.patient].drop_duplicates("participant_id").set_index("participant_id")
    first = first.reindex(list(rows.people[: rows.n_patients]))
    empty = np.full(rows.n_patients, "n/a")
    side = first["tumor_side"].to_numpy(dtype=str) if "tumor_side" in first else empty
    volume = (
        first["tumor_volume_ml"].to_numpy(dtype=float) if "tumor_volume_ml" in first else np.full(len(first), np.nan)
    )
    return strata_of(side, volume)
