"""Predicted masks against reference masks: one row a participant, bundle, hemisphere and metric."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...errors import ConfigError
from ...images import megavoxels
from ...status import Status
from ...types import Bundle, Case, Cohort, Predictions, Volume
from ...words import nearest
from ...work import Cost, Work
from .cases import Look, OpenCase, Reader, identify, read_cases, require_predictions, require_written, rows_of
from .error_maps import ErrorMaps
from .metrics import DEFAULT_METRICS, METRICS, PENALIZED, PROBABILISTIC, compare, compare_probability
from .predictions import PredictedMasks, find_predictions
from .table import ScoreTable

_Row = dict[str, Any]
_NAN = float("nan")


def score(
    predictions: Predictions | PredictedMasks | Path | Cohort,
    cohort: Cohort,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance_mm: float = 3.0,
    penalty_mm: float = 100.0,
    threshold: float | None = None,
    resample: bool = False,
    unwritten: str | None = None,
    error_maps: Path | None = None,
    work: Work = Work(),
) -> ScoreTable:
    """Score predicted masks against a cohort's reference masks.

    Parameters
    ----------
    predictions : Predictions, PredictedMasks, Cohort or Path
        What a model predicted, or a folder of masks that another tool made, indexed or not; the layouts are those of
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
    unwritten : {"unavailable", "missed"}, optional
        What a bundle is that was written for others and not for this participant; without it such bundles are refused.
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
        any           not written    none                                ``unavailable``
        ============  ============  ==================================  ====================

        A bundle that nobody predicted, and every bundle of a case without predictions, is ``unavailable``;
        ``unwritten`` says what one is that others have. Cases whose folder is empty, which an interrupted tool leaves,
        and those whose images cannot be read are in ``failed``, with the reason; the latter have no rows.

    Raises
    ------
    ConfigError
        If a metric is unknown.
    DataError
        If no case has a prediction, or a bundle was written for some alone and ``unwritten`` is not given;
        if no image can be read, grids differ or affines are sheared. All cases are named at once.

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
    if unwritten not in (None, "unavailable", "missed"):
        raise ConfigError(f"`unwritten` is unavailable or missed; got {unwritten!r}.")
    found = replace(find_predictions(predictions), unwritten=unwritten or "unavailable")
    scoring = Scoring(
        predicted=found,
        cohort=cohort.name,
        metrics=tuple(dict.fromkeys(metrics)),
        tolerance_mm=tolerance_mm,
        penalty_mm=penalty_mm,
        resample=resample,
    )
    require_predictions(cohort, found)
    if unwritten is None:
        require_written(cohort, found)
    made_by = predictions.cohort if isinstance(predictions, Predictions) else predictions
    if not isinstance(made_by, PredictedMasks):  # who indexed them has looked
        work.require_seen(made_by.root if isinstance(made_by, Cohort) else made_by)
    work.require_seen(cohort.root)
    work.begin(
        f"Would score {len(cohort.bundles)} bundles of {len(cohort)} cases of {cohort.name} as predicted in "
        f"{found.name}: {', '.join(scoring.metrics)}.",
        cost_of(cohort, work),
        error_maps,
    )
    readers: dict[str, Reader] = {"scores": scoring}
    if error_maps is not None:
        readers["maps"] = ErrorMaps(root=error_maps)
    look = Look(predicted=found, readers=readers, threshold=threshold, resample=resample)
    failed = found.unfinished(cohort)
    (made,) = read_cases(cohort, [look], work, failed=failed)
    return ScoreTable(frame=pd.DataFrame(rows_of(made["scores"], cohort.bundles, cohort)), failed=failed)


def cost_of(cohort: Cohort, work: Work) -> Cost:
    """What it takes to score a cohort with every metric; as in `benchmarks/scoring.md`."""
    mega, n_masks = megavoxels(cohort), len(cohort.bundles)
    return work.cost(len(cohort), cpu_s=0.05 + 0.07 * n_masks * mega, memory_gib=0.4 + 0.2 * mega)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Reader: the rows of the score table for one bundle of a case; `score` says what the fields mean."""

    predicted: PredictedMasks
    cohort: str
    metrics: tuple[str, ...]
    tolerance_mm: float = 3.0
    penalty_mm: float = 100.0
    resample: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            near = nearest(unknown[0], METRICS) if unknown else ""
            raise ConfigError(
                f"Metrics are names among {', '.join(METRICS)}; got {', '.join(unknown) or 'none'}{near or '.'}"
            )

    def __call__(self, opened: OpenCase, bundle: Bundle, prediction: Volume | None) -> list[_Row]:
        """One row a metric."""
        case = opened.case
        common = {
            **identify(case, bundle, self.cohort, self.predicted),
            **opened.anatomy.columns(bundle),
            "age": case.number("age"),
            **{name: case.attributes.get(name, "n/a") for name in ("sex", "site", "scanner")},
        }
        found = self._score(case, bundle, prediction, opened.anatomy.references[bundle])
        return [{**common, **row} for row in found]

    def _score(self, case: Case, bundle: Bundle, prediction: Volume | None, reference: Volume | None) -> list[_Row]:
        """One row a metric: name, value, unit and status."""
        if prediction is None:
            return [self._row(name, _NAN, Status.UNAVAILABLE) for name in self.metrics]
        # Without a reference the bundle counts as absent: what is predicted of it is false.
        truth = np.zeros_like(prediction.array) if reference is None else reference.array
        of_masks = [name for name in self.metrics if name not in PROBABILISTIC]
        settings: dict[str, Any] = {"tolerance_mm": self.tolerance_mm, "penalty_mm": self.penalty_mm}
        found = compare(prediction.array, truth, prediction.spacing_mm, metrics=of_masks, **settings)
        rows = [self._row(name, found.values[name], found.status) for name in of_masks]
        if found.status == Status.REFERENCE_ABSENT:
            false_ml = found.n_false_positive * prediction.voxel_volume_ml
            rows.append(self._row("false_positive_volume", false_ml, found.status))
        of_probabilities = [name for name in self.metrics if name in PROBABILISTIC]
        if of_probabilities:
            values, status = self._score_probability(case, bundle, reference, found.status)
            rows += [self._row(name, values.get(name, _NAN), status) for name in of_probabilities]
        return rows

    def _score_probability(
        self, case: Case, bundle: Bundle, reference: Volume | None, status: Status
    ) -> tuple[dict[str, float], Status]:
        if reference is None or status in (Status.REFERENCE_ABSENT, Status.BOTH_ABSENT):
            return {}, status
        probability = self.predicted.read_probability(case, bundle, reference, self.resample)
        if probability is None:
            return {}, Status.UNAVAILABLE
        return compare_probability(probability.array, reference.array, reference.spacing_mm), status

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
