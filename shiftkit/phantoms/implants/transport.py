"""Images, masks and peaks of a healthy participant as a tumor leaves them: moved, turned, weakened."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...types import Volume
from ..tumors import darkened_t1, fiber_room
from ..warp import Array, interpolate, jacobian, jacobian_matrix
from .brains import Brain
from .growth import Growth

CHANGED = ("t1w", "fa", "ap", "peaks")
"""Modalities whose values a tumor is known to change; what it does to others is not, so they are moved alone."""
_LEFT = 0.2
"""Share of FA and of anisotropic power that is left where no fiber is: FA is 0.09 in necrotic cores and 0.47 in normal
brain (Sinha S et al., AJNR 23:520 (2002))."""
_EDEMA = 0.5
"""Share of edema from which a voxel belongs to its mask."""
_SAME_FIBER_DEG = 45.0
"""Peaks of neighbors that differ by more are other fibers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Transport:
    """What a tumor does on its participant's grid.

    ``growth`` is None for a tumor of no volume, which changes nothing.
    """

    brain: Brain
    growth: Growth | None

    @property
    def grid(self) -> Volume:
        """The participant's grid."""
        return self.brain.mask

    @cached_property
    def _points(self) -> Array:
        """World coordinates of all voxels, shape (X, Y, Z, 3) in mm."""
        shape = self.grid.shape
        return self.grid.world(np.indices(shape).reshape(3, -1).T).reshape(*shape, 3)

    @cached_property
    def displacement_mm(self) -> NDArray[np.float32]:
        """How far, and where to in world axes, the tissue of each voxel was pushed, shape (X, Y, Z, 3)."""
        if self.growth is None:
            return np.zeros((*self.grid.shape, 3), dtype=np.float32)
        return (self._points - self.growth.push.to_template(self._points)).astype(np.float32)

    @cached_property
    def moved(self) -> NDArray[np.bool_]:
        """Voxels whose tissue lay elsewhere, shape (X, Y, Z); V of them."""
        return np.asarray((self.displacement_mm != 0).any(axis=-1))

    @cached_property
    def _sources(self) -> Array:
        """Where their tissue lay, in voxels, shape (V, 3)."""
        return self.grid.voxels((self._points - self.displacement_mm)[self.moved])

    @cached_property
    def depth(self) -> Array:
        """Under 1 in the tumor, shape (X, Y, Z); infinite without one."""
        if self.growth is None:
            return np.full(self.grid.shape, np.inf)
        return self.growth.depth(self._points)

    @cached_property
    def tumor(self) -> Volume:
        """What lies in the tumor and in the brain."""
        return self.grid.with_array((self.depth < 1) & self.brain.mask.array)

    @cached_property
    def core(self) -> Volume:
        """Where no fiber is left."""
        share = 0.0 if self.growth is None else self.growth.core_share
        return self.grid.with_array((self.depth < share) & self.brain.mask.array)

    def edema(self, wm: NDArray[Any]) -> Array:
        """Share of edema in tissue of some share of white matter before the tumor, both of shape (X, Y, Z)."""
        if self.growth is None:
            return np.zeros(self.grid.shape)
        return self.growth.edema(self.depth, self.pull(wm)) * self.brain.mask.array

    def pull(self, array: NDArray[Any], order: int = 1) -> NDArray[Any]:
        """A map, shape (X, Y, Z), as tissue carries it; where nothing moves not a bit changes."""
        made = array.copy()
        if order == 1:
            made[self.moved] = interpolate(array[..., None], self._sources, np.zeros(3), 1.0)[:, 0]
        elif self.moved.any():
            # Of the third order, for what is interpolated linearly is blurred too, which no tumor does.
            values = ndimage.map_coordinates(array, self._sources.T, order=order, mode="nearest")
            made[self.moved] = np.clip(values, array.min(), array.max())
        return made

    def pull_mask(self, mask: Volume) -> Volume:
        """A mask as tissue carries it: voxels of which at least half were inside."""
        return mask.with_array(self.pull(mask.array.astype(np.float32)) >= 0.5)

    @cached_property
    def kept(self) -> NDArray[np.float32]:
        """What share of each voxel's tissue was there before, shape (X, Y, Z); the rest is the tumor's own growth."""
        made = np.ones(self.grid.shape, dtype=np.float32)
        if self.growth is not None and self.moved.any():
            push = self.growth.push
            back = jacobian(push.backward, push.spacing_mm)[..., None]
            share = interpolate(back, self._points[self.moved], push.origin_mm, push.spacing_mm)[:, 0]
            made[self.moved] = np.clip(share, 0, 1)
        return made

    def pull_bundle(self, mask: Volume) -> Volume:
        """A reference mask as tissue carries it, less the core and less what is mostly new.

        Mass effect swells the tissue in a tumor up to tenfold, which adds no fibers: they are diluted.
        """
        moved = self.pull_mask(mask)
        return moved.with_array(moved.array & ~self.core.array & (self.kept >= 0.5))

    def pull_peaks(self, peaks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Peaks, shape (X, Y, Z, 9) in world axes, as tissue carries them; see `turned`."""
        made = peaks.copy()
        if self.growth is None or not self.moved.any():
            return made
        pulled = np.empty((len(self._sources), 3, 3), dtype=np.float32)
        cosine = float(np.cos(np.deg2rad(_SAME_FIBER_DEG)))
        whole = np.ascontiguousarray(peaks.reshape(*peaks.shape[:3], 3, 3))
        _interpolate_peaks(whole, self._sources, cosine, pulled)
        push = self.growth.push
        back = jacobian_matrix(push.backward, push.spacing_mm)
        there = interpolate(
            back.reshape(*back.shape[:3], 9), self._points[self.moved], push.origin_mm, push.spacing_mm
        ).reshape(-1, 3, 3)
        made[self.moved] = turned(pulled, np.linalg.inv(there)).reshape(-1, 9)
        return made


def turned(peaks: NDArray[np.float32], jacobian: Array) -> NDArray[np.float32]:
    r"""Peaks, shape (V, 3, 3), turned as the Jacobian of a push, shape (V, 3, 3), turns fibers; lengths stay.

    A fiber of direction v leads along :math:`J v` afterwards, by the chain rule. Each peak is its own principal
    direction, which is preserved; an eigenvector alone would say nothing of a second fiber.

    References
    ----------
    Alexander DC et al. Spatial transformations of diffusion tensor magnetic resonance images. IEEE Trans Med Imaging
    20:1131 (2001), doi 10.1109/42.963816.

    Examples
    --------
    >>> peaks = np.zeros((1, 3, 3), dtype=np.float32)
    >>> peaks[0, 0] = 0, 2, 0
    >>> shear = np.array([[[1.0, 1, 0], [0, 1, 0], [0, 0, 1]]])
    >>> turned(peaks, shear)[0, 0].round(3).tolist()
    [1.4140000343322754, 1.4140000343322754, 0.0]
    """
    made = np.einsum("vij,vpj->vpi", jacobian, peaks)
    before, after = np.linalg.norm(peaks, axis=-1), np.linalg.norm(made, axis=-1)
    return (made * np.divide(before, after, out=np.zeros_like(after), where=after > 0)[..., None]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A participant's images with the tumor, shape and grid as before, and where there is edema."""

    images: Mapping[str, Volume]
    edema: Volume


def show(images: Mapping[str, Volume], transport: Transport) -> Scene:
    """Images of a participant as the tumor leaves them.

    Tissue is carried along by mass effect. T1w is dark in the tumor and a little darker in edema; FA, anisotropic power
    and peaks are weakened by edema and fade through the infiltrated rim, in the core there is no peak. Maps of any
    other modality are moved alone.

    Parameters
    ----------
    images : mapping of str to Volume
        By modality, all on one grid; peaks have nine channels, vectors in world axes.
    transport : Transport
        What the tumor does.
    """
    growth, brain = transport.growth, transport.brain.mask.array
    edema = transport.edema(white_matter(images, brain))
    core = 0.0 if growth is None else growth.core_share
    fading = 0.0 if growth is None else growth.fading
    room = fiber_room(transport.depth, core) * (1 - fading * edema)
    made: dict[str, NDArray[Any]] = {}
    for name, volume in images.items():
        if name == "peaks":
            made[name] = transport.pull_peaks(volume.array) * room.astype(np.float32)[..., None]
            continue
        channels = volume.array.reshape(*volume.shape, -1)
        moved = np.stack([transport.pull(channels[..., c], 3) for c in range(channels.shape[3])], axis=-1)
        moved = moved.reshape(volume.array.shape)
        if name == "t1w" and growth is not None:
            bright = float(np.quantile(volume.array[brain], 0.9))  # most of a brain's brightest tenth is white matter
            moved = np.where(brain, darkened_t1(moved, transport.depth, edema, bright), moved)
        elif name in ("fa", "ap"):
            moved = moved * np.where(brain, _LEFT + (1 - _LEFT) * room, 1.0)
        made[name] = moved
    return Scene(
        images={name: images[name].with_array(array.astype(np.float32)) for name, array in made.items()},
        edema=transport.grid.with_array((edema >= _EDEMA) & ~transport.tumor.array),
    )


def white_matter(images: Mapping[str, Volume], brain: NDArray[np.bool_]) -> Array:
    """About what share of each voxel is white matter, along which edema spreads; 1 where no image tells."""
    if "fa" in images:
        return np.clip(images["fa"].array / 0.3, 0, 1)
    if "peaks" in images:
        length = np.linalg.norm(images["peaks"].array[..., :3], axis=-1)
        return np.clip(length / max(float(np.quantile(length[brain], 0.75)), 1e-6), 0, 1)
    if "t1w" in images:
        bright = max(float(np.quantile(images["t1w"].array[brain], 0.9)), 1e-6)
        return np.clip((images["t1w"].array / bright - 0.6) / 0.3, 0, 1)
    return np.ones(brain.shape, dtype=np.float32)


@numba.njit(cache=True)
def _interpolate_peaks(peaks, sources, cosine, made):  # pyright: ignore
    """Peaks between voxels: those of the nearest voxel lead, each averaged with the neighbors' peaks of its fiber.

    Peaks have no sign, and their order differs from voxel to voxel: channels cannot be interpolated one by one.
    """
    nx, ny, nz = peaks.shape[:3]
    for v in range(sources.shape[0]):
        x, y, z = sources[v, 0], sources[v, 1], sources[v, 2]
        i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
        ni = min(max(int(np.floor(x + 0.5)), 0), nx - 1)
        nj = min(max(int(np.floor(y + 0.5)), 0), ny - 1)
        nk = min(max(int(np.floor(z + 0.5)), 0), nz - 1)
        for p in range(3):
            ax, ay, az = peaks[ni, nj, nk, p, 0], peaks[ni, nj, nk, p, 1], peaks[ni, nj, nk, p, 2]
            length = np.sqrt(ax * ax + ay * ay + az * az)
            sx = sy = sz = 0.0
            for corner in range(8):
                if length == 0:
                    break
                dx, dy, dz = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1
                weight = (x - i if dx else 1 - x + i) * (y - j if dy else 1 - y + j) * (z - k if dz else 1 - z + k)
                ci, cj, ck = i + dx, j + dy, k + dz
                if weight == 0 or ci < 0 or cj < 0 or ck < 0 or ci >= nx or cj >= ny or ck >= nz:
                    continue
                best, at, sign = cosine, -1, 1.0
                for q in range(3):
                    bx, by, bz = peaks[ci, cj, ck, q, 0], peaks[ci, cj, ck, q, 1], peaks[ci, cj, ck, q, 2]
                    other = np.sqrt(bx * bx + by * by + bz * bz)
                    if other == 0:
                        continue
                    alike = (ax * bx + ay * by + az * bz) / (length * other)
                    if abs(alike) > best:
                        best, at = abs(alike), q
                        sign = 1.0 if alike > 0 else -1.0
                if at >= 0:
                    sx += weight * sign * peaks[ci, cj, ck, at, 0]
                    sy += weight * sign * peaks[ci, cj, ck, at, 1]
                    sz += weight * sign * peaks[ci, cj, ck, at, 2]
            made[v, p, 0], made[v, p, 1], made[v, p, 2] = sx, sy, sz
