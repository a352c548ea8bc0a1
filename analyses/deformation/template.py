"""A bundle as healthy people have it: the mean of their rigidly aligned masks, and its course."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ...geometry import largest_piece, positions_along
from ...status import Status
from ...types import Volume
from .registration import Array, Lattice, Surface, align, redrawn

N_POINTS = 32
"""Points along a bundle's course, as the study has them (PAPER.md)."""
_ROUNDS = 2
SMALLEST_VOXELS = 20
SMALLEST_SHARE = 0.1
"""Of the healthy volume."""
LARGEST_PART = 0.8
"""Of the mask: a bundle of which a larger share lies apart is not one course."""


@dataclass(frozen=True, kw_only=True)
class BundleTemplate:
    """The bundle that others are brought to, such as the healthy one; made with `Controls.template`.

    Parameters
    ----------
    mask : Volume
        Boolean, on a lattice of half the working spacing.
    surface : Surface
        Of the mask.
    skeleton_mm : ndarray, shape (32, 3)
        Middles of sections, evenly along the bundle, in world mm; from the posterior, inferior or lateral end.
    n_controls : int
        Controls behind it.
    lost : Surface or None
        Where the mask says nothing, because a tumor may have destroyed the bundle.
    """

    mask: Volume
    surface: Surface
    skeleton_mm: Array
    n_controls: int
    lost: Surface | None = None

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return float(self.mask.array.sum()) * self.mask.voxel_volume_ml

    def nearest_point(self, points_mm: Array) -> NDArray[np.intp]:
        """Index of the skeleton's nearest point for world points, shape (N, 3)."""
        return np.asarray(KDTree(self.skeleton_mm).query(points_mm)[1])


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Controls' masks of one bundle, aligned to their mean; made with `of`.

    Parameters
    ----------
    names : tuple of str
        Keys of the controls.
    shares : ndarray, shape (controls, X, Y, Z)
        How much of each lattice point's neighborhood is inside, 0–1.
    lattice : Lattice
        Where.
    """

    names: tuple[str, ...]
    shares: NDArray[np.float16]
    lattice: Lattice

    @classmethod
    def of(cls, masks: Mapping[str, Volume], spacing_mm: float = 2.0) -> "Controls":
        """Align masks, at least one, to their mean, in two rounds from where they lie in their common space.

        The template lies where the controls' bundles lie on average, so a participant's rigid part is a position in
        their common space.
        """
        surfaces = [Surface.of(mask) for mask in masks.values()]
        fine = spacing_mm / 2
        lattice = Lattice.around(np.concatenate([one.inside_points() for one in surfaces]), fine, 8.0)
        here = lattice.points()
        made = cls(
            names=tuple(masks), shares=np.stack([one.share(here, spacing_mm) for one in surfaces]), lattice=lattice
        )
        drawn = [redrawn(one, fine) for one in surfaces]
        # The mean that masks are aligned to is sharper once they are aligned.
        for _ in range(_ROUNDS):
            mean = Surface.of(made.mean_mask())
            motions = [align(mean, one, spacing_mm) for one in drawn]
            moved = [one.share(by.forward(here), spacing_mm) for one, by in zip(surfaces, motions, strict=True)]
            made = replace(made, shares=np.stack(moved))
        return made

    def mean_mask(self, without: str | None = None) -> Volume:
        """The points that most controls share, as many as a control has on average; ``without`` leaves one out."""
        kept = [index for index, name in enumerate(self.names) if name != without]
        # A share of one half can make the template thinner than anybody's bundle where courses differ, so the
        # threshold is the one that gives it their mean volume.
        total = self.shares[kept].sum(axis=0, dtype=np.float64)
        size = max(round(float((self.shares[kept] >= 0.5).sum()) / len(kept)), 1)
        threshold = np.partition(total.ravel(), -size)[-size]
        # Never a point that nobody has, however many points share the threshold.
        return Volume(array=total >= max(float(threshold), 1e-6), affine=self.lattice.affine)

    @cached_property
    def skeleton_mm(self) -> Array:
        """Skeleton of all controls' template; controls' own templates share it, so that points mean the same."""
        whole = self.mean_mask()
        # Every other point suffices for middles of sections and leaves an eighth of the voxels to walk along.
        affine = whole.affine @ np.diag([2.0, 2, 2, 1])
        coarse = Volume(array=whole.array[::2, ::2, ::2], affine=affine)
        return skeleton_of(coarse if coarse.array.any() else whole)

    def template(self, without: str | None = None) -> BundleTemplate:
        """The template of all controls or, for a control's own value, of all others."""
        mask = self.mean_mask(without)
        return BundleTemplate(
            mask=mask,
            surface=Surface.of(mask),
            skeleton_mm=self.skeleton_mm,
            n_controls=len(self.names) - (without in self.names),
        )


def skeleton_of(mask: Volume, n_points: int = N_POINTS) -> Array:
    """Points along a mask: the middle of each of its sections of equal geodesic length.

    Parameters
    ----------
    mask : Volume
        Boolean, at least one voxel.
    n_points : int
        Points.

    Returns
    -------
    ndarray, shape (n_points, 3)
        World mm, in the order of `shiftkit.geometry.positions_along`; sections without a voxel are
        interpolated.

    Examples
    --------
    >>> array = np.zeros((3, 64, 3), dtype=bool)
    >>> array[1] = True
    >>> skeleton_of(Volume(array=array, affine=np.eye(4)), 4).tolist()
    [[1.0, 7.5, 1.0], [1.0, 23.5, 1.0], [1.0, 39.5, 1.0], [1.0, 55.5, 1.0]]
    """
    voxels = np.argwhere(mask.array)
    along = positions_along(mask)
    section = np.minimum((along * n_points).astype(int), n_points - 1)
    held = np.unique(section)
    middles = np.stack([voxels[section == index].mean(axis=0) for index in held])
    places = mask.world(middles)
    wanted = np.arange(n_points)
    return np.stack([np.interp(wanted, held, places[:, axis]) for axis in range(3)], axis=-1)


def outside_of_use(mask: Volume, usual_ml: float) -> str | None:
    """Why a mask is no measure of the whole bundle: ``empty``, ``too_small`` or ``disconnected``; None if it is one.

    Parameters
    ----------
    mask : Volume
        Boolean.
    usual_ml : float
        Volume of the healthy bundle.
    """
    n = int(mask.array.sum())
    if not n:
        return Status.EMPTY
    if n < SMALLEST_VOXELS or n * mask.voxel_volume_ml < SMALLEST_SHARE * usual_ml:
        return Status.TOO_SMALL
    return Status.DISCONNECTED if largest_piece(mask.array).sum() < LARGEST_PART * n else None


def controls_of(masks: Sequence[tuple[str, Volume]], spacing_mm: float) -> Controls:
    """The controls whose masks can be used, aligned; the usual volume is the median of those that are not empty."""
    # The median, which a few fragments among the masks do not move.
    volumes = [mask.array.sum() * mask.voxel_volume_ml for _, mask in masks if mask.array.any()]
    usual_ml = float(np.median(volumes)) if volumes else 0.0
    return Controls.of({name: mask for name, mask in masks if outside_of_use(mask, usual_ml) is None}, spacing_mm)
