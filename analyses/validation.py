"""Does the decomposition find what was simulated? Bias, coverage, type I error, power, refusals."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import NDArray
from scipy import stats

from ..errors import ConfigError
from ..parallel import in_parallel
from ..status import Status
from ..tables import VALIDATION
from .decomposition import LAMBDA_GRID_MM
from .resampling import draw_weights, interval
from .rows import build_rows
from .simulation import SPREADS, Scenario, Truth, simulate, truth
from .split import Settings, pool

Array = NDArray[np.float64]
SIZES = ((20, 20), (40, 20), (100, 100))
_CHUNK = 50  # replicates a task
_FIELDS = (
    *("systematic", "systematic_low", "systematic_high", "tumor", "tumor_low", "tumor_high"),
    *("decay", "p_tumor", "p_systematic", "withheld", "no_effect", "failed"),
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to simulate and what to measure on it.

    Parameters
    ----------
    name, spread : str
        Labels.
    scenario : Scenario
        What is simulated.
    measures : tuple of callable
        Each turns the replicates and the truth into rows of the table.
    n_bootstrap : int
        Draws behind the intervals; 0 where only tests are looked at.
    times : int
        Replicates in units of what `validate` is asked for: error rates near 0.05 need more of them.
    """

    name: str
    spread: str
    scenario: Scenario
    measures: tuple[Callable[["_Replicates"], list["_Measured"]], ...]
    n_bootstrap: int
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The recovery study's table, in the columns of ``shiftkit.tables.VALIDATION``."""

    table: pd.DataFrame

    @property
    def missed(self) -> pd.DataFrame:
        """Rows whose target is not met."""
        return self.table[self.table["met"] == "no"]

    def to_frame(self) -> pd.DataFrame:
        """The table, tidy."""
        return self.table

    def __str__(self) -> str:
        judged = self.table[self.table["met"] != "n/a"]
        head = f"{(judged['met'] == 'yes').sum()} of {len(judged)} targets met."
        return "\n".join([head, *(_line(row) for row in self.missed.to_dict("records"))])

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False, float_format="{:.3f}".format)

    def plot(self, ax: Any = None) -> Any:
        """Draw the coverage of each cell with its Monte Carlo interval; returns the axes."""
        import matplotlib.pyplot as plt

        ax = ax or plt.subplots(figsize=(5.2, 4.4), layout="constrained")[1]
        rows = self.table[self.table["property"].str.startswith("coverage")].reset_index(drop=True)
        ax.axvspan(0.93, 0.97, color="0.9")
        error = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
        ax.errorbar(rows["value"], rows.index, xerr=error, fmt="o", markersize=3, color="#0072B2")
        ax.set_yticks(rows.index, [_where(row) for row in rows.to_dict("records")], fontsize=5)
        ax.invert_yaxis()
        ax.set_xlabel("Coverage of the 95 % interval")
        return ax


def validate(
    replicates: int = 200, *, seed: int = 0, jobs: int = 0, cells: Iterable[Cell] | None = None, progress: Any = None
) -> Validation:
    """Run the recovery study.

    Cohorts are simulated by `shiftkit.analyses.simulation`, which shares no code with the estimators, and analyzed by
    `shiftkit.analyses.split.pool`, which is what ``shiftkit decompose`` runs. Coverage and bias are given over the
    replicates whose split was not withheld, with the share that was beside them.

    Parameters
    ----------
    replicates : int
        Simulated cohorts a cell; ``benchmarks/validation.md`` has 2,000.
    seed : int
        Of everything.
    jobs : int
        Processes; 0 uses every core.
    cells : iterable of Cell, optional
        What to simulate; all of `standard_cells` by default.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Raises
    ------
    ConfigError
        If there are too few replicates for a rate to mean anything.
    """
    if replicates < 10:
        raise ConfigError(f"--replicates must be at least 10 for rates to mean anything; got {replicates}.")
    chosen = tuple(standard_cells() if cells is None else cells)
    tasks = [
        (number, first, min(first + _CHUNK, cell.times * replicates))
        for number, cell in enumerate(chosen)
        for first in range(0, cell.times * replicates, _CHUNK)
    ]
    calls = (delayed(_replicate)(chosen[number], [seed, number], first, last) for number, first, last in tasks)
    found: list[list[Array]] = [[] for _ in chosen]
    for done, ((number, *_), values) in enumerate(zip(tasks, in_parallel(calls, jobs), strict=True), start=1):
        found[number].append(values)
        if progress is not None:
            progress(done, len(tasks), f"validate: {chosen[number].name}")
    rows = [row for cell, parts in zip(chosen, found, strict=True) for row in _rows(cell, np.concatenate(parts), seed)]
    return Validation(table=pd.DataFrame(rows, columns=list(VALIDATION.columns)))


