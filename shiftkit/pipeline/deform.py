"""Deformation as the command line does it: measure, and keep tables, maps and figures."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import DEFORMATION, DEFORMATION_PROFILES, IMAGE_DEFORMATION
from ..files import write_text
from ..names import find_cohort
from ..results import Finding
from ..runs import Run, cohort_digest
from ..types import Cohort
from ..work import Progress, Work
from .inputs import find_controls

if TYPE_CHECKING:
    from ..analyses.deformation.cases import ImageDeformationResult
    from ..analyses.deformation.result import DeformationResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deformed:
    """What a run of ``shiftkit deform`` ended with.

    Parameters
    ----------
    root : Path
        The run's folder: ``tables/``, ``maps/``, ``templates/``, ``figures/``.
    result : DeformationResult
        The numbers.
    images : ImageDeformationResult or None
        Those of the images, where they were asked for.
    """

    root: Path
    result: "DeformationResult"
    images: "ImageDeformationResult | None" = None

    @property
    def failed(self) -> Mapping[str, str]:
        """Participants with a mask that could not be read, and why."""
        return {**(self.images.failed if self.images is not None else {}), **self.result.failed}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of the masks, and of the images."""
        return (*self.result.findings(), *(self.images.findings() if self.images is not None else ()))

    def lines(self) -> list[str]:
        """What the command line prints."""
        images = [str(self.images)] if self.images is not None else []
        claims = [one.claim for one in self.result.findings() if one.key in ("deformation", "deformation-own")]
        return [*claims, str(self.result), *images, f"Tables: {self.root / 'tables'}"]

    def to_dict(self) -> dict[str, Any]:
        """The same for machines."""
        return {"claim": self.result.findings()[0].claim, "counts": self.result.counts(), "failed": dict(self.failed)}


def deform_cohort(
    cohort: str | Path | Cohort,
    *,
    out: Path,
    reference: str | Path | Cohort | None = None,
    baseline: str | Path | Cohort | None = None,
    bundles: tuple[str, ...] = (),
    hemispheres: tuple[str, ...] = (),
    spacing_mm: float = 2.0,
    image: bool = False,
    jobs: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> Deformed:
    """Measure the deformation of a cohort's bundles into a folder.

    Parameters
    ----------
    cohort : str, Path or Cohort
        The participants.
    out : Path
        Folder of the run: new, empty, or with ``resume`` that of an interrupted run.
    reference : str, Path or Cohort, optional
        Where the controls are; without it the cohort's own, else those of the cohort named ``healthy``.
    baseline : str, Path or Cohort, optional
        The same participants at another time; see `shiftkit.analyses.deformation.study.deform`.
    bundles, hemispheres, spacing_mm, jobs, progress
        As in `shiftkit.analyses.deformation.study.deform`.
    image : bool
        Also register the T1w images; see `shiftkit.analyses.deformation.brain.deform_image`.
    resume : bool
        Continue: what was measured from the same images is kept.

    Raises
    ------
    ConfigError
        If the folder is in use, or the baseline is the cohort itself.
    DataError
        If there are too few controls, masks cannot be used, or the baseline has none of the participants.
    """
    from ..analyses.deformation.study import deform

    found = find_cohort(cohort, work=Work(progress=progress))
    controls = find_controls(found, reference, progress)
    earlier = None if baseline is None else find_cohort(baseline, work=Work(progress=progress))
    run = Run.open(out, resume)
    result = deform(
        found,
        controls,
        baseline=earlier,
        bundles=bundles,
        hemispheres=hemispheres,
        spacing_mm=spacing_mm,
        out=out,
        jobs=jobs,
        progress=progress,
    )
    run.write_table(result.table, DEFORMATION)
    run.write_table(result.profiles, DEFORMATION_PROFILES)
    images = _images(run, found, controls, result, jobs, progress) if image else None
    done = Deformed(root=out, result=result, images=images)
    run.write_failures(done.failed)
    _draw(run, done.findings)
    run.write_record(
        verdict=result.findings()[0].claim,
        configuration={"bundles": bundles, "hemispheres": hemispheres, "spacing_mm": spacing_mm, "image": image},
        inputs={
            "cohort": cohort_digest(found),
            "controls": cohort_digest(controls),
            **({} if earlier is None else {"baseline": cohort_digest(earlier)}),
        },
    )
    return done


def _images(
    run: Run, cohort: Cohort, controls: Cohort, result: "DeformationResult", jobs: int, progress: Progress | None
) -> "ImageDeformationResult":
    """The same bundles by the images."""
    from ..analyses.deformation.cases import deform_images

    pairs = result.table[["bundle", "hemisphere"]].drop_duplicates().itertuples(index=False)
    wanted = {(str(name), str(hemisphere)) for name, hemisphere in pairs}
    bundles = [one for one in cohort.bundles if (one.name, str(one.hemisphere)) in wanted]
    made = deform_images(cohort, controls, bundles=bundles, out=run.root, jobs=jobs, progress=progress)
    run.write_table(made.table, IMAGE_DEFORMATION)
    return made


def _draw(run: Run, findings: Sequence[Finding]) -> None:
    from ..reports.figures import draw

    for finding in findings:
        drawing = draw(finding, "page", finding.key)
        write_text(run.root / "figures" / f"{finding.key}.svg", drawing.standalone)
