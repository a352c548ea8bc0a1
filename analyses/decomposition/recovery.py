"""Before and after fine-tuning: what of each part is repaired, and what the source domain lost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import RECOVERY
from ...errors import DataError
from ...status import Status
from ..statistics.inference import interval
from .rows import Rows, build_rows
from .split import Settings, Split, split

Array = NDArray[np.float64]


def recovery(
    rows: Rows, weights: Array, before: Split, tuned: Mapping[str, pd.DataFrame], settings: Settings
) -> tuple[pd.DataFrame, dict[str, Split]]:
    """Compare fine-tuned models with the source model, paired by participant.

    Both sides use the *source* model's controls, resampled alike, so that what fine-tuning forgets on controls is never
    booked as repair; forgetting is a row of its own.

    Parameters
    ----------
    rows : Rows
        Of the source model.
    weights : ndarray, shape (B, people)
        The bootstrap draws of ``before``: pairing means that both sides see the same ones.
    before : Split
        Of the source model.
    tuned : mapping of str to DataFrame
        Out-of-fold scores of the same patients, one table a fine-tuned model.
    settings : Settings
        As for ``before``.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.catalogue.RECOVERY``.
    dict of str to Split
        The split of each fine-tuned model.

    Raises
    ------
    DataError
        If a fine-tuned table holds other patients than the source model's.
    """
    records: list[dict[str, Any]] = []
    splits: dict[str, Split] = {}
    for name, table in tuned.items():
        after_rows = _paired_rows(rows, table, settings.metric, name)
        after = splits[name] = split(after_rows, weights, settings)
        records += [_record(before, after, name, part, settings) for part in ("total", "systematic", "tumor")]
        records.append(_forgetting(rows, weights, table, name, settings))
    return pd.DataFrame(records, columns=list(RECOVERY.columns)), splits


def _paired_rows(rows: Rows, table: pd.DataFrame, metric: str, name: str) -> Rows:
    patients = table[table["group"] == "glioma"]
    wanted = set(rows.people[: rows.n_patients])
    there = set(patients["participant_id"])
    if wanted - there:
        lacking = ", ".join(sorted(wanted - there)[:5])
        raise DataError(
            f"Before and after are compared on the same patients; {name} has no scores of {lacking}. Fine-tune and "
            "score all of them, out of fold."
        )
    controls = rows.frame[~rows.patient].assign(model=patients["model"].iloc[0], modality=patients["modality"].iloc[0])
    frame = pd.concat([patients[patients["participant_id"].isin(wanted)], controls], ignore_index=True)
    return build_rows(frame, metric)


def _record(before: Split, after: Split, name: str, component: str, settings: Settings) -> dict[str, Any]:
    b, a = before.estimate(component), after.estimate(component)
    draws_b, draws_a = before.regression.component(component)[1], after.regression.component(component)[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        fractions = (draws_b - draws_a) / draws_b
    n = min(before.rows.n_patients, before.rows.n_controls)
    low, high = interval(fractions, settings.inference.level, n)
    # A fraction of something that may be nothing means nothing.
    shown = component != "tumor" or before.status != Status.NO_TUMOR_EFFECT_SHOWN
    given = np.isfinite(b.value) and np.isfinite(a.value) and b.low > 0 and shown
    status = b.status if given or not shown or not np.isfinite(b.value) else Status.UNAVAILABLE
    return {
        **_labels(after, name, settings),
        "component": component,
        "before": b.value,
        "after": a.value,
        "recovered": (b.value - a.value) / b.value if given else np.nan,
        "low": low if given else np.nan,
        "high": high if given else np.nan,
        "status": str(status),
    }


def _labels(after: Split, name: str, settings: Settings) -> dict[str, Any]:
    return {
        "model": name,
        "strategy": name.rsplit("+", 1)[-1],
        "modality": after.rows.frame["modality"].iloc[0],
        "bundle": "all",
        "metric": settings.metric,
    }


def _forgetting(rows: Rows, weights: Array, table: pd.DataFrame, name: str, settings: Settings) -> dict[str, Any]:
    """Mean performance on controls before less after, paired; positive means that the source domain lost."""
    keys = ["participant_id", "bundle", "hemisphere"]
    controls = table[(table["group"] == "control") & (table["metric"] == settings.metric)]
    source = rows.frame[~rows.patient]
    base = {
        "model": name,
        "strategy": name.rsplit("+", 1)[-1],
        "modality": source["modality"].iloc[0],
        "bundle": "all",
        "metric": settings.metric,
        "component": "forgetting",
        "recovered": np.nan,
    }
    merged = source[[*keys, "value"]].merge(controls[[*keys, "value"]], on=keys, suffixes=("_before", "_after"))
    merged = merged.dropna(subset=["value_before", "value_after"])
    if merged.empty:
        missing = dict.fromkeys(("before", "after", "low", "high"), np.nan)
        return {**base, **missing, "status": str(Status.UNAVAILABLE)}
    means = merged.groupby("participant_id")[["value_before", "value_after"]].mean()
    index = [rows.people.index(name) for name in means.index]
    difference = rows.sign * (means["value_before"] - means["value_after"]).to_numpy()
    mass = weights[:, index]
    totals = mass.sum(axis=1)
    draws = np.divide(mass @ difference, totals, out=np.full(len(mass), np.nan), where=totals > 0)
    low, high = interval(draws, settings.inference.level, len(means))
    status = Status.OK if len(means) >= 3 else Status.TOO_FEW
    return {
        **base,
        "before": float(means["value_before"].mean()),
        "after": float(means["value_after"].mean()),
        "low": low,
        "high": high,
        "status": str(status),
    }
