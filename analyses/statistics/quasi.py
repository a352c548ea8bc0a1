"""Quasi-likelihood fits with one intercept a level and a few slopes, of thousands of resampled cohorts at once.

All draws take their steps together, as operations on arrays of draws by cells: as fast as compiled loops over single
draws, for exponentials and matrix products are what takes the time, and nothing has to be compiled before the first.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
_MAX_STEPS = 50
# Newton's error squares in each step: after a step of 1e-5 the next would be of the order of 1e-10.
_TOLERANCE = 1e-5
_DIVERGED = 1e3  # on the scale of the logit, where 30 is 0 or 1 to the last digit
_SINGULAR = 2e-8  # share of a column's sum of squares that the columns before it leave
_PIECE = 1 << 17  # numbers an array holds at a time: a few of them fit into the processor's cache


@dataclass(frozen=True, kw_only=True)
class QuasiFit:
    """Estimates of one fit: an intercept a level (bundle and hemisphere), a slope a column of the design.

    The deviance is twice the negative quasi-log-likelihood, up to a constant of the data. Separation, singular designs
    and too many steps are no convergence.
    """

    intercepts: Array
    slopes: Array
    deviance: float
    converged: bool


class Start(NamedTuple):
    """Estimates near which every draw is expected, and the candidate they belong to."""

    intercepts: Array
    slopes: Array
    candidate: int


def fit(y: Array, level: Index, design: Array, weight: Array, n_levels: int, logit: bool) -> QuasiFit:
    """Fit E[y] = g⁻¹(intercept of the row's level + design · slopes) by weighted quasi-likelihood.

    With ``logit`` this is the fractional logit (Papke & Wooldridge 1996, doi
    10.1002/(SICI)1099-1255(199611)11:6<619::AID-JAE418>3.0.CO;2-1): values of exactly 0 and 1 are fine. Without
    it, least squares.

    Rows have an outcome, in 0–1 with ``logit``, a level from 0 to ``n_levels`` − 1, a line of the design, shape (N, P),
    and a weight, such as how often a participant was drawn. A level without weight has the intercept 0.

    Examples
    --------
    >>> y, level = np.array([0.2, 0.4, 0.9]), np.zeros(3, dtype=np.int64)
    >>> found = fit(y, level, np.zeros((3, 0)), np.ones(3), 1, logit=True)
    >>> round(float(1 / (1 + np.exp(-found.intercepts[0]))), 6)
    0.5
    """
    order = np.argsort(level, kind="stable")
    cells = _Cells(y=y[None, order], weight=weight[None, order], level=level[order], n_levels=n_levels, logit=logit)
    columns = list(design[order].T)
    k, p, converged = _newton(cells, columns, np.zeros((1, n_levels)), np.zeros((1, len(columns))))
    value = _deviance(cells, columns, k, p)
    return QuasiFit(intercepts=k[0], slopes=p[0], deviance=float(value[0]), converged=bool(converged[0]))


def fit_draws(
    y: Array, weight: Array, level: Index, fixed: Array, near: Array, chosen: Index, start: Start, logit: bool
) -> tuple[Array, Array, Index]:
    """Fit many weighted versions of the same cells, choosing among candidates for the last columns in each.

    Parameters
    ----------
    y, weight : ndarray, shape (B, C)
        Outcome and weight of each cell in each draw.
    level : ndarray of int, shape (C,)
        Level of each cell, ascending.
    fixed : ndarray, shape (C, F)
        Columns that are the same under every candidate.
    near : ndarray, shape (L, C, Q)
        Candidates for the other columns.
    chosen : ndarray of int, shape (B,)
        Candidate to take, or −1 to profile over all of them.
    start : Start
        Estimates near which every draw is expected.
    logit : bool
        Link.

    Returns
    -------
    intercepts, slopes, index : ndarray, shapes (B, K), (B, F + Q), (B,)
        Estimates and the candidate they belong to; NaN and −1 where nothing converged.
    """
    levels: dict[str, Any] = {"level": level, "n_levels": start.intercepts.size, "logit": logit}
    size = max(_PIECE // max(level.size, 1), 1)
    pieces = [slice(first, first + size) for first in range(0, len(y), size)]
    parts = [
        _profile(_Cells(y=y[piece], weight=weight[piece], **levels), fixed, near, chosen[piece], start)
        for piece in pieces
    ]
    if not parts:
        return np.empty((0, start.intercepts.size)), np.empty((0, start.slopes.size)), chosen
    k, p, index = (np.concatenate(part) for part in zip(*parts, strict=True))
    return k, p, index


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """Outcome and weight of each cell in each draw, shape (B, C), and the level of each cell, ascending."""

    y: Array
    weight: Array
    level: Index
    n_levels: int
    logit: bool

    @cached_property
    def there(self) -> tuple[Index, Index]:
        """Levels that have cells, and the first cell of each."""
        found, first = np.unique(self.level, return_index=True)
        return found, first

    def sums(self, values: Array) -> Array:
        """Sum over the cells of each level, shape (B, K)."""
        found, first = self.there
        total = np.zeros((len(values), self.n_levels))
        total[:, found] = np.add.reduceat(values, first, axis=1)
        return total

    def take(self, rows: Index) -> "_Cells":
        """Some of the draws."""
        return self if rows.size == len(self.y) else replace(self, y=self.y[rows], weight=self.weight[rows])

    def mean(self, eta: Array) -> tuple[Array, Array]:
        """Mean and variance function of linear predictors."""
        if not self.logit:
            return eta, np.ones_like(eta)
        with np.errstate(over="ignore"):  # of a fit on its way to be given up
            mu = 1.0 / (1.0 + np.exp(-eta))
        return mu, np.maximum(mu * (1.0 - mu), 1e-12)

    def eta(self, columns: list[Array], k: Array, p: Array) -> Array:
        """Linear predictors, shape (B, C)."""
        eta = k[:, self.level]
        for a, column in enumerate(columns):
            eta += p[:, [a]] * column
        return eta


def _newton(cells: _Cells, columns: list[Array], k: Array, p: Array) -> tuple[Array, Array, Mask]:
    """Newton's method for all draws together, from intercepts k, shape (B, K), and slopes p, shape (B, P).

    Columns of the design have shape (C,) or, where they are not the same in all draws, (B, C). Where each draw ended,
    and whether it converged.
    """
    end_k, end_p, converged = k.copy(), p.copy(), np.zeros(len(k), dtype=bool)
    left = np.arange(len(k))
    for _ in range(_MAX_STEPS):
        mu, v = cells.mean(cells.eta(columns, k, p))
        np.subtract(cells.y, mu, out=mu)
        mu *= cells.weight  # what is not explained, by weight
        v *= cells.weight
        step_k, step_p, sound = _step(cells, columns, mu, v)
        k, p = k + step_k, p + step_p
        largest = np.abs(np.concatenate([step_k, step_p], axis=1)).max(axis=1)
        sound &= largest <= _DIVERGED  # not where it is NaN
        end_k[left], end_p[left] = k, p
        ended = sound & (largest < _TOLERANCE)
        converged[left] = ended
        # A draw that has ended leaves the others, so that the slowest few do not cost the time of all.
        going = np.flatnonzero(sound & ~ended)
        if not going.size:
            break
        if going.size < left.size:
            left, k, p, cells = left[going], k[going], p[going], cells.take(going)
            columns = [column if column.ndim == 1 else column[going] for column in columns]
    return end_k, end_p, converged


def _step(cells: _Cells, columns: list[Array], residual: Array, v: Array) -> tuple[Array, Array, Mask]:
    """One step of Newton's method in intercepts and slopes, and whether the system could be solved."""
    n, p = len(residual), len(columns)
    pull, mass = cells.sums(residual), cells.sums(v)
    cross, score, gram = np.zeros((n, cells.n_levels, p)), np.zeros((n, p)), np.zeros((n, p, p))
    for a, column in enumerate(columns):
        wide = np.broadcast_to(column, v.shape)
        bent = v * column
        cross[:, :, a] = cells.sums(bent)
        score[:, a] = np.einsum("bc,bc->b", residual, wide)
        for b in range(a + 1):
            gram[:, a, b] = gram[:, b, a] = np.einsum("bc,bc->b", bent, np.broadcast_to(columns[b], v.shape))
    step_p, _, sound = _slopes(score, gram, cross, pull, mass)
    step_k = _over(pull - np.einsum("bkp,bp->bk", cross, step_p), mass)
    return step_k, step_p, sound


def _slopes(score: Array, gram: Array, cross: Array, pull: Array, mass: Array) -> tuple[Array, Array, Mask]:
    """Slopes of weighted least squares with the intercepts eliminated, so that only P × P systems are solved.

    Parameters
    ----------
    score, gram : ndarray, shapes (..., P) and (..., P, P)
        Products of the columns with the response and with each other.
    cross, pull, mass : ndarray, shapes (..., K, P), (..., K) and (..., K)
        Sums over each level of the columns, the response and the weights.

    Returns
    -------
    slopes, gain, sound : ndarray, shapes (..., P), (...) and (...)
        Slopes, the fall in the sum of squares, and whether the columns can be told apart.
    """
    score = score - np.einsum("...kp,...k->...p", cross, _over(pull, mass))
    gram = gram - np.einsum("...kp,...kq->...pq", _over(cross, mass[..., None]), cross)
    p = score.shape[-1]
    lower, slopes, sound = np.zeros_like(gram), score.copy(), np.ones(score.shape[:-1], dtype=bool)
    for a in range(p):  # Cholesky's decomposition, of all systems at once
        for b in range(a + 1):
            rest = gram[..., a, b] - (lower[..., a, :b] * lower[..., b, :b]).sum(axis=-1)
            if b < a:
                lower[..., a, b] = rest / lower[..., b, b]
            else:
                sound &= (gram[..., a, a] > 1e-12) & (rest > _SINGULAR * gram[..., a, a])
                lower[..., a, a] = np.sqrt(np.where(sound, rest, 1.0))
        slopes[..., a] = (slopes[..., a] - (lower[..., a, :a] * slopes[..., :a]).sum(axis=-1)) / lower[..., a, a]
    for a in reversed(range(p)):
        rest = (lower[..., a + 1 :, a] * slopes[..., a + 1 :]).sum(axis=-1)
        slopes[..., a] = (slopes[..., a] - rest) / lower[..., a, a]
    return slopes, (score * slopes).sum(axis=-1), sound


def _over(top: Array, bottom: Array) -> Array:
    """The quotient, 0 where nothing has any weight."""
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom > 0)


