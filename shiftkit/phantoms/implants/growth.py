"""A tumor in a healthy brain: what shape it takes, how it pushes, and how far that reaches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from ...errors import ConfigError
from ..tumors import (
    SOURCE,
    Gliomas,
    draw_site,
    draw_volume,
    edema_share,
    ellipsoid_depth,
    outward,
    radius_of,
    stretched,
)
from ..warp import ORIGIN_MM, Array, Warp, exponentiate, grid_points, jacobian, sample, smooth_noise
from .brains import Brain, place_in_template

REACH_MM = 60.0
"""How far from the tumor's edge mass effect reaches; beyond it, nothing moves."""
_LATTICE_MM = 3.0
_CELL_MM = _LATTICE_MM * 3**0.5
"""Between points of the lattice that do not move, nothing moves; so far from one that does, some does."""
_DAMPED_MM = 12.0
"""Near the edge of the brain the push is damped: there, fluid makes room; as in `shiftkit.phantoms.tumors`."""
_LARGEST_SHARE = 0.25
"""Of the brain, that a tumor can have."""

# Ranges over implants: share of the tumor's volume that is pushed aside, radius of the core over the whole's, edema.
_MASS, _CORE, _EDEMA_MM = (0.3, 1.0), (0.4, 0.75), (0.0, 25.0)


class Shape(Protocol):
    """Where a tumor of radius 1 would lie around its center."""

    @property
    def extent(self) -> float:
        """Its farthest point from the center, in radii."""
        ...

    @property
    def balls(self) -> tuple[tuple[Array, float], ...]:
        """Balls that push like it: center, shape (3,), and radius, in radii; their volumes add up to that of one."""
        ...

    def depth(self, offset_mm: Array, radius_mm: float) -> Array:
        """Under 1 inside the tumor, growing outwards, at offsets from the center, shape (..., 3)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Lobed:
    """Balls of different sizes grown together: round fronts with clefts between them.

    ``centers``, shape (L, 3), and ``radii``, shape (L,), are in radii of the whole.
    """

    centers: Array
    radii: Array

    @property
    def extent(self) -> float:
        """Of the lobe that reaches farthest."""
        return float((np.linalg.norm(self.centers, axis=1) + self.radii).max())

    @property
    def balls(self) -> tuple[tuple[Array, float], ...]:
        """The lobes, each smaller, for they overlap."""
        share = (self.radii**3).sum() ** (-1 / 3)
        return tuple((center, float(radius * share)) for center, radius in zip(self.centers, self.radii, strict=True))

    def depth(self, offset_mm: Array, radius_mm: float) -> Array:
        """Of the lobe in which a point lies deepest; between lobes smooth."""
        each = [
            np.linalg.norm(offset_mm / radius_mm - center, axis=-1) / radius
            for center, radius in zip(self.centers, self.radii, strict=True)
        ]
        # A power mean of −8: next to the smallest of them, without its edges.
        return (np.maximum(each, 1e-3) ** -8.0).sum(axis=0) ** (-1 / 8)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ellipsoid:
    """The phantom's own shape: a stretched ball with a rough surface; see `shiftkit.phantoms.tumors.Tumor`."""

    axes: Array
    roughness: Array

    @property
    def extent(self) -> float:
        """Along its longest axis, where its surface bulges most."""
        return float(np.linalg.norm(np.linalg.inv(self.axes), 2) * (1 + self.roughness.max()))

    @property
    def balls(self) -> tuple[tuple[Array, float], ...]:
        """It pushes as a ball does."""
        return ((np.zeros(3), 1.0),)

    def depth(self, offset_mm: Array, radius_mm: float) -> Array:
        """Distance from the center over the local radius."""
        # The noise lies on the phantom's grid, around whose middle any tumor will do.
        rough = sample(self.roughness, offset_mm + _MIDDLE_MM)[..., 0]
        return ellipsoid_depth(offset_mm, radius_mm, self.axes, rough)


_MIDDLE_MM = ORIGIN_MM + np.array([98.0, 116.0, 94.0])


