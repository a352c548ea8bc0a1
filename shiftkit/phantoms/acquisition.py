"""How a scan departs from the anatomy: one editable TOML profile a scanner."""

import dataclasses
import tomllib
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..errors import ConfigError
from .warp import Array, Warp, coarse_points, exponentiate


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


def load_profile(profile: str | Path) -> Profile:
    """Read a profile: ``"source"``, ``"target"`` or the path of a TOML file.

    Raises
    ------
    ConfigError
        If the file is missing or its keys are not those of a profile.
    """
    path = Path(__file__).parent / "profiles" / f"{profile}.toml" if isinstance(profile, str) else profile
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"An acquisition profile is a TOML file; {path} cannot be read: {error}.") from error
    names = {field.name for field in dataclasses.fields(Profile)}
    if set(content) != names:
        wrong = ", ".join(sorted(set(content) ^ names))
        raise ConfigError(f"{path} must hold exactly the keys {', '.join(sorted(names))}; check {wrong}.")
    return Profile(**{**content, "blur_mm": tuple(content["blur_mm"])})


_FALSE_BY_RANK = np.array([[0.3], [0.6], [1.0]], dtype=np.float32)
"""False peaks are mostly weak ones."""


def draw_pose(profile: Profile, rng: np.random.Generator) -> Warp:
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
    velocity = np.broadcast_to(offset[:, None, None, None], (3, *points.shape[:3])).copy()
    velocity[1] += strength * along_y
    return exponentiate(velocity)


def measure_scalar(image: Array, brain: Array, profile: Profile, spacing_mm: float, rng: np.random.Generator) -> Array:
    """Blur, bias field and Rician noise on an image with values of about 0–1."""
    sigma = [width / spacing_mm for width in profile.blur_mm]
    blurred = ndimage.gaussian_filter(image, sigma)
    scale = np.abs(blurred[brain]).mean() + 1e-6
    real = blurred + rng.normal(0, profile.noise * scale, image.shape)
    imaginary = rng.normal(0, profile.noise * scale, image.shape)
    return np.hypot(real, imaginary) * brain


def bias_field(shape: tuple[int, int, int], profile: Profile, spacing_mm: float, rng: np.random.Generator) -> Array:
    """A smooth multiplicative receive field around 1."""
    coarse = rng.standard_normal([max(3, int(n * spacing_mm / 60)) for n in shape])
    smooth = ndimage.zoom(coarse, np.array(shape) / coarse.shape, order=3, mode="nearest", grid_mode=True)
    smooth = (smooth - smooth.mean()) / (np.ptp(smooth) + 1e-6)
    return 1 + profile.bias * smooth


def measure_peaks(peaks: Array, profile: Profile, spacing_mm: float, rng: np.random.Generator) -> Array:
    """Angular error, weaker and false peaks, and partial volume on peaks, shape (X, Y, Z, 3, 3).

    Blurring averages peaks of the same rank after giving them a common sign, as interpolated
    spherical deconvolution does where one population leads.
    """
    lead = np.abs(peaks).argmax(axis=-1)
    sign = np.sign(np.take_along_axis(peaks, lead[..., None], axis=-1))
    peaks = peaks * np.where(sign == 0, 1, sign)
    amplitude = np.linalg.norm(peaks, axis=-1, keepdims=True)
    error = np.tan(np.deg2rad(profile.peak_angle_deg)) / np.sqrt(2) * rng.standard_normal(peaks.shape, np.float32)
    # Weak peaks are less certain than strong ones.
    peaks = peaks + error * np.sqrt(np.maximum(amplitude, 0) * 0.6)
    peaks = peaks + profile.false_peak * rng.standard_normal(peaks.shape, np.float32) * _FALSE_BY_RANK
    sigma = [width / spacing_mm for width in profile.blur_mm]
    if any(sigma):
        peaks = np.stack(
            [ndimage.gaussian_filter(peaks[..., p, c], sigma) for p in range(3) for c in range(3)], axis=-1
        ).reshape(peaks.shape)
    return peaks
