"""Two masks on one grid: what they share, and how far apart their surfaces lie.

Both masks are looked at once. What follows works in their common bounding box, where one byte a voxel says
which mask, and which mask's surface, it belongs to. The nearest surface voxel is found by trying offsets in the
order of their length, so the first hit is the nearest one, exactly; the few voxels without a hit within reach go
to a k-d tree.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ...distances import within
from .skeleton import center_line

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

PREDICTION, REFERENCE = np.uint8(1), np.uint8(2)
_SURFACE = np.uint8(4)  # a mask's own bit times this marks its surface
_REACH = 6  # voxels; farther neighbors are rare, and cheaper to find in a tree


@dataclass(frozen=True, kw_only=True)
class MaskPair:
    """A predicted and a reference mask in their common bounding box; made with `of`.

    Parameters
    ----------
    code : ndarray of uint8, shape (X, Y, Z)
        Per voxel: 1 where predicted, plus 2 where in the reference, plus 4 and 8 on the surface of either;
        padded by 6 empty voxels on every side. Its axes may run in another order than the image's.
    surfaces : tuple of ndarray of int, shapes (P,) and (R,)
        Surface voxels of the prediction and of the reference, as flat indices into ``code``.
    spacing_mm : tuple of float
        Edge lengths of a voxel along the axes of ``code``; the axes are orthogonal.
    n_prediction, n_reference, n_hit : int
        Voxels of each mask, and of both.

    Notes
    -----
    A surface voxel is a voxel of the mask with at least one of its six face neighbors outside of the mask; what
    lies beyond the border of the image counts as outside. Distances go from center to center. This is the
    definition of MONAI's surface metrics. Where others place the surface between the voxels and weigh it by area
    ("surfels", DeepMind's surface-distance), values differ by up to about one voxel; they are not offered here.

    Examples
    --------
    >>> a, b = np.zeros((9, 9, 9), dtype=bool), np.zeros((9, 9, 9), dtype=bool)
    >>> a[2:6, 2:6, 2:6] = b[3:7, 2:6, 2:6] = True
    >>> pair = MaskPair.of(a, b, (2.0, 1.0, 1.0))
    >>> pair.dice, pair.hd95, pair.nsd(1.5)
    (0.75, 2.0, 0.7142857142857143)
    """

    code: NDArray[np.uint8]
    surfaces: tuple[NDArray[np.intp], NDArray[np.intp]]
    spacing_mm: Spacing
    n_prediction: int
    n_reference: int
    n_hit: int

    @classmethod
    def of(cls, prediction: Mask, reference: Mask, spacing_mm: Spacing) -> "MaskPair":
        """Look at two masks of one shape, (X, Y, Z); either may be empty."""
        if prediction.shape != reference.shape:
            raise ValueError(f"Both masks must have one shape; got {prediction.shape} and {reference.shape}.")
        # NIfTI stores x fastest: turned round, the kernels read memory in its own order, and nothing is copied.
        if prediction.flags.f_contiguous and reference.flags.f_contiguous:
            prediction, reference, spacing_mm = prediction.T, reference.T, (spacing_mm[2], spacing_mm[1], spacing_mm[0])
        p = np.ascontiguousarray(prediction).view(np.uint8)
        r = np.ascontiguousarray(reference).view(np.uint8)
        box = np.array([p.shape, (0, 0, 0)])
        n_prediction, n_reference, n_hit = _bounding_box(p, r, p.reshape(len(p), -1), r.reshape(len(r), -1), box)
        low, high = np.minimum(box[0], box[1]), box[1]  # without any voxel the box is empty
        code = np.zeros(high - low + 2 * _REACH, dtype=np.uint8)
        _paint(p, r, low, high, code, _REACH)
        # A mask has no more surface voxels than voxels; what is not filled is cut off.
        of_p, of_r = np.empty(n_prediction, dtype=np.intp), np.empty(n_reference, dtype=np.intp)
        n_of_p, n_of_r = _mark_surfaces(code, _REACH, of_p, of_r)
        return cls(
            code=code,
            surfaces=(of_p[:n_of_p].copy(), of_r[:n_of_r].copy()),
            spacing_mm=spacing_mm,
            n_prediction=n_prediction,
            n_reference=n_reference,
            n_hit=n_hit,
        )

    @property
    def dice(self) -> float:
        """Twice the shared volume over the sum of both volumes."""
        return 2 * self.n_hit / (self.n_prediction + self.n_reference)

    @cached_property
    def surface_distances_mm(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From each surface voxel of the prediction to the reference's surface, and the other way."""
        return self._nearest(self.surfaces[0], REFERENCE), self._nearest(self.surfaces[1], PREDICTION)

    @property
    def hd95(self) -> float:
        """The larger of the two directed 95th percentiles, linearly interpolated.

        MONAI and Metrics Reloaded define it so. The percentile of the pooled distances, which some tools
        report, is smaller or equal: a large mask around a small one would hide the small one's distances.

        The rank of the percentile is computed in double precision. MONAI's is single, which shifts its values by up to
        2e-5 mm on masks of a few thousand surface voxels; from its own surface distances, with a percentile in double
        precision, the same values come to within 1e-6 mm.
        """
        return max(float(np.quantile(distances, 0.95)) for distances in self.surface_distances_mm)

    @property
    def assd(self) -> float:
        """Mean over the surface voxels of both masks together, as in MONAI and Metrics Reloaded.

        The mean of the two directed means (MASD) weighs the smaller surface more.
        """
        there, back = self.surface_distances_mm
        return float((there.sum() + back.sum()) / (there.size + back.size))

    def nsd(self, tolerance_mm: float) -> float:
        """Share of the surface voxels of both masks that lie within the tolerance (surface Dice)."""
        there, back = self.surface_distances_mm
        near = sum(np.count_nonzero(within(one, tolerance_mm, self.spacing_mm)) for one in (there, back))
        return float(near / (there.size + back.size))

    @property
    def adjacency(self) -> float:
        """Bundle adjacency: mean distance of a voxel to the other mask, averaged over both directions.

        All voxels count, with 0 where the masks overlap, so a few stray voxels weigh little.
        """
        total = 0.0
        for bit, other, size in ((PREDICTION, REFERENCE, self.n_prediction), (REFERENCE, PREDICTION, self.n_reference)):
            outside = np.flatnonzero((self.code & (PREDICTION | REFERENCE)) == bit)
            # Seen from outside, the nearest voxel of a mask is always one of its surface.
            total += float(self._nearest(outside, other).sum()) / size
        return total / 2

    @property
    def cldice(self) -> float:
        """Center-line Dice: the harmonic mean of the shares of each center line that lie in the other mask.

        As defined by Shit et al., doi:10.1109/CVPR46437.2021.01629; the lines are those of
        `shiftkit.analyses.scoring.skeleton.center_line`. Thin masks have one center line, thick and short ones do not:
        there the value depends on who thins. For the two thick figures S2.14 of Metrics Reloaded's tests,
        scikit-image's planar thinning gives 0.475 and 0.78, this one 0.457 and 0.951.
        """
        prediction, reference = (self.code & PREDICTION) > 0, (self.code & REFERENCE) > 0
        lines = center_line(prediction), center_line(reference)
        precision = np.count_nonzero(lines[0] & reference) / np.count_nonzero(lines[0])
        sensitivity = np.count_nonzero(lines[1] & prediction) / np.count_nonzero(lines[1])
        return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0

    def _nearest(self, voxels: NDArray[np.intp], target: np.uint8) -> NDArray[np.float64]:
        """Distance in mm of each voxel, a flat index into ``code``, to the surface of a mask."""
        steps, lengths = _offsets(self.spacing_mm)
        flat_steps = steps @ np.array([self.code.shape[1] * self.code.shape[2], self.code.shape[2], 1])
        distances = np.full(voxels.size, -1.0)
        _first_hit(self.code.ravel(), voxels, target * _SURFACE, flat_steps, lengths, distances)
        far = np.flatnonzero(distances < 0)  # nothing within reach
        if far.size:
            tree = KDTree(self._positions_mm(self.surfaces[0 if target == PREDICTION else 1]), balanced_tree=False)
            distances[far] = tree.query(self._positions_mm(voxels[far]))[0]
        return distances

    def _positions_mm(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        return np.stack(np.unravel_index(voxels, self.code.shape), axis=1).astype(np.float64) * self.spacing_mm


@lru_cache(maxsize=16)
def _offsets(spacing_mm: Spacing) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """All voxel offsets shorter than any that leaves the padding, by length."""
    one = np.arange(-_REACH, _REACH + 1)
    steps = np.stack(np.meshgrid(one, one, one, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.sqrt(((steps * np.array(spacing_mm)) ** 2).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    # Beyond this length an offset that is not in the list could be shorter.
    order = order[lengths[order] < (_REACH + 1) * min(spacing_mm)]
    return steps[order], lengths[order]


@njit(cache=True, nogil=True)
def _bounding_box(p: Any, r: Any, slices_p: Any, slices_r: Any, box: Any) -> Any:
    """Fill in the corners of the box around both masks; how many voxels the prediction, the reference and both have.

    Slices are the masks with the last two axes in one: most are empty, and left out as a whole. Arrays are made outside
    of compiled code, here and below, since what numpy offers in there takes seconds to compile.
    """
    n_x, n_y, n_z = p.shape
    low, high = box[0], box[1]
    n_p, n_r, n_both = 0, 0, 0
    for x in range(n_x):
        if not _any(slices_p[x], slices_r[x]):
            continue
        for y in range(n_y):
            row_p, row_r = p[x, y], r[x, y]
            if not _any(row_p, row_r):
                continue
            first, last = 0, n_z
            while row_p[first] | row_r[first] == 0:
                first += 1
            while row_p[last - 1] | row_r[last - 1] == 0:
                last -= 1
            low[0], high[0] = min(low[0], x), max(high[0], x + 1)
            low[1], high[1] = min(low[1], y), max(high[1], y + 1)
            low[2], high[2] = min(low[2], first), max(high[2], last)
            for z in range(first, last):
                n_p += row_p[z]
                n_r += row_r[z]
                n_both += row_p[z] & row_r[z]
    return n_p, n_r, n_both


@njit(cache=True, nogil=True)
def _any(p: Any, r: Any) -> bool:
    for start in range(0, p.size, 512):  # in blocks without a branch, so that each is a handful of vector instructions
        block_p, block_r = p[start : start + 512], r[start : start + 512]
        either = np.uint8(0)
        for i in range(block_p.size):
            either |= block_p[i] | block_r[i]
        if either:
            return True
    return False


@njit(cache=True, nogil=True)
def _paint(p: Any, r: Any, low: Any, high: Any, code: Any, pad: int) -> None:
    """Fill in the padded byte map of both masks."""
    n_z = high[2] - low[2]
    for x in range(high[0] - low[0]):
        for y in range(high[1] - low[1]):
            row_p = p[x + low[0], y + low[1], low[2] : high[2]]
            row_r = r[x + low[0], y + low[1], low[2] : high[2]]
            row = code[x + pad, y + pad, pad : pad + n_z]
            for z in range(n_z):
                row[z] = row_p[z] | (row_r[z] << 1)


@njit(cache=True, nogil=True)
def _mark_surfaces(code: Any, pad: int, of_p: Any, of_r: Any) -> Any:
    """Set the surface bits, and list the surface voxels of either mask as flat indices; how many those are."""
    n_x, n_y, n_z = code.shape
    found_p, found_r = 0, 0
    for x in range(pad, n_x - pad):
        for y in range(pad, n_y - pad):
            for z in range(pad, n_z - pad):
                here = code[x, y, z] & 3
                if here == 0:
                    continue
                around = code[x - 1, y, z] & code[x + 1, y, z] & code[x, y - 1, z]
                around &= code[x, y + 1, z] & code[x, y, z - 1] & code[x, y, z + 1]
                edge = here & ~around  # each mask's bit stays where one of the six neighbors lacks it
                code[x, y, z] = here | (edge << 2)
                if edge & 1:
                    of_p[found_p] = (x * n_y + y) * n_z + z
                    found_p += 1
                if edge & 2:
                    of_r[found_r] = (x * n_y + y) * n_z + z
                    found_r += 1
    return found_p, found_r


@njit(cache=True, nogil=True)
def _first_hit(code: Any, voxels: Any, target: Any, steps: Any, lengths: Any, distances: Any) -> None:
    """Fill in the length of the first offset from each voxel that leads to a target voxel; the others stay."""
    for i in range(voxels.size):
        for j in range(steps.size):
            if code[voxels[i] + steps[j]] & target:
                distances[i] = lengths[j]
                break
