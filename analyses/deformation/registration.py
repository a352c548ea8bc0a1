"""Two masks brought together: a rigid part, which is position, and a diffeomorphism, which is deformation.

Masks enter as signed distances to their surface, sampled on a lattice of the world. A signed distance is continuous,
so the result does not depend on the voxels that a mask happened to be drawn on, and the difference of two of them is
itself in millimeters: how far the surfaces are apart.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from dipy.align import VerbosityLevels
from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
from dipy.align.metrics import SSDMetric
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from ...distances import distance_to
from ...errors import DataError
from ...types import Volume

Array = NDArray[np.float64]
Field = NDArray[np.float32]

REACH_MM = 10.0
"""Beyond this distance from a surface nothing pulls: what is farther apart is no displacement of the same surface."""
NO_EVIDENCE_MM = 3.0
"""Up to this distance from what is destroyed, a signed distance may be that to a surface the tumor made."""
MARGIN_MM = 16.0
"""Free space around the masks: SyN holds the border of its grid still."""
_SMOOTH_MM = 1.0  # of signed distances, the same whatever the voxels: it takes their corners away
_OFFSET_MM = 0.25  # off the faces of voxels of whole millimeters, where rounding would tell inside from outside
_BAND_MM = 6.0  # rigid alignment compares points up to this far from either surface
_POINTS = 4000  # about as many of them are compared, evenly thinned
_AT_REST = 0.03  # weight that holds a motion to no rotation where surfaces do not tell
_STEP_MM = 0.2  # of the central differences that make the Jacobian
_LARGE_MM = 0.5  # from here on a difference counts by its size, not its square
_ITERATIONS = (60, 40, 25)  # at most so many steps of SyN a level, from coarse to fine
_STEP_SMOOTH = 4.0  # Gaussian smoothing of SyN's steps, in voxels of the current level
_LONGEST_STEP = 0.25  # in voxels of the current level
_ENOUGH_MM = 0.01  # steps that are shorter no longer change the result


@dataclass(frozen=True, kw_only=True)
class Lattice:
    """A box of world points, axes along the world's.

    Points of one spacing are the same in every lattice, and every other one is a point of twice the spacing, so nothing
    is interpolated between lattices. ``low`` is the first point, in steps of the spacing from `_OFFSET_MM`.
    """

    low: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing_mm: float

    @classmethod
    def around(cls, points_mm: Array, spacing_mm: float, margin_mm: float) -> "Lattice":
        """The smallest lattice that holds points, shape (N, 3), and a margin."""
        low = np.floor((points_mm.min(axis=0) - margin_mm - _OFFSET_MM) / spacing_mm).astype(int)
        high = np.ceil((points_mm.max(axis=0) + margin_mm - _OFFSET_MM) / spacing_mm).astype(int)
        x, y, z = (int(n) for n in high - low + 1)
        return cls(low=(int(low[0]), int(low[1]), int(low[2])), shape=(x, y, z), spacing_mm=spacing_mm)

    @property
    def affine(self) -> Array:
        """From indices to world mm."""
        affine = np.diag([self.spacing_mm] * 3 + [1.0])
        affine[:3, 3] = np.array(self.low) * self.spacing_mm + _OFFSET_MM
        return affine

    def points(self) -> Array:
        """World coordinates of all points, shape (X, Y, Z, 3) in mm."""
        axes = [
            (low + np.arange(n)) * self.spacing_mm + _OFFSET_MM for low, n in zip(self.low, self.shape, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A mask as the signed distance to its surface, negative inside, at most `REACH_MM`, as beyond the array."""

    distance_mm: Volume

    @classmethod
    def of(cls, mask: Volume) -> "Surface":
        """Take the surface of a boolean mask with at least one voxel and orthogonal axes."""
        spacing = np.array(mask.spacing_mm)
        # Room for the distance to reach its limit and for the filter, so that beyond the array it is the limit.
        pad = np.ceil((REACH_MM + 4 * _SMOOTH_MM) / spacing).astype(int) + 1
        voxels = np.argwhere(mask.array)
        low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
        inside = mask.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        inside = np.pad(inside, [(int(n), int(n)) for n in pad])
        # Centers of voxels on either side lie half a voxel from the face between them.
        half = float(spacing.mean()) / 2
        within, beyond = half - distance_to(~inside, mask.spacing_mm), distance_to(inside, mask.spacing_mm) - half
        signed = np.where(inside, within, beyond)
        smooth = ndimage.gaussian_filter(np.clip(signed, None, REACH_MM), _SMOOTH_MM / spacing, mode="nearest")
        affine = mask.affine.copy()
        affine[:3, 3] = mask.world(low - pad)
        return cls(distance_mm=Volume(array=smooth.astype(np.float32), affine=affine))

    def at(self, points_mm: Array) -> Array:
        """Signed distance at world points, shape (..., 3); shape (...)."""
        index = np.moveaxis(self.distance_mm.voxels(points_mm), -1, 0)
        # Rounded, so that a point that is a voxel's center but for the arithmetic takes that voxel's value exactly.
        return ndimage.map_coordinates(
            self.distance_mm.array, np.round(index, 6), output=np.float64, order=1, mode="constant", cval=REACH_MM
        )

    def share(self, points_mm: Array, width_mm: float) -> NDArray[np.float16]:
        """Share of the neighborhood of points that lies inside: 0.5 on the surface, 1 half a width within."""
        return np.clip(0.5 - self.at(points_mm) / width_mm, 0, 1).astype(np.float16)

    def inside_points(self) -> Array:
        """World coordinates of the voxel centers inside, shape (N, 3) in mm."""
        return self.distance_mm.world(np.argwhere(self.distance_mm.array < 0))


