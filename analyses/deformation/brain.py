"""How far the brain around a bundle is from the healthy one, by its T1w image and without the tumor's own signal.

Masks say how a bundle lies; the image says how everything lies, along bundles too. The tumor has no counterpart in a
healthy template, so it has no say: inside its mask the image is replaced by what is around it and takes no part in
the cost.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ...errors import DataError
from ...types import Volume
from .registration import Array, Deformation, Lattice, deform_onto

SPACING_MM = 3.0
"""Of the lattice on which images are compared."""
NO_EVIDENCE_MM = 3.0
"""Around the tumor's mask: there its signal fades."""
BRAIN_ML = (600.0, 2500.0)
"""Volume of what can be a brain without its skull."""
_WIDTH_MM = 15.0
_BACKGROUND = -1.5
_BLUR_MM = SPACING_MM / 2
_SMOOTH = 3.0
_ITERATIONS = (60, 40, 25)
_TRACE = 0.05
SETTINGS = (SPACING_MM, NO_EVIDENCE_MM, BRAIN_ML, _WIDTH_MM, _BACKGROUND, _BLUR_MM, _SMOOTH, _ITERATIONS, _TRACE)
"""What a result depends on besides its input and the template."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """The healthy brain: the MNI152 T1w template, locally normalized; made with `load_template`.

    Parameters
    ----------
    image : ndarray, shape (X, Y, Z)
        On the lattice.
    brain : ndarray of bool, shape (X, Y, Z)
    lattice : Lattice
    """

    image: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lattice: Lattice


@dataclass(frozen=True, kw_only=True)
class ImageDeformation:
    """From a participant to the template: an affine part, which is position and size, and a diffeomorphism.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        From the template's world mm to the participant's.
    field : Deformation
        In the template's space; ``moving`` is the participant.
    lost : Volume or None
        Boolean, on the participant's grid: where the image had no say.
    """

    affine: Array
    field: Deformation
    lost: Volume | None

    @property
    def translation_mm(self) -> float:
        """How far the affine part moves the template's origin, which lies in the middle of the brain."""
        return float(np.linalg.norm(self.affine[:3, 3]))

    @property
    def rotation_deg(self) -> float:
        """Angle of the affine part's rotation."""
        u, _, v = np.linalg.svd(self.affine[:3, :3])
        return float(np.degrees(Rotation.from_matrix(u @ v).magnitude()))

    @property
    def size(self) -> float:
        """Volume of the participant's brain over the template's, by the affine part."""
        return float(np.linalg.det(self.affine[:3, :3]))

    def displacement_mm(self, points_mm: Array) -> Array:
        """Displacement after the affine part at the participant's world points, shape (N, 3); shape (N, 3) in mm.

        From where the healthy brain has the point to where the participant has it.
        """
        return -self._to_template(points_mm)[1] @ self.affine[:3, :3].T

    def to_template(self, points_mm: Array) -> Array:
        """Carry the participant's world points, shape (N, 3), to the template."""
        return np.add(*self._to_template(points_mm))

    def jacobian(self, points_mm: Array) -> Array:
        """Volume in the participant over volume in the template at world points, shape (N, 3); shape (N,)."""
        lattice = self.field.lattice
        there = self._to_template(points_mm)[0]
        inverse = np.linalg.inv(lattice.affine)
        index = (there @ inverse[:3, :3].T + inverse[:3, 3]).T
        shrunk = ndimage.map_coordinates(self.field.jacobian("fixed"), index, order=1, mode="nearest")
        return 1 / np.maximum(shrunk, 1e-3)

    def _to_template(self, points_mm: Array) -> tuple[Array, Array]:
        inverse = np.linalg.inv(self.affine)
        there = points_mm @ inverse[:3, :3].T + inverse[:3, 3]
        return there, self.field.displacement(there, "fixed")


@lru_cache(maxsize=2)
def load_template(spacing_mm: float = SPACING_MM) -> Template:
    """The MNI152 template that nilearn carries, on a lattice of world points."""
    from nilearn.datasets import load_mni152_template

    image: Any = load_mni152_template(resolution=2)
    volume = Volume(array=image.get_fdata(dtype=np.float32), affine=np.asarray(image.affine, dtype=np.float64))
    brain = brain_of(volume)
    corners = np.argwhere(brain) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    lattice = Lattice.around(corners, spacing_mm, 4 * spacing_mm)
    even = normalized(volume, brain, None)
    return Template(
        image=_at(even, lattice.points(), _BACKGROUND).astype(np.float32),
        brain=_at(volume.with_array(brain.astype(np.float32)), lattice.points(), 0.0) > 0.5,
        lattice=lattice,
    )


