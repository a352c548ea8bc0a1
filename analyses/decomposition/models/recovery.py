"""Before and after fine-tuning: what of each part is repaired, and what the source domain lost."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ....catalogue import RECOVERY
from ....errors import DataError
from ....status import Status
from ....words import named
from ...statistics.inference import FEWEST
from ..anchored import Anchored, anchored, recovered
from ..result import Settings, Split, row_of
from ..rows import Rows, outcome_of, usable
from ..split import split
from ..verdict import Moment, Part, Verdict, plain, word

Array = NDArray[np.float64]
_KEYS = ["participant_id", "bundle", "hemisphere"]


def recovery(
    base: Split, tuned: Mapping[str, pd.DataFrame], settings: Settings
) -> tuple[pd.DataFrame, dict[str, Split]]:
    """Compare fine-tuned models with the source model, paired by participant.

    Both sides use the *source* model's controls, so that what fine-tuning forgets on controls is never booked as
    repair; forgetting is a row of its own. Rows of patients that either model lacks are left out of both, and the
    design is the same, so that the difference is that of the scores alone.

    Parameters
    ----------
    base : Split
        Of the source model.
    tuned : mapping of str to DataFrame
        Out-of-fold scores of the same patients, one table a fine-tuned model.
    settings : Settings
        As for ``base``.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.catalogue.RECOVERY``.
    dict of str to Split
        The split of each fine-tuned model.

    Raises
    ------
    DataError
        If a fine-tuned table lacks patients of the source model's.
    """
    records: list[dict[str, Any]] = []
    splits: dict[str, Split] = {}
    for name, table in tuned.items():
        rows, after_rows = _paired(base.rows, table, settings.metric, name)
        before = anchored(rows, base.columns)
        after = splits[name] = split(after_rows, base.columns, base.weights, settings, before.design)
        level, margin = settings.inference.level, settings.margin
        sides = [(one, one.verdict(margin, level)) for one in (before, after.primary)]
        for component in ("total", "systematic", "tumor"):
            ends, parts = zip(*(ends_of(component, *side) for side in sides), strict=True)
            records.append(
                _names(after_rows, settings, name, component) | _repaired(before.stratum, ends, parts, level)
            )
        records.append(_names(after_rows, settings, name, "forgetting") | _forgotten(base, table, settings))
    return pd.DataFrame(records, columns=list(RECOVERY.columns)), splits


def _names(rows: Rows, settings: Settings, name: str, component: str) -> dict[str, Any]:
    row = row_of(rows, settings, component, Part())
    kept = ("modality", "bundle", "metric", "component", "n_patients")
    return {"model": name, "strategy": name.rsplit("+", 1)[-1], **{key: row[key] for key in kept}}


def ends_of(component: str, found: Anchored, told: Verdict) -> tuple[list[Array], Part]:
    """Replicates of a component as it is printed, then those of the ends of what is possible; and the part."""
    part, made = getattr(told, component), found.replicates
    if component == "total":
        return [made.total] * 3, part
    far = [made.upper] * 3 if told.tumor.word == "better_near" else [made.systematic, made.upper, found.lower()]
    return (far if component == "systematic" else [made.total - one for one in far]), part


def _repaired(stratum: NDArray[np.int64], ends: Any, parts: Any, level: float) -> dict[str, Any]:
    """One component before and after; the fraction is not given of what may be nothing or is a range.

    Intervals are the hull of those of the estimate and of both ends of what is possible: if what is left of the tumor's
    effect far away were taken for systematic, a repair of the one would be told as one of the other.
    """
    before, after = parts
    status = next((one.status for one in parts if one.status not in (Status.OK, Status.RANGE)), None)
    if status is not None:
        return {"before": before.value, "after": after.value, "status": str(status), "word": "n/a"}
    ways = list(zip(*ends, strict=True))
    difference, low, high = _hull([first - second for first, second in ways], stratum, level)
    half_left, half_left_low, half_left_high = _hull([second - first / 2 for first, second in ways], stratum, level)
    made = {
        "before": before.value,
        "after": after.value,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "half_left": half_left,
        "half_left_low": half_left_low,
        "half_left_high": half_left_high,
        "status": str(Status.RANGE if Status.RANGE in (before.status, after.status) else Status.OK),
    }
    shares = np.array([recovered(first, second, stratum, level) for first, second in ways])
    if made["status"] == Status.OK and np.isfinite(shares[:, 1:]).all():
        low, high = float(shares[:, 1].min()), float(shares[:, 2].max())
        made |= {"recovered": float(shares[0, 0]), "low": low, "high": high}
    return {**made, "word": word(low, high, "repaired", "worsened")}


def _hull(ways: list[Array], stratum: NDArray[np.int64], level: float) -> tuple[float, float, float]:
    """A number by the estimate, and the hull of its intervals by the estimate and both ends of what is possible."""
    each = [plain(Moment.of(one, stratum), level) for one in ways]
    return each[0].value, min(one.low for one in each), max(one.high for one in each)


def _paired(rows: Rows, table: pd.DataFrame, metric: str, name: str) -> tuple[Rows, Rows]:
    """The rows that both models have, with the outcome of the source model and of the other."""
    chosen = usable(table[(table["group"] == "glioma") & (table["metric"] == metric)], metric)
    after = chosen.set_index(_KEYS)[["value", "status", "model", "modality"]]
    there = pd.MultiIndex.from_frame(rows.frame[_KEYS]).isin(after.index)
    kept = rows.take(~rows.patient | there)
    lacking = sorted(set(rows.people[: rows.n_patients]) - set(kept.frame.loc[kept.patient, "participant_id"]))
    if lacking:
        raise DataError(
            f"Before and after are compared on the same patients; {name} has no scores of {named(lacking)}. "
            "Fine-tune and score all of them, out of fold."
        )
    frame = kept.frame.copy()
    patient = kept.patient
    own = after.loc[pd.MultiIndex.from_frame(frame.loc[patient, _KEYS])]
    for column in ("value", "status"):
        frame.loc[patient, column] = own[column].to_numpy()
    frame = frame.assign(model=own["model"].iloc[0], modality=own["modality"].iloc[0])
    return kept, replace(kept, outcome=outcome_of(frame["value"].to_numpy(dtype=float), metric), frame=frame)


def _forgotten(base: Split, table: pd.DataFrame, settings: Settings) -> dict[str, Any]:
    """Mean performance on controls before less after, paired; positive means that the source domain lost."""
    rows = base.rows
    controls = table[(table["group"] == "control") & (table["metric"] == settings.metric)]
    source = rows.frame[rows.control]
    merged = source[[*_KEYS, "value"]].merge(controls[[*_KEYS, "value"]], on=_KEYS, suffixes=("_before", "_after"))
    merged = merged.dropna(subset=["value_before", "value_after"])
    means = merged.groupby("participant_id")[["value_before", "value_after"]].mean()
    if means.empty:
        return {"status": str(Status.UNAVAILABLE), "word": "n/a"}
    before, after = (float(means[column].mean()) for column in means.columns)
    lost = rows.sign * (means["value_before"] - means["value_after"]).to_numpy()
    n = len(lost)
    made = {"before": before, "after": after, "difference": float(lost.mean()), "n_patients": n, "word": "n/a"}
    if n < FEWEST:
        return {**made, "status": str(Status.TOO_FEW)}
    left_out = np.append(lost.mean(), (lost.sum() - lost) / (n - 1))
    part = plain(Moment.of(left_out, np.zeros(n, dtype=np.int64)), settings.inference.level)
    return {**made, "difference_low": part.low, "difference_high": part.high, "status": str(Status.OK)}
