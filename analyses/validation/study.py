"""Does the decomposition find what was simulated? Bias, coverage, type I error, power, refusals."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ...catalogue import VALIDATION
from ...errors import ConfigError
from ...results import Finding, Result
from ...style import intervals, name_rows, new_axes
from ...work import Cost, Work
from ..decomposition.anchored import anchored
from ..decomposition.rows import Rows, build_rows
from ..decomposition.shells.study import shells
from ..statistics.inference import Inference
from .cells import COVERS, RARELY, Cell, standard_cells
from .measures import LEVEL, MARGIN, measure, measures_of
from .planning import Fade, Layout, power
from .simulation import Scenario, Truth, truth
from .voxels import VoxelScenario, simulate_voxels

Array = NDArray[np.float64]
_CHUNK = 50  # replicates a task
_PLANNED = 400  # imagined studies
_LESS_PLANNED = ", less what was planned"
_POWERS = {"S shown": "power_systematic", "tumor shown": "power_tumor", "both parts named": "power_both"}


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
    axes.axvspan(0.93, 0.97, color="0.9")
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
    analyzed by `shiftkit.analyses.decomposition.anchored`, which is what ``shiftkit decompose`` runs. Every cohort
    counts: none is left out because its numbers look odd.

    Parameters
    ----------
    replicates : int
        Simulated cohorts a cell; ``benchmarks/validation.md`` has 2,000.
    seed : int
        Of everything.
    cells : iterable of Cell, optional
        What to simulate; all of `standard_cells` by default.
    work : Work
        In how many processes, and whom to tell.

    Raises
    ------
    ConfigError
        If there are too few replicates for a rate to mean anything.
    """
    if replicates < 10:
        raise ConfigError(f"`replicates` must be at least 10 for rates to mean anything; got {replicates}.")
    chosen = tuple(standard_cells() if cells is None else cells)
    sizes = [cell.times * replicates for cell in chosen]
    work.begin(f"Would simulate {sum(sizes)} cohorts, of {len(chosen)} cells.", cost_of(sum(sizes), work))
    chosen = tuple(cell.settled() for cell in chosen)
    found = _in_chunks(partial(_replicates, chosen, seed), sizes, work)
    rows = [row for cell, own in zip(chosen, found, strict=True) for row in _rows(cell, own)]
    return _told(pd.DataFrame(rows, columns=list(VALIDATION.columns)))


def cost_of(n: int, work: Work) -> Cost:
    """What it takes to simulate and split so many cohorts."""
    return work.cost(n, cpu_s=_CPU_S, memory_gib=0.4)


_CPU_S = 0.12
"""Of one simulated cohort, roughly."""


def _in_chunks(
    simulated: Callable[[tuple[int, int, int]], pd.DataFrame], sizes: Sequence[int], work: Work
) -> list[pd.DataFrame]:
    """Properties in each cohort of each cell, some cohorts a task: (cell, first, before the last)."""
    tasks = [
        (cell, first, min(first + _CHUNK, size)) for cell, size in enumerate(sizes) for first in range(0, size, _CHUNK)
    ]
    found: list[list[pd.DataFrame]] = [[] for _ in sizes]
    for (cell, *_), values in zip(tasks, work.map(simulated, tasks, "Simulating"), strict=True):
        found[cell].append(values)
    return [pd.concat(own) for own in found]


_VOXEL_WORLDS: Mapping[str, VoxelScenario] = {
    "voxels, exponential": VoxelScenario(),
    "voxels, gaussian": VoxelScenario(shape="gaussian", decay_mm=15.0),
    "voxels, no tumor effect": VoxelScenario(tumor=0.0),
}


def validate_voxels(replicates: int = 100, *, seed: int = 0, work: Work = Work()) -> Validation:
    """Shells, and the primary estimate of the same masks' scores, where errors of voxels depend on the distance.

    Parameters
    ----------
    replicates, seed, work
        As for `validate`; 200 bootstrap draws each.
    """
    found = _in_chunks(partial(_voxel_replicates, seed), [replicates] * len(_VOXEL_WORLDS), work)
    table: list[dict[str, Any]] = []
    for (name, world), own in zip(_VOXEL_WORLDS.items(), found, strict=True):
        scenario = Scenario(n_patients=world.n_patients, n_controls=world.n_controls, decay_mm=world.decay_mm)
        targets = dict.fromkeys(("coverage of S", "coverage of tumor", "shells: coverage of S"), COVERS)
        targets |= {"shells: coverage of tumor": COVERS, "words that contradict": (0.0, 0.0)}
        shown = (
            "bias of S",
            "shells: bias of S",
            "shells: bias of tumor",
            "withheld",
            "shells: withheld",
            "tumor shown",
        )
        table += _rows(Cell(name=name, spread="voxels", scenario=scenario, targets=targets, shown=shown), own)
    return _told(pd.DataFrame(table, columns=list(VALIDATION.columns)))


