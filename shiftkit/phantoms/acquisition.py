"""How a scan departs from the anatomy: one editable TOML profile a scanner."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ConfigError, raise_all
from ..files import read_toml
from ..words import readable
from .warp import Array, Warp, coarse_points, exponentiate

PROFILES = ("source", "target")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """The settings of one scanner and protocol; see the comments in ``profiles/source.toml``."""

    noise: float
    bias: float
    blur_mm: tuple[float, float, float]
    peak_angle_deg: float
    false_peak: float
    fa_scale: float
    t1_gamma: float
    distortion_mm: float
    offset_mm: float
    label_style: float

    def to_dict(self) -> dict[str, object]:
        """The settings, ready for JSON."""
        return {**dataclasses.asdict(self), "blur_mm": list(self.blur_mm)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pose:
    """Where one scan puts the participant, and the numbers it was drawn from.

    Parameters
    ----------
    warp : Warp
        From the participant to the scan.
    offset_mm : tuple of float
        Misalignment along x, y and z.
    distortion_mm : float
        Strength of the distortion near air, along y.
    """

    warp: Warp
    offset_mm: tuple[float, ...]
    distortion_mm: float


def load_profile(profile: str | Path) -> Profile:
    """Read a profile: ``"source"``, ``"target"`` or the path of a TOML file with the same keys.

    Raises
    ------
    ConfigError
        If the file is missing, its keys are not those of a profile, or a value is not finite or out of bounds.
    """
    path = Path(__file__).parent / "profiles" / f"{profile}.toml" if str(profile) in PROFILES else Path(profile)
    try:
        content = read_toml(path, "profile")
    except (OSError, ValueError) as error:
        raise ConfigError(f"An acquisition profile is a TOML file; {path} cannot be read: {error}.") from error
    names = {field.name for field in dataclasses.fields(Profile)}
    if set(content) != names:
        wrong = readable(", ".join(sorted(set(content) ^ names)))[:200]
        raise ConfigError(f"{path} must hold exactly the keys {', '.join(sorted(names))}; check {wrong}.")
    blur = content.pop("blur_mm")
    numbers = [*content.values(), *(blur if isinstance(blur, list) and len(blur) == 3 else ["?"])]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        raise ConfigError(
            f"{path} must hold one number a key, and three for blur_mm; got {str(content | {'blur_mm': blur})[:300]}."
        )
    values = [*content.items(), *(("blur_mm", width) for width in blur)]
    bounds = {name: _BOUNDS[name] for name, _ in values}
    strange = {name: value for name, value in values if not bounds[name][0] <= value <= bounds[name][1]}  # NaN too
    raise_all(
        [f"{name} must lie in {bounds[name][0]:g}–{bounds[name][1]:g}; got {value}" for name, value in strange.items()],
        str(path),
        ConfigError,
    )
    return Profile(**content, blur_mm=(float(blur[0]), float(blur[1]), float(blur[2])))


_BOUNDS: Mapping[str, tuple[float, float]] = {
    "noise": (0, 2),
    "bias": (0, 2),  # above it the field would turn the sign of the image
    "blur_mm": (0, 20),
    "peak_angle_deg": (0, 80),  # at 90 the error's tangent is infinite
    "false_peak": (0, 2),
    "fa_scale": (0.05, 2),
    "t1_gamma": (0.1, 10),
    "distortion_mm": (-30, 30),
    "offset_mm": (0, 30),
    "label_style": (-3, 3),
}
"""What each setting can be and still make a scan: beyond, nothing of the anatomy is left, or no number."""

_FALSE_BY_RANK = np.array([[0.3], [0.6], [1.0]], dtype=np.float32)
"""False peaks are mostly weak ones."""


def draw_pose(profile: Profile, rng: np.random.Generator) -> Pose:
    """Displacement of the whole scan: misalignment to the common space, and distortion near air.

    Echo-planar images are stretched along the phase-encoding axis (y) above the sinuses and ear canals.
    """
    offset = rng.normal(0, profile.offset_mm, 3)
    strength = profile.distortion_mm * rng.uniform(0.6, 1.4)
    points = coarse_points()
    air = [((0, 50, -25), 22.0, 1.0), ((-50, -20, -35), 18.0, -0.8), ((50, -20, -35), 18.0, -0.8)]
    along_y = sum(
        sign * np.exp(-((points - np.array(place)) ** 2).sum(-1) / (2 * width**2)) for place, width, sign in air
    )
    velocity = np.broadcast_to(offset, points.shape).copy()
    velocity[..., 1] += strength * along_y
    return Pose(warp=exponentiate(velocity), offset_mm=tuple(offset.tolist()), distortion_mm=float(strength))


def measure_scalar(
    image: Array, brain: NDArray[np.bool_], profile: Profile, spacing_mm: float, rng: np.random.Generator
) -> Array:
    """Blur, bias field and Rician noise on an image with values of about 0–1."""
    sigma = [width / spacing_mm for width in profile.blur_mm]
    blurred = ndimage.gaussian_filter(image, sigma)
    scale = np.abs(blurred[brain]).mean() + 1e-6
    # The magnitude of a complex signal: noise adds up where there is none, so its floor is above zero.
    real = blurred + rng.normal(0, profile.noise * scale, image.shape)
    imaginary = rng.normal(0, profile.noise * scale, image.shape)
    return np.hypot(real, imaginary) * brain


def bias_field(shape: tuple[int, int, int], profile: Profile, spacing_mm: float, rng: np.random.Generator) -> Array:
    """A smooth multiplicative receive field around 1."""
    coarse = rng.standard_normal([max(3, int(n * spacing_mm / 60)) for n in shape])
    smooth = np.asarray(ndimage.zoom(coarse, np.array(shape) / coarse.shape, order=3, mode="nearest", grid_mode=True))
    smooth = (smooth - smooth.mean()) / (np.ptp(smooth) + 1e-6)
    return 1 + profile.bias * smooth


def measure_peaks(
    peaks: NDArray[np.float32], inside: NDArray[np.bool_], profile: Profile, spacing_mm: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Angular error, weaker and false peaks, and partial volume on peaks.

    Blurring averages peaks of the same rank after giving them a common sign, as interpolated
    spherical deconvolution does where one population leads.

    Parameters
    ----------
    peaks : ndarray, shape (X, Y, Z, 3, 3)
        Three peaks a voxel, zero outside the brain.
    inside : ndarray of bool, shape (X, Y, Z)
        The brain; only there is anything measured.
    profile, spacing_mm, rng
        The scanner, the voxel size in mm, and where the errors come from.
    """
    error = rng.standard_normal(peaks.shape, np.float32)
    false_everywhere = rng.standard_normal(peaks.shape, np.float32)
    sigma = [width / spacing_mm for width in profile.blur_mm]
    box = _box(inside, [int(4 * width + 0.5) for width in sigma])
    seen: Array = peaks[box]
    error, false = error[box], false_everywhere[box]
    lead = np.abs(seen).argmax(axis=-1)
    sign = np.sign(np.take_along_axis(seen, lead[..., None], axis=-1))
    seen = seen * np.where(sign == 0, np.float32(1), sign)
    amplitude = np.linalg.norm(seen, axis=-1, keepdims=True)
    scale = np.tan(np.deg2rad(profile.peak_angle_deg)) / np.sqrt(2)
    # Weak seen are less certain than strong ones.
    seen = seen + scale * error * np.sqrt(np.maximum(amplitude, 0) * 0.6)
    seen = seen + profile.false_peak * false * _FALSE_BY_RANK
    if any(sigma):
        for p, c in np.ndindex(3, 3):
            seen[..., p, c] = ndimage.gaussian_filter(seen[..., p, c], sigma)
    measured = false_everywhere * np.float32(0)  # zeros with the sign of the noise: what full-size arithmetic gives
    measured[box] = seen * inside[box][..., None, None]
    return measured


def _box(inside: NDArray[np.bool_], margin: list[int]) -> tuple[slice, ...]:
    """The part of the grid that holds the brain and what a filter of that half-width sees from there."""
    slices: list[slice] = []
    for axis in range(3):
        held = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (int(held[0]), int(held[-1])) if len(held) else (0, 0)
        slices.append(slice(max(low - margin[axis], 0), high + margin[axis] + 1))
    return tuple(slices)
