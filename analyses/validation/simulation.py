"""Score tables with known effects, to try estimators on. It shares no code with them, and none of their model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Shape = Literal["exponential", "gaussian", "linear", "plateau"]
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
    """How participants and rows differ, on the logit scale, and what is missing.

    Parameters
    ----------
    subject, side, row : float
        Standard deviations between participants, between a participant's hemispheres, and between rows.
    bundles : float
        Standard deviation of the systematic effect between bundles, as a share of its mean.
    missing, empty : float
        Share of rows without a reference, and share of predictions that are empty (Dice 0).
    """

    subject: float
    side: float
    row: float
    bundles: float
    missing: float
    empty: float


SPREADS = {
    "low": Spread(subject=0.25, side=0.15, row=0.25, bundles=0.0, missing=0.02, empty=0.0),
    "middle": Spread(subject=0.31, side=0.19, row=0.31, bundles=0.2, missing=0.05, empty=0.0),
    "high": Spread(subject=0.45, side=0.25, row=0.45, bundles=0.4, missing=0.10, empty=0.05),
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated; effects are on the logit scale, and positive is worse in patients.

    Parameters
    ----------
    n_patients, n_controls : int
        Participants.
    systematic, tumor : float
        Drop far from the tumor, and further drop in contact with it.
    decay_mm : float
        λ of the tumor's effect.
    spread : Spread
        How participants and rows differ.
    shape : str
        Of the decay: exp(−d/λ), exp(−(d/λ)²/2), max(0, 1 − d/2λ), or whole to λ and nothing beyond.
    responders : float
        Share of the patients whose performance the tumor changes at all.
    hemispheres : tuple of str
        Which were scored.
    gap_mm : tuple of float
        No bundle lies between these distances: rows that would are nearer or farther at random.
    age_gap, age : float
        Patients' age less controls', in standard deviations, and the drop by one of them.
    rare : int
        Bundles that all patients and three controls each have, another three for each bundle.
    unseen_contact : float
        Share of bundles in contact with the tumor that have no reference.
    tails : float
        Degrees of freedom of the rows' noise, Student's of the same standard deviation; infinite for a Gaussian.
    distance_error_mm : float
        Standard deviation of the error of the distances that the table tells.
    uneven : float
        Share of participants with a third of the rows.
    twins : float
        Share of patients, and of controls, who stand in the table twice, under another name.
    """

    n_patients: int = 40
    n_controls: int = 20
    systematic: float = 0.6
    tumor: float = 1.2
    decay_mm: float = 15.0
    spread: Spread = SPREADS["low"]
    shape: Shape = "exponential"
    responders: float = 1.0
    hemispheres: tuple[str, ...] = ("left", "right")
    gap_mm: tuple[float, float] | None = None
    age_gap: float = 0.0
    age: float = 0.0
    rare: int = 0
    unseen_contact: float = 0.0
    tails: float = float("inf")
    distance_error_mm: float = 0.0
    uneven: float = 0.0
    twins: float = 0.0


class Truth(NamedTuple):
    """Components in the population of patients, on the scale of Dice."""

    systematic: float
    tumor: float


def simulate(scenario: Scenario, rng: np.random.Generator) -> pd.DataFrame:
    """Draw a cohort of patients and controls.

    Returns
    -------
    DataFrame
        In the columns of ``shiftkit.catalogue.SCORES``, and ``age`` in standard deviations.

    Examples
    --------
    >>> frame = simulate(Scenario(n_patients=3, n_controls=2), np.random.default_rng(0))
    >>> frame.groupby("group")["participant_id"].nunique().to_dict()
    {'control': 2, 'glioma': 3}
    """
    return simulate_models(scenario, (), rng)[0]


