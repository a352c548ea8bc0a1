"""From logits to masks: thresholds and confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...types import Bundle
from ..network.checkpoints import Model
from ..samples.samples import Sample
from .inference import infer

ABSTAIN_BELOW = 0.6
"""Expected Dice under which a mask should be looked at before it is used."""


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """What probabilities say about a mask, without a reference.

    Parameters
    ----------
    predicted_dice : float
        Expected Dice; 0 for an empty mask.
    entropy_bits : float
        Mean entropy of the voxels that could belong to the bundle (probability of 0.05 and more); NaN where
        there is none.
    abstain : bool
        Whether the expected Dice is under `ABSTAIN_BELOW`.
    """

    predicted_dice: float
    entropy_bits: float
    abstain: bool


def confidence(probability: NDArray[Any], mask: NDArray[np.bool_], overconfidence: float = 0.0) -> Confidence:
    """Expected Dice and entropy of one bundle.

    With voxels in the bundle with probability p, the mask M is expected to reach

    .. math:: E[Dice] ≈ 2 Σ_{M} p / (|M| + Σ p),

    the ratio of expectations. It is right for calibrated probabilities; networks are surer than that, by an
    amount measured on validation participants, which is taken off. Where a scan is so unlike the training's
    that the network is sure and wrong, what is left is still too high.

    Parameters
    ----------
    probability : ndarray, shape (X, Y, Z)
        Mean over an ensemble or over mirrored inputs, or of one network.
    mask : ndarray of bool, shape (X, Y, Z)
        The thresholded prediction.
    overconfidence : float
        Expected less true Dice on validation participants.

    Examples
    --------
    >>> confidence(np.array([[[1.0, 1.0, 0.0]]]), np.array([[[True, True, False]]])).predicted_dice
    1.0
    """
    p = np.asarray(probability, dtype=np.float64)
    inside = float(p[mask].sum())
    expected = 2 * inside / (mask.sum() + p.sum()) - overconfidence if mask.any() else 0.0
    expected = min(max(float(expected), 0.0), 1.0)
    unsure = p[p >= 0.05]
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -np.nan_to_num(unsure * np.log2(unsure)) - np.nan_to_num((1 - unsure) * np.log2(1 - unsure))
    return Confidence(
        predicted_dice=round(expected, 6),
        entropy_bits=round(float(bits.mean()), 6) if unsure.size else float("nan"),
        abstain=bool(expected < ABSTAIN_BELOW),
    )


GRID = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def choose_thresholds(model: Model, samples: Sequence[Sample]) -> dict[Bundle, float]:
    """The threshold with the highest mean Dice of each bundle; of equally good ones, the nearest to 0.5.

    The samples are validation participants: neither trained on nor tested on. Without any, or for a bundle that none of
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

    Networks trained with a Dice loss are surer than they are right; see `confidence`.
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
