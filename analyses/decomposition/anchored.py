"""The primary split: pinned down far from the tumor, stacked over shapes of decay, bounded where no bundle tells."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ...status import Status
from .rows import CONTROL, PATIENT, TARGET_CONTROL, Rows
from .verdict import Ends, Moment, Part, Verdict, jackknife, judge, plain, word

Array = NDArray[np.float64]
FEWEST = 5
"""Controls that a level needs, and participants of each cohort below which there is no interval."""
FEWEST_TO_SPLIT = 10
"""Patients below which only the total is given."""
CUTS_MM = (40.0, 30.0, 20.0)
FEWEST_FAR, SHARE_FAR = 10, 0.4
"""Patients, and share of them, that must have a row beyond the far cut."""
LAMBDA_MAX_MM = 25.0
BESIDE_MM = (10.0, 60.0)
"""Other longest decay lengths, whose bounds are shown beside the primary one's."""
_RIDGE = 0.1
"""On the spread of levels about their mean, as a weight in rows: enough for a level that hardly anybody has. A larger
one lets bins of distance absorb differences between bundles where these go with where the bundles lie."""
_DESIGN_EFFECT = 2.5  # rows of a participant are correlated: differences in RSS count that much less
_LARGEST_KAPPA = 0.9
_MAX_T_DRAWS = 9999
_BORROWED = 1e-4
"""How much the other group tells of a covariate's slope: something only where the own group tells nothing."""


def _shapes() -> tuple[Array, ...]:
    return np.geomspace(2, 40, 9), np.geomspace(3, 30, 7), np.geomspace(5, 60, 7), np.array([2, 4.5, 8, 12, 18, 26, 36])


