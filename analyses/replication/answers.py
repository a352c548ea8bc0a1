"""The three findings as questions with rules: an interval decides, and one that holds both answers decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ...errors import DataError
from ...results import Estimate
from ...status import Status, spoken
from ..decomposition.study import decompose
from ..decomposition.verdict import Part
from ..scoring.metrics import METRICS
from ..statistics.inference import Inference
from .conditions import CONTROLS, NONE, PATIENTS, SCRATCH, Arm, paired

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not_supported", "undecided"
QUESTIONS = {
    1: "A network trained on healthy people loses in patients",
    2: "Fine-tuning makes up for few patients and handles the systematic part",
    3: "Fine-tuning cannot handle what the tumor does",
}
"""The published findings, as this study asks them."""
LEAST_SCORE = 0.3
"""Mean score of unseen controls below which a network has nothing to lose: half of what published ones reach."""
_QUICK = {"n_bootstrap": 100, "n_permutations": 99}
"""Only estimators beside the primary one draw, and they are not asked here."""


def decided(low: float, high: float, least: float = 0.0) -> str:
    """What an interval says of a claim that a quantity lies above 0; ``least`` is what counts as more than nothing.

    Supported if it lies above 0, not supported if all of it lies below ``least``, undecided if it holds both.

    Examples
    --------
    >>> decided(0.01, 0.05), decided(-0.05, -0.01), decided(-0.01, 0.05), decided(0.001, 0.01, least=0.02)
    ('supported', 'not_supported', 'undecided', 'not_supported')
    >>> decided(float("nan"), 0.05)
    'undecided'
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return UNDECIDED
    if high < least:
        return NOT_SUPPORTED
    return SUPPORTED if low > 0 else UNDECIDED


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One quantity that an answer rests on.

    Parameters
    ----------
    name : str
        ``drop``, ``systematic_repaired``, ``gain_over_scratch`` or ``tumor_left``.
    estimate : Estimate
        Above 0 it speaks for the finding.
    word : str
        What it says: supported, not_supported or undecided.
    told : str
        The number in words.
    reason : str
        Why it decides nothing, where its interval is not what it is due to.
    """

    name: str
    estimate: Estimate
    word: str
    told: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One finding, asked of one input, one strategy and all bundles or one.

    Parameters
    ----------
    finding : int
        1, 2 or 3 of `QUESTIONS`.
    arm : Arm
        Of which input and training.
    strategy, bundle : str
        How it was fine-tuned, ``none`` for the first finding; ``all``, or the name of a bundle on both sides.
    criteria : tuple of Criterion
        What it rests on: supported if all are, not supported if one is not.
    """

    finding: int
    arm: Arm
    strategy: str
    bundle: str
    criteria: tuple[Criterion, ...]

    @property
    def word(self) -> str:
        """supported, not_supported or undecided."""
        words = {one.word for one in self.criteria}
        if NOT_SUPPORTED in words:
            return NOT_SUPPORTED
        return SUPPORTED if words == {SUPPORTED} else UNDECIDED

    @property
    def sentence(self) -> str:
        """The answer with its numbers."""
        of = self.arm.name if self.bundle == "all" else f"{self.arm.name}, {self.bundle}"
        told = "; ".join(f"{one.told}{f' ({one.reason})' if one.reason else ''}" for one in self.criteria)
        return f"{of}: {self.word.replace('_', ' ')}: {told}."

    @property
    def rows(self) -> list[dict[str, Any]]:
        """In the columns of `shiftkit.catalogue.REPLICATION`, a row a criterion."""
        return [
            {
                "finding": self.finding,
                "modality": self.arm.modality,
                "training": self.arm.training,
                "strategy": self.strategy,
                "bundle": self.bundle,
                "metric": self.arm.metric,
                "answer": self.word,
                "criterion": one.name,
                "value": one.estimate.value,
                "low": one.estimate.low,
                "high": one.estimate.high,
                "level": one.estimate.level,
                "n_patients": one.estimate.n,
                "word": one.word,
                "status": str(one.estimate.status),
            }
            for one in self.criteria
        ]


def answers(
    arm: Arm, strategies: Sequence[str], margin: float, inference: Inference, bundle: str = "all"
) -> tuple[Answer, ...]:
    """The three findings of one arm, the second and third for each strategy.

    1. The patients' drop lies above 0; not supported if it is shown to be smaller than ``margin``.
    2. Fine-tuning repairs more than half of a systematic part that is shown, and it scores higher than training from
       scratch on the same patients; not supported if less than half is shown to be repaired, or the gain to be smaller
       than ``margin``.
    3. Less than half of a tumor's part that is shown is repaired; not supported if more is.

    A network that scores under `LEAST_SCORE` in unseen controls answers nothing.

    Half is asked without a ratio: ``after - before / 2`` has an interval also where ``before`` may be small. Where the
    split is a range, the interval is that of both ends of it.
    """
    rows = arm.rows if bundle == "all" else arm.rows[arm.rows["bundle"] == bundle]
    by = dict(list(rows.groupby("strategy", sort=False)))
    if (seen := _mean_of_controls(by.get(NONE))) < LEAST_SCORE:
        reason = f"the network scores {seen:.2f} in controls it has not seen: it has not learned to segment"
        return _unanswered(arm, strategies, bundle, reason, inference.level)
    try:
        tuned = {name: by[name].assign(strategy=name) for name in strategies}
        quick = Inference(level=inference.level, seed=inference.seed, **_QUICK)
        asked: dict[str, Any] = {"metric": arm.metric, "equivalence_margin": margin, "sensitivity": False}
        found = decompose(by[NONE], finetuned=tuned, inference=quick, **asked)
    except (DataError, KeyError) as error:
        return _unanswered(arm, strategies, bundle, str(error).strip("'"), inference.level)
    of: dict[str, Any] = {"arm": arm, "bundle": bundle}
    n = int(found.table["n_patients"].iloc[0])
    made = [Answer(finding=1, strategy=NONE, criteria=(_drop(found.told.total, n, margin, inference.level),), **of)]
    repaired = found.recovery.set_index(["strategy", "component"])
    for one in strategies:
        systematic, tumor = (repaired.loc[(one, name)] for name in ("systematic", "tumor"))
        halves = (
            _half("systematic_repaired", systematic, found.told.systematic, "shown", inference.level),
            _half("tumor_left", tumor, found.told.tumor, "worse_near", inference.level),
        )
        gain = _gain(by, one, margin, inference)
        made.append(Answer(finding=2, strategy=one, criteria=(halves[0], gain), **of))
        made.append(Answer(finding=3, strategy=one, criteria=(halves[1],), **of))
    return tuple(made)


