"""Whether the shift of features foretells a drop in performance, without labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ...catalogue import FORESIGHT
from ...embeddings import Embeddings
from ...results import Estimate, Finding
from ...status import Status
from ..statistics.inference import Inference, draw_weights, p_value

Array = NDArray[np.float64]
_FEWEST = 8  # patients, and controls
_FOLDS = 5
_PERMUTATIONS = 1999
_RIDGE = 1.0  # on standardized predictors, relative to the number of rows


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """Feature shift of each patient and bundle, with observed and predicted drop.

    Parameters
    ----------
    table : DataFrame
        Columns of `shiftkit.catalogue.FORESIGHT`.
    estimates : tuple of Estimate
        ``shift``: rank correlation of feature shift and drop over patients; ``prediction``: of predicted and observed
        drop out of sample; ``skill``: share of the squared error of the mean drop that the prediction saves.
    """

    table: pd.DataFrame
    estimates: tuple[Estimate, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row a patient, bundle and hemisphere."""
        return self.table.copy()

    @property
    def claim(self) -> str:
        """Whether the shift foretells the drop."""
        shift, prediction, skill = self.estimates
        if not np.isfinite(shift.value):
            return f"Whether the feature shift foretells the drop is not given: {Status(shift.status).sentence}"
        words = "foretells" if skill.low > 0 else "is not shown to foretell"
        return (
            f"Without labels, the feature shift {words} the drop in unseen patients: it saves {skill.value:.0%} "
            f"[{skill.low:.0%}, {skill.high:.0%}] of the squared error of the mean drop; rank correlation of predicted "
            f"and observed drop {prediction.value:.2f} [{prediction.low:.2f}, {prediction.high:.2f}], of shift and "
            f"drop over patients {shift.value:.2f} [{shift.low:.2f}, {shift.high:.2f}]."
        )

    def findings(self) -> tuple[Finding, ...]:
        """The link, ready for a report."""
        return (
            Finding(
                key="features-foresight",
                title="Can failure be foreseen from features, without labels?",
                claim=self.claim,
                estimates=self.estimates,
                table=self.table,
                caveats=("The prediction was learned from other patients' scores: a hospital needs some of its own.",),
                method=(
                    "Features are averaged with the predicted probability as weight, so no reference mask enters. "
                    "Shift: log Mahalanobis distance from the controls (shrunk covariance), averaged over layers and "
                    "bundles. Prediction: ridge regression of the drop on the distances in all layers, tested on "
                    "patients that it was not fitted to; intervals by bootstrap over patients."
                ),
                references=("10.1016/S0047-259X(03)00096-4",),
                figure=self.plot,
                alt="Observed against predicted drop of each patient and bundle.",
            ),
        )

    def plot(self, ax: Any = None) -> Any:
        """Observed against predicted drop; returns the axes."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]
        given = self.table.dropna(subset=["predicted", "observed"])
        for side, marker, color in (
            ("ipsi", "^", "#D55E00"),
            ("contra", "s", "#E69F00"),
            ("bilateral", "x", "#7F7F7F"),
        ):
            rows = given[given["side"] == side]
            if len(rows):
                width = 0.8 if marker == "x" else 0
                ax.scatter(
                    rows["predicted"], rows["observed"], s=10, marker=marker, color=color, label=side, linewidths=width
                )
        if len(given):
            ends = [given["predicted"].min(), given["predicted"].max()]
            ax.plot(ends, ends, color="0.5", linewidth=0.8)
        ax.set_xlabel("predicted drop, patient held out")
        ax.set_ylabel("observed drop")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
        return ax

    def __str__(self) -> str:
        return "\n".join((self.claim, *map(str, self.estimates)))

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.claim)}</p>" + self.table.head(20).to_html(index=False, na_rep="n/a")


def foresee(embeddings: Embeddings, scores: pd.DataFrame, *, inference: Inference = Inference()) -> Foresight:
    """Relate each patient's feature shift to their drop in performance.

    Parameters
    ----------
    embeddings : Embeddings
        Of controls and patients, with rows of region ``predicted``.
    scores : DataFrame
        Columns of `shiftkit.catalogue.SCORES`, one metric for which larger is better, same participants and model.
    inference : Inference
        Draws of patients; the seed is also that of the folds.

    Returns
    -------
    Foresight
        With fewer than eight patients or controls a status instead of numbers.
    """
    rng = inference.generator()
    shifts = _distances(embeddings.where(region="predicted"))
    rows = _joined(shifts, scores, embeddings)
    distances = [f"layer/{name}" for name in embeddings.layers]
    n_controls = int(embeddings.rows.loc[embeddings.rows["group"] == "control", "participant_id"].nunique())
    people, who = np.unique(rows["participant_id"].to_numpy(dtype=str), return_inverse=True)
    status = Status.OK if len(people) >= 20 else Status.EXPLORATORY
    finite = bool(np.isfinite(rows[distances].to_numpy(dtype=float)).all())
    if min(len(people), n_controls) < _FEWEST or not finite:
        status = Status.TOO_FEW if finite else Status.NOT_FINITE
        nothing = rows.assign(shift=np.nan, predicted=np.nan, status=status)
        empty = tuple(Estimate(name=name, value=float("nan"), n=len(people), status=status) for name in _NAMES)
        return Foresight(table=nothing[list(FORESIGHT.columns)], estimates=empty)
    x = rows[distances].to_numpy(dtype=float)
    observed = rows["observed"].to_numpy(dtype=float)
    predicted, baseline = _out_of_sample(x, observed, who, rng)
    made = rows.assign(shift=x.mean(axis=1), predicted=predicted, status=status)
    weights = draw_weights([len(people)], inference.n_bootstrap, rng)
    mean_shift, mean_observed, mean_predicted = (_by_person(one, who) for one in (x.mean(axis=1), observed, predicted))
    errors = np.stack([_by_person((observed - one) ** 2, who) for one in (predicted, baseline)])
    means = (mean_shift, mean_observed, mean_predicted)
    draws = np.array([_figures(*means, errors, weight) for weight in weights])
    values = _figures(*means, errors, np.ones(len(people)))
    order = [_permuted_rank(mean_shift, mean_observed, rng), float("nan"), float("nan")]
    estimates = tuple(
        Estimate(
            name=name,
            value=value,
            low=low,
            high=high,
            level=inference.level,
            n=len(people),
            p_value=p,
            status=str(status),
        )
        for name, value, (low, high), p in zip(
            _NAMES, values, [inference.interval(one, len(people)) for one in draws.T], order, strict=True
        )
    )
    return Foresight(table=made[list(FORESIGHT.columns)], estimates=estimates)


_NAMES = ("shift", "prediction", "skill")


def _distances(embeddings: Embeddings) -> pd.DataFrame:
    """Log Mahalanobis distance of every patient's vector from the controls', by bundle, hemisphere and layer."""
    from sklearn.covariance import LedoitWolf

    rows = embeddings.rows
    made = rows[["participant_id", "bundle", "hemisphere", "tumor_side"]].copy()
    for layer, vectors in embeddings.layers.items():
        made[f"layer/{layer}"] = np.nan
        for _, part in rows.groupby(["bundle", "hemisphere"]):
            x = vectors[part.index].astype(float)
            controls = (part["group"] == "control").to_numpy()
            if controls.sum() < 3 or not np.isfinite(x).all():
                continue
            spread = x[controls].std(axis=0)
            scaled = (x - x[controls].mean(axis=0))[:, spread > 0] / spread[spread > 0]
            if not scaled.shape[1]:
                made.loc[part.index, f"layer/{layer}"] = 0.0
                continue
            squared = LedoitWolf(assume_centered=True).fit(scaled[controls]).mahalanobis(scaled)
            made.loc[part.index, f"layer/{layer}"] = np.log(np.maximum(squared / scaled.shape[1], 1e-6)) / 2
    return made[(rows["group"] == "glioma").to_numpy()]


def _joined(shifts: pd.DataFrame, scores: pd.DataFrame, embeddings: Embeddings) -> pd.DataFrame:
    """Shift and drop of each patient's bundles; the drop is from the controls' mean of that bundle and hemisphere."""
    given = scores[np.isfinite(scores["value"])]
    place = ["bundle", "hemisphere"]
    healthy = given[given["group"] == "control"].groupby(place)["value"].mean().rename("healthy").reset_index()
    patients = given.loc[given["group"] == "glioma", ["participant_id", *place, "side", "value"]]
    mean = patients.groupby(["participant_id", *place, "side"], as_index=False)["value"].mean()
    joined = shifts.merge(mean, on=["participant_id", *place]).merge(healthy, on=place)
    joined["observed"] = joined["healthy"] - joined["value"]
    return joined.assign(model=embeddings.model, modality=embeddings.modality).reset_index(drop=True)


def _out_of_sample(x: Array, y: Array, who: NDArray[np.int64], rng: np.random.Generator) -> tuple[Array, Array]:
    """Ridge predictions of held-out patients' rows, and the mean drop of those it was fitted to."""
    n = int(who.max()) + 1
    fold = (rng.permutation(n) % min(_FOLDS, n))[who]
    predicted, baseline = np.empty_like(y), np.empty_like(y)
    for one in np.unique(fold):
        train, test = fold != one, fold == one
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
        scaled = (x - mean) / np.where(spread > 0, spread, 1.0)
        z, center = scaled[train], y[train].mean()
        weights = np.linalg.solve(z.T @ z / len(z) + _RIDGE * np.eye(z.shape[1]), z.T @ (y[train] - center) / len(z))
        predicted[test], baseline[test] = center + scaled[test] @ weights, center
    return predicted, baseline


