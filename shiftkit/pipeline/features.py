"""Feature-space shift of a cohort: embed, compare, relate to performance, report."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..catalogue import CKA, DIRECTIONS, FEATURES, FORESIGHT, IMAGES
from ..cohorts.folder import cohort_digest
from ..embeddings import Embeddings
from ..errors import DataError
from ..files import file_digest
from ..images import image_digest
from ..results import Result
from ..runs import Outcome, Run
from ..tables import Table
from ..types import Case
from ..words import named
from ..work import Cost, Work
from .inputs import Inputs
from .scores import predict_cohorts, score_cohorts
from .story import Ending, counted, end

if TYPE_CHECKING:
    from ..analyses.features.result import FeatureShift, Foresight, ImageShift, LayerChange
    from ..analyses.statistics.inference import Inference
    from ..segmentation.network.checkpoints import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStudy(Result):
    """Everything that is said about features, before and after fine-tuning; its table is that of all models.

    Parameters
    ----------
    before, after
        Shift of the source model, and of each fine-tuned one, every patient by a network that never saw them.
    changes
        CKA of the source model with each of these.
    images, foresight
        What differs between the images themselves; whether the shift foretells the drop.
    failed
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureDesign:
    """What is compared: depths of the network (all by default), and folders made by fine-tuning."""

    device: str
    inference: "Inference"
    layers: tuple[str, ...] = ()
    finetuned: tuple[Path, ...] = ()


def begin_features(
    run: Run, inputs: Inputs, design: FeatureDesign, *, scores: Path | None = None, work: Work = Work()
) -> None:
    """Refuse what names and options tell, before an image is read; see `shiftkit.work.Work.begin`."""
    from ..analyses.scoring.study import cost_of as scoring
    from ..segmentation.network.devices import pick_device
    from ..segmentation.prediction.cohort import cost_of as segmenting
    from ..segmentation.prediction.embedding import layers_of

    pick_device(design.device)
    layers_of(inputs.network.network, design.layers)
    for folder in design.finetuned:
        _require_folds(folder)
    cost = Cost(seconds=20 + 0.06 * design.inference.n_permutations, memory_gib=0.8)
    people = dataclasses.replace(inputs, target_controls=None).cohorts.values()
    for cohort in people:
        segmented = segmenting(inputs.network, cohort)
        cost += segmented.times(1 + len(design.finetuned))
        cost += Cost() if scores is not None else segmented + scoring(cohort, work)
    also = "" if scores is not None else ", segment and score them"
    work.begin(
        f"Would embed {len(inputs.patients)} patients of {inputs.patients.name} and those of {len(inputs.controls)} "
        f"controls of {inputs.controls.name} that it has not seen, with model {inputs.model.name}{also}, and compare "
        "layer by layer.",
        cost,
        run.root,
    )


def features_cohort(
    run: Run,
    inputs: Inputs,
    design: FeatureDesign,
    *,
    scores: Path | None = None,
    given: pd.DataFrame | None = None,
    work: Work = Work(),
) -> Outcome:
    """Measure the feature-space shift of a cohort into a run that is not open yet; see ``shiftkit features``.

    ``given`` are scores of the source model, of the file ``scores``; without them the cohorts are segmented and scored.
    """
    study = study_features(run.open(), inputs, design, scores=given, work=work)
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
            "patients": (inputs.patients, {}),
            "unseen controls": (inputs.controls, dict.fromkeys(inputs.seen, "seen by the model")),
        },
        notes=(*inputs.notes, *study.before.notes),
        left_out=(
            *counted("patients", inputs.left_out),
            *counted("controls", dict.fromkeys(inputs.seen, "seen by the model")),
        ),
        warnings=inputs.warnings,
        said=tuple(str(study).split("\n")),
    )
    return end(run, ending, work)