def redrawn(surface: Surface, spacing_mm: float, motion: "Rigid | None" = None) -> Surface:
    """The surface of the mask that a surface makes on a lattice, moved back by a rigid motion.

    A template is drawn on a lattice and has the corners of its voxels; what is compared with it must have them too.
    """
    inside = surface.inside_points()
    lattice = Lattice.around(inside if motion is None else motion.backward(inside), spacing_mm, 4 * spacing_mm)
    points = lattice.points()
    held = surface.share(points if motion is None else motion.forward(points), 2 * spacing_mm) >= 0.5
    return Surface.of(Volume(array=held, affine=lattice.affine))


@dataclass(frozen=True, kw_only=True)
class Rigid:
    """A rotation about a center and a translation: ``y = R (x − center) + center + translation``."""

    rotation: Array
    center_mm: Array
    translation_mm: Array

    @property
    def distance_mm(self) -> float:
        """Length of the translation: how far the center is moved."""
        return float(np.linalg.norm(self.translation_mm))

    @property
    def angle_deg(self) -> float:
        """Angle of the rotation."""
        return float(np.degrees(Rotation.from_matrix(self.rotation).magnitude()))

    def forward(self, points_mm: Array) -> Array:
        """Carry points, shape (..., 3)."""
        return (points_mm - self.center_mm) @ self.rotation.T + self.center_mm + self.translation_mm

    def backward(self, points_mm: Array) -> Array:
        """Carry points back."""
        return (points_mm - self.center_mm - self.translation_mm) @ self.rotation + self.center_mm


