"""Errors counted voxel by voxel: by bundle, distance to the tumor and place along the bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....types import Bundle, Case, Cohort, Predictions
from ....work import Work
from ...distance.case import Anatomy
from ...distance.places import Places
from ...scoring.predictions import PredictedMasks, find_predictions

Counts = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ErrorCounts:
    """What was there, missed, predicted and false, in voxels.

    Parameters
    ----------
    participants : tuple of str
        First axis of the arrays; a participant with several sessions has them added up.
    bundles : tuple of Bundle
        Second axis; a bundle that a participant's reference lacks, or whose mask is empty, counts 0 throughout.
    reference, missed : ndarray, shape (participants, bundles, shells, sections)
        Voxels of the reference mask, and those of them that the prediction lacks.
    predicted, false : ndarray, same shape
        Voxels of the predicted mask, and those of them that the reference lacks.
    skipped : mapping of str to str
        Cases that could not be counted, with the reason.
    """

    participants: tuple[str, ...]
    bundles: tuple[Bundle, ...]
    reference: Counts
    missed: Counts
    predicted: Counts
    false: Counts
    skipped: Mapping[str, str]

    def of(self, rate: str) -> tuple[Counts, Counts]:
        """Numerator and denominator of a rate: ``fn`` or ``fp``."""
        return (self.missed, self.reference) if rate == "fn" else (self.false, self.predicted)


def count_errors(
    predictions: Predictions,
    cohort: Cohort,
    bundles: Sequence[Bundle],
    places: Places,
    *,
    edges_mm: Sequence[float] | None = None,
    work: Work = Work(),
) -> ErrorCounts:
    """Count the errors of each case of a cohort that has a prediction.

    Parameters
    ----------
    predictions : Predictions
        Predicted masks, on the grid of the reference masks; a bundle without a file counts as empty.
    cohort : Cohort
        Reference masks, and tumor masks where ``edges_mm`` is given.
    bundles : sequence of Bundle
        What to count.
    places : Places
        Gives the section of each voxel.
    edges_mm : sequence of float, optional
        Edges of the shells around the tumor, from 0 to infinity; without them there is one shell, and no tumor is
        looked for.
    work : Work
        Processes and progress.

    Raises
    ------
    DataError
        If a mask cannot be read, or lies on another grid than its reference.
    """
    found = find_predictions(predictions)
    count = _Counter(
        predicted=found, bundles=tuple(bundles), places=places, edges_mm=None if edges_mm is None else tuple(edges_mm)
    )
    names = tuple(dict.fromkeys(case.participant_id for case in cohort))
    total = np.zeros((4, len(names), *count.shape))
    skipped: dict[str, str] = {}
    counted: set[str] = set()
    results = work.map(count, cohort.cases, f"Counting errors in {cohort.name}")
    for case, counts in zip(cohort, results, strict=True):
        if isinstance(counts, str):
            skipped[case.key] = predictions.failed.get(case.key, counts)
        else:
            total[:, names.index(case.participant_id)] += counts
            counted.add(case.participant_id)
    kept = [index for index, name in enumerate(names) if name in counted]
    return ErrorCounts(
        participants=tuple(names[index] for index in kept),
        bundles=tuple(bundles),
        **dict(zip(("reference", "missed", "predicted", "false"), total[:, kept], strict=True)),
        skipped=skipped,
    )


@dataclass(frozen=True, kw_only=True)
class _Counter:
    """Counts one case; made once, and sent to every process."""

    predicted: PredictedMasks
    bundles: tuple[Bundle, ...]
    places: Places
    edges_mm: tuple[float, ...] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        n_shells = 1 if self.edges_mm is None else len(self.edges_mm) - 1
        return len(self.bundles), n_shells, self.places.n_sections

    def __call__(self, case: Case) -> Counts | str:
        """Four arrays of counts, or the reason why there are none."""
        if self.predicted.of(case) is None:
            return "there is no prediction"
        anatomy = Anatomy.of(case, self.bundles)
        distance_mm = None if anatomy.tumor is None else anatomy.tumor.distance_mm
        if self.edges_mm is not None and distance_mm is None:
            return "there is no tumor mask"
        counts = np.zeros((4, *self.shape))
        for index, bundle in enumerate(self.bundles):
            reference = anatomy.references[bundle]
            prediction = self.predicted.read_mask(case, bundle, reference, None, False)
            if reference is None or prediction is None or not reference.array.any():
                continue  # no reference, no rate: the score table says reference_absent
            voxels = np.argwhere(reference.array | prediction.array)
            at = tuple(voxels.T)
            shell = np.zeros(len(voxels), dtype=np.intp)
            if self.edges_mm is not None and distance_mm is not None:
                shell = np.searchsorted(self.edges_mm, distance_mm[at], side="right") - 1
            section = self.places.section(bundle, voxels @ reference.affine[:3, :3].T + reference.affine[:3, 3])
            cell = np.ravel_multi_index((shell, section), self.shape[1:])
            there, drawn = reference.array[at], prediction.array[at]
            for kind, chosen in enumerate((there, there & ~drawn, drawn, drawn & ~there)):
                counted = np.bincount(cell[chosen], minlength=self.shape[1] * self.shape[2])
                counts[kind, index] = counted.reshape(self.shape[1:])
        return counts
