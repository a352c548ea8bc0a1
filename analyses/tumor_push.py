"""How far tumors push bundles, from a cohort without earlier scans: displacement that points away from the tumor.

A displacement's length adds up individual anatomy and the tumor's push, and anatomy is the larger. Its direction tells
them apart: people's anatomy does not know where a tumor will grow, so on average over people its component away from
the tumor is 0, while a push is all in that direction.
"""

import numpy as np

from .registration import Array

_FEWEST = 5
_ENOUGH = 20
_CLOSE_MM = 1.0
"""Closer to the tumor's center than this, there is no direction away from it."""


def away_from(skeleton_mm: Array, center_mm: Array) -> Array:
    """Unit vectors away from a place and across a bundle; shape (32, 3), NaN where there is no such direction.

    A mask shows displacement across the bundle only, so the component along it is left out.

    Parameters
    ----------
    skeleton_mm : ndarray, shape (32, 3)
        Points along the bundle, world mm.
    center_mm : ndarray, shape (3,)
        The tumor's center.

    Examples
    --------
    >>> points = np.stack([np.zeros(32), np.arange(32.0), np.zeros(32)], axis=1)
    >>> away_from(points, np.array([-10.0, 3.0, 0.0]))[20].tolist()
    [1.0, 0.0, 0.0]
    """
    along = np.gradient(skeleton_mm, axis=0)
    along = along / np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    way = skeleton_mm - center_mm
    across = way - (way * along).sum(axis=1, keepdims=True) * along
    length = np.linalg.norm(across, axis=1, keepdims=True)
    return np.where(length > _CLOSE_MM, across / np.maximum(length, 1e-9), np.nan)
