"""What a study of a size can tell, from its design alone: widths to expect, power, and what would help most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import DataError
from ...results import Finding, Result
from ...status import Status
from ...style import intervals, name_rows, new_axes
from ...work import Work
from ..decomposition.anchored import CUTS_MM, FEWEST_TO_SPLIT, anchored
from ..decomposition.rows import CONTROL, PATIENT, Rows, build_rows
from ..decomposition.sentences import wanted
from .simulation import SPREADS, Scenario, simulate

Array = NDArray[np.float64]
Fade = Callable[[Array], Array]
"""From distance in mm to the share of the tumor's effect that is left."""
DECAY_MM = 15.0
"""Of the effect that is planned for; what the decay is matters less than how many rows lie beyond it."""
TIMES = {2: "twice", 4: "four times"}
"""Larger effects that are planned for too: power is a matter of the effect first."""
MORE = 10
"""Participants that a variant adds."""
_MARGIN = 0.02


def _fade(distance_mm: Array) -> Array:
    return np.exp(-distance_mm / DECAY_MM)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Whom a study can have, and how far their scores scatter.

    Parameters
    ----------
    distance_mm : ndarray, shape (P, K)
        Of each patient to draw from and level, bundle × hemisphere; NaN where there is no row.
    levels : tuple of (str, str)
        Bundle and hemisphere.
    mean : ndarray, shape (K,)
        Controls' mean outcome.
    person, side, row : float
        Healthy people's standard deviations: between people, between the hemispheres of one, and between the rows of
        one hemisphere. With one hemisphere ``side`` is 0, and ``person`` holds it.
    """

    distance_mm: Array
    levels: tuple[tuple[str, str], ...]
    mean: Array
    person: float
    side: float
    row: float

    @classmethod
    def of(cls, rows: Rows) -> "Layout":
        """Read from a cohort; outcomes count only for how much healthy people scatter.

        Raises
        ------
        DataError
            If no control has two rows, so that nothing is known of the scatter.
        """
        there = np.full((len(rows.people), len(rows.levels)), np.nan)
        there[rows.person, rows.level] = rows.outcome
        distance = np.full(there.shape, np.nan)
        distance[rows.person, rows.level] = rows.distance_mm
        controls = there[rows.cohort_of_people == CONTROL]
        n = np.isfinite(controls).sum(axis=1)
        if len(controls) < 2 or n.max(initial=0) < 2:
            raise DataError("A plan needs two controls with two bundles each at least, to know how far scores scatter.")
        mean = np.nan_to_num(np.nanmean(controls, axis=0), nan=float(np.nanmean(controls)))
        person, side, row = _scatter(controls - mean, _sides(rows.levels))
        patients = distance[rows.cohort_of_people == PATIENT]
        return cls(distance_mm=patients, levels=rows.levels, mean=mean, person=person, side=side, row=row)

    @property
    def sides(self) -> set[str]:
        """Hemispheres that were scored."""
        return {side for _, side in self.levels if side in ("left", "right")}

    def both_sides(self) -> "Layout":
        """The mirror images of the bundles too, as far from the tumor as the far side is in `standard_layout`."""
        (side,) = self.sides
        other = "right" if side == "left" else "left"
        known = standard_layout()
        pool = known.distance_mm[:, [s != side for _, s in known.levels]]
        near = np.nanmin(known.distance_mm[:, [s == side for _, s in known.levels]], axis=1)
        # Whose tumor lies on the scored side lends the far side's distances: these are what a second side adds.
        pool = pool[near < np.nanmin(pool, axis=1)]
        rng = np.random.default_rng(0)
        drawn = rng.choice(pool[np.isfinite(pool)], size=self.distance_mm.shape)
        # One side alone does not tell how much of a person's scatter is the side's: as much as there.
        own = known.side / np.hypot(known.person, known.side)
        return replace(
            self,
            distance_mm=np.hstack([self.distance_mm, drawn]),
            levels=(*self.levels, *((name, other) for name, _ in self.levels)),
            mean=np.tile(self.mean, 2),
            person=self.person * float(np.sqrt(1 - own**2)),
            side=self.person * float(own),
        )

    def far(self, beyond_mm: float) -> "Layout":
        """Only patients who have a row beyond a distance."""
        return replace(self, distance_mm=self.distance_mm[(np.nan_to_num(self.distance_mm) > beyond_mm).any(axis=1)])

    def draw(
        self,
        groups: Sequence[tuple["Layout", int | None]],
        n_controls: int,
        effects: tuple[float, float],
        seed: tuple[int, ...],
        fade: Fade = _fade,
        responders: float = 1.0,
    ) -> Rows:
        """Rows of one imagined study.

        People scatter on the scale of logits: where a row's mean is lower, its scatter is larger, as p(1 − p).

        Parameters
        ----------
        groups : sequence of (Layout, int or None)
            Whose patients, and how many of them are drawn with replacement; None: each of them once.
        n_controls : int
            Controls.
        effects : (float, float)
            Lost everywhere, and on top in contact with the tumor.
        seed : tuple of int
            Of everything random.
        fade : callable
            Of the tumor's effect.
        responders : float
            Share of the patients whom the tumor's effect hits, with so much more of it that its mean stays.
        """
        sides = _sides(self.levels)
        drawn: list[Array] = []
        scatter: list[Array] = []
        hit: list[Array] = []
        # Streams of their own, so that whoever is in two variants is the same person with the same luck in both.
        for cohort, place, one, asked in [
            *((PATIENT, place, one.distance_mm, n) for place, (one, n) in enumerate(groups)),
            (CONTROL, 0, np.full((1, len(self.levels)), np.inf), n_controls),
        ]:
            who, person, side, row, response = (
                np.random.default_rng([*seed, cohort, place, what]) for what in range(5)
            )
            n = len(one) if asked is None else asked
            drawn.append(one if asked is None else one[who.integers(len(one), size=n)])
            scatter.append(
                person.normal(0, self.person, (n, 1))
                + side.normal(0, self.side, (n, sides.max() + 1))[:, sides]
                + row.normal(0, self.row, (n, len(self.levels)))
            )
            responding = response.permutation(n) < responders * n
            hit.append((responding / responding.mean())[:, None])
        distance = np.concatenate(drawn)
        patient = np.arange(len(distance)) < len(distance) - n_controls
        lost = effects[0] + effects[1] * fade(distance) * np.concatenate(hit)
        mean = np.clip(self.mean - lost * patient[:, None], 0.02, 0.98)
        outcome = mean + np.concatenate(scatter) * mean * (1 - mean) / (self.mean * (1 - self.mean)).mean()
        person, level = np.nonzero(~np.isnan(distance))
        return Rows(
            outcome=outcome[person, level],
            logit=True,
            sign=1,
            cohort=np.where(patient[person], PATIENT, CONTROL),
            person=person,
            people=tuple(f"sub-{number}" for number in range(len(distance))),
            n_patients=int(patient.sum()),
            n_target_controls=0,
            level=level,
            levels=self.levels,
            distance_mm=distance[person, level],
            frame=pd.DataFrame(index=range(len(person))),
        )


def _sides(levels: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
    """Number of each level's hemisphere."""
    return np.unique([side for _, side in levels], return_inverse=True)[1].astype(np.int64)


