"""From logits to masks: thresholds and confidence."""

from collections.abc import Iterator, Sequence
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

    Expected Dice, 0 for an empty mask; whether it is under `ABSTAIN_BELOW`; and the mean entropy of the voxels that
    could belong to the bundle (probability of 0.05 and more), NaN where there is none.
    """

    predicted_dice: float
    entropy_bits: float
    abstain: bool


def confidence(probability: NDArray[Any], mask: NDArray[np.bool_], overconfidence: float = 0.0) -> Confidence:
    """Expected Dice and entropy of one bundle.

    With voxels in the bundle with probability p, the mask M is expected to reach

    .. math:: E[Dice] ≈ 2 Σ_{M} p / (|M| + Σ p),

    the ratio of expectations. It is right for calibrated probabilities; networks are surer than that, by an
    amount measured on validation participants (``overconfidence``), which is taken off. Where a scan is so unlike the
    training's that the network is sure and wrong, what is left is still too high.

    Examples
    --------
    >>> confidence(np.array([[[1.0, 1.0, 0.0]]]), np.array([[[True, True, False]]])).predicted_dice
    1.0
    """
    p = np.asarray(probability, dtype=np.float64)
    inside = float(p[mask].sum())
    expected = 2 * inside / (mask.sum() + p.sum()) - overconfidence if mask.any() else 0.0
    expected = min(max(float(expected), 0.0), 1.0)
    unsure = p[p >= 0.05]  # of the whole image, the certain background would hide how sure the rest is
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -np.nan_to_num(unsure * np.log2(unsure)) - np.nan_to_num((1 - unsure) * np.log2(1 - unsure))
    return Confidence(
        predicted_dice=round(expected, 6),
        entropy_bits=round(float(bits.mean()), 6) if unsure.size else float("nan"),
        abstain=bool(expected < ABSTAIN_BELOW),
    )


THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


def choose_thresholds(model: Model, samples: Sequence[Sample]) -> dict[Bundle, float]:
    """The threshold with the highest mean Dice of each bundle; of equally good ones, the nearest to 0.5.

    The samples are validation participants: neither trained on nor tested on. Without any, or for a bundle that none of
    them has, the threshold stays what it was.
    """
    dice: dict[Bundle, list[NDArray[np.float64]]] = {}
    for bundle, probability, reference in _validated(model, samples):
        dice.setdefault(bundle, []).append(_dice_by_threshold(probability, reference))
    chosen = dict(model.thresholds)
    for bundle, values in dice.items():
        mean = np.round(np.mean(values, axis=0), 4)  # differences below are noise: they must not move a threshold
        best = (threshold for threshold, value in zip(THRESHOLDS, mean, strict=True) if value == mean.max())
        chosen[bundle] = min(best, key=lambda threshold: abs(threshold - 0.5))
    return chosen


def measure_overconfidence(model: Model, samples: Sequence[Sample]) -> float:
    """Mean of expected less true Dice over validation participants and bundles; 0 without any.

    Networks trained with a Dice loss are surer than they are right; see `confidence`.
    """
    excess: list[float] = []
    for bundle, probability, reference in _validated(model, samples):
        mask = probability >= model.thresholds[bundle]
        if mask.any():
            true = 2 * float((mask & reference).sum()) / float(mask.sum() + reference.sum())
            excess.append(confidence(probability, mask).predicted_dice - true)
    return round(float(np.mean(excess)), 4) if excess else 0.0


def _validated(model: Model, samples: Sequence[Sample]) -> Iterator[tuple[Bundle, NDArray[Any], NDArray[np.bool_]]]:
    """Of each participant and known bundle: what the model says, and the reference mask."""
    for sample in samples:
        if sample.target is not None and sample.known is not None:
            probability = infer([model], sample)
            for column in np.flatnonzero(sample.known):
                yield model.bundles[column], probability[column], sample.target[column]


def _dice_by_threshold(probability: NDArray[np.float32], target: NDArray[np.bool_]) -> NDArray[np.float64]:
    masks = [probability >= threshold for threshold in THRESHOLDS]
    inside = np.array([float((mask & target).sum()) for mask in masks])
    total = np.array([float(mask.sum()) for mask in masks]) + target.sum()
    # Both empty is agreement.
    return np.divide(2 * inside, total, out=np.ones_like(total), where=total > 0)
