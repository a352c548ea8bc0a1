"""What a study answers: numbers with their uncertainty, and findings ready to be rendered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from .errors import DataError
from .status import spoken
from .style import styled

Place = Literal["first", "lead", "distance", "cohort", "further", "data"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its uncertainty.

    Parameters
    ----------
    name : str
        What is estimated.
    value, low, high : float
        Point estimate and interval; NaN where ``status`` says it is not given.
    level : float
        Coverage the interval aims at.
    unit : str
        Unit of the three numbers; ``"1"`` for dimensionless.
    n : int
        Participants behind it.
    p_value, p_adjusted : float
        NaN where nothing is tested.
    status : str
        One of `shiftkit.status.Status`.

    Examples
    --------
    >>> print(Estimate(name="systematic", value=0.11, low=0.09, high=0.13, unit="Dice", n=50))
    systematic: 0.110 [0.090, 0.130] Dice
    """

    name: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    level: float = 0.95
    unit: str = "1"
    n: int = 0
    p_value: float = float("nan")
    p_adjusted: float = float("nan")
    status: str = "ok"

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        if np.isfinite(self.low) and not np.isfinite(self.value):
            return f"{self.name}: {spoken(self.status)} [{self.low:.3f}, {self.high:.3f}]{unit}"
        if not np.isfinite(self.value):
            return f"{self.name}: not given ({spoken(self.status)})"
        within = f" [{self.low:.3f}, {self.high:.3f}]" if np.isfinite(self.low) else ""
        return f"{self.name}: {self.value:.3f}{within}{unit}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer, ready to be rendered: a report is a list of these.

    Parameters
    ----------
    key, title : str
        Anchor and file stem, such as ``"decomposition"``, and the question's name.
    claim, estimates : str, tuple of Estimate
        The answer in one or two sentences, with its numbers, and those numbers.
    table : DataFrame or None
        The data behind the figure or the text, tidy.
    caveats : tuple of str
        What the claim does not cover.
    method : str
        How it was computed, for the methods section.
    references : tuple of str
        DOIs.
    figure : callable or None
        Takes matplotlib axes (or None) and returns the axes drawn on.
    alt : str
        What the figure shows, for readers who do not see it.
    place : {"first", "lead", "distance", "cohort", "further", "data"}
        Where a report shows it: on the first screen (the first such finding with its figure, others with their claims);
        below it; on the first screen too, and then cases can be opened from its figure, which has distance along x and
        the score along y; on the page of the whole cohort; among further analyses; among what is said of the data.
    """

    key: str
    title: str
    claim: str
    estimates: tuple[Estimate, ...] = ()
    table: pd.DataFrame | None = None
    caveats: tuple[str, ...] = ()
    method: str = ""
    references: tuple[str, ...] = ()
    figure: Callable[[Any], Any] | None = None
    alt: str = ""
    place: Place = "further"

    def to_frame(self) -> pd.DataFrame:
        """The table, or the estimates in long form where there is none."""
        return self.table if self.table is not None else pd.DataFrame([vars(e) for e in self.estimates])

    def plot(self, ax: Any = None) -> Any:
        """Draw the figure; returns the axes, `DataError` if the finding has none."""
        if self.figure is None:
            raise DataError(f"Finding {self.key!r} has no figure.")
        return self.figure(ax)

    def __str__(self) -> str:
        return f"{self.title}\n{self.claim}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}

    def _repr_html_(self) -> str:
        from html import escape

        table = self.to_frame().to_html(index=False, max_rows=20)
        return f"<h4>{escape(self.title)}</h4><p>{escape(self.claim)}</p>{table}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a study ended with; every study's result is one of these, with more of its own.

    Parameters
    ----------
    table : DataFrame
        All numbers, tidy, in the columns of one table of `shiftkit.catalogue`.
    claim, estimates : str, tuple of Estimate
        The answer in words, and the numbers behind it.
    findings : tuple of Finding
        The answers as a report shows them. A study makes its result first and then puts these in, so that numbers
        never wait for words: ``replace(result, findings=findings_of(result))``.
    """

    table: pd.DataFrame
    claim: str = ""
    estimates: tuple[Estimate, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def to_frame(self) -> pd.DataFrame:
        """The table, to do with as one likes."""
        return self.table.copy()

    def plot(self, ax: Any = None) -> Any:
        """Draw the first finding's figure; returns the axes."""
        return self.findings[0].plot(ax)

    def __str__(self) -> str:
        return "\n".join([self.claim, *map(str, self.estimates)])

    def _repr_html_(self) -> str:
        from html import escape

        drawn = next((_svg(one) for one in self.findings if one.figure is not None), "")
        return f"<p>{escape(self.claim)}</p>{drawn}" + self.table.to_html(index=False, max_rows=12, na_rep="n/a")


def _svg(finding: Finding) -> str:
    """A finding's figure for a notebook."""
    import io

    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with styled():
        figure = Figure(figsize=(4.6, 3.4), layout="constrained", facecolor="white")
        canvas = FigureCanvasSVG(figure)
        finding.plot(figure.add_subplot())
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def in_percent(one: Estimate) -> str:
    """A share with its interval, such as ``20% [5%, 50%]``."""
    return f"{one.value:.0%}" + (f" [{one.low:.0%}, {one.high:.0%}]" if np.isfinite(one.low) else "")


def in_mm(one: Estimate) -> str:
    """A length with its interval, such as ``1.20 [1.00, 1.40] mm``."""
    return f"{one.value:.2f}" + (f" [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else "") + " mm"
