"""Feature-space shift of a cohort: embed, compare, relate to performance, report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..catalogue import CKA, DIRECTIONS, FEATURES, FORESIGHT, IMAGES, SCORES
from ..embeddings import Embeddings
from ..errors import DataError
from ..files import file_digest
from ..images import image_digest
from ..results import Result
from ..runs import Outcome, Run, cohort_digest
from ..tables import Table, read_table
from ..types import Case
from ..work import Work
from .inputs import Inputs
from .scores import predict_cohorts, score_cohorts
from .story import Ending, end

if TYPE_CHECKING:
    from ..analyses.features.result import FeatureShift, Foresight, ImageShift, LayerChange
    from ..analyses.statistics.inference import Inference
    from ..segmentation.network.checkpoints import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStudy(Result):
    """Everything that is said about features, before and after fine-tuning; its table is that of all models.

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

    def tables(self) -> tuple[tuple[pd.DataFrame, Table], ...]:
        """What a run keeps of it."""
        carried = [self.before.directions, *(one.directions for one in self.after)]
        tables = [
            (self.table, FEATURES),
            (pd.concat(carried, ignore_index=True), DIRECTIONS),
            (self.images.table, IMAGES),
            (self.foresight.table, FORESIGHT),
        ]
        if self.changes:
            tables.append((pd.concat([one.table for one in self.changes], ignore_index=True), CKA))
        return tuple(tables)

    def __str__(self) -> str:
        return "\n".join((self.claim, self.images.claim, self.foresight.claim, *(one.claim for one in self.changes)))


def features_cohort(
    run: Run,
    inputs: Inputs,
    *,
    layers: Sequence[str],
    device: str,
    inference: "Inference",
    finetuned: Sequence[Path] = (),
    scores: Path | None = None,
    work: Work = Work(),
) -> Outcome:
    """Measure the feature-space shift of a cohort into a run; see ``shiftkit features``.

    Parameters
    ----------
    run : Run
        Not open yet. Embeddings are stored in it, one npz file a participant, and used again.
    inputs, layers, device, inference, finetuned, work
        As in `study_features`.
    scores : Path, optional
        A score table of the source model; without it the cohorts are segmented and scored.

    Raises
    ------
    ConfigError
        If the folder is in use, or a layer is unknown.
    DataError, ModelMismatchError
        If the input cannot be used.
    """
    given = read_table(scores, SCORES) if scores is not None else None
    study = study_features(
        run.open(),
        inputs,
        layers=layers,
        device=device,
        inference=inference,
        finetuned=finetuned,
        scores=given,
        work=work,
    )
    ending = Ending(
        result=study,
        title="Feature-space shift of bundle segmentation",
        tables=study.tables(),
        digests={
            "model": inputs.model.digest,
            "patients": cohort_digest(inputs.patients),
            "controls": cohort_digest(inputs.controls),
            **({} if scores is None else {"scores": file_digest(scores)}),
        },
        failed=study.failed,
        cohorts={
            "patients": (inputs.patients, study.failed),
            "unseen controls": (inputs.controls, dict.fromkeys(inputs.seen, "seen by the model")),
        },
        notes=study.before.notes,
        said=tuple(str(study).split("\n")),
    )
    return end(run, ending, work)


