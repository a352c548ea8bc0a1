"""From a person and a scanner to images: tissue, fibers, tumor, measurement."""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Bundle, Volume
from .acquisition import Pose, Profile, bias_field, draw_pose, held, measure_peaks, measure_scalar
from .diffusion import Diffusion, measure_diffusion
from .fibers import Population, rasterize, true_peaks
from .people import TYPICAL_AGE, Person, in_brain
from .smoothing import smooth
from .template import SPACING_MM, template
from .tumors import darkened_t1, fiber_room
from .warp import Array, interpolate

_FADING_A_YEAR = 0.003
"""Share of a peak's length that a year of age takes."""
_THRESHOLD = 0.18
"""Density, relative to the bundle's dense core, above which a voxel belongs to the reference mask."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Everything one participant's folder holds, on one grid.

    Parameters
    ----------
    images : dict of str to Volume
        ``t1w fa ap peaks``.
    masks : dict of Bundle to Volume
        Reference masks.
    tumor, core : Volume or None
        The patient's tumor, shown in the images or not; the same whatever the scanner.
    pose : Pose
        Where the scan put the participant.
    diffusion : Diffusion or None
        The raw series, where it was asked for.
    """

    images: dict[str, Volume]
    masks: dict[Bundle, Volume]
    tumor: Volume | None
    core: Volume | None
    pose: Pose
    diffusion: Diffusion | None = None


def grid(spacing_mm: float) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Affine and shape of the phantom's grid: the MNI box at a spacing, RAS."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (-91, -127, -73)
    x, y, z = (int(np.ceil(extent / spacing_mm)) for extent in (182, 218, 182))
    return affine, (x, y, z)


def render(
    person: Person,
    profile: Profile,
    rng: np.random.Generator,
    spacing_mm: float,
    with_tumor: bool = True,
    with_diffusion: bool = False,
) -> Rendering:
    """Render one participant as one scanner sees them.

    A patient's tumor lies where it lies in every scan: misalignment and distortion move the anatomy under it
    by their few millimeters, so that its mask is the same whatever the scanner.

    Parameters
    ----------
    person : Person
        The anatomy.
    profile : Profile
        The scanner.
    rng : Generator
        For pose and noise.
    spacing_mm : float
        Voxel size.
    with_tumor : bool
        False renders a patient as if there were no tumor; the mask is still given (it is virtual).
    with_diffusion : bool
        Measure a raw diffusion series too; the other images stay the same.
    """
    affine, shape = grid(spacing_mm)
    tumor = person.tumor if with_tumor else None
    profile = profile.draw_scan(rng)
    pose = draw_pose(profile, rng, person.age)
    depth = _depth(person, spacing_mm) if tumor else np.full(shape, np.inf)
    core = tumor.core_share if tumor else 0.0
    points = _unpushed(person, spacing_mm) if tumor else _voxels(spacing_mm)
    tissue = _tissue(person.warp.to_template(pose.warp.to_template(points)))
    brain = _brain(tissue)
    drawn = brain & (depth > core)
    populations = [
        *(bundle_population(bundle, person, pose, affine, shape, with_tumor) for bundle in person.bundles),
        *(_population(streamlines, None, person, pose, affine, shape, with_tumor) for streamlines in person.own_others),
    ]
    threshold = _THRESHOLD * 2.0**-profile.label_style
    masks = {
        bundle: Volume(array=populations[i].mask(threshold, shape) & drawn, affine=affine)
        for i, bundle in enumerate(person.bundles)
    }
    seen: dict[str, Array] = {name: image[brain] for name, image in tissue.items()} | {"depth": depth[brain]}
    seen["edema"] = tumor.edema(seen["depth"], seen["wm"]) if tumor else np.zeros(len(seen["wm"]))
    room = np.stack([fiber_room(seen["depth"], core), np.clip(seen["depth"], 0, 1)], axis=-1)
    filler = _filler(tissue["wm"], brain, spacing_mm)
    peaks = true_peaks(populations, filler, seen["wm"], room, brain, profile.merged_deg)
    if tumor:
        peaks *= (1 - tumor.fading * seen["edema"]).astype(np.float32)[:, None, None]
    if profile.aging:
        peaks *= np.float32(1 - _FADING_A_YEAR * profile.aging * (person.age - TYPICAL_AGE))
    images = _images(person, seen, brain, peaks, profile, spacing_mm, rng)
    series = measure_diffusion(peaks, seen, brain, profile, affine, rng) if with_diffusion else None
    lesion = _lesion(person, spacing_mm)
    return Rendering(
        images={
            name: Volume(array=array.astype(np.float32, copy=False), affine=affine) for name, array in images.items()
        },
        masks=masks,
        tumor=lesion.get("tumor"),
        core=lesion.get("core"),
        pose=pose,
        diffusion=series,
    )


