"""The split of one model's drop: the primary estimate pooled and bundle by bundle, and other estimators beside it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ...results import Estimate
from ...status import Status
from ...words import nearest
from .anchored import Anchored, Design, anchored, design_of
from .hemispheric import COMPONENTS as HEMISPHERIC
from .hemispheric import ESTIMANDS, hemispheric
from .regression import COMPONENTS, Regression, exponential, flat_tailed, regress
from .result import Settings, Split, drawn, row_of, unit_of
from .rows import FEWEST_AT_LEVEL, PATIENT, TARGET_CONTROL, Rows, on_rows
from .verdict import Part, Verdict, plain

Array = NDArray[np.float64]
_SPLINE_DRAWS = 500
_NOTHING = (Status.TOO_FEW, Status.CONSTANT)


def split(rows: Rows, columns: Array, weights: Array, settings: Settings, design: Design | None = None) -> Split:
    """All components of one model.

    Parameters
    ----------
    rows : Rows
        Of the model.
    columns : ndarray, shape (people, C)
        Covariates; see `shiftkit.analyses.decomposition.covariates.adjusted_for`.
    weights : ndarray, shape (B, people)
        Bootstrap draws of the estimators beside the primary one.
    settings : Settings
        Of the decomposition.
    design : Design, optional
        The one that another model of the same rows had.
    """
    _require_spread(rows)
    primary = anchored(rows, columns, design)
    verdict = primary.verdict(settings.margin, settings.inference.level)
    verdict = replace(verdict, beside=_beside(primary, verdict), bundles=_by_bundle(rows, primary, settings))
    table = [row_of(rows, settings, name, part, method="anchored") for name, part in verdict.parts.items()]
    table += _bundle_rows(rows, primary, verdict, settings)
    regression = spline = None
    if verdict.status not in _NOTHING:
        inside = on_rows(rows, columns)
        regression = regress(rows, inside, weights, exponential(settings.grid_mm))
        spline = regress(rows, inside, weights[:_SPLINE_DRAWS], flat_tailed())
        table += [*_regressed(rows, settings, "exponential", regression), *_regressed(rows, settings, "spline", spline)]
        values, draws, n = hemispheric(rows, weights)
        for name, value, column in zip(HEMISPHERIC, values, draws.T, strict=True):
            part = drawn(value, column, settings, min(n, rows.n_controls)) if n else Part(status=Status.UNAVAILABLE)
            table.append(
                row_of(rows, settings, name, part, method="hemispheric", n_patients=n, estimand=ESTIMANDS[name])
            )
    return Split(
        rows=rows,
        columns=columns,
        primary=primary,
        verdict=verdict,
        regression=regression,
        spline=spline,
        weights=weights,
        table=pd.DataFrame(table),
        estimates=tuple(_estimate(name, part, rows, settings) for name, part in verdict.parts.items()),
    )


def by_stratum(whole: Split, column: str, settings: Settings) -> list[dict[str, Any]]:
    """The primary parts of the patients with each value of a column, such as a site, as rows of the table.

    Levels and the far cut are those of all patients. The controls are those of the same value where these have each of
    the patients' bundles as often as all controls must, else all. Patients whose value is not known are in none.

    Raises
    ------
    ConfigError
        If the table has no such column, or patients have fewer than two values.
    """
    everybody = whole.rows.frame.drop_duplicates("participant_id").set_index("participant_id")
    require_column(column, [str(name) for name in everybody])
    given = everybody[column].reindex(list(whole.rows.people))
    value = given.where(given.notna(), "n/a").astype(str).str.strip().replace("", "n/a").to_numpy()
    patient = whole.rows.cohort_of_people == PATIENT
    values = require_values(column, value[patient].tolist())
    made: list[dict[str, Any]] = []
    for one in values:
        own = whole.rows.without(value != one)
        theirs = np.bincount(own.level[own.patient], minlength=len(own.levels)) > 0
        fewest = np.bincount(own.level[own.control], minlength=len(own.levels))[theirs].min()
        gone = value != one if fewest >= FEWEST_AT_LEVEL else patient & (value != one)
        part = whole.rows.without(gone).at(theirs)
        idle = ~np.isin(np.arange(len(part.people)), part.person)
        part, columns = part.without(idle), whole.columns[~gone][~idle]
        design = design_of(part, columns, (whole.primary.design.far_mm,))
        verdict = anchored(part, columns, design).verdict(settings.margin, settings.inference.level)
        made += [
            row_of(part, settings, name, found, method="anchored", stratum=f"{column}={one}")
            for name, found in verdict.parts.items()
        ]
    return made


def require_column(column: str, columns: Sequence[str]) -> None:
    """Refuse, with a `ConfigError`, strata of a column that is not there."""
    if column not in columns:
        near = nearest(column, columns) or "."
        raise ConfigError(f"`by` names a column of participants, such as site; {column!r} is none{near}")


def require_values(column: str, values: Iterable[str]) -> list[str]:
    """The values that patients have in a column; fewer than two are a `ConfigError`."""
    known = sorted(set(values) - {"n/a"})
    if len(known) < 2:
        told = f"all have {known[0]}" if known else "nobody has one"
        raise ConfigError(f"`by` needs patients with two values of {column}; {told}. Leave it out.")
    return known


def _beside(primary: Anchored, verdict: Verdict) -> dict[str, Part]:
    """The total without covariates, and with target controls what they tell of the systematic part."""
    raw = primary.moment(primary.replicates.raw)
    given = verdict.status not in _NOTHING
    parts = {"raw": plain(raw, verdict.level) if given else Part(value=raw.value, status=verdict.status)}
    if TARGET_CONTROL in primary.design.cohort:
        withheld = Part(status=verdict.status)
        parts["acquisition"], parts["disease"] = primary.disease(verdict) if given else (withheld, withheld)
    return parts


def _by_bundle(rows: Rows, primary: Anchored, settings: Settings) -> dict[tuple[str, str], dict[str, Part]]:
    if primary.design.status == Status.TOO_FEW:
        return {}
    parts = primary.by_level(settings.margin, settings.inference.level, settings.inference.generator(1))
    return {
        level: {name: found[k] for name, found in parts.items()}
        for k, level in enumerate(rows.levels)
        if primary.design.told[k]
    }


def _bundle_rows(rows: Rows, primary: Anchored, verdict: Verdict, settings: Settings) -> list[dict[str, Any]]:
    there, n, m = primary.design.there, rows.n_patients, rows.n_controls
    counts = {
        level: {"n_patients": int(there[:n, k].sum()), "n_controls": int(there[n : n + m, k].sum())}
        for k, level in enumerate(rows.levels)
    }
    return [
        row_of(rows, settings, name, part, method="anchored", bundle=level[0], hemisphere=level[1], **counts[level])
        for level, parts in verdict.bundles.items()
        for name, part in parts.items()
    ]


def _regressed(rows: Rows, settings: Settings, method: str, found: Regression) -> list[dict[str, Any]]:
    n = min(rows.n_patients, rows.n_controls)
    return [
        row_of(rows, settings, name, drawn(*found.component(name), settings, n), method=method) for name in COMPONENTS
    ]


def _estimate(name: str, part: Part, rows: Rows, settings: Settings) -> Estimate:
    return Estimate(
        name=name,
        value=part.value,
        low=part.low,
        high=part.high,
        level=settings.inference.level,
        unit=unit_of(settings.metric),
        n=rows.n_patients,
        p_value=part.p_value,
        status=str(part.status),
    )


def _require_spread(rows: Rows) -> None:
    near = rows.distance_mm[rows.patient]
    if np.ptp(near) < 1e-9:
        raise DataError(
            f"Distances to the tumor must vary; all are {near[0]:g} mm, so that the tumor's part cannot be told from "
            "the systematic one. Check the tumor masks."
        )
