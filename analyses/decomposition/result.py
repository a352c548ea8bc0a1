"""What a decomposition is asked, and its result: a split of each model's drop, and components as rows of tables."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...results import Estimate, Result
from ...status import Status
from ..scoring.metrics import METRICS
from ..statistics.inference import EXPLORATORY_BELOW, Inference
from .anchored import Anchored
from .regression import Regression
from .rows import Rows
from .verdict import Part, Verdict

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a decomposition is computed; see `shiftkit.analyses.decomposition.study.decompose`."""

    metric: str
    grid_mm: Array
    margin: float
    inference: Inference


@dataclass(frozen=True, kw_only=True)
class Split:
    """The split of one model.

    Parameters
    ----------
    rows : Rows
        Who and what entered.
    columns : ndarray, shape (people, C)
        Covariates.
    primary : Anchored
        The primary estimate.
    verdict : Verdict
        What may be said of it.
    regression, spline : Regression or None
        The exponential beside it, which describes the reach, and the spline; None where nothing is split.
    weights : ndarray, shape (B, people)
        Its bootstrap draws.
    table : DataFrame
        All rows of ``decomposition.tsv``.
    estimates : tuple of Estimate
        The primary ones, pooled.
    """

    rows: Rows
    columns: Array
    primary: Anchored
    verdict: Verdict
    regression: Regression | None
    spline: Regression | None
    weights: Array
    table: pd.DataFrame
    estimates: tuple[Estimate, ...]

    @property
    def n(self) -> int:
        """Participants of the smaller cohort, on which the width of bootstrap intervals depends."""
        return min(self.rows.n_patients, self.rows.n_controls)


@dataclass(frozen=True, kw_only=True)
class Decomposition(Result):
    """The drop in performance of patients, split.

    ``table`` is in the columns of ``shiftkit.catalogue.DECOMPOSITION``, ``claim`` the answer in words, ``estimates``
    the pooled components of the source model, the decay length and the reach.

    Parameters
    ----------
    strata : DataFrame
        The same of patients with each value of the column ``by``; without rows where there is none.
    by : str
        That column; empty without.
    told : Verdict
        What may be said of the source model: words, intervals, p-values and status of its parts.
    recovery : DataFrame
        What each fine-tuned model repairs; ``shiftkit.catalogue.RECOVERY``.
    models : DataFrame
        Further source models and the first, with their paired differences; ``shiftkit.catalogue.MODELS``.
    beside : DataFrame
        The split of each further source model, on the rows that the first has too; columns as of ``table``.
    sensitivity, agreement : DataFrame
        The split under other choices, and how far other estimators of the same quantities are from it;
        ``shiftkit.catalogue.SENSITIVITY`` and ``AGREEMENT``.
    entered : DataFrame
        How many rows and participants entered, and how many did not, by reason; ``shiftkit.catalogue.ENTERED``.
    curve : DataFrame
        Drop against distance with pointwise and simultaneous band, one block a model.
    participants : DataFrame
        Each patient's own parts, for figures; see `shiftkit.analyses.decomposition.curve.participants_of`.
    status : str
        Of the source model's split.
    notes, compared : tuple of str
        What to know before quoting it, and on whom further source models are compared with the first.
    metric, margin : str and float
        Primary metric, and the effect that counts as none.
    scores : DataFrame
        The rows it was computed from, for the figures.
    overlap : DataFrame
        Where the cohorts lie in each covariate; see `shiftkit.analyses.decomposition.covariates.overlap`.
    """

    strata: pd.DataFrame
    by: str
    told: Verdict
    recovery: pd.DataFrame
    models: pd.DataFrame
    beside: pd.DataFrame
    sensitivity: pd.DataFrame
    agreement: pd.DataFrame
    entered: pd.DataFrame
    curve: pd.DataFrame
    participants: pd.DataFrame
    status: str
    notes: tuple[str, ...]
    compared: tuple[str, ...]
    metric: str
    margin: float
    scores: pd.DataFrame = field(repr=False)
    overlap: pd.DataFrame = field(repr=False)

    @property
    def verdict(self) -> str:
        """The answer in words."""
        return self.claim

    def __str__(self) -> str:
        # The claim is the first model's.
        more = [one.claim for one in self.findings if one.key == "models"]
        return "\n".join([super().__str__(), *more, *self.compared, *self.notes])


def row_of(rows: Rows, settings: Settings, component: str, part: Part, **labels: Any) -> dict[str, Any]:
    """A part in the columns of every table that has components; labels come on top."""
    first = rows.frame.iloc[0]
    n_patients = labels.get("n_patients", rows.n_patients)
    return {
        "model": first["model"],
        "modality": first["modality"],
        "stratum": "all",
        "bundle": "all",
        "hemisphere": "all",
        "metric": settings.metric,
        "component": component,
        "estimate": part.value,
        "low": part.low,
        "high": part.high,
        "bound_low": part.bound_low,
        "bound_high": part.bound_high,
        "level": settings.inference.level,
        "p_value": part.p_value,
        "p_adjusted": part.p_adjusted,
        "word": part.word,
        "n_patients": n_patients,
        "n_controls": rows.n_controls,
        "exploratory": "yes" if n_patients < EXPLORATORY_BELOW else "no",
        "status": str(part.status),
        "estimand": "same",
        **labels,
    }


def drawn(value: float, draws: Array, settings: Settings, n: int) -> Part:
    """A part of an estimator beside the primary one: a bootstrap interval, and no word."""
    if not np.isfinite(value):
        return Part(status=Status.NOT_CONVERGED)
    low, high = settings.inference.interval(draws, n)
    return Part(value=value, low=low, high=high)


def length_of(part: Split, name: str, limits_mm: tuple[float, float, float], settings: Settings) -> Estimate:
    """A length in mm with its interval; not given where no harm by the tumor was shown."""
    shown = part.verdict.tumor.word == "worse_near"
    value, low, high = limits_mm if shown else (np.nan,) * 3
    status = part.verdict.status if shown or part.verdict.tumor.word == "n/a" else Status.NO_TUMOR_EFFECT_SHOWN
    level, n = settings.inference.level, part.rows.n_patients
    return Estimate(name=name, value=value, low=low, high=high, level=level, unit="mm", n=n, status=str(status))


def unit_of(metric: str) -> str:
    """Unit in which components are given."""
    known = METRICS.get(metric)
    if known is None or known.bounded:
        return metric if known is None else known.title
    return f"log {known.unit}" if known.unit != "1" else f"log {known.title}"
