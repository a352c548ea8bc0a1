"""Predicted masks against reference masks: one row a participant, bundle, hemisphere and metric."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import ConfigError, DataError, raise_all
from ...status import Status
from ...types import Bundle, Case, Cohort, Predictions, Volume
from ...work import Work
from ..distance.case import Anatomy
from .error_maps import write_error_map
from .metrics import DEFAULT_METRICS, METRICS, PENALIZED, PROBABILISTIC, compare, compare_probability
from .predictions import PredictedMasks, find_predictions
from .table import ScoreTable

__all__ = ["METRICS", "score"]

_Row = dict[str, Any]
_NAN = float("nan")


def score(
    predictions: Predictions | Path | Cohort,
    cohort: Cohort,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance_mm: float = 3.0,
    penalty_mm: float = 100.0,
    threshold: float | None = None,
    resample: bool = False,
    error_maps: Path | None = None,
    work: Work = Work(),
) -> ScoreTable:
    """Score predicted masks against a cohort's reference masks.

    Parameters
    ----------
    predictions : Predictions, Cohort or Path
        What a model predicted, or a folder of masks that another tool made; the layouts are those of
        `shiftkit.analyses.scoring.predictions.find_predictions`.
    cohort : Cohort
        With reference masks; tumor masks and the columns of ``participants.tsv`` go into the table as covariates.
    metrics : sequence of str
        Names from `METRICS`; how each is defined stands in `shiftkit.analyses.scoring.surfaces.MaskPair` and
        `shiftkit.analyses.scoring.metrics`. Those of probabilities get the status ``unavailable`` where there are none.
    tolerance_mm : float
        For ``nsd``.
    penalty_mm : float
        Surface distances of an empty prediction, whatever the field of view.
    threshold : float, optional
        Probabilities from this value on are inside. By default masks are taken as written, and 0.5 is used where there
        are only probabilities.
    resample : bool
        Bring predictions that lie on another grid onto the reference's (linear, 0.5); otherwise they are an error.
    error_maps : Path, optional
        A folder for one image a bundle: 1 hit, 2 missed, 3 false.
    work : Work
        Processes and progress.

    Returns
    -------
    ScoreTable
        One row a metric for every bundle that the cohort has a reference of, in every case; missing values have a
        status:

        ============  ============  ==================================  ====================
        reference     prediction    values                              status
        ============  ============  ==================================  ====================
        present       present       as defined                          ``ok``
        present       empty         0, or the penalty for distances     ``missed``
        absent        present       none; a row ``false_positive_volume``  ``reference_absent``
        absent        empty         none                                ``both_absent``
        any           not there     none                                ``unavailable``
        ============  ============  ==================================  ====================

        A mask file that is missing counts as absent or empty where other cases have it. A bundle that nobody predicted,
        and every bundle of a case without predictions, is ``unavailable``.

    Raises
    ------
    ConfigError
        If a metric is unknown.
    DataError
        If no case has a prediction; if grids differ or affines are sheared. All cases are named at once.

    Notes
    -----
    Distances to the tumor go from edge to edge between the voxels' boxes, to the *reference* bundle; see
    `shiftkit.distances.edge_distance_map`. The side is that of ``tumor_side`` in the participants table or,
    where it is missing, that of the mask; see `shiftkit.analyses.distance.tumor.tumor_side`.

    Examples
    --------
    >>> import tempfile
    >>> from shiftkit.cohorts.folder import load_cohort, mask_path, write_participants
    >>> from shiftkit.images import write_image
    >>> mask, root = np.zeros((9, 9, 9), dtype=bool), Path(tempfile.mkdtemp())
    >>> mask[2:7, 2:7, 2:7] = True
    >>> for name, shift in (("truth", 0), ("mine", 1)):
    ...     write_participants(root / name, pd.DataFrame({"participant_id": ["sub-1"], "group": ["control"]}))
    ...     image = Volume(array=np.roll(mask, shift, axis=0), affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    ...     write_image(image, mask_path(root / name, "sub-1", Bundle.parse("AFleft")))
    >>> print(score(root / "mine", load_cohort(root / "truth"), metrics=("dice", "hd95")))
    Scores of 1 participant (1 control): dice hd95 over 1 bundle
    counts: ok 1
    dice, control: mean 0.800 over 1 of 1
    hd95, control: mean 2.000 over 1 of 1
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ConfigError(f"Metrics are names among {', '.join(METRICS)}; got {', '.join(unknown) or 'none'}.")
    found = find_predictions(predictions)
    scorer = _Scorer(
        predicted=found,
        cohort=cohort.name,
        bundles=cohort.bundles,
        metrics=tuple(dict.fromkeys(metrics)),
        tolerance_mm=tolerance_mm,
        penalty_mm=penalty_mm,
        threshold=threshold,
        resample=resample,
        error_maps=error_maps,
    )
    return ScoreTable(frame=pd.DataFrame(for_each_case(scorer, cohort, found, work)))


def identify(case: Case, bundle: Bundle, cohort: str, predicted: PredictedMasks) -> _Row:
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


def for_each_case(
    score_case: Callable[[Case], list[_Row]], cohort: Cohort, predicted: PredictedMasks, work: Work
) -> list[_Row]:
    """The rows of all cases in order; every case is looked at before problems are raised.

    Raises
    ------
    DataError
        If no case has a prediction, no case has a reference, or some cannot be compared.
    """
    if not cohort.bundles:
        raise DataError(f"Scoring needs reference masks; cohort {cohort.name} has none.")
    if not any(predicted.of(case) for case in cohort):
        raise DataError(
            f"Predictions must be of the cohort's participants; none of those in {predicted.name} "
            f"({', '.join(list(predicted.cases)[:3]) or 'no case'}) is in {cohort.name} "
            f"({', '.join(case.key for case in cohort.cases[:3])}). Check both names."
        )
    rows: list[_Row] = []
    problems: list[DataError] = []
    for result in work.map(partial(_attempt, score_case), cohort.cases, f"Scoring {cohort.name}"):
        if isinstance(result, DataError):
            problems.append(result)
        else:
            rows += result
    if len(problems) == 1:
        raise problems[0]
    raise_all([str(problem) for problem in problems], f"{len(problems)} of {len(cohort)} cases")
    return rows


def _attempt(score_case: Callable[[Case], list[_Row]], case: Case) -> list[_Row] | DataError:
    try:
        return score_case(case)
    except DataError as error:
        return DataError(f"{case.key}: {error}")


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    """Scores one case; made once, and sent to every process."""

    predicted: PredictedMasks
    cohort: str
    bundles: tuple[Bundle, ...]
    metrics: tuple[str, ...]
    tolerance_mm: float
    penalty_mm: float
    threshold: float | None
    resample: bool
    error_maps: Path | None

    def __call__(self, case: Case) -> list[_Row]:
        anatomy = Anatomy.of(case, self.bundles)
        rows: list[_Row] = []
        for bundle in self.bundles:
            prediction = self.predicted.read_mask(
                case, bundle, anatomy.references[bundle], self.threshold, self.resample
            )
            common = {
                **identify(case, bundle, self.cohort, self.predicted),
                **anatomy.columns(bundle),
                "age": case.number("age"),
                **{name: case.attributes.get(name, "n/a") for name in ("sex", "site", "scanner")},
            }
            rows += [{**common, **row} for row in self._score(case, bundle, prediction, anatomy.references[bundle])]
        return rows

    def _score(self, case: Case, bundle: Bundle, prediction: Volume | None, reference: Volume | None) -> list[_Row]:
        """One row a metric: name, value, unit and status."""
        if prediction is None:
            return [self._row(name, _NAN, Status.UNAVAILABLE) for name in self.metrics]
        truth = np.zeros_like(prediction.array) if reference is None else reference.array
        names = [name for name in self.metrics if name not in PROBABILISTIC]
        found = compare(
            prediction.array,
            truth,
            prediction.spacing_mm,
            metrics=names,
            tolerance_mm=self.tolerance_mm,
            penalty_mm=self.penalty_mm,
        )
        rows = [self._row(name, found.values[name], found.status) for name in names]
        if found.status == Status.REFERENCE_ABSENT:
            rows.append(
                self._row("false_positive_volume", found.n_false_positive * prediction.voxel_volume_ml, found.status)
            )
        if self.error_maps is not None:
            write_error_map(self.error_maps, case.key, bundle, prediction.with_array(truth), prediction.array)
        if len(names) < len(self.metrics):
            rows += self._score_probability(case, bundle, reference, found.status)
        return rows

    def _score_probability(self, case: Case, bundle: Bundle, reference: Volume | None, status: Status) -> list[_Row]:
        names = [name for name in self.metrics if name in PROBABILISTIC]
        if reference is None or status in (Status.REFERENCE_ABSENT, Status.BOTH_ABSENT):
            return [self._row(name, _NAN, status) for name in names]
        probability = self.predicted.read_probability(case, bundle, reference, self.resample)
        if probability is None:
            return [self._row(name, _NAN, Status.UNAVAILABLE) for name in names]
        values = compare_probability(probability.array, reference.array, reference.spacing_mm)
        return [self._row(name, values[name], status) for name in names]

    def _row(self, name: str, value: float, status: Status) -> _Row:
        return {
            "metric": name,
            "value": value,
            "unit": METRICS[name].unit if name in METRICS else "ml",
            "status": status,
            # With the value, or a table of other settings could pass for the same metric.
            "tolerance_mm": self.tolerance_mm if name == "nsd" else _NAN,
            "penalty_mm": self.penalty_mm if name in PENALIZED else _NAN,
        }
