"""How sure a model is of a bundle: entropy of its probabilities, and the Dice they lead one to expect."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
