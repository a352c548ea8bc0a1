"""Source models: trained on the training split of a cohort, tuned on its validation split."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from ..errors import ConfigError, DataError
from ..files import write_text
from ..images import image_digest
from ..types import Bundle, Case, Cohort, Predictions
from .augmentation import AUGMENTATIONS
from .checkpoints import Model, load_model, save_model
from .curves import save_curve
from .data import COORDINATE_CHANNELS, Sample, channels_of, load_sample
from .features import feature_statistics
from .fitting import Schedule, fit
from .network import Architecture, build_network
from .prediction import close_predictions, open_predictions, segment
from .thresholds import measure_overconfidence

Progress = Callable[[int, int, str], None]

SPACING_MM = 2.5
SHAPE = (64, 80, 64)
CHANNELS = (16, 32, 64, 128)
SOURCE = Schedule(epochs=30, learning_rate=3e-3)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldModels:
    """Source models in folds, and what each predicted for the participants it never saw.

    Parameters
    ----------
    models : tuple of Model
        One a fold.
    predictions : Predictions
        Out of fold, of every participant.
    """

    models: tuple[Model, ...]
    predictions: Predictions

    def __str__(self) -> str:
        return f"{len(self.models)} folds of {self.models[0]}"


def train(
    cohort: Cohort,
    *,
    out: Path,
    modality: str = "peaks",
    bundles: Sequence[str] = (),
    folds: int = 1,
    network: str = "unet",
    normalization: str = "instance",
    channels: tuple[int, ...] = CHANNELS,
    spacing_mm: float = SPACING_MM,
    shape: tuple[int, int, int] = SHAPE,
    epochs: int | None = None,
    batch_size: int = 1,
    patience: int | None = None,
    augmentation: str = "light",
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> Model | FoldModels:
    """Train a source model, or one a fold.

    Participants with ``split`` train are trained on; those with val choose the epoch; those with test are
    never looked at. Without a ``split`` column every control is trained on and the last epoch is kept.
    With several folds the column is not used: every control is predicted by the model that did not see it.

    Parameters
    ----------
    cohort : Cohort
        With reference masks.
    out : Path
        The checkpoint folder; its name becomes the model's. With folds it gets ``fold-1`` … and ``predictions``.
    modality : str
        ``t1w``, ``ap``, ``fa``, ``peaks``, another scalar map, or a stack joined by ``+``.
    bundles : sequence of str
        Labels such as ``AFleft``; all the cohort has by default.
    folds : int
        Number of models; 1 uses the ``split`` column.
    network : str
        ``unet``, ``segresnet`` or ``dynunet``.
    normalization : str
        ``instance`` or ``batch``.
    channels : tuple of int
        Feature maps at each depth.
    spacing_mm : float
        Spacing of the model's grid.
    shape : tuple of int
        Its shape; multiples of 2 to the power of the depth.
    epochs : int, optional
        Passes over the participants.
    batch_size : int
        Participants a step, over all processes together.
    patience : int, optional
        Stop after so many validations without a better one.
    augmentation : str
        A name in `augmentation.AUGMENTATIONS`.
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
    Model or FoldModels

    Raises
    ------
    ConfigError
        If ``out`` holds a checkpoint already, or an option is unknown.
    DataError
        If there is nobody to train on, or a modality or bundle is missing.
    """
    if augmentation not in AUGMENTATIONS:
        raise ConfigError(f"Augmentation is one of {', '.join(AUGMENTATIONS)}; got {augmentation!r}.")
    recipe = _Recipe(
        modality=modality,
        bundles=_bundles(cohort, bundles),
        network=network,
        normalization=normalization,
        channels=channels,
        spacing_mm=spacing_mm,
        shape=shape,
        schedule=dataclasses.replace(
            SOURCE,
            epochs=epochs or SOURCE.epochs,
            batch_size=batch_size,
            patience=patience,
            augmentation=augmentation,
        ),
        device=device,
        resume=resume,
    )
    if folds == 1:
        return recipe.train(cohort, *_splits(cohort), out, seed, "Training", progress)
    return _train_folds(cohort, recipe, folds, out, seed, progress)


def _train_folds(
    cohort: Cohort, recipe: "_Recipe", folds: int, out: Path, seed: int, progress: Progress | None
) -> FoldModels:
    from .transfer import fold_members, split_fold

    controls = cohort.where(group="control") if any(case.group != "n/a" for case in cohort) else cohort
    models: list[Model] = []
    failed: dict[str, str] = {}
    name = f"{out.name}×{folds}"
    made_by = {"Name": name, "Modality": recipe.modality, "Folds": folds, "Seed": seed}
    open_predictions(out / "predictions", controls, made_by, resume=recipe.resume)
    for number, members in enumerate(fold_members(controls, folds, seed), start=1):
        training, inner = split_fold(controls, members, seed + number)
        text = f"Training fold {number}/{folds}"
        model = recipe.train(cohort, training, inner, out / f"fold-{number}", seed, text, progress)
        models.append(model)
        test = [case for case in controls if case.participant_id in members]
        failed |= segment([model], test, out / "predictions", True, False, recipe.device, lambda done: None)
    predictions = close_predictions(out / "predictions", controls, name, recipe.modality, failed)
    return FoldModels(models=tuple(models), predictions=predictions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Recipe:
    """Everything about a training but who is in it and where it goes."""

    modality: str
    bundles: tuple[Bundle, ...]
    network: str
    normalization: str
    channels: tuple[int, ...]
    spacing_mm: float
    shape: tuple[int, int, int]
    schedule: Schedule
    device: str
    resume: bool

    def train(
        self,
        cohort: Cohort,
        training: list[Case],
        validation: list[Case],
        out: Path,
        seed: int,
        text: str,
        progress: Progress | None,
    ) -> Model:
        if (out / "models" / "model.safetensors").is_file():
            if self.resume:
                return load_model(out)
            raise ConfigError(f"{out} holds a checkpoint already; give another --out, or --resume to keep it.")
        if (out / "state" / "log.json").is_file() and not self.resume:
            raise ConfigError(f"{out} holds an unfinished training; give --resume to continue it, or another --out.")
        samples = load_samples(
            [*training, *validation], self.modality, self.bundles, self.spacing_mm, self.shape, progress
        )
        architecture = Architecture(
            name=self.network,
            in_channels=channels_of(self.modality) + COORDINATE_CHANNELS,
            out_channels=len(self.bundles),
            channels=self.channels,
            normalization=self.normalization,
        )
        torch.manual_seed(seed)
        built = build_network(architecture)
        result = fit(
            built,
            samples[: len(training)],
            samples[len(training) :],
            self.schedule,
            seed=seed,
            device=self.device,
            state=out / "state",
            text=text,
            progress=progress,
        )
        model = Model(
            name=out.name,
            network=built,
            architecture=architecture,
            modality=self.modality,
            bundles=self.bundles,
            spacing_mm=self.spacing_mm,
            shape=self.shape,
            thresholds=dict.fromkeys(self.bundles, 0.5),
            participants=digests([*training, *validation], self.modality),
            training={
                "cohort": cohort.name,
                "participants_trained_on": len(training),
                "participants_tuned_on": len(validation),
                **dataclasses.asdict(self.schedule),
                "precision": result.precision,
                "seed": seed,
                "best_epoch": result.best_epoch,
                "validation_dice": round(result.best_dice, 4),
            },
            feature_statistics=feature_statistics(built, samples[: len(training)]),
        )
        excess = measure_overconfidence(model, samples[len(training) :])
        model = dataclasses.replace(model, overconfidence=excess)
        write_text(out / "training.csv", pd.DataFrame(list(result.log)).to_csv(index=False))
        save_curve(result.log, out / "training.svg")
        save_model(model, out)
        shutil.rmtree(out / "state")
        return model


def load_samples(
    cases: Sequence[Case],
    modality: str,
    bundles: tuple[Bundle, ...],
    spacing_mm: float,
    shape: tuple[int, int, int],
    progress: Progress | None = None,
) -> list[Sample]:
    """Load participants onto the model's grid, with reference masks."""
    samples: list[Sample] = []
    for case in cases:
        samples.append(load_sample(case, modality, spacing_mm, shape, bundles))
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