def deform_image(image: Volume, lost: Volume | None = None, template: Template | None = None) -> ImageDeformation:
    """Register a T1w image with the healthy template, without what a tumor changed.

    Cost-function masking: voxels of the tumor do not enter the affine part's mutual information nor the squared
    differences that drive SyN. Because both are taken at several resolutions, smoothing would carry the tumor's signal
    out of its mask; so it is replaced by the neutral value first, and the result does not depend on it at all. Inside
    the mask the field is what the smoothness of the field makes of what lies around.

    Parameters
    ----------
    image : Volume
        T1w without skull: 0 outside of the brain. Any voxel size and orientation.
    lost : Volume, optional
        Boolean, on the image's grid: the tumor.
    template : Template, optional
        By default `load_template`.

    Returns
    -------
    ImageDeformation

    Raises
    ------
    DataError
        If the image does not show a brain without its skull, or little of it is left outside the tumor.

    References
    ----------
    Brett M et al. NeuroImage 14:486 (2001), doi 10.1006/nimg.2001.0845; Nachev P et al. NeuroImage 39:1215 (2008),
    doi 10.1016/j.neuroimage.2007.10.002; Avants BB et al. Med Image Anal 12:26 (2008),
    doi 10.1016/j.media.2007.06.004.
    """
    healthy = load_template() if template is None else template
    masked = None if lost is None or not lost.array.any() else widened(lost, NO_EVIDENCE_MM)
    brain = brain_of(image if masked is None else _neutral(image, masked))
    seen = brain if masked is None else brain & ~masked.array
    if seen.sum() < 0.5 * brain.sum():
        raise DataError("At least half of the brain must lie outside the tumor for an image to be registered.")
    even = normalized(image, brain, masked)
    affine = _affine(healthy, even, seen)
    here = healthy.lattice.points() @ affine[:3, :3].T + affine[:3, 3]
    moving = _at(even, here, _BACKGROUND).astype(np.float32)
    weight = None
    if masked is not None:
        weight = (_at(masked.with_array(masked.array.astype(np.float32)), here, 0.0) < 1e-6).astype(np.float64)
    field = deform_onto(healthy.image, moving, healthy.lattice, weight, _SMOOTH, _ITERATIONS)
    return ImageDeformation(affine=affine, field=field, lost=masked)


def brain_of(image: Volume) -> NDArray[np.bool_]:
    """Where a T1w image without skull has signal, holes filled, shape (X, Y, Z).

    Raises
    ------
    DataError
        If that is not the volume of a brain.
    """
    values = np.nan_to_num(image.array)
    bright = float(np.quantile(values[values > 0], 0.9)) if (values > 0).any() else 0.0
    # Interpolation leaves traces of signal outside of a brain.
    signal = values > _TRACE * max(bright, 1e-12)
    labeled: Any = ndimage.label(signal)
    parts = np.bincount(labeled[0].ravel())
    parts[0] = 0
    largest = labeled[0] == parts.argmax() if parts.size > 1 else signal
    brain = np.asarray(ndimage.binary_fill_holes(largest), dtype=bool)
    volume_ml = float(brain.sum()) * image.voxel_volume_ml
    low, high = BRAIN_ML
    if not low <= volume_ml <= high:
        raise DataError(
            f"A T1w image must show the brain without its skull, 0 outside: {low:.0f} to {high:.0f} ml of signal; this "
            f"one has {volume_ml:.0f} ml. Remove the skull with a tool for that first."
        )
    return brain


def _neutral(image: Volume, lost: Volume) -> Volume:
    """The image with one value where it is lost, so that a dark or bright tumor changes nothing about the brain."""
    values = np.nan_to_num(image.array)
    shown = values[(values > 0) & ~lost.array]
    return image.with_array(np.where(lost.array, np.median(shown) if shown.size else 0.0, values))


def widened(mask: Volume, by_mm: float) -> Volume:
    """A mask and everything within a distance of it."""
    outside = np.asarray(ndimage.distance_transform_edt(~mask.array, sampling=mask.spacing_mm))
    return mask.with_array(outside <= by_mm)


def normalized(image: Volume, brain: NDArray[np.bool_], lost: Volume | None, width_mm: float = _WIDTH_MM) -> Volume:
    """Take away the local mean and divide by the local spread, so that scanners and bias fields do not matter.

    Mean and spread are those of the brain around each voxel, without what is lost. The lost gets the local mean, 0.
    First the image is blurred to what the lattice can show: SyN would take a scanner's noise for displacement.
    """
    seen = brain if lost is None else brain & ~lost.array
    values = np.where(seen, np.nan_to_num(image.array), 0.0).astype(np.float64)
    fine = _mean_around(values, seen, _BLUR_MM / np.array(image.spacing_mm))
    width = width_mm / np.array(image.spacing_mm)
    apart = fine - _mean_around(fine, seen, width)
    spread = np.sqrt(_mean_around(np.where(seen, apart**2, 0.0), seen, width))
    floor = 0.1 * float(np.median(spread[seen]))
    even = np.where(seen, np.clip(apart / np.maximum(spread, max(floor, 1e-9)), -3, 3), 0.0)
    return image.with_array(np.where(brain, even, _BACKGROUND).astype(np.float32))


def _mean_around(values: Array, seen: NDArray[np.bool_], width: Array) -> Array:
    """Gaussian mean of what is seen, ``width`` in voxels; ``values`` are 0 elsewhere."""
    count = ndimage.gaussian_filter(seen.astype(np.float64), width, mode="constant")
    return np.where(seen, ndimage.gaussian_filter(values, width, mode="constant") / np.maximum(count, 1e-6), 0.0)


def _affine(template: Template, even: Volume, seen: NDArray[np.bool_]) -> Array:
    """Twelve parameters by mutual information, from the template's world to the participant's."""
    import logging

    from dipy.align import affine_registration

    logging.getLogger("dipy").setLevel(logging.WARNING)  # it tells every step on its own
    found: Any = affine_registration(
        even.array,
        template.image,
        moving_affine=even.affine,
        static_affine=template.lattice.affine,
        pipeline=["translation", "rigid", "affine"],
        level_iters=[100, 50, 20],
        sigmas=[3.0, 1.0, 0.0],
        factors=[4, 2, 1],
        moving_mask=seen.astype(np.int32),
        static_mask=template.brain.astype(np.int32),
    )
    return np.asarray(found[1], dtype=np.float64)


def _at(volume: Volume, points_mm: Array, beyond: float) -> Array:
    inverse = np.linalg.inv(volume.affine)
    index = np.moveaxis(points_mm @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    return ndimage.map_coordinates(
        volume.array, np.round(index, 6), output=np.float64, order=1, mode="constant", cval=beyond
    )
