"""Deformation as the command line does it: measure, and keep tables, maps and the report."""

from typing import TYPE_CHECKING, Any

from ..catalogue import DEFORMATION, DEFORMATION_PROFILES, IMAGE_DEFORMATION
from ..runs import Outcome, Run, cohort_digest
from ..types import Cohort
from ..work import Work
from .story import Ending, end

if TYPE_CHECKING:
    from ..analyses.deformation.cases import ImageDeformationResult
    from ..analyses.deformation.result import DeformationResult


def deform_cohort(
    run: Run, cohort: Cohort, controls: Cohort, *, image: bool, work: Work = Work(), **measured: Any
) -> Outcome:
    """Measure the deformation of a cohort's bundles into a run.

    Parameters
    ----------
    run : Run
        Not open yet; what was measured from the same images is kept where it is continued.
    cohort, controls : Cohort
        The participants, and the healthy.
    image : bool
        Also register the T1w images; see `shiftkit.analyses.deformation.brain.deform_image`.
    **measured
        As in `shiftkit.analyses.deformation.study.deform`.

    Raises
    ------
    ConfigError
        If the folder is in use, or the baseline is the cohort itself.
    DataError
        If there are too few controls, masks cannot be used, or the baseline has none of the participants.
    """
    from ..analyses.deformation.study import deform

    result = deform(cohort, controls, out=run.open().root, work=work, **measured)
    images = _images(run, cohort, controls, result, work) if image else None
    digests = {"cohort": cohort, "controls": controls, "baseline": measured.get("baseline")}
    from .legacy import answer

    answered, more = answer(result), None if images is None else answer(images)
    claims = [one.claim for one in answered.findings if one.key in ("deformation", "deformation-own")]
    ending = Ending(
        result=result,
        title="Deformation of white-matter bundles",
        findings=() if more is None else more.findings,
        tables=((result.table, DEFORMATION), (result.profiles, DEFORMATION_PROFILES)),
        digests={name: cohort_digest(one) for name, one in digests.items() if one is not None},
        failed={**({} if images is None else images.failed), **result.failed},
        cohorts={"participants": (cohort, result.failed), "controls": (controls, {})},
        said=(*claims, str(result), *([] if images is None else [str(images)]), f"Tables: {run.root / 'tables'}"),
        facts={"claim": claims[0], "counts": result.counts()},
    )
    return end(run, ending, work)


def _images(
    run: Run, cohort: Cohort, controls: Cohort, result: "DeformationResult", work: Work
) -> "ImageDeformationResult":
    """The same bundles by the images."""
    from ..analyses.deformation.cases import deform_images

    pairs = result.table[["bundle", "hemisphere"]].drop_duplicates().itertuples(index=False)
    wanted = {(str(name), str(hemisphere)) for name, hemisphere in pairs}
    bundles = [one for one in cohort.bundles if (one.name, str(one.hemisphere)) in wanted]
    made = deform_images(cohort, controls, bundles=bundles, out=run.root, work=work)
    run.write_table(made.table, IMAGE_DEFORMATION)
    return made
