"""Where along a bundle a prediction errs: Dice, misses and false voxels by section."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from ..errors import ConfigError, DataError
from ..status import Status
from ..tables import SECTIONS, parse_table
from ..types import Bundle, Case, Cohort, Predictions, Volume
from .anatomy import Anatomy
from .layouts import find_predictions
from .predictions import PredictedMasks
from .scoring import Progress, for_each_case, identify

_HALF = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)])


def score_sections(
    predictions: Predictions | Path | Cohort,
    cohort: Cohort,
    *,
    n_sections: int = 10,
    threshold: float | None = None,
    resample: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score predicted masks in sections along each bundle.

    Parameters
    ----------
    predictions, cohort, threshold, resample, jobs, progress
        As in `shiftkit.analyses.scoring.score`.
    n_sections : int
        Sections of equal length; see `positions_along`. Each voxel of the prediction belongs to the section of the
        nearest voxel of the reference, so the prediction does not move the sections.

    Returns
    -------
    DataFrame
        Columns of `shiftkit.tables.SECTIONS`, one row a section of each bundle that the case has a reference of.
        A section without predicted voxels is ``missed`` (Dice 0); its share of false voxels does not exist and is
        NaN. Bundles without a prediction are ``unavailable``.

    Raises
    ------
    ConfigError
        If there are fewer than two sections.
    DataError
        As in `shiftkit.analyses.scoring.score`.
    """
    if n_sections < 2:
        raise ConfigError(f"A bundle has two sections or more; got {n_sections}.")
    found = find_predictions(predictions)
    worker = _SectionScorer(
        predicted=found,
        cohort=cohort.name,
        bundles=cohort.bundles,
        n_sections=n_sections,
        threshold=threshold,
        resample=resample,
    )
    rows = for_each_case(worker, cohort, found, jobs, progress)
    if not rows:
        raise DataError(f"Sections need reference masks with voxels; cohort {cohort.name} has none.")
    return parse_table(pd.DataFrame(rows), SECTIONS, "The table of sections")


