"""From a score table to the rows of a model: who counts, with which outcome, at which distance."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import ConfigError, DataError
from ...status import Status
from ...words import named
from ..scoring.metrics import METRICS, Metric
from ..scoring.table import require_one_setting

Array = NDArray[np.float64]
CONTROL, TARGET_CONTROL, PATIENT = range(3)
GROUPS = ("control", "target_control", "glioma")
"""Words of the score table for these, in this order."""
FEWEST_AT_LEVEL = 5
"""Controls that a bundle and hemisphere needs, or all of a cohort of fewer."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of one model, modality and metric.

    Parameters
    ----------
    outcome : ndarray, shape (N,)
        Metric, as log(x + 1 mm) for surface distances.
    logit : bool
        Whether the outcome lies in 0–1 and gets the logit link.
    sign : int
        1 if a larger outcome is better, −1 if it is worse.
    cohort : ndarray of int, shape (N,)
        `CONTROL`, `TARGET_CONTROL` (healthy, scanned like the patients) or `PATIENT`.
    person : ndarray of int, shape (N,)
        Index into ``people``.
    people : tuple of str
        Participants: patients, then controls, then target controls.
    n_patients, n_target_controls : int
        Patients and target controls among them.
    level : ndarray of int, shape (N,)
        Index into ``levels``.
    levels : tuple of (str, str)
        Bundle and hemisphere.
    distance_mm : ndarray, shape (N,)
        Tumor to reference bundle; infinite for controls.
    frame : DataFrame, N rows
        The score table's rows, in the same order.
    """

    outcome: Array
    logit: bool
    sign: int
    cohort: NDArray[np.int64]
    person: NDArray[np.int64]
    people: tuple[str, ...]
    n_patients: int
    n_target_controls: int
    level: NDArray[np.int64]
    levels: tuple[tuple[str, str], ...]
    distance_mm: Array
    frame: pd.DataFrame

    @property
    def n_controls(self) -> int:
        """Controls of the source domain among the people."""
        return len(self.people) - self.n_patients - self.n_target_controls

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Patients, controls and target controls, as they stand in ``people``."""
        return self.n_patients, self.n_controls, self.n_target_controls

    @property
    def patient(self) -> NDArray[np.bool_]:
        """Patients' rows."""
        return self.cohort == PATIENT

    @property
    def control(self) -> NDArray[np.bool_]:
        """Rows of the source domain's controls."""
        return self.cohort == CONTROL

    @property
    def cohorts(self) -> tuple[int, ...]:
        """The cohorts that are there, from the source domain's controls to the patients."""
        return (CONTROL, TARGET_CONTROL, PATIENT) if self.n_target_controls else (CONTROL, PATIENT)

    @property
    def cohort_of_people(self) -> NDArray[np.int64]:
        """Cohort of each participant, as they stand in ``people``."""
        return np.repeat([PATIENT, CONTROL, TARGET_CONTROL], self.sizes)

    def without(self, gone: NDArray[np.bool_]) -> "Rows":
        """As if some people had never been there, shape (people,)."""
        if not gone.any():
            return self
        cohort = self.cohort_of_people[~gone]
        part = self.take(~gone[self.person])
        return replace(
            part,
            person=(np.cumsum(~gone) - 1)[part.person],
            people=tuple(name for name, lost in zip(self.people, gone, strict=True) if not lost),
            n_patients=int((cohort == PATIENT).sum()),
            n_target_controls=int((cohort == TARGET_CONTROL).sum()),
        )

    def take(self, keep: NDArray[np.bool_]) -> "Rows":
        """Only some rows; people stay, so that resampling weights still fit."""
        return replace(
            self,
            outcome=self.outcome[keep],
            cohort=self.cohort[keep],
            person=self.person[keep],
            level=self.level[keep],
            distance_mm=self.distance_mm[keep],
            frame=self.frame[keep].reset_index(drop=True),
        )

    def only(self, level: int) -> "Rows":
        """The rows of one bundle and hemisphere, as a table of that level alone."""
        return self.at(np.arange(len(self.levels)) == level)

    def at(self, kept: NDArray[np.bool_]) -> "Rows":
        """The rows of some levels, shape (K,), as a table of these alone; people stay."""
        part = self.take(kept[self.level])
        levels = tuple(one for one, keep in zip(self.levels, kept, strict=True) if keep)
        return replace(part, level=(np.cumsum(kept) - 1)[part.level], levels=levels)


