"""What the recovery study measures on the replicates of one cell."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .simulation import Scenario, Truth

Array = NDArray[np.float64]


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
        bias, allowed = float(values.mean() - known), max(0.05 * known, 0.003)
        reach = 1.96 * float(values.std()) / np.sqrt(values.size)
        made.append(Measured(f"bias of {part}", bias, bias - reach, bias + reach, (-allowed, allowed), values.size))
        made.append(_rate(f"coverage of {part}", (low <= known) & (known <= high), (0.93, 0.97)))
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
