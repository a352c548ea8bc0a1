"""``shiftkit cite``: the methods paragraph of a run and the references, or the software's own entry."""

from pathlib import Path
from typing import Annotated

import typer

from .options import say


def cite(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Folder of a run; without it, shiftkit.")] = None,
    bib: Annotated[bool, typer.Option("--bib", help="Only the BibTeX entries.")] = False,
) -> None:
    """Print a methods paragraph with a run's own numbers, and BibTeX entries."""
    from ..reports import citation_bibtex, citation_markdown
    from ..reports import report as build

    if run is None:
        page = build([], title="shiftkit", verdict="")
    else:
        from ..reports import restore

        page = restore(run)
    entries = citation_bibtex(page)
    say(*((entries,) if bib else (citation_markdown(page), entries)))
