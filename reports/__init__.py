"""Findings in, HTML out: one file that opens anywhere, offline."""

from .archive import restore, store
from .cite import citation_bibtex, citation_markdown
from .contents import CasePicture, CohortSummary, Opening
from .figures import draw
from .planes import three_planes
from .report import Report, report

__all__ = [
    "CasePicture",
    "CohortSummary",
    "Opening",
    "Report",
    "citation_bibtex",
    "citation_markdown",
    "draw",
    "report",
    "restore",
    "store",
    "three_planes",
]
