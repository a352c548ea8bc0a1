"""Segmentation of a cohort: masks and probabilities on each participant's own grid."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from .. import cohorts
from ..cohorts import load_cohort, mask_path, probability_path
from ..errors import ConfigError, DataError, ModelMismatchError
from ..images import write_image
from ..types import Bundle, Case, Cohort, Predictions, Volume
from .checkpoints import Model
from .data import load_sample, to_own_grid
from .fitting import pick_device

Progress = Callable[[int, int, str], None]


def predict(
    model: Model,
    cohort: Cohort,
    *,
    out: Path,
    probabilities: bool = True,
    device: str = "auto",
    resume: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Segment every participant of a cohort.

    Parameters
    ----------
    model : Model
        What to segment with.
    cohort : Cohort
        Participants with the model's modality.
    out : Path
        Folder of the predictions: a cohort again, new or empty, or with ``resume`` a half-made one.
    probabilities : bool
        Also write the voxel-wise probabilities, in steps of 1/255.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    resume : bool
        Keep the predictions that are there already, if this model made them.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Predictions
        Participants that could not be segmented are in ``failed``, with the reason.

    Raises
    ------
    ConfigError
        If ``out`` holds something and ``resume`` was not asked for, or holds another model's predictions.
    DataError, ModelMismatchError
        If no participant could be segmented.
    """
    _open(out, model, cohort, resume)
    runner = model.network.to(pick_device(device))
    failed: dict[str, str] = {}
    problem: DataError | ModelMismatchError | None = None
    for done, case in enumerate(cohort, start=1):
        if not _is_done(out, case, model.bundles):
            try:
                _write_case(out, case, model, runner, probabilities)
            except (DataError, ModelMismatchError) as error:
                problem = error
                failed[case.key] = str(error)
        if progress is not None:
            progress(done, len(cohort), f"Segmenting {cohort.name} with {model.name}")
    model.network.cpu()
    if problem is not None and len(failed) == len(cohort):
        raise problem
    made = load_cohort(out, name=cohort.name)
    return Predictions(cohort=made, model=model.name, modality=model.modality, failed=failed)


def read_predictions(out: Path, name: str | None = None) -> Predictions:
    """The predictions that `predict` left in a folder.

    Raises
    ------
    DataError
        If the folder holds none.
    """
    made = load_cohort(out, name=name)
    made_by = made.description.get("Model")
    if not isinstance(made_by, dict) or "Name" not in made_by:
        raise DataError(f"{out} must hold predictions made by shiftkit; its dataset_description.json names no model.")
    return Predictions(cohort=made, model=made_by["Name"], modality=made_by.get("Modality", "n/a"))


def predict_probabilities(model: Model, case: Case) -> Iterator[tuple[Bundle, Volume]]:
    """Probability of each bundle on the participant's own grid.

    Yields
    ------
    Bundle, Volume
        Values in 0–1; 0 outside the model's box around the brain.
    """
    yield from _probabilities(model, case, model.network)


def _probabilities(model: Model, case: Case, runner: torch.nn.Module) -> Iterator[tuple[Bundle, Volume]]:
    sample = load_sample(case, model.modality, model.spacing_mm, model.shape)
    image = torch.from_numpy(sample.image)[None].to(next(runner.parameters()).device)
    with torch.inference_mode():
        output = torch.sigmoid(runner(image.to(memory_format=torch.channels_last_3d)))[0].float().cpu().numpy()
    for bundle, channel in zip(model.bundles, output, strict=True):
        yield bundle, to_own_grid(channel, sample)


def _write_case(out: Path, case: Case, model: Model, runner: torch.nn.Module, probabilities: bool) -> None:
    for bundle, volume in _probabilities(model, case, runner):
        if probabilities:
            steps = np.round(volume.array * 255) / np.float32(255)
            write_image(volume.with_array(steps.astype(np.float32)), probability_path(out, case.key, bundle))
        write_image(volume.with_array(volume.array >= model.thresholds[bundle]), mask_path(out, case.key, bundle))


def _is_done(out: Path, case: Case, bundles: tuple[Bundle, ...]) -> bool:
    """A case's masks are written in order, so the last one says that all are there."""
    return mask_path(out, case.key, bundles[-1]).is_file()


def _open(out: Path, model: Model, cohort: Cohort, resume: bool) -> None:
    made_by = {"Name": model.name, "Digest": model.digest, "Modality": model.modality}
    if out.is_dir() and any(out.iterdir()):
        if not resume:
            raise ConfigError(f"Predictions need an empty folder; {out} holds files already. Give --resume or --out.")
        there = cohorts.read_description(out).get("Model")
        if there != made_by:
            raise ConfigError(f"{out} holds predictions of another model; give another --out.")
    cohorts.write_description(out, f"{model.name} on {cohort.name}", Model=made_by)
    cohorts.write_participants(out, cohorts.participants_frame(cohort))
