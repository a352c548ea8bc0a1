"""Findings in, HTML out: one file that opens anywhere, offline."""

from ..style import styled
from .archive import restore, store
from .cite import citation_bibtex, citation_markdown
from .contents import CasePicture, CohortSummary
from .figures import Drawing, draw
from .planes import three_planes
from .report import Report, report

__all__ = [
    "CasePicture",
    "CohortSummary",
    "Drawing",
    "Report",
    "citation_bibtex",
    "citation_markdown",
    "draw",
    "report",
    "restore",
    "store",
    "styled",
    "three_planes",
]
