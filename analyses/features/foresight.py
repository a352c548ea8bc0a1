"""Whether the shift of features foretells a drop in performance, without labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ...catalogue import FORESIGHT
from ...embeddings import Embeddings
from ...results import Estimate
from ...status import Status
from ..statistics.inference import EXPLORATORY_BELOW, Inference, draw_weights, p_value
from ..statistics.people import rank_correlation
from .findings import foresight_finding, told
from .result import Foresight

Array = NDArray[np.float64]
_FEWEST = 8  # patients, and controls
_NAMES = ("shift", "prediction", "skill")
_FOLDS = 5
_PERMUTATIONS = 1999
_RIDGE = 1.0  # on standardized predictors, relative to the number of rows


def foresee(embeddings: Embeddings, scores: pd.DataFrame, *, inference: Inference = Inference()) -> Foresight:
    """Relate each patient's feature shift to their drop in performance.

    Embeddings of controls and patients have rows of region ``predicted``; scores the columns of
    `shiftkit.catalogue.SCORES`, of one metric for which larger is better, and the same participants and model. The seed
    is also that of the folds. With fewer than eight patients or controls there is a status instead of numbers.
    """
    rng = inference.generator()
    shifts = _distances(embeddings.where(region="predicted"))
    rows = _joined(shifts, scores, embeddings)
    x = rows[[f"layer/{name}" for name in embeddings.layers]].to_numpy(dtype=float)
    observed = rows["observed"].to_numpy(dtype=float)
    n_controls = int(embeddings.rows.loc[embeddings.rows["group"] == "control", "participant_id"].nunique())
    people, who = np.unique(rows["participant_id"].to_numpy(dtype=str), return_inverse=True)
    status = Status.OK if len(people) >= EXPLORATORY_BELOW else Status.EXPLORATORY
    finite = bool(np.isfinite(x).all())
    if min(len(people), n_controls) < _FEWEST or not finite:
        status = Status.TOO_FEW if finite else Status.NOT_FINITE
        nothing = rows.assign(shift=np.nan, predicted=np.nan, status=status)
        empty = tuple(Estimate(name=name, value=float("nan"), n=len(people), status=status) for name in _NAMES)
        return _told(nothing, empty)
    predicted, baseline = _out_of_sample(x, observed, who, rng)
    made = rows.assign(shift=x.mean(axis=1), predicted=predicted, status=status)
    weights = draw_weights([len(people)], inference.n_bootstrap, rng)
    means = np.stack([_by_person(one, who) for one in (x.mean(axis=1), observed, predicted)])
    errors = np.stack([_by_person((observed - one) ** 2, who) for one in (predicted, baseline)])
    # The sample itself first, then the draws.
    values, *draws = (_figures(means, errors, weight) for weight in (np.ones(len(people)), *weights))
    drawn = zip(_NAMES, values, np.transpose(draws), strict=True)
    shift, *others = (inference.estimate(name, value, one, len(people)) for name, value, one in drawn)
    return _told(made, (replace(shift, p_value=_permuted_rank(means[0], means[1], rng)), *others))


def _told(rows: pd.DataFrame, estimates: tuple[Estimate, ...]) -> Foresight:
    foresight = Foresight(table=rows[list(FORESIGHT.columns)], estimates=estimates)
    return told(foresight, foresight_finding(foresight))


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
            # Shrunk, since controls may be fewer than channels; per channel, so that layers of any width compare.
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


def _figures(means: Array, errors: Array, weight: Array) -> tuple[float, float, float]:
    """Rank correlations and skill from shift, observed and predicted drop, each patient counted ``weight`` times."""
    drawn = np.repeat(np.arange(len(weight)), weight.astype(int))  # ranks have no weights: who is drawn twice is two
    error, reference = (errors @ weight).tolist()
    skill = 1 - error / reference if reference > 0 else float("nan")
    shift, observed, predicted = means[:, drawn]
    return rank_correlation(shift, observed), rank_correlation(predicted, observed), skill


def _permuted_rank(shift: Array, observed: Array, rng: np.random.Generator) -> float:
    """Two-sided p-value of the rank correlation over patients."""
    x, y = (stats.rankdata(one) - (len(one) + 1) / 2 for one in (shift, observed))
    permuted = rng.permuted(np.repeat(x[None], _PERMUTATIONS, axis=0), axis=1) @ y
    return p_value(float(abs(x @ y)), np.abs(permuted))
