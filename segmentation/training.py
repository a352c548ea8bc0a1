"""Source models: trained on the training split of a cohort, tuned on its validation split."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from ..errors import ConfigError, DataError
from ..files import write_text
from ..images import image_digest
from ..types import Bundle, Case, Cohort
from .checkpoints import Model, load_model, save_model
from .data import COORDINATE_CHANNELS, Sample, channels_of, load_sample
from .fitting import Schedule, fit
from .network import Architecture, build_network

Progress = Callable[[int, int, str], None]

SPACING_MM = 2.5
SHAPE = (64, 80, 64)
SOURCE = Schedule(epochs=30, learning_rate=3e-3)


def train(
    cohort: Cohort,
    *,
    out: Path,
    modality: str = "peaks",
    bundles: Sequence[str] = (),
    network: str = "unet",
    epochs: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Train a source model.

    Participants with ``split`` train are trained on; those with val choose the epoch; those with test are
    never looked at. Without a ``split`` column every control is trained on and the last epoch is kept.

    Parameters
    ----------
    cohort : Cohort
        With reference masks.
    out : Path
        The checkpoint folder; its name becomes the model's.
    modality : str
        ``t1w``, ``ap``, ``fa``, ``peaks``, another scalar map, or a stack joined by ``+``.
    bundles : sequence of str
        Labels such as ``AFleft``; all the cohort has by default.
    network : str
        ``unet``, ``segresnet`` or ``dynunet``.
    epochs : int, optional
        Passes over the participants.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    seed : int
        Of weights, order and augmentation.
    resume : bool
        Continue an interrupted training in ``out``.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Model

    Raises
    ------
    ConfigError
        If ``out`` holds a checkpoint already.
    DataError
        If there is nobody to train on, or a modality or bundle is missing.
    """
    if (out / "models" / "model.safetensors").is_file():
        if resume:
            return load_model(out)
        raise ConfigError(f"{out} holds a checkpoint already; give another --out.")
    chosen = _bundles(cohort, bundles)
    training, validation = _splits(cohort)
    samples = load_samples([*training, *validation], modality, chosen, progress)
    torch.manual_seed(seed)
    architecture = Architecture(
        name=network, in_channels=channels_of(modality) + COORDINATE_CHANNELS, out_channels=len(chosen)
    )
    built = build_network(architecture)
    schedule = dataclasses.replace(SOURCE, epochs=epochs or SOURCE.epochs)
    result = fit(
        built,
        samples[: len(training)],
        samples[len(training) :],
        schedule,
        seed=seed,
        device=device,
        state=out / "state",
        progress=progress,
    )
    model = Model(
        name=out.name,
        network=built,
        architecture=architecture,
        modality=modality,
        bundles=chosen,
        spacing_mm=SPACING_MM,
        shape=SHAPE,
        thresholds=dict.fromkeys(chosen, 0.5),
        participants=digests([*training, *validation], modality),
        training={
            "cohort": cohort.name,
            "participants_trained_on": len(training),
            "participants_tuned_on": len(validation),
            **dataclasses.asdict(schedule),
            "seed": seed,
            "best_epoch": result.best_epoch,
            "validation_dice": round(result.best_dice, 4),
        },
    )
    write_text(out / "training.csv", pd.DataFrame(result.log).to_csv(index=False))
    save_model(model, out)
    return model


def load_samples(
    cases: Sequence[Case], modality: str, bundles: tuple[Bundle, ...], progress: Progress | None = None
) -> list[Sample]:
    """Load participants onto the model's grid, with reference masks."""
    samples: list[Sample] = []
    for case in cases:
        samples.append(load_sample(case, modality, SPACING_MM, SHAPE, bundles))
        if progress is not None:
            progress(len(samples), len(cases), "Loading images")
    return samples


def digests(cases: Sequence[Case], modality: str) -> dict[str, str]:
    """Digest of each participant's first image, by which it is known again under any name."""
    first = modality.split("+")[0]
    return {case.key: image_digest(case.images[first]) for case in cases}


def _bundles(cohort: Cohort, labels: Sequence[str]) -> tuple[Bundle, ...]:
    if not labels:
        if not cohort.bundles:
            raise DataError(f"Training needs reference masks; cohort {cohort.name} has none.")
        return cohort.bundles
    chosen = tuple(Bundle.parse(label) for label in labels)
    missing = [bundle.label for bundle in chosen if bundle not in cohort.bundles]
    if missing:
        there = " ".join(bundle.label for bundle in cohort.bundles)
        raise DataError(f"Cohort {cohort.name} must have masks of what is trained; it has {there}, not {missing}.")
    return chosen


def _splits(cohort: Cohort) -> tuple[list[Case], list[Case]]:
    if any("split" in case.attributes for case in cohort):
        training, validation = list(cohort.where(split="train")), list(cohort.where(split="val"))
    else:
        training, validation = list(cohort.where(group="control")), []
    if not training:
        raise DataError(
            f"Training needs participants with split 'train', or controls where there is no split column; cohort "
            f"{cohort.name} has neither. Fill in the column in participants.tsv."
        )
    return training, validation
