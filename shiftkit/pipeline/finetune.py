"""Fine-tuning as the command line does it: the patients of a cohort, and the controls for forgetting."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import CURVES, SCORES, SHOTS
from ..config import Finetune
from ..errors import ConfigError, ModelMismatchError
from ..files import write_text
from ..names import find_cohort, find_model
from ..runs import Run, cohort_digest
from ..tables import write_table
from ..types import Cohort, Predictions
from ..work import Progress, Work
from .inputs import find_patients, gather

if TYPE_CHECKING:
    from ..analyses.learning_curves import LearningCurves
    from ..analyses.scoring.table import ScoreTable
    from ..segmentation.network.checkpoints import Model
    from ..segmentation.transfer.plan import TransferPlan

SOURCE_FOLDER = "none"
"""Where learning curves keep what the source model predicts as it is; named for the strategy that trains nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """What learning curves ended with.

    Parameters
    ----------
    root : Path
        Folder of the run.
    curves : LearningCurves
        The numbers.
    failed : mapping of str to str
        Participants that could not be segmented, with the reason.
    """

    root: Path
    curves: "LearningCurves"
    failed: Mapping[str, str]

    def lines(self) -> tuple[str, ...]:
        """What the command line prints."""
        return str(self.curves), f"Tables: {self.root / 'tables'}", f"Figure: {self.root / 'figures' / 'shots.svg'}"


def finetune_cohort(
    model: str | Path,
    cohort: str | Path | Cohort,
    *,
    out: Path,
    reference: str | Path | Cohort | None = None,
    resume: bool = False,
    announce: "Callable[[TransferPlan], None] | None" = None,
    progress: Progress | None = None,
    **options: Any,
) -> Predictions | Learned:
    """Adapt a model to the patients of a cohort in folds, and predict each patient out of fold.

    Unseen controls are predicted by the fold models too, so that forgetting can be told from repair. With ``shots``
    the same is done with few patients and in repeated draws, beside training from scratch, and scored.

    Parameters
    ----------
    model, cohort : str or Path
        Path or name.
    out : Path
        Gets one checkpoint a fold and the folder ``predictions``; with ``shots`` one such folder a run under
        ``<strategy>/shots-<n>/draw-<d>``, and ``tables`` and ``figures``.
    reference : str or Path, optional
        Where the controls are; see `shiftkit.pipeline.gather`. Not used with ``shots``.
    resume : bool
        Continue an interrupted run in ``out``.
    announce : callable, optional
        Called with what will be loaded, trained and frozen, before anything is trained.
    progress : callable, optional
        Called as ``progress(done, total, text)``.
    **options
        Settings of `shiftkit.config.Finetune`; what most of them mean stands at
        `shiftkit.segmentation.transfer.finetuning.finetune`.

    Returns
    -------
    Predictions or Learned
        The second with ``shots``.

    Raises
    ------
    ConfigError
        If an option is unknown or cannot be met, or ``out`` is in use.
    DataError, ModelMismatchError
        If model and cohort cannot be used together.
    """
    from ..segmentation.transfer.strategies import find_strategy

    settings = Finetune(**options)
    find_strategy(settings.strategy)  # before a cohort is looked up, which can mean that the phantom is made
    if settings.shots:
        return _finetune_shots(model, find_cohort(cohort, progress), out, settings, resume, announce, progress)
    from ..segmentation.transfer.finetuning import Transfer, finetune

    inputs = gather(model, cohort, reference, progress=progress, bundles=settings.bundles)
    return finetune(
        inputs.model,
        inputs.patients,
        controls=inputs.controls,
        out=out,
        transfer=Transfer(strategy=settings.strategy, **_shared(settings)),
        resume=resume,
        announce=announce,
        work=Work(progress=progress),
    )


def _shared(settings: Finetune) -> dict[str, Any]:
    """Settings that mean the same with all patients and with few."""
    return {name: getattr(settings, name) for name in ("folds", "modality", "bundles", "epochs", "device", "seed")}


