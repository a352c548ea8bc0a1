"""Distances between the surfaces of two masks, voxel to voxel, in millimetres."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SurfaceDistances:
    """Distances in mm from each surface voxel of one mask to the nearest surface voxel of the other.

    A surface voxel is a voxel of the mask with at least one of its six face neighbors outside of it; what is
    beyond the border of the image counts as outside.
    """

    from_prediction: NDArray[np.float64]
    from_reference: NDArray[np.float64]

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles."""
        return float(max(np.quantile(self.from_prediction, 0.95), np.quantile(self.from_reference, 0.95)))

    @property
    def assd(self) -> float:
        """Mean over the surface voxels of both masks together."""
        total = self.from_prediction.sum() + self.from_reference.sum()
        return float(total / (self.from_prediction.size + self.from_reference.size))

    def nsd(self, tolerance_mm: float) -> float:
        """Share of the surface voxels of both masks that lie within the tolerance."""
        near = np.count_nonzero(self.from_prediction <= tolerance_mm)
        near += np.count_nonzero(self.from_reference <= tolerance_mm)
        return float(near / (self.from_prediction.size + self.from_reference.size))


def surface_distances(prediction: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> SurfaceDistances:
    """Measure both directions between two masks of the same shape, none of them empty."""
    box = tuple(ndimage.find_objects((prediction | reference).astype(np.uint8))[0])
    edges = [_surface(np.ascontiguousarray(mask[box])) for mask in (prediction, reference)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return SurfaceDistances(from_prediction=maps[1][edges[0]], from_reference=maps[0][edges[1]])  # type: ignore[index]


def _surface(mask: Mask) -> Mask:
    return mask & ~ndimage.binary_erosion(mask)
