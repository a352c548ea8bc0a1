"""Score tables with known effects, to try estimators on. It shares no code with them, and none of their model."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Shape = Literal["exponential", "gaussian", "linear"]
BUNDLES = ("AF", "FAT", "IFOF", "ILF", "PYT")
# Courses of the left bundles in MNI mm, drawn coarsely; the right ones are their mirror images.
_COURSES = (
    ((-45, 30, 10), (-40, 0, 28), (-36, -32, 28), (-45, -44, 8), (-52, -22, -12)),
    ((-12, 12, 58), (-26, 14, 40), (-44, 16, 16)),
    ((-26, 46, -4), (-30, 18, -6), (-34, -18, -6), (-32, -54, 0), (-18, -88, 2)),
    ((-40, 4, -32), (-42, -26, -16), (-34, -58, -4), (-20, -88, 0)),
    ((-34, -26, 62), (-26, -20, 30), (-22, -16, 6), (-12, -18, -16)),
)
_BUNDLE_RADIUS_MM = 4.0
# Where gliomas sit, in MNI mm of the left hemisphere, and how often: frontal, temporal, insular, parietal.
_SITES = np.array([(-28, 30, 24), (-46, -10, -20), (-38, 4, 2), (-36, -48, 40)], dtype=float)
_SITE_SHARES = np.array([0.42, 0.27, 0.17, 0.14])
_SITE_SPREAD_MM = 12.0
_LEVEL_MEANS = np.array([[1.30, 1.20], [1.05, 1.10], [1.50, 1.45], [1.35, 1.40], [1.75, 1.70]])


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations on the logit scale, and what is missing.

    They are between participants, between a participant's hemispheres, between rows and, as a share of its mean, of the
    systematic effect between ``bundles``. ``missing`` is the share of rows without a reference, ``empty`` that of
    predictions that are empty (Dice 0).
    """

    subject: float
    side: float
    row: float
    bundles: float
    missing: float
    empty: float


