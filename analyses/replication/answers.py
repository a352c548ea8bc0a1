"""The three findings as questions with rules: an interval decides, and one that holds both answers decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ...errors import DataError
from ...results import Estimate
from ...status import Status, spoken
from ...words import named
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
"""Mean score below which a network has nothing to lose, and repairs nothing: half of what published ones reach."""
_KEYS = ["participant_id", "bundle", "hemisphere"]
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
    without : str
        Who is left out of it, and why.
    """

    name: str
    estimate: Estimate
    word: str
    told: str
    reason: str = ""
    without: str = ""

    @property
    def sentence(self) -> str:
        """The number in words, with what is to be known about it."""
        aside = "; ".join(one for one in (self.reason, self.without) if one)
        return f"{self.told} ({aside})" if aside else self.told


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
        return f"{of}: {self.word.replace('_', ' ')}: {'; '.join(one.sentence for one in self.criteria)}."

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

    A network that scores under `LEAST_SCORE` in unseen controls answers nothing, nor does a fine-tuned one that scores
    less in patients; and to score higher than a network from scratch that does is no gain.

    The first finding rests on the source network alone. The others rest on the patients that the fine-tuned network
    scored, each strategy on its own; who is left out is named.

    Half is asked without a ratio: ``after - before / 2`` has an interval also where ``before`` may be small. Where the
    split is a range, the interval is that of both ends of it.
    """
    rows = arm.rows if bundle == "all" else arm.rows[arm.rows["bundle"] == bundle]
    by = dict(list(rows.groupby("strategy", sort=False)))
    seen = _mean_of(by.get(NONE), CONTROLS)
    if seen < LEAST_SCORE:
        reason = f"the network scores {seen:.2f} in controls it has not seen: it has not learned to segment"
        return _unanswered(arm, strategies, bundle, reason, inference.level)
    quick = Inference(level=inference.level, seed=inference.seed, **_QUICK)
    asked: dict[str, Any] = {"metric": arm.metric, "equivalence_margin": margin, "sensitivity": False}
    try:
        if NONE not in by:
            raise DataError("the source network scored nobody")
        found = decompose(by[NONE], inference=quick, **asked)
    except DataError as error:
        return _unanswered(arm, strategies, bundle, str(error), inference.level)
    of: dict[str, Any] = {"arm": arm, "bundle": bundle}
    n = int(found.table["n_patients"].iloc[0])
    made = [Answer(finding=1, strategy=NONE, criteria=(_drop(found.told.total, n, margin, inference.level),), **of)]
    for one in strategies:
        try:
            base, tuned, without = _on_the_same(by, one)
            split = decompose(base, finetuned={one: tuned}, inference=quick, **asked)
        except DataError as error:
            lacking = _lacking(str(error), inference.level)
            made += [Answer(finding=number, strategy=one, criteria=(lacking,), **of) for number in (2, 3)]
            continue
        systematic, tumor = (split.recovery.set_index("component").loc[name] for name in ("systematic", "tumor"))
        halves = (
            _half("systematic_repaired", systematic, split.told.systematic, "shown", inference.level),
            _half("tumor_left", tumor, split.told.tumor, "worse_near", inference.level),
        )
        collapsed = _collapsed(by[one], f"the network fine-tuned by {one}")
        halves = tuple(_undecided(each, collapsed) for each in halves)
        systematic_repaired, tumor_left = (replace(each, without=without) for each in halves)
        gain = _gain(by, one, margin, inference)
        made.append(Answer(finding=2, strategy=one, criteria=(systematic_repaired, gain), **of))
        made.append(Answer(finding=3, strategy=one, criteria=(tumor_left,), **of))
    return tuple(made)


def _on_the_same(by: dict[Any, pd.DataFrame], strategy: str) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The source network's scores and those of a fine-tuned one, of the patients that both scored; and of whom not."""
    if strategy not in by or not (by[strategy]["group"] == PATIENTS).any():
        raise DataError(f"no patient was scored after {strategy}")
    base, tuned = by[NONE], by[strategy].assign(strategy=strategy)
    known = tuned[tuned["group"] == PATIENTS].set_index(_KEYS).index
    patient = base["group"] == PATIENTS
    both = patient & pd.MultiIndex.from_frame(base[_KEYS]).isin(known)
    kept = base["participant_id"].isin(set(base.loc[both, "participant_id"]))
    lost = sorted(set(base.loc[patient & ~kept, "participant_id"]))
    return base[kept | ~patient], tuned, _without(lost, strategy)


def _without(lost: Sequence[str], strategy: str) -> str:
    people = f"{len(lost)} patient{'s' * (len(lost) > 1)}"
    return f"without {people} not scored after {strategy}: {named(lost, 3)}" if lost else ""


def _collapsed(rows: pd.DataFrame, network: str) -> str:
    """Why a network's scores in patients say nothing, or nothing: who is at the floor everywhere repairs no part."""
    mean = _mean_of(rows, PATIENTS)
    return f"{network} scores {mean:.2f} in patients: it has not learned to segment" if mean < LEAST_SCORE else ""


def _undecided(one: Criterion, reason: str) -> Criterion:
    """The criterion, which decides nothing if there is a reason."""
    return replace(one, word=UNDECIDED, reason=reason) if reason else one


