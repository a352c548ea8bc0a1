"""The result of a decomposition."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...results import Estimate, Finding


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """The drop in performance of patients, split.

    Parameters
    ----------
    table : DataFrame
        In the columns of ``shiftkit.catalogue.DECOMPOSITION``.
    recovery : DataFrame
        What each fine-tuned model repairs; ``shiftkit.catalogue.RECOVERY``.
    sensitivity : DataFrame
        The split under other choices; ``shiftkit.catalogue.SENSITIVITY``.
    curve : DataFrame
        Drop against distance with pointwise and simultaneous band, one block a model.
    estimates : tuple of Estimate
        The pooled components of the source model, and the decay length.
    verdict : str
        The answer in words.
    status : str
        Of the source model's split.
    notes : tuple of str
        What to know before quoting it.
    metric, margin : str and float
        Primary metric, and the effect that counts as none.
    scores : DataFrame
        The rows it was computed from, for the figures.
    """

    table: pd.DataFrame
    recovery: pd.DataFrame
    sensitivity: pd.DataFrame
    curve: pd.DataFrame
    estimates: tuple[Estimate, ...]
    verdict: str
    status: str
    notes: tuple[str, ...]
    metric: str
    margin: float
    scores: pd.DataFrame = field(repr=False)

    def to_frame(self) -> pd.DataFrame:
        """The table of all components, tidy."""
        return self.table

    def findings(self) -> tuple[Finding, ...]:
        """The answers as a report shows them."""
        from .findings import findings

        return findings(self)

    def plot(self, ax: Any = None) -> Any:
        """Draw the components as bars with intervals; returns the axes."""
        return self.findings()[0].plot(ax)

    def __str__(self) -> str:
        return "\n".join([self.verdict, *map(str, self.estimates), *self.notes])

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.verdict)}</p>" + self.table.to_html(index=False, max_rows=12)
