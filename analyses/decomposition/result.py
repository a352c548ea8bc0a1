"""What a decomposition is asked, and its result: a split of each model's drop, and components as rows of tables."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...results import Estimate, Result
from ...status import Status
from ..scoring.metrics import METRICS
from ..statistics.inference import Inference
from .regression import Regression
from .rows import Rows

Array = NDArray[np.float64]
FEWEST = 3
"""Participants below which there is no number."""
_SPLIT = ("systematic", "tumor", "interaction", "disease")
"""Components that are not given where the split is withheld."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a decomposition is computed; see `shiftkit.analyses.decomposition.study.decompose`."""

    metric: str
    covariates: tuple[str, ...]
    grid_mm: Array
    margin: float
    inference: Inference


@dataclass(frozen=True, kw_only=True)
class Split:
    """The split of one model: table, pooled regression, rows, bootstrap weights, status."""

    table: pd.DataFrame
    estimates: tuple[Estimate, ...]
    regression: Regression
    rows: Rows
    weights: Array
    status: str
    p_tumor: float

    def estimate(self, component: str) -> Estimate:
        """The pooled estimate of one component."""
        return next(one for one in self.estimates if one.name == component)

    @property
    def n(self) -> int:
        """Participants of the smaller cohort, on which the width of intervals depends."""
        return min(self.rows.n_patients, self.rows.n_controls)


@dataclass(frozen=True, kw_only=True)
class Decomposition(Result):
    """The drop in performance of patients, split.

    ``table`` is in the columns of ``shiftkit.catalogue.DECOMPOSITION``, ``claim`` the answer in words, ``estimates``
    the pooled components of the source model, the decay length and the reach.

    Parameters
    ----------
    recovery : DataFrame
        What each fine-tuned model repairs; ``shiftkit.catalogue.RECOVERY``.
    sensitivity : DataFrame
        The split under other choices; ``shiftkit.catalogue.SENSITIVITY``.
    curve : DataFrame
        Drop against distance with pointwise and simultaneous band, one block a model.
    status : str
        Of the source model's split.
    notes : tuple of str
        What to know before quoting it.
    metric, margin : str and float
        Primary metric, and the effect that counts as none.
    scores : DataFrame
        The rows it was computed from, for the figures.
    """

    recovery: pd.DataFrame
    sensitivity: pd.DataFrame
    curve: pd.DataFrame
    status: str
    notes: tuple[str, ...]
    metric: str
    margin: float
    scores: pd.DataFrame = field(repr=False)

    @property
    def verdict(self) -> str:
        """The answer in words."""
        return self.claim

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *self.notes])


@dataclass(frozen=True, kw_only=True)
class Teller:
    """Turns values and draws of one model's components into rows of tables, and withholds what must not be told.

    Parameters
    ----------
    rows : Rows
        Of the model.
    settings : Settings
        Of the decomposition.
    status : str
        Of the numbers; it decides which are given.
    n : int
        Participants of the smallest cohort, for the intervals.
    n_patients : int or None
        Patients behind the numbers; those of the rows by default.
    """

    rows: Rows
    settings: Settings
    status: str
    n: int
    n_patients: int | None = None

    def row(self, component: str, value: float, draws: Array, p_value: float = np.nan, **labels: Any) -> dict[str, Any]:
        """One component, in the columns of every table that has components; labels come on top."""
        given = self.status not in (Status.NOT_CONVERGED, Status.TOO_FEW) and not (
            self.status == Status.SPLIT_WITHHELD and component in _SPLIT
        )
        low, high = self.settings.inference.interval(draws, self.n) if given else (np.nan, np.nan)
        first = self.rows.frame.iloc[0]
        return {
            "model": first["model"],
            "modality": first["modality"],
            "bundle": "all",
            "hemisphere": "all",
            "metric": self.settings.metric,
            "component": component,
            "estimate": value if given else np.nan,
            "low": low,
            "high": high,
            "p_value": p_value if given else np.nan,
            "p_adjusted": np.nan,
            "n_patients": self.rows.n_patients if self.n_patients is None else self.n_patients,
            "n_controls": self.rows.n_controls,
            "status": str(self.status),
            **labels,
        }

    def length(self, name: str, limits_mm: tuple[float, float, float]) -> Estimate:
        """A length with its interval; not given where no effect of the tumor was shown or no split stands."""
        shown = self.status in (Status.OK, Status.EXPLORATORY)
        value, low, high = limits_mm if shown else (np.nan,) * 3
        level, n = self.settings.inference.level, self.rows.n_patients
        return Estimate(
            name=name, value=value, low=low, high=high, level=level, unit="mm", n=n, status=str(self.status)
        )


def unit_of(metric: str) -> str:
    """Unit in which components are given."""
    known = METRICS.get(metric)
    if known is None or known.bounded:
        return metric if known is None else known.title
    return f"log {known.unit}" if known.unit != "1" else f"log {known.title}"