def _scatter(left: Array, sides: NDArray[np.int64]) -> tuple[float, float, float]:
    """Standard deviations between people, between their hemispheres, and between rows of one hemisphere.

    By moments, from residuals about the levels' means, shape (people, K); NaN where there is no row.
    """
    inside = np.eye(sides.max() + 1)[sides]
    n = np.isfinite(left) @ inside  # (people, hemispheres)
    n, left = n[n.any(axis=1)], left[n.any(axis=1)]
    center = np.divide(np.nan_to_num(left) @ inside, n, out=np.full(n.shape, np.nan), where=n > 0)
    row = float(np.nansum((left - center[:, sides]) ** 2) / max(np.maximum(n - 1, 0).sum(), 1))
    noise = row * np.nanmean(np.divide(1, n, out=np.full(n.shape, np.nan), where=n > 0), axis=1)
    known, side = (n > 0).sum(axis=1), 0.0
    if (several := known > 1).any():
        side = max(float(np.mean(np.nanvar(center[several], axis=1, ddof=1) - noise[several])), 0.0)
    person = max(float(np.var(np.nanmean(center, axis=1), ddof=1) - ((noise + side) / known).mean()), 0.0)
    return float(np.sqrt(person)), float(np.sqrt(side)), float(np.sqrt(row))


def standard_layout(hemispheres: tuple[str, ...] = ("left", "right")) -> Layout:
    """Five bundles, tumors where gliomas sit, and the scatter of Dice that studies report."""
    scenario = Scenario(n_patients=400, n_controls=100, systematic=0.0, tumor=0.0, spread=SPREADS["middle"])
    frame = simulate(replace(scenario, hemispheres=hemispheres), np.random.default_rng(0))
    return Layout.of(build_rows(frame, "dice"))


