"""Transfer: a source model adapted to patients in folds, so that each patient is scored unseen."""

import copy
import dataclasses
import math
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...bundles import choose_bundles
from ...errors import ConfigError, ModelMismatchError
from ...files import held, holds, sweep, write_text
from ...types import Case, Cohort, Predictions
from ...work import Cost, Work
from ..network.checkpoints import (
    UNKNOWN_TRAINING,
    Model,
    is_whole,
    load_model,
    require_own,
    require_same,
    save_model,
)
from ..network.devices import pick_device, placed, same_every_time
from ..network.foreign import ForeignNetwork, require_gradient
from ..network.networks import build_network
from ..prediction.calibration import answers, choose_thresholds, measure_overconfidence
from ..prediction.cohort import Segmenter, close_predictions, cost_of, open_predictions
from ..samples.cache import MEMORY_GIB, SampleCache, load_samples
from ..samples.domain import Domain, domain_of, measure_all
from ..training.epochs import Anchor, Restraint
from ..training.fitting import fit, save_log
from ..training.folds import fold_members, split_fold
from ..training.processes import alone, join_processes, require_pieces, telling
from ..training.recipes import digests, masks_digest
from ..training.states import StateFolder
from .adaptation import add_bundles, add_inputs, normalizations, refresh_statistics
from .plan import TransferPlan, plan_transfer
from .strategies import Strategy, freeze, strategy_for

Announce = Callable[[TransferPlan], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transfer:
    """How a model is adapted to patients.

    Options are those of `shiftkit.finetune`, but ``shots``: use only so many patients a fold, those that choose the
    epoch included. ``draw`` is which random choice of them; the same draw of fewer shots is a subset.
    """

    strategy: str = "decoder"
    layers: Sequence[str] = ()
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
    resume: bool = False,
    announce: Announce | None = None,
    work: Work = Work(),
) -> Predictions:
    """Adapt a model to patients in folds and predict each patient with the model that never saw it.

    Within each fold one in five training patients (at least one of three or more) chooses epoch and
    thresholds; the test fold is never looked at. Several processes of a launcher take whole folds; all return the same.

    Parameters
    ----------
    out : Path
        Gets ``fold-1`` … with a checkpoint and what became of each tensor (``transfer.json``), ``predictions`` of
        the patients, and ``controls`` if given.
    controls : Cohort, optional
        Predicted by the fold models in turn, to measure forgetting.
    resume : bool
        Continue in ``out``; folds that are finished are kept.
    announce : callable, optional
        Called once with what will be loaded, trained and frozen, before anything is trained.

    Raises
    ------
    ConfigError
        If the strategy is unknown or does not suit the network, or there are fewer participants than folds or shots.
    DataError
        If a patient lacks the model's modality, or nobody has the bundles to add.
    ModelMismatchError
        If the cohort has none of the model's bundles, nobody its modality, or an image does not fit the model.
    """
    run = Finetuning(model=model, cohort=cohort, out=out, transfer=transfer, controls=controls)
    run.require_possible(resume)
    require_pieces(transfer.folds, "folds")
    work.begin(run.would, run.cost, out)
    if announce is not None:
        announce(run.plan)
    (predictions,) = finetune_all([run], work=work)
    return predictions


def finetune_fold(
    model: Model,
    cohort: Cohort,
    fold: int,
    *,
    out: Path,
    transfer: Transfer = Transfer(),
    resume: bool = False,
    announce: Announce | None = None,
    work: Work = Work(),
) -> Model:
    """Train the model of one fold, from 1, and nothing else: `finetune` with ``resume`` takes it from ``out/fold-N``.

    Folds can be trained at the same time, in any order, by as many processes. Errors and parameters as of `finetune`.
    """
    run = Finetuning(model=model, cohort=cohort, out=out, transfer=transfer)
    require_place(out, fold, transfer, resume)
    run.require_possible(resume=True)
    work.begin(run.would_train(fold), run.cost, out)
    if announce is not None:
        announce(run.plan)
    with held(out / f"fold-{fold}", "finetune"):
        return run.fold(fold, work)


