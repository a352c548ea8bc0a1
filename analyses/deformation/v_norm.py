"""V-Norm of one bundle: how far SyN has to move it onto the healthy one, in world millimeters."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...types import Volume
from .registration import MARGIN_MM, NO_EVIDENCE_MM, Array, Lattice, Rigid, Surface, align, deform_onto, redrawn
from .template import N_POINTS, BundleTemplate, Controls

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The deformation of one bundle.

    Parameters
    ----------
    v_norm_mm, quantiles_mm : float, tuple of float
        Mean length of the displacement over the bundle's volume, after the rigid part; and at `QUANTILES`.
    profile_mm, shift_mm : tuple of float, ndarray of shape (32, 3)
        At each of the template's 32 skeleton points the mean length, and where the voxels nearest it are less where
        the template has them, on average, in the template's axes. NaN where nothing of the bundle is left.
    dice_before, dice_after : float
        Overlap with the template after the rigid part, and after SyN.
    jacobian_mean, jacobian_min, jacobian_max : float
        Volume in the participant over volume in the template, at the bundle's points: above 1 where it has expanded.
    rigid : Rigid
        From the template's world to the participant's: position, not deformation.
    """

    v_norm_mm: float
    quantiles_mm: tuple[float, ...]
    profile_mm: tuple[float, ...]
    dice_before: float
    dice_after: float
    jacobian_mean: float
    jacobian_min: float
    jacobian_max: float
    shift_mm: Array
    rigid: Rigid

    def columns(self) -> dict[str, float]:
        """The numbers as columns of the table."""
        named = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        named |= {"translation_mm": self.rigid.distance_mm, "rotation_deg": self.rigid.angle_deg}
        quantiles = zip(QUANTILES, self.quantiles_mm, strict=True)
        return named | {f"v_norm_p{100 * share:02.0f}_mm": value for share, value in quantiles}


def measure(
    mask: Volume, template: BundleTemplate, *, lost: Volume | None = None, spacing_mm: float = 2.0
) -> tuple[Measurement, Volume]:
    """Register a mask with a template, rigidly and then by SyN, and measure what SyN had to move.

    What a mask shows of a displacement is its part across the bundle's surface: a push along the bundle leaves the
    mask where it is. V-Norm is therefore a lower bound of how far tissue was moved.

    The mask has at least one voxel and orthogonal axes, in any orientation and voxel size. Where the bundle may be
    ``lost``, as in the tumor's core, it is no evidence, and the registration does not look. Also returns the length of
    the displacement in mm at the mask's voxels, 0 elsewhere, on the mask's grid.

    Examples
    --------
    >>> from shiftkit.analyses.deformation.template import Controls
    >>> array = np.zeros((12, 40, 12), dtype=bool)
    >>> array[3:9, 3:37, 3:9] = True
    >>> mask = Volume(array=array, affine=np.diag([2.0, 2, 2, 1]))
    >>> healthy = Controls.of({"sub-1": mask, "sub-2": mask}).template()
    >>> measure(mask, healthy)[0].v_norm_mm
    0.0
    """
    surface = Surface.of(mask)
    gone = Surface.of(lost) if lost is not None and lost.array.any() else None
    rigid = align(template.surface, redrawn(surface, spacing_mm / 2), spacing_mm, gone, template.lost)
    aligned = redrawn(surface, spacing_mm / 2, rigid)
    held = np.concatenate([template.surface.inside_points(), aligned.inside_points()])
    lattice = Lattice.around(held, spacing_mm, MARGIN_MM)
    here = lattice.points()
    fixed, moving = template.surface.at(here), aligned.at(here)
    places = ((gone, rigid.forward(here)), (template.lost, here))
    seen = [lost.at(place) > NO_EVIDENCE_MM for lost, place in places if lost is not None]
    # Where a tumor may have destroyed the bundle, in the participant or in the baseline, no mask is evidence.
    weight = np.logical_and.reduce(seen).astype(np.float64) if seen else None
    found = deform_onto(fixed, moving, lattice, weight)

    inside = moving < 0
    points = here[inside]
    shift = found.displacement(points, "fixed")
    length = np.linalg.norm(shift, axis=1)
    # The field maps the participant to the template; what is asked is the participant's volume over the template's.
    jacobian = 1 / np.maximum(found.jacobian("fixed")[inside], 1e-3)
    carried = aligned.at(here + found.to_moving)
    # By where a voxel belongs in the template, not by where it lies: points mean the same place in everybody.
    nearest = template.nearest_point(points + shift)
    measured = Measurement(
        v_norm_mm=float(length.mean()),
        quantiles_mm=tuple(np.quantile(length, QUANTILES).tolist()),
        profile_mm=tuple(_profile(length, nearest)),
        dice_before=_dice(fixed < 0, inside),
        dice_after=_dice(fixed < 0, carried < 0),
        jacobian_mean=float(jacobian.mean()),
        jacobian_min=float(jacobian.min()),
        jacobian_max=float(jacobian.max()),
        shift_mm=np.stack([_profile(-shift[:, axis], nearest) for axis in range(3)], axis=-1),
        rigid=rigid,
    )
    image = np.zeros(mask.shape, dtype=np.float32)
    image[mask.array] = np.linalg.norm(found.displacement(rigid.backward(mask.points_inside()), "fixed"), axis=1)
    return measured, mask.with_array(image)


def _profile(length_mm: Array, point: Any) -> list[float]:
    count = np.bincount(point, minlength=N_POINTS)
    total = np.bincount(point, weights=length_mm, minlength=N_POINTS)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).tolist()


def _dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / max(int(a.sum() + b.sum()), 1))


def measure_against_own(
    mask: Volume,
    baseline: Volume,
    *,
    lost: Volume | None = None,
    baseline_lost: Volume | None = None,
    spacing_mm: float = 2.0,
) -> tuple[Measurement, Volume]:
    """As `measure`, with the same participant's mask in a baseline as the template.

    Both are on grids and in poses of their own, which the rigid part takes. Where a tumor may have destroyed the
    bundle, now or then, neither is evidence. A mask too thin to have an inside is a `DataError`.

    Examples
    --------
    >>> array = np.zeros((12, 40, 12), dtype=bool)
    >>> array[3:9, 3:37, 3:9] = True
    >>> mask = Volume(array=array, affine=np.diag([2.0, 2, 2, 1]))
    >>> measure_against_own(mask, mask)[0].v_norm_mm
    0.0
    """
    template = Controls.of({"own": baseline}, spacing_mm).template()
    if baseline_lost is not None and baseline_lost.array.any():
        template = replace(template, lost=Surface.of(baseline_lost))
    return measure(mask, template, lost=lost, spacing_mm=spacing_mm)
