"""Before and after fine-tuning: what of each part is repaired, and what the source domain lost."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import RECOVERY
from ...errors import DataError
from ...status import Status
from .result import FEWEST, Settings, Split, Teller
from .rows import Rows, build_rows
from .split import split

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
        records += [_repaired(before, after, name, part, settings) for part in ("total", "systematic", "tumor")]
        records.append(_forgotten(rows, weights, table, name, settings))
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


def _repaired(before: Split, after: Split, name: str, component: str, settings: Settings) -> dict[str, Any]:
    b, a = before.estimate(component), after.estimate(component)
    draws_b, draws_a = before.regression.component(component)[1], after.regression.component(component)[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        fractions = (draws_b - draws_a) / draws_b
    # A fraction of something that may be nothing means nothing.
    shown = component != "tumor" or before.status != Status.NO_TUMOR_EFFECT_SHOWN
    given = np.isfinite(b.value) and np.isfinite(a.value) and b.low > 0 and shown
    status = b.status if given or not shown or not np.isfinite(b.value) else Status.UNAVAILABLE
    share = (b.value - a.value) / b.value if given else np.nan
    teller = Teller(rows=after.rows, settings=settings, status=status, n=before.n)
    return _row(teller, name, component, (b.value, a.value), share, fractions if given else np.empty(0))


def _row(
    teller: Teller, name: str, component: str, values: tuple[float, float], share: float, draws: Array
) -> dict[str, Any]:
    row = teller.row(component, share, draws, model=name, strategy=name.rsplit("+", 1)[-1])
    return {**row, "before": values[0], "after": values[1], "recovered": row["estimate"]}


def _forgotten(rows: Rows, weights: Array, table: pd.DataFrame, name: str, settings: Settings) -> dict[str, Any]:
    """Mean performance on controls before less after, paired; positive means that the source domain lost."""
    keys = ["participant_id", "bundle", "hemisphere"]
    controls = table[(table["group"] == "control") & (table["metric"] == settings.metric)]
    source = rows.frame[~rows.patient]
    merged = source[[*keys, "value"]].merge(controls[[*keys, "value"]], on=keys, suffixes=("_before", "_after"))
    merged = merged.dropna(subset=["value_before", "value_after"])
    means = merged.groupby("participant_id")[["value_before", "value_after"]].mean()
    index = [rows.people.index(name) for name in means.index]
    difference = rows.sign * (means["value_before"] - means["value_after"]).to_numpy()
    mass = weights[:, index]
    totals = mass.sum(axis=1)
    draws = np.divide(mass @ difference, totals, out=np.full(len(mass), np.nan), where=totals > 0)
    status = Status.UNAVAILABLE if means.empty else Status.OK if len(means) >= FEWEST else Status.TOO_FEW
    teller = Teller(rows=rows.take(~rows.patient), settings=settings, status=status, n=len(means))
    before, after = (float(means[column].mean()) for column in means.columns)
    return _row(teller, name, "forgetting", (before, after), np.nan, draws)