def study_features(
    run: Run,
    inputs: Inputs,
    *,
    device: str,
    inference: "Inference",
    layers: Sequence[str] = (),
    finetuned: Sequence[Path] = (),
    scores: pd.DataFrame | None = None,
    work: Work = Work(),
) -> FeatureStudy:
    """Embed and compare within a run that is open already; nothing but embeddings and predictions is written.

    Parameters
    ----------
    run : Run
        Gets ``embeddings/``, and without scores ``predictions/``, where those of a decomposition are used again.
    inputs : Inputs
        Model, patients and unseen controls.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    inference : Inference
        How often participants are permuted, and coverage of intervals.
    layers : sequence of str
        Depths of the network; all by default.
    finetuned : sequence of Path
        Folders made by fine-tuning.
    scores : DataFrame, optional
        Rows of `shiftkit.catalogue.SCORES` with Dice of patients and controls.
    work : Work
        How it is done.
    """
    from ..analyses.features.change import layer_change
    from ..analyses.features.findings import compared
    from ..analyses.features.foresight import foresee
    from ..analyses.features.images import image_shift
    from ..analyses.features.study import feature_shift

    embedder = _Embedder(run=run, inputs=inputs, layers=layers, device=device, work=work)
    source = embedder.embed(inputs.model, inputs)
    tuned = [embedder.embed_folds(folder) for folder in finetuned]
    table = scores if scores is not None else _scores(run, inputs, device, work)
    dice = table[(table["metric"] == "dice") & (table["model"] == inputs.model.name)]
    before, *after = (feature_shift(one, inference=inference, work=work) for one in (source, *tuned))
    changes = tuple(layer_change(source, one, level=inference.level) for one in tuned)
    images = image_shift(inputs.patients, inputs.controls, inference=inference, work=work)
    foresight = foresee(source, dice, inference=inference)
    findings = [*before.findings, *(compared(before, one) for one in after)]
    for part in (*changes, images, foresight):
        findings += part.findings
    return FeatureStudy(
        table=pd.concat([before.table, *(one.table for one in after)], ignore_index=True),
        claim=" ".join([before.claim, *(f"After fine-tuning ({one.embeddings.model}): {one.claim}" for one in after)]),
        estimates=before.estimates,
        findings=tuple(findings),
        before=before,
        after=tuple(after),
        changes=changes,
        images=images,
        foresight=foresight,
        failed=embedder.failed,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Embedder:
    """Embeds controls and patients, and notes who could not be."""

    run: Run
    inputs: Inputs
    layers: Sequence[str]
    device: str
    work: Work
    failed: dict[str, str] = dataclasses.field(default_factory=dict[str, str])

    def embed(self, model: "Model", people: Inputs, fold: str = "1", folder: str = "source") -> Embeddings:
        """Embed with one network."""
        from ..segmentation.prediction.embedding import embed

        parts: list[Embeddings] = []
        for name, cohort in (("patients", people.patients), ("controls", people.controls)):
            if not len(cohort):
                continue
            where = self.run.root / "embeddings" / folder / name
            made, missing = embed(
                model, cohort, out=where, layers=self.layers, fold=fold, device=self.device, work=self.work
            )
            parts.append(made)
            self.failed.update(missing)
        return Embeddings.concat(parts)

    def embed_folds(self, folder: Path) -> Embeddings:
        """Embed each patient with the fold's network that never saw them, and the controls in turn."""
        from ..segmentation.network.checkpoints import load_model
        from ..segmentation.prediction.routing import fold_folders

        paths = fold_folders(folder)
        if not paths:
            raise DataError(
                f"`finetuned` takes a folder made by shiftkit finetune; {folder} holds no fold-1. Run shiftkit "
                f"finetune --out {folder} first, or name the right folder."
            )
        models = [load_model(path) for path in paths]
        fold_of = {case.key: _unseen_by(models, case) for case in self.inputs.patients}
        missing = [key for key, fold in fold_of.items() if fold is None]
        if missing:
            raise DataError(
                f"Each patient needs a network that never saw them; all {len(models)} of {folder} have seen "
                f"{', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}. Fine-tune in folds on this "
                "cohort."
            )
        parts: list[Embeddings] = []
        for number, model in enumerate(models):
            share = {case.key for case in self.inputs.controls.cases[number :: len(models)]}
            part = dataclasses.replace(
                self.inputs,
                patients=self.inputs.patients.where(lambda case, n=number: fold_of[case.key] == n),
                controls=self.inputs.controls.where(lambda case, keys=share: case.key in keys),
            )
            if len(part.patients) or len(part.controls):
                name = str(number + 1)
                parts.append(self.embed(model, part, fold=name, folder=f"{folder.name}/fold-{name}"))
        return Embeddings.concat(parts)


def _unseen_by(models: "Sequence[Model]", case: Case) -> int | None:
    """The first network that was neither trained nor tuned on a participant's image."""
    first = case.images.get(models[0].modality.split("+")[0])
    digest = image_digest(first) if first is not None else ""
    return next((number for number, one in enumerate(models) if digest not in one.participants.values()), None)


def _scores(run: Run, inputs: Inputs, device: str, work: Work) -> pd.DataFrame:
    """Segment and score both cohorts; predictions on disk are used again."""
    both = dataclasses.replace(inputs, target_controls=None)
    return score_cohorts(predict_cohorts(run, both, device, work), both.cohorts, ("dice",), work)