def _deviance(cells: _Cells, columns: list[Array], k: Array, p: Array) -> Array:
    """Twice the negative quasi-log-likelihood of each draw, up to a constant of the data."""
    eta = cells.eta(columns, k, p)
    if not cells.logit:
        return np.einsum("bc,bc->b", cells.weight, (cells.y - eta) ** 2)
    soft = np.maximum(eta, 0.0) + np.log(1.0 + np.exp(-np.abs(eta)))  # log(1 + e^eta) without overflow
    return 2.0 * np.einsum("bc,bc->b", cells.weight, soft - cells.y * eta)


def _profile(cells: _Cells, fixed: Array, near: Array, chosen: Index, start: Start) -> tuple[Array, Array, Index]:
    """The candidate that linearization prefers, then downhill from it to either side; see `fit_draws`."""
    # The deviance has one valley along the candidates as a rule: linearization lands near its bottom, steps find it.
    free = chosen < 0
    first, last = np.where(free, 0, chosen), np.where(free, len(near), chosen + 1)
    center, k, p = _linearized(cells, fixed, near, first, last, start)
    index, lowest = np.full(len(k), -1, dtype=np.int64), np.full(len(k), np.inf)
    shared = list(fixed.T)
    for direction in (0, -1, 1):
        candidate = center + direction
        walking = np.flatnonzero((first <= candidate) & (candidate < last))
        while walking.size:
            part, here = cells.take(walking), candidate[walking]
            columns = [*shared, *(np.ascontiguousarray(one[here]) for one in np.moveaxis(near, 2, 0))]
            made_k, made_p, better = _newton(part, columns, k[walking], p[walking])
            value = _deviance(part, columns, made_k, made_p) if free.any() else np.zeros(len(here))
            better &= value < lowest[walking]
            walking = walking[better]
            lowest[walking], index[walking] = value[better], here[better]
            k[walking], p[walking] = made_k[better], made_p[better]
            if direction == 0:
                break
            candidate[walking] += direction
            walking = walking[(first <= candidate)[walking] & (candidate < last)[walking]]
    found = (index >= 0)[:, None]
    return np.where(found, k, np.nan), np.where(found, p, np.nan), index


