"""What is measured in one simulated cohort: the same for every cell."""

import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ...status import Status
from ..decomposition.anchored import Anchored, anchored, outcome_table, recovered, replicate
from ..decomposition.covariates import adjusted_for
from ..decomposition.regression import exponential, regress
from ..decomposition.rows import Rows, build_rows
from ..decomposition.verdict import Part, Verdict
from ..statistics.inference import draw_weights, interval
from .cells import Cell
from .simulation import Truth, simulate_models

Array = NDArray[np.float64]
MARGIN = 0.02
LEVEL = 0.95
_GRID_MM = np.geomspace(2.0, 80.0, 31)
_FORMER_DRAWS = 300


def measure(cell: Cell, known: Truth, after: Truth | None, rng: np.random.Generator) -> dict[str, float]:
    """Every property in one cohort; NaN where it has none.

    Parameters
    ----------
    cell : Cell
        What is simulated.
    known, after : Truth
        Behind the source model's scores and the fine-tuned one's.
    rng : Generator
        Source of the cohort.
    """
    frames = simulate_models(cell.scenario, () if cell.after is None else (cell.after,), rng)
    try:
        rows, columns, _ = adjusted_for(build_rows(frames[0], "dice"), cell.covariates)
    except ConfigError:
        # Cohorts that hardly overlap in a covariate are refused by name: a cohort without an answer.
        return {"withheld": 1.0}
    start = time.process_time()
    found = anchored(rows, columns)
    told = found.verdict(MARGIN, LEVEL)
    spent = time.process_time() - start
    made = {**measures_of(found, told, known), "milliseconds": 1000 * spent}
    # Its bootstrap takes ten times as long; the mean of a fifth of the widths is known well enough.
    if cell.former and rng.random() < 0.2:
        draws = draw_weights(rows.sizes, _FORMER_DRAWS, rng)
        former = regress(rows, np.zeros((len(rows.outcome), 0)), draws, exponential(_GRID_MM)).component("systematic")
        low, high = interval(former[1], LEVEL, min(rows.n_patients, rows.n_controls))
        made["former width"] = high - low
    if after is not None:
        made |= _fractions(
            rows,
            found,
            told,
            build_rows(frames[1], "dice"),
            known,
            after,
            # Its bootstrap, as above.
            rng if "width over the former's percentiles" in cell.targets and rng.random() < 0.2 else None,
        )
    return made


def _covers(part: Part, value: float) -> float:
    return float(part.low <= value <= part.high) if np.isfinite(part.low) else np.nan


def measures_of(found: Anchored, told: Verdict, known: Truth) -> dict[str, float]:
    """What one split gives beside the truth."""
    far, near = told.systematic, told.tumor
    wide = found.verdict(MARGIN, LEVEL, 60.0).systematic if np.isfinite(far.low) else far
    split = np.isfinite(far.low)
    return {
        "bias of S": float(found.replicates.systematic[0]) - known.systematic,
        "bias of tumor": float(found.replicates.total[0] - found.replicates.systematic[0]) - known.tumor,
        "coverage of S": _covers(far, known.systematic),
        "coverage of S, λmax 60": _covers(wide, known.systematic),
        "coverage of tumor": _covers(near, known.tumor),
        "width of S": far.high - far.low,
        "width of S's bounds": far.bound_high - far.bound_low,
        "withheld": float(not split),
        "range": float(told.status == Status.RANGE),
        "single number": float(told.status == Status.OK),
        "S shown": float(far.word == "shown"),
        "S shown or negative": float(far.word in ("shown", "negative")),
        "tumor shown": float(near.word in ("worse_near", "better_near")),
        "both parts named": float(far.word == "shown" and near.word == "worse_near"),
    }


def _fractions(
    rows: Rows,
    found: Anchored,
    told: Verdict,
    after_rows: Rows,
    known: Truth,
    truth_after: Truth,
    former: np.random.Generator | None,
) -> dict[str, float]:
    tuned = Anchored(design=found.design, replicates=replicate(found.design, outcome_table(_with(rows, after_rows))))
    later = tuned.verdict(MARGIN, LEVEL)
    made: dict[str, float] = {}
    for name in ("systematic", "tumor"):
        first, second = (
            one.replicates.systematic if name == "systematic" else one.replicates.total - one.replicates.systematic
            for one in (found, tuned)
        )
        a, b = getattr(known, name), getattr(truth_after, name)
        _, low, high = recovered(first, second, found.stratum, LEVEL)
        ranged = Status.RANGE in (told.status, later.status)
        given = not (np.isnan(low) or ranged)
        if not given:
            low, high = found.moment(first - second).interval(LEVEL)
        true = (a - b) / a if given else a - b
        made |= {
            f"coverage of {name} fraction": float(low <= true <= high),
            f"{name} fraction given": float(given),
            f"{name} said to be repaired": float(low > 0),
            f"width of {name} fraction": high - low if given else np.nan,
        }
    if former is None:
        return made
    draws, shape = draw_weights(rows.sizes, _FORMER_DRAWS, former), exponential(_GRID_MM)
    first, second = (
        regress(one, np.zeros((len(one.outcome), 0)), draws, shape).component("systematic")[1]
        for one in (rows, _with(rows, after_rows))
    )
    ends = np.nanquantile((first - second) / first, [0.025, 0.975])
    return {**made, "width over the former's percentiles": made["width of systematic fraction"] / (ends[1] - ends[0])}


def _with(rows: Rows, after: Rows) -> Rows:
    """The source model's rows with the patients' outcome after fine-tuning; both have the same rows here."""
    return replace(rows, outcome=np.where(rows.patient, after.outcome, rows.outcome))
