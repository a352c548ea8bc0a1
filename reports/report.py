"""The report: findings, cases and provenance put together into pages that need nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import atomic, write_text
from ..results import Finding
from ..types import Bundle
from ..work import Work
from .contents import PLACES, CasePicture, CohortSummary, Contents, Convention, Opening
from .pages import Pages


@dataclass(frozen=True, kw_only=True)
class Report(Contents):
    """A report in memory; made by `report`, with the fields of `shiftkit.reports.contents.Contents`."""

    @cached_property
    def html(self) -> str:
        """The first page, complete in itself."""
        return Pages(self, sisters=False).main()

    def save(self, path: str | Path, *, linked: bool | None = None, work: Work = Work()) -> Path:
        """Write the report; returns the first page, which stays whole when moved from the others, unless ``linked``.

        Parameters
        ----------
        path : str or Path
            The first page, such as ``report.html``. Beside it go the bundles' and participants' pages in
            ``reports/``, the figures in ``figures/`` (SVG, PDF, and their data as TSV), ``CITATION.md`` and
            ``CITATION.bib``. Links are relative.
        linked : bool, optional
            Whether the viewer and its volumes lie in files beside the pages, in ``reports/volumes/``. By default
            they are embedded unless a page would grow beyond 8 MB.
        work : Work
            Processes that work on the images of cases, and whom they tell.
        """
        path = Path(path)
        pages = Pages(self, sisters=True, stem=path.name, asked=linked, work=work)
        if pages.linked and linked is None:
            work.report(0, 1, "Report: the viewer's volumes would make a page larger than 8 MB: they lie beside it")
        for name, content in pages.files():
            if isinstance(content, str):
                write_text(path.parent / name, content)
            else:
                with atomic(path.parent / name) as part:
                    part.write_bytes(content)
        return path

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        # A frame of its own keeps the page's styles and scripts apart from the notebook's.
        return (
            f'<iframe title="{escape(self.title)}" srcdoc="{escape(self.html)}" '
            'style="width:100%;height:640px;border:1px solid #8888"></iframe>'
        )


def report(
    findings: Sequence[Finding],
    *,
    title: str,
    verdict: str,
    cases: Sequence[CasePicture] = (),
    cohorts: Sequence[CohortSummary] = (),
    provenance: Mapping[str, Any] | None = None,
    table: pd.DataFrame | None = None,
    notes: Sequence[str] = (),
    opening: Opening = Opening(),
    convention: Convention = "radiological",
    bundle_findings: Mapping[Bundle, Sequence[Finding]] | None = None,
) -> Report:
    """Put findings together into a report; for what it says see `shiftkit.reports.contents.Contents`.

    Findings may come in any number: their `Finding.place` orders them, and within a place they stay in the order given.
    Cases may come in any order and are shown worst first.
    In a notebook the report shows itself; ``.save(path)`` writes it.

    Examples
    --------
    >>> finding = Finding(key="decomposition", title="Drop", claim="Dice drops by 0.11.")
    >>> page = report([finding], title="Shift", verdict="Half of the drop is systematic.")
    >>> "Half of the drop is systematic." in page.html
    True
    """
    return Report(
        title=title,
        verdict=verdict,
        findings=tuple(sorted(findings, key=lambda finding: PLACES.index(finding.place))),
        cases=tuple(sorted(cases, key=lambda case: case.rank)),
        cohorts=tuple(cohorts),
        provenance=dict(provenance or {}),
        table=table,
        notes=tuple(notes),
        opening=opening,
        convention=convention,
        bundle_findings={bundle: tuple(found) for bundle, found in (bundle_findings or {}).items()},
    )
