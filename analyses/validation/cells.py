"""The cells of the validation study: what is simulated, and what must come out (the design's targets)."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from .simulation import SPREADS, Scenario, truth

Range = tuple[float, float]
COVERS: Range = (0.93, 1.0)
RARELY: Range = (0.0, 0.06)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thing to simulate and what to measure on it.

    Parameters
    ----------
    name, spread : str
        Labels.
    scenario : Scenario
        What is simulated.
    targets : dict of str to (float, float)
        Where each property must lie; see `shiftkit.analyses.validation.measures`.
    shown : tuple of str
        Properties that are only reported.
    covariates : tuple of str
        What is adjusted for.
    after : Scenario or None
        What a fine-tuned model scores.
    keeps_tumor : bool
        Whether ``after`` is still to get the tumor's part of ``scenario``; see `settled`.
    times : int
        Replicates in units of what `validate` is asked for: rates of at most 0.06 need four times as many.
    former : bool
        Whether the single exponential, with its bootstrap, is computed beside it.
    """

    name: str
    spread: str
    scenario: Scenario
    targets: dict[str, Range]
    shown: tuple[str, ...] = ("tumor shown", "width of S")
    covariates: tuple[str, ...] = ()
    after: Scenario | None = None
    keeps_tumor: bool = False
    times: int = 1
    former: bool = False

    def settled(self) -> "Cell":
        """The cell whose ``after`` has the tumor's part of ``scenario``, which takes seconds to find."""
        if self.after is None or not self.keeps_tumor:
            return self
        return replace(self, after=_with_tumor_part_of(self.scenario, self.after), keeps_tumor=False)


@cache
def standard_cells() -> tuple[Cell, ...]:
    """Every cell of the table of targets that can be simulated as a table of scores."""
    middle = Scenario(n_patients=30, n_controls=30, systematic=0.56, spread=SPREADS["middle"])
    gaussian = replace(middle, shape="gaussian")
    plateau = replace(middle, shape="plateau", decay_mm=30.0)
    half = {"responders": 0.5}
    both = {"coverage of S": COVERS, "withheld": (0.0, 0.0)}
    tumor = {**both, "coverage of tumor": COVERS}
    made = [
        _cell("Gaussian, half respond", replace(gaussian, **half), {**tumor, "bias of S": (-0.006, 0.006)}),
        _cell(
            "plateau to 30 mm",
            _sized(plateau, 60, 60),
            {**both, "width of S": (0, 0.135)},
            shown=("tumor shown", "width of S's bounds"),
        ),
        _cell("λ = 25 mm", replace(middle, decay_mm=25.0), {**tumor, "range": (0.6, 1.0)}),
        _cell(
            "λ = 60 mm, all respond",
            replace(middle, decay_mm=60.0),
            {"single number": (0, 0.10), "coverage of S, λmax 60": COVERS},
        ),
        *(
            _cell(
                f"nobody from 18 to 41 mm, λ = {decay:g} mm",
                replace(_sized(middle, 60, 60), decay_mm=decay, gap_mm=(18.0, 41.0)),
                {"coverage of S" if decay == 25 else "coverage of S, λmax 60": COVERS},
                shown=("range", "coverage of S", "width of S"),
            )
            for decay in (25.0, 60.0)
        ),
        _cell(
            "no tumor effect",
            replace(middle, tumor=0.0),
            {"S shown": (0.95, 1), "tumor shown": RARELY, "width of S": (0, 0.092)},
            times=4,
        ),
    ]
    decays = {"exponential": 12.0, "gaussian": 15.0, "linear": 15.0, "plateau": 30.0}
    for shape, decay in decays.items():
        for n in (30, 60):
            scenario = replace(_sized(middle, n, n), systematic=0.0, shape=shape, decay_mm=decay)
            made.append(_cell(f"no systematic part, {shape}", scenario, {"S shown or negative": RARELY}, times=4))
    for n_patients, n_controls in ((20, 16), (30, 30), (60, 60)):
        for decay in (5.0, 10.0, 15.0):
            scenario = replace(_sized(middle, n_patients, n_controls), decay_mm=decay)
            targets = {"coverage of S": (0.93, 0.98), "width over the former's": (0, 1.2)}
            shown = ("tumor shown", "width of S", "width of S's bounds")
            made.append(_cell("exponential", scenario, targets, shown=shown, former=True))
    aged = replace(middle, age_gap=1.0, age=0.2)
    made += [
        _cell("age gap of 1 SD, adjusted", aged, {"bias of S": (-0.005, 0.005), **both}, covariates=("age",)),
        _cell("age gap of 1 SD, not adjusted", aged, {}, shown=("bias of S",)),
        _cell("four bundles that three controls have", replace(middle, rare=2), both),
    ]
    for scenario in (replace(middle, decay_mm=12.0), gaussian):
        one = replace(scenario, hemispheres=("left",))
        shown = ("both parts named", "coverage of tumor", "width of S")
        made.append(_cell(f"one hemisphere, {scenario.shape}", one, both, shown=shown))
    fractions = {"coverage of systematic fraction": COVERS, "coverage of tumor fraction": COVERS}
    told = (*("systematic fraction given", "tumor fraction given", "width of systematic fraction"),)
    for n, shape in ((16, "exponential"), (30, "exponential"), (30, "gaussian")):
        before = replace(_sized(middle, n, n), shape=shape)
        after = replace(before, systematic=before.systematic / 2)
        targets = {"tumor said to be repaired": (0, 0.05), **fractions}
        named = f"fine-tuning halves S, {shape}"
        made.append(_cell(named, before, targets, shown=told, after=after, keeps_tumor=True, times=4))
    changed = replace(gaussian, shape="exponential", tumor=0.8, systematic=0.3, decay_mm=8.0)
    made += [
        _cell(
            "fine-tuning changes the shape",
            gaussian,
            {**fractions, "width over the former's percentiles": (0, 0.5)},
            shown=told,
            after=changed,
        ),
        _cell(
            "40 % of touching bundles without reference",
            replace(middle, unseen_contact=0.4),
            {},
            shown=("coverage of S", "coverage of tumor", "bias of tumor"),
        ),
        _cell("10 % empty masks, much noise", replace(middle, spread=replace(SPREADS["high"], empty=0.10)), both),
        _cell("time", _sized(middle, 60, 60), {"milliseconds": (0, 50)}, shown=()),
    ]
    return (*made, *_attacks(middle), *_planned(middle))


