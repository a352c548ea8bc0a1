"""Transfer: a source model adapted to patients in folds, so that each patient is scored unseen."""

import copy
import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from ...errors import ConfigError, DataError, ModelMismatchError
from ...files import write_text
from ...types import Bundle, Case, Cohort, Predictions
from ...work import Progress
from ..network.checkpoints import Model, load_model, save_model
from ..network.networks import build_network
from ..prediction.calibration import choose_thresholds, measure_overconfidence
from ..prediction.cohort import close_predictions, open_predictions, segment
from ..samples.cache import SampleCache, load_samples
from ..training.epochs import Anchor
from ..training.fitting import fit, save_curve
from ..training.folds import fold_members, split_fold
from ..training.recipes import digests
from .adaptation import add_bundles, add_inputs, normalizations, refresh_statistics
from .plan import TransferPlan, plan_transfer
from .strategies import Strategy, find_strategy, freeze

Announce = Callable[[TransferPlan], None]


def finetune(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    strategy: str = "decoder",
    folds: int = 4,
    shots: int | None = None,
    draw: int = 0,
    controls: Cohort | None = None,
    modality: str | None = None,
    bundles: Sequence[str] = (),
    epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    samples: SampleCache | None = None,
    announce: Announce | None = None,
    progress: Progress | None = None,
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
    strategy : str
        A name in `strategies.STRATEGIES`.
    folds : int
        Folds over participants.
    shots : int, optional
        Use only so many patients a fold, those that choose the epoch included.
    draw : int
        Which random choice of them; the same draw of fewer shots is a subset.
    controls : Cohort, optional
        Predicted by the fold models in turn, to measure forgetting.
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
    resume : bool
        Continue in ``out``; folds that are finished are kept.
    samples : SampleCache, optional
        The patients on the model's grid, as `load_patients` gives them: for several fine-tunings from one model.
    announce : callable, optional
        Called once with what will be loaded, trained and frozen, before anything is trained.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

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
    chosen = find_strategy(strategy, epochs)
    start = widened(model, cohort, modality, bundles)
    if chosen.statistics:
        normalizations(start.network)
    plan = plan_transfer(model, start, strategy, chosen)
    groups = fold_members(cohort, folds, seed)
    splits = [split_fold(cohort, members, seed + number, shots, draw) for number, members in enumerate(groups, 1)]
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise ConfigError(f"Fine-tuning needs an empty folder; {out} holds files already. Give --resume or --out.")
    if announce is not None:
        announce(plan)
    if samples is None and not all(_is_done(out / f"fold-{number}") for number in range(1, folds + 1)):
        # First of all: patients that do not fit the model are found before anything is written.
        samples = load_patients(start, cohort, progress)
    name = f"{model.name}+{strategy}"
    failed: dict[str, str] = {}
    made_by = {"Name": name, "Source": model.digest, "Modality": start.modality, "Folds": folds, "Seed": seed}
    open_predictions(out / "predictions", cohort, made_by, resume=True)
    if controls is not None:
        open_predictions(out / "controls", controls, made_by, resume=True)
    for number, (members, (training, inner)) in enumerate(zip(groups, splits, strict=True), start=1):
        folder = out / f"fold-{number}"
        if samples is None or _is_done(folder):
            tuned = load_model(folder)
        else:
            fold = _Fold(start, chosen, plan, name, samples, device, seed + number)
            tuned = fold.tune(training, inner, folder, f"Fine-tuning fold {number}/{folds}", progress)
        test = [case for case in cohort if case.participant_id in members]
        report = _within(progress, f"Segmenting fold {number}/{folds}", len(test))
        failed |= segment([tuned], test, out / "predictions", True, False, device, report)
        if controls is not None:
            share = controls.cases[number - 1 :: folds]
            report = _within(progress, f"Segmenting controls, fold {number}/{folds}", len(share))
            segment([tuned], share, out / "controls", True, False, device, report)
    if controls is not None:
        close_predictions(out / "controls", controls, name, start.modality, {})
    return close_predictions(out / "predictions", cohort, name, start.modality, failed)


def load_patients(model: Model, cohort: Cohort, progress: Progress | None = None) -> SampleCache:
    """The patients with their masks on a model's grid, in memory up to a bound."""
    return load_samples(list(cohort), model.modality, model.bundles, model.spacing_mm, model.shape, progress)


def widened(model: Model, cohort: Cohort, modality: str | None, bundles: Sequence[str]) -> Model:
    """The source model with the bundles and inputs asked for, checked against what the cohort has.

    Raises
    ------
    DataError
        If nobody has masks of the bundles to add.
    ModelMismatchError
        If the cohort has none of the model's bundles, or the input is no wider one.
    """
    added = [Bundle.parse(label) for label in bundles]
    there = " ".join(map(str, cohort.bundles)) or "none"
    unknown = " ".join(bundle.label for bundle in added if bundle not in cohort.bundles)
    if unknown:
        raise DataError(
            f"Bundles to add need reference masks of patients; --bundles asks for {unknown}, cohort {cohort.name} has "
            f"masks of {there}. Name bundles with their hemisphere, as in AFleft, or add the masks."
        )
    start = add_inputs(add_bundles(model, added), modality or model.modality)
    if not set(start.bundles) & set(cohort.bundles):
        raise ModelMismatchError(
            f"Fine-tuning needs reference masks of the model's bundles; {model.name} predicts "
            f"{' '.join(map(str, start.bundles))}, cohort {cohort.name} has {there}. Name a model for these bundles, "
            "or add bundles with --bundles."
        )
    return start


def _is_done(folder: Path) -> bool:
    return (folder / "models" / "model.safetensors").is_file()


@dataclasses.dataclass(frozen=True)
class _Fold:
    """What the folds of one fine-tuning share."""

    source: Model
    strategy: Strategy
    plan: TransferPlan
    name: str
    samples: SampleCache
    device: str
    seed: int

    def tune(
        self, training: list[Case], inner: list[Case], folder: Path, text: str, progress: Progress | None
    ) -> Model:
        network = self._start()
        trained, frozen = freeze(network, self.strategy.trains)
        if self.strategy.statistics:
            refresh_statistics(network, self._of(training))
        settings = {
            "source": self.source.name,
            "source_digest": self.source.digest,
            "strategy": self.plan.strategy,
            "what": self.strategy.description,
            "tensors_loaded": len(self.plan.loaded),
            "tensors_trained": len(trained),
            "tensors_frozen": len(frozen),
            "participants_trained_on": len(training),
            "participants_tuned_on": len(inner),
            "seed": self.seed,
        }
        write_text(folder / "transfer.json", self.plan.to_json())
        if trained:
            settings |= self._fit(network, training, inner, folder, text, progress)
        network.eval()
        cases = [*training, *inner]
        tuned = dataclasses.replace(
            self.source,
            name=self.name,
            network=network,
            participants={
                **(self.source.participants if self.strategy.keeps_source else {}),
                **digests(cases, self.source.modality),
            },
            training=settings,
        )
        if trained:
            validation = self._of(inner)
            tuned = dataclasses.replace(tuned, thresholds=choose_thresholds(tuned, validation))
            if validation:
                tuned = dataclasses.replace(tuned, overconfidence=measure_overconfidence(tuned, validation))
        save_model(tuned, folder)
        shutil.rmtree(folder / "state", ignore_errors=True)
        return tuned

    def _of(self, cases: list[Case]) -> SampleCache:
        return self.samples.select([case.key for case in cases])

    def _start(self) -> nn.Module:
        if self.strategy.keeps_source:
            return copy.deepcopy(self.source.network)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return build_network(self.source.architecture)

    def _fit(
        self,
        network: nn.Module,
        training: list[Case],
        inner: list[Case],
        folder: Path,
        text: str,
        progress: Progress | None,
    ) -> dict[str, object]:
        plan = self.strategy
        weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        result = fit(
            network,
            self._of(training),
            self._of(inner),
            plan.schedule,
            seed=self.seed,
            patch=self.source.patch,
            device=self.device,
            rate=None if plan.rate is None else plan.rate(network),
            anchor=Anchor(weights=weights, strength=plan.anchor) if plan.anchor else None,
            state=folder / "state",
            settings={
                "strategy": self.plan.strategy,
                "participants": digests([*training, *inner], self.source.modality),
            },
            text=text,
            progress=progress,
        )
        write_text(folder / "training.csv", pd.DataFrame(list(result.log)).to_csv(index=False))
        save_curve(result.log, folder / "training.svg")
        return {
            **dataclasses.asdict(plan.schedule),
            "precision": result.precision,
            "best_epoch": result.best_epoch,
            "inner_validation_dice": round(result.best_dice, 4),
        }


def _within(progress: Progress | None, text: str, total: int) -> Callable[[int], None]:
    return lambda done: None if progress is None else progress(done, total, text)
