"""A raw diffusion series: what a scanner records before anything is computed from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..types import Volume
from .acquisition import Profile
from .warp import Array

_AXIAL, _RADIAL = 1.7e-3, 0.3e-3  # diffusivities of a fiber population, mm²/s
_GRAY, _FLUID, _EDEMA = 0.8e-3, 3.0e-3, 1.6e-3  # of tissue without direction, mm²/s
_SHELLS = ((1000.0, 20), (2500.0, 30))
_UNWEIGHTED = 4


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """A diffusion series and its gradients.

    Parameters
    ----------
    volume : Volume
        Signal, shape (X, Y, Z, N), unweighted white matter at about 1.
    bvals : ndarray, shape (N,)
        s/mm².
    directions : ndarray, shape (N, 3)
        Unit gradients in world RAS+; zero where unweighted.
    brain : Volume
        The mask that the signal is confined to.
    """

    volume: Volume
    bvals: Array
    directions: Array
    brain: Volume

    @property
    def bvecs(self) -> Array:
        """Gradients in FSL's frame, shape (N, 3): voxel axes, the first reversed where the affine is right-handed."""
        rotation = self.volume.affine[:3, :3] / np.asarray(self.volume.spacing_mm)
        bvecs = self.directions @ rotation
        if np.linalg.det(rotation) > 0:
            bvecs[:, 0] *= -1
        return bvecs


def gradients() -> tuple[Array, Array]:
    """The scheme: b-values, shape (N,), and unit directions in world axes, shape (N, 3)."""
    bvals = np.concatenate([np.zeros(_UNWEIGHTED), *(np.full(count, b) for b, count in _SHELLS)])
    directions = [np.zeros((_UNWEIGHTED, 3)), *(_hemisphere(count) for _, count in _SHELLS)]
    return bvals, np.concatenate(directions)


def measure_diffusion(
    peaks: NDArray[np.float32],
    seen: dict[str, Array],
    brain: NDArray[np.bool_],
    profile: Profile,
    affine: NDArray[np.float64],
    rng: np.random.Generator,
) -> Diffusion:
    """Signal of a mixture of tensors, blurred, with Rician noise.

    Each peak is a population with its length as volume fraction; the rest of the voxel is gray matter, fluid
    or edema without direction (Tuch DS et al., Magn Reson Med 48:577 (2002), doi 10.1002/mrm.10268).

    Parameters
    ----------
    peaks : ndarray, shape (V, 3, 3)
        True peaks of the brain's voxels in world axes, length = volume fraction.
    seen : dict of str to ndarray, shape (V,)
        Tissue shares ``gm`` and ``wm``, and ``edema``.
    brain : ndarray of bool, shape (X, Y, Z)
        With V true voxels.
    profile, affine, rng
        The scanner, the grid, and where noise comes from.
    """
    bvals, directions = gradients()
    fraction = np.linalg.norm(peaks, axis=-1)
    unit = peaks / np.maximum(fraction, 1e-6)[..., None]
    fraction = fraction / np.maximum(fraction.sum(axis=1, keepdims=True), 1.0)
    rest = 1 - fraction.sum(axis=1)
    edema = seen["edema"]
    fluid = np.clip(1 - seen["gm"] - seen["wm"], 0, 1) * (1 - edema)
    sigma = [width / float(affine[0, 0]) for width in profile.blur_mm]
    series = np.zeros((*brain.shape, len(bvals)), dtype=np.float32)
    image = np.zeros(brain.shape)
    for n, (b, direction) in enumerate(zip(bvals, directions, strict=True)):
        along = (unit @ direction) ** 2
        fibers = (fraction * np.exp(-b * (_RADIAL + (_AXIAL - _RADIAL) * along))).sum(axis=1)
        plain = (1 - edema) * np.exp(-b * _GRAY) + edema * np.exp(-b * _EDEMA)
        # Fluid and edema are bright where nothing is weighted.
        image[brain] = fibers + rest * ((1 + edema) * (1 - fluid) * plain + 2.5 * fluid * np.exp(-b * _FLUID))
        real = ndimage.gaussian_filter(image, sigma) + rng.normal(0, profile.noise, brain.shape)
        series[..., n] = np.hypot(real, rng.normal(0, profile.noise, brain.shape)) * brain
    return Diffusion(
        volume=Volume(array=series, affine=affine),
        bvals=bvals,
        directions=directions,
        brain=Volume(array=brain, affine=affine),
    )


def _hemisphere(count: int) -> Array:
    """Directions spread over half a sphere along a spiral of golden angles."""
    n = np.arange(count)
    z = (n + 0.5) / count
    angle = n * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - z**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)
