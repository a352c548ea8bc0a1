"""Places along a bundle that mean the same in every participant, whatever a tumor did to the bundle."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ...errors import DataError
from ...geometry import positions_along, resample, same_grid
from ...types import Bundle, Volume


@dataclass(frozen=True, kw_only=True)
class Places:
    """Sections along healthy bundles, looked up by position in the world; made with `of`.

    A patient's own mask cannot tell where along the bundle a voxel lies: with its middle destroyed, its ends are
    other ends. The healthy bundle can, as images lie in one common space. A voxel, of the reference or of the
    prediction, belongs to the section of the nearest voxel of the healthy bundle; a push sideways leaves it there.

    The trees hold the voxel centers of the healthy bundles in world mm, ``sections`` the section of each of them:
    ``n_sections`` a bundle, of equal geodesic length.
    """

    trees: Mapping[Bundle, KDTree]
    sections: Mapping[Bundle, NDArray[np.intp]]
    n_sections: int

    @classmethod
    def of(cls, masks: Mapping[Bundle, Iterable[Volume]], n_sections: int, where: str = "the controls") -> "Places":
        """Divide bundles into sections, from their masks in controls; see `healthy_bundle` and `positions_along`."""
        trees: dict[Bundle, KDTree] = {}
        sections: dict[Bundle, NDArray[np.intp]] = {}
        for bundle, of_controls in masks.items():
            mask = healthy_bundle(of_controls, bundle, where)
            trees[bundle] = KDTree(mask.points_inside())
            sections[bundle] = np.minimum((positions_along(mask) * n_sections).astype(np.intp), n_sections - 1)
        return cls(trees=trees, sections=sections, n_sections=n_sections)

    def section(self, bundle: Bundle, points_mm: NDArray[np.float64]) -> NDArray[np.intp]:
        """Section, from 0 on, of points in world mm, shape (N, 3)."""
        return self.sections[bundle][self.trees[bundle].query(points_mm)[1]]


def healthy_bundle(masks: Iterable[Volume], bundle: Bundle, where: str = "the controls") -> Volume:
    """The bundle as controls have it: the voxels that most of them share, as many as a control has on average.

    Their masks are in one common space; other grids are brought onto the first one's. A `DataError` where no control
    has the bundle, or their masks do not overlap.
    """
    total: NDArray[np.float64] | None = None
    grid: Volume | None = None
    n = 0
    for mask in masks:
        if not mask.array.any():
            continue
        if grid is None or total is None:
            grid, total = mask, np.zeros(mask.shape)
        elif not same_grid(mask, grid):
            mask = resample(mask.with_array(mask.array.astype(np.float32)), grid.affine, grid.shape)
        total += mask.array
        n += 1
    if grid is None or total is None:
        raise DataError(f"Places along {bundle} come from controls; none of {where} has a mask of it.")
    if n > 1 and total.max() < 1.5:  # resampled masks are fractions: two that meet need not add up to 2
        raise DataError(
            f"Places along {bundle} need controls in one common space; no two of the {n} controls of {where} "
            "have a voxel of it in common. Align the images with a template first."
        )
    # The threshold that keeps the average size: half of the controls would keep next to nothing of thin bundles.
    size = max(round(total.sum() / n), 1)
    threshold = np.partition(total.ravel(), -size)[-size]
    return grid.with_array(total >= max(threshold, 1e-6))