def _finetune_shots(
    model: str | Path,
    cohort: Cohort,
    out: Path,
    settings: Finetune,
    resume: bool,
    announce: "Callable[[TransferPlan], None] | None",
    progress: Progress | None,
) -> Learned:
    from ..analyses.learning_curves import learning_curves
    from ..analyses.statistics.inference import Inference
    from ..segmentation.network.checkpoints import load_model
    from ..segmentation.prediction.cohort import predict
    from ..segmentation.transfer.finetuning import Transfer
    from ..segmentation.transfer.shots import finetune_shots

    source, patients = load_model(find_model(model)), find_patients(cohort)
    strategies = tuple(dict.fromkeys((settings.strategy, "scratch")))
    _require_curves(source, patients, strategies, settings)
    run, work = Run.open(out, resume), Work(progress=progress)
    made = finetune_shots(
        source,
        patients,
        out=out,
        shots=settings.shots,
        draws=settings.draws,
        strategies=strategies,
        transfer=Transfer(**_shared(settings)),
        resume=resume,
        announce=announce,
        work=work,
    )
    untouched = predict(source, patients, out=out / SOURCE_FOLDER, device=settings.device, resume=resume, work=work)
    scored = partial(_scored, source, patients, settings.jobs, progress)
    curves = learning_curves(
        {key: scored(predictions, predictions.cohort.root.parent) for key, predictions in made.items()},
        zero_shot=scored(untouched, out / SOURCE_FOLDER),
        inference=Inference(seed=settings.seed),
    )
    failed = {key: why for predictions in (untouched, *made.values()) for key, why in predictions.failed.items()}
    _write(run, curves, failed, settings, {"model": source.digest, "cohort": cohort_digest(patients)})
    return Learned(root=out, curves=curves, failed=failed)


def _require_curves(source: "Model", patients: Cohort, strategies: Sequence[str], settings: Finetune) -> None:
    """Refuse learning curves that cannot be made, before anything is trained.

    Raises
    ------
    ConfigError
        If the strategy uses no patients, or there are too few of them.
    ModelMismatchError
        If the cohort has none of the bundles that the source model predicts.
    """
    from ..segmentation.transfer.shots import check_shots

    if settings.strategy == SOURCE_FOLDER:
        raise ConfigError(
            "--shots needs a strategy that uses patients; none uses nobody. Name another: the source model as it is, "
            "is drawn beside it in any case."
        )
    check_shots(patients, settings.shots, settings.draws, strategies, settings.folds, settings.seed)
    if not set(source.bundles) & set(patients.bundles):
        raise ModelMismatchError(
            f"Learning curves compare with the source model as it is, on bundles that it predicts; {source.name} "
            f"predicts {' '.join(map(str, source.bundles))}, cohort {patients.name} has reference masks of "
            f"{' '.join(map(str, patients.bundles)) or 'no bundle'}. Name a model for these bundles, or fine-tune "
            "without --shots."
        )


def _scored(
    source: "Model", patients: Cohort, jobs: int, progress: Progress | None, predictions: Predictions, folder: Path
) -> "ScoreTable":
    """Score one run, keep its table, return what the source predicts too: an added bundle has no zero-shot Dice."""
    from ..analyses.scoring.study import score

    known = {(bundle.name, str(bundle.hemisphere)) for bundle in source.bundles}
    table = score(predictions, patients, metrics=("dice",), jobs=jobs, progress=progress)
    write_table(table.frame, SCORES, folder / "tables" / "scores.tsv")
    keep = [pair in known for pair in zip(table.frame["bundle"], table.frame["hemisphere"], strict=True)]
    return dataclasses.replace(table, frame=table.frame[keep])


def _write(
    run: Run, curves: "LearningCurves", failed: Mapping[str, str], settings: Finetune, inputs: dict[str, str]
) -> None:
    from ..reports.figures import draw

    run.write_table(curves.runs, SHOTS)
    run.write_table(curves.curves, CURVES)
    finding = curves.finding()
    write_text(run.root / "figures" / f"{finding.key}.svg", draw(finding, "page", finding.key).standalone)
    run.write_failures(failed)
    run.write_configuration({"finetune": settings})
    run.write_record(verdict=finding.claim, configuration=dataclasses.asdict(settings), inputs=inputs)
