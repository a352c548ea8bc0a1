"""Segmentation of a cohort: masks and probabilities on each participant's own grid."""

import json
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...cohorts.folder import (
    UNFINISHED,
    image_path,
    load_cohort,
    mask_path,
    participants_frame,
    probability_path,
    read_description,
    read_participants,
    require_finished,
    require_new,
    write_description,
    write_participants,
)
from ...cohorts.peaks import meaning_digest
from ...errors import DataError, ShiftkitError
from ...files import holds, sweep, write_json, write_text
from ...images import megavoxels, write_image
from ...tables import read_cells
from ...types import Bundle, Case, Cohort, Predictions, Volume
from ...work import Cost, Work
from ..network.checkpoints import Model, require_same
from ..network.networks import require_fit
from ..samples.patches import Size
from ..samples.samples import Sample, load_sample
from .calibration import confidence
from .inference import Passage, each_case, ensemble_head, infer, on_own_grid
from .routing import Folds


def predict(
    model: Model | Sequence[Model] | Folds,
    cohort: Cohort,
    *,
    out: Path,
    probabilities: bool = True,
    mirrored: bool = False,
    window: Size | None = None,
    device: str = "auto",
    resume: bool = False,
    work: Work = Work(),
) -> Predictions:
    """Segment every participant of a cohort.

    Parameters
    ----------
    model : Model, sequence of Model or Folds
        What to segment with. Of several models probabilities are averaged. Of folds each participant gets those that
        never saw them, averaged where there are several; which they were stands in ``tables/routes.tsv``, and whom
        every fold has seen is a participant that failed.
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
        Go through the model's box in overlapping windows of this size in voxels; see `inference.logits`. By default
        each model's own: the size of the patches it was trained on, else the whole box. The model's box as a
        window makes a model of patches look at the whole at once.
    resume : bool
        Keep the predictions that are there already, if this model made them.

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
        If no participant could be segmented or has the model's modality, or models do not fit each other.
    """
    models = [model] if isinstance(model, Model) else list(model.models.values() if isinstance(model, Folds) else model)
    first = ensemble_head(models)
    first.require_input(cohort)
    segmenter = Segmenter(models=models, probabilities=probabilities, mirrored=mirrored, window=window, device=device)
    if isinstance(model, Folds):
        name, routes = model.name, model.routes(cohort)
        if not any(routes.values()):
            raise DataError(
                f"A participant is segmented by folds that never saw them; all {len(models)} folds of {name} "
                f"have seen all {len(cohort)} cases of {cohort.name}. Use models trained without them."
            )
    else:
        name, routes = first.name if len(models) == 1 else f"{first.name}×{len(models)}", None
    made_by = segmenter.provenance(name) | ({} if routes is None else {"Routed": True})
    choose = partial(model.routed, routes) if isinstance(model, Folds) and routes else None
    with left_as_it_was_found(out):
        _require_own(out, made_by, resume)
        segmenter.require_unchanged(cohort.cases, out, choose)
        open_predictions(out, cohort, made_by, resume)
        failed = segmenter.segment(cohort.cases, out, work, f"Segmenting {cohort.name} with {name}", choose)
    if routes is not None:
        rows = [{**_who(case), "folds": " ".join(routes[case.key]) or "n/a"} for case in cohort]
        _write_table(out, "routes", sorted([*rows, *_rows_of_others(out, "routes", cohort)], key=_in_order))
    return close_predictions(out, cohort, made_by, failed)


def cost_of(model: Model, cohort: Cohort, passes: int = 1) -> Cost:
    """What it takes to segment a cohort by so many passes through a network; as in `benchmarks/segmentation.md`."""
    mega = megavoxels(cohort)
    box = np.prod(model.shape) / 1e6
    each = Cost(seconds=0.2 + 1.2 * box * passes + 0.9 * mega, disk_gib=len(model.bundles) * mega * 2e-5)
    return each.times(len(cohort)) + Cost(seconds=4.0, memory_gib=0.56 + 0.3 * box + 0.12 * mega)


