"""How far two samples of feature vectors are apart: five statistics, each for many labelings at once.

Each function takes the observations once and returns what evaluates labelings: columns of 0 and 1 for source and
target. The observed labeling, the permuted ones and those with one participant left out are all columns of one call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .kernels import Array, Units, pair_contrast, rbf_kernel, squared_distances

Evaluate = Callable[[Array, Array], Array]
STATISTICS = ("mmd2", "energy", "sliced_wasserstein", "frechet", "auc", "proxy_a_distance")
RANGES = {
    "auc": (0.0, 1.0),
    "proxy_a_distance": (-2.0, 2.0),
    "sliced_wasserstein": (0.0, np.inf),
    "frechet": (0.0, np.inf),
}
"""Between which values a statistic lies, where it is bounded."""
N_PROJECTIONS = 64
N_FOLDS = 5
N_REPEATS = 4
N_COMPONENTS = 16
_COLUMNS = 256  # labelings at a time: what bounds the memory


def evaluators(
    features: Array, unit: Units, rng: np.random.Generator, names: Sequence[str] = STATISTICS
) -> Mapping[str, Evaluate]:
    """Prepare some of `STATISTICS` for one set of observations, shape (N, C), finite and in comparable units.

    ``unit`` is the participant of each observation. Projections and folds, which are random, are the same for every
    labeling, and whatever other statistics are prepared. ``evaluate(source, target)`` with columns of labels, shape
    (N, K), gives values, shape (K,).
    """
    for_directions, for_folds = rng.spawn(2)
    made: dict[str, Evaluate] = {}
    if {"mmd2", "energy"} & set(names):
        distances2 = squared_distances(features)
        made["mmd2"] = partial(pair_contrast, rbf_kernel(distances2), unit=unit)
        made["energy"] = partial(_energy, np.sqrt(distances2), unit)
    if "sliced_wasserstein" in names:
        made["sliced_wasserstein"] = sliced_wasserstein(features, projections(features.shape[1], for_directions))
    if "frechet" in names:
        made["frechet"] = frechet(principal_components(features, N_COMPONENTS))
    if {"auc", "proxy_a_distance"} & set(names):
        held_out = HeldOut.fit(features, unit, for_folds)
        made["auc"], made["proxy_a_distance"] = held_out.auc, held_out.proxy_a_distance
    return made


def _energy(distances: Array, unit: Units, source: Array, target: Array) -> Array:
    return -pair_contrast(distances, source, target, unit)


def projections(n_features: int, rng: np.random.Generator, n: int = N_PROJECTIONS) -> Array:
    """Random directions of length 1, shape (C, n)."""
    drawn = rng.standard_normal((n_features, n))
    return drawn / np.linalg.norm(drawn, axis=0)


def sliced_wasserstein(features: Array, directions: Array) -> Evaluate:
    """Mean over directions of the Wasserstein-1 distance between the projected samples.

    In one dimension the distance is the area between the two distribution functions: with the observations sorted
    once, each labeling takes a cumulative sum. Bonneel N et al. J Math Imaging Vis 51:22 (2015), doi
    10.1007/s10851-014-0506-3.
    """
    projected = features @ directions
    order = np.argsort(projected, axis=0)
    gaps = np.diff(np.take_along_axis(projected, order, axis=0), axis=0)

    def evaluate(source: Array, target: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = source / source.sum(axis=0) - target / target.sum(axis=0)
        total = np.zeros(source.shape[1])
        for places, steps in zip(order.T, gaps.T, strict=True):
            total += steps @ np.abs(np.cumsum(weight[places], axis=0))[:-1]
        return total / directions.shape[1]

    return evaluate


def principal_components(features: Array, n: int) -> Array:
    """Scores on the first components of all observations together, whatever their labels.

    As many as the smaller of ``n``, the features and a quarter of the observations: covariances of more cannot be
    estimated from the samples.
    """
    centered = features - features.mean(axis=0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    keep = max(1, min(n, features.shape[1], len(features) // 4))
    return np.asarray(u[:, :keep] * s[:keep])


def frechet(features: Array, *, shrink: bool = True) -> Evaluate:
    """Squared Fréchet distance between normal distributions with the samples' means and covariances.

    These are shrunk after Ledoit and Wolf, or the unbiased sample covariances.

    References
    ----------
    Dowson DC, Landau BV. J Multivar Anal 12:450 (1982), doi 10.1016/0047-259X(82)90077-X. Ledoit O, Wolf M. J Multivar
    Anal 88:365 (2004), doi 10.1016/S0047-259X(03)00096-4.
    """
    n_features = features.shape[1]
    outer = np.einsum("ni,nj->nij", features, features).reshape(len(features), -1)

    def moments(labels: Array) -> tuple[Array, Array]:
        n = labels.sum(axis=0)[:, None]
        mean = labels.T @ features / n
        covariance = (labels.T @ outer / n).reshape(-1, n_features, n_features) - mean[:, :, None] * mean[:, None, :]
        if shrink:
            return mean, _shrunk(features, labels, mean, covariance)
        return mean, covariance * (n / (n - 1))[..., None]

    def evaluate(source: Array, target: Array) -> Array:
        values: list[Array] = []
        for start in range(0, source.shape[1], _COLUMNS):
            (m_s, c_s), (m_t, c_t) = (moments(one[:, start : start + _COLUMNS]) for one in (source, target))
            # tr √(Cs Ct) from a symmetric matrix of the same eigenvalues, which is faster and never complex.
            root = _root(c_s)
            between = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c_t @ root), 0)).sum(axis=1)
            traces = np.trace(c_s + c_t, axis1=1, axis2=2)
            values.append(((m_s - m_t) ** 2).sum(axis=1) + traces - 2 * between)
        return np.concatenate(values)

    return evaluate


def _root(matrices: Array) -> Array:
    values, vectors = np.linalg.eigh(matrices)
    return (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]) @ np.swapaxes(vectors, 1, 2)


def _shrunk(features: Array, labels: Array, mean: Array, covariance: Array) -> Array:
    """Covariances of all labelings, shrunk towards a multiple of the identity by Ledoit and Wolf's formula."""
    n, p = labels.sum(axis=0), features.shape[1]
    level = np.trace(covariance, axis1=1, axis2=2) / p
    squared = (covariance**2).sum(axis=(1, 2))
    away = (features**2).sum(axis=1)[:, None] - 2 * features @ mean.T + (mean**2).sum(axis=1)
    noise = (np.einsum("nk,nk->k", labels, away**2) / n - squared) / n
    spread = squared - p * level**2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(spread > 0, np.clip(noise / spread, 0, 1), 0.0)[:, None, None]
    return (1 - share) * covariance + share * level[:, None, None] * np.eye(p)


