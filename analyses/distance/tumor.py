"""How far bundles are from the tumor, in millimetres from edge to edge."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...distances import Mask, check_orthogonal, edge_distance_map
from ...types import Bundle, Volume

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # each is a column of the score table


@dataclass(frozen=True, kw_only=True)
class Tumor:
    """A tumor mask; its distance map is made once, when first asked for, and used for every bundle.

    Parameters
    ----------
    mask : Volume
        Boolean, on the grid of the participant's reference masks; its axes are at right angles.
    """

    mask: Volume

    @classmethod
    def of(cls, mask: Volume, where: str = "the tumor mask") -> "Tumor":
        """Take a tumor mask, which errors call ``where``; a sheared affine is a `DataError`."""
        check_orthogonal(mask.affine, where)
        return cls(mask=mask)

    @cached_property
    def distance_mm(self) -> NDArray[np.float32] | None:
        """`edge_distance_map` of the mask, shape (X, Y, Z); None where the mask is empty."""
        return edge_distance_map(self.mask.array, self.mask.spacing_mm) if self.mask.array.any() else None

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return float(np.count_nonzero(self.mask.array)) * self.mask.voxel_volume_ml


def mid_sagittal_x(masks: Mapping[Bundle, Volume | None]) -> float:
    """Where the mid-sagittal plane crosses the world's x axis, in mm, told from bundles of both hemispheres.

    The mean, over the bundles that have a mask on both sides, of the point halfway between their centers of mass.
    0 without any such bundle, where images that are aligned to a template or to the commissures have the plane.
    """
    halfway: list[float] = []
    for bundle, mask in masks.items():
        other = masks.get(bundle.mirrored) if bundle.hemisphere == "left" else None  # each pair once
        if mask is not None and other is not None and mask.array.any() and other.array.any():
            halfway.append((_world_x(mask).mean() + _world_x(other).mean()) / 2)
    return float(np.mean(halfway)) if halfway else 0.0


def tumor_side(mask: Volume, midline_x_mm: float = 0.0, bilateral_share: float = 0.2) -> str:
    """The hemisphere a tumor lies in, told from its mask: ``left``, ``right`` or ``bilateral``, ``n/a`` if empty.

    The side is that of the center of mass, seen from the mid-sagittal plane of `mid_sagittal_x`. A tumor that crosses
    it, with at least ``bilateral_share`` of its volume on the other side, is bilateral.
    """
    x = _world_x(mask) - midline_x_mm
    if not x.size:
        return "n/a"
    if min(np.mean(x < 0), np.mean(x > 0)) >= bilateral_share:
        return "bilateral"
    return "left" if x.mean() < 0 else "right"


def _world_x(mask: Volume) -> NDArray[np.float64]:
    return mask.points_inside()[:, 0]


def side_of(hemisphere: str, tumor: str) -> str:
    """Where a bundle is relative to the tumor: ``ipsi``, ``contra``, ``bilateral`` or ``n/a``.

    ``n/a`` is for participants without a tumor and for bundles on the midline, which have no side;
    with a bilateral tumor every lateral bundle is ``bilateral``.

    Examples
    --------
    >>> side_of("left", "left"), side_of("right", "left"), side_of("right", "bilateral"), side_of("none", "left")
    ('ipsi', 'contra', 'bilateral', 'n/a')
    """
    if hemisphere not in ("left", "right") or tumor == "n/a":
        return "n/a"
    if tumor == "bilateral":
        return "bilateral"
    return "ipsi" if hemisphere == tumor else "contra"


@dataclass(frozen=True, kw_only=True)
class BundleDistance:
    """Where a reference bundle lies relative to a tumor; see `bundle_distance`.

    The smallest distance, 0 where they touch or overlap, the mean and the `QUANTILES` over the bundle's voxels, and the
    part of the bundle inside the tumor.
    """

    edge_mm: float
    mean_mm: float
    quantiles_mm: tuple[float, ...]
    overlap_ml: float


def bundle_distance(tumor: Tumor | None, bundle: Mask | None) -> BundleDistance:
    """Measure a reference bundle against a tumor on the same grid; NaN where either is absent or empty.

    It is the *reference* mask, shape (X, Y, Z): a distance to a prediction would depend on the outcome.
    """
    nan = float("nan")
    if tumor is None or tumor.distance_mm is None or bundle is None or not bundle.any():
        return BundleDistance(edge_mm=nan, mean_mm=nan, quantiles_mm=(nan,) * len(QUANTILES), overlap_ml=nan)
    distances = tumor.distance_mm[bundle].astype(np.float64)  # sums of thousands in single precision would drift
    return BundleDistance(
        edge_mm=float(distances.min()),
        mean_mm=float(distances.mean()),
        quantiles_mm=tuple(np.quantile(distances, QUANTILES).tolist()),
        overlap_ml=float(np.count_nonzero(tumor.mask.array[bundle])) * tumor.mask.voxel_volume_ml,
    )
