"""What a study of a size can tell, from its design alone: widths to expect, power, and what would help most."""

from collections.abc import Callable
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
    person, row : float
        Standard deviations between people, and between the rows of one.
    """

    distance_mm: Array
    levels: tuple[tuple[str, str], ...]
    mean: Array
    person: float
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
        left = controls - mean
        center = np.nanmean(left, axis=1)
        within = np.nansum((left - center[:, None]) ** 2) / max((n - 1).sum(), 1)
        between = max(float(np.var(center, ddof=1) - within * np.mean(1 / n)), 0.0)
        patients = distance[rows.cohort_of_people == PATIENT]
        person, row = float(np.sqrt(between)), float(np.sqrt(within))
        return cls(distance_mm=patients, levels=rows.levels, mean=mean, person=person, row=row)

    @property
    def sides(self) -> set[str]:
        """Hemispheres that were scored."""
        return {side for _, side in self.levels if side in ("left", "right")}

    def both_sides(self) -> "Layout":
        """The mirror images of the bundles too, as far from the tumor as the far side is in `standard_layout`."""
        (side,) = self.sides
        other = "right" if side == "left" else "left"
        known = standard_layout()
        pool = np.concatenate([known.distance_mm[:, [s != side for _, s in known.levels]]])
        near = np.nanmin(known.distance_mm[:, [s == side for _, s in known.levels]], axis=1)
        # Whose tumor lies on the scored side lends the far side's distances: these are what a second side adds.
        pool = pool[near < np.nanmin(pool, axis=1)]
        rng = np.random.default_rng(0)
        drawn = rng.choice(pool[np.isfinite(pool)], size=self.distance_mm.shape)
        return replace(
            self,
            distance_mm=np.hstack([self.distance_mm, drawn]),
            levels=(*self.levels, *((name, other) for name, _ in self.levels)),
            mean=np.tile(self.mean, 2),
        )

    def far(self, beyond_mm: float) -> "Layout":
        """Only patients who have a row beyond a distance."""
        return replace(self, distance_mm=self.distance_mm[(np.nan_to_num(self.distance_mm) > beyond_mm).any(axis=1)])

    def draw(
        self,
        groups: list[tuple["Layout", int]],
        n_controls: int,
        effects: tuple[float, float],
        seed: tuple[int, ...],
        fade: Fade = _fade,
    ) -> Rows:
        """Rows of one imagined study whose patients are drawn, with replacement, from several layouts."""
        # Streams of their own, so that whoever is in two variants is the same person with the same luck in both.
        drawn, scatter = [], []
        places = [*enumerate(groups), (99, (None, n_controls))]
        for place, (one, n) in places:
            who, person, row = (np.random.default_rng([*seed, place, what]) for what in range(3))
            some = None if one is None else one.distance_mm[who.integers(len(one.distance_mm), size=n)]
            drawn.append(np.full((n, len(self.levels)), np.inf) if some is None else some)
            scatter.append(person.normal(0, self.person, (n, 1)) + row.normal(0, self.row, (n, len(self.levels))))
        distance = np.concatenate(drawn)
        n_patients = len(distance) - n_controls
        lost = effects[0] + effects[1] * fade(distance)
        lost[n_patients:] = 0.0
        person, level = np.nonzero(np.isfinite(distance) | (np.arange(len(distance)) >= n_patients)[:, None])
        return Rows(
            outcome=(self.mean + np.concatenate(scatter) - lost)[person, level],
            logit=True,
            sign=1,
            cohort=np.where(person < n_patients, PATIENT, CONTROL),
            person=person,
            people=tuple(f"sub-{number}" for number in range(len(distance))),
            n_patients=n_patients,
            n_target_controls=0,
            level=level,
            levels=self.levels,
            distance_mm=distance[person, level],
            frame=pd.DataFrame(index=range(len(person))),
        )


def standard_layout(hemispheres: tuple[str, ...] = ("left", "right")) -> Layout:
    """Five bundles, tumors where gliomas sit, and the scatter of Dice that studies report."""
    scenario = Scenario(n_patients=400, n_controls=100, systematic=0.0, tumor=0.0, spread=SPREADS["middle"])
    frame = simulate(replace(scenario, hemispheres=hemispheres), np.random.default_rng(0))
    return Layout.of(build_rows(frame, "dice"))


@dataclass(frozen=True, kw_only=True)
class Plan(Result):
    """What to expect of each variant, in the columns of ``shiftkit.catalogue.PLAN``."""

    def __str__(self) -> str:
        shown = self.table.set_index("variant")[["withheld", "width_systematic", "power_systematic", "power_tumor"]]
        return f"{self.claim}\n{shown.round(3).to_string(index_names=False)}"


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
    variants: dict[str, tuple[Layout, list[tuple[Layout, int]], int]] = {
        "as planned": (layout, [(layout, n_patients)], n_controls),
        f"{MORE} more patients": (layout, [(layout, n_patients + MORE)], n_controls),
        f"{MORE} more controls": (layout, [(layout, n_patients)], n_controls + MORE),
    }
    if len(far := layout.far(40.0).distance_mm):
        groups = [(layout, n_patients), (replace(layout, distance_mm=far), MORE)]
        variants[f"{MORE} more patients with a bundle beyond 40 mm"] = (layout, groups, n_controls)
    if len(layout.sides) == 1:
        both = layout.both_sides()
        variants["the other hemisphere too"] = (both, [(both, n_patients)], n_controls)
    expect = partial(_expect, effects=(systematic, tumor), replicates=replicates, seed=seed)
    found = work.map(expect, list(variants.values()), "Planning")
    rows = [{"variant": name, **one} for name, one in zip(variants, found, strict=True)]
    table = pd.DataFrame(rows).assign(systematic=systematic, tumor=tumor, n_replicates=replicates)
    made = Plan(table=table, claim=_claim(table, layout))
    finding = Finding(
        key="plan",
        title="What would help most?",
        claim=made.claim,
        table=table,
        method="Studies imagined from the design: patients' distances drawn with replacement, normal scatter of people "
        "and rows, an effect that fades as exp(−d/15 mm); each decomposed as `shiftkit decompose` does.",
        figure=partial(_draw, table),
        alt="Median interval width of the systematic part for each variant of the design.",
    )
    return replace(made, findings=(finding,))


def _expect(
    variant: tuple[Layout, list[tuple[Layout, int]], int], effects: tuple[float, float], replicates: int, seed: int
) -> dict[str, float]:
    """Medians and shares over imagined studies of one variant; widths are those of studies that give a split."""
    layout, groups, n_controls = variant
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
        "n_patients": sum(n for _, n in groups),
        "n_controls": n_controls,
        "withheld": withheld,
        "width_systematic": widths[0],
        "width_tumor": widths[1],
        "power_systematic": systematic,
        "power_tumor": tumor,
        "power_both": both,
    }


def _claim(table: pd.DataFrame, layout: Layout) -> str:
    first, others = table.iloc[0], table.iloc[1:]
    opening = ""
    if len(layout.sides) == 1:
        opening = f"With one hemisphere only, both parts are named in {first['power_both']:.0%} of such studies. "
    size = f"{first['n_patients']:.0f} patients and {first['n_controls']:.0f} controls"
    if not np.isfinite(first["width_systematic"]):
        told = (
            f"{size} give a total and no split. {_wanted(layout, int(first['n_patients']), int(first['n_controls']))}"
        )
        told = told.strip()
    else:
        told = (
            f"{size}: the systematic part's interval is typically {first['width_systematic']:.3f} Dice wide and "
            f"excludes 0 in {first['power_systematic']:.0%} of studies if the part is {first['systematic']:g}; an "
            f"effect of the tumor's proximity of {first['tumor']:g} is shown in {first['power_tumor']:.0%}"
        )
        told += f"; {first['withheld']:.0%} of studies give no split." if first["withheld"] > 0 else "."
    # Judged by naming both parts, and by the width where that ties.
    best = others.sort_values(["power_both", "width_systematic"], ascending=[False, True]).iloc[0]
    return f"{opening}{told} What helps most is {best['variant']}: both named in {best['power_both']:.0%}."


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