@dataclass(frozen=True, kw_only=True)
class Segmenter:
    """Models, and how they look at a participant, as in `predict`; thresholds are the first one's."""

    models: Sequence[Model]
    probabilities: bool = True
    mirrored: bool = False
    window: Size | None = None
    device: str = "auto"

    def provenance(self, name: str) -> dict[str, Any]:
        """What a folder of predictions says of how it was made; refuses a window that does not fit a network."""
        made_by: dict[str, Any] = {
            "Name": name,
            "Digest": [one.digest for one in self.models],
            "Modality": self.models[0].modality,
        }
        if self.mirrored:
            made_by["Mirrored"] = True
        if self.window is not None:
            for one in self.models:
                if one.architecture is not None:  # what another module takes, it says itself
                    require_fit("window", self.window, one.architecture, one.shape)
            made_by["Window"] = list(self.window)
        return made_by

    def segment(
        self,
        cases: Sequence[Case],
        out: Path,
        work: Work,
        stage: str,
        choose: Callable[[Case], Sequence[Model]] | None = None,
    ) -> dict[str, str]:
        """Write the predictions of cases that have none yet; returns those that failed, with the reason.

        ``choose`` gives the models of a case, or says with a `DataError` why there are none; without it all are used.
        """

        def chosen(case: Case) -> Sequence[Model]:
            return self.models if choose is None else choose(case)

        def read(case: Case) -> Sample | None:
            if _note_path(out, case).is_file():
                return None
            chosen(case)  # whom no model may segment need not be read
            first = self.models[0]
            return load_sample(case, first.modality, first.spacing_mm, first.shape)

        def compute(case: Case, sample: Sample) -> tuple[Sample, NDArray[np.float32]]:
            return sample, infer(chosen(case), sample, self.mirrored, self.window)

        def write(case: Case, made: tuple[Sample, NDArray[np.float32]]) -> None:
            self._write_case(case, out, chosen(case), on_own_grid(self.models[0], *made))

        self.require_unchanged(cases, out, choose)
        for case in cases:
            path = _note_path(out, case)
            if path.is_file() and _made_from(path) is None:
                path.unlink()  # it cannot be vouched for, so made again
        passage = Passage(read=read, compute=compute, write=write)
        return each_case(self.models, cases, passage, self.device, work, stage)

    def require_unchanged(
        self, cases: Sequence[Case], out: Path, choose: Callable[[Case], Sequence[Model]] | None = None
    ) -> None:
        """Refuse, before anything is made or marked, predictions that are there of other images, or by other models."""
        for case in cases:
            path = _note_path(out, case)
            there = _made_from(path) if path.is_file() else None
            if there is None:
                continue
            try:
                models = self.models if choose is None else choose(case)
            except DataError:
                models = ()  # whom every fold has seen by now: what is there was made by one that has
            require_same(there, self._made(case, models), out, f"a prediction of {case.key}")

    def _made(self, case: Case, models: Sequence[Model]) -> dict[str, Any]:
        """What a prediction was made from."""
        names = self.models[0].modality.split("+")
        images = {name: meaning_digest(path) for name in names if (path := case.images.get(name)) and path.is_file()}
        return {"format": _FORMAT, "models": [one.digest for one in models], "images": images}

    def _write_case(self, case: Case, out: Path, models: Sequence[Model], made: Mapping[Bundle, Volume]) -> None:
        rows: list[dict[str, Any]] = []
        for bundle, volume in made.items():
            mask = volume.array >= models[0].thresholds[bundle]
            if self.probabilities:
                # One byte a voxel, with the scale in the header.
                steps = volume.with_array(np.round(volume.array * 255).astype(np.uint8))
                write_image(steps, probability_path(out, case.key, bundle), slope=1 / 255)
            write_image(volume.with_array(mask), mask_path(out, case.key, bundle))
            place = {"bundle": bundle.name, "hemisphere": bundle.hemisphere}
            ml = round(float(mask.sum()) * volume.voxel_volume_ml, 3)
            sure = confidence(volume.array, mask, models[0].overconfidence)
            rows.append({**_who(case), **place, "volume_ml": ml, **vars(sure)})
        _write_sources(out, case, models[0].modality, ("mask", "probseg") if self.probabilities else ("mask",))
        # Written last: it says that the case is whole.
        note = {"Confidence": rows, "Made": self._made(case, models)}
        write_text(_note_path(out, case), json.dumps(note) + "\n")


_FORMAT = 2
"""Of predictions on disk: raised when the same images and models give other voxels, and only then."""


def _made_from(note: Path) -> dict[str, Any] | None:
    """What a prediction says that it was made from; None of one that is damaged or of another version."""
    try:
        made = json.loads(note.read_text(encoding="utf-8"))["Made"]
        return made if made["format"] == _FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None


@contextmanager
def left_as_it_was_found(out: Path) -> Generator[None]:
    """Take back what was written into a new or empty folder if an error ends the block.

    Nothing that is half there may pass for a result.
    """
    existed, empty = out.is_dir(), not holds(out)
    try:
        yield
    except ShiftkitError:
        if empty and out.is_dir():
            # One by one: the folder itself may be a link.
            for path in out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not existed:
                out.rmdir()
        raise


