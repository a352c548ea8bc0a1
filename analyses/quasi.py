"""Quasi-likelihood fits with one intercept a bundle and a few slopes, fast enough to resample thousands of times."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_MAX_STEPS = 50
_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class QuasiFit:
    """Estimates of one fit.

    Parameters
    ----------
    intercepts : ndarray, shape (K,)
        One a level (bundle and hemisphere).
    slopes : ndarray, shape (P,)
        One a column of the design.
    deviance : float
        Twice the negative quasi-log-likelihood, up to a constant of the data.
    converged : bool
        False for separation, singular designs, or too many steps.
    """

    intercepts: Array
    slopes: Array
    deviance: float
    converged: bool


def fit(
    y: Array, level: Index, design: Array, weight: Array, n_levels: int, logit: bool, start: QuasiFit | None = None
) -> QuasiFit:
    """Fit E[y] = g⁻¹(intercept of the row's level + design · slopes) by weighted quasi-likelihood.

    With ``logit`` this is the fractional logit (Papke & Wooldridge 1996, doi
    10.1002/(SICI)1099-1255(199611)11:6<619::AID-JAE418>3.0.CO;2-1): values of exactly 0 and 1 are fine. Without
    it, least squares.

    Parameters
    ----------
    y : ndarray, shape (N,)
        Outcome; in 0–1 with ``logit``.
    level : ndarray of int, shape (N,)
        Level of each row, 0 to ``n_levels`` − 1.
    design : ndarray, shape (N, P)
        Columns without intercept.
    weight : ndarray, shape (N,)
        Non-negative row weights, such as how often a participant was drawn.
    n_levels : int
        Number of intercepts; a level without weight keeps the intercept it started with.
    logit : bool
        Link.
    start : QuasiFit, optional
        Where to start from.

    Examples
    --------
    >>> y, level = np.array([0.2, 0.4, 0.9]), np.zeros(3, dtype=np.int64)
    >>> found = fit(y, level, np.zeros((3, 0)), np.ones(3), 1, logit=True)
    >>> round(float(1 / (1 + np.exp(-found.intercepts[0]))), 6)
    0.5
    """
    intercepts = np.zeros(n_levels) if start is None else start.intercepts.copy()
    slopes = np.zeros(design.shape[1]) if start is None else start.slopes.copy()
    deviance, converged = newton(y, level, design, weight, intercepts, slopes, logit)
    return QuasiFit(intercepts=intercepts, slopes=slopes, deviance=float(deviance), converged=bool(converged))


@numba.njit(cache=True, fastmath=False)
def newton(  # pyright: ignore
    y: Any, level: Any, design: Any, weight: Any, intercepts: Any, slopes: Any, logit: bool
) -> tuple[float, bool]:
    """Newton's method in place; the intercepts are eliminated, so that only a P × P system is solved."""
    n, p = design.shape
    k = intercepts.shape[0]
    previous = np.inf
    for _ in range(_MAX_STEPS):
        grad_k, curv_k = np.zeros(k), np.zeros(k)
        cross = np.zeros((k, p))
        grad_p, curv_p = np.zeros(p), np.zeros((p, p))
        deviance = 0.0
        for i in range(n):
            w = weight[i]
            if w == 0.0:
                continue
            j = level[i]
            eta = intercepts[j]
            for a in range(p):
                eta += design[i, a] * slopes[a]
            if logit:
                mu = 1.0 / (1.0 + np.exp(-eta))
                v = max(mu * (1.0 - mu), 1e-12)
                # log(1 + e^eta) without overflow
                soft = eta + np.log1p(np.exp(-eta)) if eta > 0 else np.log1p(np.exp(eta))
                deviance += 2.0 * w * (soft - y[i] * eta)
            else:
                mu, v = eta, 1.0
                deviance += w * (y[i] - eta) ** 2
            r = w * (y[i] - mu)
            wv = w * v
            grad_k[j] += r
            curv_k[j] += wv
            for a in range(p):
                xa = design[i, a]
                cross[j, a] += wv * xa
                grad_p[a] += r * xa
                for b in range(a + 1):
                    curv_p[a, b] += wv * xa * design[i, b]
        for a in range(p):
            for b in range(a):
                curv_p[b, a] = curv_p[a, b]
        for j in range(k):
            if curv_k[j] > 0:
                for a in range(p):
                    grad_p[a] -= cross[j, a] * grad_k[j] / curv_k[j]
                    for b in range(p):
                        curv_p[a, b] -= cross[j, a] * cross[j, b] / curv_k[j]
        if p and not _is_regular(curv_p):
            return deviance, False
        step_p = np.linalg.solve(curv_p, grad_p) if p else np.zeros(0)
        largest = 0.0
        for a in range(p):
            slopes[a] += step_p[a]
            largest = max(largest, abs(step_p[a]))
        for j in range(k):
            if curv_k[j] > 0:
                step = grad_k[j]
                for a in range(p):
                    step -= cross[j, a] * step_p[a]
                step /= curv_k[j]
                intercepts[j] += step
                largest = max(largest, abs(step))
        if not np.isfinite(largest) or largest > 1e3:
            return deviance, False
        if largest < _TOLERANCE or abs(previous - deviance) < 1e-13 * (1.0 + abs(deviance)):
            return deviance, True
        previous = deviance
    return previous, False


@numba.njit(cache=True)
def _is_regular(matrix: Any) -> bool:  # pyright: ignore
    """Whether a symmetric matrix is safely positive definite, judged after scaling its diagonal to 1."""
    p = matrix.shape[0]
    scaled = np.empty((p, p))
    for a in range(p):
        if matrix[a, a] <= 1e-12:
            return False
        for b in range(p):
            scaled[a, b] = matrix[a, b] / np.sqrt(matrix[a, a] * matrix[b, b])
    return np.linalg.eigvalsh(scaled)[0] > 1e-8


@numba.njit(cache=True)
def profile(  # pyright: ignore
    y: Any,
    level: Any,
    design: Any,
    weight: Any,
    proximities: Any,
    column: int,
    intercepts: Any,
    slopes: Any,
    logit: bool,
) -> tuple[int, float, bool]:
    """Best column ``column`` of the design among ``proximities`` (shape (L, N)); estimates are left in place.

    A coarse pass over every fourth candidate, then downhill from the best: the profile is smooth in the
    logarithm of the decay length.
    """
    n_candidates = proximities.shape[0]
    x = design.copy()
    deviances = np.full(n_candidates, np.inf)
    best_k, best_p = intercepts.copy(), slopes.copy()
    lowest, best = np.inf, -1
    start_k, start_p = intercepts.copy(), slopes.copy()
    for phase in range(2):
        if phase == 1 and best < 0:
            break
        center = best
        for offset in range(n_candidates):
            if phase == 0:
                index = offset
                if index % 4 != 0 and index != n_candidates - 1:
                    continue
            else:
                index = center - 3 + offset
                if offset > 6:
                    break
                if index < 0 or index >= n_candidates or deviances[index] < np.inf:
                    continue
            x[:, column] = proximities[index]
            trial_k, trial_p = start_k.copy(), start_p.copy()
            deviance, converged = newton(y, level, x, weight, trial_k, trial_p, logit)
            if not converged:
                continue
            deviances[index] = deviance
            if deviance < lowest:
                lowest, best = deviance, index
                best_k, best_p = trial_k, trial_p
                start_k, start_p = trial_k, trial_p
    if best < 0:
        return -1, lowest, False
    intercepts[:] = best_k
    slopes[:] = best_p
    return best, lowest, True
