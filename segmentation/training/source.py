"""Source models: trained on the training split of a cohort, tuned on its validation split."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ...errors import ConfigError, DataError
from ...types import Bundle, Case, Cohort, Predictions
from ...work import Progress
from ..network.checkpoints import Model
from ..network.networks import Architecture, require_fit
from ..prediction.cohort import close_predictions, open_predictions, segment
from ..samples.augmentation import AUGMENTATIONS
from ..samples.cache import MEMORY_GIB
from ..samples.patches import Size
from ..samples.samples import COORDINATE_CHANNELS, box_shape, channels_of
from .epochs import Schedule
from .folds import fold_members, split_fold
from .recipes import Recipe

__all__ = ["FoldModels", "train"]

SPACING_MM = 2.5
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
    deep_supervision: bool = False,
    channels: tuple[int, ...] = CHANNELS,
    spacing_mm: float = SPACING_MM,
    shape: Size | None = None,
    patch: Size | None = None,
    epochs: int | None = None,
    batch_size: int = 1,
    patience: int | None = None,
    augmentation: str = "light",
    device: str = "auto",
    deterministic: bool = True,
    memory_gib: float = MEMORY_GIB,
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
    deep_supervision : bool
        Train coarser levels of the decoder on the masks too (``dynunet`` only); see `losses.supervised_loss`.
    channels : tuple of int
        Feature maps at each depth.
    spacing_mm : float
        Spacing of the model's grid.
    shape : tuple of int, optional
        Its shape; multiples of 2 to the power of how often the network halves its input. By default what a brain
        needs at the spacing; see `grids.box_shape`.
    patch : tuple of int, optional
        Train on patches of this size in voxels, half of them around a bundle, one a participant and epoch, and
        predict in windows of it; the whole box by default. Such multiples too.
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
    deterministic : bool
        On a GPU, use only algorithms that give the same bits each time; the CPU always does.
    memory_gib : float
        Bound on the participants' images that are kept in memory; others are loaded again in every epoch.
    seed : int
        Of weights, order, augmentation and patches.
    resume : bool
        Continue an interrupted training in ``out``, with the settings it was started with.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Model or FoldModels

    Raises
    ------
    ConfigError
        If ``out`` holds a checkpoint already or, to be resumed, one of other settings; if an option is unknown; if
        box or patch do not fit the network.
    DataError
        If there is nobody to train on, or a modality or bundle is missing.
    """
    if augmentation not in AUGMENTATIONS:
        raise ConfigError(f"Augmentation is one of {', '.join(AUGMENTATIONS)}; got {augmentation!r}.")
    labels = _bundles(cohort, bundles)
    architecture = Architecture(
        name=network,
        in_channels=channels_of(modality) + COORDINATE_CHANNELS,
        out_channels=len(labels),
        channels=channels,
        normalization=normalization,
        deep_supervision=deep_supervision,
    )
    shape = shape or box_shape(spacing_mm)
    require_fit("shape", shape, architecture)
    if patch is not None:
        require_fit("patch", patch, architecture, shape)
    recipe = Recipe(
        modality=modality,
        bundles=labels,
        architecture=architecture,
        spacing_mm=spacing_mm,
        shape=shape,
        patch=patch,
        schedule=dataclasses.replace(
            SOURCE,
            epochs=epochs or SOURCE.epochs,
            batch_size=batch_size,
            patience=patience,
            augmentation=augmentation,
        ),
        device=device,
        deterministic=deterministic,
        memory_gib=memory_gib,
        resume=resume,
    )
    if folds == 1:
        return recipe.train(cohort, *_splits(cohort), out, seed, "Training", progress)
    return _train_folds(cohort, recipe, folds, out, seed, progress)


def _train_folds(
    cohort: Cohort, recipe: Recipe, folds: int, out: Path, seed: int, progress: Progress | None
) -> FoldModels:
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