@dataclass(frozen=True, kw_only=True)
class Plan(Result):
    """What to expect of each variant, in the columns of ``shiftkit.catalogue.PLAN``."""

    def __str__(self) -> str:
        columns = ["withheld", "width_systematic", "power_systematic", "power_tumor", "power_both"]
        shown = self.table.set_index("variant")[columns]
        return f"{self.claim}\n{shown.round(3).to_string(index_names=False)}"


_CPU_S = 0.03
"""Of one imagined study, roughly; more with many participants."""


def plan(
    n_patients: int,
    n_controls: int,
    layout: Layout,
    *,
    systematic: float = 0.05,
    tumor: float = 0.05,
    replicates: int = 200,
    seed: int = 0,
    work: Work = Work(),
) -> Plan:
    """Imagine a study many times over and decompose each, as planned and with somewhat more of everything.

    Parameters
    ----------
    n_patients, n_controls : int
        Participants.
    layout : Layout
        Whom to draw from.
    systematic, tumor : float
        Dice lost far from the tumor, and on top in contact with it, fading as exp(−d/15 mm).
    replicates : int
        Imagined studies a variant.
    seed : int
        Of everything random; variants share it, so that their differences are not chance.
    work : Work
        Processes and progress.

    Returns
    -------
    Plan

    Examples
    --------
    >>> made = plan(30, 20, standard_layout(), replicates=20)
    >>> made.table.loc[0, "variant"], bool(made.table.loc[0, "width_systematic"] < 0.2)
    ('as planned', True)
    """
    effects = systematic, tumor
    variants = {
        "as planned": _Variant(layout, [(layout, n_patients)], n_controls, effects),
        f"{MORE} more patients": _Variant(layout, [(layout, n_patients + MORE)], n_controls, effects),
        f"{MORE} more controls": _Variant(layout, [(layout, n_patients)], n_controls + MORE, effects),
    }
    if len(far := layout.far(40.0).distance_mm):
        groups: list[tuple[Layout, int | None]] = [(layout, n_patients), (replace(layout, distance_mm=far), MORE)]
        variants[f"{MORE} more patients with a bundle beyond 40 mm"] = _Variant(layout, groups, n_controls, effects)
    if len(layout.sides) == 1:
        both = layout.both_sides()
        variants["the other hemisphere too"] = _Variant(both, [(both, n_patients)], n_controls, effects)
    for times, word in TIMES.items():
        larger = times * systematic, times * tumor
        variants[f"effects {word} as large"] = replace(variants["as planned"], effects=larger)
    work.begin(
        f"Would imagine {replicates} studies of each of {len(variants)} variants of {n_patients} patients and "
        f"{n_controls} controls.",
        work.cost(len(variants), cpu_s=replicates * _CPU_S * (1 + (n_patients + n_controls) / 100), memory_gib=0.4),
    )
    found = work.map(partial(_expect, replicates=replicates, seed=seed), list(variants.values()), "Planning")
    rows = [{"variant": name, **one} for name, one in zip(variants, found, strict=True)]
    table = pd.DataFrame(rows).assign(n_replicates=replicates)
    made = Plan(table=table, claim=_claim(table, layout))
    finding = Finding(
        key="plan",
        title="What would help most?",
        claim=made.claim,
        table=table,
        method="Studies imagined from the design: patients' distances drawn with replacement, scatter of people, "
        "hemispheres and rows as in controls on the scale of logits, an effect that fades as exp(−d/15 mm); each "
        "decomposed as `shiftkit decompose` does.",
        figure=partial(_draw, table),
        alt="Median interval width of the systematic part for each variant of the design.",
    )
    return replace(made, findings=(finding,))


def power(scenario: Scenario, lost: tuple[float, float], replicates: int, seed: int) -> dict[str, float]:
    """What a plan says of a simulated cohort's numbers and hemispheres; ``lost`` are its components in Dice.

    The tumor's is the mean over all bundles, of which a plan makes the effect in contact.
    """
    layout = standard_layout(scenario.hemispheres)
    contact = lost[1] / _mean_fade(layout)
    groups: list[tuple[Layout, int | None]] = [(layout, scenario.n_patients)]
    return _expect(_Variant(layout, groups, scenario.n_controls, (lost[0], contact)), replicates, seed)


def _mean_fade(layout: Layout) -> float:
    """Of the effect in contact, what a patient's mean over all bundles loses."""
    return float(np.nanmean(np.nanmean(_fade(layout.distance_mm), axis=1)))


