"""Feature-space shift of a cohort: embed, compare, relate to performance, report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..catalogue import CKA, DIRECTIONS, FEATURES, FORESIGHT, IMAGES, SCORES
from ..config import Features
from ..embeddings import Embeddings
from ..errors import DataError
from ..files import file_digest
from ..images import image_digest
from ..results import Finding
from ..runs import Run, cohort_digest
from ..tables import read_table
from ..types import Case, Cohort
from ..work import Progress, Work
from .inputs import Inputs, gather

if TYPE_CHECKING:
    from ..analyses.features.result import FeatureShift, Foresight, ImageShift, LayerChange
    from ..segmentation.network.checkpoints import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStudy:
    """Everything that is said about features, before and after fine-tuning.

    Parameters
    ----------
    before : FeatureShift
        Of the source model.
    after : tuple of FeatureShift
        Of each fine-tuned model, every patient by a network that never saw them.
    changes : tuple of LayerChange
        CKA of the source model with each of them.
    images : ImageShift
        What differs between the images themselves.
    foresight : Foresight
        Whether the shift foretells the drop.
    failed : mapping of str to str
        Participants that could not be embedded, with the reason.
    """

    before: "FeatureShift"
    images: "ImageShift"
    foresight: "Foresight"
    after: "tuple[FeatureShift, ...]" = ()
    changes: "tuple[LayerChange, ...]" = ()
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    @property
    def verdict(self) -> str:
        """The answer of the source model, and of each fine-tuned one."""
        later = [f"After fine-tuning ({one.embeddings.model}): {one.claim}" for one in self.after]
        return " ".join([self.before.claim, *later])

    def to_frame(self) -> pd.DataFrame:
        """Rows of `shiftkit.catalogue.FEATURES`, of all models."""
        return pd.concat([self.before.table, *(one.table for one in self.after)], ignore_index=True)

    def plot(self, ax: Any = None) -> Any:
        """MMD² of the source model by layer; returns the axes."""
        return self.before.plot(ax)

    def findings(self) -> tuple[Finding, ...]:
        """All findings, ready for a report."""
        from ..analyses.features.findings import compared

        return (
            *self.before.findings,
            *(compared(self.before, one) for one in self.after),
            *(finding for change in self.changes for finding in change.findings),
            *self.images.findings,
            *self.foresight.findings,
        )

    def write(self, run: Run) -> None:
        """Write the tables of the study into a run."""
        run.write_table(self.to_frame(), FEATURES)
        carried = [self.before.directions, *(one.directions for one in self.after)]
        run.write_table(pd.concat(carried, ignore_index=True), DIRECTIONS)
        run.write_table(self.images.table, IMAGES)
        run.write_table(self.foresight.table, FORESIGHT)
        if self.changes:
            run.write_table(pd.concat([one.table for one in self.changes], ignore_index=True), CKA)

    def __str__(self) -> str:
        return "\n".join((self.verdict, self.images.claim, self.foresight.claim, *(one.claim for one in self.changes)))

    def _repr_html_(self) -> str:
        from html import escape

        return "".join(f"<p>{escape(line)}</p>" for line in str(self).split("\n"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureOutcome:
    """What ``shiftkit features`` ended with; see `shiftkit.pipeline.Outcome`."""

    root: Path
    study: FeatureStudy

    @property
    def failed(self) -> Mapping[str, str]:
        """Participants without embeddings, with the reason."""
        return self.study.failed

    def lines(self) -> list[str]:
        """What the command line prints."""
        return [*str(self.study).split("\n"), f"Report: {self.root / 'report.html'}"]

    def to_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {"verdict": self.study.verdict, "report": "report.html", "failed": dict(self.failed)}


def features_cohort(
    *,
    out: Path,
    options: Features,
    model: str | Path,
    cohort: str | Path | Cohort,
    reference: str | Path | Cohort | None = None,
    finetuned: Sequence[Path] = (),
    scores: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> FeatureOutcome:
    """Measure the feature-space shift of a cohort into a folder; see ``shiftkit features``.

    Parameters
    ----------
    out : Path
        Folder of the run: new, empty, or with ``resume`` that of an interrupted run. Embeddings are stored in it, one
        npz file a participant, and used again.
    options : Features
        Settings.
    model, cohort : str, Path or Cohort
        The source model and the patients.
    reference : str, Path or Cohort, optional
        Where the controls are; see `shiftkit.pipeline.gather`.
    finetuned : sequence of Path
        Folders made by `shiftkit.pipeline.finetune_cohort`.
    scores : Path, optional
        A score table of the source model; without it the cohorts are segmented and scored.
    resume : bool
        Continue.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Raises
    ------
    ConfigError
        If the folder is in use, or a layer is unknown.
    DataError, ModelMismatchError
        If the input cannot be used.
    """
    inputs = gather(model, cohort, reference, progress=progress)
    given = read_table(scores, SCORES) if scores is not None else None
    run = Run.open(out, resume)
    study = study_features(run, inputs, options=options, finetuned=finetuned, scores=given, progress=progress)
    study.write(run)
    run.write_failures(study.failed)
    run.write_configuration({"features": options})
    digests = {"model": inputs.model.digest, "patients": cohort_digest(inputs.patients)}
    digests["controls"] = cohort_digest(inputs.controls)
    if scores is not None:
        digests["scores"] = file_digest(scores)
    record = {
        "verdict": study.verdict,
        "configuration": dataclasses.asdict(options),
        "seeds": {"features": options.seed},
        "inputs": digests,
    }
    _write_report(run, inputs, study, run.record(**record))
    run.write_record(**record)
    return FeatureOutcome(root=out, study=study)


def study_features(
    run: Run,
    inputs: Inputs,
    *,
    options: Features,
    finetuned: Sequence[Path] = (),
    scores: pd.DataFrame | None = None,
    progress: Progress | None = None,
) -> FeatureStudy:
    """Embed and compare within a run that is open already; nothing but embeddings and predictions is written.

    Parameters
    ----------
    run : Run
        Gets ``embeddings/``, and without scores ``predictions/``, where those of a decomposition are used again.
    inputs : Inputs
        Model, patients and unseen controls.
    options : Features
        Settings.
    finetuned : sequence of Path
        Folders made by fine-tuning.
    scores : DataFrame, optional
        Rows of `shiftkit.catalogue.SCORES` with Dice of patients and controls.
    progress : callable, optional
        Called as ``progress(done, total, text)``.
    """
    from ..analyses.features.foresight import foresee
    from ..analyses.features.images import image_shift
    from ..analyses.features.study import feature_shift
    from ..analyses.statistics.inference import Inference

    inference = Inference(n_permutations=options.n_permutations, level=options.level, seed=options.seed)
    work = Work(jobs=options.jobs, progress=progress)
    failed: dict[str, str] = {}
    source = _embedded(run, inputs.model, inputs, options, failed, progress)
    tuned = [_embedded_after(run, folder, inputs, options, failed, progress) for folder in finetuned]
    table = scores if scores is not None else _scores(run, inputs, options, progress)
    dice = table[(table["metric"] == "dice") & (table["model"] == inputs.model.name)]
    return FeatureStudy(
        before=feature_shift(source, inference=inference, work=work),
        after=tuple(feature_shift(one, inference=inference, work=work) for one in tuned),
        changes=tuple(_changes(source, one, options.level) for one in tuned),
        images=image_shift(inputs.patients, inputs.controls, inference=inference, work=work),
        foresight=foresee(source, dice, inference=inference),
        failed=failed,
    )


def _changes(source: Embeddings, tuned: Embeddings, level: float) -> "LayerChange":
    from ..analyses.features.change import layer_change

    return layer_change(source, tuned, level=level)


def _embedded(
    run: Run,
    model: "Model",
    inputs: Inputs,
    options: Features,
    failed: dict[str, str],
    progress: Progress | None,
    fold: str = "1",
    folder: str = "source",
) -> Embeddings:
    """Embed controls and patients with one network."""
    from ..segmentation.prediction.embedding import embed

    parts: list[Embeddings] = []
    for name, cohort in (("patients", inputs.patients), ("controls", inputs.controls)):
        if not len(cohort):
            continue
        where = run.root / "embeddings" / folder / name
        made, missing = embed(
            model,
            cohort,
            out=where,
            layers=options.layers,
            fold=fold,
            device=options.device,
            work=Work(progress=progress),
        )
        parts.append(made)
        failed |= missing
    return Embeddings.concat(parts)


def _embedded_after(
    run: Run, folder: Path, inputs: Inputs, options: Features, failed: dict[str, str], progress: Progress | None
) -> Embeddings:
    """Embed each patient with the fold's network that never saw them, and the controls in turn."""
    from ..segmentation.network.checkpoints import load_model

    paths = sorted(folder.glob("fold-*"), key=lambda path: int(path.name.removeprefix("fold-")))
    if not paths:
        raise DataError(
            f"--finetuned takes a folder made by shiftkit finetune; {folder} holds no fold-1. Run shiftkit finetune "
            f"--out {folder} first, or name the right folder."
        )
    models = [load_model(path) for path in paths]
    fold_of = {case.key: _unseen_by(models, case) for case in inputs.patients}
    missing = [key for key, fold in fold_of.items() if fold is None]
    if missing:
        raise DataError(
            f"Each patient needs a network that never saw them; all {len(models)} of {folder} have seen "
            f"{', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}. Fine-tune in folds on this cohort."
        )
    parts: list[Embeddings] = []
    for number, model in enumerate(models):
        share = {case.key for case in inputs.controls.cases[number :: len(models)]}
        part = dataclasses.replace(
            inputs,
            patients=inputs.patients.where(lambda case, n=number: fold_of[case.key] == n),
            controls=inputs.controls.where(lambda case, keys=share: case.key in keys),
        )
        if len(part.patients) or len(part.controls):
            name = str(number + 1)
            where = f"{folder.name}/fold-{name}"
            parts.append(_embedded(run, model, part, options, failed, progress, fold=name, folder=where))
    return Embeddings.concat(parts)


