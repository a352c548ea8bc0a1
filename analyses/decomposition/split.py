"""The split of one model's drop: pooled, bundle by bundle, by hemispheres, and whether it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import DataError
from ...results import Estimate
from ...status import Status
from ..statistics.inference import holm, interval, status_of
from .hemispheric import COMPONENTS as HEMISPHERIC
from .hemispheric import hemispheric
from .permutation import cohort_test, tumor_test
from .regression import Regression, exponential, regress
from .result import FEWEST, Settings, Split, Teller, unit_of
from .rows import TARGET_CONTROL, Rows, covariate_columns

Array = NDArray[np.float64]
FAR_FIELD_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """The regression over all bundles with its tests, the interval of λ in mm, and whether the split stands."""

    regression: Regression
    p_values: Mapping[str, float]
    decay_mm: tuple[float, float, float]
    status: str


def pool(rows: Rows, columns: Array, weights: Array, settings: Settings) -> Pooled:
    """Fit, resample and test the primary model; what ``shiftkit validate`` examines."""
    found = regress(rows, columns, weights, exponential(settings.grid_mm))
    p_tumor = tumor_test(
        rows, columns, settings.grid_mm, settings.inference.n_permutations, settings.inference.generator(1)
    )
    decay = found.decay_mm if np.isfinite(found.decay_mm) else float(settings.grid_mm[0])
    low, high = interval(found.decay_draws_mm, settings.inference.level, 10_000)
    return Pooled(
        regression=found,
        p_values={"tumor": p_tumor, **_cohort_tests(rows, columns, decay, settings, 2)},
        decay_mm=(found.decay_mm, low, high),
        status=_status(rows, found, p_tumor, high, settings),
    )


def split(rows: Rows, weights: Array, settings: Settings) -> Split:
    """All components of one model: pooled, per bundle, and by hemispheres."""
    columns, _ = covariate_columns(rows, settings.covariates)
    _require_spread(rows)
    pooled = pool(rows, columns, weights, settings)
    found, status = pooled.regression, pooled.status
    smallest = min(n for n in rows.sizes if n)
    teller = Teller(rows=rows, settings=settings, status=status, n=smallest)
    table = _told(teller, found.names, found.values, found.draws, pooled.p_values, method="regression")
    table += _by_bundle(teller, columns, weights, found)
    values, draws, n = hemispheric(rows, weights)
    aside = replace(teller, status=status_of(n, FEWEST), n_patients=n)
    frame = pd.DataFrame(table + _told(aside, HEMISPHERIC, values, draws, {}, method="hemispheric"))
    return Split(
        table=frame,
        estimates=(*_estimates(frame, teller), teller.length("decay_length", pooled.decay_mm)),
        regression=found,
        rows=rows,
        weights=weights,
        status=status,
        p_tumor=pooled.p_values["tumor"],
    )


def _cohort_tests(rows: Rows, columns: Array, decay_mm: float, settings: Settings, purpose: int) -> dict[str, float]:
    """p-values of the systematic part and, with target controls, of its two steps."""
    pairs = {"systematic": rows.cohort != TARGET_CONTROL}
    if rows.n_target_controls:
        pairs |= {"acquisition": ~rows.patient, "disease": ~rows.control}
    return {
        name: cohort_test(
            rows.take(keep),
            columns[keep],
            decay_mm,
            settings.inference.n_permutations,
            settings.inference.generator(purpose),
        )
        for name, keep in pairs.items()
    }


def _status(rows: Rows, pooled: Regression, p_tumor: float, decay_high: float, settings: Settings) -> str:
    """Whether the split stands; the order is that of the questions: is there an effect, is its far field seen."""
    failed = np.mean(~np.isfinite(pooled.draws[:, 0])) if len(pooled.draws) else 0.0
    if not pooled.converged or not np.isfinite(p_tumor) or failed > 0.1:
        return Status.NOT_CONVERGED
    if min(rows.n_patients, rows.n_controls) < FEWEST:
        return Status.TOO_FEW
    if p_tumor > 1 - settings.inference.level:
        return Status.NO_TUMOR_EFFECT_SHOWN
    far = np.mean(rows.distance_mm[rows.patient] > 2 * pooled.decay_mm)
    if decay_high >= settings.grid_mm[-1] * 0.999 or far < FAR_FIELD_SHARE:
        return Status.SPLIT_WITHHELD
    return status_of(rows.n_patients, FEWEST)


def _by_bundle(teller: Teller, columns: Array, weights: Array, pooled: Regression) -> list[dict[str, Any]]:
    """Fits of their own for each bundle and hemisphere, with the pooled model's λ in every draw."""
    rows, status, settings = teller.rows, teller.status, teller.settings
    if status in (Status.NOT_CONVERGED, Status.TOO_FEW):
        return []
    records: list[dict[str, Any]] = []
    # Effects of single bundles are noisier than the pooled one; borrowing its λ keeps them estimable.
    for number, (bundle, hemisphere) in enumerate(rows.levels):
        part, own_columns = rows.only(number), columns[rows.level == number]
        n, others = (len(set(part.person[inside])) for inside in (part.patient, ~part.patient))
        if min(n, others) < FEWEST:
            continue
        fitted = regress(part, own_columns, weights, exponential(settings.grid_mm), pooled.chosen)
        grid = np.array([pooled.decay_mm])
        p_tumor = tumor_test(
            part, own_columns, grid, settings.inference.n_permutations, settings.inference.generator(100 + number)
        )
        tested = {"tumor": p_tumor, **_cohort_tests(part, own_columns, pooled.decay_mm, settings, 200 + number)}
        stands = status if status in _WITHHOLDING else status_of(n, FEWEST)
        own = replace(teller, rows=part, status=stands if fitted.converged else Status.NOT_CONVERGED, n_patients=n)
        labels = {"bundle": bundle, "hemisphere": hemisphere, "method": "regression"}
        records += _told(own, fitted.names, fitted.values, fitted.draws, tested, **labels)
    _adjust(records)
    return records


