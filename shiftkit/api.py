"""The public functions: one a verb, taking names, paths or objects alike."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .names import find_cohort, find_model
from .results import Finding
from .types import Cohort, Predictions
from .work import Progress, Work

if TYPE_CHECKING:
    from .analyses.comparison import Comparison
    from .analyses.decomposition.result import Decomposition
    from .analyses.deformation.result import DeformationResult
    from .analyses.learning_curves import LearningCurves
    from .analyses.scoring.table import ScoreTable
    from .analyses.statistics.inference import Inference
    from .analyses.validation.study import Validation
    from .checks import CheckReport
    from .pipeline.features import FeatureStudy
    from .reports import Report
    from .segmentation.network.checkpoints import Model
    from .segmentation.training.source import FoldModels

CohortLike = str | Path | Cohort


def load_cohort(cohort: CohortLike) -> Cohort:
    """Index a cohort by path, registered name or built-in name; see `shiftkit.names.find_cohort`."""
    return find_cohort(cohort)


def load_model(model: "str | Path | Model") -> "Model":
    """Load a model by path, registered name or built-in name.

    Raises
    ------
    DataError
        If there is no such checkpoint, or it is damaged or of another kind.
    """
    from .segmentation.network.checkpoints import load_model as load

    return load(find_model(model)) if isinstance(model, str | Path) else model


def load_scores(path: str | Path) -> "ScoreTable":
    """Read a score table that `score` or another tool wrote; see ``shiftkit.catalogue.SCORES``."""
    from .analyses.scoring.table import ScoreTable

    return ScoreTable.load(Path(path))


def phantom(out: str | Path, **options: Any) -> dict[str, Cohort]:
    """Write the digital phantom; see `shiftkit.phantoms.phantom`."""
    from .phantoms import phantom as write

    return write(Path(out), **options)


def import_cohort(format_: str, source: str | Path, out: str | Path, **options: Any) -> Cohort:
    """Turn a public data set's own layout into a cohort; see `shiftkit.importers.import_cohort`."""
    from .importers import import_cohort as convert

    return convert(format_, Path(source), Path(out), **options)


def check(cohort: CohortLike, **options: Any) -> "CheckReport":
    """Look for what would pass for domain shift; see `shiftkit.checks.check`."""
    from .checks import check as examine

    return examine(find_cohort(cohort), **options)


def prepare(cohort: CohortLike, **options: Any) -> Any:
    """Make FA, AP and peaks from raw diffusion images; see `shiftkit.cohorts.preparation.prepare`."""
    from .cohorts.preparation import prepare as make

    return make(find_cohort(cohort), **options)


def train(
    cohort: CohortLike,
    *,
    out: str | Path,
    folds: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> "Model | FoldModels":
    """Train a source model; see `shiftkit.segmentation.training.recipes.Recipe` for the options."""
    from .segmentation.training.recipes import Recipe
    from .segmentation.training.source import train as fit

    recipe = Recipe(**{name: value for name, value in options.items() if name != "epochs" or value is not None})
    work = Work(progress=progress)
    return fit(find_cohort(cohort), out=Path(out), recipe=recipe, folds=folds, resume=resume, work=work)


def finetune(
    model: "str | Path", cohort: CohortLike, *, out: str | Path, **options: Any
) -> "Predictions | LearningCurves":
    """Adapt a model to patients in folds, or with ``shots=(2, 4)`` see how many it takes.

    Parameters
    ----------
    model, cohort : str, Path or Cohort
        Path, name or cohort.
    out : str or Path
        Folder for the fold models and their out-of-fold predictions.
    **options
        Settings of `shiftkit.config.Finetune`, and what `shiftkit.pipeline.finetune_cohort` takes besides.

    Returns
    -------
    Predictions or LearningCurves
        Out-of-fold predictions; with ``shots`` the learning curves made from those of every run.
    """
    from .pipeline import finetune_cohort

    made = finetune_cohort(model, cohort, out=Path(out), **options)
    return made if isinstance(made, Predictions) else made.curves


def predict(
    model: "str | Path | Model | Sequence[str | Path]",
    cohort: CohortLike,
    *,
    out: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Predictions:
    """Segment a cohort; without ``out`` the masks go into a temporary folder of this process.

    Parameters
    ----------
    model : str, Path, Model or sequence
        Path, name or loaded model; several paths or names to average them. A folder of folds segments each
        participant with the folds that never saw them; see `shiftkit.segmentation.prediction.cohort.predict`.
    cohort : str, Path or Cohort
        Path, name or cohort.
    out : str or Path, optional
        Folder for masks and probabilities, each on its participant's own grid.
    **options
        Passed to `shiftkit.segmentation.prediction.cohort.predict`.
    """
    from .segmentation.network.checkpoints import Model
    from .segmentation.prediction.cohort import predict as segment
    from .segmentation.prediction.routing import open_models

    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="shiftkit-"))
    if isinstance(model, Model):
        models = model
    else:
        named = [model] if isinstance(model, str | Path) else model
        models = open_models([find_model(one) for one in named])
    return segment(models, find_cohort(cohort), out=folder, work=Work(progress=progress), **options)


