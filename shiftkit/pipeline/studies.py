"""Further studies that a decomposition's report can hold: feature shift and deformation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..analyses.statistics.inference import Inference
from ..catalogue import DEFORMATION, DEFORMATION_PROFILES, DEFORMATION_RELATION
from ..config import Decompose, Features
from ..errors import ConfigError, DataError
from ..results import Finding
from ..runs import Run
from ..work import Progress, Work
from .features import study_features
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analyses.deformation.result import DeformationResult

Study = Callable[[Run, Inputs, Sequence[Path], pd.DataFrame, Decompose, Progress | None], tuple[Finding, ...]]


def further_findings(
    run: Run,
    inputs: Inputs,
    tuned: Sequence[Path],
    scores: pd.DataFrame,
    options: Decompose,
    progress: Progress | None,
) -> tuple[Finding, ...]:
    """Findings of the studies named in ``options.include``, whose tables and files go into the run.

    ``scores`` are those of the source model and of the fine-tuned ones.
    """
    return tuple(
        finding for name in options.include for finding in STUDIES[name](run, inputs, tuned, scores, options, progress)
    )


def require_known(options: Decompose) -> None:
    """Refuse a study that does not exist.

    Raises
    ------
    ConfigError
        Naming those that do.
    """
    unknown = sorted(set(options.include) - set(STUDIES))
    if unknown:
        raise ConfigError(f"--include takes {' and '.join(STUDIES)}; got {', '.join(unknown)}.")


def _features(
    run: Run,
    inputs: Inputs,
    tuned: Sequence[Path],
    scores: pd.DataFrame,
    options: Decompose,
    progress: Progress | None,
) -> tuple[Finding, ...]:
    settings = Features(device=options.device, jobs=options.jobs, seed=options.seed, level=options.level)
    dice = scores[scores["model"] == inputs.model.name] if options.metric == "dice" else None
    study = study_features(run, inputs, options=settings, finetuned=tuned, scores=dice, progress=progress)
    study.write(run)
    return study.findings()


def _deformation(
    run: Run,
    inputs: Inputs,
    tuned: Sequence[Path],
    scores: pd.DataFrame,
    options: Decompose,
    progress: Progress | None,
) -> tuple[Finding, ...]:
    from ..analyses.deformation.study import deform

    result = deform(
        inputs.patients,
        inputs.controls,
        bundles=options.bundles,
        hemispheres=options.hemispheres,
        out=run.root,
        inference=_inference(options),
        work=Work(jobs=options.jobs, progress=progress),
    )
    run.write_table(result.table, DEFORMATION)
    run.write_table(result.profiles, DEFORMATION_PROFILES)
    return (*result.findings(), *_relation(run, result, scores, options))


def _relation(run: Run, result: "DeformationResult", scores: pd.DataFrame, options: Decompose) -> tuple[Finding, ...]:
    """What V-Norm has to do with the drop before and after fine-tuning."""
    from ..analyses.deformation.relation import RELATION_TITLE, relate

    try:
        relation = relate(result, scores, metric=options.metric, inference=_inference(options))
    except DataError as error:  # such as no patient with both numbers: no reason to lose the rest of the run
        return (Finding(key="deformation-relation", title=RELATION_TITLE, claim=str(error)),)
    run.write_table(relation.to_frame(), DEFORMATION_RELATION)
    return relation.findings()


def _inference(options: Decompose) -> Inference:
    return Inference(
        n_bootstrap=options.n_bootstrap,
        n_permutations=options.n_permutations,
        level=options.level,
        seed=options.seed,
    )


STUDIES: Mapping[str, Study] = {"features": _features, "deformation": _deformation}