def _attacks(middle: Scenario) -> list[Cell]:
    """What the estimator was not made for."""
    both = {"coverage of S": COVERS, "coverage of tumor": COVERS, "withheld": (0.0, 0.0)}
    shown = ("bias of S", "bias of tumor", "tumor shown", "width of S")
    changes: dict[str, dict[str, Any]] = {
        "rows with heavy tails": {"tails": 2.5},
        "a quarter of the patients lose much, the others nothing": {"responders": 0.25, "tumor": 3.0},
        "shift differs much between bundles": {"spread": replace(SPREADS["middle"], bundles=0.8)},
        "distances with an error of 5 mm": {"distance_error_mm": 5.0},
        "half of the participants with a third of the rows": {"uneven": 0.5},
        "few far rows: one hemisphere, 20 + 20": {"hemispheres": ("left",), "n_patients": 20, "n_controls": 20},
        "small cohorts": {"n_patients": 10, "n_controls": 6},
    }
    made = [_cell(name, replace(middle, **change), both, shown=shown) for name, change in changes.items()]
    nobody = replace(middle, tumor=0.0)
    nulls: dict[str, dict[str, Any]] = {
        "no tumor effect, rows with heavy tails": {"tails": 2.5},
        "no tumor effect, shift differs much between bundles": {"spread": replace(SPREADS["middle"], bundles=0.8)},
        "no tumor effect, small cohorts": {"n_patients": 10, "n_controls": 6},
    }
    made += [
        _cell(name, replace(nobody, **change), {"tumor shown": RARELY}, shown=("S shown", "coverage of S"), times=4)
        for name, change in nulls.items()
    ]
    # Nothing in a table of scores tells copies from people: too many of them make intervals too short, as they must.
    return [*made, _cell("a fifth of the participants twice", replace(middle, twins=0.2), {}, shown=tuple(both))]


def _planned(middle: Scenario) -> list[Cell]:
    """Designs whose power ``shiftkit plan`` tells beforehand: losses of 0.05 and 0.05 in contact, or 0.1 and 0.25."""
    small, large = {"systematic": 0.285, "tumor": 0.28}, {"systematic": 0.56, "tumor": 1.15}
    one: dict[str, Any] = {"hemispheres": ("left",)}
    made = {
        "planned: one hemisphere, small effects": _sized(replace(middle, **one, **small), 30, 30),
        "planned: one hemisphere, large effects": _sized(replace(middle, **one, **large), 16, 20),
        "planned: both hemispheres, small effects": _sized(replace(middle, **small), 20, 16),
    }
    apart = {f"{name}, less what was planned": (-0.1, 0.1) for name in ("S shown", "tumor shown", "both parts named")}
    return [_cell(name, scenario, apart, shown=("both parts named", "width of S")) for name, scenario in made.items()]


def _with_tumor_part_of(before: Scenario, after: Scenario) -> Scenario:
    """The tumor's part as it was, on the scale of Dice: a smaller shift alone changes it, since Dice is bounded."""
    wanted = truth(before, np.random.default_rng(0), 20_000).tumor
    low, high = 0.5 * before.tumor, 2.0 * before.tumor
    for _ in range(14):
        middle = (low + high) / 2
        less = truth(replace(after, tumor=middle), np.random.default_rng(0), 20_000).tumor < wanted
        low, high = (middle, high) if less else (low, middle)
    return replace(after, tumor=(low + high) / 2)


def _sized(scenario: Scenario, n_patients: int, n_controls: int) -> Scenario:
    return replace(scenario, n_patients=n_patients, n_controls=n_controls)


def _cell(name: str, scenario: Scenario, targets: dict[str, Range], **options: object) -> Cell:
    spread = next((word for word, one in SPREADS.items() if one == scenario.spread), "high, 10 % empty")
    return Cell(name=name, spread=spread, scenario=scenario, targets=targets, **options)  # pyright: ignore
