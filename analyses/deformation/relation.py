"""Whether a network loses more, and fine-tuning helps less, where a bundle is deformed more."""

from typing import Any

import pandas as pd

from ...catalogue import DEFORMATION_RELATION
from ...errors import DataError
from ...results import Estimate
from ...status import Status
from ...tables import parse_table
from ..scoring.table import as_frame
from ..statistics.inference import Inference
from ..statistics.people import Slopes
from .findings import relation_told
from .result import DeformationRelation, DeformationResult, less_is_better

_KEYS = ["participant_id", "bundle", "hemisphere"]
MEASURES = {"template": ("v_norm_mm", "status"), "own": ("v_norm_own_mm", "own_status")}
"""What V-Norm is against, and the columns that hold it: the healthy template first, then the own baseline."""


def relate(
    result: DeformationResult, scores: Any, *, metric: str = "dice", inference: Inference = Inference()
) -> DeformationRelation:
    """Relate V-Norm to the drop in performance and to the distance from the tumor.

    ``scores`` is a ScoreTable or DataFrame of patients and controls, by one or several models: the first that controls
    are scored with is the source model, whose controls are the reference of all. A drop is a change for the worse. With
    fewer than 5 patients there is no number, fewer than 20 are marked exploratory; without controls, or a row in common
    of patients and scores, there is a `DataError`.
    """
    frame = as_frame(scores)
    # A missed bundle has a value, the worst: to leave it out would hide the largest drops.
    chosen = frame[(frame["metric"] == metric) & frame["status"].isin([Status.OK, Status.MISSED])]
    control = chosen[chosen["group"] == "control"]
    if control.empty:
        raise DataError(f"A drop is one below controls; the score table has no control with metric {metric!r}.")
    source = str(control["model"].iloc[0])
    rows, models = _joined(result, chosen[chosen["group"] == "glioma"], source)
    base = control[control["model"] == source].groupby(["bundle", "hemisphere"])["value"].mean().rename("healthy")
    sign = -1 if less_is_better(metric) else 1
    for model in models:
        rows[f"drop:{model}"] = sign * (rows.join(base, on=["bundle", "hemisphere"])["healthy"] - rows[model])
    columns = {measure: column for measure, (column, _) in MEASURES.items()}
    slopes = {what: Slopes.of(rows[rows[name].notna()], name, models, inference) for what, name in columns.items()}
    tables = [one.table(metric).assign(measure=measure) for measure, one in slopes.items() if len(one.x)]
    table = pd.concat(tables, ignore_index=True)[list(DEFORMATION_RELATION.columns)]
    table = parse_table(table, DEFORMATION_RELATION, "The relation to deformation")
    return relation_told(
        DeformationRelation(
            table=table,
            estimates=tuple(_as_estimate(row, inference.level) for _, row in table.iterrows()),
            rows=rows.drop(columns=list(models)),
            models=models,
            lines=slopes["template"].lines(),
            metric=metric,
        )
    )


def _joined(result: DeformationResult, scores: pd.DataFrame, source: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Patients' V-Norm beside their values, one column a model, the source model first."""
    own = result.patients
    for column, status in MEASURES.values():
        own[column] = own[column].where(own[status] == Status.OK)
    own = own.loc[own["v_norm_mm"].notna(), [*_KEYS, "v_norm_mm", "v_norm_own_mm"]]
    values = scores.pivot_table(index=_KEYS, columns="model", values="value")
    near = scores.groupby(_KEYS)["tumor_distance_mm"].first()
    rows = own.join(near, on=_KEYS).join(values, on=_KEYS, how="inner").reset_index(drop=True)
    if rows.empty or source not in rows:
        raise DataError(
            "Deformation and scores must be of the same patients and bundles, scored with the controls' model; they "
            "have no row in common. Check the cohorts of both."
        )
    return rows, (source, *sorted(str(name) for name in values if name != source))


def _as_estimate(row: pd.Series, level: float) -> Estimate:
    quantity = str(row["quantity"]).replace("_", " ").replace("distance", "rank correlation with distance")
    model, against = str(row["model"]), "(own baseline)" if row["measure"] == "own" else ""
    words = [quantity, "" if model == "n/a" else model, against]
    numbers = {name: float(row[name]) for name in ("value", "low", "high")}
    n, unit, status = int(row["n_patients"]), str(row["unit"]), str(row["status"])
    return Estimate(name=" ".join(filter(None, words)), **numbers, level=level, unit=unit, n=n, status=status)
