"""Learning curves: how many patients fine-tuning takes, in repeated draws, beside training without a source."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import ConfigError
from ...types import Cohort, Predictions
from ...work import Progress
from ..network.checkpoints import Model
from ..training.folds import fold_members, require_shots
from .finetuning import finetune, load_patients, widened
from .plan import TransferPlan
from .strategies import find_strategy


def finetune_shots(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    shots: Sequence[int],
    draws: int = 3,
    strategies: Sequence[str] = ("decoder", "scratch"),
    folds: int = 4,
    modality: str | None = None,
    bundles: Sequence[str] = (),
    epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    announce: Callable[[TransferPlan], None] | None = None,
    progress: Progress | None = None,
) -> dict[tuple[str, int, int], Predictions]:
    """How many patients it takes: every strategy with every number of patients, in repeated draws.

    Strategies share folds and draws, so each is compared with ``scratch`` on the same patients. Everything that can
    be refused is refused before the first network is trained.

    Parameters
    ----------
    model, cohort, folds, modality, bundles, epochs, device, seed, resume, progress
        As in `finetune`.
    out : Path
        Gets one folder ``<strategy>/shots-<n>/draw-<d>`` each, with draws counted from 0.
    shots : sequence of int
        Numbers of patients, those that choose the epoch included.
    draws : int
        Random choices of patients a number.
    strategies : sequence of str
        Names in `strategies.STRATEGIES`.
    announce : callable, optional
        Called with the plan of each strategy once.

    Returns
    -------
    dict
        Out-of-fold predictions by (strategy, shots, draw).

    Raises
    ------
    ConfigError
        If a number of patients is larger than what is left outside the largest fold, or as in `finetune`.
    """
    check_shots(cohort, shots, draws, strategies, folds, seed)
    runs = [(s, n, d) for s in dict.fromkeys(strategies) for n in sorted(set(shots)) for d in range(draws)]
    told = _Progress(progress, len(runs) * folds)
    samples = load_patients(widened(model, cohort, modality, bundles), cohort, progress)
    made: dict[tuple[str, int, int], Predictions] = {}
    for strategy, count, draw in runs:
        first = not any(done[0] == strategy for done in made)
        made[strategy, count, draw] = finetune(
            model,
            cohort,
            out=out / strategy / f"shots-{count}" / f"draw-{draw}",
            strategy=strategy,
            folds=folds,
            shots=count,
            draw=draw,
            modality=modality,
            bundles=bundles,
            epochs=epochs,
            device=device,
            seed=seed,
            resume=resume,
            samples=samples,
            announce=announce if first else None,
            progress=told,
        )
    return made


def check_shots(
    cohort: Cohort, shots: Sequence[int], draws: int, strategies: Sequence[str], folds: int, seed: int
) -> None:
    """Refuse learning curves that cannot be made.

    Raises
    ------
    ConfigError
        If there are fewer patients outside the largest fold than asked for, no draw, or an unknown strategy.
    """
    members = fold_members(cohort, folds, seed)
    participants = {case.participant_id for case in cohort}
    require_shots(list(shots), len(participants) - max(map(len, members)))
    if draws < 1:
        raise ConfigError(f"Learning curves need at least one draw; --draws is {draws}.")
    for strategy in strategies:
        find_strategy(strategy)


@dataclasses.dataclass
class _Progress:
    """One count of folds over all runs, instead of bars for every fold of every run."""

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self, done: int, total: int, text: str) -> None:
        if self.progress is None:
            return
        if text.startswith("Segmenting fold"):
            self.done += done == total
            self.progress(self.done, self.total, "Learning curves, folds")
        elif not text.startswith("Fine-tuning"):
            self.progress(done, total, text)
