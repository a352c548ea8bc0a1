"""The split under other reasonable choices, and where there is nothing to find: what would have changed the answer."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import SENSITIVITY
from ...status import Status
from .anchored import BESIDE_MM, anchored
from .permutation import distance_table, tumor_test
from .regression import exponential, regress
from .result import Settings, Split, row_of
from .rows import PATIENT, Rows, on_rows
from .verdict import Part, Verdict

Array = NDArray[np.float64]
MANY_MISSED = 0.02
"""Share of missed rows of either cohort from which the split without them stands beside, as another estimand."""
_DISTANCES = {
    "mean distance instead of the shortest": "tumor_distance_mean_mm",
    "distance to the tumor core": "tumor_core_distance_mm",
}

_APART = "infiltrated bundles left out (another estimand)"
_FOUND = "missed bundles left out (another estimand)"
_INSTEAD = {_APART: "drop in bundles that the tumor does not touch", _FOUND: "drop in bundles that were not missed"}


def sensitivity(base: Split, settings: Settings, *, full: bool) -> pd.DataFrame:
    """Repeat the primary split with one choice changed at a time.

    Parameters
    ----------
    base : Split
        The primary result.
    settings : Settings
        As for it.
    full : bool
        False gives only what needs no new fit.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.catalogue.SENSITIVITY``.
    """
    records: list[dict[str, Any]] = []
    level = settings.inference.level
    if base.primary.design.status == Status.OK and base.verdict.status != Status.CONSTANT:
        for length in BESIDE_MM:
            told = base.primary.verdict(settings.margin, level, length)
            instead = f"bounds that allow an effect to reach as an exponential of at most {length:g} mm"
            records += _both(f"effect reaches with at most {length:g} mm", base.rows, told, settings, instead)
        records += _leave_one_out(base, settings)
    if full and base.verdict.status not in (Status.TOO_FEW, Status.CONSTANT):
        for name, rows in {**_other_rows(base.rows), **_sites_left_out(base.rows)}.items():
            told = anchored(rows, base.columns).verdict(settings.margin, level)
            records += _both(name, rows, told, settings, _INSTEAD.get(name, "same"))
        records.append(_permuted(base.rows, base.columns, settings))
        records += _mirrored(base.rows, settings) + _in_controls(base.rows, settings)
    return pd.DataFrame(records, columns=list(SENSITIVITY.columns))


def _both(name: str, rows: Rows, told: Verdict, settings: Settings, estimand: str = "same") -> list[dict[str, Any]]:
    n = len(set(rows.person[rows.patient]))
    return [
        row_of(rows, settings, component, part, analysis=name, estimand=estimand, method="anchored", n_patients=n)
        for component, part in (("systematic", told.systematic), ("tumor", told.tumor))
    ]


def _other_rows(rows: Rows) -> dict[str, Rows]:
    """Another distance, or fewer rows, where the table has what that needs."""
    changed: dict[str, Rows] = {}
    for name, column in _DISTANCES.items():
        known = column in rows.frame
        values = rows.frame[column].to_numpy(dtype=float) if known else np.full(len(rows.outcome), np.nan)
        if np.isfinite(values[rows.patient]).all():
            changed[name] = replace(rows, distance_mm=np.where(rows.patient, values, np.inf))
    apart = ~rows.patient | (rows.distance_mm > 0)
    if not apart.all():
        changed[_APART] = rows.take(apart)
    missed = (rows.frame["status"] == Status.MISSED).to_numpy()
    if max(missed[rows.patient].mean(), missed[rows.control].mean()) > MANY_MISSED:
        changed[_FOUND] = rows.take(~missed)
    # Nobody may be left without rows: the others keep their place.
    return {name: one.without(np.bincount(one.person, minlength=len(one.people)) == 0) for name, one in changed.items()}


def _sites_left_out(rows: Rows) -> dict[str, Rows]:
    """The rows without each of the patients' sites in turn, where there are several."""
    if "site" not in rows.frame:
        return {}
    site = rows.frame["site"].to_numpy(dtype=str)
    names = sorted(set(site[rows.patient]))
    if len(names) < 2:
        return {}
    gone = {name: np.bincount(rows.person, rows.patient & (site == name), len(rows.people)) > 0 for name in names}
    return {f"patients of site {name} left out": rows.without(who) for name, who in gone.items() if not who.all()}


