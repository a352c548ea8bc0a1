"""Transfer: what of a source model is adapted to patients, and how each patient is scored unseen."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from ..cohorts import load_cohort
from ..errors import ConfigError, DataError
from ..files import write_text
from ..types import Case, Cohort, Predictions
from .checkpoints import Model, load_model, save_model
from .data import Sample
from .fitting import Schedule, fit
from .network import build_network, part_of
from .prediction import predict
from .training import digests, load_samples

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """What is trained, and from where.

    Parameters
    ----------
    description : str
        One sentence.
    trains : callable
        Takes a parameter's name and says whether it is trained.
    schedule : Schedule
        How long and how fast.
    keeps_source : bool
        False starts from random weights.
    """

    description: str
    trains: Callable[[str], bool]
    schedule: Schedule
    keeps_source: bool = True


_SHORT = Schedule(epochs=4, learning_rate=1e-3, validate_every=1)
STRATEGIES: Mapping[str, Strategy] = {
    "none": Strategy(
        description="Zero-shot: nothing is trained.",
        trains=lambda name: False,
        schedule=Schedule(epochs=0, learning_rate=0),
    ),
    "decoder": Strategy(
        description="The encoder is frozen, decoder and head are trained (the published study's choice).",
        trains=lambda name: part_of(name) != "encoder",
        schedule=_SHORT,
    ),
    "encoder": Strategy(
        description="The encoder is trained, decoder and head are frozen.",
        trains=lambda name: part_of(name) == "encoder",
        schedule=_SHORT,
    ),
    "head": Strategy(
        description="Only the last unit is trained.", trains=lambda name: part_of(name) == "head", schedule=_SHORT
    ),
    "norm": Strategy(
        description="Only the affine parameters of normalization layers are trained.",
        trains=lambda name: ".adn.N." in name,
        schedule=_SHORT,
    ),
    "full": Strategy(description="Everything is trained.", trains=lambda name: True, schedule=_SHORT),
    "scratch": Strategy(
        description="Patients only, from random weights.",
        trains=lambda name: True,
        schedule=Schedule(epochs=20, learning_rate=3e-3),
        keeps_source=False,
    ),
}
"""Every strategy, by name."""


def finetune(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    strategy: str = "decoder",
    folds: int = 4,
    controls: Cohort | None = None,
    epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Adapt a model to patients in folds and predict each patient with the model that never saw it.

    Within each fold one in five training patients (at least one) chooses the epoch; the test fold is never
    looked at.

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
    controls : Cohort, optional
        Predicted by the fold models in turn, to measure forgetting.
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
    """
    plan = _plan(strategy, epochs)
    groups = fold_members(cohort, folds, seed)
    if out.is_dir() and any(out.iterdir()) and not resume:
        raise ConfigError(f"Fine-tuning needs an empty folder; {out} holds files already. Give --resume or --out.")
    samples: dict[str, Sample] = {}
    parts: list[Predictions] = []
    for number, members in enumerate(groups, start=1):
        folder = out / f"fold-{number}"
        text = f"Fine-tuning fold {number}/{folds}"
        if (folder / "models").is_dir():
            tuned = load_model(folder)
        else:
            if not samples:
                loaded = load_samples(list(cohort), model.modality, model.bundles, progress)
                samples = {sample.key: sample for sample in loaded}
            rest = [case for case in cohort if case.participant_id not in members]
            tuned = _tune(model, plan, strategy, rest, samples, folder, device, seed + number, text, progress)
        test = cohort.where(lambda case, members=members: case.participant_id in members)
        part = predict(tuned, test, out=out / "predictions", device=device, resume=True, progress=progress)
        parts.append(part)
        if controls is not None:
            share = dataclasses.replace(controls, cases=controls.cases[number - 1 :: folds])
            predict(tuned, share, out=out / "controls", device=device, resume=True, progress=progress)
    failed = {key: reason for part in parts for key, reason in part.failed.items()}
    made = load_cohort(out / "predictions", name=cohort.name)
    return Predictions(cohort=made, model=_name(model, strategy), modality=model.modality, failed=failed)


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


def freeze(network: nn.Module, trains: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Let only the parameters train that a strategy names; returns their names, and the frozen ones."""
    trained: list[str] = []
    frozen: list[str] = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trains(name))
        (trained if trains(name) else frozen).append(name)
    return trained, frozen


def _plan(strategy: str, epochs: int | None) -> Strategy:
    if strategy not in STRATEGIES:
        raise ConfigError(f"--strategy is one of {', '.join(STRATEGIES)}; got {strategy!r}.")
    plan = STRATEGIES[strategy]
    return (
        plan
        if epochs is None
        else dataclasses.replace(plan, schedule=dataclasses.replace(plan.schedule, epochs=epochs))
    )


def _name(model: Model, strategy: str) -> str:
    return f"{model.name}+{strategy}"


def _tune(
    model: Model,
    plan: Strategy,
    strategy: str,
    cases: list[Case],
    samples: Mapping[str, Sample],
    folder: Path,
    device: str,
    seed: int,
    text: str,
    progress: Progress | None,
) -> Model:
    network = copy.deepcopy(model.network) if plan.keeps_source else build_network(model.architecture)
    trained, frozen = freeze(network, plan.trains)
    order = np.random.default_rng(seed).permutation(len(cases))
    n_inner = max(1, len(cases) // 5) if len(cases) > 2 else 0
    inner = [samples[cases[i].key] for i in order[:n_inner]]
    training = [samples[cases[i].key] for i in order[n_inner:]]
    if not training:
        raise DataError("Fine-tuning needs at least one training participant in every fold; give fewer folds.")
    result = fit(
        network,
        training,
        inner,
        plan.schedule,
        seed=seed,
        device=device,
        state=folder / "state",
        text=text,
        progress=progress,
    )
    seen = {**(model.participants if plan.keeps_source else {}), **digests(cases, model.modality)}
    tuned = dataclasses.replace(
        model,
        name=_name(model, strategy),
        network=network,
        participants=seen,
        training={
            "source": model.name,
            "source_digest": model.digest,
            "strategy": strategy,
            "what": plan.description,
            "tensors_trained": len(trained),
            "tensors_frozen": len(frozen),
            "participants_trained_on": len(training),
            "participants_tuned_on": len(inner),
            **dataclasses.asdict(plan.schedule),
            "seed": seed,
            "best_epoch": result.best_epoch,
            "inner_validation_dice": round(result.best_dice, 4),
        },
    )
    write_text(folder / "training.csv", pd.DataFrame(result.log).to_csv(index=False))
    save_model(tuned, folder)
    return tuned
