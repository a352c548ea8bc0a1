"""Predictions and scores of every cohort of a run, which several stages start from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..catalogue import SECTIONS
from ..runs import Run
from ..tables import parse_table
from ..types import Bundle, Cohort, Predictions
from ..work import Work
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analyses.decomposition.shells.counts import ErrorCounts
    from ..analyses.scoring.cases import Reader
    from ..analyses.scoring.error_maps import ErrorPlaces


def predict_cohorts(run: Run, inputs: Inputs, device: str, work: Work) -> dict[str, Predictions]:
    """Predict every cohort with the source model; what is on disk already is not made again."""
    from ..segmentation.prediction.cohort import predict

    folder = run.root / "predictions"
    return {
        name: predict(inputs.model, cohort, out=folder / name, device=device, resume=True, work=work)
        for name, cohort in inputs.cohorts.items()
    }


def score_cohorts(
    predictions: Mapping[str, Predictions], cohorts: Mapping[str, Cohort], metrics: Sequence[str], work: Work
) -> pd.DataFrame:
    """Score each cohort that has predictions, in one pass over its cases; the parts go into one table."""
    from ..analyses.scoring.study import score

    tables: list[pd.DataFrame] = []
    for name, one in predictions.items():
        tables.append(_grouped(score(one, predicted(cohorts[name], one), metrics=metrics, work=work).to_frame(), name))
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one look at every case of a run saw.

    Parameters
    ----------
    scores : DataFrame
        Of all cohorts, columns of `shiftkit.catalogue.SCORES`.
    sections : DataFrame
        Of patients and controls, columns of `shiftkit.catalogue.SECTIONS`.
    places : mapping of Bundle to ErrorPlaces
        Where in the brain the patients' errors are.
    counts : tuple of ErrorCounts or None
        Of patients and controls, where they were asked for.
    """

    scores: pd.DataFrame
    sections: pd.DataFrame
    places: "Mapping[Bundle, ErrorPlaces]"
    counts: "tuple[ErrorCounts, ErrorCounts] | None" = None


def look(inputs: Inputs, source: Mapping[str, Predictions], metrics: Sequence[str], *, count: bool, work: Work) -> Seen:
    """Open every case once: scores, errors along the bundle and in the brain, and with ``count`` around the tumor."""
    from ..analyses.decomposition.shells.counts import Counting, count_healthy, keep_masks
    from ..analyses.decomposition.shells.study import EDGES_MM, N_SECTIONS, common_bundles
    from ..analyses.scoring.error_maps import error_voxels, places_of

    patients, controls = inputs.patients, inputs.controls
    parts = _Parts(source=source, metrics=metrics, work=work)
    # Controls first: their reference masks say where along a bundle the errors of patients are counted.
    healthy = parts.read("controls", controls, {"kept": keep_masks} if count else {})
    readers: dict[str, Reader] = {"places": error_voxels}
    counts = None
    if count:
        bundles = common_bundles(patients, controls, source["patients"], source["controls"])
        of_controls, places = count_healthy(
            healthy["kept"],
            controls.bundles,
            controls,
            source["controls"].failed,
            bundles=bundles,
            n_sections=N_SECTIONS,
            work=work,
        )
        readers["counts"] = counting = Counting(bundles=bundles, places=places, edges_mm=EDGES_MM)
        made = parts.read("patients", patients, readers)
        counted = counting.collect(made["counts"], patients.bundles, patients, source["patients"].failed)
        counts = counted, of_controls
    else:
        made = parts.read("patients", patients, readers)
    for name in inputs.cohorts.keys() - {"patients", "controls"}:
        parts.read(name, inputs.cohorts[name], {})
    order = list(inputs.cohorts)
    sections = pd.DataFrame([row for name in ("patients", "controls") for row in parts.sections[name]])
    return Seen(
        scores=pd.concat([parts.scores[name] for name in order], ignore_index=True),
        sections=parse_table(sections, SECTIONS, "The table of sections"),
        places=places_of(made["places"], patients.bundles),
        counts=counts,
    )


class _Parts:
    """Scores and sections of each cohort, as they are read."""

    def __init__(self, source: Mapping[str, Predictions], metrics: Sequence[str], work: Work) -> None:
        self.source, self.metrics, self.work = source, metrics, work
        self.scores: dict[str, pd.DataFrame] = {}
        self.sections: dict[str, list[dict[str, Any]]] = {}

    def read(self, name: str, cohort: Cohort, readers: "Mapping[str, Reader]") -> dict[str, Any]:
        """What further readers made of every case of a cohort."""
        from ..analyses.scoring.cases import Look, read_cases, require_predictions, rows_of
        from ..analyses.scoring.predictions import find_predictions
        from ..analyses.scoring.sections import Sections
        from ..analyses.scoring.study import Scoring
        from ..analyses.scoring.table import ScoreTable

        found = find_predictions(self.source[name])
        part = predicted(cohort, self.source[name])
        require_predictions(part, found)
        mine: dict[str, Reader] = {
            "scores": Scoring.of(found, cohort, self.metrics),
            "sections": Sections(predicted=found, cohort=cohort.name),
        }
        (made,) = read_cases(cohort, [Look(predicted=found, readers={**mine, **readers})], self.work)
        frame = ScoreTable(frame=pd.DataFrame(rows_of(made["scores"], cohort.bundles, part))).to_frame()
        self.scores[name] = _grouped(frame, name)
        self.sections[name] = list(rows_of(made["sections"], cohort.bundles, part))
        return made


def _grouped(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame.assign(group="target_control") if name == "target_controls" else frame


def predicted(cohort: Cohort, predictions: Predictions) -> Cohort:
    """The cases that have predictions."""
    keys = {case.key for case in predictions.cohort}
    return cohort.where(lambda case: case.key in keys)