def _leave_one_out(base: Split, settings: Settings) -> list[dict[str, Any]]:
    """Range of the pooled estimates when one patient at a time is left out: the interval is that range."""
    found, n = base.primary.replicates, base.rows.n_patients
    parts = {"systematic": found.systematic, "tumor": found.total - found.systematic}
    return [
        row_of(
            base.rows,
            settings,
            name,
            Part(value=values[0], low=values[1 : 1 + n].min(), high=values[1 : 1 + n].max()),
            analysis="one patient left out (range)",
            estimand="same",
            method="anchored",
        )
        for name, values in parts.items()
    ]


def _permuted(
    rows: Rows, columns: Array, settings: Settings, name: str = "permutation of distances", purpose: int = 2
) -> dict[str, Any]:
    """Whether performance depends on the distance at all: the permutation of whole distance vectors."""
    inside, inference = on_rows(rows, columns), settings.inference
    p_value = tumor_test(rows, inside, settings.grid_mm, inference.n_permutations, inference.generator(purpose))
    found = regress(rows, inside, np.zeros((0, len(rows.people))), exponential(settings.grid_mm))
    part = Part(value=found.component("tumor")[0], p_value=p_value)
    instead = "whether performance depends on distance" if purpose == 2 else "none: no effect is expected"
    return row_of(rows, settings, "tumor", part, analysis=name, estimand=instead, method="permutation")


def _mirrored(rows: Rows, settings: Settings) -> list[dict[str, Any]]:
    """Patients' tumors mirrored to the other hemisphere: no effect is expected of where no tumor is.

    Only contralesional bundles are tested, with the distance of their ipsilesional twin; bundles of the tumor's own
    side would show its real effect with the sign turned.
    """
    if "side" not in rows.frame:
        return []
    twin = {
        (person, rows.levels[level][0]): distance
        for person, level, distance, side in zip(
            rows.person, rows.level, rows.distance_mm, rows.frame["side"], strict=True
        )
        if side == "ipsi"
    }
    mirrored = rows.distance_mm.copy()
    keep = ~rows.patient
    for row in np.flatnonzero(rows.patient & (rows.frame["side"] == "contra").to_numpy()):
        distance = twin.get((rows.person[row], rows.levels[rows.level[row]][0]))
        if distance is not None:
            mirrored[row], keep[row] = distance, True
    placebo = replace(rows, distance_mm=mirrored).take(keep)
    if len(set(placebo.person[placebo.patient])) < 3 or np.ptp(placebo.distance_mm[placebo.patient]) < 1e-9:
        return []
    return [_permuted(placebo, _unadjusted(placebo), settings, "placebo: tumor mirrored", 3)]


def _in_controls(rows: Rows, settings: Settings) -> list[dict[str, Any]]:
    """Patients' tumors laid into controls: half of them, at random, play the patients."""
    if rows.n_controls < 6:
        return []
    rng = settings.inference.generator(4)
    controls = np.arange(rows.n_patients, rows.n_patients + rows.n_controls)
    played = rng.permutation(controls)[: rows.n_controls // 2]
    table = distance_table(rows)[rng.integers(rows.n_patients, size=len(rows.people))]
    is_played = np.isin(rows.person, played)
    distance = np.where(is_played, table[rows.person, rows.level], np.inf)
    order = {person: position for position, person in enumerate([*played, *np.setdiff1d(controls, played)])}
    keep = rows.control
    placebo = replace(
        rows,
        cohort=np.where(is_played, PATIENT, rows.cohort),
        person=np.array([order.get(person, 0) for person in rows.person], dtype=np.int64),
        people=tuple(rows.people[person] for person in order),
        n_patients=len(played),
        n_target_controls=0,
        distance_mm=distance,
    ).take(keep)
    return [_permuted(placebo, _unadjusted(placebo), settings, "placebo: tumors in controls", 5)]


def _unadjusted(rows: Rows) -> Array:
    return np.zeros((len(rows.people), 0))