def _unseen_by(models: "Sequence[Model]", case: Case) -> int | None:
    """The first network that was neither trained nor tuned on a participant's image."""
    first = case.images.get(models[0].modality.split("+")[0])
    digest = image_digest(first) if first is not None else ""
    return next((number for number, one in enumerate(models) if digest not in one.participants.values()), None)


def _scores(run: Run, inputs: Inputs, options: Features, progress: Progress | None) -> pd.DataFrame:
    """Segment and score both cohorts; predictions on disk are used again."""
    from ..analyses.scoring.study import score
    from ..segmentation.prediction.cohort import predict

    frames: list[pd.DataFrame] = []
    for name, cohort in (("patients", inputs.patients), ("controls", inputs.controls)):
        folder = run.root / "predictions" / name
        work = Work(progress=progress)
        predictions = predict(inputs.model, cohort, out=folder, device=options.device, resume=True, work=work)
        keys = {case.key for case in predictions.cohort}
        part = cohort.where(lambda case, keys=keys: case.key in keys)
        frames.append(score(predictions, part, metrics=("dice",), jobs=options.jobs, progress=progress).to_frame())
    return pd.concat(frames, ignore_index=True)


def _write_report(run: Run, inputs: Inputs, study: FeatureStudy, record: Mapping[str, Any]) -> None:
    from ..reports import CohortSummary, report

    page = report(
        study.findings(),
        title="Feature-space shift of bundle segmentation",
        verdict=study.verdict,
        cohorts=(
            CohortSummary.of(inputs.patients, "patients", dict(study.failed)),
            CohortSummary.of(inputs.controls, "unseen controls", dict.fromkeys(inputs.seen, "seen by the model")),
        ),
        provenance={key: record[key] for key in record if key != "verdict"},
        notes=study.before.notes,
    )
    page.save(run.root / "report.html")
