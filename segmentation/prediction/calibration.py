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
    expected = _expected_dice(float(p[mask].sum()), int(mask.sum()), float(p.sum()), overconfidence)
    unsure = p[p >= 0.05]  # of the whole image, the certain background would hide how sure the rest is
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -np.nan_to_num(unsure * np.log2(unsure)) - np.nan_to_num((1 - unsure) * np.log2(1 - unsure))
    return Confidence(
        predicted_dice=expected,
        entropy_bits=round(float(bits.mean()), 6) if unsure.size else float("nan"),
        abstain=bool(expected < ABSTAIN_BELOW),
    )


def _expected_dice(inside: float, size: int, total: float, overconfidence: float = 0.0) -> float:
    """From sums of probabilities inside a mask and everywhere, and its size in voxels; 0 for an empty mask."""
    expected = 2 * inside / (size + total) - overconfidence if size else 0.0
    return round(min(max(expected, 0.0), 1.0), 6)


THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a model says of one bundle of one validation participant, beside its reference.

    Parameters
    ----------
    probability : ndarray
        Of the voxels that any threshold could take into the mask.
    reference : ndarray of bool
        Whether these voxels are the bundle.
    total : float
        Sum of the probabilities of all voxels.
    size : int
        Voxels of the reference.
    """

    bundle: Bundle
    probability: NDArray[np.float32]
    reference: NDArray[np.bool_]
    total: float
    size: int

    def mask(self, threshold: float) -> tuple[int, int]:
        """Voxels of the mask with a threshold, and how many of them are the bundle."""
        inside = self.probability >= threshold
        return int(inside.sum()), int((inside & self.reference).sum())


def answers(model: Model, samples: Sequence[Sample]) -> list[Answer]:
    """What a model says of validation participants: neither trained on nor tested on; of the bundles each one has."""
    found: list[Answer] = []
    for sample in samples:
        if sample.target is None or sample.known is None:
            continue
        probability = infer([model], sample)
        for column in np.flatnonzero(sample.known):
            bundle, values, target = model.bundles[column], probability[column], sample.target[column]
            could = values >= min(*THRESHOLDS, model.thresholds[bundle])
            found.append(
                Answer(
                    bundle=bundle,
                    probability=values[could],
                    reference=target[could],
                    total=float(values.sum(dtype=np.float64)),
                    size=int(target.sum()),
                )
            )
    return found


def choose_thresholds(model: Model, given: Sequence[Answer]) -> dict[Bundle, float]:
    """The threshold with the highest mean Dice of each bundle; of equally good ones, the nearest to 0.5.

    For a bundle that no validation participant has, the threshold stays what it was.
    """
    dice: dict[Bundle, list[list[float]]] = {}
    for answer in given:
        dice.setdefault(answer.bundle, []).append([_dice(answer, threshold) for threshold in THRESHOLDS])
    chosen = dict(model.thresholds)
    for bundle, values in dice.items():
        mean = np.round(np.mean(values, axis=0), 4)  # differences below are noise: they must not move a threshold
        best = (threshold for threshold, value in zip(THRESHOLDS, mean, strict=True) if value == mean.max())
        chosen[bundle] = min(best, key=lambda threshold: abs(threshold - 0.5))
    return chosen


def measure_overconfidence(model: Model, given: Sequence[Answer]) -> float:
    """Mean of expected less true Dice over validation participants and bundles; 0 without any.

    Networks trained with a Dice loss are surer than they are right; see `confidence`.
    """
    excess: list[float] = []
    for answer in given:
        threshold = model.thresholds[answer.bundle]
        size, _ = answer.mask(threshold)
        if size:
            inside = float(answer.probability[answer.probability >= threshold].sum(dtype=np.float64))
            excess.append(_expected_dice(inside, size, answer.total) - _dice(answer, threshold))
    return round(float(np.mean(excess)), 4) if excess else 0.0


def _dice(answer: Answer, threshold: float) -> float:
    size, both = answer.mask(threshold)
    return 2 * both / (size + answer.size) if size + answer.size else 1.0  # both empty is agreement
