"""Does the decomposition find what was simulated? Bias, coverage, type I error, power, refusals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import VALIDATION
from ...errors import ConfigError
from ...results import Finding, Result
from ...status import Status
from ...style import intervals, name_rows, new_axes
from ...work import Work
from ..decomposition.result import Settings
from ..decomposition.rows import build_rows
from ..decomposition.split import pool
from ..decomposition.study import LAMBDA_GRID_MM
from ..statistics.inference import Inference, draw_weights, interval
from .cells import COVERAGE, Cell, Measured, Replicates, standard_cells
from .simulation import simulate, truth

Array = NDArray[np.float64]
_CHUNK = 50  # replicates a task
_FIELDS = (
    *("systematic", "systematic_low", "systematic_high", "tumor", "tumor_low", "tumor_high"),
    *("decay", "p_tumor", "p_systematic", "withheld", "no_effect", "failed"),
)


@dataclass(frozen=True, kw_only=True)
class Validation(Result):
    """The recovery study's table, in the columns of ``shiftkit.catalogue.VALIDATION``."""

    @property
    def missed(self) -> pd.DataFrame:
        """Rows whose target is not met."""
        return self.table[self.table["met"] == "no"]

    def __str__(self) -> str:
        return "\n".join([self.claim, *(_line(row) for row in self.missed.to_dict("records"))])


def _told(table: pd.DataFrame) -> Validation:
    """The table with its claim and finding."""
    judged = table[table["met"] != "n/a"]
    claim = f"{(judged['met'] == 'yes').sum()} of {len(judged)} targets met."
    finding = Finding(
        key="validation",
        title="Does the decomposition find what was simulated?",
        claim=claim,
        table=table,
        figure=partial(_coverage, table),
        alt="Coverage of the intervals in each cell, with its Monte Carlo interval, beside the target.",
    )
    return Validation(table=table, claim=claim, findings=(finding,))


def _coverage(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw the coverage of each cell with its Monte Carlo interval; returns the axes."""
    axes = new_axes(ax, (5.2, 4.4))
    rows = table[table["property"].str.startswith("coverage")].reset_index(drop=True)
    axes.axvspan(*COVERAGE, color="0.9")
    intervals(axes, rows.index, rows["value"], rows["low"], rows["high"], lying=True, markersize=3)
    name_rows(axes, [_where(row) for row in rows.to_dict("records")], zero=None)
    axes.tick_params(axis="y", labelsize=5)
    axes.set_xlabel("Coverage of the 95 % interval")
    return axes


def validate(
    replicates: int = 200, *, seed: int = 0, cells: Iterable[Cell] | None = None, work: Work = Work()
) -> Validation:
    """Run the recovery study.

    Cohorts are simulated by `shiftkit.analyses.validation.simulation`, which shares no code with the estimators, and
    analyzed by `shiftkit.analyses.decomposition.split.pool`, which is what ``shiftkit decompose`` runs. Coverage and
    bias are given over the replicates whose split was not withheld, with the share that was beside them.

    Parameters
    ----------
    replicates : int
        Simulated cohorts a cell; ``benchmarks/validation.md`` has 2,000.
    cells : iterable of Cell, optional
        What to simulate; all of `standard_cells` by default.

    Raises
    ------
    ConfigError
        If there are too few replicates for a rate to mean anything.
    """
    if replicates < 10:
        raise ConfigError(f"`replicates` must be at least 10 for rates to mean anything; got {replicates}.")
    chosen = tuple(standard_cells() if cells is None else cells)
    tasks = [
        (number, first, min(first + _CHUNK, cell.times * replicates))
        for number, cell in enumerate(chosen)
        for first in range(0, cell.times * replicates, _CHUNK)
    ]
    parts = work.map(partial(_replicates, chosen, seed), tasks, "Simulating")
    found: list[list[Array]] = [[] for _ in chosen]
    for (number, *_), values in zip(tasks, parts, strict=True):
        found[number].append(values)
    rows = [row for cell, parts in zip(chosen, found, strict=True) for row in _rows(cell, np.concatenate(parts), seed)]
    return _told(pd.DataFrame(rows, columns=list(VALIDATION.columns)))


def _replicates(cells: Sequence[Cell], seed: int, task: tuple[int, int, int]) -> Array:
    """Some replicates of one cell, from the second to before the third number, shape (replicates, fields)."""
    cell, first, last = task
    # A generator a replicate, so that results do not depend on how replicates are dealt out to processes.
    return np.stack([_one(cells[cell], np.random.default_rng([seed, cell, number])) for number in range(first, last)])


def _one(cell: Cell, rng: np.random.Generator) -> Array:
    rows = build_rows(simulate(cell.scenario, rng), "dice")
    settings = Settings(
        metric="dice",
        covariates=(),
        grid_mm=np.array(LAMBDA_GRID_MM),
        margin=0.02,
        inference=Inference(n_bootstrap=cell.n_bootstrap, n_permutations=199, seed=int(rng.integers(2**31))),
    )
    weights = draw_weights(rows.sizes, cell.n_bootstrap, rng)  # after the seed above: the order makes the numbers
    found = pool(rows, np.zeros((len(rows.outcome), 0)), weights, settings)
    parts: list[float] = []
    for name in ("systematic", "tumor"):
        value, draws = found.regression.component(name)
        parts += [value, *interval(draws, 0.95, min(rows.n_patients, rows.n_controls))]
    flags = (
        found.status == word for word in (Status.SPLIT_WITHHELD, Status.NO_TUMOR_EFFECT_SHOWN, Status.NOT_CONVERGED)
    )
    return np.array([*parts, found.decay_mm[0], found.p_values["tumor"], found.p_values["systematic"], *flags])


def _rows(cell: Cell, values: Array, seed: int) -> list[dict[str, Any]]:
    known = truth(cell.scenario, np.random.default_rng([seed, 7]))
    found = Replicates(dict(zip(_FIELDS, values.T, strict=True)), known, cell.scenario)
    return [_row(cell, one) for measure in cell.measures for one in measure(found)]


def _row(cell: Cell, one: Measured) -> dict[str, Any]:
    met = "n/a" if one.target is None or not one.n else "yes" if one.target[0] <= one.value <= one.target[1] else "no"
    target = "n/a" if one.target is None else f"{one.target[0]:.3g} to {one.target[1]:.3g}"
    simulated = {name: getattr(cell.scenario, name) for name in ("n_patients", "n_controls", "decay_mm")}
    measured = {"property": one.name, "value": one.value, "low": one.low, "high": one.high, "n_replicates": one.n}
    return {"cell": cell.name, "spread": cell.spread, "target": target, "met": met, **simulated, **measured}


def _where(row: Mapping[Any, Any]) -> str:
    return (
        f"{row['cell']}, {row['n_patients']:.0f} + {row['n_controls']:.0f}, {row['decay_mm']:g} mm, {row['spread']}: "
        f"{row['property']}"
    )


def _line(row: Mapping[Any, Any]) -> str:
    return f"missed: {_where(row)} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], target {row['target']}"
