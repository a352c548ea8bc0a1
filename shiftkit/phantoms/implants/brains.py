"""A healthy participant's brain: where it is, and how far from its edge, on any grid."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...distances import check_orthogonal, distance_to
from ...errors import DataError
from ...geometry import brain_of, largest_piece
from ...types import Volume
from ..warp import Array, interpolate

_FEWEST_ML = 100.0
"""A brain is larger: what is smaller is an image of something else, or an empty one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Brain:
    """Where a brain lies on its participant's grid.

    Parameters
    ----------
    mask : Volume
        Boolean; its axes are at right angles.
    """

    mask: Volume

    @cached_property
    def box_mm(self) -> tuple[Array, Array]:
        """Center and half the edges, in world mm, of the box around all but a hundredth of the brain."""
        # Some voxels outside, as masks of real images have, must not move the box.
        low, high = np.quantile(self.mask.points_inside(), [0.005, 0.995], axis=0)
        return (low + high) / 2, (high - low) / 2

    @cached_property
    def depth_mm(self) -> NDArray[np.float32]:
        """Distance of every voxel's center to the nearest center outside of the brain, shape (X, Y, Z); 0 outside."""
        outside = ~np.pad(self.mask.array, 1)  # what the image does not show is outside
        return distance_to(outside, self.mask.spacing_mm)[1:-1, 1:-1, 1:-1]

    def depth_at(self, points_mm: Array) -> Array:
        """`depth_mm` at points, shape (..., 3) in world mm."""
        return self.at(self.depth_mm, points_mm)

    def at(self, values: NDArray[np.float32], points_mm: Array) -> Array:
        """Linear interpolation of an image on this grid at points, shape (..., 3) in world mm; 0 outside."""
        voxels = self.mask.voxels(points_mm.reshape(-1, 3))
        found = interpolate(values[..., None], voxels, np.zeros(3), 1.0, zero_outside=True)
        return found.reshape(points_mm.shape[:-1])

    def place_of(self, point_mm: Array) -> Array:
        """A point as a share of the brain's box: 0 at its center, ±1 at its sides."""
        center, half = self.box_mm
        return (point_mm - center) / half

    def point_at(self, place: Array) -> Array:
        """The point of a `place_of`, in world mm."""
        center, half = self.box_mm
        return center + place * half


def find_brain(images: dict[str, Volume], where: str) -> Brain:
    """The brain of a participant, told from its images: where diffusion maps have signal, else the T1w.

    A `DataError` if there is too little signal for a brain, or the grid is sheared.
    """
    # A T1w may show the skull too, diffusion maps seldom do.
    maps = [one for name, one in sorted(images.items()) if name != "t1w"] or list(images.values())
    check_orthogonal(maps[0].affine, where)
    signal = np.zeros(maps[0].shape, dtype=bool)
    for one in maps:
        length = one.array if one.array.ndim == 3 else np.linalg.norm(one.array, axis=-1)
        signal |= brain_of(one.with_array(np.abs(length)), quantile=0.99)
    # Closed, for ventricles have no fibers and noise makes holes; padded, or closing would eat what touches the edge.
    closed = np.asarray(ndimage.binary_closing(np.pad(signal, 3), iterations=2), dtype=bool)[3:-3, 3:-3, 3:-3]
    found = Brain(mask=maps[0].with_array(np.asarray(ndimage.binary_fill_holes(largest_piece(closed)))))
    volume_ml = float(found.mask.array.sum()) * found.mask.voxel_volume_ml
    if volume_ml < _FEWEST_ML:
        raise DataError(
            f"A tumor is implanted into a brain, which the images must show; {where} has signal in {volume_ml:.0f} ml. "
            "Check that its images are not empty or cropped."
        )
    return found


TEMPLATE_BOX_MM = (np.array([0.0, -16.0, 7.4]), np.array([66.0, 82.0, 66.6]))
"""`Brain.box_mm` of the template's brain, in whose shares places in MNI mm are told."""


def place_in_template(point_mm: Array) -> Array:
    """A point in MNI mm as `Brain.place_of` has it."""
    center, half = TEMPLATE_BOX_MM
    return (point_mm - center) / half
