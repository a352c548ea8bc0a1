"""Deformation as the command line does it: measure, and keep tables, maps and the report."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..catalogue import DEFORMATION, DEFORMATION_PROFILES
from ..cohorts.folder import cohort_digest
from ..runs import Outcome, Run
from ..status import Status
from ..types import Cohort
from ..work import Work
from .story import Ending, LeftOut, counted, end


def deform_cohort(
    run: Run,
    cohort: Cohort,
    controls: Cohort,
    *,
    left_out: Mapping[str, str] | None = None,
    work: Work = Work(),
    **measured: Any,
) -> Outcome:
    """Measure the deformation of a cohort's bundles into a run that is not open yet.

    ``measured`` is as in `shiftkit.analyses.deformation.study.deform`, which says what can go wrong. What was measured
    from the same images is kept where a run is continued. ``left_out`` are participants with the reason.
    """
    from ..analyses.deformation.study import deform

    result = deform(cohort, controls, out=run.root, begin=run.open, work=work, **measured)
    digests = {"cohort": cohort, "controls": controls, "baseline": measured.get("baseline")}
    own = [one.claim for one in result.findings if one.key == "deformation-own"]
    ending = Ending(
        result=result,
        title="Deformation of white-matter bundles",
        tables=((result.table, DEFORMATION), (result.profiles, DEFORMATION_PROFILES)),
        digests={name: cohort_digest(one) for name, one in digests.items() if one is not None},
        failed=result.failed,
        cohorts={"participants": (cohort, {}), "controls": (controls, {})},
        left_out=(*counted("participants", left_out or {}), *without_number(result.table)),
        said=(str(result), *own, f"Tables: {run.root / 'tables'}"),
        facts={"claim": result.claim, "counts": result.counts()},
    )
    return end(run, ending, work)


def without_number(table: pd.DataFrame) -> tuple[LeftOut, ...]:
    """Bundles that could not be measured, and of how many participants, for each reason."""
    missing = table[table["status"] != Status.OK]
    return tuple(
        LeftOut("participants", str(word), rows["participant_id"].nunique(), len(rows))
        for word, rows in missing.groupby("status")
    )
