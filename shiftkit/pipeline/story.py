"""How a run ends, whatever was studied: tables, failures, settings, report, record; and a report made again."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..files import held, refuse_links
from ..names import find_cohort
from ..results import Finding, Result
from ..runs import Outcome, Run
from ..status import spoken
from ..tables import Table
from ..types import Bundle, Cohort, Predictions
from ..work import Cost, Work

if TYPE_CHECKING:
    from ..reports import CasePicture, Opening, Report

Reasons = Mapping[str, str]
"""Participants left out, each with the reason."""


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """How many participants of a group took no part, or how many of their rows did not, and why."""

    group: str
    reason: str
    n_participants: int
    n_rows: int | None = None

    def __str__(self) -> str:
        rows = "" if self.n_rows is None else f"{self.n_rows} row{'s' * (self.n_rows != 1)} of "
        one = _PEOPLE.get(self.group, self.group)
        many = one if self.n_participants == 1 or self.group not in _PEOPLE else f"{one}s"
        return f"{rows}{self.n_participants} {many} ({spoken(self.reason)})"


_PEOPLE = {
    "glioma": "patient",
    "patients": "patient",
    "control": "control",
    "controls": "control",
    "target_control": "target control",
    "participants": "participant",
}
"""What participants of a group are called, one of them."""


def _failed_of(cohort: Cohort, failed: Reasons) -> Reasons:
    return {case.key: failed[case.key] for case in cohort if case.key in failed}


def counted(group: str, reasons: Reasons) -> tuple[LeftOut, ...]:
    """How many were left out for each reason."""
    return tuple(LeftOut(group, reason, n) for reason, n in sorted(Counter(reasons.values()).items()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ending:
    """What a run leaves behind.

    Parameters
    ----------
    result, failed, said, facts
        The study's own claim, estimates and findings, and the rest of `shiftkit.runs.Outcome`.
    title, findings, cases, notes
        Of the report: its title, findings of further studies, images to look at, sentences about this run.
    tables, components
        What goes under ``tables/``, and what of it the report prints by bundle.
    digests
        What tells the input from others.
    cohorts
        Who took part, by role, and who was left out beside those that failed.
    bundle_findings
        What the bundles' pages tell.
    opening
        The question, and what the answer rests on.
    left_out, warnings
        Who took no part though somebody may think so; sentences that belong to every number of the run.
    shows_places
        Whether the run keeps where its images are, to show them again; else a report made again has no images.
    entered
        Rows and participants that entered, and that did not, by reason; each table's dictionary has it.
    record
        What ``run.json`` keeps besides.
    """

    result: Result
    title: str
    tables: tuple[tuple[pd.DataFrame, Table], ...]
    digests: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    failed: Reasons = dataclasses.field(default_factory=dict[str, str])
    cohorts: Mapping[str, tuple[Cohort, Reasons]] = dataclasses.field(default_factory=dict[str, tuple[Cohort, Reasons]])
    cases: "Sequence[CasePicture]" = ()
    notes: tuple[str, ...] = ()
    components: pd.DataFrame | None = None
    bundle_findings: Mapping[Bundle, Sequence[Finding]] = dataclasses.field(
        default_factory=dict[Bundle, Sequence[Finding]]
    )
    opening: "Opening | None" = None
    left_out: tuple[LeftOut, ...] = ()
    entered: pd.DataFrame | None = None
    warnings: tuple[str, ...] = ()
    shows_places: bool = True
    said: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])


def end(run: Run, ending: Ending, work: Work) -> Outcome:
    """Write everything that a run leaves behind; its record comes last, and says that the run is complete."""
    from ..reports import CohortSummary, Opening, report, store

    result = ending.result
    verdict = " ".join((result.claim, *ending.warnings))
    told = (f"Left out: {'; '.join(map(str, ending.left_out))}.",) if ending.left_out else ()
    findings = (*result.findings, *ending.findings)
    opening = ending.opening or Opening()
    counts = {} if ending.entered is None else {"Entered": _plain(ending.entered.to_dict("records"))}
    for frame, table in ending.tables:
        run.write_table(frame, table, **counts)
    run.write_failures(ending.failed)
    run.write_configuration()
    page = report(
        findings,
        title=ending.title,
        verdict=verdict,
        cases=ending.cases,
        cohorts=[
            CohortSummary.of(cohort, role, {**reasons, **_failed_of(cohort, ending.failed)})
            for role, (cohort, reasons) in ending.cohorts.items()
        ],
        provenance=run.record(inputs=dict(ending.digests)),
        table=ending.components,
        notes=(*ending.warnings, *ending.notes),
        opening=dataclasses.replace(opening, origin=(*opening.origin, *told)),
        bundle_findings=ending.bundle_findings,
    )
    page.save(run.root / "report.html", work=work)
    store(page if ending.shows_places else dataclasses.replace(page, cases=()), run.root)
    estimates = _plain([dataclasses.asdict(estimate) for estimate in result.estimates])
    left_out = [dataclasses.asdict(one) for one in ending.left_out]
    kept = {"estimates": estimates, "left_out": left_out, **_plain(ending.record)}
    run.write_record(verdict=verdict, inputs=dict(ending.digests), **kept)
    return Outcome(
        table=result.table,
        claim=verdict,
        estimates=result.estimates,
        findings=findings,
        root=run.root,
        failed=ending.failed,
        result=result,
        said=(*(ending.said or (result.claim,)), *ending.warnings, *told),
        facts={**_plain(ending.facts), "left_out": left_out},
    )


def report_again(
    folder: Path, *, cohort: str | Path | Cohort | None = None, linked: bool | None = None, work: Work = Work()
) -> "Report":
    """Write the report of a finished run again, from its data, drawings and images; see ``shiftkit report``.

    Nothing is estimated again: the same run gives the same bytes. ``cohort`` is where the patients are now, if they
    were moved; a folder that holds no run with a report is refused with a `DataError`.
    """
    from ..reports import restore

    root = find_cohort(cohort, work=work).root if cohort is not None else None
    page = restore(folder, root)
    work.begin(
        f"Would write the report of {folder} again, with {len(page.cases)} cases.",
        work.cost(max(1, len(page.cases)), cpu_s=0.5, memory_gib=0.5) + Cost(seconds=3),
        folder,
    )
    refuse_links(folder)
    with held(folder, "report"):
        page.save(folder / "report.html", linked=linked, work=work)
    return page


def pictures(
    scores: pd.DataFrame, patients: Cohort, source: Predictions, tuned: Predictions | None
) -> "list[CasePicture]":
    """Every case of the patients that has a prediction and an image to look at, with its scores of one metric.

    ``source`` and ``tuned`` are predictions before and after fine-tuning.
    """
    keys = ["participant_id", "bundle", "hemisphere"]
    rows = scores[scores["group"] == "glioma"]
    own = rows[rows["model"] == source.model].drop_duplicates(keys)
    later = rows[rows["model"] == tuned.model] if tuned is not None else rows.iloc[:0]
    after = later.drop_duplicates(keys).set_index(keys)["value"].to_dict()
    made = [
        _picture(row, float(after.get(tuple(row[name] for name in keys), np.nan)), patients, source, tuned)
        for row in own.to_dict("records")
    ]
    return [case for case in made if case is not None]


def _picture(
    row: Mapping[Any, Any], score_after: float, patients: Cohort, source: Predictions, tuned: Predictions | None
) -> "CasePicture | None":
    from ..analyses.scoring.metrics import METRICS
    from ..reports import CasePicture

    metric, key = METRICS[row["metric"]], row["participant_id"]
    bundle = Bundle(name=row["bundle"], hemisphere=row["hemisphere"])
    case, predicted = patients[key], source.cohort[key].masks.get(bundle)
    # Any scalar map is something to look at; peaks are three vectors a voxel.
    image = case.images.get("t1w") or next((p for name, p in sorted(case.images.items()) if name != "peaks"), None)
    if predicted is None or image is None or bundle not in case.masks:
        return None
    return CasePicture(
        participant_id=key,
        bundle=bundle,
        score=float(row["value"]),
        distance_mm=float(row["tumor_distance_mm"]),
        image=image,
        reference=case.masks[bundle],
        prediction=predicted,
        tumor=case.tumor,
        model=source.model,
        status=row["status"],
        after=tuned.cohort[key].masks.get(bundle) if tuned is not None else None,
        score_after=score_after,
        measure=metric.title,
        unit="" if metric.unit == "1" else metric.unit,
        higher_is_better=metric.better == "higher",
    )


def _plain(content: Any) -> Any:
    """NaN is no JSON: what is not given becomes null."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]  # pyright: ignore[reportUnknownVariableType]
    return None if isinstance(content, float) and not np.isfinite(content) else content
