"""Quasi-likelihood fits with one intercept a bundle and a few slopes, fast enough to resample thousands of times."""

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
_MAX_STEPS = 50
# Newton's error squares in each step: after a step of 1e-5 the next would be of the order of 1e-10.
_TOLERANCE = 1e-5


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
    x = np.ascontiguousarray(design)
    converged = newton(y, level, x, weight, intercepts, slopes, logit)
    value = deviance(y, level, x, weight, intercepts, slopes, logit)
    return QuasiFit(intercepts=intercepts, slopes=slopes, deviance=float(value), converged=bool(converged))


@numba.njit(cache=True)
def newton(  # pyright: ignore
    y: Any, level: Any, design: Any, weight: Any, intercepts: Any, slopes: Any, logit: bool
) -> bool:
    """Newton's method in place; the intercepts are eliminated, so that only a P × P system is solved."""
    n, p = design.shape
    k = intercepts.shape[0]
    grad_k, curv_k, cross = np.empty(k), np.empty(k), np.empty((k, p))
    grad_p, curv_p = np.empty(p), np.empty((p, p))
    for _ in range(_MAX_STEPS):
        grad_k[:], curv_k[:], cross[:], grad_p[:], curv_p[:] = 0.0, 0.0, 0.0, 0.0, 0.0
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
            else:
                mu, v = eta, 1.0
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
            return False
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
            return False
        if largest < _TOLERANCE:
            return True
    return False


@numba.njit(cache=True)
def deviance(  # pyright: ignore
    y: Any, level: Any, design: Any, weight: Any, intercepts: Any, slopes: Any, logit: bool
) -> float:
    """Twice the negative quasi-log-likelihood, up to a constant of the data."""
    total = 0.0
    for i in range(y.shape[0]):
        w = weight[i]
        if w == 0.0:
            continue
        eta = intercepts[level[i]]
        for a in range(design.shape[1]):
            eta += design[i, a] * slopes[a]
        if logit:
            # log(1 + e^eta) without overflow
            soft = max(eta, 0.0) + np.log1p(np.exp(-abs(eta)))
            total += 2.0 * w * (soft - y[i] * eta)
        else:
            total += w * (y[i] - eta) ** 2
    return total


@numba.njit(cache=True)
def _is_regular(matrix: Any) -> bool:  # pyright: ignore
    """Whether a symmetric matrix is safely positive definite, judged after scaling its diagonal to 1."""
    p = matrix.shape[0]
    for a in range(p):
        if matrix[a, a] <= 1e-12:
            return False
    if p == 1:
        return True
    if p == 2:  # the eigenvalues of a correlation matrix of two are 1 ± r
        return 1.0 - abs(matrix[0, 1]) / np.sqrt(matrix[0, 0] * matrix[1, 1]) > 1e-8
    scale = np.sqrt(np.diag(matrix))
    return np.linalg.eigvalsh(matrix / scale / scale.reshape(-1, 1))[0] > 1e-8


@numba.njit(cache=True)
def fit_draws(  # pyright: ignore
    y: Any,
    weight: Any,
    level: Any,
    fixed: Any,
    near: Any,
    chosen: Any,
    start_k: Any,
    start_p: Any,
    start: int,
    logit: bool,
) -> Any:
    """Fit many weighted versions of the same cells, choosing among candidates for the last columns in each.

    Parameters
    ----------
    y, weight : ndarray, shape (B, C)
        Outcome and weight of each cell in each draw.
    level : ndarray of int, shape (C,)
        Level of each cell.
    fixed : ndarray, shape (C, F)
        Columns that are the same under every candidate.
    near : ndarray, shape (L, C, Q)
        Candidates for the other columns.
    chosen : ndarray of int, shape (B,)
        Candidate to take, or −1 to profile over all of them.
    start_k, start_p, start : ndarray, shapes (K,) and (F + Q,), and int
        Estimates near which every draw is expected, and the candidate they belong to.

    Returns
    -------
    intercepts, slopes, index : ndarray, shapes (B, K), (B, F + Q), (B,)
        Estimates and the candidate they belong to; NaN and −1 where nothing converged.
    """
    n_draws, n_levels, n_columns, n_fixed = weight.shape[0], start_k.shape[0], start_p.shape[0], fixed.shape[1]
    all_k, all_p = np.full((n_draws, n_levels), np.nan), np.full((n_draws, n_columns), np.nan)
    index = np.full(n_draws, -1, dtype=np.int64)
    design = np.empty((level.shape[0], n_columns))
    design[:, :n_fixed] = fixed
    spread = np.ascontiguousarray(near.transpose(1, 2, 0))
    bend = near[start] @ start_p[n_fixed:]
    mu = start_k[level] + fixed @ start_p[:n_fixed] + bend
    if logit:
        mu = 1.0 / (1.0 + np.exp(-mu))
    curvature = np.maximum(mu * (1.0 - mu), 1e-12) if logit else np.ones(mu.shape[0])
    for draw in range(n_draws):
        w = weight[draw]
        working = w * (y[draw] - mu + curvature * bend)
        first, last = chosen[draw], chosen[draw] + 1
        if first < 0:
            first, last = 0, near.shape[0]
        center, k, p = _one_step(working, w * curvature, level, fixed, spread, first, last, start_k, start_p)
        best, lowest = -1, np.inf
        best_k, best_p = k, p
        # The candidate that linearization prefers, then downhill from it to either side.
        for direction in (0, -1, 1):
            candidate = center + direction
            while first <= candidate < last:
                design[:, n_fixed:] = near[candidate]
                k, p = best_k.copy(), best_p.copy()
                if not newton(y[draw], level, design, w, k, p, logit):
                    break
                value = deviance(y[draw], level, design, w, k, p, logit) if last - first > 1 else 0.0
                if value >= lowest:
                    break
                lowest, best, best_k, best_p = value, candidate, k, p
                if direction == 0:
                    break
                candidate += direction
        if best >= 0:
            all_k[draw], all_p[draw], index[draw] = best_k, best_p, best
    return all_k, all_p, index