@dataclass(frozen=True)
class _Variant:
    """A study to imagine: levels and scatter, whose patients and how many, controls, and the effects."""

    layout: Layout
    groups: list[tuple[Layout, int | None]]
    n_controls: int
    effects: tuple[float, float]


def _expect(variant: _Variant, replicates: int, seed: int) -> dict[str, float]:
    """Medians and shares over imagined studies of one variant; widths are those of studies that give a split."""
    layout, groups = variant.layout, variant.groups
    n_controls, effects = variant.n_controls, variant.effects
    made = []
    for number in range(replicates):
        told = anchored(layout.draw(groups, n_controls, effects, (seed, number))).verdict(_MARGIN)
        far, near = told.systematic, told.tumor
        made.append(
            (
                float(not np.isfinite(far.low)),
                far.high - far.low,
                near.high - near.low,
                float(far.word == "shown"),
                float(near.word == "worse_near"),
                float(far.word == "shown" and near.word == "worse_near"),
            )
        )
    values = np.array(made)
    widths = [float(np.median(w[np.isfinite(w)])) if np.isfinite(w).any() else np.nan for w in values[:, 1:3].T]
    withheld, systematic, tumor, both = values[:, [0, 3, 4, 5]].mean(axis=0)
    return {
        "systematic": effects[0],
        "tumor": effects[1],
        "n_patients": sum(n or len(one.distance_mm) for one, n in groups),
        "n_controls": n_controls,
        "withheld": withheld,
        "width_systematic": widths[0],
        "width_tumor": widths[1],
        "power_systematic": systematic,
        "power_tumor": tumor,
        "power_both": both,
    }


def _claim(table: pd.DataFrame, layout: Layout) -> str:
    first, others = table.iloc[0], table.iloc[1 : -len(TIMES)]
    size = f"{first['n_patients']:.0f} patients and {first['n_controls']:.0f} controls"
    mean = first["tumor"] * _mean_fade(layout)  # as a run's verdict tells it
    effects = (
        f"if {first['systematic']:g} Dice are lost everywhere and {first['tumor']:g} more in contact with the tumor "
        f"({mean:.2g} as a mean over all bundles)"
    )
    larger = " and ".join(
        f"{one['power_both']:.0%} if both are {word} as large"
        for word, one in zip(TIMES.values(), table.iloc[-len(TIMES) :].to_dict("records"), strict=True)
    )
    named = f"both parts are named in {first['power_both']:.0%} of such studies {effects}, in {larger}"
    named = f"With one hemisphere only, {named}" if len(layout.sides) == 1 else f"{named[0].upper()}{named[1:]}"
    if not np.isfinite(first["width_systematic"]):
        told = (
            f"{size} give a total and no split. {_wanted(layout, int(first['n_patients']), int(first['n_controls']))}"
        )
        told = told.strip()
    else:
        told = (
            f"{size}: the systematic part's interval is typically {first['width_systematic']:.3f} Dice wide and "
            f"excludes 0 in {first['power_systematic']:.0%} of studies; the tumor's effect is shown in "
            f"{first['power_tumor']:.0%}"
        )
        told += f"; {first['withheld']:.0%} of studies give no split." if first["withheld"] > 0 else "."
    # Judged by naming both parts, and by the width where that ties.
    best = others.sort_values(["power_both", "width_systematic"], ascending=[False, True]).iloc[0]
    return f"{named}. {told} What helps most is {best['variant']}: both named in {best['power_both']:.0%}."


def _wanted(layout: Layout, n_patients: int, n_controls: int) -> str:
    """Who is missing, as a run that gives no split says it; patients are far as often as in the layout."""
    far = round(n_patients * float((np.nan_to_num(layout.distance_mm) > CUTS_MM[-1]).any(axis=1).mean()))
    status = Status.TOO_FEW_FOR_SPLIT if n_patients < FEWEST_TO_SPLIT else Status.FAR_FIELD_UNMEASURED
    return wanted(status, n_patients, n_controls, far)


def _draw(table: pd.DataFrame, ax: Any = None) -> Any:
    axes = new_axes(ax)
    width = table["width_systematic"]
    intervals(axes, range(len(table)), np.zeros(len(table)), -width / 2, width / 2, lying=True, markersize=0)
    name_rows(axes, [str(name) for name in table["variant"]])
    axes.set_xlabel("Typical interval of the systematic part about its value (Dice)")
    return axes
