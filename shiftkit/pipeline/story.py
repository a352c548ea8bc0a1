"""What of a run goes into its report: cohorts, cases, findings, provenance."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..catalogue import SECTIONS
from ..names import find_cohort
from ..results import Finding
from ..runs import Run
from ..types import Bundle, Cohort, Predictions
from ..work import Progress, Work
from .inputs import Inputs

if TYPE_CHECKING:
    from ..analyses.decomposition.result import Decomposition
    from ..reports import CasePicture, CohortSummary, Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Story:
    """What the report tells besides the findings.

    Parameters
    ----------
    inputs : Inputs or None
        None when the scores came as a table.
    source, tuned : Predictions or None
        Of the patients, before and after fine-tuning, for the pictures.
    notes : tuple of str
        Sentences about this run.
    failed : mapping of str to str
        Participants without a prediction, with the reason.
    controls : Predictions or None
        Of the controls, for what the bundles' pages compare patients with.
    jobs : int
        Processes; 0 uses every core.
    progress : callable or None
        Called as ``progress(done, total, text)``.
    """

    inputs: Inputs | None = None
    source: Predictions | None = None
    tuned: Predictions | None = None
    notes: tuple[str, ...] = ()
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])
    controls: Predictions | None = None
    jobs: int = 1
    progress: Progress | None = None


def write_report(
    run: Run,
    findings: Sequence[Finding],
    result: "Decomposition",
    components: pd.DataFrame,
    story: Story,
    record: Mapping[str, Any],
) -> None:
    """Write ``report.html``, the pages of bundles and participants, the figures of a run, and the report as data."""
    from ..reports import report, store

    page = report(
        findings,
        title="Domain shift of white-matter bundle segmentation",
        verdict=result.verdict,
        cases=_cases(result.scores, story),
        cohorts=_cohorts(story),
        provenance={key: record[key] for key in record if key not in ("verdict", "estimates")},
        table=components,
        notes=(*story.notes, *result.notes),
        bundle_findings=_bundles(run, result.scores, story),
    )
    page.save(run.root / "report.html", work=Work(jobs=story.jobs, progress=story.progress))
    store(page, run.root)


def report_again(
    folder: Path,
    *,
    cohort: str | Path | Cohort | None = None,
    linked: bool | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> "Report":
    """Write the report of a finished run again, from its data, drawings and images; see ``shiftkit report``.

    Nothing is estimated again: the same run gives the same bytes.

    Parameters
    ----------
    folder : Path
        The run.
    cohort : str, Path or Cohort, optional
        Where the patients' cohort is now, if it was moved.
    linked, jobs, progress
        See `shiftkit.reports.Report.save`.

    Raises
    ------
    DataError
        If the folder holds no run with a report.
    """
    from ..reports import restore

    root = find_cohort(cohort, work=Work(progress=progress)).root if cohort is not None else None
    page = restore(folder, root)
    page.save(folder / "report.html", linked=linked, work=Work(jobs=jobs, progress=progress))
    return page


def _bundles(run: Run, scores: pd.DataFrame, story: Story) -> "dict[Bundle, tuple[Finding, ...]]":
    """What the bundles' pages tell; along the bundle and in the brain where there are images."""
    from ..analyses.scoring.error_maps import error_places
    from ..analyses.scoring.findings import bundle_findings
    from ..analyses.scoring.sections import score_sections

    if story.inputs is None or story.source is None:
        return bundle_findings(scores)
    work = Work(jobs=story.jobs, progress=story.progress)
    pairs = [(story.source, story.inputs.patients)]
    if story.controls is not None:
        pairs.append((story.controls, story.inputs.controls))
    parts = [score_sections(predicted, _predicted(cohort, predicted), work=work) for predicted, cohort in pairs]
    sections = pd.concat(parts, ignore_index=True)
    run.write_table(sections, SECTIONS)
    patients = _predicted(story.inputs.patients, story.source)
    return bundle_findings(scores, sections, error_places(story.source, patients, work=work))


def _predicted(cohort: Cohort, predictions: Predictions) -> Cohort:
    """The cases that have predictions."""
    keys = {case.key for case in predictions.cohort}
    return cohort.where(lambda case: case.key in keys)


def _cohorts(story: Story) -> "tuple[CohortSummary, ...]":
    from ..reports import CohortSummary

    if story.inputs is None:
        return ()
    inputs = story.inputs
    seen = dict.fromkeys(inputs.seen, "seen by the model in training or tuning")
    return (
        CohortSummary.of(inputs.patients, "patients", dict(story.failed)),
        CohortSummary.of(inputs.controls, "unseen controls", seen),
    )


def _cases(scores: pd.DataFrame, story: Story) -> "list[CasePicture]":
    """Every case of the patients that has a prediction and an image to look at."""
    if story.inputs is None or story.source is None:
        return []
    keys = ["participant_id", "bundle", "hemisphere"]
    patients = scores[scores["group"] == "glioma"]
    own = patients[patients["model"] == story.source.model].drop_duplicates(keys)
    tuned = patients[patients["model"] == story.tuned.model] if story.tuned is not None else patients.iloc[:0]
    after = tuned.drop_duplicates(keys).set_index(keys)["value"].to_dict()
    made = [
        _case(row, float(after.get(tuple(row[name] for name in keys), np.nan)), story) for row in own.to_dict("records")
    ]
    return [case for case in made if case is not None]


def _case(row: Mapping[Any, Any], score_after: float, story: Story) -> "CasePicture | None":
    from ..analyses.scoring.metrics import METRICS
    from ..reports import CasePicture

    if story.inputs is None or story.source is None:
        return None
    metric = METRICS[row["metric"]]
    bundle = Bundle(name=row["bundle"], hemisphere=row["hemisphere"])
    case = story.inputs.patients[row["participant_id"]]
    predicted = story.source.cohort[row["participant_id"]].masks.get(bundle)
    image = case.images.get("t1w") or next((p for name, p in sorted(case.images.items()) if name != "peaks"), None)
    if predicted is None or image is None or bundle not in case.masks:
        return None
    return CasePicture(
        participant_id=row["participant_id"],
        bundle=bundle,
        score=float(row["value"]),
        distance_mm=float(row["tumor_distance_mm"]),
        image=image,
        reference=case.masks[bundle],
        prediction=predicted,
        tumor=case.tumor,
        model=story.source.model,
        status=row["status"],
        after=story.tuned.cohort[row["participant_id"]].masks.get(bundle) if story.tuned is not None else None,
        score_after=score_after,
        measure=metric.title,
        unit="" if metric.unit == "1" else metric.unit,
        higher_is_better=metric.better == "higher",
    )
