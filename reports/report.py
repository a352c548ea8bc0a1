"""The report: findings, cases and provenance put together into pages that need nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..files import write_text
from ..results import Finding
from ..types import Bundle
from ..work import Work
from .cases import CasePicture, Convention, worst_first
from .contents import LIMITATIONS, CohortSummary

_FIRST = ("decomposition", "recovery", "bundles", "distance")


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report in memory; made by `report`.

    Parameters
    ----------
    title, verdict : str
        What the report is about, and its answer in one sentence.
    findings : tuple of Finding
        In the order of the story.
    cases : tuple of CasePicture
        Worst first.
    cohorts : tuple of CohortSummary
    provenance : mapping
        Nested mappings of plain values: version, settings, seeds, digests.
    table : DataFrame or None
        Components by bundle and hemisphere.
    notes, limitations : tuple of str
        Sentences about this run, and about every run.
    convention : {"radiological", "neurological"}
        Which side of the participant stands on the viewer's left.
    max_cases : int
        Pictures on the first page and on a bundle's page; all of them stand on the participants' pages.
    bundle_findings : mapping of Bundle to tuple of Finding
        What the bundles' pages tell.
    figures : Path or None
        Folder with drawings of an earlier report, for findings that have no figure of their own.
    """

    title: str
    verdict: str
    findings: tuple[Finding, ...]
    cases: tuple[CasePicture, ...] = ()
    cohorts: tuple[CohortSummary, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    table: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    limitations: tuple[str, ...] = LIMITATIONS
    convention: Convention = "radiological"
    max_cases: int = 12
    bundle_findings: Mapping[Bundle, tuple[Finding, ...]] = field(default_factory=dict[Bundle, tuple[Finding, ...]])
    figures: Path | None = None

    @cached_property
    def html(self) -> str:
        """The first page, complete in itself."""
        from .pages import Pages

        return Pages(self, sisters=False).main()

    def save(self, path: str | Path, *, linked: bool | None = None, work: Work = Work()) -> Path:
        """Write the report.

        Parameters
        ----------
        path : str or Path
            The first page, such as ``report.html``. Beside it go the bundles' and participants' pages in
            ``reports/``, the figures in ``figures/``, ``CITATION.md`` and ``CITATION.bib``. Links are relative.
        linked : bool, optional
            Whether the viewer and its volumes lie in files beside the pages, in ``reports/volumes/``. By default
            they are embedded unless a page would grow beyond 15 MB.
        work : Work
            Processes that work on the images of cases, and whom they tell.

        Returns
        -------
        Path
            The first page. Unless ``linked``, it stays whole when it is moved away from the others.
        """
        from .pages import Pages

        path = Path(path)
        pages = Pages(self, sisters=True, stem=path.name, linked=linked, work=work)
        if pages.linked and linked is None:
            work.report(0, 1, "Report: the viewer's volumes would make a page larger than 15 MB: they lie beside it")
        for name, text in pages.files():
            write_text(path.parent / name, text)
        return path

    def __str__(self) -> str:
        return f"{self.title}\n{self.verdict}\n{len(self.findings)} findings, {len(self.cases)} cases"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        from html import escape

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
    limitations: Sequence[str] = (),
    convention: Convention = "radiological",
    max_cases: int = 12,
    bundle_findings: Mapping[Bundle, Sequence[Finding]] | None = None,
) -> Report:
    """Put findings together into a report.

    Parameters
    ----------
    findings : sequence of Finding
        In any number. Those with key ``decomposition``, ``recovery``, ``bundles`` and ``distance`` come first;
        the rest follow after the cases, in the order given.
    title, verdict : str
        What the report is about, and its answer in one sentence with numbers.
    cases : sequence of CasePicture
        Shown worst first.
    cohorts : sequence of CohortSummary
        Who took part and who was left out.
    provenance : mapping, optional
        Version, settings, seeds, digests: nested mappings of plain values.
    table : DataFrame, optional
        The long table of components (`shiftkit.catalogue.DECOMPOSITION`), or any other to print by bundle.
    notes : sequence of str
        Sentences about this run, such as how many controls were left out because the model had seen them.
    limitations : sequence of str
        More than those every report has, `LIMITATIONS`.
    convention : {"radiological", "neurological"}
        Which side of the participant stands on the viewer's left in pictures.
    max_cases : int
        Pictures on the first page and on a bundle's page.
    bundle_findings : mapping of Bundle to sequence of Finding, optional
        What the bundles' pages tell besides their cases. Keys of findings must be unique in the whole report.

    Returns
    -------
    Report
        ``.save(path)`` writes it; in a notebook it shows itself.

    Examples
    --------
    >>> finding = Finding(key="decomposition", title="Drop", claim="Dice drops by 0.11.")
    >>> page = report([finding], title="Shift", verdict="Half of the drop is systematic.")
    >>> "Half of the drop is systematic." in page.html
    True
    """
    order = {key: place for place, key in enumerate(_FIRST)}
    ordered = sorted(findings, key=lambda finding: order.get(finding.key, len(order)))
    return Report(
        title=title,
        verdict=verdict,
        findings=tuple(ordered),
        cases=worst_first(tuple(cases)),
        cohorts=tuple(cohorts),
        provenance=dict(provenance or {}),
        table=table,
        notes=tuple(notes),
        limitations=(*LIMITATIONS, *limitations),
        convention=convention,
        max_cases=max_cases,
        bundle_findings={bundle: tuple(found) for bundle, found in (bundle_findings or {}).items()},
    )
