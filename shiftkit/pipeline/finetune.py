"""Fine-tuning as the command line does it: the patients of a cohort, and the controls for forgetting."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..catalogue import CURVES, SCORES, SHOTS
from ..cohorts.folder import cohort_digest, require_own_files
from ..errors import ConfigError, ModelMismatchError
from ..names import find_cohort
from ..runs import Outcome, Run
from ..tables import write_table
from ..types import Cohort, Predictions
from ..work import Work
from .inputs import (
    Inputs,
    bystanders,
    find_patients,
    gather,
    notes_of,
    one_session,
    open_model,
    said_of_input,
    warnings_of,
)
from .story import Ending, counted, end

if TYPE_CHECKING:
    from ..analyses.scoring.table import ScoreTable
    from ..cohorts.layout import Filters
    from ..segmentation.network.checkpoints import Model
    from ..segmentation.transfer.finetuning import Transfer
    from ..segmentation.transfer.plan import TransferPlan
    from ..segmentation.transfer.shots import Shots

SOURCE_FOLDER = "none"
"""Where learning curves keep what the source model predicts as it is; named for the strategy that trains nothing."""

Announce = Callable[["TransferPlan"], Any]


def finetune_cohort(
    model: "str | Path | Model",
    cohort: str | Path | Cohort,
    *,
    transfer: "Transfer",
    reference: str | Path | Cohort | None = None,
    filters: "Filters | str | Path | None" = None,
    session: str | None = None,
    fold: int | None = None,
    work: Work = Work(),
    **where: Any,
) -> "Predictions | Model":
    """Adapt a model to the patients of a cohort in folds, and predict each patient out of fold.

    Unseen controls are predicted by the fold models too, so that forgetting can be told from repair. For ``reference``,
    ``filters`` and ``session`` see `shiftkit.pipeline.inputs.gather`; ``where`` is ``out``, ``resume`` and
    ``announce`` of `shiftkit.segmentation.transfer.finetuning.finetune`, which says what can go wrong. Of one ``fold``
    alone the model is made, see `shiftkit.segmentation.transfer.finetuning.finetune_fold`.
    """
    from ..segmentation.transfer.finetuning import Finetuning, finetune, finetune_fold, require_place
    from ..segmentation.transfer.strategies import find_strategy

    # Before a cohort is looked up, which can mean that the phantom is made.
    find_strategy(transfer.strategy)
    require_place(where["out"], fold, transfer, where.get("resume", False))

    def begin(named: Inputs) -> None:
        for part in named.cohorts.values():
            require_own_files(part)
        run = Finetuning(
            model=named.network, cohort=named.patients, out=where["out"], transfer=transfer, controls=named.controls
        )
        run.require_possible(where.get("resume", False) or fold is not None)
        work.begin(run.would if fold is None else run.would_train(fold), run.cost, run.out)

    inputs = gather(
        model,
        cohort,
        reference,
        bundles=transfer.bundles,
        filters=filters,
        session=session,
        begin=begin,
        work=work,
    )
    if fold is not None:
        return finetune_fold(inputs.network, inputs.patients, fold, transfer=transfer, work=work, **where)
    return finetune(inputs.network, inputs.patients, controls=inputs.controls, transfer=transfer, work=work, **where)


def learn(
    run: Run,
    model: "str | Path | Model",
    cohort: str | Path | Cohort,
    *,
    shots: Sequence[int],
    draws: int,
    transfer: "Transfer",
    filters: "Filters | str | Path | None" = None,
    announce: Announce | None = None,
    session: str | None = None,
    work: Work = Work(),
) -> Outcome:
    """Adapt a model to few patients in repeated draws, beside training from scratch, and score: learning curves.

    The run gets what `finetune_cohort` writes under ``<strategy>/shots-<n>/draw-<d>``, and tables and report. Several
    processes of a launcher share the fine-tunings; what is made from these, the first makes, and it alone has numbers.
    """
    from ..analyses.learning_curves import learning_curves
    from ..analyses.statistics.inference import Inference
    from ..segmentation.prediction.cohort import predict
    from ..segmentation.training.processes import join_processes
    from ..segmentation.transfer.shots import Shots, finetune_shots
    from ..segmentation.transfer.strategies import find_strategy

    find_strategy(transfer.strategy)
    run.require_own()
    found = find_cohort(cohort, filters=filters, work=work)
    patients, gone = one_session(find_patients(found), session)
    source = open_model(model)
    strategies = tuple(dict.fromkeys((transfer.strategy, "scratch")))  # scratch asked for is not run twice
    curves_of = Shots(numbers=tuple(shots), draws=draws, strategies=strategies, transfer=transfer)
    _require_curves(source, patients, curves_of)
    curves_of.begin(source, patients, run.root, work)
    near = said_of_input(source, patients, work=work)
    processes = join_processes(transfer.device)
    processes.gather(None)  # all have seen the folder before anything in it changes
    if processes.is_main:
        run.open()
    options: dict[str, Any] = {"resume": run.resume, "work": work}
    made = finetune_shots(source, patients, curves_of, out=run.root, announce=announce, **options)
    if not processes.is_main:
        return Outcome(
            table=pd.DataFrame(), claim="The first process has the learning curves.", estimates=(), root=run.root
        )
    # Zero patients: where each curve begins.
    untouched = predict(source, patients, out=run.root / SOURCE_FOLDER, device=transfer.device, **options)
    curves = learning_curves(
        {key: _scored(source, patients, one, one.cohort.root.parent, work) for key, one in made.items()},
        zero_shot=_scored(source, patients, untouched, run.root / SOURCE_FOLDER, work),
        inference=Inference(seed=transfer.seed),
    )
    ending = Ending(
        result=curves,
        title="Learning curves of fine-tuning",
        tables=((curves.runs, SHOTS), (curves.curves, CURVES)),
        digests={"model": source.digest, "cohort": cohort_digest(patients)},
        failed={key: why for predictions in (untouched, *made.values()) for key, why in predictions.failed.items()},
        cohorts={"patients": (patients, {})},
        left_out=counted("patients", {**bystanders(found), **gone}),
        notes=notes_of(*near),
        warnings=warnings_of(source, patients, *near),
        said=(str(curves), f"Tables: {run.root / 'tables'}", f"Figure: {run.root / 'figures' / 'shots.svg'}"),
    )
    return end(run, ending, work)


def _require_curves(source: "Model", patients: Cohort, curves: "Shots") -> None:
    """Refuse learning curves that cannot be made, before anything is trained."""
    if curves.transfer.strategy == SOURCE_FOLDER:
        raise ConfigError(
            "`shots` needs a strategy that uses patients; none uses nobody. Name another: the source model as it is, "
            "is drawn beside it in any case."
        )
    curves.require_possible(patients)
    source.require_input(patients)
    if not set(source.bundles) & set(patients.bundles):
        raise ModelMismatchError(
            f"Learning curves compare with the source model as it is, on bundles that it predicts; {source.name} "
            f"predicts {' '.join(map(str, source.bundles))}, cohort {patients.name} has reference masks of "
            f"{' '.join(map(str, patients.bundles)) or 'no bundle'}. Name a model for these bundles, or fine-tune "
            "without `shots`."
        )


def _scored(source: "Model", patients: Cohort, predictions: Predictions, folder: Path, work: Work) -> "ScoreTable":
    """Score one run, keep its table, return what the source predicts too: an added bundle has no zero-shot Dice."""
    from ..analyses.scoring.study import score

    known = {(bundle.name, str(bundle.hemisphere)) for bundle in source.bundles}
    table = score(predictions, patients, metrics=("dice",), work=work)
    write_table(table.frame, SCORES, folder / "tables" / "scores.tsv")
    keep = [pair in known for pair in zip(table.frame["bundle"], table.frame["hemisphere"], strict=True)]
    return dataclasses.replace(table, frame=table.frame[keep])
