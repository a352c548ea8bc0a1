"""Further studies that a decomposition's report can hold: one line each in `STUDIES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from ..catalogue import DEFORMATION, DEFORMATION_PROFILES, DEFORMATION_RELATION
from ..errors import DataError
from ..options import passed_on
from ..results import Finding
from ..runs import Run
from ..types import Bundle
from ..work import Work
from .features import FeatureDesign, study_features
from .inputs import Design, Inputs

FEATURE_PERMUTATIONS = 1000
"""Fewer than of a decomposition: each costs a distance between all participants in every layer and bundle."""


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """A decomposition that is under way: what every stage and every further study starts from.

    ``run`` gets their tables and files; ``finetuned`` are folders made by fine-tuning.
    """

    run: Run
    inputs: Inputs
    finetuned: tuple[Path, ...]
    design: Design
    work: Work


@dataclass(frozen=True, kw_only=True)
class Further:
    """Findings of further studies: of the whole, and those that stand on the bundles' pages."""

    findings: tuple[Finding, ...]
    by_bundle: Mapping[Bundle, Finding] = field(default_factory=dict[Bundle, Finding])


def further_findings(occasion: Occasion, scores: pd.DataFrame) -> Further:
    """Findings of the studies that ``occasion.design.include`` names, whose tables and files go into the run.

    ``scores`` are those of the source model and of the fine-tuned ones, in every metric of `metrics_of`.
    """
    made = [STUDIES[name].findings(occasion, scores) for name in occasion.design.include]
    by_bundle = {bundle: one for part in made for bundle, one in part.by_bundle.items()}
    return Further(findings=tuple(one for part in made for one in part.findings), by_bundle=by_bundle)


def metrics_of(design: Design) -> tuple[str, ...]:
    """Every metric that a decomposition and its further studies need, so that cases are scored in one pass."""
    needed = (name for study in design.include for name in STUDIES[study].metrics)
    return tuple(dict.fromkeys((design.metric, *needed)))


def require_inside(inputs: Inputs, design: Design) -> None:
    """Refuse features of a network that has no layers to look at, before an image is read."""
    if "features" in design.include:
        from ..segmentation.prediction.embedding import layers_of

        layers_of(inputs.network.network)


def _features(occasion: Occasion, scores: pd.DataFrame) -> Further:
    from ..analyses.features.findings import bundle_shifts

    inference = replace(occasion.design.inference, n_permutations=FEATURE_PERMUTATIONS)
    asked = FeatureDesign(device=occasion.design.device, inference=inference, finetuned=occasion.finetuned)
    study = study_features(occasion.run, occasion.inputs, asked, scores=scores, work=occasion.work)
    for frame, table in study.tables():
        occasion.run.write_table(frame, table)
    return Further(findings=study.findings, by_bundle=bundle_shifts(study.table))


def _deformation(occasion: Occasion, scores: pd.DataFrame) -> Further:
    """Deformation, and what V-Norm has to do with the drop before and after fine-tuning."""
    from ..analyses.deformation.findings import RELATION_TITLE
    from ..analyses.deformation.relation import relate
    from ..analyses.deformation.study import deform

    run, design, people = occasion.run, occasion.design, occasion.inputs
    asked = passed_on(deform, vars(design))  # bundles, hemispheres, inference
    result = deform(people.patients, people.controls, out=run.root, work=occasion.work, **asked)
    run.write_table(result.table, DEFORMATION)
    run.write_table(result.profiles, DEFORMATION_PROFILES)
    try:
        relation = relate(result, scores, metric=design.metric, inference=design.inference)
    except DataError as error:  # such as no patient with both numbers: no reason to lose the rest of the run
        lacking = Finding(key="deformation-relation", title=RELATION_TITLE, claim=str(error))
        return Further(findings=(*result.findings, lacking))
    run.write_table(relation.to_frame(), DEFORMATION_RELATION)
    return Further(findings=(*result.findings, *relation.findings))


@dataclass(frozen=True, kw_only=True)
class Study:
    """What makes the findings, and which metrics it needs, whatever the decomposition's."""

    findings: Callable[[Occasion, pd.DataFrame], Further]
    metrics: tuple[str, ...] = ()


STUDIES: Mapping[str, Study] = {
    "features": Study(findings=_features, metrics=("dice",)),
    "deformation": Study(findings=_deformation),
}
