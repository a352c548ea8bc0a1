"""The metrics: their names, units and directions, and what they are for one pair of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...distances import distance_to, within
from ...status import Status
from .surfaces import Mask, MaskPair, Spacing


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric is called, and how to read it; one without a bound enters a decomposition as log(x + 1)."""

    title: str
    description: str
    unit: str = "1"
    better: Literal["higher", "lower"] = "higher"
    bounded: bool = True

    @property
    def label(self) -> str:
        """For an axis."""
        return self.title if self.unit == "1" else f"{self.title} ({self.unit})"


def _distance(title: str, description: str) -> Metric:
    return Metric(title=title, description=description, unit="mm", better="lower", bounded=False)


METRICS: dict[str, Metric] = {
    "dice": Metric(title="Dice", description="Twice the shared volume over the sum of both volumes."),
    "sensitivity": Metric(title="sensitivity", description="Share of the reference that is predicted."),
    "precision": Metric(title="precision", description="Share of the prediction that is in the reference."),
    "volume_overlap": Metric(
        title="volume overlap",
        description="Shared volume over the reference's volume: tractography's word for sensitivity.",
    ),
    "volume_overreach": Metric(
        title="volume overreach",
        description="Predicted volume outside of the reference over the reference's volume.",
        better="lower",
        bounded=False,
    ),
    "volume_similarity": Metric(
        title="volume similarity", description="1 - |difference of the volumes| / sum of the volumes."
    ),
    "hd95": _distance("HD95", "Larger directed 95th percentile of surface distance."),
    "assd": _distance("ASSD", "Mean distance between the surfaces, pooled."),
    "nsd": Metric(title="NSD", description="Share of both surfaces that lies within the tolerance of the other."),
    "cldice": Metric(
        title="clDice", description="Center-line Dice: Dice of how far each skeleton lies in the other mask."
    ),
    "adjacency": _distance("bundle adjacency", "Bundle adjacency: mean distance to the other mask."),
    "brier": Metric(
        title="Brier score", description="Mean squared error of the probability near the reference.", better="lower"
    ),
    "calibration_error": Metric(
        title="calibration error",
        description="Expected calibration error of the probability near the reference.",
        better="lower",
    ),
}
"""Every metric that `shiftkit.analyses.scoring.study.score` knows, by name."""

PROBABILISTIC = ("brier", "calibration_error")
DEFAULT_METRICS = tuple(name for name in METRICS if name not in PROBABILISTIC)
PENALIZED = ("hd95", "assd", "adjacency")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A prediction against a reference: the status of the pair, and its metrics; see `compare`."""

    status: Status
    values: dict[str, float]
    n_false_positive: int


def compare(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Spacing,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance_mm: float = 3.0,
    penalty_mm: float = 100.0,
) -> Comparison:
    """Compute metrics, but those of probabilities, of one predicted mask.

    Both masks, of shape (X, Y, Z), lie on one grid with orthogonal axes; either may be empty. Values are NaN where the
    reference is empty. A prediction that is empty while the reference is not gets the value its formula gives, 0 where
    the formula is 0/0 (precision) or needs a skeleton or a surface (cldice, nsd), and the penalty where it is a
    distance, whatever the field of view. The tolerance is that of ``nsd``.

    Examples
    --------
    >>> a, b = np.zeros((8, 8, 8), dtype=bool), np.zeros((8, 8, 8), dtype=bool)
    >>> a[2:6, 2:6, 2:6] = b[3:7, 2:6, 2:6] = True
    >>> compare(a, b, (2.0, 2.0, 2.0), metrics=("dice", "hd95")).values
    {'dice': 0.75, 'hd95': 2.0}
    >>> compare(np.zeros_like(b), b, (2.0, 2.0, 2.0), metrics=("dice", "hd95"))
    Comparison(status=<Status.MISSED: 'missed'>, values={'dice': 0.0, 'hd95': 100.0}, n_false_positive=0)
    """
    pair = MaskPair.of(prediction, reference, spacing_mm)
    n_false_positive = pair.n_prediction - pair.n_hit
    if not pair.n_reference:
        status = Status.REFERENCE_ABSENT if pair.n_prediction else Status.BOTH_ABSENT
        values = dict.fromkeys(metrics, float("nan"))
    elif not pair.n_prediction:
        status = Status.MISSED
        values = {name: penalty_mm if name in PENALIZED else 0.0 for name in metrics}
    else:
        status = Status.OK
        values = {name: _value(name, pair, tolerance_mm) for name in metrics}
    return Comparison(status=status, values=values, n_false_positive=n_false_positive)


def compile_kernels(metrics: Sequence[str]) -> None:
    """Compile what the metrics and distances to tumors need, or load it, before processes are started.

    Numba keeps what it compiled on disk. Without this every process of a first run would compile the same.
    """
    one = np.zeros((3, 3, 3), dtype=bool)
    one[1, 1, 1] = True
    distance_to(one, (1.0, 1.0, 1.0))
    compare(one, one, (1.0, 1.0, 1.0), metrics=[name for name in metrics if name not in PROBABILISTIC])


def _value(name: str, pair: MaskPair, tolerance_mm: float) -> float:
    match name:
        case "sensitivity" | "volume_overlap":
            return pair.n_hit / pair.n_reference
        case "precision":
            return pair.n_hit / pair.n_prediction
        case "volume_overreach":
            return (pair.n_prediction - pair.n_hit) / pair.n_reference
        case "volume_similarity":
            return 1 - abs(pair.n_prediction - pair.n_reference) / (pair.n_prediction + pair.n_reference)
        case "nsd":
            return pair.nsd(tolerance_mm)
        case _:
            return float(getattr(pair, name))


def compare_probability(
    probability: NDArray[Any], reference: Mask, spacing_mm: Spacing, *, margin_mm: float = 10.0, bins: int = 15
) -> dict[str, float]:
    r"""Brier score and expected calibration error of voxel-wise probabilities.

    Both are taken over the voxels within ``margin_mm`` of the reference: a region that the prediction does not
    choose, and that does not grow with the field of view, whose easy background would hide every error.

    The calibration error is :math:`\sum_k \frac{n_k}{n} |\bar p_k - \bar y_k|` over bins of equal width (Guo et al.,
    arXiv:1706.04599). Arrays have shape (X, Y, Z), and the reference is not empty.

    Examples
    --------
    >>> reference = np.zeros((4, 4, 4), dtype=bool)
    >>> reference[:2] = True
    >>> compare_probability(np.full((4, 4, 4), 0.25), reference, (1.0, 1.0, 1.0))
    {'brier': 0.3125, 'calibration_error': 0.25}
    """
    margin = np.ceil(margin_mm / np.array(spacing_mm)).astype(int)
    inside = np.argwhere(reference)
    low, high = np.maximum(inside.min(axis=0) - margin, 0), inside.max(axis=0) + margin + 1
    # Nothing outside of this box is near, and a distance map of the whole image would cost most of the time.
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    truth = reference[box]
    near = within(distance_to(truth, spacing_mm), margin_mm, spacing_mm)
    p, y = probability[box][near].astype(np.float64), truth[near].astype(np.float64)
    which = np.minimum((p * bins).astype(int), bins - 1)  # a probability of 1 belongs to the last bin
    gaps = np.abs(np.bincount(which, weights=p - y, minlength=bins))
    return {"brier": float(np.mean((p - y) ** 2)), "calibration_error": float(gaps.sum() / p.size)}