def to_template(points: Array, person: Person, pose: Pose, with_tumor: bool) -> Array:
    """Carry points of a scan, shape (..., 3) in mm, to the template."""
    if with_tumor and person.tumor is not None:
        points = person.tumor.push.to_template(points)
    return person.warp.to_template(pose.warp.to_template(points))


def world(affine: NDArray[np.float64], shape: tuple[int, ...]) -> Array:
    """World coordinates of a grid's voxels, shape (X, Y, Z, 3) in mm."""
    return np.stack(
        np.meshgrid(
            *(i * np.arange(n) + o for i, n, o in zip(np.diag(affine), shape, affine[:3, 3], strict=False)),
            indexing="ij",
        ),
        axis=-1,
    )


@lru_cache(maxsize=1)
def _voxels(spacing_mm: float) -> Array:
    return world(*grid(spacing_mm))


# The participant at hand: the same in each of their scans.


@lru_cache(maxsize=2)
def _lesion(person: Person, spacing_mm: float) -> dict[str, Volume]:
    return tumor_masks(person, *grid(spacing_mm))


@lru_cache(maxsize=1)
def _depth(person: Person, spacing_mm: float) -> Array:
    """`Tumor.depth` of every voxel."""
    assert person.tumor is not None
    return person.tumor.depth(_voxels(spacing_mm))


@lru_cache(maxsize=1)
def _unpushed(person: Person, spacing_mm: float) -> Array:
    """Where the tissue of every voxel would be without mass effect, shape (X, Y, Z, 3) in mm."""
    assert person.tumor is not None
    return person.tumor.push.to_template(_voxels(spacing_mm))


