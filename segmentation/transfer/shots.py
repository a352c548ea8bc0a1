"""Learning curves: how many patients fine-tuning takes, in repeated draws, beside training without a source."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError
from ...types import Cohort, Predictions
from ...work import Work
from ..network.checkpoints import Model
from ..training.folds import fold_members, require_shots
from .finetuning import Announce, Finetuning, Transfer, load_patients
from .strategies import find_strategy


def finetune_shots(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    shots: Sequence[int],
    draws: int = 3,
    strategies: Sequence[str] = ("decoder", "scratch"),
    transfer: Transfer = Transfer(),
    resume: bool = False,
    announce: Announce | None = None,
    work: Work = Work(),
) -> dict[tuple[str, int, int], Predictions]:
    """How many patients it takes: every strategy with every number of patients, in repeated draws.

    Strategies share folds and draws, so each is compared with ``scratch`` on the same patients. Everything that can
    be refused is refused before the first network is trained.

    Parameters
    ----------
    model, cohort, resume, work
        As in `finetune`.
    out : Path
        Gets one folder ``<strategy>/shots-<n>/draw-<d>`` each, with draws counted from 0.
    shots : sequence of int
        Numbers of patients, those that choose the epoch included.
    draws : int
        Random choices of patients a number.
    strategies : sequence of str
        Names in `strategies.STRATEGIES`.
    transfer : Transfer
        What all have in common.
    announce : callable, optional
        Called with the plan of each strategy once.

    Returns
    -------
    dict
        Out-of-fold predictions by (strategy, shots, draw).

    Raises
    ------
    ConfigError
        As in `check_shots` and `finetune`.
    """
    check_shots(cohort, shots, draws, strategies, transfer.folds, transfer.seed)
    runs = [(s, n, d) for s in dict.fromkeys(strategies) for n in sorted(set(shots)) for d in range(draws)]
    samples = load_patients(Finetuning(model=model, cohort=cohort, out=out, transfer=transfer).start, cohort, work)
    made: dict[tuple[str, int, int], Predictions] = {}
    for strategy, count, draw in runs:
        one = dataclasses.replace(transfer, strategy=strategy, shots=count, draw=draw)
        folder = out / strategy / f"shots-{count}" / f"draw-{draw}"
        run = Finetuning(model=model, cohort=cohort, out=folder, transfer=one)
        run.require_possible(resume)
        if announce is not None and not any(done[0] == strategy for done in made):
            announce(run.plan)
        failed: dict[str, str] = {}
        for fold, missing in enumerate(run.folds(samples, Work()), start=1):
            failed |= missing
            # One count of folds over all runs, instead of a bar for every fold of every run.
            work.report(len(made) * transfer.folds + fold, len(runs) * transfer.folds, "Learning curves, folds")
        made[strategy, count, draw] = run.predictions(failed)
    return made


def check_shots(
    cohort: Cohort, shots: Sequence[int], draws: int, strategies: Sequence[str], folds: int, seed: int
) -> None:
    """Refuse learning curves that cannot be made, with a `ConfigError`.

    That is fewer patients outside the largest fold than asked for, no draw, or an unknown strategy.
    """
    members = fold_members(cohort, folds, seed)
    participants = {case.participant_id for case in cohort}
    require_shots(list(shots), len(participants) - max(map(len, members)))
    if draws < 1:
        raise ConfigError(f"Learning curves need at least one draw; `draws` is {draws}.")
    for strategy in strategies:
        find_strategy(strategy)
