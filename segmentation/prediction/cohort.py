"""Segmentation of a cohort: masks and probabilities on each participant's own grid."""

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...cohorts.folder import (
    image_path,
    load_cohort,
    mask_path,
    participants_frame,
    probability_path,
    read_description,
    write_description,
    write_participants,
)
from ...errors import ConfigError, DataError, ModelMismatchError, ShiftkitError
from ...files import atomic, write_text
from ...images import write_image
from ...types import Case, Cohort, Predictions, Volume
from ...work import Progress
from ..network.checkpoints import Model
from ..network.devices import pick_device
from ..network.networks import require_fit
from ..samples.patches import Size
from .calibration import confidence
from .inference import ensemble_head, predict_probabilities


def predict(
    model: Model | Sequence[Model],
    cohort: Cohort,
    *,
    out: Path,
    probabilities: bool = True,
    mirrored: bool = False,
    window: Size | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: Progress | None = None,
) -> Predictions:
    """Segment every participant of a cohort.

    Parameters
    ----------
    model : Model or sequence of Model
        What to segment with; of several models, such as the folds of one training, probabilities are averaged.
    cohort : Cohort
        Participants with the model's modality.
    out : Path
        Folder of the predictions: a cohort again, new or empty, or with ``resume`` a half-made one. Expected
        Dice and entropy of each mask are in its ``tables/confidence.tsv``.
    probabilities : bool
        Also write the voxel-wise probabilities, in steps of 1/255.
    mirrored : bool
        Average with the prediction for the mirror image (test-time augmentation).
    window : tuple of int, optional
        Go through the model's box in overlapping windows of this size in voxels; see `windows.logits`. By default
        each model's own: the size of the patches it was trained on, else the whole box. The model's box as a
        window makes a model of patches look at the whole at once.
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
        If ``out`` holds something and ``resume`` was not asked for, or holds predictions that were made otherwise;
        if the window does not fit the network's strides or the box.
    DataError, ModelMismatchError
        If no participant could be segmented, or models do not fit each other.
    """
    models = [model] if isinstance(model, Model) else list(model)
    first = ensemble_head(models)
    name = first.name if len(models) == 1 else f"{first.name}×{len(models)}"
    made_by = provenance(name, models, mirrored, window)
    report = _counted(progress, len(cohort), f"Segmenting {cohort.name} with {name}")
    with left_as_it_was_found(out):
        open_predictions(out, cohort, made_by, resume)
        failed = segment(models, cohort.cases, out, probabilities, mirrored, device, report, window)
    return close_predictions(out, cohort, name, first.modality, failed)


def provenance(name: str, models: Sequence[Model], mirrored: bool, window: Size | None) -> dict[str, Any]:
    """What a folder of predictions says of how it was made.

    Raises
    ------
    ConfigError
        If the window does not fit a network's strides or its box.
    """
    made_by: dict[str, Any] = {
        "Name": name,
        "Digest": [one.digest for one in models],
        "Modality": models[0].modality,
    }
    if mirrored:
        made_by["Mirrored"] = True
    if window is not None:
        for one in models:
            require_fit("window", window, one.architecture, one.shape)
        made_by["Window"] = list(window)
    return made_by


@contextmanager
def left_as_it_was_found(out: Path) -> Generator[None]:
    """Take back what was written into a new or empty folder if an error ends the block: nothing passes for a result."""
    existed, empty = out.is_dir(), not out.is_dir() or not any(out.iterdir())
    try:
        yield
    except ShiftkitError:
        if empty and out.is_dir():
            shutil.rmtree(out)
            if existed:
                out.mkdir()
        raise


def segment(
    models: Sequence[Model],
    cases: Sequence[Case],
    out: Path,
    probabilities: bool,
    mirrored: bool,
    device: str,
    report: Callable[[int], None],
    window: Size | None = None,
) -> dict[str, str]:
    """Write the predictions of cases that have none yet; returns those that failed, with the reason."""
    failed: dict[str, str] = {}
    problem: DataError | ModelMismatchError | None = None
    target = pick_device(device)
    for model in models:
        model.network.to(target)
    for done, case in enumerate(cases, start=1):
        if not _note_path(out, case).is_file():
            try:
                _write_case(out, case, models, probabilities, mirrored, window)
            except (DataError, ModelMismatchError) as error:
                problem = error
                failed[case.key] = str(error)
        report(done)
    for model in models:
        model.network.cpu()
    if problem is not None and len(failed) == len(cases):
        raise problem
    return failed