def stacked_columns(distance_mm: Array) -> Array:
    """The 30 shapes of decay that are stacked over, in a last axis: exponential, Gaussian, linear, step.

    Examples
    --------
    >>> stacked_columns(np.array([0.0, 100.0])).round(2).sum(axis=1)
    array([30.  ,  0.12])
    """
    d = distance_mm[..., None]
    exponential, gaussian, linear, step = _shapes()
    parts = [np.exp(-d / exponential), np.exp(-((d / gaussian) ** 2) / 2), np.maximum(1 - d / linear, 0)]
    return np.concatenate([*parts, (d <= step).astype(float)], axis=-1)


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is fixed at the full sample and never redone when a participant is left out.

    Parameters
    ----------
    status : Status
        The first reason why no split can be given, or ``ok``.
    cohort : ndarray of int, shape (people,)
        Whose each participant is; people as in `Rows`: patients, controls, target controls.
    there : ndarray of bool, shape (people, K)
        Who has which level.
    far_mm : float
        c: beyond it the tumor's effect counts as gone, but for what the bounds allow; NaN where there is none.
    bins : ndarray, shape (patients, K, Q)
        Which rows lie in which bin of distance; all 0 beyond c.
    shapes : ndarray, shape (patients, K, 30)
        See `stacked_columns`.
    phi : dict of float to float
        φ of each longest decay length in mm: what of the outermost bin's effect may be left beyond c.
    covariates : ndarray, shape (people, C)
        Columns that are adjusted for.
    target : ndarray of bool, shape (K,)
        Levels that at least 5 target controls have.
    """

    status: Status
    cohort: NDArray[np.int64]
    there: NDArray[np.bool_]
    far_mm: float
    bins: Array
    shapes: Array
    phi: dict[float, float]
    covariates: Array
    target: NDArray[np.bool_]

    @property
    def n_patients(self) -> int:
        """Patients, who come first among the people."""
        return int((self.cohort == PATIENT).sum())

    @property
    def told(self) -> NDArray[np.bool_]:
        """Levels that get rows of their own, shape (K,)."""
        return self.there[: self.n_patients].sum(axis=0) >= FEWEST

    def weights(self) -> Array:
        """Participant weights of the full sample, then without each participant, shape (1 + people, people).

        With too few participants for an interval the first row only: nobody might be left.
        """
        n = len(self.cohort)
        if self.status == Status.TOO_FEW:
            return np.ones((1, n))
        return np.vstack([np.ones(n), 1 - np.eye(n)])


def design_of(rows: Rows, covariates: Array | None = None, cuts_mm: Sequence[float] = CUTS_MM) -> Design:
    """Fix levels, far cut, bins and κ by the design alone, never by the outcome.

    ``cuts_mm`` are the far cuts to choose among; see `far_cut`.
    """
    n = len(rows.people)
    there = np.zeros((n, len(rows.levels)), dtype=bool)
    there[rows.person, rows.level] = True
    cohort = rows.cohort_of_people
    distance = np.full(there.shape, np.inf)
    distance[rows.person, rows.level] = rows.distance_mm
    there_p, distance = there[: rows.n_patients], distance[: rows.n_patients]
    cut = far_cut(distance, cuts_mm)
    edges = _edges(distance[there_p], cut) if np.isfinite(cut) else ()
    bins = (
        np.stack([(distance > low) & (distance <= high) & there_p for low, high in edges], axis=-1)
        if edges
        else (np.zeros((*there_p.shape, 0)))
    )
    return Design(
        status=_status(rows, edges, cut),
        cohort=cohort,
        there=there,
        far_mm=cut,
        bins=bins.astype(float),
        shapes=np.where(there_p[..., None], stacked_columns(distance), 0.0),
        phi={length: _phi(distance[there_p], edges, cut, length) for length in (LAMBDA_MAX_MM, *BESIDE_MM)},
        covariates=np.zeros((n, 0)) if covariates is None else covariates,
        target=there[cohort == TARGET_CONTROL].sum(axis=0) >= FEWEST,
    )


def far_cut(distance_mm: Array, cuts_mm: Sequence[float] = CUTS_MM) -> float:
    """The first of 40, 30, 20 mm, or of others, beyond which enough patients have a row; NaN if there is none.

    Parameters
    ----------
    distance_mm : ndarray, shape (patients, K)
        Infinite where a patient lacks the level.
    """
    known = np.where(np.isfinite(distance_mm), distance_mm, -1.0)
    enough = max(FEWEST_FAR, SHARE_FAR * len(known))
    return next((cut for cut in cuts_mm if (known > cut).any(axis=1).sum() >= enough), float("nan"))


def _edges(distance_mm: Array, cut: float) -> tuple[tuple[float, float], ...]:
    """Bins (low, high] that hold at least 3 rows: a smaller one joins the next outward, the last the next inward."""
    kept: list[tuple[float, float]] = []
    low = -1.0
    for high in (3.0, 10.0, cut / 2, cut):
        if ((distance_mm > low) & (distance_mm <= high)).sum() >= 3:
            kept.append((low, high))
            low = high
    if low < cut and kept:
        return (*kept[:-1], (kept[-1][0], cut))
    # Fewer than three rows in all: one bin of them.
    return tuple(kept) if kept or not (distance_mm <= cut).any() else ((-1.0, cut),)


def _phi(distance_mm: Array, edges: Sequence[tuple[float, float]], cut: float, length_mm: float) -> float:
    if not edges:
        return float("nan")
    low, high = edges[-1]
    left = np.exp(-distance_mm / length_mm)
    outermost = (distance_mm > low) & (distance_mm <= high)
    kappa = min(_LARGEST_KAPPA, float(left[distance_mm > cut].mean() / left[outermost].mean()))
    return kappa / (1 - kappa)


def _status(rows: Rows, edges: Sequence[tuple[float, float]], cut: float) -> Status:
    if min(rows.n_patients, rows.n_controls) < FEWEST:
        return Status.TOO_FEW
    if rows.n_patients < FEWEST_TO_SPLIT:
        return Status.TOO_FEW_FOR_SPLIT
    if np.isnan(cut):
        return Status.FAR_FIELD_UNMEASURED
    return Status.OK if edges else Status.NEAR_FIELD_UNMEASURED


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Statistics under each row of participant weights; positive means worse in patients.

    Parameters
    ----------
    total, systematic, upper, outermost : ndarray, shape (B,)
        T, stacked S, U and δ; but T are NaN where no split can be given.
    raw : ndarray, shape (B,)
        T without covariates.
    acquisition : ndarray, shape (B,)
        What healthy people lose who were scanned like the patients; NaN without target controls.
    share, healthy, total_by_level, systematic_by_level, upper_by_level : ndarray, shape (B, K)
        W_k, m0_k, total_k, systematic_k and U_k.
    own_by_level : ndarray, shape (B, K)
        systematic_k with the slope of the level's own rows instead of one slope for all levels.
    """

    total: Array
    raw: Array
    systematic: Array
    upper: Array
    outermost: Array
    acquisition: Array
    share: Array
    healthy: Array
    total_by_level: Array
    systematic_by_level: Array
    upper_by_level: Array
    own_by_level: Array


