"""How far other estimators of the same quantities are from the primary one: paired, on the same rows."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from ...catalogue import AGREEMENT
from ...status import Status
from ..statistics.inference import holm
from .anchored import outcome_table, replicate, share_of
from .hemispheric import hemispheric
from .regression import COMPONENTS, exponential, flat_tailed, regress
from .result import Settings, Split, row_of
from .rows import TARGET_CONTROL, Rows, on_rows
from .verdict import Moment, Part, plain

Array = NDArray[np.float64]


def agreement(base: Split, settings: Settings, crossed: Mapping[str, Array] | None = None) -> pd.DataFrame:
    """Each estimator's difference from the primary one with the jackknife interval of the difference itself.

    Estimators see the same participants, so that two intervals may overlap and the difference be plain, or the other
    way round. Against a range the difference is the distance to the nearer bound. The hemispheric estimator speaks of
    ipsilesional bundles, and is compared there.

    Parameters
    ----------
    base : Split
        The primary result.
    settings : Settings
        As for it.
    crossed : mapping of str to ndarray, optional
        What `cross_checked` made.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.catalogue.AGREEMENT``; p-values adjusted after Holm.
    """
    rows, primary, n = base.rows, base.primary, len(base.rows.people)
    if base.verdict.status not in (Status.OK, Status.RANGE):
        return pd.DataFrame(columns=list(AGREEMENT.columns))
    found, without = primary.replicates, 1 - np.eye(n)
    own = {"systematic": found.systematic, "tumor": found.total - found.systematic}
    # As they are printed: the stacked estimate may lie outside of U and L0, and L0 is never the upper end.
    low = min(primary.lower(), found.upper, found.systematic, key=lambda one: one[0])
    high = max(found.upper, found.systematic, key=lambda one: one[0])
    bounds = {"systematic": (low, high), "tumor": (found.total - high, found.total - low)}
    ranged = base.verdict.status == Status.RANGE
    records: list[dict[str, Any]] = []
    others: dict[str, Array] = {}
    for method, shape in (("exponential", exponential(settings.grid_mm)), ("spline", flat_tailed())):
        other = regress(rows, on_rows(rows, base.columns), without, shape)
        others[method] = np.vstack([other.values, other.draws])
    for method, replicates in {**others, **(crossed or {})}.items():
        for component, mine in own.items():
            theirs = replicates[:, COMPONENTS.index(component)]
            difference = _beyond(theirs, *bounds[component]) if ranged else theirs - mine
            records.append(_record(base, settings, method, component, difference, "all"))
    values, draws, used = hemispheric(rows, without)
    if used:
        difference = np.append(values[2], draws[:, 2]) - _ipsilesional(base)
        records.append(
            _record(base, settings, "hemispheric", "tumor", difference, "ipsilesional") | {"n_patients": used}
        )
    table = pd.DataFrame(records, columns=list(AGREEMENT.columns))
    return table.assign(p_adjusted=holm(table["p_value"].to_numpy(dtype=float)))


def _beyond(theirs: Array, low: Array, high: Array) -> Array:
    """By how much replicates lie below the low or above the high bound, by the side of the full sample's."""
    return theirs - low if theirs[0] < low[0] else theirs - high if theirs[0] > high[0] else np.zeros_like(theirs)


def _ipsilesional(base: Split) -> Array:
    """The primary tumor part of ipsilesional rows alone, in each replicate; not adjusted, like the contrast."""
    rows, design = base.rows, base.primary.design
    found = replicate(replace(design, covariates=np.zeros((len(rows.people), 0))), outcome_table(rows))
    mask = np.zeros((rows.n_patients, len(rows.levels)), dtype=bool)
    ipsi = rows.patient & (rows.frame["side"] == "ipsi").to_numpy()
    mask[rows.person[ipsi], rows.level[ipsi]] = True
    weights = design.weights()
    share, mean = share_of(mask, outcome_table(rows)[: rows.n_patients], weights[:, : rows.n_patients])
    return (share * (found.healthy - found.systematic_by_level)).sum(axis=1) - mean


def _record(
    base: Split, settings: Settings, method: str, component: str, difference: Array, which: str
) -> dict[str, Any]:
    part = _part_of(difference, base, settings)
    labels = {"method": method, "rows": which, "difference": part.value}
    return row_of(base.rows, settings, component, part) | labels


def _part_of(replicates: Array, base: Split, settings: Settings) -> Part:
    moment = Moment.of(replicates, base.primary.stratum)
    if not np.isfinite(moment.value) or not np.isfinite(moment.se):
        return Part(status=Status.NOT_CONVERGED)
    if moment.se == 0:
        # Inside the range there is no disagreement to test.
        return Part(value=0.0, low=0.0, high=0.0, p_value=1.0)
    return plain(moment, settings.inference.level)


