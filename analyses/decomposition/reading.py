"""All that a decomposition takes from images, in one pass over each cohort."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from ...catalogue import SECTIONS
from ...tables import parse_table
from ...types import Bundle, Cohort, Predictions
from ...work import Work
from ..scoring.cases import Look, Made, Reader, read_cases, require_predictions, rows_of
from ..scoring.error_maps import (
    ErrorPlaces,
    TumorPlaces,
    error_voxels,
    places_of,
    places_of_all,
    tumor_voxels,
    tumors_of,
)
from ..scoring.predictions import find_predictions
from ..scoring.sections import Sections
from ..scoring.study import Scoring
from ..scoring.table import ScoreTable
from .shells.counts import Counting, ErrorCounts, count_healthy, keep_masks
from .shells.study import EDGES_MM, common_bundles

N_SECTIONS = 10


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read.

    Parameters
    ----------
    scores : mapping of str to tuple of ScoreTable
        By cohort, one a model; of the cases that the model predicted.
    sections : DataFrame
        Columns of `shiftkit.catalogue.SECTIONS`: patients and controls, predicted by the first model.
    places : mapping of Bundle to ErrorPlaces
        Where the first model errs in patients.
    everywhere : ErrorPlaces, or None
        The same for all bundles together; None where no patient has a reference and a prediction.
    tumors : TumorPlaces, or None
        Where the patients' tumors are; None without their masks.
    counts : tuple of ErrorCounts, or None
        Of patients and controls by the first model, for `shiftkit.analyses.decomposition.shells.study.shells`.
    """

    scores: Mapping[str, tuple[ScoreTable, ...]]
    sections: pd.DataFrame
    places: Mapping[Bundle, ErrorPlaces]
    everywhere: ErrorPlaces | None
    tumors: TumorPlaces | None
    counts: tuple[ErrorCounts, ErrorCounts] | None


def read_once(
    predictions: Mapping[str, Sequence[Predictions]],
    cohorts: Mapping[str, Cohort],
    *,
    metrics: Sequence[str] = ("dice",),
    shells: bool = True,
    work: Work = Work(),
) -> Reading:
    """Open each image of each cohort once, and make scores, sections, error places and counts for the shells from it.

    Parameters
    ----------
    predictions : mapping of str to sequence of Predictions
        By cohort: those of the source model first, then those of fine-tuned models.
    cohorts : mapping of str to Cohort
        ``patients`` and ``controls``, and whatever else shall be scored, such as ``target_controls``.
    metrics : sequence of str
        As in `shiftkit.analyses.scoring.study.score`.
    shells : bool
        Whether to count errors for the shells too.
    work : Work
        Processes and progress.

    Raises
    ------
    DataError
        As `shiftkit.analyses.scoring.study.score`, and as `shiftkit.analyses.decomposition.shells.study.shells`.
    """
    patients, people = cohorts["patients"].where(group="glioma"), cohorts["controls"].where(group="control")
    sources = predictions["patients"][0], predictions["controls"][0]
    bundles = common_bundles(patients, people, *sources) if shells else ()
    # Controls first: the places along the bundles come from them, and patients are counted there.
    more: dict[str, Reader] = {"kept": keep_masks} if shells else {}
    controls = _Opened.of(cohorts["controls"], predictions["controls"], metrics, more, work)
    more, healthy, counting = {"places": error_voxels, "tumors": tumor_voxels}, None, None
    if shells:
        looked, failed = cohorts["controls"].bundles, sources[1].failed
        healthy, along = count_healthy(
            controls.made[0]["kept"], looked, people, failed, bundles=bundles, n_sections=N_SECTIONS, work=work
        )
        more["counts"] = counting = Counting(bundles=bundles, places=along, edges_mm=EDGES_MM)
    glioma = _Opened.of(cohorts["patients"], predictions["patients"], metrics, more, work)
    counts = None
    if counting is not None and healthy is not None:
        found = glioma.made[0]["counts"]
        counts = counting.collect(found, cohorts["patients"].bundles, patients, sources[0].failed), healthy
    opened = {"patients": glioma, "controls": controls}
    opened |= {
        name: _Opened.of(cohorts[name], several, metrics, None, work)
        for name, several in predictions.items()
        if name not in opened
    }
    sections = pd.concat([glioma.rows("sections"), controls.rows("sections")], ignore_index=True)
    predicted, tumors = (
        {case.key: glioma.made[0][name][case.key] for case in glioma.parts[0]} for name in ("places", "tumors")
    )
    return Reading(
        scores={name: one.scores for name, one in opened.items()},
        sections=parse_table(sections, SECTIONS, "The table of sections"),
        places=places_of(predicted, cohorts["patients"].bundles),
        everywhere=places_of_all(predicted),
        tumors=tumors_of(tumors),
        counts=counts,
    )


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A cohort that was read: results by model, and the cases that each model predicted."""

    cohort: Cohort
    made: list[Made]
    parts: list[Cohort]

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        several: Sequence[Predictions],
        metrics: Sequence[str],
        more: Mapping[str, Reader] | None,
        work: Work,
    ) -> "_Opened":
        """Scores by every model and, unless there is nothing more, sections and all else by the first."""
        looks: list[Look] = []
        for predicted in map(find_predictions, several):
            require_predictions(cohort, predicted)
            readers: dict[str, Reader] = {
                "scores": Scoring(predicted=predicted, cohort=cohort.name, metrics=tuple(dict.fromkeys(metrics)))
            }
            if more is not None and not looks:
                sections = Sections(predicted=predicted, cohort=cohort.name, n_sections=N_SECTIONS)
                readers |= {"sections": sections, **more}
            looks.append(Look(predicted=predicted, readers=readers))
        keys = [{case.key for case in one.cohort} for one in several]
        parts = [cohort.where(lambda case, there=there: case.key in there) for there in keys]
        return cls(cohort=cohort, made=read_cases(cohort, looks, work), parts=parts)

    def rows(self, reader: str, model: int = 0) -> pd.DataFrame:
        return pd.DataFrame(rows_of(self.made[model][reader], self.cohort.bundles, self.parts[model]))

    @property
    def scores(self) -> tuple[ScoreTable, ...]:
        return tuple(ScoreTable(frame=self.rows("scores", model)) for model in range(len(self.parts)))
