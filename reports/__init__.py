"""Findings in, HTML out: one file that opens anywhere, offline."""

from .build import CohortSummary, Report, report
from .cases import CasePicture, picture, three_planes
from .figures import Drawing, draw
from .style import styled

__all__ = ["CasePicture", "CohortSummary", "Drawing", "Report", "draw", "picture", "report", "styled", "three_planes"]
