"""Fine-tuning as the command line does it: the patients of a cohort, and the controls for forgetting."""

from pathlib import Path
from typing import Any

from ..names import Progress
from ..types import Cohort, Predictions
from .inputs import gather


def finetune_cohort(
    model: str | Path,
    cohort: str | Path | Cohort,
    *,
    out: Path,
    reference: str | Path | Cohort | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Predictions:
    """Adapt a model to the patients of a cohort in folds, and predict each patient out of fold.

    Unseen controls are predicted by the fold models too, so that forgetting can be told from repair.

    Parameters
    ----------
    model, cohort : str or Path
        Path or name.
    out : Path
        Gets one checkpoint a fold and the folder ``predictions``.
    reference : str or Path, optional
        Where the controls are; see `shiftkit.pipeline.gather`.
    progress : callable, optional
        Called as ``progress(done, total, text)``.
    **options
        Passed to `shiftkit.segmentation.transfer.finetune`: strategy, folds, device, seed, resume.

    Raises
    ------
    DataError, ModelMismatchError
        If model and cohort cannot be used together.
    """
    from ..segmentation.transfer import finetune

    inputs = gather(model, cohort, reference, progress=progress)
    return finetune(inputs.model, inputs.patients, controls=inputs.controls, out=out, progress=progress, **options)