def align(
    fixed: Surface,
    moving: Surface,
    spacing_mm: float = 2.0,
    lost: Surface | None = None,
    lost_in_fixed: Surface | None = None,
) -> Rigid:
    """The rigid motion that carries points of ``fixed`` to where ``moving`` has them.

    The difference of signed distances near both surfaces is made small; beyond half a millimeter it counts by its
    size, not its square (soft L1), so that a stretch that a tumor has pushed away does not drag the rest along.
    Identical surfaces give exactly no motion; a mask too thin to have an inside is a `DataError`. ``lost`` and
    ``lost_in_fixed`` are where ``moving`` and ``fixed`` say nothing, each in its own space; see `NO_EVIDENCE_MM`.
    """
    inside, moved = fixed.inside_points(), moving.inside_points()
    if not len(inside) or not len(moved):
        raise DataError(
            "A mask must be more than a voxel thick to be aligned; smoothed by 1 mm nothing is left of this one. Maps "
            "of streamline counts have holes: close them first."
        )
    center = inside.mean(axis=0)
    shift = moved.mean(axis=0) - center
    gone = lost, lost_in_fixed
    # The fit is local: from where the masks lie, which a common space makes near, and from center upon center.
    fits = [_fit(fixed, moving, gone, center, start, spacing_mm) for start in (np.zeros(3), shift)]
    return min(fits, key=lambda fit: fit[0])[1]