def _unanswered(arm: Arm, strategies: Sequence[str], bundle: str, reason: str, level: float) -> tuple[Answer, ...]:
    lacking = _lacking(reason, level)
    asked = [(1, NONE), *((number, one) for one in strategies for number in (2, 3))]
    return tuple(
        Answer(finding=number, arm=arm, strategy=one, bundle=bundle, criteria=(lacking,)) for number, one in asked
    )


def _mean_of(rows: pd.DataFrame | None, group: str) -> float:
    """Of a metric between 0 and 1, the mean over people; infinite where there is none, or for another metric."""
    known = None if rows is None or rows.empty else METRICS[str(rows["metric"].iloc[0])]
    if rows is None or known is None or not known.bounded or known.better != "higher":
        return float("inf")
    own = rows[rows["group"] == group]
    return float(own.groupby("participant_id")["value"].mean().mean()) if len(own) else float("inf")


def _lacking(reason: str, level: float) -> Criterion:
    one = Estimate(name="n/a", value=float("nan"), level=level, status=Status.UNAVAILABLE)
    return Criterion(name="n/a", estimate=one, word=UNDECIDED, told="nothing was estimated", reason=reason.rstrip("."))


def _drop(total: Part, n: int, margin: float, level: float) -> Criterion:
    numbers: dict[str, Any] = {"value": total.value, "low": total.low, "high": total.high, "status": total.status}
    one = Estimate(name="drop", level=level, n=n, **numbers)
    return Criterion(
        name="drop",
        estimate=one,
        word=decided(one.low, one.high, margin),
        told=f"patients lose {number_of(one)} against unseen controls"
        if np.isfinite(one.value)
        else "what patients lose is not known",
        reason=_why(one, total.status),
    )


def _half(name: str, row: Any, before: Part, shown: str, level: float) -> Criterion:
    """Whether more than half of the systematic part, or less than half of the tumor's, is repaired."""
    left, low, high = (float(row[column]) for column in ("half_left", "half_left_low", "half_left_high"))
    if name == "systematic_repaired":
        left, low, high = -left, -high, -low
    numbers: dict[str, Any] = {"value": left, "low": low, "high": high, "status": str(row["status"])}
    one = Estimate(name=name, level=level, n=int(row["n_patients"]), **numbers)
    part = "systematic part" if name == "systematic_repaired" else "tumor's part"
    told = f"{number_of(one)} more than half of the {part} is {'repaired' if 'repaired' in name else 'left'}"
    if not np.isfinite(low):
        told = f"how much of the {part} is repaired is not known"
        return Criterion(name=name, estimate=one, word=UNDECIDED, told=told, reason=_why(one, row["status"]))
    if before.word != shown:
        reason = f"a {part} that could be repaired is not shown"
        return Criterion(name=name, estimate=one, word=UNDECIDED, told=told, reason=reason)
    return Criterion(name=name, estimate=one, word=decided(low, high), told=told)


def _gain(by: dict[Any, pd.DataFrame], strategy: str, margin: float, inference: Inference) -> Criterion:
    """Whether fine-tuning scores higher than training from scratch on the same patients."""
    name = "gain_over_scratch"
    if SCRATCH not in by or strategy == SCRATCH:
        one = Estimate(name=name, value=float("nan"), level=inference.level, status=Status.UNAVAILABLE)
        told = "training from scratch was not tried, or scored nobody"
        return Criterion(name=name, estimate=one, word=UNDECIDED, told=told)
    tuned, fresh = (part[part["group"] == PATIENTS].set_index(_KEYS)["value"] for part in (by[strategy], by[SCRATCH]))
    better = 1 if METRICS[str(by[strategy]["metric"].iloc[0])].better == "higher" else -1
    one, _ = paired(better * tuned, better * fresh, inference=inference)
    told = f"{strategy} scores {number_of(one, '+')} against training from scratch"
    if not np.isfinite(one.value):
        told = f"what {strategy} gains on training from scratch is not known"
    made = Criterion(
        name=name,
        estimate=one,
        word=decided(one.low, one.high, margin),
        told=told,
        reason=_why(one, one.status),
        without=_without(sorted(_people(tuned) - _people(fresh)), SCRATCH),
    )
    networks = {strategy: f"the network fine-tuned by {strategy}", SCRATCH: "the network trained from scratch"}
    return _undecided(made, next(filter(None, (_collapsed(by[one], said) for one, said in networks.items())), ""))


def _people(values: pd.Series) -> set[str]:
    return set(values.index.get_level_values(0))


def _why(one: Estimate, status: str) -> str:
    return "" if np.isfinite(one.low) else spoken(str(status))


def number_of(one: Estimate, sign: str = "", digits: int = 3) -> str:
    """A number with its interval, or the interval alone, as it stands in a sentence.

    Examples
    --------
    >>> number_of(Estimate(name="drop", value=-0.001, low=-0.002, high=-0.0001))
    '−0.001 [−0.002, 0.000]'
    >>> number_of(Estimate(name="drop", value=float("nan"), low=-0.02, high=0.01), "+")
    'between −0.020 and +0.010'
    """
    value, low, high = (f"{each:{sign}z.{digits}f}".replace("-", "−") for each in (one.value, one.low, one.high))
    if not np.isfinite(one.low):
        return value if np.isfinite(one.value) else "n/a"
    return f"{value} [{low}, {high}]" if np.isfinite(one.value) else f"between {low} and {high}"
