"""The cells of the recovery study, and what is measured in each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .simulation import SPREADS, Scenario, Truth, truth

Array = NDArray[np.float64]
COVERAGE = (0.93, 0.97)
"""Target of how often intervals of 95 % hold the truth."""


class Replicates(NamedTuple):
    """Replicates of one cell by field, and the truth behind them."""

    of: dict[str, Array]
    truth: Truth
    scenario: Scenario

    def kept(self, name: str) -> Array:
        """A field over the replicates whose split stands."""
        return self.of[name][(self.of["withheld"] + self.of["failed"]) == 0]


class Measured(NamedTuple):
    """One property: its value, Monte Carlo interval, target range and replicates."""

    name: str
    value: float
    low: float
    high: float
    target: tuple[float, float] | None
    n: int


def _rate(name: str, hits: NDArray[Any], target: tuple[float, float] | None) -> Measured:
    if not hits.size:
        return Measured(name, np.nan, np.nan, np.nan, target, 0)
    spread = stats.binomtest(int(hits.sum()), hits.size).proportion_ci(method="wilson")
    return Measured(name, float(hits.mean()), float(spread.low), float(spread.high), target, hits.size)


def recovered(found: Replicates) -> list[Measured]:
    """Bias and coverage of both components where the split stands."""
    made: list[Measured] = []
    for part, known in zip(("systematic", "tumor"), found.truth, strict=True):
        values, low, high = (found.kept(f"{part}{end}") for end in ("", "_low", "_high"))
        if not values.size:
            made.append(Measured(f"bias of {part}", np.nan, np.nan, np.nan, None, 0))
            continue
        # 5 % of the truth, or what no reader would see in a Dice.
        bias, allowed = float(values.mean() - known), max(0.05 * known, 0.003)
        reach = 1.96 * float(values.std()) / np.sqrt(values.size)
        made.append(Measured(f"bias of {part}", bias, bias - reach, bias + reach, (-allowed, allowed), values.size))
        made.append(_rate(f"coverage of {part}", (low <= known) & (known <= high), COVERAGE))
    return made


def decay_length(found: Replicates) -> list[Measured]:
    """Median of λ over all replicates, judged at 100 + 100."""
    values, known = found.of["decay"], found.scenario.decay_mm
    target = (0.75 * known, 1.25 * known) if found.scenario.n_patients >= 100 else None
    low, high = np.quantile(values, [0.025, 0.975])
    return [Measured("median decay length (2.5 and 97.5 %)", float(np.median(values)), low, high, target, values.size)]


def withheld(found: Replicates) -> list[Measured]:
    """How often no split is given; reported beside bias and coverage."""
    return [_rate("split withheld", found.of["withheld"], None)]


def withheld_far(found: Replicates) -> list[Measured]:
    """How often no split is given where there is none to find, judged at 100 + 100."""
    target = (0.95, 1.0) if found.scenario.n_patients >= 100 else None
    return [_rate("split withheld", found.of["withheld"], target)]


def tumor_error(found: Replicates) -> list[Measured]:
    """How often a tumor effect is found where there is none."""
    return [
        _rate("type I error of the tumor test", found.of["p_tumor"] <= 0.05, (0.04, 0.06)),
        _rate("no_tumor_effect_shown", found.of["no_effect"], (0.94, 1.0)),
    ]


def systematic_error(found: Replicates) -> list[Measured]:
    """How often a systematic shift is found where there is none."""
    return [_rate("type I error of the systematic test", found.of["p_systematic"] <= 0.05, (0.04, 0.06))]


def power(found: Replicates) -> list[Measured]:
    """How often the tumor effect is found."""
    return [_rate("power of the tumor test", found.of["p_tumor"] <= 0.05, (0.9, 1.0))]


SIZES = ((20, 20), (40, 20), (100, 100))
Measure = Callable[[Replicates], list[Measured]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to simulate, and what turns its replicates into rows of the table; name and spread are labels.

    ``n_bootstrap`` draws are behind the intervals, 0 where only tests are looked at; ``times`` are replicates in units
    of what `validate` is asked for.
    """

    name: str
    spread: str
    scenario: Scenario
    measures: tuple[Measure, ...]
    n_bootstrap: int
    times: int = 1


@cache
def standard_cells() -> tuple[Cell, ...]:
    """Every cell of the recovery study: recovery, far field unseen, null effects, power, and a wrong model."""
    made: list[Cell] = []
    for spread, (patients, controls) in ((s, n) for s in SPREADS for n in SIZES):
        base = Scenario(n_patients=patients, n_controls=controls, spread=SPREADS[spread])
        made += [
            *(
                _cell("recovery", spread, replace(base, decay_mm=decay), (recovered, decay_length, withheld), 500)
                for decay in (8.0, 15.0, 25.0)
            ),
            _cell("far field unseen", spread, replace(base, decay_mm=80.0), (withheld_far,), 200),
            _cell("no tumor effect", spread, replace(base, tumor=0.0), (tumor_error,), 0),
            _cell("no systematic shift", spread, replace(base, systematic=0.0), (systematic_error,), 0),
            _cell("neither", spread, replace(base, systematic=0.0, tumor=0.0), (tumor_error, systematic_error), 0),
        ]
    for spread in SPREADS:
        fifty = Scenario(n_patients=50, n_controls=50, spread=SPREADS[spread])
        made.append(_cell("0.05 Dice by the tumor", spread, _with_tumor_effect(fifty, 0.05), (power,), 0))
    for shape in ("gaussian", "linear"):
        for patients, controls in SIZES[1:]:
            wrong = Scenario(n_patients=patients, n_controls=controls, shape=shape)
            made.append(_cell(f"{shape} decay", "low", wrong, (recovered, withheld), 500))
    worn = replace(SPREADS["high"], empty=0.10)
    made.append(_cell("10 % empty masks", "high", Scenario(spread=worn), (recovered, withheld), 500))
    return tuple(made)


def _cell(name: str, spread: str, scenario: Scenario, measures: tuple[Measure, ...], n_bootstrap: int) -> Cell:
    times = 1 if n_bootstrap else 2  # error rates near 0.05 need more replicates
    return Cell(name=name, spread=spread, scenario=scenario, measures=measures, n_bootstrap=n_bootstrap, times=times)


def _with_tumor_effect(scenario: Scenario, dice: float) -> Scenario:
    """The scenario whose tumor component is so many Dice."""
    low, high = 0.0, 3.0
    for _ in range(20):  # bisection, to a millionth of the bracket
        middle = (low + high) / 2
        found = truth(replace(scenario, tumor=middle), np.random.default_rng(0), 20_000).tumor
        low, high = (middle, high) if found < dice else (low, middle)
    return replace(scenario, tumor=(low + high) / 2)
