"""What is chosen and measured on validation participants: thresholds, and how overconfident a model is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..types import Bundle
from .checkpoints import Model
from .confidence import confidence
from .data import Sample
from .inference import infer

GRID = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def choose_thresholds(model: Model, samples: Sequence[Sample]) -> dict[Bundle, float]:
    """The threshold with the highest mean Dice of each bundle; of equally good ones, the nearest to 0.5.

    Parameters
    ----------
    model : Model
        With its network on any device.
    samples : sequence of Sample
        Validation participants: neither trained on nor tested on. Without any, or for a bundle that none of
        them has, the threshold stays what it was.
    """
    dice = np.full((len(samples), len(model.bundles), len(GRID)), np.nan)
    for row, sample in enumerate(samples):
        if sample.target is None or sample.known is None:
            continue
        probability = infer([model], sample)
        for column in np.flatnonzero(sample.known):
            dice[row, column] = _dice_by_threshold(probability[column], sample.target[column])
    chosen = dict(model.thresholds)
    for column, bundle in enumerate(model.bundles):
        rows = dice[:, column][np.isfinite(dice[:, column, 0])]
        if len(rows):
            mean = np.round(rows.mean(axis=0), 4)  # differences below are noise: they must not move a threshold
            chosen[bundle] = min(
                (threshold for threshold, value in zip(GRID, mean, strict=True) if value == mean.max()),
                key=lambda threshold: abs(threshold - 0.5),
            )
    return chosen


def measure_overconfidence(model: Model, samples: Sequence[Sample]) -> float:
    """Mean of expected less true Dice over validation participants and bundles; 0 without any.

    Networks trained with a Dice loss are surer than they are right; see `confidence.confidence`.
    """
    excess: list[float] = []
    for sample in samples:
        if sample.target is None or sample.known is None:
            continue
        probability = infer([model], sample)
        for column in np.flatnonzero(sample.known):
            mask = probability[column] >= model.thresholds[model.bundles[column]]
            total = float(mask.sum() + sample.target[column].sum())
            if mask.any() and total:
                true = 2 * float((mask & sample.target[column]).sum()) / total
                excess.append(confidence(probability[column], mask).predicted_dice - true)
    return round(float(np.mean(excess)), 4) if excess else 0.0


def _dice_by_threshold(probability: NDArray[np.float32], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    inside = np.array([float((probability[target] >= threshold).sum()) for threshold in GRID])
    total = np.array([float((probability >= threshold).sum()) for threshold in GRID]) + target.sum()
    return np.divide(2 * inside, total, out=np.ones_like(total), where=total > 0)