_WITHHOLDING = (Status.SPLIT_WITHHELD, Status.NO_TUMOR_EFFECT_SHOWN)


def _adjust(records: list[dict[str, Any]]) -> None:
    """Holm over bundles and hemispheres, for each component's test."""
    for component in {record["component"] for record in records if np.isfinite(record["p_value"])}:
        chosen = [record for record in records if record["component"] == component]
        for record, adjusted in zip(chosen, holm(np.array([r["p_value"] for r in chosen])), strict=True):
            record["p_adjusted"] = adjusted


def _told(
    teller: Teller, names: Sequence[str], values: Array, draws: Array, p_values: Mapping[str, float], **labels: str
) -> list[dict[str, Any]]:
    return [
        teller.row(name, float(values[column]), draws[:, column], p_values.get(name, np.nan), **labels)
        for column, name in enumerate(names)
    ]


def _estimates(frame: pd.DataFrame, teller: Teller) -> tuple[Estimate, ...]:
    pooled = frame[(frame["bundle"] == "all") & (frame["method"] == "regression")]
    return tuple(
        Estimate(
            name=row["component"],
            value=row["estimate"],
            low=row["low"],
            high=row["high"],
            level=teller.settings.inference.level,
            unit=unit_of(teller.settings.metric),
            n=teller.rows.n_patients,
            p_value=row["p_value"],
            status=row["status"],
        )
        for row in pooled.to_dict("records")
    )


def _require_spread(rows: Rows) -> None:
    if np.ptp(rows.outcome) < 1e-12:
        raise DataError("Scores must vary; every value of the metric is the same, so there is nothing to split.")
    near = rows.distance_mm[rows.patient]
    if np.ptp(near) < 1e-9:
        raise DataError(
            f"Distances to the tumor must vary; all are {near[0]:g} mm, so that the tumor's part cannot be told from "
            "the systematic one. Check the tumor masks."
        )