def positions_along(mask: Volume) -> NDArray[np.float64]:
    r"""How far along a bundle each of its voxels lies, from 0 at one end to 1 at the other.

    The ends a and b are the two voxels farthest from each other *inside* the mask, so a curved bundle is followed
    round its bend; the position of a voxel is :math:`d_a / (d_a + d_b)` with geodesic distances. Position 0 is the
    end that is more posterior, inferior or lateral, on whichever of these three axes the ends differ most, so that
    sections mean the same in both hemispheres and in all participants.

    Parameters
    ----------
    mask : Volume
        Boolean, at least one voxel; orthogonal axes. Voxels off the largest component get the position of the
        nearest voxel in it.

    Returns
    -------
    ndarray of float64, shape (N,)
        For the voxels in the order of ``np.argwhere(mask.array)``.

    Examples
    --------
    >>> array = np.zeros((3, 5, 3), dtype=bool)
    >>> array[1, :, 1] = True
    >>> positions_along(Volume(array=array, affine=np.diag([2.0, 2, 2, 1]))).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    voxels = np.argwhere(mask.array)
    components: Any = ndimage.label(mask.array, structure=np.ones((3, 3, 3)))
    labels = components[0][mask.array]
    inside = labels == np.bincount(labels).argmax()
    main = voxels[inside]
    graph = _neighbor_graph(main, mask.spacing_mm)
    first = int(np.argmax(_geodesic(graph, 0)))
    from_first = _geodesic(graph, first)
    last = int(np.argmax(from_first))
    from_last = _geodesic(graph, last)
    length = from_first[last]
    along = from_first / (from_first + from_last) if length > 0 else np.full(len(main), 0.5)
    if not _runs_forward(main[first], main[last], mask):
        along = 1 - along
    positions = np.empty(len(voxels))
    positions[inside] = along
    if not inside.all():
        nearest = KDTree(main * np.array(mask.spacing_mm)).query(voxels[~inside] * np.array(mask.spacing_mm))[1]
        positions[~inside] = along[nearest]
    return positions


def _runs_forward(first: NDArray[np.intp], last: NDArray[np.intp], mask: Volume) -> bool:
    ends = np.stack([first, last]) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    x_middle = float((np.argwhere(mask.array) @ mask.affine[0, :3] + mask.affine[0, 3]).mean())
    ends[:, 0] *= 1 if x_middle < 0 else -1  # from lateral to medial in either hemisphere
    step = ends[1] - ends[0]
    return bool(step[np.argmax(np.abs(step))] >= 0)


def _neighbor_graph(voxels: NDArray[np.intp], spacing_mm: tuple[float, float, float]) -> sparse.csr_matrix:
    """Edges between voxels that share a face, an edge or a corner, with their lengths in mm."""
    low = voxels.min(axis=0) - 1
    shape = voxels.max(axis=0) - low + 2
    number = np.full(shape, -1)
    here = voxels - low
    number[tuple(here.T)] = np.arange(len(voxels))
    rows: list[NDArray[np.intp]] = []
    columns: list[NDArray[np.intp]] = []
    lengths: list[NDArray[np.float64]] = []
    for step in _HALF:
        neighbor = number[tuple((here + step).T)]
        linked = np.flatnonzero(neighbor >= 0)
        rows.append(linked)
        columns.append(neighbor[linked])
        lengths.append(np.full(linked.size, float(np.linalg.norm(step * np.array(spacing_mm)))))
    edges = (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(edges, shape=(len(voxels), len(voxels)))


def _geodesic(graph: sparse.csr_matrix, start: int) -> NDArray[np.float64]:
    return np.asarray(dijkstra(graph, directed=False, indices=start), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class _SectionScorer:
    """Scores the sections of one case; made once, and sent to every process."""

    predicted: PredictedMasks
    cohort: str
    bundles: tuple[Bundle, ...]
    n_sections: int
    threshold: float | None
    resample: bool

    def __call__(self, case: Case) -> list[dict[str, Any]]:
        anatomy = Anatomy.of(case, self.bundles)
        distance = None if anatomy.tumor is None else anatomy.tumor.distance_mm
        rows: list[dict[str, Any]] = []
        for bundle, reference in anatomy.references.items():
            if reference is None or not reference.array.any():
                continue
            prediction = self.predicted.read_mask(case, bundle, reference, self.threshold, self.resample)
            common = {
                **identify(case, bundle, self.cohort, self.predicted),
                "side": anatomy.columns(bundle)["side"],
            }
            sections = _score_one(reference, prediction, self.n_sections, distance)
            rows += [{**common, **section} for section in sections]
        return rows


def _score_one(
    reference: Volume, prediction: Volume | None, n_sections: int, distance_mm: NDArray[np.float32] | None
) -> Sequence[dict[str, Any]]:
    voxels = np.argwhere(reference.array)
    section = np.minimum((positions_along(reference) * n_sections).astype(int), n_sections - 1)
    predicted = np.zeros((0, 3), dtype=int) if prediction is None else np.argwhere(prediction.array)
    of_predicted = _nearest_section(predicted, voxels, section, reference.spacing_mm)
    hit = reference.array[tuple(predicted.T)]
    to_tumor = np.full(n_sections, np.inf)
    if distance_mm is not None:
        np.minimum.at(to_tumor, section, distance_mm[reference.array])
    n_reference, n_predicted, n_hit = (
        np.bincount(which, minlength=n_sections) for which in (section, of_predicted, of_predicted[hit])
    )
    # A hit voxel is its own nearest reference voxel, so hits count once and in one section.
    rows: list[dict[str, Any]] = []
    for index in range(n_sections):
        row = _rates(int(n_reference[index]), int(n_predicted[index]), int(n_hit[index]), prediction is not None)
        rows.append(
            {
                "section": index + 1,
                **row,
                "reference_ml": n_reference[index] * reference.voxel_volume_ml,
                "prediction_ml": n_predicted[index] * reference.voxel_volume_ml if prediction is not None else np.nan,
                "tumor_distance_mm": to_tumor[index] if np.isfinite(to_tumor[index]) else np.nan,
            }
        )
    return rows


def _nearest_section(
    predicted: NDArray[np.intp],
    voxels: NDArray[np.intp],
    section: NDArray[np.intp],
    spacing_mm: tuple[float, float, float],
) -> NDArray[np.intp]:
    if not len(predicted):
        return np.zeros(0, dtype=np.intp)
    edge = np.array(spacing_mm)
    nearest = KDTree(voxels * edge).query(predicted * edge)[1]
    return section[nearest]


def _rates(n_reference: int, n_predicted: int, n_hit: int, available: bool) -> dict[str, Any]:
    nan = float("nan")
    if not available:
        return {"dice": nan, "false_negative_rate": nan, "false_positive_rate": nan, "status": Status.UNAVAILABLE}
    if not n_reference:
        status = Status.REFERENCE_ABSENT if n_predicted else Status.BOTH_ABSENT
        return {"dice": nan, "false_negative_rate": nan, "false_positive_rate": nan, "status": status}
    return {
        "dice": 2 * n_hit / (n_reference + n_predicted),
        "false_negative_rate": 1 - n_hit / n_reference,
        "false_positive_rate": 1 - n_hit / n_predicted if n_predicted else nan,
        "status": Status.OK if n_predicted else Status.MISSED,
    }