def _draw_lobed(rng: np.random.Generator) -> Lobed:
    n = int(rng.integers(2, 6))
    radii = rng.uniform(0.45, 0.85, n)
    way = rng.standard_normal((n, 3)) * (0.6, 1, 1)  # less along x, where the falx would be crossed
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    # Each lobe covers the center, so that the tumor is one piece; the middle of all of them is where it is said to lie.
    centers = way * (radii * rng.uniform(0.3, 0.9, n))[:, None]
    middle = (centers * radii[:, None] ** 3).sum(axis=0) / (radii**3).sum()
    return Lobed(centers=centers - middle, radii=radii)


def _draw_ellipsoid(rng: np.random.Generator) -> Ellipsoid:
    axes = stretched(rng, float(rng.uniform(1.0, 1.6)))
    return Ellipsoid(axes=axes, roughness=np.clip(0.18 * smooth_noise(rng, 9.0)[..., :1], -0.4, 0.4))


SHAPES: Mapping[str, Callable[[np.random.Generator], Shape]] = {"lobed": _draw_lobed, "ellipsoid": _draw_ellipsoid}
"""Families of shapes: ``lobed`` is no shape of the phantom's, ``ellipsoid`` is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Order:
    """What is asked of an implant.

    Parameters
    ----------
    volume_ml : float
        What is to be seen of it inside the brain.
    place : ndarray, shape (3,)
        Where its center shall be, as `Brain.place_of`.
    copied_from : str
        Whose tumor gave these; empty without anybody.
    site : str
        Lobe, where it was drawn from the phantom's.
    """

    volume_ml: float
    place: Array
    copied_from: str = ""
    site: str = ""


def draw_order(rng: np.random.Generator, volume_ml: float | None = None) -> Order:
    """A place, and unless it is given a volume, as the phantom's gliomas have them."""
    site, _, center = draw_site(rng)
    drawn = draw_volume(rng, Gliomas())
    return Order(volume_ml=drawn if volume_ml is None else volume_ml, place=place_in_template(center), site=site)


@dataclass(frozen=True, kw_only=True, eq=False)
class Growth:
    """A tumor as it has grown in one brain.

    Parameters
    ----------
    center_mm : ndarray, shape (3,)
        In world mm.
    radius_mm : float
        By which its shape is scaled.
    shape : Shape
        What it looks like.
    core_share : float
        Depth of the core, where no fiber is left.
    mass : float
        Volume of the tissue that is pushed aside over the tumor's own; the rest is infiltrated.
    edema_mm, fading : float
        How far edema reaches beyond the infiltrated rim; what share of fibers' signal it takes at its worst.
    push : Warp
        Mass effect, from the healthy brain to the one with the tumor, in world mm.
    reach_mm : float
        Distance from the center beyond which nothing moves.
    """

    center_mm: Array
    radius_mm: float
    shape: Shape
    core_share: float
    mass: float
    edema_mm: float
    fading: float
    push: Warp
    reach_mm: float

    def depth(self, points_mm: Array) -> Array:
        """Under 1 inside the tumor, growing outwards, at points, shape (..., 3) in world mm."""
        return self.shape.depth(points_mm - self.center_mm, self.radius_mm)

    def edema(self, depth: Array, wm: Array) -> Array:
        """Share of edema at depths in tissue of some share of white matter."""
        return edema_share(depth, wm, self.edema_mm / self.radius_mm)

    @cached_property
    def jacobian_range(self) -> tuple[float, float]:
        """Smallest and largest determinant of the push, over its lattice and both ways; both are positive."""
        both = [jacobian(one, _LATTICE_MM) for one in (self.push.forward, self.push.backward)]
        return min(float(one.min()) for one in both), max(float(one.max()) for one in both)


