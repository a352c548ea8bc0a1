"""How much a layer's features changed from one network to another, on the same inputs."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...catalogue import CKA
from ...embeddings import Embeddings
from ...errors import DataError
from ...status import Status
from ..statistics.inference import jackknife_interval
from .findings import change_finding, told
from .result import LayerChange

Array = NDArray[np.float64]
_FEWEST = 5  # rows for which the unbiased estimator is defined with something to spare


def hsic(k: Array, m: Array) -> float:
    """Unbiased Hilbert–Schmidt independence criterion of two kernel matrices of the same rows.

    References
    ----------
    Song L et al. JMLR 13:1393 (2012), eq. 5, jmlr.org/papers/v13/song12a.html.
    """
    n = len(k)
    # Without the diagonals, on which every row is its own neighbor: they are what biases the plain estimator.
    a, b = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    rows_a, rows_b = a.sum(axis=0), b.sum(axis=0)
    cross = rows_a.sum() * rows_b.sum() / ((n - 1) * (n - 2))
    return float(((a * b).sum() + cross - 2 / (n - 2) * (rows_a @ rows_b)) / (n * (n - 3)))


def linear_cka(x: Array, y: Array) -> float:
    """Unbiased linear CKA of two representations of the same rows: 1 for the same up to rotation and scale, 0 for none.

    They have shapes (N, C) and (N, D) with N ≥ 4. Can be slightly negative; NaN where one does not vary.

    References
    ----------
    Kornblith S et al. ICML 2019, arxiv.org/abs/1905.00414; Nguyen T et al. ICLR 2021, arxiv.org/abs/2010.15327
    (unbiased form, sums over batches).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((20, 3))
    >>> round(linear_cka(x, 5 * x[:, ::-1]), 6)
    1.0
    """
    return _ratio(_terms(x @ x.T, y @ y.T)[None])


def _terms(k: Array, m: Array) -> Array:
    return np.array([hsic(k, m), hsic(k, k), hsic(m, m)])


def _ratio(terms: Array) -> float:
    """CKA from sums of the three terms over regions."""
    cross, own, other = terms.sum(axis=0)
    return float(cross / np.sqrt(own * other)) if own > 0 and other > 0 else float("nan")


def layer_change(source: Embeddings, tuned: Embeddings, *, level: float = 0.95) -> LayerChange:
    """Compare a source model's and fine-tuned networks' features of the same participants and regions, layer by layer.

    Rows of different networks are never mixed. A `DataError` if there is no layer or region in common.
    """
    keys = ["participant_id", "region", "bundle", "hemisphere"]
    left = source.rows[keys].assign(row_a=np.arange(len(source.rows))).drop_duplicates(keys)
    right = tuned.rows[[*keys, "fold"]].assign(row_b=np.arange(len(tuned.rows))).drop_duplicates(keys)
    both = left.merge(right, on=keys)
    both = both[both["region"].isin(["reference", "brain"])]
    layers = [name for name in source.layers if name in tuned.layers]
    if not layers or not len(both):
        raise DataError("Two models are compared on the same participants, regions and layers; these have none.")
    people = both["participant_id"].unique()
    groups = [part for _, part in both.groupby(["fold", "bundle", "hemisphere"]) if len(part) >= _FEWEST]
    rows: list[dict[str, Any]] = []
    for layer in layers:
        a, b = source.layers[layer].astype(float), tuned.layers[layer].astype(float)
        pairs = [(part["participant_id"].to_numpy(), a[part["row_a"]], b[part["row_b"]]) for part in groups]
        finite = all(np.isfinite(x).all() and np.isfinite(y).all() for _, x, y in pairs)
        value, low, high = _with_interval(pairs, people, level) if finite and pairs else (float("nan"),) * 3
        status = Status.OK if np.isfinite(value) else Status.CONSTANT if finite else Status.NOT_FINITE
        status = status if pairs else Status.TOO_FEW
        rows.append({"layer": layer, "cka": value, "low": low, "high": high, "n": len(people), "status": status})
    table = pd.DataFrame(rows).assign(source=source.model, model=tuned.model, modality=tuned.modality)
    change = LayerChange(table=table[list(CKA.columns)])
    return told(change, change_finding(change))


def _with_interval(
    pairs: list[tuple[NDArray[Any], Array, Array]], people: NDArray[Any], level: float
) -> tuple[float, float, float]:
    # Once for all: leaving somebody out takes rows and columns of these away.
    kernels = [(who, x @ x.T, y @ y.T) for who, x, y in pairs]
    whole = np.stack([_terms(k, m) for _, k, m in kernels])
    value = _ratio(whole)
    left_out = np.full(len(people), np.nan)
    for number, person in enumerate(people):
        terms = whole.copy()
        for index, (who, k, m) in enumerate(kernels):
            keep = who != person
            if not keep.all():
                terms[index] = _terms(k[np.ix_(keep, keep)], m[np.ix_(keep, keep)])
        left_out[number] = _ratio(terms)
    low, high = jackknife_interval(value, left_out, np.zeros(len(people)), level)
    return value, low, min(high, 1.0)
