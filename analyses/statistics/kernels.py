"""Means over pairs of observations for many labelings at once: MMD² and energy distance by matrix products."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Units = NDArray[np.int64]
_COLUMNS = 2048  # labelings at a time: what bounds the memory


def squared_distances(features: Array) -> Array:
    """Squared Euclidean distances between the rows, shape (N, N); exact zeros on the diagonal."""
    squares = (features**2).sum(axis=1)
    distances = features @ features.T
    distances *= -2
    distances += squares[:, None]
    distances += squares
    np.maximum(distances, 0, out=distances)
    np.fill_diagonal(distances, 0)
    return distances


def rbf_kernel(distances2: Array) -> Array:
    r"""Gaussian kernel :math:`\exp(-d^2 / (2\sigma^2))`, with σ² half the median of the squared distances.

    The median is taken over all pairs whatever their labels, so that it is the same in every permutation (Gretton A et
    al. JMLR 13:723 (2012), jmlr.org/papers/v13/gretton12a.html).

    Examples
    --------
    >>> rbf_kernel(squared_distances(np.array([[0.0], [2.0]]))).round(3).tolist()
    [[1.0, 0.368], [0.368, 1.0]]
    """
    pairs = distances2[np.triu_indices(len(distances2), 1)]
    median = float(np.median(pairs)) if pairs.size else 0.0
    if median <= 0:  # over half of the pairs are equal
        median = float(pairs[pairs > 0].mean()) if (pairs > 0).any() else 1.0
    return np.exp(-distances2 / median)


def pair_contrast(matrix: Array, source: Array, target: Array, unit: Units | None = None) -> Array:
    """Mean within source + mean within target − 2 × mean between, for each labeling.

    Pairs of one participant are left out everywhere, so the means are unbiased although regions of one participant
    are correlated. Of a kernel this is the unbiased MMD²; of distances, with the opposite sign, the energy distance.

    Parameters
    ----------
    matrix : ndarray, shape (N, N)
        Symmetric; one number a pair of observations.
    source, target : ndarray, shape (N, K)
        1 where an observation belongs to the sample; an observation may belong to neither.
    unit : ndarray of int, shape (N,), optional
        Participant of each observation; each is its own by default.

    Returns
    -------
    ndarray, shape (K,)
        NaN where a sample has fewer than two participants.

    References
    ----------
    Gretton A et al. JMLR 13:723 (2012), eq. 3 and, for pairs, eq. 4. Székely GJ, Rizzo ML. J Stat Plan Inference
    143:1249 (2013), doi 10.1016/j.jspi.2013.03.018.

    Examples
    --------
    >>> distances = np.abs(np.subtract.outer([0.0, 1, 10, 11], [0.0, 1, 10, 11]))
    >>> source = np.array([[1.0, 1, 0, 0]]).T
    >>> pair_contrast(distances, source, 1 - source).tolist()
    [-18.0]
    """
    alone = unit is None or len(np.unique(unit)) == len(unit)
    masked = matrix.copy()
    if alone or unit is None:
        np.fill_diagonal(masked, 0)
    else:
        masked[unit[:, None] == unit] = 0
    rows = masked.sum(axis=1)
    made: list[Array] = []
    for start in range(0, source.shape[1], _COLUMNS):
        s, t = (one[:, start : start + _COLUMNS] for one in (source, target))
        sums = _sums(masked, rows, s, t)
        counts = _counts(s, t, None if alone else unit)
        with np.errstate(invalid="ignore", divide="ignore"):
            within_s, within_t, between = (np.where(n > 0, a / n, np.nan) for a, n in zip(sums, counts, strict=True))
        made.append(within_s + within_t - 2 * between)
    return np.concatenate(made) if made else np.empty(0)


def _sums(masked: Array, rows: Array, s: Array, t: Array) -> tuple[Array, Array, Array]:
    """Sums over pairs within source, within target and between, each ordered pair counted."""
    # One product of the matrix with all labelings replaces re-indexing it for each.
    product = masked @ s
    within_s = np.einsum("nk,nk->k", s, product)
    if bool(((s + t) == 1).all()):  # everybody is in one of the two: the other sums follow from this one
        between = rows @ s - within_s
        return within_s, rows.sum() - within_s - 2 * between, between
    between = np.einsum("nk,nk->k", t, product)
    return within_s, np.einsum("nk,nk->k", t, masked @ t), between


def _counts(s: Array, t: Array, unit: Units | None) -> tuple[Array, Array, Array]:
    """Numbers of those pairs."""
    n_s, n_t = s.sum(axis=0), t.sum(axis=0)
    if unit is None:
        return n_s * (n_s - 1), n_t * (n_t - 1), n_s * n_t - (s * t).sum(axis=0)
    codes = np.unique(unit, return_inverse=True)[1]
    members = np.equal.outer(np.arange(codes.max() + 1), codes).astype(float)
    by_s, by_t = members @ s, members @ t  # of each participant; pairs of one are taken off
    return n_s**2 - (by_s**2).sum(axis=0), n_t**2 - (by_t**2).sum(axis=0), n_s * n_t - (by_s * by_t).sum(axis=0)