def grow(brain: Brain, order: Order, rng: np.random.Generator, *, shape: str = "lobed", fading: float = 0.6) -> Growth:
    """Grow a tumor in a brain.

    A `ConfigError` if it is to be larger than a quarter of the brain. What is drawn, in this order: shape, mass, core,
    edema.
    """
    whole_ml = float(brain.mask.array.sum()) * brain.mask.voxel_volume_ml
    if order.volume_ml > _LARGEST_SHARE * whole_ml:
        raise ConfigError(
            f"A tumor must fit into the brain, at most a quarter of its volume: {_LARGEST_SHARE * whole_ml:.0f} ml; "
            f"`volume_cm3` is {order.volume_ml:g}."
        )
    drawn = SHAPES[shape](rng)
    mass, core, edema_mm = (float(rng.uniform(*limits)) for limits in (_MASS, _CORE, _EDEMA_MM))
    radius = radius_of(order.volume_ml)
    # Copied places keep their side; drawn ones are held back by the falx too.
    center = inwards(brain, brain.point_at(order.place), radius, falx=not order.copied_from)
    growth = Growth(
        center_mm=center,
        radius_mm=_radius_to_fill(brain, center, drawn, order.volume_ml),
        shape=drawn,
        core_share=core,
        mass=mass,
        edema_mm=edema_mm,
        fading=fading,
        push=Warp(forward=np.zeros((2, 2, 2, 3)), backward=np.zeros((2, 2, 2, 3))),
        reach_mm=0.0,
    )
    return _pushing(growth, brain)


def inwards(brain: Brain, center_mm: Array, radius_mm: float, *, falx: bool) -> Array:
    """Move a center away from the edge of the brain until most of the tumor has room."""
    wanted, middle = min(0.6 * radius_mm, 15.0), brain.box_mm[0]
    for _ in range(40):
        if float(brain.depth_at(center_mm)) >= wanted:
            break
        way = middle - center_mm
        center_mm = center_mm + 2.0 * way / max(float(np.linalg.norm(way)), 1e-6)
    if falx:
        aside = center_mm[0] - middle[0]
        center_mm = center_mm.copy()
        center_mm[0] = middle[0] + np.copysign(max(abs(aside), 0.85 * radius_mm), aside)
    return center_mm


def _radius_to_fill(brain: Brain, center_mm: Array, shape: Shape, volume_ml: float) -> float:
    """The radius at which the part inside the brain has the volume: the skull takes nothing away from it."""
    grid = brain.mask
    points = grid.points_inside()
    near = points[np.linalg.norm(points - center_mm, axis=1) < 3 * shape.extent * radius_of(volume_ml)]
    radius = radius_of(volume_ml)
    for _ in range(12):
        seen_ml = max(float((shape.depth(near - center_mm, radius) < 1).sum()), 1.0) * grid.voxel_volume_ml
        if abs(seen_ml / volume_ml - 1) < 0.02:
            break
        radius *= float(np.clip((volume_ml / seen_ml) ** (1 / 3), 0.8, 1.25))
    return radius


def _pushing(growth: Growth, brain: Brain) -> Growth:
    """Mass effect of a tumor.

    As the phantom's (Hogea C, Davatzikos C, Biros G. J Math Biol 56:793 (2008), doi 10.1007/s00285-007-0139-x): balls
    that expand evenly, around them the flow of an incompressible medium, damped near the edge of the brain. Beyond
    that it is brought to 0 at a reach, so that a part of the brain is known not to have moved.
    """
    whole = brain.mask.points_inside()
    origin = whole.min(axis=0) - 2 * _LATTICE_MM
    n = np.ceil((whole.max(axis=0) + 2 * _LATTICE_MM - origin) / _LATTICE_MM).astype(int) + 1
    points = grid_points(n, origin, _LATTICE_MM)
    velocity = np.zeros(points.shape)
    for offset, share in growth.shape.balls:
        ball, radius = growth.center_mm + offset * growth.radius_mm, share * growth.radius_mm
        velocity += outward(ball, SOURCE * radius, growth.mass * radius**3 / 3, points)
    edge = growth.shape.extent * growth.radius_mm
    distance = np.linalg.norm(points - growth.center_mm, axis=-1)
    # Both reach 0 a cell early, or what is interpolated between the lattice's points would not be 0 where it is said.
    far = np.clip((edge + REACH_MM - _CELL_MM - distance) / (REACH_MM - _CELL_MM), 0, 1)
    inside = np.clip((brain.depth_at(points) - _CELL_MM) / _DAMPED_MM, 0, 1)
    velocity *= (far**2 * (3 - 2 * far) * inside)[..., None]
    push = exponentiate(velocity, origin_mm=origin, spacing_mm=_LATTICE_MM)
    return replace(growth, push=push, reach_mm=edge + REACH_MM)
