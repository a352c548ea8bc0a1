"""One loop over the cases of a cohort: each image is read once, whatever is made from it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError, ImageError, raise_all
from ...geometry import brain_of
from ...images import read_image
from ...types import Bundle, Case, Cohort, Volume
from ...words import named
from ...work import Work
from ..distance.case import Anatomy
from .metrics import compile_kernels
from .predictions import PredictedMasks


@dataclass(frozen=True, kw_only=True)
class OpenCase:
    """A case whose reference masks and tumor are in memory, for the bundles that are asked for."""

    case: Case
    anatomy: Anatomy

    @cached_property
    def brain_box_mm(self) -> NDArray[np.float64] | None:
        """The box around the brain in the world, shape (2, 3): from FA where there is one, since it shows no skull."""
        name = next((one for one in ("fa", "ap", "t1w") if one in self.case.images), None)
        masks = (mask for mask in self.anatomy.references.values() if mask is not None)
        image = read_image(self.case.images[name]) if name is not None else next(masks)
        points = image.with_array(brain_of(image)).points_inside()
        if not len(points):
            return None
        # Single voxels far out, such as noise, must not stretch the box.
        low, high = np.percentile(points, [0.1, 99.9], axis=0)
        return np.stack([low, np.maximum(high, low + 1.0)])


class Reader(Protocol):
    """Makes something of one bundle of an open case; sent to every process."""

    def __call__(self, opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> Any:
        """What is made; the prediction is None where there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is wanted of the predictions of one model: each is read once a case and given to all readers.

    The readers' names are those under which their results are found; the rest is as in
    `shiftkit.analyses.scoring.study.score`.
    """

    predicted: PredictedMasks
    readers: Mapping[str, Reader]
    threshold: float | None = None
    resample: bool = False


Made = dict[str, dict[str, list[Any]]]
"""Results of one look: by reader, then by case; one a bundle, in their order."""


def read_cases(
    cohort: Cohort,
    looks: Sequence[Look],
    work: Work,
    bundles: Sequence[Bundle] | None = None,
    failed: dict[str, str] | None = None,
) -> list[Made]:
    """Open every case once and give it to all readers of all looks, of which there is one a model.

    The bundles are those to look at in all cases; by default every bundle of which a case has a reference. Masks that
    cannot be read or compared are a `DataError`, after every case was looked at. If ``failed`` is given, cases with
    images that cannot be read are put there, with the reason, as long as there are others.
    """
    made: list[Made] = [{name: {} for name in look.readers} for look in looks]
    wanted = cohort.bundles if bundles is None else bundles
    problems: dict[str, DataError] = {}
    metrics = [name for look in looks for one in look.readers.values() for name in getattr(one, "metrics", ())]
    # A single process compiles what it needs when it needs it; several would each compile the same.
    if metrics and work.jobs != 1 and len(cohort) > 1:
        compile_kernels(metrics)
    results = work.map(partial(_attempt, wanted, looks), cohort.cases, f"Scoring {cohort.name}")
    for case, result in zip(cohort, results, strict=True):
        if isinstance(result, DataError):
            problems[case.key] = result
            continue
        for of_look, found in zip(made, result, strict=True):
            for name, values in found.items():
                of_look[name][case.key] = values
    others = (look.predicted.of(case) for look in looks for case in cohort if case.key not in problems)
    single = all(isinstance(problem, ImageError) for problem in problems.values())
    if failed is not None and single and any(others):
        failed |= {key: str(problem) for key, problem in problems.items()}
        return made
    told = [f"{key}: {reason}" for key, reason in problems.items()]
    if len(told) == 1:
        raise DataError(told[0])
    raise_all(told, f"{len(told)} of {len(cohort)} cases")
    return made


def _attempt(bundles: Sequence[Bundle], looks: Sequence[Look], case: Case) -> list[dict[str, list[Any]]] | DataError:
    try:
        opened = OpenCase(case=case, anatomy=Anatomy.of(case, bundles))
        made: list[dict[str, list[Any]]] = [{name: [] for name in look.readers} for look in looks]
        # Bundle by bundle, so that one prediction at a time is in memory.
        for bundle in bundles:
            for look, found in zip(looks, made, strict=True):
                reference = opened.anatomy.references[bundle]
                prediction = look.predicted.read_mask(case, bundle, reference, look.threshold, look.resample)
                for name, reader in look.readers.items():
                    found[name].append(reader(opened, bundle, prediction))
    except DataError as error:
        return error
    return made


def rows_of(
    made: Mapping[str, Sequence[Sequence[dict[str, Any]]]], bundles: Sequence[Bundle], part: Cohort
) -> Iterator[dict[str, Any]]:
    """Rows of part of a cohort, and of the bundles that this part has; what was made is one list a bundle looked at.

    Cases that could not be read have none.
    """
    for case in part:
        for bundle, rows in zip(bundles, made.get(case.key, [[]] * len(bundles)), strict=True):
            if bundle in part.bundles:
                yield from rows


def require_predictions(cohort: Cohort, predicted: PredictedMasks) -> None:
    """Refuse, with a `DataError`, a cohort without reference masks, and predictions of other participants."""
    if not cohort.bundles:
        raise DataError(f"Scoring needs reference masks; cohort {cohort.name} has none.")
    if not any(predicted.of(case) for case in cohort):
        raise DataError(
            f"Predictions must be of the cohort's participants; none of those in {predicted.name} "
            f"({', '.join(list(predicted.cases)[:3]) or 'no case'}) is in {cohort.name} "
            f"({', '.join(case.key for case in cohort.cases[:3])}). Check both names."
        )
    if not any(predicted.has(bundle) for bundle in cohort.bundles):
        raise DataError(
            f"Predictions must be of the cohort's bundles; {predicted.name} has none of {predicted.unlike(cohort)}. "
            "Rename the files, or name the bundles in dataset.json."
        )


def require_written(cohort: Cohort, predicted: PredictedMasks) -> None:
    """Refuse, with a `DataError`, bundles that are written for some cases and not for others: they may mean two things.

    Tools that write no empty masks mean a miss, a tool that was stopped means nothing.
    """
    there = [case for case in cohort if predicted.of(case) is not None]
    lacking = [
        f"{case.key} has no {bundle}"
        for bundle in cohort.bundles
        if predicted.has(bundle)
        for case in there
        if predicted.source(case, bundle) is None
    ]
    if lacking:
        raise DataError(
            f"Each bundle of {predicted.name} must be written for all participants or for none; "
            f"{named(lacking, 3)}. Give `unwritten` as missed, if the tool writes no empty masks, "
            "or as unavailable."
        )


def identify(case: Case, bundle: Bundle, cohort: str, predicted: PredictedMasks) -> dict[str, Any]:
    """The columns that say what a row is about."""
    return {
        "participant_id": case.participant_id,
        "session": case.session or "n/a",
        "cohort": cohort,
        "group": case.group,
        "model": predicted.model,
        "modality": predicted.modality,
        "bundle": bundle.name,
        "hemisphere": bundle.hemisphere,
    }
