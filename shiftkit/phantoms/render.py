"""From a person and a scanner to images: tissue, fibers, tumor, measurement."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Bundle, Volume
from .acquisition import Profile, bias_field, draw_pose, measure_peaks, measure_scalar
from .anatomy import template
from .fibers import Population, rasterize, strongest
from .people import Person
from .warp import Array, Warp, compose

_THRESHOLD = 0.18
"""Density, relative to the bundle's dense core, above which a voxel belongs to the reference mask."""


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Everything one participant's folder holds, on one grid."""

    images: dict[str, Volume]
    masks: dict[Bundle, Volume]
    tumor: Volume | None
    core: Volume | None


def grid(spacing_mm: float) -> tuple[Array, tuple[int, int, int]]:
    """Affine and shape of the phantom's grid: the MNI box at a spacing, RAS."""
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = (-91, -127, -73)
    x, y, z = (int(np.ceil(extent / spacing_mm)) for extent in (182, 218, 182))
    return affine, (x, y, z)


def render(
    person: Person, profile: Profile, rng: np.random.Generator, spacing_mm: float, with_tumor: bool = True
) -> Rendering:
    """Render one participant as one scanner sees them.

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
    """
    affine, shape = grid(spacing_mm)
    tumor = person.tumor if with_tumor else None
    pose = draw_pose(profile, rng)
    anatomy = compose(tumor.push, person.warp) if tumor else person.warp
    points = _world(affine, shape)
    own = pose.to_template(points)  # the participant's undistorted space
    tissue = _tissue(anatomy.to_template(own))
    brain = _brain(tissue)
    drawn = person.tumor
    depth = drawn.depth(own) if drawn else np.full(shape, np.inf)
    masks_tumor = {"tumor": (depth < 1) & brain, "core": (depth < (drawn.core_share if drawn else 0)) & brain}
    shown = depth if tumor else np.full(shape, np.inf)
    populations = _populations(person, anatomy, pose, affine, shape, with_tumor)
    fractions = _fractions(populations, tissue["wm"], shown, tumor.core_share if tumor else 0.0)
    masks = {
        bundle: Volume(array=_mask(populations[i], shown, tumor.core_share if tumor else 0.0) & brain, affine=affine)
        for i, bundle in enumerate(person.bundles)
    }
    images = _images(person, tissue, brain, fractions, populations, shown, profile, spacing_mm, rng, affine)
    return Rendering(
        images=images,
        masks=masks,
        tumor=Volume(array=masks_tumor["tumor"], affine=affine) if drawn else None,
        core=Volume(array=masks_tumor["core"], affine=affine) if drawn else None,
    )


def _world(affine: Array, shape: tuple[int, int, int]) -> Array:
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"), axis=-1)
    return index * np.diag(affine)[:3] + affine[:3, 3]


def _tissue(points: Array) -> dict[str, Array]:
    volumes = template()
    origin = volumes["t1w"].affine[:3, 3]
    index = np.moveaxis((points - origin) / 2.0, -1, 0)
    return {name: ndimage.map_coordinates(volume.array, index, order=1) for name, volume in volumes.items()}


def _brain(tissue: dict[str, Array]) -> NDArray[np.bool_]:
    inside = ndimage.binary_closing(tissue["gm"] + tissue["wm"] > 0.3, iterations=2)
    return np.asarray(ndimage.binary_fill_holes(inside))


def _populations(
    person: Person, anatomy: Warp, pose: Warp, affine: Array, shape: tuple[int, int, int], with_tumor: bool
) -> list[Population]:
    families = [*person.bundles.values(), *person.others]
    made: list[Population] = []
    for streamlines in families:
        own = anatomy.to_participant(streamlines)
        alive = np.ones(own.shape[:2], dtype=bool)
        if with_tumor and person.tumor is not None:
            alive = person.tumor.depth(own) > person.tumor.core_share
        made.append(rasterize(pose.to_participant(own), alive, affine, shape))
    return made


def _mask(population: Population, depth: Array, core: float) -> NDArray[np.bool_]:
    """Where the bundle is dense enough to be drawn, outside the core, in one piece or a few."""
    return (population.density > _THRESHOLD) & (depth > core)


def _fractions(populations: list[Population], wm: Array, depth: Array, core: float) -> Array:
    """Volume fraction of each population: saturating in density, no more than the white matter there is."""
    fractions = np.stack([p.density / (p.density + 0.35) * (p.density > 0.02) for p in populations])
    room = np.clip(wm * 1.15, 0.0, 1.0) * np.clip((depth - core) / (1.35 - core), 0.0, 1.0)
    total = fractions.sum(axis=0)
    return fractions * (room / np.maximum(total, room + 1e-6)) * (total > 0)


def _images(
    person: Person,
    tissue: dict[str, Array],
    brain: NDArray[np.bool_],
    fractions: Array,
    populations: list[Population],
    depth: Array,
    profile: Profile,
    spacing_mm: float,
    rng: np.random.Generator,
    affine: Array,
) -> dict[str, Volume]:
    shape = brain.shape
    inside = brain.nonzero()
    directions = np.stack([p.direction[inside] for p in populations])
    filler = _filler(tissue["wm"], spacing_mm)[inside]
    left = np.clip(tissue["wm"][inside] * np.clip(depth[inside], 0, 1) - fractions[:, *inside].sum(axis=0), 0, 1) * 0.6
    all_fractions = np.concatenate([fractions[:, *inside], left[None]]).astype(np.float32)
    all_directions = np.concatenate([directions, filler[None]]).astype(np.float32)
    peaks = np.zeros((*shape, 3, 3), dtype=np.float32)
    peaks[inside] = strongest(all_fractions, all_directions)
    length = np.linalg.norm(peaks, axis=-1)
    edema = np.clip((1.35 - depth) / 0.5, 0, 1)
    fa = (
        np.clip(0.12 + 0.75 * length[..., 0] - 0.25 * length[..., 1], 0.03, 0.95) * (1 - 0.4 * edema) * profile.fa_scale
    )
    ap = np.clip(0.05 + (length**2).sum(-1) ** 0.5 * 0.8, 0, 1) * (1 - 0.3 * edema)
    t1 = tissue["t1w"] ** (profile.t1_gamma * person.t1_contrast) * (1 - 0.35 * np.clip(1.2 - depth, 0, 1))
    t1 = t1 * bias_field(shape, profile, spacing_mm, rng)
    scalars = {
        name: measure_scalar(image * brain, brain, profile, spacing_mm, rng)
        for name, image in (("t1w", t1), ("fa", fa), ("ap", ap))
    }
    noisy = measure_peaks(peaks, profile, spacing_mm, rng) * brain[..., None, None]
    scalars["peaks"] = noisy.reshape(*shape, 9)
    return {name: Volume(array=array.astype(np.float32), affine=affine) for name, array in scalars.items()}


def _filler(wm: Array, spacing_mm: float) -> Array:
    """Directions of white matter that no modeled family fills: radial, towards the cortex."""
    smooth = ndimage.gaussian_filter(wm, 6.0 / spacing_mm)
    gradient = np.stack(np.gradient(smooth), axis=-1)
    norm = np.linalg.norm(gradient, axis=-1, keepdims=True)
    return gradient / np.maximum(norm, 1e-6)
