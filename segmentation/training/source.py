"""Source models: trained on the training split of a cohort, tuned on its validation split."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import DataError
from ...files import held
from ...types import Case, Cohort, Predictions
from ...words import named
from ...work import Cost, Work
from ..network.checkpoints import Model, load_model, require_own
from ..prediction.cohort import Segmenter, close_predictions, open_predictions
from .folds import fold_members, split_fold
from .processes import join_processes, require_batches, require_pieces, telling
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

    Of several processes of a launcher each takes its share of every batch, or whole folds; all return the same.

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
        box or patch do not fit the network; if several processes cannot share this training.
    DataError
        If there is nobody to train on, or a modality or bundle is missing.
    """
    require_own(out, resume)
    settled = recipe.settled(cohort)
    if folds == 1:
        splits = _splits(cohort)
        require_batches(recipe.device, recipe.batch_size, recipe.normalization)
        _begin(settled, cohort, list(splits), out, work)
        how: dict[str, Any] = {"processes": join_processes(recipe.device), "work": work}
        return train_by(settled, cohort, *splits, out=out, resume=resume, stage="Training", **how)
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
    require_pieces(folds, "folds")
    # Another seed a fold, or all would choose their validation participants by the same draw.
    splits = [split_fold(controls, members, recipe.seed + n) for n, members in enumerate(every_fold, start=1)]
    _begin(recipe, cohort, [people for split in splits for people in split], out, work)
    processes, place = join_processes(recipe.device), out / "predictions"
    processes.gather(None)  # all have seen the folder before anything in it changes
    processes.after_main(lambda writes: writes and open_predictions(place, controls, made_by, resume))
    folders = [out / f"fold-{number}" for number in range(1, folds + 1)]
    models: dict[Path, Model] = {}
    failed: dict[str, str] = {}
    for folder, members, split in processes.share(list(zip(folders, every_fold, splits, strict=True))):
        fold = f"{folder.name.replace('-', ' ')}/{folds}"
        how: dict[str, Any] = {"processes": processes.alone, "work": work}
        with held(folder, "train"):
            models[folder] = train_by(
                recipe, cohort, *split, out=folder, resume=resume, stage=f"Training {fold}", **how
            )
        test = [case for case in controls if case.participant_id in members]
        segmenter = Segmenter(models=[models[folder]], device=recipe.device)
        failed |= segmenter.segment(test, place, work, f"Segmenting {fold}")
    failed = {key: why for one in processes.gather(failed, telling(work, folders)) for key, why in one.items()}
    predictions = processes.after_main(lambda writes: close_predictions(place, controls, made_by, failed, writes))
    return FoldModels(models=tuple(models.get(one) or load_model(one) for one in folders), predictions=predictions)


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