def share_of(mask: NDArray[np.bool_], outcome: Array, weights: Array) -> tuple[Array, Array]:
    """Levels' shares (B, K) among some rows of the patients, each of whom counts once, and their mean outcome (B,).

    Parameters
    ----------
    mask, outcome : ndarray, shape (patients, K)
        Which rows, and their outcome.
    weights : ndarray, shape (B, patients)
        Patients without a row have no part.
    """
    own = mask / np.maximum(mask.sum(axis=1, keepdims=True), 1)
    mass = weights @ mask.any(axis=1)
    return weights @ own / mass[:, None], weights @ (own * np.where(mask, outcome, 0.0)).sum(axis=1) / mass


def replicate(design: Design, outcome: Array, weights: Array | None = None) -> Replicates:
    """Every statistic as a function of participant weights.

    Parameters
    ----------
    design : Design
        Fixed.
    outcome : ndarray, shape (people, K)
        Y, larger is better; anything where a participant lacks the level.
    weights : ndarray, shape (B, people), optional
        `Design.weights` by default: the full sample, then the delete-one jackknife's.
    """
    w = design.weights() if weights is None else weights
    sums = _Sums.of(design, np.where(design.there, outcome, 0.0), w)
    nothing = np.full(len(w), np.nan)
    lost = sums.healthy - sums.patients
    total = (sums.share * lost).sum(axis=1)
    raw = total
    if design.covariates.shape[1]:
        plain = _Sums.of(design, np.where(design.there, outcome, 0.0), w, adjusted=False)
        raw = (plain.share * (plain.healthy - plain.patients)).sum(axis=1)
    acquisition = nothing
    if design.target.any():
        # Over the levels that target controls have: elsewhere nothing is known of the acquisition.
        mass = np.where(design.target, sums.share, 0.0)
        acquisition = (mass * (sums.healthy - sums.target)).sum(axis=1) / mass.sum(axis=1)
    by_level = np.full(lost.shape, np.nan)
    found = (nothing, nothing, nothing, by_level, by_level)
    own_k = by_level
    if design.status == Status.OK:
        # What comes on top is a slope times where the patients' bundles lie, averaged as the total is. The levels'
        # effects of the fits are averaged by rows: with them, patients who lack bundles and lose more would look as if
        # the tumor did it.
        levels = _Levels.of(design, sums)
        bins, stack = _binned(design, sums, levels), _stack(design, sums, levels)
        pull = stack.slope * stack.mass
        stacked_k = lost - np.einsum("bks,bs->bk", sums.exposure(design.shapes), pull)
        upper_k = lost - np.einsum("bkq,bq->bk", sums.exposure(design.bins), bins)
        own_k = _own_levels(design, sums, stack.mass[0])
        found = (
            (sums.share * stacked_k).sum(axis=1),
            (sums.share * upper_k).sum(axis=1),
            bins[:, -1],
            stacked_k,
            upper_k,
        )
    systematic, upper, outermost, stacked_k, upper_k = found
    return Replicates(
        total=total,
        raw=raw,
        systematic=systematic,
        upper=upper,
        outermost=outermost,
        acquisition=acquisition,
        share=sums.share,
        healthy=sums.healthy,
        total_by_level=lost,
        systematic_by_level=stacked_k,
        upper_by_level=upper_k,
        own_by_level=own_k,
    )


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Sums over participants that are linear in their weights, and what needs only these.

    ``columns`` are the outcome, and of healthy people and of patients the covariates and a constant, each a table
    (people, K); ``factors`` (B, 1 + 2C + 2) their part in the adjusted outcome Y − (x − x̄)'γ, x̄ the patients' mean and
    γ the group's own.
    """

    weights: Array
    columns: tuple[Array, ...]
    factors: Array
    share: Array
    healthy: Array
    target: Array
    patients: Array
    one: Array
    n_patients: int

    @classmethod
    def of(cls, design: Design, outcome: Array, w: Array, adjusted: bool = True) -> "_Sums":
        n = design.n_patients
        x = design.covariates if adjusted else design.covariates[:, :0]
        columns, factors = (outcome,), np.ones((len(w), 1))
        if x.shape[1]:
            patient = design.cohort == PATIENT
            slopes = _gamma(design, outcome, x, w)
            middle = w[:, :n] @ x[:n] / w[:, :n].sum(axis=1, keepdims=True)
            for group, slope in zip((~patient, patient), slopes, strict=True):
                inside = design.there & group[:, None]
                columns += (*(np.where(inside, each[:, None], 0.0) for each in x.T), inside.astype(float))
                factors = np.hstack([factors, -slope, (middle * slope).sum(axis=1, keepdims=True)])
        one = design.there / np.maximum(design.there.sum(axis=1, keepdims=True), 1)
        blank = np.full((len(w), design.there.shape[1]), np.nan)
        sums = cls(
            weights=w,
            columns=columns,
            factors=factors,
            share=w[:, :n] @ one[:n] / w[:, :n].sum(axis=1, keepdims=True),
            healthy=blank,
            target=blank,
            patients=blank,
            one=one[:n],
            n_patients=n,
        )
        means: list[Array] = []
        for group, table in ((CONTROL, design.there), (TARGET_CONTROL, design.there), (PATIENT, one)):
            inside = (design.cohort == group)[:, None] * table
            # A level that nobody has left gets 0 and, being nobody's, no weight.
            mass = w @ inside
            means.append(np.divide(sums.of_outcome(inside), mass, out=np.zeros_like(mass), where=mass > 0))
        healthy, target, patients = means
        return replace(sums, healthy=healthy, target=target, patients=patients)

    def of_table(self, table: Array) -> Array:
        """Σ_i w_i table_i over the patients."""
        return np.tensordot(self.weights[:, : self.n_patients], table, axes=1)

    def exposure(self, columns: Array) -> Array:
        """Mean of columns (patients, K, Q) over each level's rows of patients, weighed as in the total, (B, K, Q)."""
        mass = self.of_table(self.one)
        sums = self.of_table(self.one[..., None] * columns)
        return np.divide(sums, mass[..., None], out=np.zeros_like(sums), where=mass[..., None] > 0)

    def of_outcome(self, table: Array, axis: int | None = None) -> Array:
        """Σ_i w_i table_i Y_i over the table's participants, Y adjusted; summed over the table's ``axis`` first."""
        n, total = len(table), 0.0
        for column, factor in zip(self.columns, self.factors.T, strict=True):
            product = table * column[:n].reshape(*column[:n].shape, *[1] * (table.ndim - 2))
            product = product if axis is None else product.sum(axis=axis)
            part = np.tensordot(self.weights[:, :n], product, axes=1)
            total = total + factor.reshape(-1, *[1] * (part.ndim - 1)) * part
        return np.asarray(total)

    def of_squares(self) -> Array:
        """Σ w_i Y_ik² over the patients' rows, Y adjusted, shape (B,)."""
        tables = np.stack(self.columns, axis=-1)[: self.n_patients]
        cross = self.of_table(np.einsum("ika,ikb->iab", tables, tables))
        return np.einsum("ba,bac,bc->b", self.factors, cross, self.factors)


