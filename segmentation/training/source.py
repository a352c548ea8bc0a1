"""Source models: trained on the training split of a cohort, tuned on its validation split."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ...errors import DataError
from ...types import Case, Cohort, Predictions
from ...words import named
from ...work import Cost, Work
from ..network.checkpoints import Model, require_own
from ..prediction.cohort import Segmenter, close_predictions, open_predictions
from .folds import fold_members, split_fold
from .recipes import Recipe, train_by


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoldModels:
    """Source models, one a fold, and what each predicted for the participants it never saw."""

    models: tuple[Model, ...]
    predictions: Predictions

    def __str__(self) -> str:
        return f"{len(self.models)} folds of {self.models[0]}"


def train(
    cohort: Cohort,
    *,
    out: Path,
    recipe: Recipe = Recipe(),
    folds: int = 1,
    resume: bool = False,
    work: Work = Work(),
) -> Model | FoldModels:
    """Train a source model, or one a fold.

    Participants with ``split`` train are trained on; those with val choose the epoch; those with test are
    never looked at. Without a ``split`` column every control is trained on and the last epoch is kept.
    With several folds the column is not used: every control is predicted by the model that did not see it.

    Parameters
    ----------
    out : Path
        The checkpoint folder; its name becomes the model's. With folds it gets ``fold-1`` … and ``predictions``.
    folds : int
        Number of models; 1 uses the ``split`` column.
    resume : bool
        Continue an interrupted training in ``out``, with the settings it was started with.

    Raises
    ------
    ConfigError
        If ``out`` holds a checkpoint already or, to be resumed, one of other settings; if an option is unknown; if
        box or patch do not fit the network.
    DataError
        If there is nobody to train on, or a modality or bundle is missing.
    """
    require_own(out, resume)
    settled = recipe.settled(cohort)
    if folds == 1:
        splits = _splits(cohort)
        _begin(settled, cohort, list(splits), out, work)
        return train_by(settled, cohort, *splits, out=out, resume=resume, stage="Training", work=work)
    return _train_folds(settled, cohort, folds, out, resume, work)


def _begin(recipe: Recipe, cohort: Cohort, splits: Sequence[list[Case]], out: Path, work: Work) -> None:
    """Refuse participants without what is trained on, and say what it will take; two lists of participants a fold."""
    parts = set(recipe.modality.split("+"))
    lacking = dict.fromkeys(case.key for people in splits for case in people if not parts <= set(case.images))
    if lacking:
        raise DataError(
            f"Everybody who is trained on needs {' and '.join(sorted(parts))}; "
            f"{named(lacking, 3)} of {cohort.name} lack it. Add the images, or "
            "take these participants out of the cohort."
        )
    sizes = [(len(learned), len(held_out)) for learned, held_out in zip(splits[::2], splits[1::2], strict=True)]
    kind = f"{recipe.network} on {recipe.modality} for {len(recipe.bundles)} bundles"
    many = f"{len(sizes)} folds of a {kind}" if len(sizes) > 1 else f"a {kind}"
    work.begin(
        f"Would train {many}, on {max(sizes)[0]} participants of {cohort.name} for "
        f"{recipe.schedule(max(sizes)[0]).epochs} epochs, with {max(sizes)[1]} to choose the epoch.",
        sum((recipe.cost(*size) for size in sizes), Cost()),
        out,
    )


def _train_folds(recipe: Recipe, cohort: Cohort, folds: int, out: Path, resume: bool, work: Work) -> FoldModels:
    controls = cohort.where(group="control") if any(case.group != "n/a" for case in cohort) else cohort
    made_by = {"Name": f"{out.name}×{folds}", "Modality": recipe.modality, "Folds": folds, "Seed": recipe.seed}
    every_fold = fold_members(controls, folds, recipe.seed)
    # Another seed a fold, or all would choose their validation participants by the same draw.
    splits = [split_fold(controls, members, recipe.seed + n) for n, members in enumerate(every_fold, start=1)]
    _begin(recipe, cohort, [people for split in splits for people in split], out, work)
    open_predictions(out / "predictions", controls, made_by, resume)
    models: list[Model] = []
    failed: dict[str, str] = {}
    for number, (members, split) in enumerate(zip(every_fold, splits, strict=True), start=1):
        folder, fold = out / f"fold-{number}", f"fold {number}/{folds}"
        model = train_by(recipe, cohort, *split, out=folder, resume=resume, stage=f"Training {fold}", work=work)
        models.append(model)
        test = [case for case in controls if case.participant_id in members]
        segmenter = Segmenter(models=[model], device=recipe.device)
        failed |= segmenter.segment(test, out / "predictions", work, f"Segmenting {fold}")
    predictions = close_predictions(out / "predictions", controls, made_by, failed)
    return FoldModels(models=tuple(models), predictions=predictions)


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
