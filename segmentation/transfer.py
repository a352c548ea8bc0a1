"""Transfer: a source model adapted to patients in folds, so that each patient is scored unseen."""

import copy
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..errors import ConfigError, DataError, ModelMismatchError
from ..files import write_text
from ..types import Bundle, Case, Cohort, Predictions
from .adaptation import add_bundles, add_inputs, refresh_statistics
from .checkpoints import Model, load_model, save_model
from .curves import save_curve
from .data import Sample
from .fitting import Anchor, fit
from .network import build_network
from .prediction import close_predictions, open_predictions, segment
from .strategies import STRATEGIES, Strategy, find_strategy, freeze
from .thresholds import choose_thresholds, measure_overconfidence
from .training import digests, load_samples

Progress = Callable[[int, int, str], None]
__all__ = ["STRATEGIES", "finetune", "finetune_shots", "fold_members", "split_fold"]


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
        Gets ``fold-1`` … with a checkpoint each, ``predictions`` of the patients, and ``controls`` if given.
    strategy : str
        A name in `STRATEGIES`.
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
        Labels of bundles to add to the model's.
    epochs : int, optional
        Instead of the strategy's own number.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    seed : int
        Of folds, order and augmentation.
    resume : bool
        Continue in ``out``; folds that are finished are kept.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Predictions
        Out of fold, of the patients.

    Raises
    ------
    ConfigError
        If the strategy is unknown, or there are more folds than participants.
    DataError
        If a patient lacks the model's modality.
    ModelMismatchError
        If the cohort has none of the model's bundles.
    """
    plan = find_strategy(strategy, epochs)
    start = add_inputs(add_bundles(model, [Bundle.parse(label) for label in bundles]), modality or model.modality)
    if not set(start.bundles) & set(cohort.bundles):
        there = " ".join(map(str, cohort.bundles)) or "none"
        raise ModelMismatchError(
            f"Fine-tuning needs reference masks of the model's bundles; {model.name} predicts "
            f"{' '.join(map(str, start.bundles))}, cohort {cohort.name} has {there}. Name a model for these bundles, "
            "or add bundles."
        )
    groups = fold_members(cohort, folds, seed)
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise ConfigError(f"Fine-tuning needs an empty folder; {out} holds files already. Give --resume or --out.")
    name = f"{model.name}+{strategy}"
    samples: dict[str, Sample] = {}
    failed: dict[str, str] = {}
    made_by = {"Name": name, "Source": model.digest, "Modality": start.modality, "Folds": folds, "Seed": seed}
    open_predictions(out / "predictions", cohort, made_by, resume=True)
    if controls is not None:
        open_predictions(out / "controls", controls, made_by, resume=True)
    for number, members in enumerate(groups, start=1):
        folder = out / f"fold-{number}"
        if (folder / "models" / "model.safetensors").is_file():
            tuned = load_model(folder)
        else:
            if not samples:
                loaded = load_samples(
                    list(cohort), start.modality, start.bundles, start.spacing_mm, start.shape, progress
                )
                samples = {sample.key: sample for sample in loaded}
            training, inner = split_fold(cohort, members, seed + number, shots, draw)
            fold = _Fold(start, plan, strategy, name, samples, device, seed + number)
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


def finetune_shots(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    shots: Sequence[int],
    draws: int = 3,
    strategies: Sequence[str] = ("decoder", "scratch"),
    folds: int = 4,
    epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[tuple[str, int, int], Predictions]:
    """How many patients it takes: every strategy with every number of patients, in repeated draws.

    Strategies share folds and draws, so each is compared with ``scratch`` on the same patients.

    Parameters
    ----------
    model, cohort, folds, epochs, device, seed, resume, progress
        As in `finetune`.
    out : Path
        Gets one folder ``<strategy>/shots-<n>/draw-<d>`` each.
    shots : sequence of int
        Numbers of patients.
    draws : int
        Random choices of patients a number.
    strategies : sequence of str
        Names in `STRATEGIES`.

    Returns
    -------
    dict
        Out-of-fold predictions by (strategy, shots, draw).
    """
    made: dict[tuple[str, int, int], Predictions] = {}
    for strategy in strategies:
        for count in shots:
            for draw in range(draws):
                made[strategy, count, draw] = finetune(
                    model,
                    cohort,
                    out=out / strategy / f"shots-{count}" / f"draw-{draw}",
                    strategy=strategy,
                    folds=folds,
                    shots=count,
                    draw=draw,
                    epochs=epochs,
                    device=device,
                    seed=seed,
                    resume=resume,
                    progress=progress,
                )
    return made


def fold_members(cohort: Cohort, folds: int, seed: int) -> list[frozenset[str]]:
    """Split participants into folds of nearly equal size; all sessions of a participant stay together.

    Raises
    ------
    ConfigError
        If there are fewer than two folds, or more than participants.
    """
    participants = sorted({case.participant_id for case in cohort})
    if not 2 <= folds <= len(participants):
        raise ConfigError(
            f"--folds must be between 2 and the number of participants, {len(participants)}; got {folds}."
        )
    order = np.random.default_rng(seed).permutation(participants)
    return [frozenset(str(one) for one in order[start::folds]) for start in range(folds)]


def split_fold(
    cohort: Cohort, members: frozenset[str], seed: int, shots: int | None = None, draw: int = 0
) -> tuple[list[Case], list[Case]]:
    """Training and inner validation cases of a fold: by participant, and nobody of the test fold.

    Raises
    ------
    ConfigError
        If there are fewer training participants than shots.
    DataError
        If nobody is left to train on.
    """
    rest = sorted({case.participant_id for case in cohort} - members)
    order = [str(one) for one in np.random.default_rng([seed, draw]).permutation(rest)]
    if shots is not None:
        if not 1 <= shots <= len(order):
            raise ConfigError(f"--shots must be between 1 and the {len(order)} patients outside a fold; got {shots}.")
        order = order[:shots]
    if not order:
        raise DataError("Fine-tuning needs at least one training participant in every fold; give fewer folds.")
    n_inner = max(1, len(order) // 5) if len(order) > 2 else 0
    inner, training = set(order[:n_inner]), set(order[n_inner:])
    return (
        [case for case in cohort if case.participant_id in training],
        [case for case in cohort if case.participant_id in inner],
    )


@dataclasses.dataclass(frozen=True)
class _Fold:
    """What the folds of one fine-tuning share."""

    source: Model
    plan: Strategy
    strategy: str
    name: str
    samples: Mapping[str, Sample]
    device: str
    seed: int

    def tune(
        self, training: list[Case], inner: list[Case], folder: Path, text: str, progress: Progress | None
    ) -> Model:
        network = self._start()
        trained, frozen = freeze(network, self.plan.trains)
        if self.plan.statistics:
            refresh_statistics(network, [self.samples[case.key] for case in training])
        settings = {
            "source": self.source.name,
            "source_digest": self.source.digest,
            "strategy": self.strategy,
            "what": self.plan.description,
            "tensors_loaded": len(network.state_dict()) if self.plan.keeps_source else 0,
            "tensors_trained": len(trained),
            "tensors_frozen": len(frozen),
            "participants_trained_on": len(training),
            "participants_tuned_on": len(inner),
            "seed": self.seed,
        }
        if trained:
            settings |= self._fit(network, training, inner, folder, text, progress)
        network.eval()
        cases = [*training, *inner]
        tuned = dataclasses.replace(
            self.source,
            name=self.name,
            network=network,
            participants={
                **(self.source.participants if self.plan.keeps_source else {}),
                **digests(cases, self.source.modality),
            },
            training=settings,
        )
        if trained:
            validation = [self.samples[case.key] for case in inner]
            tuned = dataclasses.replace(tuned, thresholds=choose_thresholds(tuned, validation))
            if validation:
                tuned = dataclasses.replace(tuned, overconfidence=measure_overconfidence(tuned, validation))
        save_model(tuned, folder)
        shutil.rmtree(folder / "state", ignore_errors=True)
        return tuned

    def _start(self) -> nn.Module:
        if self.plan.keeps_source:
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
        plan = self.plan
        weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        result = fit(
            network,
            [self.samples[case.key] for case in training],
            [self.samples[case.key] for case in inner],
            plan.schedule,
            seed=self.seed,
            device=self.device,
            rate=None if plan.rate is None else plan.rate(network),
            anchor=Anchor(weights=weights, strength=plan.anchor) if plan.anchor else None,
            state=folder / "state",
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