def _voxel_replicates(seed: int, task: tuple[int, int, int]) -> pd.DataFrame:
    place, first, last = task
    world = list(_VOXEL_WORLDS.values())[place]
    made: list[dict[str, float]] = []
    for number in range(first, last):
        drawn = simulate_voxels(world, np.random.default_rng([seed, 11, place, number]))
        split = anchored(build_rows(drawn.frame, "dice"))
        told = split.verdict(MARGIN, LEVEL)
        one = measures_of(split, told, drawn.truth)
        inference = Inference(n_bootstrap=200, seed=number)
        found = shells(drawn.patients, drawn.controls, ("simulated", "none"), inference=inference).decomposition()
        pooled = found[found["bundle"] == "all"].set_index("component")
        parts = {str(name): row for name, row in pooled[["estimate", "low", "high"]].astype(float).iterrows()}
        known = {"S": ("systematic", drawn.truth.systematic), "tumor": ("tumor", drawn.truth.tumor)}
        for name, (component, value) in known.items():
            low, high, estimate = (float(parts[component][end]) for end in ("low", "high", "estimate"))
            given = np.isfinite(low)
            one[f"shells: coverage of {name}"] = float(low <= value <= high) if given else np.nan
            one[f"shells: bias of {name}"] = estimate - value
            one["shells: withheld"] = float(not given)
        # One says worse near the tumor, the other better: no reader could make sense of both.
        sides = {"worse_near": 1, "better_near": -1}.get(told.tumor.word, 0)
        low, high = (float(parts["tumor"][end]) for end in ("low", "high"))
        theirs = np.sign(low) if low * high > 0 else 0
        one["words that contradict"] = float(sides * theirs < 0)
        made.append(one)
    return pd.DataFrame(made)


_OWN_SHAPES: Mapping[str, tuple[float, Fade]] = {
    "exponential, 15 mm": (15.0, lambda d: np.exp(-d / 15)),
    "Gaussian, 15 mm": (15.0, lambda d: np.exp(-((d / 15) ** 2) / 2)),
    "whole to 20 mm, then nothing": (20.0, lambda d: (d <= 20).astype(float)),
    "half of the patients respond": (15.0, lambda d: np.exp(-d / 15)),
    "no tumor effect": (15.0, np.zeros_like),
}


def validate_design(
    rows: Rows,
    replicates: int = 200,
    *,
    systematic: float = 0.05,
    tumor: float = 0.05,
    seed: int = 0,
    work: Work = Work(),
) -> Validation:
    """How well the decomposition would do in a cohort's own design: its bundles, distances and numbers of people.

    Parameters
    ----------
    rows : Rows
        The cohort; of its outcomes only the scatter of healthy people counts.
    replicates : int
        Cohorts for each shape of decay.
    systematic, tumor : float
        Dice lost everywhere, and on top in contact with the tumor.
    seed : int
        Of everything random.
    work : Work
        Processes and progress.
    """
    n = replicates * len(_OWN_SHAPES)
    work.begin(
        f"Would simulate {n} cohorts of {rows.n_patients} patients and {rows.n_controls} controls, in their own "
        "design.",
        cost_of(n, work),
    )
    found = _in_chunks(partial(_own_replicates, rows, (systematic, tumor), seed), [replicates] * len(_OWN_SHAPES), work)
    table: list[dict[str, Any]] = []
    for (name, (decay_mm, _)), own in zip(_OWN_SHAPES.items(), found, strict=True):
        scenario = Scenario(n_patients=rows.n_patients, n_controls=rows.n_controls, decay_mm=decay_mm)
        targets = {"coverage of S": COVERS, "coverage of tumor": COVERS}
        if name == "no tumor effect":
            targets = {"coverage of S": COVERS, "tumor shown": RARELY}
        shown = ("bias of S", "withheld", "width of S", "S shown", "tumor shown", "both parts named")
        cell = Cell(name=f"own design, {name}", spread="own", scenario=scenario, targets=targets, shown=shown)
        table += _rows(cell, own)
    return _told(pd.DataFrame(table, columns=list(VALIDATION.columns)))


