"""``shiftkit report``: the report of a finished run again."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Jobs, progress, say


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that decompose or demo wrote.")],
    cohort: Annotated[str | None, typer.Option("--cohort", help="The patients, if they were moved.")] = None,
    linked: Annotated[
        bool | None,
        typer.Option("--linked/--embedded", help="Volumes beside the pages or in them; by size if not given."),
    ] = None,
    jobs: Jobs = None,
) -> None:
    """Write a run's report again from its data, drawings and images; nothing is estimated again."""
    from ..pipeline import report_again

    page = report_again(run, cohort=cohort, linked=linked, jobs=jobs or 0, progress=progress)
    say(page.verdict, f"Report: {run / 'report.html'}")