def _fit(
    fixed: Surface,
    moving: Surface,
    gone: tuple[Surface | None, Surface | None],
    center: Array,
    start: Array,
    spacing_mm: float,
) -> tuple[float, Rigid]:
    reach = np.concatenate([fixed.inside_points(), moving.inside_points() - start])
    points = Lattice.around(reach, spacing_mm, _BAND_MM).points().reshape(-1, 3)
    there, here = fixed.at(points), moving.at(points + start)
    compared = np.minimum(np.abs(there), np.abs(here)) < _BAND_MM
    for lost, place in zip(gone, (points + start, points), strict=True):
        if lost is not None:
            compared &= lost.at(place) > NO_EVIDENCE_MM
    near = np.flatnonzero(compared)
    near = near[:: max(near.size // _POINTS, 1)]
    points, there = points[near], there[near]

    def motion(parameters: Array) -> Rigid:
        # Millimeters at 30 mm from the center, so that angles and shifts are of one size.
        rotation = Rotation.from_rotvec(parameters[:3] / 30).as_matrix()
        return Rigid(rotation=rotation, center_mm=center, translation_mm=parameters[3:])

    def difference(parameters: Array) -> Array:
        apart = moving.at(motion(parameters).forward(points)) - there
        # A straight, round bundle looks the same however it is rolled: of equal fits, the one that turns least.
        # Once a point, so that the loss does not take it for one outlier.
        return np.concatenate([apart, np.repeat(_AT_REST * parameters[:3], len(points))])

    def slope(parameters: Array) -> Array:
        steps = _STEP_MM * np.eye(6)
        columns = [difference(parameters + step) - difference(parameters - step) for step in steps]
        return np.stack(columns, axis=-1) / (2 * _STEP_MM)

    first = np.concatenate([np.zeros(3), start])
    # Alike to the bit: the optimizer would still take a step, and a mask against itself must not move.
    if not difference(first).any():
        return 0.0, motion(first)
    found: Any = optimize.least_squares(
        difference, first, jac=cast(Any, slope), loss="soft_l1", f_scale=_LARGE_MM, xtol=1e-4, ftol=1e-6, max_nfev=50
    )
    return float(found.cost), motion(np.asarray(found.x))


@dataclass(frozen=True, kw_only=True)
class Deformation:
    """A diffeomorphism between two surfaces on one lattice, ``fixed`` and ``moving``.

    ``x + to_moving(x)`` carries a point of the fixed surface to the moving one, ``to_fixed`` the other way; both have
    shape (X, Y, Z, 3), in mm.
    """

    lattice: Lattice
    to_moving: Field
    to_fixed: Field

    def displacement(self, points_mm: Array, towards: str) -> Array:
        """Displacement at world points, shape (N, 3); ``towards`` is ``fixed`` or ``moving``; shape (N, 3) in mm."""
        field = self.to_fixed if towards == "fixed" else self.to_moving
        index = ((points_mm - _OFFSET_MM) / self.lattice.spacing_mm - np.array(self.lattice.low)).T
        return np.stack([ndimage.map_coordinates(field[..., c], index, order=1, mode="nearest") for c in range(3)], -1)

    def jacobian(self, towards: str) -> Array:
        """Determinant of the Jacobian at the lattice's points, shape (X, Y, Z): volume there over volume here."""
        field = self.to_fixed if towards == "fixed" else self.to_moving
        step = self.lattice.spacing_mm
        # A point x goes to x + u(x), so the Jacobian is the identity and the gradient of u.
        gradient = np.stack([np.gradient(field, step, axis=axis) for axis in range(3)], axis=-1)
        return np.linalg.det(np.eye(3) + gradient)


class Cost(SSDMetric):
    """Squared differences weighted by the moving image's voxels, which remember how long a step they ask for."""

    def __init__(self, weight: NDArray[Any] | None) -> None:
        super().__init__(3, smooth=_STEP_SMOOTH)  # pyright: ignore[reportArgumentType] # any number smooths
        self.weight = weight
        self.warped_weight: Any = None
        self.step = 0.0

    def use_moving_image_dynamics(self, original_moving_image: Any, transformation: Any) -> None:
        """Carry the weight to where the moving image is now."""
        if self.weight is not None:
            grid = {"out_shape": self.moving_image.shape, "out_grid2world": self.moving_affine}
            self.warped_weight = np.asarray(transformation.transform(self.weight, **grid))

    def compute_demons_step(self, *, forward_step: bool = True) -> Any:
        """The demons' step, none where the weight is 0."""
        kept = self.static_image, self.moving_image
        if self.warped_weight is not None:
            # Where the weight is 0 both images get their mean: without a difference nothing pulls.
            difference = (self.moving_image - self.static_image) * (1 - self.warped_weight)
            self.static_image, self.moving_image = kept[0] + difference / 2, kept[1] - difference / 2
        step = super().compute_demons_step(forward_step=forward_step)
        self.static_image, self.moving_image = kept
        self.step = float(np.sqrt((step**2).sum(axis=-1).max()) / np.mean(np.asarray(self.static_spacing, dtype=float)))
        return step


class Registration(SymmetricDiffeomorphicRegistration):
    """SyN that takes a short step where the cost asks for a short one.

    DIPY scales every step to the same length, so that close to the solution it moves back and forth and even a small
    difference moves things; the demons' own step is a distance and needs no scaling.
    """

    @property
    def step_length(self) -> float:
        """Length of the step that is to be taken, in voxels."""
        step = self.metric.step
        return min(step, _LONGEST_STEP) if step * self.metric.static_spacing.mean() > _ENOUGH_MM else 0.0

    @step_length.setter
    def step_length(self, value: float) -> None:
        """The cost says how long a step is."""


def deform_onto(
    fixed: NDArray[np.floating[Any]],
    moving: NDArray[np.floating[Any]],
    lattice: Lattice,
    weight: NDArray[np.floating[Any]] | None = None,
) -> Deformation:
    """SyN of two signed distances in mm on a lattice; ``weight`` is 0 where ``moving`` says nothing, else 1.

    References
    ----------
    Avants BB et al. Med Image Anal 12:26 (2008), doi 10.1016/j.media.2007.06.004; Vercauteren T et al. NeuroImage
    45:S61 (2009), doi 10.1016/j.neuroimage.2008.10.040; Garyfallidis E et al. Front Neuroinform 8:8 (2014),
    doi 10.3389/fninf.2014.00008.
    """
    engine = Registration(Cost(weight), level_iters=list(_ITERATIONS), opt_tol=1e-6, inv_iter=20)
    engine.verbosity = VerbosityLevels.NONE  # pyright: ignore[reportAttributeAccessIssue]
    grid = lattice.affine
    found = engine.optimize(fixed, moving, static_grid2world=grid, moving_grid2world=grid)
    forward, backward = np.asarray(found.get_forward_field()), np.asarray(found.get_backward_field())
    return Deformation(lattice=lattice, to_moving=forward, to_fixed=backward)