def _own_replicates(rows: Rows, effects: tuple[float, float], seed: int, task: tuple[int, int, int]) -> pd.DataFrame:
    place, first, last = task
    name, (_, fade) = list(_OWN_SHAPES.items())[place]
    layout = Layout.of(rows)
    # What a patient loses is the mean over the patient's rows, and what patients lose is the mean over patients.
    mean = float(np.nanmean(np.nanmean(fade(layout.distance_mm), axis=1)))
    known = Truth(systematic=effects[0], tumor=effects[1] * mean)
    responders = 0.5 if name == "half of the patients respond" else 1.0
    made: list[dict[str, float]] = []
    for number in range(first, last):
        # Each patient once: the distances are the cohort's own.
        drawn = layout.draw([(layout, None)], rows.n_controls, effects, (seed, place, number), fade, responders)
        split = anchored(drawn)
        made.append(measures_of(split, split.verdict(MARGIN, LEVEL), known))
    return pd.DataFrame(made)


def _replicates(cells: Sequence[Cell], seed: int, task: tuple[int, int, int]) -> pd.DataFrame:
    """Some replicates of one cell, from the second to before the third number: a row each, properties in columns."""
    cell, first, last = task
    known, after = _truths(cells[cell], seed)
    made = [
        measure(cells[cell], known, after, np.random.default_rng([seed, cell, number])) for number in range(first, last)
    ]
    return pd.DataFrame(made)


@cache
def _truth(scenario: Scenario, seed: int) -> Truth:
    return truth(scenario, np.random.default_rng([seed, 7]))


def _truths(cell: Cell, seed: int) -> tuple[Truth, Truth | None]:
    return _truth(cell.scenario, seed), None if cell.after is None else _truth(cell.after, seed)


def _rows(cell: Cell, found: pd.DataFrame) -> list[dict[str, Any]]:
    if cell.former:
        # Of the mean widths: single cohorts' ratios have no meaning where one is small.
        found = found.assign(**{"width over the former's": found["width of S"] / found["former width"].mean()})
    if any(name.endswith(_LESS_PLANNED) for name in cell.targets):
        known = _truth(cell.scenario, 0)
        told = power(cell.scenario, (known.systematic, known.tumor), _PLANNED, 0)
        found = found.assign(**{f"{name}{_LESS_PLANNED}": found[name] - told[of] for name, of in _POWERS.items()})
    return [
        _row(cell, name, found[name].dropna().to_numpy(dtype=float))
        for name in dict.fromkeys((*cell.targets, *cell.shown))
    ]


def _row(cell: Cell, name: str, values: Array) -> dict[str, Any]:
    value = float(values.mean()) if values.size else np.nan
    reach = 1.96 * float(values.std()) / np.sqrt(values.size) if values.size else np.nan
    low, high = value - reach, value + reach
    if values.size and np.isin(values, (0.0, 1.0)).all():
        spread = stats.binomtest(int(values.sum()), values.size).proportion_ci(method="wilson")
        low, high = float(spread.low), float(spread.high)
    target = cell.targets.get(name)
    return {
        "cell": cell.name,
        "n_patients": cell.scenario.n_patients,
        "n_controls": cell.scenario.n_controls,
        "decay_mm": cell.scenario.decay_mm,
        "spread": cell.spread,
        "property": name,
        "value": value,
        "low": low,
        "high": high,
        "target": "n/a" if target is None else f"between {target[0]:.3g} and {target[1]:.3g}",
        "met": "n/a" if target is None or not values.size else "yes" if target[0] <= value <= target[1] else "no",
        "n_replicates": values.size,
    }


def _where(row: Mapping[Any, Any]) -> str:
    return (
        f"{row['cell']}, {row['n_patients']:.0f} + {row['n_controls']:.0f}, {row['decay_mm']:g} mm, {row['spread']}: "
        f"{row['property']}"
    )


def _line(row: Mapping[Any, Any]) -> str:
    return f"missed: {_where(row)} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], target {row['target']}"