def score(predictions: Predictions | str | Path, cohort: CohortLike, **options: Any) -> "ScoreTable":
    """Score predicted masks against reference masks; see `shiftkit.analyses.scoring.study.score`."""
    from .analyses.scoring.study import score as compare

    source = Path(predictions) if isinstance(predictions, str | Path) else predictions
    return compare(source, find_cohort(cohort), **options)


def features(
    model: "str | Path", cohort: CohortLike, *, out: str | Path, reference: CohortLike | None = None, **options: Any
) -> "FeatureStudy":
    """Measure the shift in feature space; see `shiftkit.pipeline.features.features_cohort`.

    Parameters
    ----------
    model, cohort, reference : str, Path or Cohort
        Path, name or cohort.
    out : str or Path
        Folder for embeddings, tables and the report.
    **options
        Settings of `shiftkit.config.Features`, and ``finetuned``, ``scores``, ``resume`` and ``progress``.
    """
    from .config import Features
    from .pipeline.features import features_cohort

    settings = {name: options.pop(name) for name in list(options) if name in Features.__dataclass_fields__}
    outcome = features_cohort(
        out=Path(out), options=Features(**settings), model=model, cohort=cohort, reference=reference, **options
    )
    return outcome.study


def deform(
    cohort: CohortLike,
    *,
    reference: CohortLike | None = None,
    baseline: CohortLike | None = None,
    **options: Any,
) -> "DeformationResult":
    """Measure how far bundles are from healthy ones; without ``reference`` the controls are the cohort's own.

    Parameters
    ----------
    cohort, reference : str, Path or Cohort
        Participants, and where the controls are; those of the cohort named ``healthy`` where there are none.
    baseline : str, Path or Cohort, optional
        The same participants at another time, or without the tumor.
    **options
        ``n_bootstrap level seed`` of the intervals, ``jobs``, ``progress``; others are passed to
        `shiftkit.analyses.deformation.study.deform`.
    """
    from .analyses.deformation.study import deform as measure
    from .analyses.statistics.inference import Inference
    from .pipeline.inputs import find_controls

    found = find_cohort(cohort)
    earlier = None if baseline is None else find_cohort(baseline)
    inference = Inference(**{name: options.pop(name) for name in ("n_bootstrap", "level", "seed") if name in options})
    work = Work(**{name: options.pop(name) for name in ("jobs", "progress") if name in options})
    controls = find_controls(found, reference)
    return measure(found, controls, baseline=earlier, inference=inference, work=work, **options)


def decompose(
    scores: "ScoreTable | pd.DataFrame", *, reference: "ScoreTable | pd.DataFrame | None" = None, **options: Any
) -> "Decomposition":
    """Split the drop in performance into its parts; see `shiftkit.analyses.decomposition.study.decompose`."""
    from .analyses.decomposition.study import decompose as split

    return split(scores, reference=reference, inference=_inference(options), **options)


def validate(replicates: int = 200, **options: Any) -> "Validation":
    """Run the recovery study of the estimators; see `shiftkit.analyses.validation.study.validate`."""
    from .analyses.validation.study import validate as examine

    work = Work(jobs=options.pop("jobs", 0), progress=options.pop("progress", None))
    return examine(replicates, work=work, **options)


def report(result: "Decomposition", *, findings: Sequence[Finding] = (), **options: Any) -> "Report":
    """Turn a decomposition and further findings into a report; ``.save(path)`` writes it."""
    from .reports import report as build

    details: Mapping[str, Any] = {"title": "Domain shift of bundle segmentation", **options}
    return build((*result.findings(), *findings), verdict=result.verdict, **details)


def compare(first: str | Path, second: str | Path, **options: Any) -> "Comparison":
    """Say what differs between two runs on disk; see `shiftkit.analyses.comparison.compare`."""
    from .analyses.comparison import compare as set_side_by_side

    return set_side_by_side(Path(first), Path(second), inference=_inference(options), **options)


def _inference(options: dict[str, Any]) -> "Inference":
    """What options say about resampling, taken out of them."""
    from .analyses.statistics.inference import Inference

    names = ("n_bootstrap", "n_permutations", "level", "seed")
    return Inference(**{name: options.pop(name) for name in names if name in options})