def require_place(out: Path, fold: int | None, transfer: Transfer, resume: bool) -> None:
    """Refuse a folder that no fine-tuning can be written to, or a ``fold`` that there is none of, or is there."""
    if fold is None:
        require_own(out, resume)
        return
    if fold > transfer.folds:
        raise ConfigError(f"`fold` is one of `folds`, from 1 to {transfer.folds}; got {fold}.")
    require_own(out, resume=True)
    if holds(out / f"fold-{fold}") and not resume:
        raise ConfigError(f"Fold {fold} is begun or made in {out}. Give `resume` to go on with it, or another `fold`.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetuning:
    """A fine-tuning that is made fold by fold; see `finetune`, whose parameters these are."""

    model: Model
    cohort: Cohort
    out: Path
    transfer: Transfer
    controls: Cohort | None = None

    @cached_property
    def strategy(self) -> Strategy:
        """What is trained."""
        of = self.transfer
        return strategy_for(self.model, of.strategy, layers=of.layers, epochs=of.epochs)

    @cached_property
    def start(self) -> Model:
        """The source model with the bundles and inputs asked for, checked against what the cohort has."""
        model, cohort = self.model, self.cohort
        there = " ".join(map(str, cohort.bundles)) or "none"
        asked = self.transfer.bundles
        added = choose_bundles(cohort.bundles, asked, what=f"{cohort.name} has masks of") if asked else ()
        start = add_inputs(add_bundles(model, added), self.transfer.modality or model.modality)
        if not set(start.bundles) & set(cohort.bundles):
            raise ModelMismatchError(
                f"Fine-tuning needs reference masks of the model's bundles; {model.name} predicts "
                f"{' '.join(map(str, start.bundles))}, cohort {cohort.name} has {there}. Name a model for these "
                "bundles, or add bundles with `bundles`."
            )
        return start

    @cached_property
    def plan(self) -> TransferPlan:
        """What becomes of each tensor."""
        return plan_transfer(self.model, self.start, self.transfer.strategy, self.strategy)

    @cached_property
    def splits(self) -> list[tuple[list[Case], list[Case], list[Case]]]:
        """Of each fold, by participant: cases to train on, cases that choose the epoch, cases that are tested."""
        of = self.transfer
        return [
            (
                *split_fold(self.cohort, members, of.seed + number, of.shots, of.draw),
                [case for case in self.cohort if case.participant_id in members],
            )
            for number, members in enumerate(fold_members(self.cohort, of.folds, of.seed), start=1)
        ]

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """What the folders of predictions say of how they were made."""
        return {
            "Name": f"{self.model.name}+{self.transfer.strategy}",
            "Source": self.model.digest,
            "Modality": self.start.modality,
            "Folds": self.transfer.folds,
            "Seed": self.transfer.seed,
        }

    def require_possible(self, resume: bool) -> None:
        """Refuse what cannot be made, before anything is written; see `finetune` for the errors."""
        require_own(self.out, resume)
        pick_device(self.transfer.device)
        self.start.require_input(self.cohort)
        if self.plan.trained and isinstance(self.start.network, ForeignNetwork):
            self._require_trainable(self.start.network)
        if self.strategy.statistics:
            normalizations(self.start.network)
        fold_members(self.cohort, self.transfer.folds, self.transfer.seed)

    def _require_trainable(self, network: ForeignNetwork) -> None:
        """Refuse a module of others that has no gradient."""
        if network.output == "labels":
            raise ConfigError(
                f"Fine-tuning follows a gradient, and labels have none; {self.model.name} answers with labels. Let the "
                "module return what it takes them from, and say so with `output`: logits or probabilities."
            )
        require_gradient(network, self.start.patch)

    @property
    def would(self) -> str:
        """What a dry run says."""
        also = f", and segment {len(self.controls)} controls with these" if self.controls is not None else ""
        return (
            f"Would adapt model {self.model.name} to the {len(self.cohort)} patients of {self.cohort.name} by strategy "
            f"{self.transfer.strategy} in {self.transfer.folds} folds, segment each patient with the network that "
            f"never saw them{also}."
        )

    def would_train(self, fold: int) -> str:
        """What a dry run says of one fold alone."""
        return (
            f"Would adapt model {self.model.name} to patients of {self.cohort.name} by strategy "
            f"{self.transfer.strategy}: fold {fold} of {self.transfer.folds} alone."
        )

    @property
    def cost(self) -> Cost:
        """What it takes: trainings on all but one fold of the patients, and a prediction of everybody."""
        model, folds = self.start, self.transfer.folds
        people = len({case.participant_id for case in self.cohort})
        training = min(people - math.ceil(people / folds), self.transfer.shots or people)
        box = np.prod(model.patch or model.shape) / 1e6
        steps = self.strategy.schedule.epochs * self.strategy.schedule.steps(training) if self.plan.trained else 0
        samples = len(self.cohort) * np.prod(model.shape) / 1e6 * 0.06
        tuned = Cost(
            seconds=5.0 + 3.0 * steps * box, memory_gib=0.6 + min(samples, MEMORY_GIB) + 3.0 * box, disk_gib=0.01
        )
        predicted = [cost_of(model, one) for one in (self.cohort, self.controls) if one is not None]
        return sum(predicted, tuned.times(folds))

    def fold(self, number: int, work: Work) -> Model:
        """The model of one fold, trained or as it lies there; nobody else may be at work in its folder."""
        folder = self.out / f"fold-{number}"
        if is_whole(folder):
            return self._require_own(folder, number)
        sweep(folder)
        training, inner, _ = self.splits[number - 1]
        keys = {case.key for case in (*training, *inner)}
        samples = load_patients(self.start, self.cohort.where(lambda case: case.key in keys), work)
        return self._tune(samples, number, f"Fine-tuning fold {number}/{len(self.splits)}", work)

    @property
    def folders(self) -> list[Path]:
        """Where each fold's model lies, or will."""
        return [self.out / f"fold-{number}" for number in range(1, len(self.splits) + 1)]

    def require_continuable(self) -> None:
        """Refuse, before anything is written, finished folds and predictions that it would not have made."""
        for number, folder in enumerate(self.folders, start=1):
            if is_whole(folder):
                segmenter = self._segmenter(self._require_own(folder, number))
                for name, cases in self._shares(number).items():
                    segmenter.require_unchanged(cases, self.out / name)
        further = [one.name for one in self.out.glob("fold-*") if one.is_dir() and one not in self.folders]
        if further:
            raise ConfigError(
                f"`folds` must be what {self.out} was begun with; it holds {', '.join(sorted(further))} beside the "
                f"{len(self.folders)} asked for. Give the same number, or another `out`."
            )

    def open(self) -> None:
        """Begin, or go on with, the folders of predictions; nobody else may be at work in them."""
        for name, cohort in self._predicted.items():
            sweep(self.out / name)  # folds have processes of their own, and are swept one by one
            open_predictions(self.out / name, cohort, self.made_by, resume=True)

    @property
    def _predicted(self) -> dict[str, Cohort]:
        return {"predictions": self.cohort} | ({} if self.controls is None else {"controls": self.controls})

    def predict_fold(self, number: int, samples: SampleCache | None, work: Work) -> dict[str, str]:
        """Tune a fold that is not there and segment its test cases; returns those that failed, with the reason.

        ``samples`` are the patients as `load_patients` gives them; of a fold that is there they are not needed.
        """
        folder, count = self.out / f"fold-{number}", len(self.splits)
        fold = f"fold {number}/{count}"
        if samples is None or is_whole(folder):
            tuned = load_model(folder, self.start)
        else:
            with held(folder, "finetune"):
                sweep(folder)
                tuned = self._tune(samples, number, f"Fine-tuning {fold}", work)
        segmenter, shares = self._segmenter(tuned), self._shares(number)
        failed = segmenter.segment(shares["predictions"], self.out / "predictions", work, f"Segmenting {fold}")
        if self.controls is not None:
            segmenter.segment(shares["controls"], self.out / "controls", work, f"Segmenting controls, {fold}")
        return failed

    def _segmenter(self, tuned: Model) -> Segmenter:
        return Segmenter(models=[tuned], device=self.transfer.device)

    def _shares(self, number: int) -> dict[str, Sequence[Case]]:
        """Whom a fold predicts, by the folder of the predictions."""
        *_, test = self.splits[number - 1]
        if self.controls is None:
            return {"predictions": test}
        # No fold has seen a control: each is predicted by one of them in turn, as each patient is by one.
        return {"predictions": test, "controls": self.controls.cases[number - 1 :: len(self.splits)]}

    def _require_own(self, folder: Path, number: int) -> Model:
        """A finished fold; one of other people or settings is refused: it may have seen whom it would be tested on."""
        there, now = load_model(folder, self.start), self._made_from(number)
        # Images were kept in every version; masks not in the first one, whose folds go on by what they say.
        known = {name: there.training[name] for name in now["settings"] if name in there.training}
        known["layers"] = there.training.get("layers", [])  # written where any were named, and only there
        settings = {name: value for name, value in now["settings"].items() if name in known}
        before = {"participants": dict(there.participants), "settings": known}
        require_same(before, {**now, "settings": settings}, folder, "a fold")
        return there

    def _made_from(self, number: int) -> dict[str, Any]:
        """What a fold depends on: whom its model has seen, with digests of their images, and settings."""
        training, inner, _ = self.splits[number - 1]
        seen = self.start.participants if self.strategy.keeps_source else {}
        learned = [*training, *inner]
        return {
            "participants": {**seen, **digests(learned, self.start.modality)},
            "settings": {
                "source_digest": self.model.digest,
                "strategy": self.plan.strategy,
                "layers": list(self.transfer.layers),
                "participants_trained_on": len(training),
                "participants_tuned_on": len(inner),
                "seed": self.transfer.seed + number,
                **(dataclasses.asdict(self.strategy.schedule) if self.plan.trained else {}),
                "masks": masks_digest(learned, self.start.bundles, self.start.modality),
            },
        }

    def predictions(self, failed: dict[str, str], writes: bool = True) -> Predictions:
        """Gather what the folds wrote; see `close_predictions`."""
        if self.controls is not None:
            close_predictions(self.out / "controls", self.controls, self.made_by, {}, writes)
        return close_predictions(self.out / "predictions", self.cohort, self.made_by, failed, writes)

    def _tune(self, samples: SampleCache, number: int, stage: str, work: Work) -> Model:
        """Train the model of one fold and save it."""
        # A seed a fold: folds are repetitions, and must not share the luck of one order of patients.
        folder, seed = self.out / f"fold-{number}", self.transfer.seed + number
        strategy, source, network = self.strategy, self.start, self._network(seed)
        training, inner, _ = self.splits[number - 1]
        freeze(network, strategy.trains)
        learned, held_out = (samples.select([case.key for case in cases]) for cases in (training, inner))
        if strategy.statistics:
            refresh_statistics(network, learned)
        participants = digests([*training, *inner], source.modality)
        masks = masks_digest([*training, *inner], source.bundles, source.modality)
        settings: dict[str, Any] = {
            "source": source.name,
            "source_digest": source.digest,
            "strategy": self.plan.strategy,
            **({"layers": list(self.transfer.layers)} if self.transfer.layers else {}),
            "what": strategy.description,
            "tensors_loaded": len(self.plan.loaded),
            "tensors_trained": len(self.plan.trained),
            "tensors_frozen": len(self.plan.frozen),
            "participants_trained_on": len(training),
            "participants_tuned_on": len(inner),
            "seed": seed,
            "masks": masks,
            **({} if source.knows_training else {UNKNOWN_TRAINING: True}),
        }
        write_text(folder / "transfer.json", self.plan.to_json())
        if self.plan.trained:
            result = fit(
                network,
                learned,
                held_out,
                strategy.schedule,
                seed=seed,
                patch=source.patch,
                processes=alone(self.transfer.device),
                restraint=_restraint(strategy, network),
                state=StateFolder(
                    folder / "state",
                    {
                        "strategy": self.plan.strategy,
                        "participants": participants,
                        "masks": masks,
                        # Of others' modules the code belongs to it, of which weights say nothing.
                        **({} if source.architecture is not None else {"source": source.digest}),
                    },
                ),
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
            # Who is like the patients it was tuned on is no stranger to it any more.
            image_statistics=(*(source.image_statistics if strategy.keeps_source else ()), *self._tuned_on(training)),
        )
        device = pick_device(self.transfer.device)
        with same_every_time(device), placed([network], device):
            if self.plan.trained and len(held_out):
                given = answers(tuned, held_out)
                # Thresholds first: how sure the model may be of its masks depends on what makes them.
                tuned = dataclasses.replace(tuned, thresholds=choose_thresholds(tuned, given))
                tuned = dataclasses.replace(tuned, overconfidence=measure_overconfidence(tuned, given))
        save_model(tuned, folder)
        shutil.rmtree(folder / "state", ignore_errors=True)
        return tuned

    def _tuned_on(self, training: Sequence[Case]) -> tuple[Domain, ...]:
        """What the images of a fold's patients are like; nothing where nothing was learned of them."""
        known = [self.measured[case.key] for case in training if case.key in self.measured]
        return (domain_of(known),) if known and self.plan.trained else ()

    @cached_property
    def measured(self) -> dict[str, dict[str, float]]:
        """What every patient's images are like, measured once for all folds."""
        return measure_all(self.cohort.cases, self.start.modality)

    def _network(self, seed: int) -> nn.Module:
        if self.strategy.keeps_source:
            return copy.deepcopy(self.start.network)
        architecture = self.start.architecture
        assert architecture is not None, "others were refused by strategy_for"
        with torch.random.fork_rng():  # random weights of the fold, and nothing else gets other draws
            torch.manual_seed(seed)
            return build_network(architecture)


def finetune_all(runs: Sequence[Finetuning], *, work: Work, bars: bool = True) -> list[Predictions]:
    """Make several fine-tunings of one model and cohort, of which all is checked; their folds are shared out.

    Every process of a launcher takes whole folds, so that each comes out as from one process alone. With ``bars`` each
    fold's steps are told, else how many folds of all runs are done.
    """
    processes = join_processes(runs[0].transfer.device)
    for run in runs:
        run.require_continuable()
    folders = [folder for run in runs for folder in run.folders]
    # First of all: patients that do not fit the model are found before anything is written. Once for all runs, which
    # look at the same ones.
    samples = None if all(map(is_whole, folders)) else load_patients(runs[0].start, runs[0].cohort, work)
    processes.gather(None)  # all have seen the folders before anything in them changes
    processes.after_main(lambda writes: [run.open() for run in runs if writes])
    pieces = [(place, number) for place, run in enumerate(runs) for number in range(1, len(run.splits) + 1)]
    mine, failed = processes.share(pieces), [dict[str, str]() for _ in runs]
    for done, (place, number) in enumerate(mine, start=1):
        failed[place] |= runs[place].predict_fold(number, samples, work if bars else Work())
        if not bars:
            work.report(done, len(mine), "Learning curves, folds")
    for others in processes.gather(failed, telling(work, folders)):
        for all_of_run, part in zip(failed, others, strict=True):
            all_of_run |= part
    return processes.after_main(
        lambda writes: [run.predictions(gone, writes) for run, gone in zip(runs, failed, strict=True)]
    )


def _restraint(strategy: Strategy, network: nn.Module) -> Restraint:
    weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return Restraint(
        rate=None if strategy.rate is None else strategy.rate(network),
        anchor=Anchor(weights=weights, strength=strategy.anchor) if strategy.anchor else None,
    )


def load_patients(model: Model, cohort: Cohort, work: Work = Work()) -> SampleCache:
    """The patients with their masks on a model's grid, in memory up to a bound."""
    return load_samples(cohort.cases, model.modality, model.bundles, model.spacing_mm, model.shape, work=work)