def build_rows(frame: pd.DataFrame, metric: str) -> Rows:
    """Collect the rows that enter a model.

    Rows whose status says that there is no value are left out; so are patients' rows without a distance, which
    are no evidence on either part.

    Parameters
    ----------
    frame : DataFrame
        Score table of one model.
    metric : str
        Name of the metric.

    Raises
    ------
    DataError
        If the metric is missing or was computed with different settings, a value is not finite or out of range, or
        patients or controls are absent.
    ConfigError
        If the metric is unknown.
    """
    chosen = frame[(frame["metric"] == metric) & frame["group"].isin(GROUPS)]
    if chosen.empty:
        there = ", ".join(sorted(set(frame["metric"]))) or "none"
        raise DataError(f"The score table must hold metric {metric!r} for glioma and control; it holds {there}.")
    require_one_setting(chosen)
    counted = usable(chosen, metric)
    patient = (counted["group"] == "glioma").to_numpy()
    near = counted["tumor_distance_mm"].to_numpy(dtype=float)
    if patient.any() and not np.isfinite(near[patient]).any():
        raise DataError(
            "Patients need the distance from the tumor to each reference bundle; column tumor_distance_mm is empty. "
            "Add tumor masks to the cohort and score again."
        )
    known = counted[~patient | np.isfinite(near)].reset_index(drop=True)
    for name in ("glioma", "control"):
        if not (known["group"] == name).any():
            raise DataError(f"The decomposition compares glioma with control; there is no usable row of {name}.")
    return _pack(_comparable(known), metric)


