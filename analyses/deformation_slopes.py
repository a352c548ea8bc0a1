"""A drop in performance regressed on deformation within bundles, with intervals over patients."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ..status import Status
from .resampling import draw_weights, interval

_FEWEST = 5
_ENOUGH = 20


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """One regression a model on one column of V-Norm; made with `of`.

    Parameters
    ----------
    x, near : ndarray, shape (rows,)
        V-Norm and distance to the tumor, mm.
    drops : dict of str to ndarray, shape (rows,)
        By model, the source model first.
    level_of, who : ndarray, shape (rows,)
        Index of the row's bundle and hemisphere, and of its participant.
    weights : ndarray, shape (1 + draws, participants)
        The first row is the sample itself, the others are bootstrap draws.
    n : int
        Participants.
    level : float
        Coverage of intervals.
    """

    x: NDArray[np.float64]
    near: NDArray[np.float64]
    drops: dict[str, NDArray[np.float64]]
    level_of: NDArray[Any]
    who: NDArray[np.intp]
    weights: NDArray[np.float64]
    n: int
    level: float

    @classmethod
    def of(
        cls, rows: pd.DataFrame, column: str, models: tuple[str, ...], n_bootstrap: int, level: float, seed: int
    ) -> "Slopes":
        """Take rows with ``participant_id bundle hemisphere tumor_distance_mm``, a column, and ``drop:<model>``."""
        people = sorted(set(rows["participant_id"]))
        drawn = draw_weights((len(people),), n_bootstrap, np.random.default_rng(seed)) if people else np.ones((1, 0))
        return cls(
            x=rows[column].to_numpy(dtype=float),
            near=rows["tumor_distance_mm"].to_numpy(dtype=float),
            drops={model: rows[f"drop:{model}"].to_numpy(dtype=float) for model in models},
            level_of=rows.groupby(["bundle", "hemisphere"]).ngroup().to_numpy(),
            who=np.array([people.index(name) for name in rows["participant_id"]], dtype=np.intp),
            weights=np.concatenate([np.ones((1, len(people))), drawn]),
            n=len(people),
            level=level,
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
        ranks = np.array([_spearman(self.x, self.near, w[self.who]) for w in self.weights])
        made.append({"quantity": "distance", "model": "n/a", "metric": "n/a", "unit": "1", **self._row(ranks)})
        return pd.DataFrame(made)

    def _row(self, draws: NDArray[np.float64]) -> dict[str, Any]:
        if self.n < _FEWEST or not np.isfinite(draws[0]):
            nothing = dict.fromkeys(("value", "low", "high"), float("nan"))
            return {**nothing, "n_patients": self.n, "status": Status.TOO_FEW}
        low, high = interval(draws[1:], self.level, self.n)
        status = Status.OK if self.n >= _ENOUGH else Status.EXPLORATORY
        return {"value": draws[0], "low": low, "high": high, "n_patients": self.n, "status": status}

    def lines(self) -> pd.DataFrame:
        """Each model's line through the mean of all bundles, with its interval at 25 places."""
        made: list[dict[str, Any]] = []
        for model, y in self.drops.items():
            there = np.isfinite(y) & (self.n >= _FEWEST)
            if not there.any() or not np.isfinite(self.slopes[model][0]):
                continue
            weight = np.where(there, self.weights[:, self.who], 0.0)
            total = np.maximum(weight.sum(axis=1), 1e-12)
            middle, height = weight @ self.x / total, weight @ np.nan_to_num(y) / total
            for place in np.linspace(self.x[there].min(), self.x[there].max(), 25):
                draws = height + self.slopes[model] * (place - middle)
                low, high = interval(draws[1:], self.level, self.n)
                made.append({"model": model, "v_norm_mm": place, "drop": draws[0], "low": low, "high": high})
        return pd.DataFrame(made, columns=["model", "v_norm_mm", "drop", "low", "high"])


def _slopes(x: NDArray[Any], y: NDArray[Any], group: NDArray[Any], weights: NDArray[Any]) -> NDArray[np.float64]:
    """Weighted least squares with one intercept a group, one row of weights a draw; NaN where nothing varies."""
    weights = np.where(np.isfinite(y), weights, 0.0)
    y = np.nan_to_num(y)
    members = (group[:, None] == np.arange(group.max() + 1)).astype(np.float64)
    total = np.maximum(weights @ members, 1e-12)
    a = x - ((weights * x) @ members / total)[:, group]
    b = y - ((weights * y) @ members / total)[:, group]
    spread = (weights * a * a).sum(axis=1)
    return np.where(spread > 1e-12, (weights * a * b).sum(axis=1) / np.maximum(spread, 1e-12), np.nan)


def _spearman(x: NDArray[Any], y: NDArray[Any], weight: NDArray[Any]) -> float:
    """Rank correlation of rows repeated by integer weights; rows without a distance do not count."""
    index = np.repeat(np.arange(len(x)), np.where(np.isfinite(y), weight, 0).astype(int))
    if len(np.unique(x[index])) < 3 or len(np.unique(y[index])) < 3:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(x[index]), stats.rankdata(y[index]))[0, 1])
