"""A bundle as healthy people have it: the mean of their rigidly aligned masks, and its course."""

from collections.abc import Mapping
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
SMALLEST_SHARE = 0.1  # of the healthy volume
LARGEST_PART = 0.8  # of the mask: where less of it hangs together, it is not one course


@dataclass(frozen=True, kw_only=True)
class BundleTemplate:
    """The bundle that others are brought to, such as the healthy one; made with `Controls.template`.

    The mask is on a lattice of half the working spacing. ``skeleton_mm``, shape (32, 3), has the middles of sections,
    evenly along the bundle in world mm, from the posterior, inferior or lateral end. ``lost`` is where the mask says
    nothing, because a tumor may have destroyed the bundle.
    """

    mask: Volume
    surface: Surface
    skeleton_mm: Array
    n_controls: int
    lost: Surface | None = None

    def nearest_point(self, points_mm: Array) -> NDArray[np.intp]:
        """Index of the skeleton's nearest point for world points, shape (N, 3)."""
        return np.asarray(KDTree(self.skeleton_mm).query(points_mm)[1])


@dataclass(frozen=True, kw_only=True)
class Controls:
    """Controls' masks of one bundle, aligned to their mean; made with `of`.

    ``shares``, shape (controls, X, Y, Z), say how much of each lattice point's neighborhood is inside, 0–1.
    """

    names: tuple[str, ...]
    shares: NDArray[np.float16]
    lattice: Lattice

    @classmethod
    def of(cls, masks: Mapping[str, Volume], spacing_mm: float = 2.0) -> "Controls":
        """Align masks, at least one, to their mean, in two rounds from where they lie in their common space."""
        surfaces = [Surface.of(mask) for mask in masks.values()]
        fine = spacing_mm / 2
        # The template lies where the controls' bundles do on average, so a rigid part is a position in their space.
        lattice = Lattice.around(np.concatenate([one.inside_points() for one in surfaces]), fine, 8.0)
        here = lattice.points()
        shares = np.stack([one.share(here, spacing_mm) for one in surfaces])
        made = cls(names=tuple(masks), shares=shares, lattice=lattice)
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
        mask, n = self.mean_mask(without), len(self.names) - (without in self.names)
        return BundleTemplate(mask=mask, surface=Surface.of(mask), skeleton_mm=self.skeleton_mm, n_controls=n)


def skeleton_of(mask: Volume, n_points: int = N_POINTS) -> Array:
    """Points along a mask: middles of each of its sections of equal geodesic length, shape (n_points, 3) in world mm.

    In the order of `shiftkit.geometry.positions_along`; sections without a voxel are interpolated.

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
    places = mask.world(np.stack([voxels[section == index].mean(axis=0) for index in held]))
    return np.stack([np.interp(np.arange(n_points), held, places[:, axis]) for axis in range(3)], axis=-1)


def outside_of_use(mask: Volume, usual_ml: float) -> str | None:
    """Why a mask is no measure of the whole bundle: ``empty``, ``too_small`` or ``disconnected``; None if it is one."""
    n = int(mask.array.sum())
    if not n:
        return Status.EMPTY
    # Of a handful of voxels or a fragment, displacement would say what is missing, not what has moved.
    if n < SMALLEST_VOXELS or n * mask.voxel_volume_ml < SMALLEST_SHARE * usual_ml:
        return Status.TOO_SMALL
    return Status.DISCONNECTED if largest_piece(mask.array).sum() < LARGEST_PART * n else None


def volume_ml(mask: Volume) -> float:
    """Volume of a mask."""
    return float(mask.array.sum()) * mask.voxel_volume_ml