def _by_person(values: Array, who: NDArray[np.int64]) -> Array:
    """Mean over each participant's rows: participants count alike, however many bundles they have."""
    return np.asarray(np.bincount(who, values) / np.bincount(who))


def _figures(
    shift: Array, observed: Array, predicted: Array, errors: Array, weight: Array
) -> tuple[float, float, float]:
    """Rank correlations and skill with each patient counted ``weight`` times."""
    drawn = np.repeat(np.arange(len(weight)), weight.astype(int))
    error, reference = (errors @ weight).tolist()
    skill = 1 - error / reference if reference > 0 else float("nan")
    return _rank(shift[drawn], observed[drawn]), _rank(predicted[drawn], observed[drawn]), skill


def _rank(a: Array, b: Array) -> float:
    """Spearman's correlation; NaN where a side does not vary."""
    x, y = (stats.rankdata(one) - (len(one) + 1) / 2 for one in (a, b))
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else float("nan")


def _permuted_rank(shift: Array, observed: Array, rng: np.random.Generator) -> float:
    x = stats.rankdata(shift) - (len(shift) + 1) / 2
    y = stats.rankdata(observed) - (len(shift) + 1) / 2
    permuted = rng.permuted(np.repeat(x[None], _PERMUTATIONS, axis=0), axis=1) @ y
    return p_value(float(abs(x @ y)), np.abs(permuted))
