"""The answer in words, the distance curve, and what to know before quoting either."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..status import Status
from ..types import Estimate
from .regression import exponential
from .resampling import interval
from .split import Settings, Split, unit_of

Array = NDArray[np.float64]
CURVE_MM = np.concatenate([np.arange(0, 20, 1.0), np.arange(20, 81, 2.5)])


def curve_of(part: Split, settings: Settings) -> pd.DataFrame:
    """Drop against distance: each level of bundle and hemisphere counts once.

    Returns
    -------
    DataFrame
        ``model``, ``distance_mm``, ``drop``, the pointwise band ``low`` ``high`` and the simultaneous band
        ``low_all`` ``high_all``, which holds the whole curve with the given level. Empty where no split is given.
    """
    columns = ["model", "distance_mm", "drop", "low", "high", "low_all", "high_all"]
    if part.status in (Status.NOT_CONVERGED, Status.TOO_FEW, Status.SPLIT_WITHHELD):
        return pd.DataFrame(columns=columns)
    found = part.regression
    fine = found.chosen >= 0

    def mean(eta: Array) -> Array:
        return 1 / (1 + np.exp(-eta)) if part.rows.logit else eta

    healthy = np.nanmean(mean(found.healthy[fine]), axis=1)
    shape = exponential(settings.grid_mm)
    drops = np.empty((len(healthy), CURVE_MM.size))
    for position, distance in enumerate(CURVE_MM):
        lost = (found.near[fine] * shape.at(found.chosen[fine], distance)).sum(axis=1)
        drops[:, position] = part.rows.sign * (healthy - np.nanmean(mean(found.far[fine] + lost[:, None]), axis=1))
    n = min(part.rows.n_patients, part.rows.n_controls)
    bands = np.array([interval(column, settings.level, n) for column in drops[1:].T])
    spread = drops[1:].std(axis=0, ddof=1) + 1e-12
    largest = (np.abs(drops[1:] - drops[0]) / spread).max(axis=1)
    reach = np.quantile(largest, settings.level) * spread
    model = part.rows.frame["model"].iloc[0]
    values = [[model] * CURVE_MM.size, CURVE_MM, drops[0], *bands.T, drops[0] - reach, drops[0] + reach]
    return pd.DataFrame(dict(zip(columns, values, strict=True)))


def verdict_of(before: Split, repaired: pd.DataFrame, settings: Settings) -> str:
    """The answer in one to three sentences, with every number's interval."""
    unit = unit_of(settings.metric)
    total = before.estimate("total")
    if not np.isfinite(total.value):
        return f"No number is given: {Status(total.status).sentence}"
    digits = 2 if abs(total.value) >= 0.1 else 3  # small drops need the third decimal to add up
    lost = f"{total.value:.{digits}f} {unit} {_range(total, digits)}"
    if before.status == Status.SPLIT_WITHHELD:
        return f"Patients lose {lost} against controls. {Status.SPLIT_WITHHELD.sentence}"
    far, near = before.estimate("systematic"), before.estimate("tumor")
    sentence = (
        f"Of the {lost} lost by patients, {far.value:.{digits}f} {_range(far, digits)} is systematic and "
        f"{near.value:.{digits}f} {_range(near, digits)} is due to the tumor's proximity"
    )
    if before.status == Status.NO_TUMOR_EFFECT_SHOWN:
        sentence += f", which the test did not show to differ from nothing (p = {before.p_tumor:.2g})"
    parts = [_repair(name, rows) for name, rows in repaired.groupby("model", sort=False)]
    ending = "; ".join(part for part in parts if part)
    explored = " With fewer than 20 patients this is exploratory." if before.rows.n_patients < 20 else ""
    return sentence + (f"; {ending}." if ending else ".") + explored


def _repair(name: object, rows: pd.DataFrame) -> str:
    words: list[str] = []
    for component, what in (("systematic", "the systematic part"), ("tumor", "the tumor's")):
        row = rows[rows["component"] == component].iloc[0]
        if np.isfinite(row["recovered"]):
            words.append(f"{100 * row['recovered']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}] of {what}")
    strategy = str(name).rsplit("+", 1)[-1]
    return f"fine-tuning ({strategy}) removes {' and '.join(words)}" if words else ""


def _range(estimate: Estimate, digits: int) -> str:
    return f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]".replace("-", "−")


def notes_of(before: Split, settings: Settings) -> tuple[str, ...]:
    """What a reader must know: the status, equivalence of the systematic part, and what it mixes."""
    notes: list[str] = []
    if before.status != Status.OK:
        notes.append(Status(before.status).sentence)
    far = before.estimate("systematic")
    _, draws = before.regression.component("systematic")
    if np.isfinite(far.value):
        # Two one-sided tests at 5 % are the 90 % interval against the margin.
        low, high = interval(draws, 0.90, min(before.rows.n_patients, before.rows.n_controls))
        inside = -settings.margin < low and high < settings.margin
        notes.append(
            f"The systematic part is {'' if inside else 'not shown to be '}equivalent to none within "
            f"± {settings.margin:g} (90 % interval {low:.3f} to {high:.3f})."
        )
    notes.append(
        "The systematic part mixes scanner, protocol, pre-processing, label style, age and diffuse disease, unless "
        "controls were scanned like the patients."
    )
    return tuple(notes)
