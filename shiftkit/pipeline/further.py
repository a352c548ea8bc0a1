"""Further studies that a decomposition's report can hold: feature shift and deformation."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from ..config import Decompose, Features
from ..errors import ConfigError
from ..names import Progress
from ..runs import Run
from ..tables import DEFORMATION, DEFORMATION_PROFILES
from ..types import Finding
from .features import study_features
from .inputs import Inputs

Study = Callable[[Run, Inputs, Sequence[Path], pd.DataFrame, Decompose, Progress | None], tuple[Finding, ...]]


def further_findings(
    run: Run,
    inputs: Inputs,
    tuned: Sequence[Path],
    scores: pd.DataFrame,
    options: Decompose,
    progress: Progress | None,
) -> tuple[Finding, ...]:
    """Findings of the studies named in ``options.include``, whose tables and files go into the run."""
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
    dice = scores if options.metric == "dice" else None
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
    from ..analyses.deformation import deform

    result = deform(
        inputs.patients,
        inputs.controls,
        bundles=options.bundles,
        hemispheres=options.hemispheres,
        out=run.root,
        jobs=options.jobs,
        progress=progress,
    )
    run.write_table(result.table, DEFORMATION)
    run.write_table(result.profiles, DEFORMATION_PROFILES)
    return result.findings()


STUDIES: Mapping[str, Study] = {"features": _features, "deformation": _deformation}