@cache
def standard_cells() -> tuple[Cell, ...]:
    """Every cell of the recovery study: recovery, far field unseen, null effects, power, and a wrong model."""
    made: list[Cell] = []
    for spread, (patients, controls) in ((s, n) for s in SPREADS for n in SIZES):
        base = Scenario(n_patients=patients, n_controls=controls, spread=SPREADS[spread])
        made += [
            *(
                _cell("recovery", spread, replace(base, decay_mm=decay), (_recovered, _decay, _withheld), 500)
                for decay in (8.0, 15.0, 25.0)
            ),
            _cell("far field unseen", spread, replace(base, decay_mm=80.0), (_withheld_far,), 200),
            _cell("no tumor effect", spread, replace(base, tumor=0.0), (_tumor_error,), 0),
            _cell("no systematic shift", spread, replace(base, systematic=0.0), (_systematic_error,), 0),
            _cell("neither", spread, replace(base, systematic=0.0, tumor=0.0), (_tumor_error, _systematic_error), 0),
        ]
    for spread in SPREADS:
        fifty = Scenario(n_patients=50, n_controls=50, spread=SPREADS[spread])
        made.append(_cell("0.05 Dice by the tumor", spread, _with_tumor_effect(fifty, 0.05), (_power,), 0))
    for shape in ("gaussian", "linear"):
        for patients, controls in SIZES[1:]:
            wrong = Scenario(n_patients=patients, n_controls=controls, shape=shape)
            made.append(_cell(f"{shape} decay", "low", wrong, (_recovered, _withheld), 500))
    worn = replace(SPREADS["high"], empty=0.10)
    made.append(_cell("10 % empty masks", "high", Scenario(spread=worn), (_recovered, _withheld), 500))
    return tuple(made)


def _cell(name: str, spread: str, scenario: Scenario, measures: tuple[Any, ...], n_bootstrap: int) -> Cell:
    times = 1 if n_bootstrap else 2  # error rates near 0.05 need more replicates
    return Cell(name=name, spread=spread, scenario=scenario, measures=measures, n_bootstrap=n_bootstrap, times=times)


def _with_tumor_effect(scenario: Scenario, dice: float) -> Scenario:
    """The scenario whose tumor component is so many Dice."""
    low, high = 0.0, 3.0
    for _ in range(20):
        middle = (low + high) / 2
        found = truth(replace(scenario, tumor=middle), np.random.default_rng(0), 20_000).tumor
        low, high = (middle, high) if found < dice else (low, middle)
    return replace(scenario, tumor=(low + high) / 2)


def _replicate(cell: Cell, seed: list[int], first: int, last: int) -> Array:
    """Replicates ``first`` to ``last`` of one cell, shape (last − first, fields)."""
    return np.stack([_one(cell, np.random.default_rng([*seed, number])) for number in range(first, last)])


def _one(cell: Cell, rng: np.random.Generator) -> Array:
    rows = build_rows(simulate(cell.scenario, rng), "dice")
    settings = Settings(
        metric="dice",
        covariates=(),
        n_bootstrap=cell.n_bootstrap,
        n_permutations=199,
        grid_mm=np.array(LAMBDA_GRID_MM),
        margin=0.02,
        level=0.95,
        seed=int(rng.integers(2**31)),
    )
    weights = draw_weights(rows.sizes, cell.n_bootstrap, rng)
    found = pool(rows, np.zeros((len(rows.outcome), 0)), weights, settings)
    parts: list[float] = []
    for name in ("systematic", "tumor"):
        value, draws = found.regression.component(name)
        parts += [value, *interval(draws, 0.95, min(rows.n_patients, rows.n_controls))]
    flags = (
        found.status == word for word in (Status.SPLIT_WITHHELD, Status.NO_TUMOR_EFFECT_SHOWN, Status.NOT_CONVERGED)
    )
    return np.array([*parts, found.decay_mm[0], found.p_values["tumor"], found.p_values["systematic"], *flags])


