"""Findings drawn as SVG: one drawing for a wide page and one for a narrow column."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from ..results import Finding
from ..style import COLUMN_MM, INK, styled

Place = tuple[float, float, float, float]
# The white paper of a standalone drawing carries where its data lie, so that points can be laid over it again later.
_PAPER = re.compile(r'<rect width="100%" height="100%" fill="#ffffff" data-place="([^"]*)"/>')
_IDS = re.compile(r'(\bid="|xlink:href="#|url\(#)')
# A style element inside a page would speak to the whole page, and metadata to nobody.
_STRIP = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure at one width: a complete SVG file on white, the same for the inside of a page, and as PDF.

    The second is transparent, in the page's text color, its ids made unique. ``place`` leads from data to the drawing's
    own units, where both axes are linear: ``x * place[0] + place[1]`` and ``y * place[2] + place[3]``; else zeros.
    """

    standalone: str
    inline: str
    pdf: bytes = b""
    place: Place = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Point:
    """A case in a drawing: where it stands in the data, its key, and what is said about it."""

    x: float
    y: float
    key: str
    text: str


def draw(finding: Finding, width: str, prefix: str) -> Drawing:
    """Draw a finding's figure at the width of a journal's ``column`` or ``page``; `DataError` if it has none.

    Its ``figure`` is called with one pair of axes, 0.44 times as high as wide on a page; it may set another height with
    ``ax.figure.set_figheight``. ``prefix`` (letters, digits, hyphens) makes the ids unique on the page.
    """
    try:
        svg, pdf, place = _svg(finding, width, dollars=True)
    except ValueError:
        # A lone dollar sign in a name is not mathematics; draw it as it stands.
        svg, pdf, place = _svg(finding, width, dollars=False)
    return Drawing(standalone=_on_white(svg, place), inline=inline(svg, prefix), pdf=pdf, place=place)


def drawn_before(standalone: str, prefix: str) -> Drawing:
    """A drawing again, from the file that an earlier report wrote."""
    paper = _PAPER.search(standalone)
    numbers = [float(word) for word in paper[1].split()] if paper is not None else []
    x, x0, y, y0 = numbers if len(numbers) == 4 else (0.0, 0.0, 0.0, 0.0)
    bare = _PAPER.sub("", standalone, count=1)
    return Drawing(standalone=standalone, inline=inline(bare, prefix), place=(x, x0, y, y0))


def with_points(drawing: Drawing, points: Sequence[Point]) -> Drawing:
    """Lay clickable points over a drawing; the ink under them stays as it is."""
    x, x0, y, y0 = drawing.place
    if not points or not x or not y:
        return drawing
    frame = re.search(r'viewBox="([^"]*)"', drawing.inline)
    _, _, width, height = (float(word) for word in frame[1].split()) if frame is not None else (0.0,) * 4
    placed = [(point, point.x * x + x0, point.y * y + y0) for point in points]
    circles = "".join(
        f'<circle class="point" data-case="{escape(point.key)}" cx="{right:.1f}" cy="{down:.1f}" r="4">'
        f"<title>{escape(point.text)}</title></circle>"
        for point, right, down in placed
        if 0 <= right <= width and 0 <= down <= height
    )
    return replace(drawing, inline=drawing.inline.removesuffix("</svg>") + f"<g>{circles}</g></svg>")


def inline(svg: str, prefix: str) -> str:
    """Prepare an SVG file for the inside of a page; see `Drawing`.

    Examples
    --------
    >>> inline('<?xml version="1.0"?><svg><path id="a" style="stroke: #1b2430"/></svg>', "f1")
    '<svg aria-hidden="true" focusable="false"><path id="f1-a" style="stroke: currentColor"/></svg>'
    """
    bare = _STRIP.sub("", svg).strip()
    bare = _IDS.sub(lambda match: f"{match[1]}{prefix}-", bare)
    # The alternative text stands beside the figure, where it is also of use to those who see it.
    bare = re.sub(r"<svg(?=[ >])", '<svg aria-hidden="true" focusable="false"', bare, count=1)
    # Matplotlib draws error bars and hatching in black unless told otherwise.
    return bare.replace(INK, "currentColor").replace("#000000", "currentColor")


def _svg(finding: Finding, width: str, dollars: bool) -> tuple[str, bytes, Place]:
    import matplotlib as mpl
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    inches = COLUMN_MM[width] / 25.4
    height = inches * (0.44 if width == "page" else 0.85)
    with styled(), mpl.rc_context({"text.parse_math": dollars}):
        figure = Figure(figsize=(inches, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        finding.plot(axes)
        buffer = io.StringIO()
        # To save would go through the figure twice, first without ink, for a layout that drawing settles anyway.
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
        place = _place(figure, axes)
        figure.set_layout_engine("none")
        figure.set_facecolor("white")
        printed = io.BytesIO()
        FigureCanvasPdf(figure).print_pdf(printed, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        return buffer.getvalue(), printed.getvalue(), place


def _place(figure: Any, axes: Any) -> Place:
    """From data to points, 72 an inch, downwards: read once the layout is settled."""
    if axes.figure is None or axes.get_xscale() != "linear" or axes.get_yscale() != "linear":
        return (0.0, 0.0, 0.0, 0.0)
    (x0, y0), (x1, y1) = axes.transData.transform([(0.0, 0.0), (1.0, 1.0)]) * 72 / figure.dpi
    height = 72 * figure.get_figheight()
    x, left, y, bottom = (round(float(value), 4) for value in (x1 - x0, x0, y0 - y1, height - y0))
    return (x, left, y, bottom)


def _on_white(svg: str, place: Place) -> str:
    numbers = " ".join(repr(number) for number in place)
    paper = f'<rect width="100%" height="100%" fill="#ffffff" data-place="{numbers}"/>'
    return re.sub(r"<svg[^>]*>", lambda opening: opening[0] + paper, svg, count=1)