def _unanswered(arm: Arm, strategies: Sequence[str], bundle: str, reason: str, level: float) -> tuple[Answer, ...]:
    lacking = _lacking(reason, level)
    asked = [(1, NONE), *((number, one) for one in strategies for number in (2, 3))]
    return tuple(
        Answer(finding=number, arm=arm, strategy=one, bundle=bundle, criteria=(lacking,)) for number, one in asked
    )


def _mean_of_controls(rows: pd.DataFrame | None) -> float:
    """Of a metric between 0 and 1, the mean over controls; infinite where there is none, or for another metric."""
    known = None if rows is None or rows.empty else METRICS[str(rows["metric"].iloc[0])]
    if rows is None or known is None or not known.bounded or known.better != "higher":
        return float("inf")
    controls = rows[rows["group"] == CONTROLS]
    return float(controls.groupby("participant_id")["value"].mean().mean()) if len(controls) else float("inf")


def _lacking(reason: str, level: float) -> Criterion:
    one = Estimate(name="n/a", value=float("nan"), level=level, status=Status.UNAVAILABLE)
    return Criterion(name="n/a", estimate=one, word=UNDECIDED, told="nothing was estimated", reason=reason.rstrip("."))


def _drop(total: Part, n: int, margin: float, level: float) -> Criterion:
    one = Estimate(name="drop", value=total.value, low=total.low, high=total.high, level=level, n=n)
    return Criterion(
        name="drop",
        estimate=one,
        word=decided(one.low, one.high, margin),
        told=f"patients lose {_number(one)} against unseen controls",
        reason=_why(one, total.status),
    )


def _half(name: str, row: Any, before: Part, shown: str, level: float) -> Criterion:
    """Whether more than half of the systematic part, or less than half of the tumor's, is repaired."""
    left, low, high = (float(row[column]) for column in ("half_left", "half_left_low", "half_left_high"))
    if name == "systematic_repaired":
        left, low, high = -left, -high, -low
    one = Estimate(name=name, value=left, low=low, high=high, level=level, n=int(row["n_patients"]))
    part = "systematic part" if name == "systematic_repaired" else "tumor's part"
    more = "repaired beyond half of it" if name == "systematic_repaired" else "left beyond half of it"
    told = f"of the {part} {_number(one)} is {more}"
    if not np.isfinite(low):
        told = f"how much of the {part} is repaired is not known"
        return Criterion(name=name, estimate=one, word=UNDECIDED, told=told, reason=_why(one, row["status"]))
    if before.word != shown:
        reason = f"a {part} that could be repaired is not shown"
        return Criterion(name=name, estimate=one, word=UNDECIDED, told=told, reason=reason)
    return Criterion(name=name, estimate=one, word=decided(low, high), told=told)


def _gain(by: dict[Any, pd.DataFrame], strategy: str, margin: float, inference: Inference) -> Criterion:
    """Whether fine-tuning scores higher than training from scratch on the same patients."""
    keys = ["participant_id", "bundle", "hemisphere"]
    name = "gain_over_scratch"
    if SCRATCH not in by or strategy == SCRATCH:
        one = Estimate(name=name, value=float("nan"), level=inference.level, status=Status.UNAVAILABLE)
        told = "training from scratch was not tried"
        return Criterion(name=name, estimate=one, word=UNDECIDED, told=told)
    values = (part[part["group"] == PATIENTS].set_index(keys)["value"] for part in (by[strategy], by[SCRATCH]))
    better = 1 if METRICS[str(by[strategy]["metric"].iloc[0])].better == "higher" else -1
    one, _ = paired(*(better * each for each in values), inference=inference)
    told = f"{strategy} scores {_number(one, '+')} against training from scratch"
    word = decided(one.low, one.high, margin)
    return Criterion(name=name, estimate=one, word=word, told=told, reason=_why(one, one.status))


def _why(one: Estimate, status: str) -> str:
    return "" if np.isfinite(one.low) else spoken(str(status))


def _number(one: Estimate, sign: str = "") -> str:
    value = f"{one.value:{sign}.3f}" if np.isfinite(one.value) else "an amount that is not known"
    return value + (f" [{one.low:{sign}.3f}, {one.high:{sign}.3f}]" if np.isfinite(one.low) else "")