class _Replicates(NamedTuple):
    """Replicates of one cell by field, and the truth behind them."""

    of: dict[str, Array]
    truth: Truth
    scenario: Scenario

    def kept(self, name: str) -> Array:
        """A field over the replicates whose split stands."""
        return self.of[name][(self.of["withheld"] + self.of["failed"]) == 0]


class _Measured(NamedTuple):
    """One property: its value, Monte Carlo interval, target range and replicates."""

    name: str
    value: float
    low: float
    high: float
    target: tuple[float, float] | None
    n: int


def _rows(cell: Cell, values: Array, seed: int) -> list[dict[str, Any]]:
    known = truth(cell.scenario, np.random.default_rng([seed, 7]))
    found = _Replicates(dict(zip(_FIELDS, values.T, strict=True)), known, cell.scenario)
    return [_row(cell, one) for measure in cell.measures for one in measure(found)]


def _row(cell: Cell, one: _Measured) -> dict[str, Any]:
    met = "n/a" if one.target is None or not one.n else "yes" if one.target[0] <= one.value <= one.target[1] else "no"
    return {
        "cell": cell.name,
        "n_patients": cell.scenario.n_patients,
        "n_controls": cell.scenario.n_controls,
        "decay_mm": cell.scenario.decay_mm,
        "spread": cell.spread,
        "property": one.name,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "target": "n/a" if one.target is None else f"{one.target[0]:.3g} to {one.target[1]:.3g}",
        "met": met,
        "n_replicates": one.n,
    }


def _rate(name: str, hits: NDArray[Any], target: tuple[float, float] | None) -> _Measured:
    if not hits.size:
        return _Measured(name, np.nan, np.nan, np.nan, target, 0)
    spread = stats.binomtest(int(hits.sum()), hits.size).proportion_ci(method="wilson")
    return _Measured(name, float(hits.mean()), float(spread.low), float(spread.high), target, hits.size)


def _recovered(found: _Replicates) -> list[_Measured]:
    """Bias and coverage of both components where the split stands."""
    made: list[_Measured] = []
    for part, known in zip(("systematic", "tumor"), found.truth, strict=True):
        values, low, high = (found.kept(f"{part}{end}") for end in ("", "_low", "_high"))
        if not values.size:
            made.append(_Measured(f"bias of {part}", np.nan, np.nan, np.nan, None, 0))
            continue
        bias, allowed = float(values.mean() - known), max(0.05 * known, 0.003)
        reach = 1.96 * float(values.std()) / np.sqrt(values.size)
        made.append(_Measured(f"bias of {part}", bias, bias - reach, bias + reach, (-allowed, allowed), values.size))
        made.append(_rate(f"coverage of {part}", (low <= known) & (known <= high), (0.93, 0.97)))
    return made


def _decay(found: _Replicates) -> list[_Measured]:
    """Median of λ over all replicates, judged at 100 + 100."""
    values, known = found.of["decay"], found.scenario.decay_mm
    target = (0.75 * known, 1.25 * known) if found.scenario.n_patients >= 100 else None
    low, high = np.quantile(values, [0.025, 0.975])
    return [_Measured("median decay length (2.5 and 97.5 %)", float(np.median(values)), low, high, target, values.size)]


def _withheld(found: _Replicates) -> list[_Measured]:
    return [_rate("split withheld", found.of["withheld"], None)]


def _withheld_far(found: _Replicates) -> list[_Measured]:
    target = (0.95, 1.0) if found.scenario.n_patients >= 100 else None
    return [_rate("split withheld", found.of["withheld"], target)]


def _tumor_error(found: _Replicates) -> list[_Measured]:
    return [
        _rate("type I error of the tumor test", found.of["p_tumor"] <= 0.05, (0.04, 0.06)),
        _rate("no_tumor_effect_shown", found.of["no_effect"], (0.94, 1.0)),
    ]


def _systematic_error(found: _Replicates) -> list[_Measured]:
    return [_rate("type I error of the systematic test", found.of["p_systematic"] <= 0.05, (0.04, 0.06))]


def _power(found: _Replicates) -> list[_Measured]:
    return [_rate("power of the tumor test", found.of["p_tumor"] <= 0.05, (0.9, 1.0))]


def _where(row: Mapping[Any, Any]) -> str:
    return (
        f"{row['cell']}, {row['n_patients']:.0f} + {row['n_controls']:.0f}, {row['decay_mm']:g} mm, {row['spread']}: "
        f"{row['property']}"
    )


def _line(row: Mapping[Any, Any]) -> str:
    return f"missed: {_where(row)} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], target {row['target']}"
