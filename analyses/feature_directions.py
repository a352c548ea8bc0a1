"""Which features carry a shift: the channels that move most, tested over all channels of a layer."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..status import Status
from ..types import Finding
from .feature_samples import Cell
from .resampling import p_value

Array = NDArray[np.float64]
_TOP = 3  # channels a layer


def directions(cell: Cell, target: Array) -> list[dict[str, Any]]:
    """The channels of one comparison that move most.

    Parameters
    ----------
    cell : Cell
        Systematic or tumor contrast, with a sample.
    target : ndarray, shape (N, permutations + 1)
        Labels, observed first.

    Returns
    -------
    list of dict
        Rows of `shiftkit.tables.DIRECTIONS` without the model: difference of means in units of the channel's spread,
        its share of the squared length of all channels' differences, and a p-value adjusted over the layer's channels.
    """
    if cell.sample is None or cell.status not in (Status.OK, Status.EXPLORATORY):
        return []
    moved = cell.sample.features.T @ (target / target.sum(axis=0) - (1 - target) / (1 - target).sum(axis=0))
    spread = moved[:, 1:].std(axis=1, keepdims=True)
    standardized = np.abs(np.divide(moved, spread, out=np.zeros_like(moved), where=spread > 0))
    largest = standardized[:, 1:].max(axis=0)
    length = float((moved[:, 0] ** 2).sum())
    order = np.argsort(-np.abs(moved[:, 0]), kind="stable")[:_TOP]
    return [
        {
            "layer": cell.layer,
            "contrast": cell.contrast,
            "channel": int(channel) + 1,
            "difference": float(moved[channel, 0]),
            "share": float(moved[channel, 0] ** 2) / length if length > 0 else 0.0,
            "p_adjusted": p_value(float(standardized[channel, 0]), largest),
            "status": cell.status,
        }
        for channel in order
    ]


def finding(table: pd.DataFrame) -> tuple[Finding, ...]:
    """The channels that carry each contrast, where any could be computed."""
    if not len(table):
        return ()
    words: list[str] = []
    for contrast, rows in table.groupby("contrast", sort=False):
        shown = rows[rows["p_adjusted"] <= 0.05]
        if not len(shown):
            words.append(f"no single channel is shown to carry the {contrast} contrast")
            continue
        top = shown.sort_values("difference", key=np.abs).iloc[-1]
        words.append(
            f"the {contrast} contrast moves channel {top['channel']} of {top['layer']} most ({top['difference']:+.2f} "
            f"standard deviations, {top['share']:.0%} of that layer's shift)"
        )
    claim = "; ".join(words)
    return (
        Finding(
            key="features-directions",
            title="Which features carry the shift?",
            claim=f"{claim[0].upper()}{claim[1:]}.",
            table=table,
            caveats=(
                "A channel has no meaning of its own; its number leads to the feature map.",
                "Shares describe and have no interval; the table's adjusted p-values say which channels move.",
            ),
            method="Difference of means over all bundles, channel by channel; max-T over the channels of a layer.",
            figure=lambda ax: _bars(ax, table),
            alt="Share of the squared shift that the three leading channels of each layer carry.",
        ),
    )


def _bars(ax: Any, table: pd.DataFrame) -> Any:
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1]
    layers = list(dict.fromkeys(table["layer"]))
    colors = {"systematic": "#D55E00", "tumor": "#009E73"}
    for offset, (contrast, rows) in enumerate(table.groupby("contrast", sort=False)):
        share = rows.groupby("layer", sort=False)["share"].sum().reindex(layers)
        hatch = ("", "//")[offset % 2]
        x = np.arange(len(layers)) + 0.4 * (offset - 0.5)
        ax.bar(x, share, 0.36, label=contrast, color=colors.get(str(contrast)), hatch=hatch, edgecolor="white")
    ax.set_xticks(range(len(layers)), layers, rotation=30, ha="right")
    ax.set_ylabel("share of the three leading channels")
    ax.legend(frameon=False)
    return ax
