"""Means, shares and slopes with participants as the unit."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ...results import Estimate
from ...status import Status
from .inference import FEWEST, Inference, as_row, expansion


def mean_over_participants(
    rows: pd.DataFrame, column: str, name: str = "mean", *, inference: Inference = Inference()
) -> Estimate:
    """Mean of a column in mm, each participant's rows averaged first; rows without a value do not count.

    The interval is the expanded percentile interval over participants; NaN under five of them.

    Examples
    --------
    >>> rows = pd.DataFrame({"participant_id": ["sub-1", "sub-1", "sub-2"], "mm": [1.0, 3.0, 4.0]})
    >>> mean_over_participants(rows, "mm").value
    3.0
    """
    own = _own_means(rows, column)
    n = own.size
    if not n:
        return Estimate(name=name, value=float("nan"), unit="mm", level=inference.level, status=Status.TOO_FEW)
    return inference.estimate(name, float(own.mean()), inference.weights((n,)) @ own / n, n, "mm")


def share_over_participants(
    rows: pd.DataFrame, column: str, name: str = "share", *, inference: Inference = Inference()
) -> Estimate:
    r"""Mean share of a participant's rows for which a column is true.

    The interval is Wilson's with the effective number of rows :math:`p (1 - p) / s^2`, where :math:`s` is the standard
    error of the mean over participants, but at least as many as participants: at 0 and 1, where nothing varies, the
    participants are what is there. It is widened as Student's is over the normal one.

    References
    ----------
    Korn EL, Graubard BI. Survey Methodology 24:193 (1998); Brown LD, Cai TT, DasGupta A. Statist. Sci. 16:101 (2001),
    doi 10.1214/ss/1009213286.

    Examples
    --------
    >>> rows = pd.DataFrame({"participant_id": [f"sub-{i}" for i in range(10)], "beyond": [False] * 10})
    >>> found = share_over_participants(rows, "beyond")
    >>> found.value, bool(found.high > 0.25)
    (0.0, True)
    """
    own, level = _own_means(rows, column), inference.level
    n = own.size
    if not n:
        return Estimate(name=name, value=float("nan"), level=level, status=Status.TOO_FEW)
    share = float(own.mean())
    if n < 2:
        return Estimate(name=name, value=share, level=level, n=n)
    # Wilson's interval as if there were so many independent rows as would have the participants' variance.
    error = float(own.var(ddof=1)) / n
    count = min(max(share * (1 - share) / error, n), len(rows)) if error > 0 else n
    reach = expansion(n, level) * float(stats.norm.ppf(0.5 + level / 2))
    middle = (share + reach**2 / (2 * count)) / (1 + reach**2 / count)
    half = reach / (1 + reach**2 / count) * float(np.sqrt(share * (1 - share) / count + reach**2 / (4 * count**2)))
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Estimate(name=name, value=share, low=low, high=high, level=level, n=n)


def _own_means(rows: pd.DataFrame, column: str) -> Any:
    given = rows[rows[column].notna()]
    return given[column].astype(float).groupby(given["participant_id"]).mean().to_numpy()


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """One regression a model on one column of V-Norm; made with `of`.

    By row: V-Norm ``x`` and the distance to the tumor ``near`` in mm, the drop of each model, the source model first,
    and the indices of its bundle and hemisphere and of its participant. Weights of ``n`` participants have shape
    (1 + draws, n): the first row is the sample itself, the others are bootstrap draws.
    """

    x: NDArray[np.float64]
    near: NDArray[np.float64]
    drops: dict[str, NDArray[np.float64]]
    level_of: NDArray[Any]
    who: NDArray[np.intp]
    weights: NDArray[np.float64]
    n: int
    inference: Inference

    @classmethod
    def of(cls, rows: pd.DataFrame, column: str, models: tuple[str, ...], inference: Inference) -> "Slopes":
        """Take rows with ``participant_id bundle hemisphere tumor_distance_mm``, a column, and ``drop:<model>``."""
        people = sorted(set(rows["participant_id"]))
        drawn = inference.weights((len(people),)) if people else np.ones((1, 0))
        return cls(
            x=rows[column].to_numpy(dtype=float),
            near=rows["tumor_distance_mm"].to_numpy(dtype=float),
            drops={model: rows[f"drop:{model}"].to_numpy(dtype=float) for model in models},
            level_of=rows.groupby(["bundle", "hemisphere"]).ngroup().to_numpy(),
            who=np.array([people.index(name) for name in rows["participant_id"]], dtype=np.intp),
            weights=np.concatenate([np.ones((1, len(people))), drawn]),
            n=len(people),
            inference=inference,
        )

    @cached_property
    def slopes(self) -> dict[str, NDArray[np.float64]]:
        """Of every draw, by model."""
        return {model: _slopes(self.x, y, self.level_of, self.weights[:, self.who]) for model, y in self.drops.items()}

    def table(self, metric: str) -> pd.DataFrame:
        """The estimates, a row each."""
        source, *others = self.drops
        of = {"metric": metric, "unit": "per mm"}
        made = [{"quantity": "slope", "model": m, **of, **self._row(self.slopes[m])} for m in self.drops]
        for model in others:
            change = self.slopes[model] - self.slopes[source]
            made.append({"quantity": "slope_change", "model": model, **of, **self._row(change)})
        # Whether V-Norm is little more than nearness to the tumor.
        ranks = np.array([_spearman(self.x, self.near, w[self.who]) for w in self.weights])
        made.append({"quantity": "distance", "model": "n/a", "metric": "n/a", "unit": "1", **self._row(ranks)})
        return pd.DataFrame(made)

    def _row(self, draws: NDArray[np.float64]) -> dict[str, Any]:
        value = draws[0] if self.n >= FEWEST else float("nan")
        return as_row(self.inference.estimate("slope", value, draws[1:], self.n))

    def lines(self) -> pd.DataFrame:
        """Each model's line through the mean of all bundles, with its interval at 25 places."""
        made: list[dict[str, Any]] = []
        for model, y in self.drops.items():
            there = np.isfinite(y) & (self.n >= FEWEST)
            if not there.any() or not np.isfinite(self.slopes[model][0]):
                continue
            weight = np.where(there, self.weights[:, self.who], 0.0)
            total = np.maximum(weight.sum(axis=1), 1e-12)
            middle, height = weight @ self.x / total, weight @ np.nan_to_num(y) / total
            # A line through the mean: its interval is narrowest there.
            for place in np.linspace(self.x[there].min(), self.x[there].max(), 25):
                draws = height + self.slopes[model] * (place - middle)
                low, high = self.inference.interval(draws[1:], self.n)
                made.append({"model": model, "v_norm_mm": place, "drop": draws[0], "low": low, "high": high})
        return pd.DataFrame(made, columns=["model", "v_norm_mm", "drop", "low", "high"])