SPREADS = {
    "low": Spread(subject=0.25, side=0.15, row=0.25, bundles=0.0, missing=0.02, empty=0.0),
    "high": Spread(subject=0.45, side=0.25, row=0.45, bundles=0.4, missing=0.10, empty=0.05),
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated; effects are on the logit scale, and positive is worse in patients.

    ``systematic`` is the drop far from the tumor, ``tumor`` the further drop in contact with it; that decays with λ,
    ``decay_mm``, as exp(−d/λ), exp(−(d/λ)²/2), or max(0, 1 − d/2λ).
    """

    n_patients: int = 40
    n_controls: int = 20
    systematic: float = 0.6
    tumor: float = 1.2
    decay_mm: float = 15.0
    spread: Spread = SPREADS["low"]
    shape: Shape = "exponential"


class Truth(NamedTuple):
    """Components in the population of patients, on the scale of Dice."""

    systematic: float
    tumor: float


def simulate(scenario: Scenario, rng: np.random.Generator) -> pd.DataFrame:
    """Draw a cohort of patients and controls, in the columns of ``shiftkit.catalogue.SCORES``.

    Examples
    --------
    >>> frame = simulate(Scenario(n_patients=3, n_controls=2), np.random.default_rng(0))
    >>> frame.groupby("group")["participant_id"].nunique().to_dict()
    {'control': 2, 'glioma': 3}
    """
    n = scenario.n_patients + scenario.n_controls
    patient = np.arange(n) < scenario.n_patients
    tumors = _tumors(n, rng)
    eta = _healthy(n, scenario.spread, rng)
    far, near = _effects(scenario, tumors.distance_mm)
    eta = eta - patient[:, None, None] * (far + near)
    value = np.where(rng.random(eta.shape) < scenario.spread.empty, 0.0, 1 / (1 + np.exp(-eta)))
    there = rng.random(eta.shape) >= scenario.spread.missing
    return _frame(value, there, patient, tumors)


def truth(scenario: Scenario, rng: np.random.Generator, n: int = 100_000) -> Truth:
    """Components by brute force: the same many patients without a shift, with the systematic one, with both."""
    tumors = _tumors(n, rng)
    eta = _healthy(n, scenario.spread, rng)
    far, near = _effects(scenario, tumors.distance_mm)
    none, shifted, both = (float((1 / (1 + np.exp(-e))).mean()) for e in (eta, eta - far, eta - far - near))
    seen = 1 - scenario.spread.empty  # an empty prediction is as empty in all three
    return Truth(systematic=seen * (none - shifted), tumor=seen * (shifted - both))


class _Tumors(NamedTuple):
    """Side (True is left), volume in ml, and distance to each bundle and hemisphere in mm, shape (n, 5, 2)."""

    left: NDArray[np.bool_]
    volume_ml: Array
    distance_mm: Array


def _tumors(n: int, rng: np.random.Generator) -> _Tumors:
    left = rng.random(n) < 0.5
    volume = np.exp(rng.uniform(np.log(5), np.log(150), n))
    center = _SITES[rng.choice(len(_SITES), n, p=_SITE_SHARES)] + rng.normal(0, _SITE_SPREAD_MM, (n, 3))
    center[:, 0] = -np.abs(center[:, 0])  # each stays in its hemisphere
    radius = (3000 * volume / (4 * np.pi)) ** (1 / 3)  # of a ball of that volume, in mm
    distance = np.empty((n, len(BUNDLES), 2))
    for bundle, course in enumerate(_COURSES):
        points = _sampled(np.array(course, dtype=float))
        for other, sign in enumerate((1.0, -1.0)):  # the tumor's own side, then the other
            gap = np.linalg.norm(center[:, None] - points * (sign, 1, 1), axis=2).min(axis=1)
            distance[:, bundle, other] = np.maximum(gap - radius - _BUNDLE_RADIUS_MM, 0)
    distance[~left] = distance[~left][:, :, ::-1]
    return _Tumors(left, volume, distance)


def _sampled(course: Array, step: int = 8) -> Array:
    """Points along a polyline."""
    share = np.linspace(0, 1, step, endpoint=False)[:, None]
    pieces = [a + share * (b - a) for a, b in pairwise(course)]
    return np.concatenate([*pieces, course[-1:]])


def _healthy(n: int, spread: Spread, rng: np.random.Generator) -> Array:
    subject = rng.normal(0, spread.subject, (n, 1, 1))
    side = rng.normal(0, spread.side, (n, 1, 2))
    return _LEVEL_MEANS + subject + side + rng.normal(0, spread.row, (n, len(BUNDLES), 2))


def _effects(scenario: Scenario, distance_mm: Array) -> tuple[Array, Array]:
    tilt = np.array([-1.2, 0.6, 1.0, -0.9, 0.5])[:, None] * scenario.spread.bundles  # of mean 0
    ratio = distance_mm / scenario.decay_mm
    decay = {
        "exponential": lambda: np.exp(-ratio),
        "gaussian": lambda: np.exp(-(ratio**2) / 2),
        "linear": lambda: np.maximum(0, 1 - ratio / 2),
    }[scenario.shape]()
    return scenario.systematic * (1 + tilt), scenario.tumor * decay


def _frame(value: Array, there: NDArray[np.bool_], patient: NDArray[np.bool_], tumors: _Tumors) -> pd.DataFrame:
    who, bundle, right = np.nonzero(there)
    ill = patient[who]
    names = np.array([f"sub-{number:04d}" for number in range(len(patient))])
    own_side = tumors.left[who] == (right == 0)
    scores = value[there]
    return pd.DataFrame(
        {
            "participant_id": names[who],
            "cohort": "simulated",
            "group": np.where(ill, "glioma", "control"),
            "model": "simulated",
            "modality": "none",
            "bundle": np.array(BUNDLES)[bundle],
            "hemisphere": np.array(["left", "right"])[right],
            "side": np.where(ill, np.where(own_side, "ipsi", "contra"), "n/a"),
            "metric": "dice",
            "value": scores,
            "unit": "1",
            "status": np.where(scores > 0, "ok", "missed"),
            "tumor_distance_mm": np.where(ill, tumors.distance_mm[there], np.nan),
            "tumor_volume_ml": np.where(ill, tumors.volume_ml[who], np.nan),
            "tumor_side": np.where(ill, np.where(tumors.left[who], "left", "right"), "n/a"),
        }
    )
