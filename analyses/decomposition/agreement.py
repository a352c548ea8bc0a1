"""How far other estimators of the same quantities are from the primary one: paired, on the same rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import AGREEMENT
from ...status import Status
from ..statistics.inference import holm
from .anchored import outcome_table, replicate, share_of
from .hemispheric import hemispheric
from .regression import exponential, flat_tailed, regress
from .result import Settings, Split, row_of
from .rows import on_rows
from .verdict import Moment, Part, plain

Array = NDArray[np.float64]


def agreement(base: Split, settings: Settings) -> pd.DataFrame:
    """Each estimator's difference from the primary one with the jackknife interval of the difference itself.

    Estimators see the same participants, so that two intervals may overlap and the difference be plain, or the other
    way round. Against a range the difference is the distance to the nearer bound. The hemispheric estimator speaks of
    ipsilesional bundles, and is compared there.

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
    # As they are printed: the stacked estimate may lie outside of U and L0.
    ends = sorted((primary.lower(), found.upper, found.systematic), key=lambda one: one[0])
    bounds = {"systematic": (ends[0], ends[-1]), "tumor": (found.total - ends[-1], found.total - ends[0])}
    ranged = base.verdict.status == Status.RANGE
    records: list[dict[str, Any]] = []
    for method, shape in (("exponential", exponential(settings.grid_mm)), ("spline", flat_tailed())):
        other = regress(rows, on_rows(rows, base.columns), without, shape)
        for component, mine in own.items():
            value, draws = other.component(component)
            theirs = np.append(value, draws)
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
    moment = Moment.of(difference, base.primary.stratum)
    if not np.isfinite(moment.value) or not np.isfinite(moment.se):
        part = Part(status=Status.NOT_CONVERGED)
    elif moment.se == 0:
        # Inside the range there is no disagreement to test.
        part = Part(value=0.0, low=0.0, high=0.0, p_value=1.0)
    else:
        part = plain(moment, settings.inference.level)
    labels = {"method": method, "rows": which, "difference": part.value}
    return row_of(base.rows, settings, component, part) | labels
