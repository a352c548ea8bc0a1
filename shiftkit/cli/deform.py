"""``shiftkit deform``: how far bundles are from healthy ones."""

from typing import Annotated

import typer

from .options import CohortName, Jobs, Json, Out, Resume, finish, progress, words


def deform(
    cohort: CohortName,
    out: Out,
    reference: Annotated[str | None, typer.Option("--reference", help="Cohort that holds the controls.")] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Cohort of the same participants earlier, or without the tumor.")
    ] = None,
    bundles: Annotated[list[str] | None, typer.Option("--bundles", help="Only these; all by default.")] = None,
    hemispheres: Annotated[list[str] | None, typer.Option("--hemispheres", help="left, right, none.")] = None,
    spacing: Annotated[float, typer.Option("--spacing", min=1.0, max=4.0, help="Working lattice in mm.")] = 2.0,
    image: Annotated[bool, typer.Option("--image", help="Also register T1w images, without the tumor.")] = False,
    jobs: Jobs = None,
    resume: Resume = False,
    json_: Json = False,
) -> None:
    """Measure V-Norm: what it takes to bring each bundle onto the healthy one, against the healthy range."""
    from ..pipeline.deform import deform_cohort

    outcome = deform_cohort(
        cohort,
        out=out,
        reference=reference,
        baseline=baseline,
        bundles=words(bundles) or (),
        hemispheres=words(hemispheres) or (),
        spacing_mm=spacing,
        image=image,
        jobs=jobs or 0,
        resume=resume,
        progress=progress,
    )
    finish(outcome, json_)