def usable(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows that have a value, each of which must be one that the metric can have."""
    counted = frame[frame["status"].isin([Status.OK, Status.MISSED])]
    _require_values(counted, metric)
    return counted


def outcome_of(values: Array, metric: str) -> Array:
    """Shares as they are, distances as log(1 + x)."""
    return values if metric_of(metric).bounded else np.log1p(values)


def entered(frame: pd.DataFrame, rows: Rows, metric: str) -> pd.DataFrame:
    """How many rows and participants entered, and how many did not, by group and reason.

    Parameters
    ----------
    frame : DataFrame
        All scores that were given, of one model.
    rows : Rows
        What `build_rows` took, less whoever lacks a covariate.
    metric : str
        Name of the metric.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.catalogue.ENTERED``; a row of the scores stands under the first reason that holds.
    """
    given = frame[frame["metric"] == metric]
    keys = ["participant_id", "bundle", "hemisphere"]
    inside = pd.MultiIndex.from_frame(given[keys]).isin(pd.MultiIndex.from_frame(rows.frame[keys]))
    seen = given["seen"] == "yes" if "seen" in given else pd.Series(False, index=given.index)
    levels = pd.MultiIndex.from_frame(given[["bundle", "hemisphere"]]).isin(rows.levels)
    nowhere = (given["group"] == "glioma") & ~np.isfinite(given["tumor_distance_mm"].astype(float))
    reasons = {
        "entered": inside,
        "group is none of control, glioma, target_control": ~given["group"].isin(GROUPS),
        "control that the model has seen": (given["group"] == "control") & seen,
        **{str(word): given["status"] == word for word in sorted(set(given["status"])) if word not in ("ok", "missed")},
        "no distance to the tumor": nowhere,
        str(Status.LEVEL_TOO_RARE): ~levels,
        "a covariate is not known": np.ones(len(given), dtype=bool),
    }
    told = np.select([np.asarray(one) for one in reasons.values()], list(reasons), "")
    counts = given.assign(reason=told).groupby(["group", "reason"])["participant_id"].agg(["size", "nunique"])
    counts = counts.reset_index().rename(columns={"size": "n_rows", "nunique": "n_participants"})
    order = {name: place for place, name in enumerate(reasons)}
    return counts.sort_values(
        ["group", "reason"], key=lambda one: one.map(order).fillna(0) if one.name == "reason" else one
    )


def lost_near_the_tumor(frame: pd.DataFrame, rows: Rows, metric: str, cut_mm: float) -> float:
    """By how much the share of patients' rows without a value within 10 mm exceeds that beyond the cut.

    A bundle without a reference, and one that a table does not name for a patient, has no distance: it is given the
    median of the patients' distances to that bundle on the same side of the tumor.
    """
    keys = ["participant_id", "bundle", "hemisphere"]
    given = frame[(frame["metric"] == metric) & (frame["group"] == "glioma")]
    given = given.assign(side=given.get("side", "n/a"))
    given["lost"] = given["status"].isin([Status.UNAVAILABLE, Status.REFERENCE_ABSENT])
    # Every bundle of every patient; on which side of the tumor an absent one lies, others of its hemisphere tell.
    sides = given.drop_duplicates(["participant_id", "hemisphere"])[["participant_id", "hemisphere", "side"]]
    whole = sides[["participant_id"]].drop_duplicates().merge(given[keys[1:]].drop_duplicates(), how="cross")
    whole = whole.merge(sides, how="left").merge(given[[*keys, "tumor_distance_mm", "lost"]], how="left")
    lost = whole["lost"].isna() | (whole["lost"] == True)  # noqa: E712
    distance = whole["tumor_distance_mm"].astype(float)
    distance = distance.fillna(distance.groupby([whole["bundle"], whole["side"]]).transform("median"))
    near, far = lost[distance <= 10], lost[distance > cut_mm]
    return float(near.mean() - far.mean()) if len(near) and len(far) else 0.0


def _comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the bundles and hemispheres that fewer than 5 controls have, for everybody."""
    (who, people), (bundle, _), (hemisphere, sides) = (
        pd.factorize(frame[name]) for name in ("participant_id", "bundle", "hemisphere")
    )
    level = bundle * len(sides) + hemisphere
    there = np.zeros((len(GROUPS), len(people), int(level.max()) + 1), dtype=bool)
    there[_cohort_of(frame), who, level] = True
    controls = there[CONTROL]
    fewest = min(int(controls.any(axis=1).sum()), FEWEST_AT_LEVEL)
    shared = (controls.sum(axis=0) >= fewest) & there[PATIENT].any(axis=0)
    if not shared.any():
        raise DataError("Patients and controls must have bundles in common, at least 5 controls each; none is shared.")
    return frame[shared[level]].reset_index(drop=True)


def _cohort_of(frame: pd.DataFrame) -> NDArray[np.int64]:
    return pd.Index(GROUPS).get_indexer(pd.Index(frame["group"])).astype(np.int64)


def _pack(frame: pd.DataFrame, metric: str) -> Rows:
    cohort = _cohort_of(frame)
    names = frame["participant_id"].to_numpy(dtype=str)
    members = [sorted(set(names[cohort == group].tolist())) for group in (PATIENT, CONTROL, TARGET_CONTROL)]
    people = tuple(name for group in members for name in group)
    both = sorted({name for name in people if people.count(name) > 1}) if len(set(people)) < len(people) else []
    if both:
        raise DataError(f"A participant is in one group; these are in two: {named(both)}.")
    index = {name: position for position, name in enumerate(people)}
    pairs = list(zip(frame["bundle"].tolist(), frame["hemisphere"].tolist(), strict=True))
    levels = tuple(sorted(set(pairs)))
    place = {pair: position for position, pair in enumerate(levels)}
    values = frame["value"].to_numpy(dtype=float)
    found = metric_of(metric)
    distance = np.where(cohort == PATIENT, frame["tumor_distance_mm"].to_numpy(dtype=float), np.inf)
    return Rows(
        outcome=outcome_of(values, metric),
        logit=found.bounded,
        sign=1 if found.better == "higher" else -1,
        cohort=cohort,
        person=np.array([index[name] for name in names.tolist()], dtype=np.int64),
        people=people,
        n_patients=len(members[0]),
        n_target_controls=len(members[2]),
        level=np.array([place[pair] for pair in pairs], dtype=np.int64),
        levels=levels,
        distance_mm=distance,
        frame=frame,
    )


def metric_of(name: str) -> Metric:
    """The metric of that name, or a refusal that lists what there is."""
    if name not in METRICS:
        raise ConfigError(f"`metric` is one of {', '.join(METRICS)}; got {name!r}.")
    return METRICS[name]


def _require_values(frame: pd.DataFrame, metric: str) -> None:
    values = frame["value"].to_numpy(dtype=float)
    bad = ~np.isfinite(values)
    if bad.any():
        who = ", ".join(frame.loc[bad, "participant_id"].head(3))
        raise DataError(f"A row with status ok or missed must have a value; {metric} is missing for {who}.")
    upper = 1.0 if metric_of(metric).bounded else np.inf
    if ((values < 0) | (values > upper)).any():
        raise DataError(f"{metric} must lie in 0–{upper:g}; it runs from {values.min():g} to {values.max():g}.")


def on_rows(rows: Rows, columns: Array) -> Array:
    """Participants' columns as columns of rows, less the patients' mean, so that 0 is a patient like the average."""
    return columns[rows.person] - columns[: rows.n_patients].mean(axis=0)


def unseen(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out controls that the table itself marks as seen by the model."""
    if "seen" not in frame:
        return frame
    return frame[~((frame["group"] == "control") & (frame["seen"] == "yes"))]