def tumor_masks(person: Person, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> dict[str, Volume]:
    """The tumor (whole) and its core inside the participant's brain, whatever the scanner; empty for controls."""
    if person.tumor is None:
        return {}
    points = world(affine, shape)
    depth = person.tumor.depth(points)
    whole = depth < 1
    whole[whole] = in_brain(person.tumor.push.to_template(points[whole]), person.warp)
    core = whole & (depth < person.tumor.core_share)
    return {"tumor": Volume(array=whole, affine=affine), "core": Volume(array=core, affine=affine)}


def tumor_distances(person: Person, spacing_mm: float) -> dict[str, float]:
    """Edge-to-edge distance in mm from the tumor to each bundle's reference mask, as the tumor leaves it.

    Taken in the participant's own space, before any scanner misplaces the anatomy. Bundles of which nothing
    is left are not listed.
    """
    if person.tumor is None:
        return {}
    affine, shape = grid(spacing_mm)
    outside = ~_lesion(person, spacing_mm)["tumor"].array
    distance = np.asarray(ndimage.distance_transform_edt(outside, sampling=spacing_mm))
    alive = _depth(person, spacing_mm) > person.tumor.core_share
    distances: dict[str, float] = {}
    for bundle in person.bundles:
        population = bundle_population(bundle, person, None, affine, shape, with_tumor=True)
        mask = population.mask(_THRESHOLD, shape) & alive
        if mask.any():
            distances[bundle.label] = round(float(distance[mask].min()), 2)
    return distances


def _tissue(points: Array) -> dict[str, NDArray[np.float32]]:
    values = interpolate(_stacked(), points, template()["t1w"].affine[:3, 3], SPACING_MM, zero_outside=True)
    return {name: np.ascontiguousarray(values[..., i]) for i, name in enumerate(template())}


@lru_cache(maxsize=1)
def _stacked() -> NDArray[np.float32]:
    return np.stack([volume.array for volume in template().values()], axis=-1)


def _brain(tissue: dict[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    inside = tissue["gm"] + tissue["wm"] > 0.3
    box = held(inside, [3] * 3)  # a voxel more than closing reaches
    inside[box] = ndimage.binary_fill_holes(ndimage.binary_closing(inside[box], iterations=2))
    return inside


def bundle_population(
    bundle: Bundle,
    person: Person,
    pose: Pose | None,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    with_tumor: bool,
) -> Population:
    """One bundle's fibers on a grid, with the rater who draws them; without a pose as they lie in the participant."""
    streamlines, generosity = person.own_bundles[bundle], person.generosity[bundle]
    return _population(streamlines, generosity, person, pose, affine, shape, with_tumor)


def _population(
    streamlines: Array,
    generosity: Array | None,
    person: Person,
    pose: Pose | None,
    affine: NDArray[np.float64],
    shape: tuple[int, int, int],
    with_tumor: bool,
) -> Population:
    points = pose.warp.to_participant(streamlines) if pose else streamlines
    alive, whole = np.ones(points.shape[:2], dtype=bool), None
    if with_tumor and person.tumor is not None:
        points = person.tumor.push.to_participant(points)
        alive = person.tumor.depth(points) > person.tumor.core_share
        whole = np.asarray(alive.all(axis=1)) if person.tumor.severed and not alive.all() else None
    return rasterize(points, alive, affine, shape, generosity=generosity, whole=whole)


def _images(
    person: Person,
    seen: dict[str, Array],
    brain: NDArray[np.bool_],
    peaks: NDArray[np.float32],
    profile: Profile,
    spacing_mm: float,
    rng: np.random.Generator,
) -> dict[str, Array]:
    length = np.linalg.norm(peaks, axis=-1)
    edema = seen["edema"]
    fa = (
        np.clip(0.12 + 0.75 * length[..., 0] - 0.25 * length[..., 1], 0.03, 0.95) * (1 - 0.4 * edema) * profile.fa_scale
    )
    ap = np.clip(0.05 + (length**2).sum(-1) ** 0.5 * 0.8, 0, 1) * (1 - 0.3 * edema)
    t1 = darkened_t1(seen["t1w"] ** (profile.t1_gamma * person.t1_contrast), seen["depth"], edema)
    t1 = t1 * bias_field(brain.shape, profile, spacing_mm, rng)[brain]
    measured: dict[str, Array] = {}
    for name, values in (("t1w", t1), ("fa", fa), ("ap", ap)):
        image = np.zeros(brain.shape, dtype=values.dtype)
        image[brain] = values
        measured[name] = measure_scalar(image, brain, profile, spacing_mm, rng)
    whole = np.zeros((*brain.shape, 3, 3), dtype=np.float32)
    whole[brain] = peaks
    measured["peaks"] = measure_peaks(whole, brain, profile, spacing_mm, rng).reshape(*brain.shape, 9)
    return measured


def _filler(wm: NDArray[np.float32], brain: NDArray[np.bool_], spacing_mm: float) -> NDArray[np.float32]:
    """Directions of white matter that no modeled family fills: radial, towards the cortex; shape (V, 3)."""
    directions = np.empty((int(brain.sum()), 3), dtype=np.float32)
    _ascend(smooth(wm, [6.0 / spacing_mm] * 3), np.argwhere(brain), directions)
    return directions


@numba.njit(cache=True)
def _ascend(image, voxels, directions):  # pyright: ignore
    """Unit gradient of an image at some voxels, by central differences, at the edges of the grid to one side."""
    nx, ny, nz = image.shape
    for v in range(voxels.shape[0]):
        i, j, k = voxels[v]
        (left, right), (back, front), (low, high) = _beside(i, nx), _beside(j, ny), _beside(k, nz)
        x = (image[right, j, k] - image[left, j, k]) / np.float32(right - left)
        y = (image[i, front, k] - image[i, back, k]) / np.float32(front - back)
        z = (image[i, j, high] - image[i, j, low]) / np.float32(high - low)
        norm = max(np.sqrt(x * x + y * y + z * z), np.float32(1e-6))
        directions[v, 0], directions[v, 1], directions[v, 2] = x / norm, y / norm, z / norm


@numba.njit(cache=True)
def _beside(place, size):  # pyright: ignore
    """The places before and after one, where there are any."""
    return max(place - 1, 0), min(place + 1, size - 1)