def cross_checked(base: Split) -> dict[str, Array]:
    """Two standard models of the same rows, fitted by statsmodels: generalized estimating equations and a mixed model.

    Both have the mean of the method ``spline``: a level for each bundle and hemisphere, the patients' shift of each,
    covariates, and a spline of the distance that is 0 beyond 40 mm, so that they have no decay length to search for.
    ``gee`` has the logit link for shares and an exchangeable correlation of a participant's rows; ``mixed`` is linear,
    with a random intercept for each participant. Components are those of g-computation over the patients' rows.

    Without a participant the estimate is one Newton step from statsmodels' (Preisser and Qaqish), its correlation kept:
    exact for the mixed model, and a refit of each would take minutes.

    Parameters
    ----------
    base : Split
        The primary result.

    Returns
    -------
    dict of str to ndarray
        By method, shape (1 + people, 3): total, systematic, tumor of the full sample, then without each participant;
        NaN where a fit did not converge.

    References
    ----------
    Liang KY, Zeger SL. Biometrika 73:13 (1986), doi 10.1093/biomet/73.1.13; Laird NM, Ware JH. Biometrics 38:963
    (1982), doi 10.2307/2529876; Preisser JS, Qaqish BF. Biometrika 83:551 (1996), doi 10.1093/biomet/83.3.551.
    """
    inside = base.rows.take(base.rows.cohort != TARGET_CONTROL)
    columns = on_rows(inside, base.columns)
    levels = np.eye(len(inside.levels))[inside.level]
    shift = levels * inside.patient[:, None]
    near = flat_tailed().columns(inside.distance_mm)[0]
    design = np.hstack([levels, columns, shift, near])
    far_from = levels.shape[1] + columns.shape[1]
    return {
        method: _left_out(inside, design, far_from, *_fitted(method, inside, design), method == "gee" and inside.logit)
        for method in ("gee", "mixed")
    }


def _fitted(method: str, rows: Rows, design: Array) -> tuple[Array, float]:
    """Coefficients and the correlation of a participant's rows; NaN where there is no fit."""
    import statsmodels.api as sm

    with warnings.catch_warnings():
        # What they warn of, such as a variance of 0 between participants, shows in what is looked at below.
        warnings.simplefilter("ignore")
        if method == "gee":
            family = sm.families.Binomial() if rows.logit else sm.families.Gaussian()
            alike = sm.cov_struct.Exchangeable()
            found: Any = sm.GEE(rows.outcome, design, groups=rows.person, family=family, cov_struct=alike).fit()
            values, correlation, sound = found.params, float(alike.dep_params), bool(found.converged)
        else:
            found = sm.MixedLM(rows.outcome, design, groups=rows.person).fit(reml=True)
            between = float(found.cov_re[0, 0])
            values, correlation, sound = found.fe_params, between / (between + float(found.scale)), found.converged
    return (np.asarray(values, dtype=float) if sound else np.full(design.shape[1], np.nan)), correlation


def _left_out(rows: Rows, design: Array, far_from: int, values: Array, correlation: float, logit: bool) -> Array:
    """Components of the full sample and without each participant, from the fit's coefficients."""
    if not np.isfinite(values).all():
        return np.full((1 + len(rows.people), len(COMPONENTS)), np.nan)
    mean = special.expit(design @ values) if logit else design @ values
    root = np.sqrt(mean * (1 - mean)) if logit else np.ones_like(mean)
    scaled, residual = design * root[:, None], (rows.outcome - mean) / root
    coefficients = np.tile(values, (1 + len(rows.people), 1))
    parts: list[tuple[Array, Array]] = []
    for person in range(len(rows.people)):
        z, e = scaled[rows.person == person], residual[rows.person == person]
        shared = correlation / (1 + (len(e) - 1) * correlation)
        parts.append(
            (z.T @ z - shared * np.outer(z.sum(axis=0), z.sum(axis=0)), z.T @ e - shared * z.sum(axis=0) * e.sum())
        )
    information, score = (np.array(one) for one in zip(*parts, strict=True))
    # A level that nobody has without that participant weighs nothing there.
    inverse = np.linalg.pinv(information.sum(axis=0) - information, rcond=1e-10, hermitian=True)
    coefficients[1:] -= np.einsum("iab,ib->ia", inverse, score)
    patient = rows.patient
    person = rows.person[patient]
    own = 1 / np.bincount(person, minlength=len(rows.people))[person]
    weights = np.vstack([np.ones(len(rows.people)), 1 - np.eye(len(rows.people))])[:, person] * own
    weights /= weights.sum(axis=1, keepdims=True)
    n_near = flat_tailed().columns(np.zeros(1)).shape[2]
    on = np.ones((3, design.shape[1]))
    on[0, far_from:] = 0
    on[1, -n_near:] = 0
    eta = np.einsum("rp,sp,bp->sbr", design[patient], on, coefficients)
    none, far, both = (weights * (special.expit(eta) if logit else eta)).sum(axis=2)
    return rows.sign * np.column_stack([none - both, none - far, far - both])


def cross_checked_rows(base: Split, settings: Settings, crossed: Mapping[str, Array]) -> pd.DataFrame:
    """What `cross_checked` made as rows of the decomposition table: intervals by the jackknife, and no word."""
    return pd.DataFrame(
        [
            row_of(base.rows, settings, component, replace(_part_of(column, base, settings), word="n/a"), method=method)
            for method, replicates in crossed.items()
            for component, column in zip(COMPONENTS, replicates.T, strict=True)
        ]
    )
