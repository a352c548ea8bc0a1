"""Pictures of feature space: two principal components, and UMAP; neither is evidence."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...embeddings import Embeddings
from ...results import Finding

Array = NDArray[np.float64]
_KINDS = ("controls", "patients, other side", "patients, tumor side", "patients, side n/a")
_MARKERS = ("o", "s", "^", "x")
_COLORS = ("#0072B2", "#E69F00", "#D55E00", "#7F7F7F")
_FEWEST = 15  # points for UMAP's neighborhoods
_COMPONENTS = 10
_WARNING = "A picture: distances, gaps and clusters in it are no evidence of a shift, and nothing is tested on it."


def pictures(embeddings: Embeddings) -> tuple[Finding, ...]:
    """One point a participant, bundle and hemisphere, in the deepest layer; UMAP where umap-learn is installed."""
    rows = embeddings.where(region="reference")
    layer = deepest(embeddings)
    if layer is None or len(rows.rows) < 3 or not np.isfinite(rows.layers[layer]).all():
        return ()
    controls = (rows.rows["group"] == "control").to_numpy()
    if controls.sum() < 3:
        return ()
    scores = control_components(rows.layers[layer].astype(float), controls)
    kinds = _kinds(embeddings)
    made = [_finding("features-pca", "PCA", layer, lambda: scores[:, :2], kinds, "Components fitted on controls.")]
    if find_spec("umap") is not None and len(scores) >= _FEWEST:
        text = "UMAP of ten components that were fitted on controls; fixed seed."
        made.append(_finding("features-umap", "UMAP", layer, cache(lambda: umap(scores)), kinds, text))
    return tuple(made)


def deepest(embeddings: Embeddings) -> str | None:
    """The layer with the most channels: of a U-Net the bottom."""
    return max(embeddings.layers, key=lambda name: embeddings.layers[name].shape[1], default=None)


def control_components(vectors: Array, controls: NDArray[np.bool_]) -> Array:
    """Scores of all rows on components fitted on the controls' rows alone."""
    from sklearn.decomposition import PCA

    spread = vectors[controls].std(axis=0)
    scaled = (vectors - vectors[controls].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    n = min(_COMPONENTS, int(controls.sum()) - 1, vectors.shape[1])
    fitted = PCA(n_components=n, svd_solver="full").fit(scaled[controls])
    return np.asarray(fitted.transform(scaled), dtype=float)


def umap(scores: Array, seed: int = 0) -> Array:
    """Two coordinates a row; the same seed gives the same picture.

    References
    ----------
    McInnes L et al. JOSS 3:861 (2018), doi 10.21105/joss.00861.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the number of threads, which a fixed seed sets to one
        from umap import UMAP

        return np.asarray(UMAP(n_neighbors=min(15, len(scores) - 1), random_state=seed, n_jobs=1).fit_transform(scores))


def _kinds(embeddings: Embeddings) -> NDArray[np.int64]:
    rows = embeddings.where(region="reference").rows
    side = rows["tumor_side"].to_numpy(dtype=str)
    here = rows["hemisphere"].to_numpy(dtype=str)
    kind = np.where(side == here, 2, 1)
    kind[~np.isin(side, ("left", "right"))] = 3
    kind[(rows["group"] == "control").to_numpy()] = 0
    return kind


def _finding(
    key: str, name: str, layer: str, place: Callable[[], Array], kinds: NDArray[np.int64], text: str
) -> Finding:
    def figure(ax: Any) -> Any:
        points = place()
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]
        y = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
        for kind, (label, marker, color) in enumerate(zip(_KINDS, _MARKERS, _COLORS, strict=True)):
            shown = kinds == kind
            if shown.any():
                style = {"s": 10, "alpha": 0.6, "linewidths": 0.6 if marker == "x" else 0}
                ax.scatter(points[shown, 0], y[shown], marker=marker, color=color, label=label, **style)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_title(f"{name} of {layer}: a picture, no test")
        ax.legend(frameon=False)
        return ax

    return Finding(
        key=key,
        title=f"A picture of feature space ({name})",
        claim=f"{_WARNING}",
        method=f"One point a participant, bundle and hemisphere at {layer}. {text}",
        figure=figure,
        alt=f"{name} picture of the features of controls and of both hemispheres of patients.",
    )