def study_features(
    run: Run, inputs: Inputs, design: FeatureDesign, *, scores: pd.DataFrame | None = None, work: Work = Work()
) -> FeatureStudy:
    """Embed and compare within a run that is open already, which gets ``embeddings/``, one npz file a participant.

    Without ``scores``, rows of `shiftkit.catalogue.SCORES` with Dice of patients and controls, it gets ``predictions/``
    too. What is there already, of a decomposition or an interrupted run, is used again.
    """
    from ..analyses.features.change import layer_change
    from ..analyses.features.findings import compared
    from ..analyses.features.foresight import foresee
    from ..analyses.features.images import image_shift
    from ..analyses.features.study import feature_shift

    inference = design.inference
    embedder = _Embedder(run=run, inputs=inputs, design=design, work=work)
    source = embedder.embed(inputs.network, inputs)
    tuned = [embedder.embed_folds(folder, number) for number, folder in enumerate(design.finetuned, start=1)]
    if scores is None:
        both = dataclasses.replace(inputs, target_controls=None)  # these have no part in the comparison
        scores = score_cohorts(predict_cohorts(run, both, design.device, work), both.cohorts, ("dice",), work)
    dice = scores[(scores["metric"] == "dice") & (scores["model"] == inputs.model.name)]
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
    design: FeatureDesign
    work: Work
    failed: dict[str, str] = dataclasses.field(default_factory=dict[str, str])

    def embed(self, model: "Model", people: Inputs, fold: str = "1", folder: str = "source") -> Embeddings:
        """Embed with one network."""
        from ..segmentation.prediction.embedding import embed

        parts: list[Embeddings] = []
        for name, cohort in (("patients", people.patients), ("controls", people.controls)):
            if not len(cohort):
                continue
            where, design = self.run.root / "embeddings" / folder / name, self.design
            made, missing = embed(
                model, cohort, out=where, layers=design.layers, fold=fold, device=design.device, work=self.work
            )
            parts.append(made)
            self.failed.update(missing)
        return Embeddings.concat(parts)

    def embed_folds(self, folder: Path, place: int) -> Embeddings:
        """Embed each patient with the fold's network that never saw them, and the controls in turn."""
        from ..segmentation.network.checkpoints import load_model

        models = [load_model(path, self.inputs.network) for path in _require_folds(folder)]
        kept_in = folder.name
        if self.inputs.anonymous:
            kept_in = f"finetuned-{place}"
            models = [dataclasses.replace(one, name=f"fine-tuned {place}") for one in models]
        # By the image: the folds need not have been made on this very cohort.
        fold_of = {case.key: _unseen_by(models, case) for case in self.inputs.patients}
        missing = [key for key, fold in fold_of.items() if fold is None]
        if missing:
            raise DataError(
                f"Each patient needs a network that never saw them; all {len(models)} of {folder} have seen "
                f"{named(missing, 3)}. Fine-tune in folds on this "
                "cohort."
            )
        parts: list[Embeddings] = []
        for number, model in enumerate(models):
            # Controls are seen by no fold: each is embedded by one in turn, so that both groups mix networks alike.
            share = {case.key for case in self.inputs.controls.cases[number :: len(models)]}
            part = dataclasses.replace(
                self.inputs,
                patients=self.inputs.patients.where(lambda case, n=number: fold_of[case.key] == n),
                controls=self.inputs.controls.where(lambda case, keys=share: case.key in keys),
            )
            if len(part.patients) or len(part.controls):
                name = str(number + 1)
                parts.append(self.embed(model, part, fold=name, folder=f"{kept_in}/fold-{name}"))
        return Embeddings.concat(parts)


def _require_folds(folder: Path) -> list[Path]:
    from ..segmentation.prediction.routing import fold_folders

    paths = fold_folders(folder)
    if not paths:
        raise DataError(
            f"`finetuned` takes a folder made by shiftkit finetune; {folder} holds no fold-1. Run shiftkit finetune "
            f"--out {folder} first, or name the right folder."
        )
    return paths


def _unseen_by(models: "Sequence[Model]", case: Case) -> int | None:
    """The first network that was neither trained nor tuned on a participant's image."""
    first = case.images.get(models[0].modality.split("+")[0])
    digest = image_digest(first) if first is not None else ""
    return next((number for number, one in enumerate(models) if digest not in one.participants.values()), None)
