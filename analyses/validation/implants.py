"""The tumor's part, measured: the same participants with and without an implanted tumor, beside what patients tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import IMPLANTS
from ...errors import DataError
from ...results import Estimate, Finding, Result
from ...style import intervals, name_rows, new_axes
from ..decomposition.anchored import CUTS_MM, design_of
from ..decomposition.result import Decomposition, unit_of
from ..decomposition.rows import build_rows, outcome_of, usable
from ..decomposition.sentences import digits_for, number, scale_of
from ..decomposition.verdict import Part
from ..scoring.metrics import METRICS
from ..statistics.inference import Inference

Array = NDArray[np.float64]
_PURPOSE = 24
"""Of the bootstrap's random numbers: no other study of a run has it."""
_KEYS = ["participant_id", "bundle", "hemisphere"]
_INNER_MM = (0.0, 3.0, 10.0)
"""Edges of the zones next to the tumor, as the decomposition's bins have them."""

SIMULATED = (
    "Implants are a simulation of mass effect, edema and infiltration in these controls: they show what such tumors do "
    "to this network, not what else differs between patients and controls."
)


@dataclass(frozen=True, kw_only=True)
class ImplantCheck(Result):
    """What implanted tumors did, in the columns of ``shiftkit.catalogue.IMPLANTS``.

    Parameters
    ----------
    measured : Estimate
        The loss over all bundles, each participant counted once: what the tumor's part of a decomposition estimates.
    """

    measured: Estimate

    def record(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it."""
        return {"claim": self.claim, "rows": self.table.to_dict("records")}


def measure_implants(
    without: pd.DataFrame,
    having: pd.DataFrame,
    decomposition: Decomposition,
    *,
    inference: Inference = Inference(),
) -> ImplantCheck:
    """Measure what implanted tumors take from a model's scores, paired within participants.

    Parameters
    ----------
    without, having : DataFrame
        Scores of the same participants by the same model, without and with a tumor; the second has the distances.
    decomposition : Decomposition
        Of the patients whose tumors were copied: the metric, the far cut and the estimate to set beside.
    inference : Inference
        Bootstrap over participants.

    Returns
    -------
    ImplantCheck
        One row over all bundles, rows by distance from the tumor, and the primary estimate from patients.

    Raises
    ------
    DataError
        If no participant has a bundle that is scored in both.

    Notes
    -----
    Of each participant the mean over bundles, then the mean over participants, as the decomposition pools: so the row
    over all bundles is what the tumor's part estimates. Beyond the far cut patients tell nothing of a tumor's effect,
    which the decomposition bounds; here it is measured.
    """
    metric = str(decomposition.metric)
    rows = _paired(without, having, metric)
    far = _far_mm(decomposition, metric)
    first = rows.iloc[0]
    labels = {"model": first["model"], "modality": first["modality"], "metric": metric}
    measured, table = None, list[dict[str, Any]]()
    for name, low, high in (("all", 0.0, np.inf), *_zones(far)):
        inside = rows if name == "all" else rows[_within(rows["tumor_distance_mm"], low, high)]
        one = _estimate(inside, metric, inference)
        measured = measured or one
        limits = {"zone_low_mm": low, "zone_high_mm": high if np.isfinite(high) else np.nan}
        told = {"value": one.value, "low": one.low, "high": one.high, "n": one.n, "status": str(one.status)}
        table.append({**labels, "source": "implants", "zone": name, **limits, **told})
    assert measured is not None
    tumor = decomposition.told.tumor
    n_patients = int(decomposition.table["n_patients"].iloc[0])
    told = {"value": tumor.value, "low": tumor.low, "high": tumor.high, "n": n_patients, "status": str(tumor.status)}
    table.append({**labels, "source": "patients", "zone": "all", "zone_low_mm": 0.0, "zone_high_mm": np.nan, **told})
    frame = pd.DataFrame(table)[list(IMPLANTS.columns)]
    check = ImplantCheck(
        table=frame, claim=_claim(measured, decomposition, metric), estimates=(measured,), measured=measured
    )
    return replace(check, findings=(_finding(check, rows, decomposition, far),))


def _paired(without: pd.DataFrame, having: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of the second that have a value in both, with the loss; positive is worse with the tumor."""
    before, after = (usable(one[one["metric"] == metric], metric).set_index(_KEYS) for one in (without, having))
    both = before.index.intersection(after.index)
    if both.empty:
        raise DataError(
            "Implants are measured on bundles that are scored with and without the tumor; there is none. Look at the "
            "run's logs/failed.tsv for why they could not be segmented."
        )
    values = [outcome_of(one.loc[both, "value"].to_numpy(dtype=float), metric) for one in (before, after)]
    sign = 1.0 if METRICS[metric].better == "higher" else -1.0
    return after.loc[both].assign(loss=sign * (values[0] - values[1])).reset_index()


def _far_mm(decomposition: Decomposition, metric: str) -> float:
    """The decomposition's far cut, or where it has none the largest that it could have."""
    first = decomposition.table.iloc[0]
    own = decomposition.scores[decomposition.scores["model"] == first["model"]]
    far = design_of(build_rows(own, metric)).far_mm
    return far if np.isfinite(far) else CUTS_MM[0]


def _zones(far_mm: float) -> Sequence[tuple[str, float, float]]:
    edges = [*_INNER_MM, far_mm / 2, far_mm] if far_mm / 2 > _INNER_MM[-1] else [*_INNER_MM, far_mm]
    near = [(f"{low:g}-{high:g} mm", low, high) for low, high in pairwise(edges)]
    return [*near, (f"beyond {far_mm:g} mm", far_mm, np.inf)]


def _within(distance_mm: "pd.Series[float]", low: float, high: float) -> "pd.Series[bool]":
    """From above the lower edge to the upper one, as the decomposition's bins are; the first holds 0."""
    return (distance_mm <= high) & ((distance_mm > low) | (low == 0))


def _estimate(rows: pd.DataFrame, metric: str, inference: Inference) -> Estimate:
    """Mean over participants of their mean loss, with its bootstrap interval over participants."""
    own = rows.groupby("participant_id")["loss"].mean().to_numpy(dtype=float)
    n = len(own)
    if not n:
        return inference.estimate("tumor, implanted", float("nan"), np.empty(0), 0, unit_of(metric))
    draws = inference.weights([n], _PURPOSE) @ own / n
    return inference.estimate("tumor, implanted", float(own.mean()), draws, n, unit_of(metric))


def _claim(measured: Estimate, decomposition: Decomposition, metric: str) -> str:
    """Both numbers side by side."""
    base, tumor, unit = digits_for(decomposition.told, metric), decomposition.told.tumor, scale_of(metric)[1]
    told = number(Part(value=measured.value, low=measured.low, high=measured.high), metric, base)
    if not np.isfinite(measured.low):
        told = f"{told.partition(' [')[0]} (too few for an interval)"
    people = f"{measured.n} unseen control{'s' * (measured.n != 1)}"
    took = f"{people} lose {told}{unit} to" if METRICS[metric].bounded else f"{people} have {told}{unit} with"
    if tumor.given:
        beside = f"estimated from patients, the tumor's part is {number(tumor, metric, base)}{unit}."
    else:
        beside = "from patients the tumor's part could not be estimated."
    return f"Measured with implanted tumors: {took} tumors like the patients'; {beside}"


def _finding(check: ImplantCheck, rows: pd.DataFrame, decomposition: Decomposition, far_mm: float) -> Finding:
    copied = "; ".join(_likeness(rows, decomposition.scores))
    return Finding(
        key="implants",
        place="lead",
        title="The tumor's part, measured with implanted tumors",
        claim=check.claim,
        estimates=check.estimates,
        table=check.table,
        caveats=(SIMULATED, *([f"How alike implants are to the patients' tumors: {copied}."] if copied else [])),
        method="Tumors with the volumes and places of the patients', and as far as a place nearby allows their "
        "distances to bundles, were implanted into controls that the model had not seen: mass effect as a "
        "diffeomorphism that ends 60 mm from the tumor, edema and infiltration as weaker signal, reference masks moved "
        "along. The model segmented the same participants with and without. Losses are means over each participant's "
        "bundles, averaged over participants, with a bootstrap over participants; zones end at the far cut, "
        f"{far_mm:g} mm.",
        references=("10.1007/s00285-007-0139-x", "10.1109/42.963816", "10.1080/00031305.2015.1089789"),
        figure=partial(_draw, check.table, unit_of(str(decomposition.metric))),
        alt="Loss with implanted tumors over all bundles and by distance from the tumor, with intervals, above the "
        "tumor's part as it is estimated from patients.",
    )


def _likeness(rows: pd.DataFrame, scores: pd.DataFrame) -> list[str]:
    """Medians of implants and of the patients' tumors."""
    patients = scores[scores["group"] == "glioma"]
    told: list[str] = []
    for column, what, unit in (
        ("tumor_volume_ml", "median volume", "ml"),
        ("tumor_distance_mm", "median distance to bundles", "mm"),
    ):
        if column not in rows or column not in patients:
            continue
        parts = [one.drop_duplicates("participant_id") if "volume" in column else one for one in (rows, patients)]
        own, theirs = (float(pd.to_numeric(one[column], errors="coerce").median()) for one in parts)
        if np.isfinite([own, theirs]).all():
            told.append(f"{what} {own:.0f} {unit}, of the patients {theirs:.0f} {unit}")
    return told


def _draw(table: pd.DataFrame, unit: str, ax: Any) -> Any:
    axes = new_axes(ax)
    names = [_row_name(row) for row in table.to_dict("records")]
    values = [table[name].to_numpy(dtype=float) for name in ("value", "low", "high")]
    colors: Mapping[str, str] = {"implants": "#009E73", "patients": "#0072B2"}
    for source, color in colors.items():
        at = np.flatnonzero(table["source"] == source)
        # Where a range is given there is no dot: its middle is none.
        value, low, high = (one[at] for one in values)
        middle = np.where(np.isfinite(value), value, (low + high) / 2)
        dots = {"markersize": 0} if not np.isfinite(value).any() else {}
        intervals(axes, at, middle, low, high, lying=True, color=color, **dots)
    name_rows(axes, names)
    axes.set_ylim(len(names) - 0.5, -0.5)  # also where the last row has nothing to draw
    axes.set_xlabel(f"loss by the tumor ({unit})")
    return axes


def _row_name(row: Mapping[Any, Any]) -> str:
    if row["source"] == "patients":
        return "estimated from patients"
    return "implanted, all bundles" if row["zone"] == "all" else f"implanted, {row['zone']}"
