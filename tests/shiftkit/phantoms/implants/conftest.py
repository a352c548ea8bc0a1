"""A smooth brain of known shape, for geometry, and tumors that grow in it."""

import numpy as np
import pytest
from makers.implants import order

from shiftkit.phantoms.implants.brains import Brain
from shiftkit.phantoms.implants.growth import Growth, grow
from shiftkit.types import Volume

SPACING_MM = 4.0


@pytest.fixture(scope="session")
def brain() -> Brain:
    """An ellipsoid of 130 × 160 × 120 mm in voxels that run from right to left, off the world's origin."""
    half = np.array([65.0, 80.0, 60.0])
    shape = tuple(np.ceil(2 * (half + 10) / SPACING_MM).astype(int))
    affine = np.diag([-SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = 75 + 12, -90 - 7, -70 + 20
    grid = Volume(array=np.ones(shape, dtype=bool), affine=affine)
    inside = np.linalg.norm((grid.points_inside() - (12, -7, 20)) / half, axis=1) < 1
    return Brain(mask=grid.with_array(inside.reshape(shape)))


@pytest.fixture(scope="session")
def grown(brain: Brain) -> Growth:
    return grow(brain, order(), np.random.default_rng(1))
