"""``shiftkit compare``: what differs between two runs."""

from pathlib import Path
from typing import Annotated

import typer

from ..files import write_text
from .options import say


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of another.")],
    out: Annotated[Path | None, typer.Option("--out", help="HTML page to write, such as comparison.html.")] = None,
) -> None:
    """Say what differs between two runs: settings, input, components, and the same patients' scores."""
    from ..analyses.comparison import compare as compare_runs
    from ..reports import report

    found = compare_runs(first, second)
    say(str(found))
    if out is not None:
        page = report(found.findings(), title=found.title, verdict=found.verdict)
        write_text(out, page.html)
        say(f"Page: {out}")
