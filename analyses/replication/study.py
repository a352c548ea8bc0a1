"""Whether the published study's three findings hold on two cohorts."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from ...catalogue import CONDITIONS, CONTRASTS, CURVES, RECOVERY, REPLICATION
from ...work import Work
from ..statistics.inference import Inference
from .answers import Answer, answers
from .conditions import SCRATCH, Arm, adjusted, conditions, contrasts
from .findings import claim_of, findings, numbers_of
from .result import Replication


def replicate(
    arms: Sequence[Arm],
    *,
    primary: str,
    margin: float = 0.02,
    recovery: pd.DataFrame | None = None,
    curves: pd.DataFrame | None = None,
    inference: Inference = Inference(),
    work: Work = Work(),
) -> Replication:
    """Answer the three findings from scores, for each input, each bundle and each strategy.

    What is asked, and what decides, says `shiftkit.analyses.replication.answers.answers`; single bundles have intervals
    widened after Bonferroni, and are asked of the primary strategy only.

    Parameters
    ----------
    arms : sequence of Arm
        Scores of patients and unseen controls by source and fine-tuned networks, an arm an input and kind of training.
    primary : str
        The strategy that the findings are judged by, chosen before the scores are known.
    margin : float
        A difference smaller than this counts as none.
    recovery, curves : DataFrame, optional
        What `decompose` and `finetune` with ``shots`` made of them, to be shown.

    References
    ----------
    Riccardi C et al. Medical Image Analysis 107:103766 (2025), doi 10.1016/j.media.2025.103766.
    """
    found: list[Answer] = []
    for arm in work.each(arms, "Answering"):
        # One that scored nobody leaves no rows, and is asked nevertheless if the findings are judged by it.
        tried = tuple(name for name in dict.fromkeys((primary, *arm.strategies)) if name != SCRATCH)
        found += answers(arm, tried, margin, inference)
        at_once = replace(inference, level=1 - (1 - inference.level) / max(1, len(arm.bundles)))
        if len(arm.bundles) > 1:
            found += [one for name in arm.bundles for one in answers(arm, (primary,), margin, at_once, name)]
    differences = pd.concat([contrasts(arm, inference) for arm in arms], ignore_index=True)
    result = Replication(
        table=pd.DataFrame([row for one in found for row in one.rows])[list(REPLICATION.columns)],
        answers=tuple(found),
        primary=primary,
        conditions=pd.concat([conditions(arm, inference) for arm in arms])[list(CONDITIONS.columns)],
        contrasts=adjusted(differences)[list(CONTRASTS.columns)],
        recovery=pd.DataFrame(columns=[*RECOVERY.columns, "training"]) if recovery is None else recovery,
        curves=pd.DataFrame(columns=[*CURVES.columns, "training"]) if curves is None else curves,
        arms=tuple(arms),
    )
    estimates = tuple(one for number in (1, 2, 3) for _, one in numbers_of(result.of(number)))
    result = replace(result, claim=claim_of(result), estimates=estimates)
    return replace(result, findings=findings(result))
