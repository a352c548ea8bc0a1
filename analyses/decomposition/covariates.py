"""Covariates that the primary split adjusts for: participants' columns, and refusals where adjusting means nothing."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import ConfigError
from ...words import nearest
from .rows import CONTROL, PATIENT, Rows

Array = NDArray[np.float64]
_MEDIATORS = ("tumor_volume_ml", "tumor_distance_mm", "bundle_volume_ml", "reference_volume_ml")
_OVERLAP = 5
"""Participants of each cohort that must lie where the other cohort is."""


def require_covariates(names: Sequence[str], columns: Collection[str]) -> None:
    """Refuse, with a `ConfigError`, a covariate that is no column of the score table, or a mediator."""
    for name in names:
        if name not in columns:
            raise ConfigError(
                f"`covariates` must name columns of the score table; {name!r} is none{nearest(name, columns) or '.'}"
            )
        if name in _MEDIATORS:
            raise ConfigError(
                f"{name} is what the tumor does to the brain: adjusting for it would take the tumor's own effect away. "
                "Leave it out of `covariates`."
            )


def adjusted_for(rows: Rows, names: Sequence[str]) -> tuple[Rows, Array, tuple[str, ...]]:
    """Columns to adjust for, one row a participant.

    The drop is compared at the patients' mean of each covariate, with slopes pooled within cohorts, so that a
    difference of age between the cohorts is no part of the systematic shift.

    Parameters
    ----------
    rows : Rows
        Of one model.
    names : sequence of str
        Columns of the score table; categories become dummies.

    Returns
    -------
    rows : Rows
        Without participants whose value is not known.
    columns : ndarray, shape (people, C)
        In the order of the people.
    left_out : tuple of str
        Who these participants are.

    Raises
    ------
    ConfigError
        If a covariate is unknown, a mediator, aliased with the cohort, collinear with others, or without overlap
        between the cohorts.
    """
    if not names:
        return rows, np.zeros((len(rows.people), 0)), ()
    require_covariates(names, [str(name) for name in rows.frame])
    first = rows.frame.drop_duplicates("participant_id").set_index("participant_id").reindex(list(rows.people))
    known = np.ones(len(rows.people), dtype=bool)
    for name in names:
        known &= (first[name].notna() & (first[name] != "n/a")).to_numpy()
    lost = tuple(np.array(rows.people)[~known])
    rows, first = rows.without(~known), first[known]
    cohort = rows.cohort_of_people
    blocks = [_coded(first[name], name, cohort) for name in names]
    columns = np.column_stack(blocks)
    centered = columns.copy()
    for group in np.unique(cohort):
        centered[cohort == group] -= centered[cohort == group].mean(axis=0)
    scale = np.maximum(np.abs(columns).max(axis=0, initial=0.0), 1.0)
    if np.linalg.matrix_rank(centered / scale, tol=1e-6) < columns.shape[1]:
        raise ConfigError(
            f"Covariates {', '.join(names)} are collinear within the cohorts: one tells what the others do. Leave one "
            "out of `covariates`."
        )
    return rows, columns, lost


def overlap(rows: Rows, names: Sequence[str]) -> pd.DataFrame:
    """Where patients and controls lie in each covariate, and how many of them lie where the other cohort is.

    Parameters
    ----------
    rows : Rows
        As `adjusted_for` returned them.
    names : sequence of str
        Covariates.

    Returns
    -------
    DataFrame
        ``covariate group n low median high n_shared``, a row a covariate and cohort: central 80 % and median of
        numbers, NaN for categories; participants within the other cohort's central 80 %, or of its categories.
    """
    first = rows.frame.drop_duplicates("participant_id").set_index("participant_id").reindex(list(rows.people))
    cohort = rows.cohort_of_people
    records: list[dict[str, object]] = []
    for name in names:
        values, shared = _shared(first[name], cohort)
        for group, word in ((PATIENT, "patients"), (CONTROL, "controls")):
            own = values[cohort == group]
            known = values.dtype.kind == "f"
            ends = np.quantile(own.astype(float), [0.1, 0.5, 0.9]) if known else np.full(3, np.nan)
            spread = dict(zip(("low", "median", "high"), ends.tolist(), strict=True))
            records.append({"covariate": name, "group": word, "n": len(own), **spread, "n_shared": shared[group]})
    return pd.DataFrame(records)


def _shared(column: pd.Series, cohort: NDArray[np.int64]) -> tuple[NDArray[np.generic], dict[int, int]]:
    """Values, as numbers where all are, and how many of either cohort lie where the other is."""
    number = pd.to_numeric(column, errors="coerce")
    numeric = bool(number.notna().all())
    values = number.to_numpy(dtype=float) if numeric else column.to_numpy(dtype=str)
    shared: dict[int, int] = {}
    for mine, theirs in ((CONTROL, PATIENT), (PATIENT, CONTROL)):
        own, other = values[cohort == mine], values[cohort == theirs]
        if numeric and len(set(values)) > 2:
            low, high = np.quantile(other, [0.1, 0.9])
            shared[mine] = int(((own >= low) & (own <= high)).sum())
        else:
            shared[mine] = int(np.isin(own, other).sum())
    return values, shared


def _coded(column: pd.Series, name: str, cohort: NDArray[np.int64]) -> Array:
    values, shared = _shared(column, cohort)
    if all(len(set(values[cohort == group])) < 2 for group in np.unique(cohort)):
        raise ConfigError(
            f"A covariate must vary within a cohort; {name} is the same for everyone in each cohort, so it cannot be "
            "told from the systematic part. Leave it out of `covariates`."
        )
    if min(shared.values()) < _OVERLAP:
        raise ConfigError(
            f"Patients and controls hardly overlap in {name}: {shared[CONTROL]} controls lie within the patients' "
            f"central 80 %, {shared[PATIENT]} patients within the controls', and at least {_OVERLAP} are needed each. "
            "Leave it out of `covariates`, or add controls like the patients."
        )
    if values.dtype.kind == "f":
        return values[:, None].astype(float)
    words = sorted(set(values))
    return np.stack([(values == word).astype(float) for word in words[1:]], axis=1)
