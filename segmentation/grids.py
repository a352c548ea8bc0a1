"""The box of voxels that a model works in."""

import math

_BOX_MM = (160.0, 200.0, 160.0)
"""Right to left, back to front, bottom to top: what an adult's brain needs."""
_MULTIPLE = 16
"""Networks of four depths halve the grid three times, and one of five could be trained on the same box."""


def box_shape(spacing_mm: float) -> tuple[int, int, int]:
    """Shape of the smallest box that holds a brain at a spacing; RAS, each side a multiple of 16 voxels.

    Examples
    --------
    >>> box_shape(2.5), box_shape(2.0)
    ((64, 80, 64), (80, 112, 80))
    """
    x, y, z = (_MULTIPLE * math.ceil(length / spacing_mm / _MULTIPLE) for length in _BOX_MM)
    return x, y, z
