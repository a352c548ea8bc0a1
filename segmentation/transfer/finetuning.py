"""Transfer: a source model adapted to patients in folds, so that each patient is scored unseen."""

import copy
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError, DataError, ModelMismatchError
from ...files import write_text
from ...types import Bundle, Case, Cohort, Predictions
from ...work import Work
from ..network.checkpoints import Model, is_whole, load_model, save_model
from ..network.networks import build_network
from ..prediction.calibration import choose_thresholds, measure_overconfidence
from ..prediction.cohort import Segmenter, close_predictions, open_predictions
from ..samples.cache import SampleCache, load_samples
from ..training.epochs import Anchor, Restraint
from ..training.fitting import fit, save_log
from ..training.folds import fold_members, split_fold
from ..training.recipes import digests
from ..training.states import StateFolder
from .adaptation import add_bundles, add_inputs, normalizations, refresh_statistics
from .plan import TransferPlan, plan_transfer
from .strategies import Strategy, find_strategy, freeze

Announce = Callable[[TransferPlan], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """How a model is adapted to patients.

    Parameters
    ----------
    strategy : str
        A name in `strategies.STRATEGIES`.
    folds : int
        Folds over participants.
    shots : int, optional
        Use only so many patients a fold, those that choose the epoch included.
    draw : int
        Which random choice of them; the same draw of fewer shots is a subset.
    modality : str, optional
        A wider input than the model's, such as ``t1w+fa``.
    bundles : sequence of str
        Labels of bundles to add to the model's; the patients need reference masks of them.
    epochs : int, optional
        Instead of the strategy's own number.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    seed : int
        Of folds, order and augmentation.
    """

    strategy: str = "decoder"
    folds: int = 4
    shots: int | None = None
    draw: int = 0
    modality: str | None = None
    bundles: Sequence[str] = ()
    epochs: int | None = None
    device: str = "auto"
    seed: int = 0


def finetune(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    transfer: Transfer = Transfer(),
    controls: Cohort | None = None,
    samples: SampleCache | None = None,
    resume: bool = False,
    announce: Announce | None = None,
    work: Work = Work(),
) -> Predictions:
    """Adapt a model to patients in folds and predict each patient with the model that never saw it.

    Within each fold one in five training patients (at least one of three or more) chooses epoch and
    thresholds; the test fold is never looked at.

    Parameters
    ----------
    model : Model
        The source model.
    cohort : Cohort
        Patients with reference masks.
    out : Path
        Gets ``fold-1`` … with a checkpoint and what became of each tensor (``transfer.json``), ``predictions`` of
        the patients, and ``controls`` if given.
    transfer : Transfer
        What is trained, in how many folds, on whom.
    controls : Cohort, optional
        Predicted by the fold models in turn, to measure forgetting.
    samples : SampleCache, optional
        The patients on the model's grid, as `load_patients` gives them: for several fine-tunings from one model.
    resume : bool
        Continue in ``out``; folds that are finished are kept.
    announce : callable, optional
        Called once with what will be loaded, trained and frozen, before anything is trained.
    work : Work
        Whom to tell how far it is.

    Returns
    -------
    Predictions
        Out of fold, of the patients.

    Raises
    ------
    ConfigError
        If the strategy is unknown or does not suit the network, or there are fewer participants than folds or shots.
    DataError
        If a patient lacks the model's modality, or nobody the bundles to add.
    ModelMismatchError
        If the cohort has none of the model's bundles, or an image does not fit the model.
    """
    run = Finetuning.prepare(model, cohort, out, transfer, resume)
    if announce is not None:
        announce(run.plan)
    failed = {key: why for fold in run.folds(controls, samples, work) for key, why in fold.items()}
    if controls is not None:
        close_predictions(out / "controls", controls, run.made_by, {})
    return close_predictions(out / "predictions", cohort, run.made_by, failed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetuning:
    """A fine-tuning that can be made, fold by fold; nothing is written before the first.

    Parameters
    ----------
    start : Model
        The source model, with room for what is added.
    cohort, out, transfer
        As in `finetune`.
    strategy : Strategy
        What is trained.
    plan : TransferPlan
        What becomes of each tensor.
    splits : tuple
        Of each fold: participants that are tested, cases to train on, cases that choose the epoch.
    made_by : dict
        What the folder of predictions says of how it was made.
    """

    start: Model
    cohort: Cohort
    out: Path
    transfer: Transfer
    strategy: Strategy
    plan: TransferPlan
    splits: tuple[tuple[frozenset[str], list[Case], list[Case]], ...]
    made_by: dict[str, Any]

    @classmethod
    def prepare(cls, model: Model, cohort: Cohort, out: Path, transfer: Transfer, resume: bool) -> "Finetuning":
        """Refuse what cannot be made; see `finetune` for the errors."""
        strategy = find_strategy(transfer.strategy, transfer.epochs)
        start = widened(model, cohort, transfer)
        if strategy.statistics:
            normalizations(start.network)
        folds, seed = transfer.folds, transfer.seed
        splits = tuple(
            (members, *split_fold(cohort, members, seed + number, transfer.shots, transfer.draw))
            for number, members in enumerate(fold_members(cohort, folds, seed), start=1)
        )
        if out.is_dir() and any(out.iterdir()) and not resume:
            raise ConfigError(f"Fine-tuning needs an empty folder; {out} holds files already. Give `resume` or `out`.")
        return cls(
            start=start,
            cohort=cohort,
            out=out,
            transfer=transfer,
            strategy=strategy,
            plan=plan_transfer(model, start, transfer.strategy, strategy),
            splits=splits,
            made_by={
                "Name": f"{model.name}+{transfer.strategy}",
                "Source": model.digest,
                "Modality": start.modality,
                "Folds": folds,
                "Seed": seed,
            },
        )

    def folds(self, controls: Cohort | None, samples: SampleCache | None, work: Work) -> Iterator[dict[str, str]]:
        """Tune and segment one fold after another; yields whom each could not segment, with the reason."""
        count = len(self.splits)
        folders = [self.out / f"fold-{number}" for number in range(1, count + 1)]
        if samples is None and not all(map(is_whole, folders)):
            # First of all: patients that do not fit the model are found before anything is written.
            samples = load_patients(self.start, self.cohort, work)
        open_predictions(self.out / "predictions", self.cohort, self.made_by, resume=True)
        if controls is not None:
            open_predictions(self.out / "controls", controls, self.made_by, resume=True)
        for number, (folder, (members, training, inner)) in enumerate(zip(folders, self.splits, strict=True), start=1):
            if samples is None or is_whole(folder):
                tuned = load_model(folder)
            else:
                seed, stage = self.transfer.seed + number, f"Fine-tuning fold {number}/{count}"
                tuned = self._tune(samples, training, inner, folder, seed, stage, work)
            segmenter = Segmenter(models=[tuned], device=self.transfer.device)
            test = [case for case in self.cohort if case.participant_id in members]
            failed = segmenter.segment(test, self.out / "predictions", work, f"Segmenting fold {number}/{count}")
            if controls is not None:
                share = controls.cases[number - 1 :: count]
                stage = f"Segmenting controls, fold {number}/{count}"
                segmenter.segment(share, self.out / "controls", work, stage)
            yield failed

    def _tune(
        self,
        samples: SampleCache,
        training: list[Case],
        inner: list[Case],
        folder: Path,
        seed: int,
        stage: str,
        work: Work,
    ) -> Model:
        strategy, source = self.strategy, self.start
        network = self._network(seed)
        trained, frozen = freeze(network, strategy.trains)
        learned, held_out = (samples.select([case.key for case in cases]) for cases in (training, inner))
        if strategy.statistics:
            refresh_statistics(network, learned)
        participants = digests([*training, *inner], source.modality)
        settings: dict[str, Any] = {
            "source": source.name,
            "source_digest": source.digest,
            "strategy": self.plan.strategy,
            "what": strategy.description,
            "tensors_loaded": len(self.plan.loaded),
            "tensors_trained": len(trained),
            "tensors_frozen": len(frozen),
            "participants_trained_on": len(training),
            "participants_tuned_on": len(inner),
            "seed": seed,
        }
        write_text(folder / "transfer.json", self.plan.to_json())
        if trained:
            state = StateFolder(folder / "state", {"strategy": self.plan.strategy, "participants": participants})
            result = fit(
                network,
                learned,
                held_out,
                strategy.schedule,
                seed=seed,
                patch=source.patch,
                device=self.transfer.device,
                restraint=_restraint(strategy, network),
                state=state,
                stage=stage,
                work=work,
            )
            save_log(result.log, folder)
            settings |= {
                **dataclasses.asdict(strategy.schedule),
                "precision": result.precision,
                "best_epoch": result.best_epoch,
                "inner_validation_dice": round(result.best_dice, 4),
            }
        seen = source.participants if strategy.keeps_source else {}
        tuned = dataclasses.replace(
            source,
            name=self.made_by["Name"],
            network=network.eval(),
            participants={**seen, **participants},
            training=settings,
        )
        if trained:
            tuned = dataclasses.replace(tuned, thresholds=choose_thresholds(tuned, held_out))
        if trained and len(held_out):
            tuned = dataclasses.replace(tuned, overconfidence=measure_overconfidence(tuned, held_out))
        save_model(tuned, folder)
        shutil.rmtree(folder / "state", ignore_errors=True)
        return tuned

    def _network(self, seed: int) -> nn.Module:
        if self.strategy.keeps_source:
            return copy.deepcopy(self.start.network)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build_network(self.start.architecture)


def _restraint(strategy: Strategy, network: nn.Module) -> Restraint:
    weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return Restraint(
        rate=None if strategy.rate is None else strategy.rate(network),
        anchor=Anchor(weights=weights, strength=strategy.anchor) if strategy.anchor else None,
    )


def load_patients(model: Model, cohort: Cohort, work: Work = Work()) -> SampleCache:
    """The patients with their masks on a model's grid, in memory up to a bound."""
    return load_samples(cohort.cases, model.modality, model.bundles, model.spacing_mm, model.shape, work=work)


def widened(model: Model, cohort: Cohort, transfer: Transfer) -> Model:
    """The source model with the bundles and inputs asked for, checked against what the cohort has.

    Raises
    ------
    DataError
        If nobody has masks of the bundles to add.
    ModelMismatchError
        If the cohort has none of the model's bundles, or the input is no wider one.
    """
    added = [Bundle.parse(label) for label in transfer.bundles]
    there = " ".join(map(str, cohort.bundles)) or "none"
    unknown = " ".join(bundle.label for bundle in added if bundle not in cohort.bundles)
    if unknown:
        raise DataError(
            f"Bundles to add need reference masks of patients; `bundles` asks for {unknown}, cohort {cohort.name} has "
            f"masks of {there}. Name bundles with their hemisphere, as in AFleft, or add the masks."
        )
    start = add_inputs(add_bundles(model, added), transfer.modality or model.modality)
    if not set(start.bundles) & set(cohort.bundles):
        raise ModelMismatchError(
            f"Fine-tuning needs reference masks of the model's bundles; {model.name} predicts "
            f"{' '.join(map(str, start.bundles))}, cohort {cohort.name} has {there}. Name a model for these bundles, "
            "or add bundles with `bundles`."
        )
    return start
