"""Learning curves: how many patients fine-tuning takes, in repeated draws, beside training without a source."""

import dataclasses
from itertools import product
from pathlib import Path

from ...errors import ConfigError
from ...types import Cohort, Predictions
from ...work import Cost, Work
from ..network.checkpoints import Model
from ..training.folds import fold_members, require_shots
from ..training.processes import require_pieces
from .finetuning import Announce, Finetuning, Transfer, finetune_all
from .strategies import find_strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shots:
    """Which fine-tunings make learning curves: every strategy with every number of patients, in repeated draws.

    ``numbers`` include the patients that choose the epoch; ``transfer`` is what all have in common.
    """

    numbers: tuple[int, ...]
    transfer: Transfer
    draws: int = 3
    strategies: tuple[str, ...] = ("decoder", "scratch")

    def require_possible(self, cohort: Cohort) -> None:
        """Refuse no draw, unknown strategies, and more patients than are outside the largest fold: a `ConfigError`."""
        members = fold_members(cohort, self.transfer.folds, self.transfer.seed)
        participants = {case.participant_id for case in cohort}
        require_shots(list(self.numbers), len(participants) - max(map(len, members)))
        if self.draws < 1:
            raise ConfigError(f"Learning curves need at least one draw; `draws` is {self.draws}.")
        for strategy in self.strategies:
            find_strategy(strategy)

    @property
    def runs(self) -> list[tuple[str, int, int]]:
        """Every (strategy, shots, draw)."""
        return list(product(dict.fromkeys(self.strategies), sorted(set(self.numbers)), range(self.draws)))

    def run(self, model: Model, cohort: Cohort, out: Path, strategy: str, count: int, draw: int) -> Finetuning:
        """One of the fine-tunings, in its folder below ``out``."""
        layers = self.transfer.layers if strategy == self.transfer.strategy else ()
        transfer = dataclasses.replace(self.transfer, strategy=strategy, shots=count, draw=draw, layers=layers)
        folder = out / strategy / f"shots-{count}" / f"draw-{draw}"
        return Finetuning(model=model, cohort=cohort, out=folder, transfer=transfer)

    def begin(self, model: Model, cohort: Cohort, out: Path, work: Work) -> None:
        """Refuse what cannot be made, before anything is read or trained; see `shiftkit.work.Work.begin`."""
        self.require_possible(cohort)
        require_pieces(len(self.runs) * self.transfer.folds, "folds")
        cost = Cost()
        for strategy, count, draw in self.runs:
            run = self.run(model, cohort, out, strategy, count, draw)
            run.require_possible(resume=True)
            cost += run.cost
        work.begin(
            f"Would adapt model {model.name} to {', '.join(map(str, sorted(set(self.numbers))))} of the {len(cohort)} "
            f"patients of {cohort.name} by {' and '.join(dict.fromkeys(self.strategies))}, {self.draws} times each in "
            f"{self.transfer.folds} folds, and score everybody out of fold.",
            cost,
            out,
        )


def finetune_shots(
    model: Model,
    cohort: Cohort,
    shots: Shots,
    *,
    out: Path,
    resume: bool = False,
    announce: Announce | None = None,
    work: Work = Work(),
) -> dict[tuple[str, int, int], Predictions]:
    """Learning curves: how many patients it takes, beside training without a source.

    Strategies share folds and draws, so each is compared with ``scratch`` on the same patients. Everything that can
    be refused is refused before the first network is trained, with the errors of `finetune`. ``out`` gets one folder
    ``<strategy>/shots-<n>/draw-<d>`` each, with draws counted from 0; ``announce`` is told each strategy's plan once.

    Returns
    -------
    dict
        Out-of-fold predictions by (strategy, shots, draw).
    """
    shots.begin(model, cohort, out, work)
    runs = {one: shots.run(model, cohort, out, *one) for one in shots.runs}
    for run in runs.values():
        run.require_possible(resume)
    if announce is not None:
        for run in {one.transfer.strategy: one for one in runs.values()}.values():
            announce(run.plan)
    return dict(zip(runs, finetune_all(list(runs.values()), work=work, bars=False), strict=True))