def simulate_models(scenario: Scenario, others: Sequence[Scenario], rng: np.random.Generator) -> list[pd.DataFrame]:
    """Draw a cohort and score it with several models: the same people and tumors, a third of the rows' noise anew.

    Parameters
    ----------
    scenario : Scenario
        Of the first model.
    others : sequence of Scenario
        Of further models; only their effects count.
    rng : Generator
        Source of the cohort.
    """
    n = scenario.n_patients + scenario.n_controls
    patient = np.arange(n) < scenario.n_patients
    tumors = _tumors(n, scenario, rng)
    age = rng.normal(scenario.age_gap * patient, 1)
    base = _healthy(n, scenario, rng) - scenario.age * age[:, None, None]
    responds = patient & (rng.random(n) < scenario.responders)
    there = (rng.random(base.shape) >= scenario.spread.missing) & np.isin(["left", "right"], scenario.hemispheres)
    for bundle in range(scenario.rare):
        there[:, bundle] &= (patient | np.isin(np.arange(n), scenario.n_patients + 3 * bundle + np.arange(3)))[:, None]
    if scenario.uneven:
        there &= (rng.random((n, 1, 1)) >= scenario.uneven) | (rng.random(base.shape) < 1 / 3)
    empty = rng.random(base.shape) < scenario.spread.empty
    seen = (tumors.distance_mm > 0) | (rng.random(base.shape) >= scenario.unseen_contact) | ~patient[:, None, None]
    told = tumors
    if scenario.distance_error_mm:
        error = rng.normal(0, scenario.distance_error_mm, base.shape)
        told = tumors._replace(distance_mm=np.maximum(tumors.distance_mm + error, 0))
    frames: list[pd.DataFrame] = []
    for number, one in enumerate((scenario, *others)):
        far, near = _effects(one, tumors.distance_mm)
        eta = base - patient[:, None, None] * far - responds[:, None, None] * near
        if number:
            eta = eta + rng.normal(0, scenario.spread.row / 3, eta.shape)
        value = np.where(empty, 0.0, 1 / (1 + np.exp(-eta)))
        frame = _frame(value, there, seen, patient, told, age).assign(model=f"model{number}")
        frames.append(_with_twins(frame, scenario) if scenario.twins else frame)
    return frames