def _gamma(design: Design, outcome: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """Slopes of participants' mean residuals about their cohort's level means on covariates, shape (B, C) each.

    Of healthy people, within their cohorts, and of patients: the drop at the patients' mean needs only the first, and
    where aging makes patients lose faster than controls, a common one would be wrong there. What one group cannot tell,
    such as of a site that it lacks, the other tells.
    """
    one = design.there / np.maximum(design.there.sum(axis=1, keepdims=True), 1)
    cross, moment = np.zeros((2, len(w), x.shape[1], x.shape[1])), np.zeros((2, len(w), x.shape[1]))
    for group in np.unique(design.cohort):
        k = int(group == PATIENT)
        who = design.cohort == group
        own, table, mass = w[:, who], design.there[who], w[:, who].sum(axis=1)
        counts = own @ table
        means = np.divide(own @ outcome[who], counts, out=np.zeros(counts.shape), where=counts > 0)
        residual = (one[who] * outcome[who]).sum(axis=1) - means @ one[who].T
        mean = own @ x[who] / mass[:, None]
        cross[k] += (
            np.einsum("bi,ia,ic->bac", own, x[who], x[who]) - mass[:, None, None] * mean[:, :, None] * mean[:, None]
        )
        moment[k] += np.einsum("bi,bi,ia->ba", own, residual, x[who]) - mean * (own * residual).sum(axis=1)[:, None]
    cross, moment = cross + _BORROWED * cross[::-1], moment + _BORROWED * moment[::-1]
    slopes = np.asarray(np.linalg.solve(cross, moment[..., None])[..., 0], dtype=np.float64)
    return slopes[0], slopes[1]


@dataclass(frozen=True, kw_only=True)
class _Levels:
    """What all fits have in common: rows of each level (B, K), their outcome and their loss, summed, (B, K).

    ``inverse`` is that of the levels' normal equations with the ridge on their spread about their mean, (B, K, K). Rows
    weigh the same, near the tumor and far: where a patient's few near rows weighed more than the many far ones, those
    who lack rows and lose more would stand out far from the tumor.
    """

    counts: Array
    outcome: Array
    loss: Array
    inverse: Array

    @classmethod
    def of(cls, design: Design, sums: _Sums) -> "_Levels":
        there = design.there[: design.n_patients].astype(float)
        counts, outcome = sums.of_table(there), sums.of_outcome(there)
        k = counts.shape[1]
        inverse = np.linalg.inv(counts[:, :, None] * np.eye(k) + _RIDGE * (np.eye(k) - 1 / k))
        return cls(counts=counts, outcome=outcome, loss=counts * sums.healthy - outcome, inverse=inverse)


def _binned(design: Design, sums: _Sums, levels: _Levels) -> Array:
    """Coefficients of the bins of distance, shape (B, Q); the last one is δ, of the outermost."""
    cross, level, inverse = sums.of_table(design.bins), levels.loss, levels.inverse
    own = cross.sum(axis=1)  # bins do not overlap
    near = np.einsum("bkq,bk->bq", cross, sums.healthy) - sums.of_outcome(design.bins, axis=1)
    reduced = np.einsum("bkq,bkl->bql", cross, inverse)
    # Without the only patient in a bin its coefficient is not known, and 0 is as good as any.
    q = own.shape[1]
    normal = (own + (own <= 0))[:, :, None] * np.eye(q) - reduced @ cross
    slopes = np.linalg.solve(normal, (near - np.einsum("bql,bl->bq", reduced, level))[..., None])[..., 0]
    return np.asarray(slopes, dtype=np.float64)


def _own_levels(design: Design, sums: _Sums, mixture: Array) -> Array:
    """systematic_k where each level's own rows say how much comes on top, shape (B, K).

    The shape is the mixture of all, the slope may have either sign; a level whose bundles all lie equally far has none.
    """
    own, near = sums.one, design.shapes @ mixture
    mass, first, second = sums.of_table(own), sums.of_table(own * near), sums.of_table(own * near**2)
    safe = np.where(mass > 0, mass, 1.0)
    spread = second - first**2 / safe
    cross = first / safe * sums.of_outcome(own) - sums.of_outcome(own * near)
    slope = np.divide(cross, spread, out=np.zeros_like(cross), where=spread > 1e-9 * safe)
    return np.asarray(sums.healthy - sums.patients - slope * first / safe, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class _Stack:
    """Fits of each shape alone: slopes (B, 30), and how much each fit counts (B, 30)."""

    slope: Array
    mass: Array


def _stack(design: Design, sums: _Sums, levels: _Levels) -> _Stack:
    """One fit a shape, weighted by how well it fits."""
    counts, outcome, level, inverse = levels.counts, levels.outcome, levels.loss, levels.inverse
    cross, own = sums.of_table(design.shapes), sums.of_table((design.shapes**2).sum(axis=1))
    near = np.einsum("bks,bk->bs", cross, sums.healthy) - sums.of_outcome(design.shapes, axis=1)
    reduced = inverse @ cross
    bare = np.einsum("bkl,bl->bk", inverse, level)
    normal = own - (cross * reduced).sum(axis=1)
    slope = np.divide(
        near - np.einsum("bks,bk->bs", reduced, level), normal, out=np.zeros_like(near), where=normal > 1e-9
    ).clip(min=0.0)
    d_k = bare[..., None] - reduced * slope[:, None]
    squares = (counts * sums.healthy**2 - 2 * sums.healthy * outcome).sum(axis=1) + sums.of_squares()
    fitted = 2 * (np.einsum("bks,bk->bs", d_k, level) + slope * near)
    norm = (counts[..., None] * d_k**2 + 2 * slope[:, None] * d_k * cross).sum(axis=1) + slope**2 * own
    rss = squares[:, None] - fitted + norm
    best = rss.min(axis=1, keepdims=True)
    freedom = np.maximum(counts.sum(axis=1, keepdims=True) - (counts > 0).sum(axis=1, keepdims=True) - 1, 1)
    variance = np.maximum(best / freedom, 1e-15)
    mass = np.exp(-(rss - best) / (2 * variance * _DESIGN_EFFECT))
    return _Stack(slope=slope, mass=mass / mass.sum(axis=1, keepdims=True))


def stacked_curve(design: Design, outcome: Array, distance_mm: Array) -> Array:
    """The stacked drop at each distance in each replicate, levels weighted as in the pooled parts.

    Far away it is the stacked systematic part.

    Parameters
    ----------
    design : Design
        With status ``ok``.
    outcome : ndarray, shape (people, K)
        Y; see `outcome_table`.
    distance_mm : ndarray, shape (D,)
        Edge-to-edge distances from the tumor.

    Returns
    -------
    ndarray, shape (1 + people, D)
    """
    sums = _Sums.of(design, np.where(design.there, outcome, 0.0), design.weights())
    found = _stack(design, sums, _Levels.of(design, sums))
    pull = found.slope * found.mass
    near = np.einsum("bk,bks,bs->b", sums.share, sums.exposure(design.shapes), pull)
    far = (sums.share * (sums.healthy - sums.patients)).sum(axis=1) - near
    return far[:, None] + pull @ stacked_columns(distance_mm).T


@dataclass(frozen=True, kw_only=True)
class Anchored:
    """The primary split of one model.

    Parameters
    ----------
    design : Design
        What was fixed.
    replicates : Replicates
        Of the full sample and without each participant.
    """

    design: Design
    replicates: Replicates

    @property
    def stratum(self) -> NDArray[np.int64]:
        """Cohort of each participant."""
        return self.design.cohort

    def moment(self, values: Array) -> Moment:
        """Spread of replicates of one number."""
        if len(values) == 1:
            return Moment(value=float(values[0]), se=np.nan, df=np.nan)
        return Moment.of(values, self.stratum)

    def lower(self, length_mm: float = LAMBDA_MAX_MM) -> Array:
        """L0 = U − φδ in each replicate."""
        return self.replicates.upper - self.design.phi[length_mm] * self.replicates.outermost

    def ends(self, subtract: Array | float = 0.0, length_mm: float = LAMBDA_MAX_MM) -> Ends:
        """S, U and L0, less something of each replicate."""
        found = self.replicates
        parts = found.systematic - subtract, found.upper - subtract, self.lower(length_mm) - subtract
        return Ends.of(*parts, self.stratum)

    def tumor_ends(self, length_mm: float = LAMBDA_MAX_MM) -> Ends:
        """T − S, T − U and T − L0."""
        found = self.replicates
        parts = found.total - found.systematic, found.total - found.upper, found.total - self.lower(length_mm)
        return Ends.of(*parts, self.stratum)

    def verdict(self, margin: float, level: float = 0.95, length_mm: float = LAMBDA_MAX_MM) -> Verdict:
        """What may be said of it."""
        given = self.design.status == Status.OK
        return judge(
            self.moment(self.replicates.total),
            self.ends(length_mm=length_mm) if given else None,
            self.tumor_ends(length_mm) if given else None,
            status=self.design.status,
            margin=margin,
            level=level,
        )

    def disease(self, told: Verdict) -> tuple[Part, Part]:
        """With target controls: what the acquisition takes, and what is left of the systematic part."""
        lost = self.replicates.acquisition
        if not self.design.target.any():
            return Part(status=Status.TOO_FEW), Part(status=Status.TOO_FEW)
        acquisition = plain(self.moment(lost), told.level)
        if not np.isfinite(told.systematic.low):
            return acquisition, Part(status=told.status)
        # Both over the levels that target controls have, or bundles they lack would count as disease.
        found = self.replicates
        mass = np.where(self.design.target, found.share, 0.0)
        mass /= mass.sum(axis=1, keepdims=True)
        far, upper = ((mass * one).sum(axis=1) for one in (found.systematic_by_level, found.upper_by_level))
        if told.tumor.word == "better_near":
            return acquisition, plain(self.moment(upper - lost), told.level)
        lower = upper - self.design.phi[LAMBDA_MAX_MM] * found.outermost
        return acquisition, Ends.of(far - lost, upper - lost, lower - lost, self.stratum).part(told.level, told.margin)

    def by_level(self, margin: float, level: float, rng: np.random.Generator) -> dict[str, list[Part]]:
        """Total, systematic and tumor part of each level with intervals that hold for all levels at once (max-T).

        The interval of a part is the hull of those of S_k, of both ends of its region, and of what the level's own
        rows tell: the estimates take one slope for all levels, and a tumor that spares a bundle must not be said to
        harm it. ``p_value`` is pointwise, ``p_adjusted`` belongs to the interval; a level with fewer than 5 patients
        has no part (status ``too_few``).
        """
        found = self.replicates
        total = [found.total_by_level]
        if self.design.status != Status.OK:
            return {"total": self._at_once(total, margin, level, rng)}
        left = (self.design.phi[LAMBDA_MAX_MM] * found.outermost)[:, None]
        far = [found.systematic_by_level, found.upper_by_level, found.upper_by_level - left, found.own_by_level]
        near = [found.total_by_level - one for one in far]
        return {
            "total": self._at_once(total, margin, level, rng),
            "systematic": self._at_once(far, margin, level, rng),
            "tumor": self._at_once(near, margin, level, rng, "worse_near", "better_near"),
        }

    def _at_once(
        self, ends: list[Array], margin: float, level: float, rng: np.random.Generator, *words: str
    ) -> list[Part]:
        told = np.flatnonzero(self.design.told)
        values = np.stack([end[:, told] for end in ends], axis=1)  # (1 + n, ends, levels)
        deviation, se, df = jackknife(values.reshape(len(values), -1), self.stratum)
        se_or_one = np.where(se > 0, se, 1.0)
        # Gaussian multipliers of the jackknife's deviations have its covariance; the common χ makes them Student's.
        draws = rng.standard_normal((_MAX_T_DRAWS, len(deviation))) @ (deviation / se_or_one)
        smallest = float(df.min(initial=np.inf, where=se > 0)) if (se > 0).any() else 2.0
        largest = np.abs(draws).max(axis=1, initial=0) / np.sqrt(rng.chisquare(smallest, _MAX_T_DRAWS) / smallest)
        largest.sort()
        critical = largest[int(np.ceil(level * (_MAX_T_DRAWS + 1))) - 1]
        shape = values.shape[1:]
        value, se, df = values[0], se.reshape(shape), df.reshape(shape)
        t = np.divide(value, se, out=np.zeros(shape), where=se > 0)
        same = (np.sign(t) == np.sign(t[0])).all(axis=0) & (t[0] != 0)
        p_each = 2 * special.stdtr(df, -np.abs(t))
        p_all = (1 + _MAX_T_DRAWS - np.searchsorted(largest, np.abs(t))) / (_MAX_T_DRAWS + 1)
        parts = [Part(status=Status.TOO_FEW)] * len(self.design.told)
        for j, k in enumerate(told):
            if not (se[:, j] > 0).any():
                parts[k] = Part(status=Status.CONSTANT)
                continue
            low, high = float((value - critical * se)[:, j].min()), float((value + critical * se)[:, j].max())
            # The level's own slope, which comes last, is no bound of what is possible.
            bounds = (float(value[:3, j].min()), float(value[:3, j].max())) if len(ends) > 1 else (np.nan, np.nan)
            wide = bounds[1] - bounds[0] > margin
            parts[k] = Part(
                value=float(np.nan if wide else value[0, j]),
                low=low,
                high=high,
                bound_low=bounds[0],
                bound_high=bounds[1],
                p_value=float(p_each[:, j].max()) if same[j] else 1.0,
                p_adjusted=float(p_all[:, j].max()) if same[j] else 1.0,
                word=word(low, high, *words),
                status=Status.RANGE if wide else Status.OK,
            )
        return parts


def anchored(rows: Rows, covariates: Array | None = None, design: Design | None = None) -> Anchored:
    """The primary split of one model's rows.

    Parameters
    ----------
    rows : Rows
        Patients, controls and target controls; no level that fewer than 5 controls have.
    covariates : ndarray, shape (people, C), optional
        Columns to adjust for.
    design : Design, optional
        One made before, of the same people and rows.
    """
    fixed = design_of(rows, covariates) if design is None else design
    return Anchored(design=fixed, replicates=replicate(fixed, outcome_table(rows)))


def outcome_table(rows: Rows) -> Array:
    """Y, larger is better, of each participant and level, shape (people, K); NaN where a participant lacks it."""
    table = np.full((len(rows.people), len(rows.levels)), np.nan)
    table[rows.person, rows.level] = rows.sign * rows.outcome
    return table


def recovered(before: Array, after: Array, stratum: NDArray[np.int64], level: float) -> tuple[float, float, float]:
    """(before − after) / before with Fieller's interval from replicates of the same people.

    NaN where the interval is unbounded, or there is no drop to recover.

    References
    ----------
    Fieller EC. Journal of the Royal Statistical Society B 16:175 (1954), doi 10.1111/j.2517-6161.1954.tb00159.x.
    """
    both = np.column_stack([before - after, before])
    deviation, _, df = jackknife(both, stratum)
    cross = deviation.T @ deviation
    (a, b), reach = both[0], float(special.stdtrit(df.min(), 0.5 + level / 2)) ** 2
    # (a − θb)² ≤ t² Var(a − θb) in θ.
    square, middle, rest = b**2 - reach * cross[1, 1], a * b - reach * cross[0, 1], a**2 - reach * cross[0, 0]
    root = middle**2 - square * rest
    if not square > 0 or root < 0 or b <= 0:
        return float("nan"), float("nan"), float("nan")
    return float(a / b), float((middle - np.sqrt(root)) / square), float((middle + np.sqrt(root)) / square)