@numba.njit(cache=True)
def _one_step(  # pyright: ignore
    working: Any,
    curvature: Any,
    level: Any,
    fixed: Any,
    spread: Any,
    first: int,
    last: int,
    start_k: Any,
    start_p: Any,
) -> Any:
    """The best candidate of a least-squares fit to the linearized model, and its estimates.

    ``spread`` holds the candidates in the shape (C, Q, L). ``working`` is curvature times working response, less what
    intercepts and fixed columns explain at the start.
    """
    n, q = spread.shape[:2]
    f, k = fixed.shape[1], start_k.shape[0]
    p = f + q
    mass, pull, base = np.zeros(k), np.zeros(k), np.zeros((k, f))
    common, common_score = np.zeros((f, f)), np.zeros(f)
    for i in range(n):
        mass[level[i]] += curvature[i]
        pull[level[i]] += working[i]
        for a in range(f):
            x = curvature[i] * fixed[i, a]
            base[level[i], a] += x
            common_score[a] += working[i] * fixed[i, a]
            for b in range(a + 1):
                common[a, b] += x * fixed[i, b]
    best, highest = (first + last) // 2, -1.0
    best_k, best_p = start_k.copy(), start_p.copy()
    # Sums over cells for all candidates at once: the innermost loop runs over contiguous memory.
    n_candidates = spread.shape[2]
    all_sums, all_score = np.zeros((k, q, n_candidates)), np.zeros((q, n_candidates))
    all_cross, all_gram = np.zeros((q, f, n_candidates)), np.zeros((q, q, n_candidates))
    for i in range(n):
        v, u = curvature[i], working[i]
        if v == 0.0:
            continue
        j = level[i]
        for a in range(q):
            for c in range(n_candidates):
                x = spread[i, a, c]
                all_sums[j, a, c] += v * x
                all_score[a, c] += u * x
            for b in range(f):
                z = v * fixed[i, b]
                for c in range(n_candidates):
                    all_cross[a, b, c] += z * spread[i, a, c]
            for b in range(a + 1):
                for c in range(n_candidates):
                    all_gram[a, b, c] += v * spread[i, a, c] * spread[i, b, c]
    sums, gram, score = np.empty((k, p)), np.empty((p, p)), np.empty(p)
    for candidate in range(first, last):
        gram[:f, :f], sums[:, :f], score[:f] = common, base, common_score
        gram[f:, :f], gram[f:, f:] = all_cross[:, :, candidate], all_gram[:, :, candidate]
        sums[:, f:], score[f:] = all_sums[:, :, candidate], all_score[:, candidate]
        for j in range(k):
            if mass[j] > 0:
                for a in range(p):
                    score[a] -= sums[j, a] * pull[j] / mass[j]
                    for b in range(a + 1):
                        gram[a, b] -= sums[j, a] * sums[j, b] / mass[j]
        for a in range(p):
            for b in range(a):
                gram[b, a] = gram[a, b]
        if not _is_regular(gram):
            continue
        slopes = np.linalg.solve(gram, score)
        gain = score @ slopes
        if gain > highest:
            best, highest = candidate, gain
            best_p = slopes.copy()
            best_p[:f] += start_p[:f]
            for j in range(k):
                if mass[j] > 0:
                    best_k[j] = start_k[j] + (pull[j] - sums[j] @ slopes) / mass[j]
    return best, best_k, best_p