def _with_twins(frame: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    """The last of each cohort replaced by copies of its first."""
    who = frame["participant_id"].str[4:].astype(int)
    parts = [frame]
    for first, size in ((0, scenario.n_patients), (scenario.n_patients, scenario.n_controls)):
        n = round(scenario.twins * size)
        parts[0] = parts[0][~parts[0].index.isin(frame.index[(who >= first + size - n) & (who < first + size)])]
        copied = frame[(who >= first) & (who < first + n)]
        parts.append(copied.assign(participant_id=copied["participant_id"] + "again"))
    return pd.concat(parts, ignore_index=True)


def truth(scenario: Scenario, rng: np.random.Generator, n: int = 100_000) -> Truth:
    """Components by brute force: the same many patients without a shift, with the systematic one, with both."""
    tumors = _tumors(n, scenario, rng)
    eta = _healthy(n, scenario, rng) - scenario.age * rng.normal(scenario.age_gap, 1, (n, 1, 1))
    far, near = _effects(scenario, tumors.distance_mm)
    near = near * (rng.random((n, 1, 1)) < scenario.responders)
    inside = np.isin(["left", "right"], scenario.hemispheres)
    kept = [(1 / (1 + np.exp(-e)))[:, scenario.rare :, inside].mean() for e in (eta, eta - far, eta - far - near)]
    seen = 1 - scenario.spread.empty
    none, shifted, both = (float(one) for one in kept)
    return Truth(systematic=seen * (none - shifted), tumor=seen * (shifted - both))


class _Tumors(NamedTuple):
    """Side (True is left), volume in ml, and distance to each bundle and hemisphere in mm, shape (n, 5, 2)."""

    left: NDArray[np.bool_]
    volume_ml: Array
    distance_mm: Array


def _tumors(n: int, scenario: Scenario, rng: np.random.Generator) -> _Tumors:
    left = rng.random(n) < 0.5
    volume = np.exp(rng.uniform(np.log(5), np.log(150), n))
    center = _SITES[rng.choice(len(_SITES), n, p=_SITE_SHARES)] + rng.normal(0, _SITE_SPREAD_MM, (n, 3))
    center[:, 0] = -np.abs(center[:, 0])  # each stays in its hemisphere
    radius = (3000 * volume / (4 * np.pi)) ** (1 / 3)
    distance = np.empty((n, len(BUNDLES), 2))
    for bundle, course in enumerate(_COURSES):
        points = _sampled(np.array(course, dtype=float))
        for other, sign in enumerate((1.0, -1.0)):  # the tumor's own side, then the other
            gap = np.linalg.norm(center[:, None] - points * (sign, 1, 1), axis=2).min(axis=1)
            distance[:, bundle, other] = np.maximum(gap - radius - _BUNDLE_RADIUS_MM, 0)
    distance[~left] = distance[~left][:, :, ::-1]
    if scenario.gap_mm is not None:
        low, high = scenario.gap_mm
        inside = (distance > low) & (distance < high)
        moved = np.where(rng.random(distance.shape) < 0.5, rng.uniform(0, low, distance.shape), distance + high - low)
        distance = np.where(inside, moved, distance)
    return _Tumors(left, volume, distance)


def _sampled(course: Array, step: int = 8) -> Array:
    """Points along a polyline."""
    share = np.linspace(0, 1, step, endpoint=False)[:, None]
    pieces = [a + share * (b - a) for a, b in pairwise(course)]
    return np.concatenate([*pieces, course[-1:]])


def _healthy(n: int, scenario: Scenario, rng: np.random.Generator) -> Array:
    spread, shape = scenario.spread, (n, len(BUNDLES), 2)
    subject = rng.normal(0, spread.subject, (n, 1, 1))
    side = rng.normal(0, spread.side, (n, 1, 2))
    if np.isinf(scenario.tails):
        row = rng.normal(0, spread.row, shape)
    else:
        row = spread.row * np.sqrt(1 - 2 / scenario.tails) * rng.standard_t(scenario.tails, shape)
    return _LEVEL_MEANS + subject + side + row


def _effects(scenario: Scenario, distance_mm: Array) -> tuple[Array, Array]:
    tilt = np.array([-1.2, 0.6, 1.0, -0.9, 0.5])[:, None] * scenario.spread.bundles  # of mean 0
    ratio = distance_mm / scenario.decay_mm
    decay = {
        "exponential": lambda: np.exp(-ratio),
        "gaussian": lambda: np.exp(-(ratio**2) / 2),
        "linear": lambda: np.maximum(0, 1 - ratio / 2),
        "plateau": lambda: (ratio <= 1).astype(float),
    }[scenario.shape]()
    return scenario.systematic * (1 + tilt), scenario.tumor * decay


def _frame(
    value: Array,
    there: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    patient: NDArray[np.bool_],
    tumors: _Tumors,
    age: Array,
) -> pd.DataFrame:
    who, bundle, right = np.nonzero(there)
    ill = patient[who]
    own_side = tumors.left[who] == (right == 0)
    scores = np.where(seen[there], value[there], np.nan)
    return pd.DataFrame(
        {
            "participant_id": np.array([f"sub-{number:04d}" for number in range(len(patient))])[who],
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
            "status": np.where(np.isnan(scores), "reference_absent", np.where(scores > 0, "ok", "missed")),
            "tumor_distance_mm": np.where(ill & seen[there], tumors.distance_mm[there], np.nan),
            "tumor_volume_ml": np.where(ill, tumors.volume_ml[who], np.nan),
            "tumor_side": np.where(ill, np.where(tumors.left[who], "left", "right"), "n/a"),
            "age": age[who],
        }
    )