def open_predictions(out: Path, cohort: Cohort, made_by: dict[str, Any], resume: bool) -> None:
    """Write the tables of a folder of predictions, or check that it was made in the same way."""
    if out.is_dir() and any(out.iterdir()):
        if not resume:
            raise ConfigError(f"Predictions need an empty folder; {out} holds files already. Give --resume or --out.")
        if read_description(out).get("Model") != made_by:
            raise ConfigError(f"{out} holds predictions that were made otherwise; give another --out.")
    write_description(out, f"{made_by['Name']} on {cohort.name}", Model=made_by, Cohort=cohort.name)
    write_participants(out, participants_frame(cohort))


def close_predictions(out: Path, cohort: Cohort, name: str, modality: str, failed: dict[str, str]) -> Predictions:
    """Gather what was written case by case."""
    rows: list[dict[str, Any]] = []
    for case in cohort:
        if _note_path(out, case).is_file():
            rows += json.loads(_note_path(out, case).read_text(encoding="utf-8"))["Confidence"]
    frame = pd.DataFrame(rows)
    table = frame.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    write_text(out / "tables" / "confidence.tsv", table)
    made = load_cohort(out, name=cohort.name)
    return Predictions(cohort=made, model=name, modality=modality, failed=failed)


def read_predictions(out: Path) -> Predictions:
    """Read a folder that `predict`, or fine-tuning, wrote.

    Raises
    ------
    DataError
        If the folder is not a cohort, or does not say which model made it.
    """
    description = read_description(out)
    made_by = description.get("Model")
    if not isinstance(made_by, dict) or not {"Name", "Modality"} <= set(made_by):
        raise DataError(
            f"Predictions say in dataset_description.json which model made them; {out} does not. Make them with "
            "shiftkit predict or finetune; masks of other tools can be scored with shiftkit score."
        )
    made = load_cohort(out, name=str(description.get("Cohort", out.name)))
    return Predictions(cohort=made, model=made_by["Name"], modality=made_by["Modality"])


def _write_case(
    out: Path, case: Case, models: Sequence[Model], probabilities: bool, mirrored: bool, window: Size | None
) -> None:
    rows: list[dict[str, Any]] = []
    for bundle, volume in predict_probabilities(models, case, mirrored=mirrored, window=window).items():
        steps = np.round(volume.array * 255).astype(np.uint8)
        mask = volume.array >= models[0].thresholds[bundle]
        if probabilities:
            _write_steps(volume.with_array(steps), probability_path(out, case.key, bundle))
        write_image(volume.with_array(mask), mask_path(out, case.key, bundle))
        sure = confidence(volume.array, mask, models[0].overconfidence)
        rows.append(
            {
                "participant_id": case.participant_id,
                "session": case.session or "n/a",
                "bundle": bundle.name,
                "hemisphere": bundle.hemisphere,
                "volume_ml": round(float(mask.sum()) * volume.voxel_volume_ml, 3),
                **vars(sure),
            }
        )
    # Written last: it says that the case is whole.
    write_text(_note_path(out, case), json.dumps({"Confidence": rows}) + "\n")


def _write_steps(volume: Volume, path: Path) -> None:
    """One byte a voxel, with the scale in the header: readers see values in 0–1."""
    import nibabel as nib

    image = nib.Nifti1Image(volume.array, volume.affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1 / 255, 0)
    image.set_sform(volume.affine, code=2)
    image.set_qform(volume.affine, code=2)
    with atomic(path) as part:
        nib.save(image, part)


def _note_path(out: Path, case: Case) -> Path:
    folder = image_path(out, case.key, "fa").parent
    return folder / f"{case.key}_desc-confidence_probseg.json"


def _counted(progress: Progress | None, total: int, text: str) -> Callable[[int], None]:
    return lambda done: None if progress is None else progress(done, total, text)
