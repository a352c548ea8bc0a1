"""What the recovery study simulates: effects to find, effects that are not there, and a far field nobody sees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from .simulation import SPREADS, Scenario, truth
from .validation_measures import (
    Measured,
    Replicates,
    decay_length,
    power,
    recovered,
    systematic_error,
    tumor_error,
    withheld,
    withheld_far,
)

SIZES = ((20, 20), (40, 20), (100, 100))
Measure = Callable[[Replicates], list[Measured]]


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
    for _ in range(20):
        middle = (low + high) / 2
        found = truth(replace(scenario, tumor=middle), np.random.default_rng(0), 20_000).tumor
        low, high = (middle, high) if found < dice else (low, middle)
    return replace(scenario, tumor=(low + high) / 2)