def open_predictions(out: Path, cohort: Cohort, made_by: dict[str, Any], resume: bool) -> None:
    """Write the tables of a folder of predictions, or refuse one that is in use or was made otherwise."""
    _require_own(out, made_by, resume)
    sweep(out)
    # Said until all are written: masks that are not there yet must not pass for masks that a model left empty.
    _describe(out, cohort, made_by, State=UNFINISHED)
    write_participants(out, _with_those_there(participants_frame(cohort), out))


def _require_own(out: Path, made_by: dict[str, Any], resume: bool) -> None:
    require_new(out, resume)
    if holds(out):
        there = read_description(out).get("Model")
        require_same(there if isinstance(there, dict) else {}, made_by, out, "predictions")


def _with_those_there(rows: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Rows of a cohort's participants, and of others who have predictions in a folder already."""
    if not (out / "participants.tsv").is_file():
        return rows
    known = set(rows["participant_id"])
    there = {name: row for name, row in read_participants(out).items() if name not in known and (out / name).is_dir()}
    if not there:
        return rows
    others = pd.DataFrame([{"participant_id": name, **row} for name, row in there.items()])
    return pd.concat([rows, others]).sort_values("participant_id", ignore_index=True)


def _rows_of_others(out: Path, table: str, cohort: Cohort) -> list[dict[str, Any]]:
    """What a table of a folder says of participants that a cohort does not have."""
    path = out / "tables" / f"{table}.tsv"
    known = {case.participant_id for case in cohort}
    rows = read_cells(path).to_dict("records") if path.is_file() else []
    return [row for row in rows if row["participant_id"] not in known]  # pyright: ignore[reportReturnType]


def _in_order(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["participant_id"], row["session"]


def _describe(out: Path, cohort: Cohort, made_by: dict[str, Any], **more: str) -> None:
    links = {"DatasetLinks": {"source": quote(cohort.name)}}
    write_description(out, f"{made_by['Name']} on {cohort.name}", Model=made_by, Cohort=cohort.name, **links, **more)


def close_predictions(
    out: Path, cohort: Cohort, made_by: dict[str, Any], failed: dict[str, str], writes: bool = True
) -> Predictions:
    """Gather what was written case by case; of a folder that holds others too, these are not handed back.

    Of several processes one ``writes``, and the others gather after it.
    """
    made = load_cohort(out, name=cohort.name)
    if writes:
        notes = [path for case in made if (path := _note_path(out, case)).is_file()]
        rows = [row for path in notes for row in json.loads(path.read_text(encoding="utf-8"))["Confidence"]]
        _write_table(out, "confidence", rows)
        _describe(out, cohort, made_by)
    keys = {case.key for case in cohort}
    made = replace(made.where(lambda case: case.key in keys), description=read_description(out))
    return Predictions(cohort=made, model=made_by["Name"], modality=made_by["Modality"], failed=failed)


def read_predictions(out: Path) -> Predictions:
    """Read a folder that `predict`, or fine-tuning, wrote.

    Raises
    ------
    DataError
        If the folder is not a cohort, does not say which model made it, or is unfinished.
    """
    require_finished(out)
    description = read_description(out)
    made_by = description.get("Model")
    if not isinstance(made_by, dict) or not {"Name", "Modality"} <= set(made_by):
        raise DataError(
            f"Predictions say in dataset_description.json which model made them; {out} does not. Make them with "
            "shiftkit predict or finetune; masks of other tools can be scored with shiftkit score."
        )
    made = load_cohort(out, name=str(description.get("Cohort", out.name)))
    return Predictions(cohort=made, model=made_by["Name"], modality=made_by["Modality"])


def _note_path(out: Path, case: Case) -> Path:
    return image_path(out, case.key, "fa").parent / f"{case.key}_desc-confidence_probseg.json"


def _write_sources(out: Path, case: Case, modality: str, kinds: Sequence[str]) -> None:
    """Say of a case's masks, and probabilities, which images they were made from; one sidecar holds for all of a kind.

    Links are those of BIDS, to files of the data set ``source`` that the description names, which has no place: this
    one may be shared without it.
    """
    places: list[str] = []
    for name in modality.split("+"):
        path = case.images[name]
        _, found, inner = path.as_posix().rpartition(f"/{case.participant_id}/")
        places.append(f"{case.participant_id}/{inner}" if found else path.name)
    for kind in kinds:
        sidecar = image_path(out, case.key, "fa").with_name(f"{case.key}_{kind}.json")
        write_json(sidecar, {"Sources": [f"bids:source:{place}" for place in places]})


def _who(case: Case) -> dict[str, str]:
    return {"participant_id": case.participant_id, "session": case.session or "n/a"}


def _write_table(out: Path, name: str, rows: list[dict[str, Any]]) -> None:
    text = pd.DataFrame(rows).to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    write_text(out / "tables" / f"{name}.tsv", text)