@dataclass(frozen=True)
class HeldOut:
    """Scores of a linear classifier for participants that it was not trained on.

    Ridge regression on the labels, whose direction is that of a shrunk linear discriminant: held-out scores are a
    fixed matrix times the labels, so thousands of labelings cost one product a fold. Folds are grouped by participant
    and know nothing of the labels. Each part is a fold: rows held out, rows trained on, and the matrix from training
    labels to scores of all rows.
    """

    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Array]]

    @classmethod
    def fit(cls, features: Array, unit: Units, rng: np.random.Generator, n_folds: int = N_FOLDS) -> "HeldOut":
        """Prepare the folds: several divisions, so that results depend less on one of them."""
        people, codes = np.unique(unit, return_inverse=True)
        n_folds = max(2, min(n_folds, len(people) // 4))  # folds of under four participants have too few pairs
        folds = codes
        parts: list[tuple[NDArray[np.int64], NDArray[np.int64], Array]] = []
        for number in range(N_REPEATS * n_folds):
            fold = number % n_folds
            if fold == 0:
                folds = (rng.permutation(len(people)) % n_folds)[codes]
            test, train = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            centered = features - features[train].mean(axis=0)
            inner = centered[train] @ centered[train].T
            # The mean eigenvalue: as strong as the data are spread, whatever their unit.
            ridge = max(float(np.trace(inner)) / len(train), 1e-12)
            # As the training rows are centered, a constant added to the labels changes nothing.
            hat = np.linalg.solve(inner + ridge * np.eye(len(train)), centered[train] @ centered.T).T
            parts.append((test, train, hat))
        return cls(parts)

    def auc(self, source: Array, target: Array) -> Array:
        """Area under the ROC curve, over pairs of held-out observations of the same fold; 0.5 by chance.

        Only pairs of one fold are compared: their scores come from one classifier, and without a shift its
        expectation is 0.5 exactly, which is not so for scores pooled over folds.
        """
        right, pairs = np.zeros(source.shape[1]), np.zeros(source.shape[1])
        for scores, s, t in self._tested(source, target):
            right += (_wins(scores, s, t) + _wins(scores[::-1], s[::-1], t[::-1])) / 2  # ties count one half
            pairs += t.sum(axis=0) * s.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return right / pairs

    def proxy_a_distance(self, source: Array, target: Array) -> Array:
        """2 (1 − 2 × balanced error) on held-out observations; 0 by chance, 2 where classes never mix.

        The threshold is midway between the training classes' mean scores.

        References
        ----------
        Ben-David S et al. Machine Learning 79:151 (2010), doi 10.1007/s10994-009-5152-4.
        """
        right, number = np.zeros((2, source.shape[1])), np.zeros((2, source.shape[1]))
        for scores, s, t in self._tested(source, target):
            above = np.sign(scores) / 2 + 0.5  # a score on the threshold is half right
            right += [((1 - above) * s).sum(axis=0), (above * t).sum(axis=0)]
            number += [s.sum(axis=0), t.sum(axis=0)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(2 * ((right / number).sum(axis=0) - 1))

    def _tested(self, source: Array, target: Array) -> Iterator[tuple[Array, Array, Array]]:
        """For each fold: scores of the rows held out, less the threshold, and their labels."""
        for test, train, hat in self.parts:
            scores = hat @ (target - source)[train]
            with np.errstate(invalid="ignore", divide="ignore"):
                means = [(scores[train] * one[train]).sum(axis=0) / one[train].sum(axis=0) for one in (source, target)]
            yield scores[test] - (means[0] + means[1]) / 2, source[test], target[test]


def _wins(scores: Array, source: Array, target: Array) -> Array:
    """Pairs in which the target's score is higher; of tied ones the target's stands behind if its row does."""
    order = np.argsort(scores, axis=0, kind="stable")
    s, t = (np.take_along_axis(one, order, axis=0) for one in (source, target))
    return np.asarray((t * np.cumsum(s, axis=0)).sum(axis=0))