def _linearized(
    cells: _Cells, fixed: Array, near: Array, first: Index, last: Index, start: Start
) -> tuple[Index, Array, Array]:
    """The best candidate of a least-squares fit to the model linearized at the start, and its estimates.

    Sums for all candidates are products of the draws with one matrix, so that this costs less than a step of Newton's.
    """
    (n_near, n_cells, _), n_fixed = near.shape, fixed.shape[1]
    bend = near[start.candidate] @ start.slopes[n_fixed:]
    mu, curvature = cells.mean(start.intercepts[cells.level] + fixed @ start.slopes[:n_fixed] + bend)
    # Working response times curvature, less what intercepts and fixed columns explain at the start.
    u, v = cells.weight * (cells.y - mu + curvature * bend), cells.weight * curvature
    design = np.concatenate([np.broadcast_to(fixed, (n_near, n_cells, n_fixed)), near], axis=2)
    design = np.ascontiguousarray(design.transpose(1, 0, 2))
    shape = (len(u), *design.shape[1:])
    pull, mass = cells.sums(u), cells.sums(v)
    score = (u @ design.reshape(n_cells, -1)).reshape(shape)
    products = design[..., :, None] * design[..., None, :]
    gram = (v @ products.reshape(n_cells, -1)).reshape(*shape, shape[2])
    cross = np.zeros((*shape[:2], cells.n_levels, shape[2]))
    there, begin = cells.there
    for level, one, other in zip(there, begin, [*begin[1:], n_cells], strict=True):
        cross[:, :, level] = (v[:, one:other] @ design[one:other].reshape(other - one, -1)).reshape(shape)
    slopes, gain, sound = _slopes(score, gram, cross, pull[:, None], mass[:, None])
    number = np.arange(n_near)
    sound &= (first[:, None] <= number) & (number < last[:, None]) & (gain > -1)
    center = np.where(sound, gain, -np.inf).argmax(axis=1)
    draw, known = np.arange(len(u)), sound.any(axis=1)[:, None]
    p = slopes[draw, center]
    step = _over(pull - np.einsum("bkp,bp->bk", cross[draw, center], p), mass)
    p[:, :n_fixed] += start.slopes[:n_fixed]
    center = np.where(known[:, 0], center, (first + last) // 2)
    return center, start.intercepts + np.where(known, step, 0.0), np.where(known, p, start.slopes)
