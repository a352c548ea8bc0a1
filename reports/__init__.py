"""Findings in, HTML out: one file that opens anywhere, offline."""

from .archive import restore, store
from .build import CohortSummary, Report, report
from .cases import CasePicture, picture, three_planes
from .cite import citation_bibtex, citation_markdown
from .figures import Drawing, draw
from .style import styled

__all__ = [
    "CasePicture",
    "CohortSummary",
    "Drawing",
    "Report",
    "citation_bibtex",
    "citation_markdown",
    "draw",
    "picture",
    "report",
    "restore",
    "store",
    "styled",
    "three_planes",
]
