"""What a replication ends with."""

from dataclasses import dataclass, field

import pandas as pd

from ...results import Result
from .answers import QUESTIONS, Answer
from .conditions import Arm


@dataclass(frozen=True, kw_only=True)
class Replication(Result):
    """The published study's three findings on two cohorts.

    ``table`` is in the columns of ``shiftkit.catalogue.REPLICATION``, a row a criterion of an answer; ``claim`` has
    each finding's answers, of all bundles together and by the strategy that they are judged by.

    Parameters
    ----------
    answers : tuple of Answer
        Of every input, training, strategy, and bundle.
    primary : str
        The strategy that the findings are judged by.
    conditions, contrasts : DataFrame
        ``shiftkit.catalogue.CONDITIONS`` and ``CONTRASTS``.
    recovery, curves : DataFrame
        What fine-tuning repairs, and scores against numbers of patients, of all arms: ``shiftkit.catalogue.RECOVERY``
        and ``CURVES`` with ``training`` and, of the second, ``modality``; without rows where there is nothing.
    arms : tuple of Arm
        The scores.
    """

    answers: tuple[Answer, ...]
    primary: str
    conditions: pd.DataFrame
    contrasts: pd.DataFrame
    recovery: pd.DataFrame
    curves: pd.DataFrame
    arms: tuple[Arm, ...] = field(repr=False)

    def of(self, finding: int) -> tuple[Answer, ...]:
        """What a finding is judged by: one answer an arm, of all bundles together."""
        strategy = "none" if finding == 1 else self.primary
        return tuple(
            one for one in self.answers if one.finding == finding and one.bundle == "all" and one.strategy == strategy
        )

    def __str__(self) -> str:
        lines = [
            f"{n}. {title}\n   " + "\n   ".join(one.sentence for one in self.of(n)) for n, title in QUESTIONS.items()
        ]
        return "\n".join(lines)
