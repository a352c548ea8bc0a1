"""Patches of a sample: cut at a corner, drawn so that small bundles are seen as often as large ones."""

from dataclasses import replace

import numpy as np

from .samples import Sample

Size = tuple[int, int, int]
"""In voxels."""

FOREGROUND = 0.5
"""Share of patches that are centered on a bundle."""


def crop(sample: Sample, corner: tuple[int, int, int], size: Size) -> Sample:
    """Cut a patch of ``size`` voxels whose first voxel is ``corner`` in the sample's box.

    Its coordinate channels go with it, so that a network still knows where it is; its affine keeps each voxel in its
    place in the world. A `ValueError` if the patch does not lie within the box.

    Examples
    --------
    >>> image = np.arange(64, dtype=np.float32).reshape(1, 4, 4, 4)
    >>> sample = Sample(key="sub-1", image=image, affine=np.eye(4), own_affine=np.eye(4), own_shape=(4, 4, 4))
    >>> patch = crop(sample, (1, 0, 2), (2, 2, 2))
    >>> patch.image.shape, patch.affine[:3, 3].tolist()
    ((1, 2, 2, 2), [1.0, 0.0, 2.0])
    """
    box = sample.image.shape[1:]
    if any(first < 0 or first + n > whole for first, n, whole in zip(corner, size, box, strict=True)):
        raise ValueError(f"a patch must lie within the box {box}; got corner {corner}, size {size}")
    where = tuple(slice(first, first + n) for first, n in zip(corner, size, strict=True))
    affine = sample.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ corner  # where the first voxel is now
    return replace(
        sample,
        image=sample.image[:, *where].copy(),
        affine=affine,
        target=None if sample.target is None else sample.target[:, *where].copy(),
    )


def draw_patch(sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
    """Cut a patch at a drawn place; see `draw_corner`."""
    return crop(sample, draw_corner(sample, size, rng), size)


def draw_corner(sample: Sample, size: Size, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw where a patch lies: half of them around a voxel of a bundle, the others anywhere in the box.

    The bundle is drawn first, each known and present one as likely as any other, and then one of its voxels:
    a thin bundle is seen as often as a thick one. At the box's edge the voxel is not in the patch's middle. Without
    reference masks every patch lies anywhere.

    References
    ----------
    Isensee F et al. Nat Methods 2021;18:203, doi 10.1038/s41592-020-01008-z.
    """
    box = np.array(sample.image.shape[1:], dtype=np.int64)
    room = box - np.array(size, dtype=np.int64)
    corner = rng.integers(0, room + 1)  # always drawn, so that later draws do not depend on what the masks hold
    present: list[int] = []
    if sample.target is not None and sample.known is not None:
        present = [int(bundle) for bundle in np.flatnonzero(sample.known) if sample.target[bundle].any()]
    if sample.target is not None and present and rng.random() < FOREGROUND:
        voxels = np.flatnonzero(sample.target[rng.choice(present)])
        center = np.array(np.unravel_index(rng.choice(voxels), tuple(box)))
        corner = np.clip(center - np.array(size) // 2, 0, room)
    x, y, z = corner.tolist()
    return x, y, z
