"""How a scan departs from the anatomy: one editable TOML profile a scanner."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ConfigError, raise_all
from ..files import read_toml
from ..words import readable
from .people import TYPICAL_AGE, aside
from .smoothing import smooth
from .tumors import Gliomas, outward
from .warp import Array, Warp, coarse_points, exponentiate

PROFILES = ("source", "mild", "moderate", "severe")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """One scanner, protocol and group of people; see the comments in ``profiles/source.toml``.

    What has a default may be left out of a file.
    """

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
    peak_scale: float = 1.0
    merged_deg: float = 30.7
    rotation_deg: float = 0.0
    variation: float = 0.0
    aging: float = 0.0
    gliomas: Gliomas = dataclasses.field(default_factory=Gliomas)

    def to_dict(self) -> dict[str, object]:
        """The settings, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def draw_scan(self, rng: np.random.Generator) -> "Profile":
        """The profile as one scan has it: some people lie still, others do not.

        What motion and the day change is multiplied by one factor of mean 1 and standard deviation `variation`;
        nothing is taken from the generator itself.
        """
        if not self.variation:
            return self
        worse = float(aside(rng).gamma(self.variation**-2, self.variation**2))
        changed = ("noise", "peak_angle_deg", "false_peak", "distortion_mm")
        return dataclasses.replace(self, **{name: getattr(self, name) * worse for name in changed})


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
    """Read a profile: ``"source"``, ``"mild"``, ``"moderate"``, ``"severe"`` or the path of a TOML file.

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
    gliomas = content.pop("gliomas", {})
    if not isinstance(gliomas, dict):
        raise ConfigError(f"{path} must hold `gliomas` as a table, [gliomas]; got {gliomas!r:.300}.")
    return Profile(**_checked(content, Profile, path), gliomas=Gliomas(**_checked(gliomas, Gliomas, path)))


_LENGTHS = {"blur_mm": 3, "volume_range_ml": 2, "mass": 2, "edema_mm": 2}


def _checked(content: dict[str, Any], kind: type[Profile | Gliomas], path: Path) -> dict[str, Any]:
    """The settings of a file, lists as tuples, once their names, types and values are right."""
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != "gliomas"}
    needed = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    wrong = readable(", ".join(sorted((needed - set(content)) | (set(content) - set(fields)))))[:200]
    if wrong:
        raise ConfigError(f"{path} must hold the keys {', '.join(sorted(fields))}; check {wrong}.")
    problems: list[str] = []
    for name, value in content.items():
        values = value if name in _LENGTHS and isinstance(value, list) else [value]
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
        if not numbers or len(values) != _LENGTHS.get(name, 1):
            raise ConfigError(
                f"{path} must hold one number a key, three for blur_mm, two for a range; got {name} = {value!r:.300}."
            )
        low, high = _BOUNDS[name]
        problems += [f"{name} must lie in {low:g}–{high:g}; got {one}" for one in values if not low <= one <= high]
        if _LENGTHS.get(name) == 2 and values[0] > values[1]:
            problems.append(f"{name} is a range, from the smaller to the larger; got {values}")
    raise_all(problems, str(path), ConfigError)
    return {name: tuple(map(float, value)) if name in _LENGTHS else float(value) for name, value in content.items()}


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
    "peak_scale": (0.05, 5),
    "merged_deg": (0, 89),  # no two axes are farther apart than 90
    "rotation_deg": (0, 20),
    "variation": (0, 2),  # at more, nearly all scans lie still and a few are absurd
    "aging": (0, 3),  # peaks of a ninety-year-old would vanish beyond
    "volume_ml": (0.5, 300),
    "volume_log_sd": (0, 2),
    "volume_range_ml": (0.1, 500),
    "mass": (0, 1.5),
    "edema_mm": (0, 60),
    "fading": (0, 1),
    "severed": (0, 1),
}
"""What each setting can be and still make a scan: beyond, nothing of the anatomy is left, or no number."""


def draw_pose(profile: Profile, rng: np.random.Generator, age: float = TYPICAL_AGE) -> Pose:
    """Displacement of the whole scan: misalignment to the common space, distortion near air, and age.

    Echo-planar images are stretched along the phase-encoding axis (y) above the sinuses and ear canals. With age the
    lateral ventricles widen (Scahill RI et al., Arch Neurol 60:989 (2003), doi 10.1001/archneur.60.7.989).
    """
    offset = rng.normal(0, profile.offset_mm, 3)
    strength = profile.distortion_mm * rng.uniform(0.6, 1.4)
    angles = np.deg2rad(aside(rng).normal(0, profile.rotation_deg, 3)) if profile.rotation_deg else np.zeros(3)
    years = profile.aging * (age - TYPICAL_AGE)
    warp = _displaced(tuple(offset.tolist()), float(strength), tuple(angles.tolist()), years)
    return Pose(warp=warp, offset_mm=tuple(offset.tolist()), distortion_mm=float(strength))


@lru_cache(maxsize=2)  # two scanners see a patient with and without a tumor
def _displaced(offset_mm: tuple[float, ...], strength: float, angles: tuple[float, ...], years: float) -> Warp:
    """Misalignment, distortion along y near air and rotation, in radians, around the axes, and years of aging."""
    points = coarse_points()
    velocity = np.broadcast_to(np.array(offset_mm), points.shape).copy()
    velocity[..., 1] += strength * _along_y()
    if any(angles):
        velocity += np.cross(np.array(angles), points - np.array([0.0, -20.0, 10.0]))
    if years:
        velocity += years * _aging()
    return exponentiate(velocity)


@lru_cache(maxsize=1)
def _along_y() -> Array:
    """Distortion along the phase-encoding axis on the coarse grid, 1 at its strongest."""
    points = coarse_points()
    air = [((0, 50, -25), 22.0, 1.0), ((-50, -20, -35), 18.0, -0.8), ((50, -20, -35), 18.0, -0.8)]
    bumps = [sign * np.exp(-((points - np.array(place)) ** 2).sum(-1) / (2 * width**2)) for place, width, sign in air]
    return np.sum(bumps, axis=0)


@lru_cache(maxsize=1)
def _aging() -> Array:
    """Velocity a year: each lateral ventricle, of some 10 ml, gains 0.25 ml, and tissue makes room around it."""
    half_mm3 = 125.0 / (4 * np.pi)  # a source at either end of a ventricle
    sources = [outward(np.array([x, y, z]), 8.0, half_mm3) for x in (-14.0, 14.0) for y, z in ((10, 14), (-28, 16))]
    return np.sum(sources, axis=0)


def measure_scalar(
    image: Array, brain: NDArray[np.bool_], profile: Profile, spacing_mm: float, rng: np.random.Generator
) -> Array:
    """Blur, bias field and Rician noise on an image with values of about 0–1."""
    sigma = [width / spacing_mm for width in profile.blur_mm]
    box = _box(brain, sigma)
    blurred = smooth(image[box], sigma)[brain[box]]
    deviation = profile.noise * (np.abs(blurred).mean() + 1e-6)
    # The magnitude of a complex signal: noise adds up where there is none, so its floor is above zero.
    real = blurred + deviation * rng.standard_normal(image.shape)[brain]
    imaginary = deviation * rng.standard_normal(image.shape)[brain]
    measured = np.zeros(image.shape, dtype=np.float32)
    measured[brain] = np.hypot(real, imaginary)
    return measured


def bias_field(shape: tuple[int, int, int], profile: Profile, spacing_mm: float, rng: np.random.Generator) -> Array:
    """A smooth multiplicative receive field around 1."""
    coarse = rng.standard_normal([max(3, int(n * spacing_mm / 60)) for n in shape])
    # Zooming is linear: one small matrix an axis does what a spline over the whole grid does.
    axes = [
        np.asarray(ndimage.zoom(np.eye(k), (n / k, 1), order=3, mode="nearest", grid_mode=True))
        for n, k in zip(shape, coarse.shape, strict=True)
    ]
    field = np.einsum("abc,xa,yb,zc->xyz", coarse, *axes, optimize=True)
    field = (field - field.mean()) / (np.ptp(field) + 1e-6)
    return 1 + profile.bias * field


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
    false = rng.standard_normal(peaks.shape, np.float32)
    sigma = [width / spacing_mm for width in profile.blur_mm]
    box = _box(inside, sigma)
    angle = np.tan(np.deg2rad(profile.peak_angle_deg)) / np.sqrt(2)
    seen = np.empty_like(peaks[box], order="C")
    _disturb(peaks[box], error[box], false[box], angle, profile.false_peak, seen)
    seen = smooth(seen, sigma)
    if not any(sigma):
        seen[~inside[box]] = 0  # or files would hold zeros of either sign
    # As files hold them: channel after channel, x running fastest.
    stored = np.zeros((3, 3, *peaks.shape[2::-1]), dtype=np.float32)
    measured = stored.transpose(4, 3, 2, 0, 1)
    _store(seen, inside[box], np.float32(profile.peak_scale), measured[box])
    return measured


@numba.njit(cache=True)
def _disturb(peaks, error, false, angle, false_peak, seen):  # pyright: ignore
    """Common signs, angular errors and false peaks; weak peaks are less certain than strong ones."""
    nx, ny, nz = peaks.shape[:3]
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                for p in range(3):
                    x, y, z = peaks[i, j, k, p]
                    lead = x if abs(x) >= max(abs(y), abs(z)) else y if abs(y) >= abs(z) else z
                    sign = np.float32(-1.0) if lead < 0 else np.float32(1.0)
                    amplitude = np.float64(np.sqrt(np.sqrt(x * x + y * y + z * z) * np.float32(0.6)))
                    rank = np.float32(0.3) if p == 0 else np.float32(0.6) if p == 1 else np.float32(1.0)
                    for c in range(3):
                        wrong = np.float32(false_peak) * false[i, j, k, p, c] * rank  # false peaks are mostly weak ones
                        turned = angle * error[i, j, k, p, c] * amplitude
                        seen[i, j, k, p, c] = peaks[i, j, k, p, c] * sign + turned + np.float64(wrong)


@numba.njit(cache=True)
def _store(seen, inside, scale, measured):  # pyright: ignore
    """Scale peaks and keep those of the brain, slab by slab: a slab of either order stays at hand."""
    nx, ny, nz = inside.shape
    for j in range(ny):
        for p in range(3):
            for c in range(3):
                for k in range(nz):
                    for i in range(nx):
                        measured[i, j, k, p, c] = seen[i, j, k, p, c] * inside[i, j, k] * scale


def _box(inside: NDArray[np.bool_], sigma: list[float]) -> tuple[slice, ...]:
    """The part of the grid that holds the brain and what a blur by that many voxels sees from there."""
    return held(inside, [int(4 * width + 0.5) for width in sigma])


def held(inside: NDArray[np.bool_], margin: Sequence[int]) -> tuple[slice, ...]:
    """The part of a grid that holds a mask, with a margin in voxels around it where there is room."""
    slices: list[slice] = []
    for axis in range(3):
        found = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
        slices.append(slice(max(low - margin[axis], 0), high + margin[axis] + 1))
    return tuple(slices)