def _slopes(x: NDArray[Any], y: NDArray[Any], group: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Weighted least squares with one intercept a group, one row of weights a draw; NaN where nothing varies."""
    weights = np.where(np.isfinite(y), weights, 0.0)
    y = np.nan_to_num(y)
    members = (group[:, None] == np.arange(group.max() + 1)).astype(np.float64)
    total = np.maximum(weights @ members, 1e-12)
    # Less its group's weighted mean, each row is as if the group's intercept had been fitted (Frisch, Waugh, Lovell).
    a = x - ((weights * x) @ members / total)[:, group]
    b = y - ((weights * y) @ members / total)[:, group]
    spread = (weights * a * a).sum(axis=1)
    return np.where(spread > 1e-12, (weights * a * b).sum(axis=1) / np.maximum(spread, 1e-12), np.nan)


def rank_correlation(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Spearman's correlation; NaN where a side does not vary.

    Examples
    --------
    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 1000.0, 100.0]))
    0.5
    """
    a, b = (stats.rankdata(one) - (len(one) + 1) / 2 for one in (x, y))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")


def _spearman(x: NDArray[Any], y: NDArray[Any], weight: NDArray[Any]) -> float:
    """Rank correlation of rows repeated by integer weights; rows without a distance do not count."""
    index = np.repeat(np.arange(len(x)), np.where(np.isfinite(y), weight, 0).astype(int))
    # Two values are a contrast of groups, and no ranking.
    if len(np.unique(x[index])) < 3 or len(np.unique(y[index])) < 3:
        return float("nan")
    return rank_correlation(x[index], y[index])
