"""Findings drawn as SVG: one drawing for a wide page and one for a narrow column."""

import io
import re
from dataclasses import dataclass
from typing import Any

from ..types import Finding
from .style import COLUMN_MM, INK, styled

_IDS = re.compile(r'(\bid="|xlink:href="#|url\(#)')
_STRIP = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure at one width.

    Parameters
    ----------
    standalone : str
        A complete SVG file on white.
    inline : str
        The same for the inside of a page: transparent, in the page's text color, its ids made unique.
    """

    standalone: str
    inline: str


def draw(finding: Finding, width: str, prefix: str) -> Drawing:
    """Draw a finding's figure.

    Parameters
    ----------
    finding : Finding
        Its ``figure`` is called with one pair of axes, 0.44 times as high as wide on a page; it may set another
        height with ``ax.figure.set_figheight``.
    width : {"column", "page"}
        A journal's single column or its full width.
    prefix : str
        Letters, digits and hyphens that make the ids of this drawing unique on its page.

    Returns
    -------
    Drawing

    Raises
    ------
    DataError
        If the finding has no figure.
    """
    try:
        svg = _svg(finding, width, math=True)
    except ValueError:
        # A lone dollar sign in a name is not mathematics; draw it as it stands.
        svg = _svg(finding, width, math=False)
    return Drawing(standalone=_on_white(svg), inline=inline(svg, prefix))


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
    bare = bare.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1).replace(
        "<svg>", '<svg aria-hidden="true" focusable="false">', 1
    )
    # Matplotlib draws error bars and hatching in black unless told otherwise.
    return bare.replace(INK, "currentColor").replace("#000000", "currentColor")


def _svg(finding: Finding, width: str, math: bool) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    inches = COLUMN_MM[width] / 25.4
    height = inches * (0.44 if width == "page" else 0.85)
    with styled(), mpl.rc_context({"text.parse_math": math}):
        figure = Figure(figsize=(inches, height), layout="constrained")
        FigureCanvasSVG(figure)
        finding.plot(figure.add_subplot())
        return _text(figure)


def _text(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _on_white(svg: str) -> str:
    opening = re.search(r"<svg[^>]*>", svg)
    if opening is None:
        return svg
    return f'{svg[: opening.end()]}<rect width="100%" height="100%" fill="#ffffff"/>{svg[opening.end() :]}'
