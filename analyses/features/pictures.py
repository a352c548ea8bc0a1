"""A picture of feature space: two principal components, and beside them UMAP; neither is evidence."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...embeddings import Embeddings
from ...results import Finding
from ...style import BLUE, GRAY, ORANGE, VERMILION, new_axes

Array = NDArray[np.float64]
_KINDS = (
    ("controls", "o", BLUE),
    ("patients, other side", "s", ORANGE),
    ("patients, tumor side", "^", VERMILION),
    ("patients, side n/a", "x", GRAY),
)
_FEWEST = 15  # points for UMAP's neighborhoods
_COMPONENTS = 10


def picture(embeddings: Embeddings) -> Finding | None:
    """One point a participant, bundle and hemisphere, in the deepest layer; UMAP too where there are enough of them."""
    rows = embeddings.where(region="reference")
    # The layer with the most channels: of a U-Net the bottom.
    layer = max(rows.layers, key=lambda name: rows.layers[name].shape[1], default=None)
    controls = (rows.rows["group"] == "control").to_numpy()
    if layer is None or controls.sum() < 3 or not np.isfinite(rows.layers[layer]).all():
        return None
    # Made when first drawn, and once: a figure is drawn in several widths, in many simulated cohorts never.
    scores = cache(partial(control_components, rows.layers[layer].astype(float), controls))
    panels: dict[str, Callable[[], Array]] = {"PCA": lambda: scores()[:, :2]}
    text = "Components fitted on controls."
    if len(controls) >= _FEWEST:
        panels["UMAP"] = cache(lambda: umap(scores()))
        text = "PCA: components fitted on controls. UMAP: of ten such components, with a fixed seed."
    names = " and ".join(panels)
    return Finding(
        key="features-picture",
        title=f"A picture of feature space ({names})",
        claim="A picture: distances, gaps and clusters in it are no evidence of a shift, and nothing is tested on it.",
        method=f"One point a participant, bundle and hemisphere at {layer}. {text}",
        figure=partial(_draw, panels, _kinds(rows), layer),
        alt=f"{names} picture of the features of controls and of both hemispheres of patients.",
    )


def control_components(vectors: Array, controls: NDArray[np.bool_]) -> Array:
    """Scores of all rows on components fitted on the controls' rows alone."""
    from sklearn.decomposition import PCA

    spread = vectors[controls].std(axis=0)
    scaled = (vectors - vectors[controls].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    n = min(_COMPONENTS, int(controls.sum()) - 1, vectors.shape[1])
    fitted = PCA(n_components=n, svd_solver="full").fit(scaled[controls])
    return np.asarray(fitted.transform(scaled), dtype=float)


def umap(scores: Array, seed: int = 0) -> Array:
    """Two coordinates a row (doi 10.21105/joss.00861); the same seed gives the same picture."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the number of threads, which a fixed seed sets to one
        from umap import UMAP

        return np.asarray(UMAP(n_neighbors=min(15, len(scores) - 1), random_state=seed, n_jobs=1).fit_transform(scores))


def _kinds(embeddings: Embeddings) -> NDArray[np.int64]:
    """For each row its place in `_KINDS`."""
    rows = embeddings.rows
    # The later assignment wins: controls have no side, whatever stands there.
    kind = np.where(rows["tumor_side"] == rows["hemisphere"], 2, 1)
    kind[~rows["tumor_side"].isin(("left", "right"))] = 3
    kind[(rows["group"] == "control").to_numpy()] = 0
    return kind


def _draw(panels: Mapping[str, Callable[[], Array]], kinds: NDArray[np.int64], layer: str, ax: Any) -> Any:
    """A panel a method, inside the one pair of axes that every figure is given."""
    axes = new_axes(ax)
    axes.set_axis_off()
    axes.set_title(f"{' and '.join(panels)} of {layer}: a picture, no test")
    for number, (name, place) in enumerate(panels.items()):
        panel = axes.inset_axes((number / len(panels), 0.0, 0.96 / len(panels), 0.86))
        points = place()
        y = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
        for kind, (label, marker, color) in enumerate(_KINDS):
            shown = kinds == kind
            if shown.any():
                style = {"s": 10, "alpha": 0.6, "linewidths": 0.6 if marker == "x" else 0}
                panel.scatter(points[shown, 0], y[shown], marker=marker, color=color, label=label, **style)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.set_xlabel(name)
        if number == 0:
            panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, fontsize=6)
    return axes
