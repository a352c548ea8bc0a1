"""The split of one model's drop: pooled, bundle by bundle, by hemispheres, and whether it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import DataError
from ...results import Estimate
from ...status import Status
from ..scoring.metrics import METRICS
from ..statistics.inference import EXPLORATORY_BELOW, Inference, holm, interval
from .hemispheric import COMPONENTS as HEMISPHERIC
from .hemispheric import hemispheric
from .permutation import cohort_test, tumor_test
from .regression import Regression, exponential, regress
from .rows import TARGET_CONTROL, Rows, covariate_columns

Array = NDArray[np.float64]
FAR_FIELD_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a decomposition is computed; see `decompose`."""

    metric: str
    covariates: tuple[str, ...]
    grid_mm: Array
    margin: float
    inference: Inference


@dataclass(frozen=True, kw_only=True)
class Split:
    """The split of one model: table, pooled regression, rows, bootstrap weights, status."""

    table: pd.DataFrame
    estimates: tuple[Estimate, ...]
    regression: Regression
    rows: Rows
    weights: Array
    status: str
    p_tumor: float

    def estimate(self, component: str) -> Estimate:
        """The pooled estimate of one component."""
        return next(one for one in self.estimates if one.name == component)


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
    table = _records(
        rows, "all", "all", "regression", found.names, found.values, found.draws, pooled.p_values, status, settings
    )
    table += _by_bundle(rows, columns, weights, found, status, settings)
    values, draws, n = hemispheric(rows, weights)
    table += _records(rows, "all", "all", "hemispheric", HEMISPHERIC, values, draws, {}, _few(n), settings, n)
    frame = pd.DataFrame(table)
    return Split(
        table=frame,
        estimates=_estimates(frame, status, pooled.decay_mm, rows, settings),
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
    if rows.n_patients < 3 or rows.n_controls < 3:
        return Status.TOO_FEW
    if p_tumor > 1 - settings.inference.level:
        return Status.NO_TUMOR_EFFECT_SHOWN
    far = np.mean(rows.distance_mm[rows.patient] > 2 * pooled.decay_mm)
    if decay_high >= settings.grid_mm[-1] * 0.999 or far < FAR_FIELD_SHARE:
        return Status.SPLIT_WITHHELD
    return _few(rows.n_patients)


def _few(n_patients: int) -> str:
    if n_patients < 3:
        return Status.TOO_FEW
    return Status.EXPLORATORY if n_patients < EXPLORATORY_BELOW else Status.OK


def _by_bundle(
    rows: Rows, columns: Array, weights: Array, pooled: Regression, status: str, settings: Settings
) -> list[dict[str, Any]]:
    """Fits of their own for each bundle and hemisphere, with the pooled model's λ in every draw."""
    if status in (Status.NOT_CONVERGED, Status.TOO_FEW):
        return []
    records: list[dict[str, Any]] = []
    # Effects of single bundles are noisier than the pooled one; borrowing its λ keeps them estimable.
    for number, (bundle, hemisphere) in enumerate(rows.levels):
        part, own_columns = rows.only(number), columns[rows.level == number]
        if len(set(part.person[part.patient])) < 3 or len(set(part.person[~part.patient])) < 3:
            continue
        fitted = regress(part, own_columns, weights, exponential(settings.grid_mm), pooled.chosen)
        grid = np.array([pooled.decay_mm])
        p_tumor = tumor_test(
            part, own_columns, grid, settings.inference.n_permutations, settings.inference.generator(100 + number)
        )
        tested = {"tumor": p_tumor, **_cohort_tests(part, own_columns, pooled.decay_mm, settings, 200 + number)}
        n = len(set(part.person[part.patient]))
        own = Status.NOT_CONVERGED if not fitted.converged else status if status in _WITHHOLDING else _few(n)
        records += _records(
            part, bundle, hemisphere, "regression", fitted.names, fitted.values, fitted.draws, tested, own, settings, n
        )
    _adjust(records)
    return records


_PARTS = ("systematic", "tumor", "interaction", "disease")
_WITHHOLDING = (Status.SPLIT_WITHHELD, Status.NO_TUMOR_EFFECT_SHOWN)


def _adjust(records: list[dict[str, Any]]) -> None:
    """Holm over bundles and hemispheres, for each component's test."""
    for component in {record["component"] for record in records if np.isfinite(record["p_value"])}:
        chosen = [record for record in records if record["component"] == component]
        for record, adjusted in zip(chosen, holm(np.array([r["p_value"] for r in chosen])), strict=True):
            record["p_adjusted"] = adjusted


def _records(
    rows: Rows,
    bundle: str,
    hemisphere: str,
    method: str,
    names: Sequence[str],
    values: Array,
    draws: Array,
    p_values: Mapping[str, float],
    status: str,
    settings: Settings,
    n_patients: int | None = None,
) -> list[dict[str, Any]]:
    first = rows.frame.iloc[0]
    records: list[dict[str, Any]] = []
    for column, name in enumerate(names):
        low, high = interval(draws[:, column], settings.inference.level, min(n for n in rows.sizes if n))
        given = status not in (Status.NOT_CONVERGED, Status.TOO_FEW) and not (
            status == Status.SPLIT_WITHHELD and name in _PARTS
        )
        records.append(
            {
                "model": first["model"],
                "modality": first["modality"],
                "bundle": bundle,
                "hemisphere": hemisphere,
                "metric": settings.metric,
                "method": method,
                "component": name,
                "estimate": values[column] if given else np.nan,
                "low": low if given else np.nan,
                "high": high if given else np.nan,
                "p_value": p_values.get(name, np.nan) if given else np.nan,
                "p_adjusted": np.nan,
                "n_patients": rows.n_patients if n_patients is None else n_patients,
                "n_controls": rows.n_controls,
                "status": str(status),
            }
        )
    return records


def _estimates(
    frame: pd.DataFrame, status: str, decay: tuple[float, float, float], rows: Rows, settings: Settings
) -> tuple[Estimate, ...]:
    pooled = frame[(frame["bundle"] == "all") & (frame["method"] == "regression")]
    made = [
        Estimate(
            name=row["component"],
            value=row["estimate"],
            low=row["low"],
            high=row["high"],
            level=settings.inference.level,
            unit=unit_of(settings.metric),
            n=rows.n_patients,
            p_value=row["p_value"],
            status=row["status"],
        )
        for row in pooled.to_dict("records")
    ]
    shown = status in (Status.OK, Status.EXPLORATORY)
    value, low, high = decay if shown else (float("nan"),) * 3
    made.append(
        Estimate(
            name="decay_length",
            value=value,
            low=low,
            high=high,
            level=settings.inference.level,
            unit="mm",
            n=rows.n_patients,
            status=str(status),
        )
    )
    return tuple(made)


def unit_of(metric: str) -> str:
    """Unit in which components are given."""
    known = METRICS.get(metric)
    if known is None or known.bounded:
        return metric if known is None else known.title
    return f"log {known.unit}" if known.unit != "1" else f"log {known.title}"


def _require_spread(rows: Rows) -> None:
    if np.ptp(rows.outcome) < 1e-12:
        raise DataError("Scores must vary; every value of the metric is the same, so there is nothing to split.")
    near = rows.distance_mm[rows.patient]
    if np.ptp(near) < 1e-9:
        raise DataError(
            f"Distances to the tumor must vary; all are {near[0]:g} mm, so that the tumor's part cannot be told from "
            "the systematic one. Check the tumor masks."
        )
