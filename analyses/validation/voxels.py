"""Errors of single voxels that depend on the distance to the tumor: a world for shells and for scores alike.

It shares no code with the estimators and none of their model: errors are drawn on the scale of logits, from smooth
fields of each person's own, and patients respond differently.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...types import Bundle
from ..decomposition.shells.counts import ErrorCounts
from .simulation import Truth

Array = NDArray[np.float64]
EDGES_MM = (0.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, float("inf"))
_VOXEL_MM, _N_SECTIONS = 4.0, 12
_BUNDLES = tuple(Bundle(name=name, hemisphere=side) for name in ("AF", "IFOF", "PYT") for side in ("left", "right"))
# Left courses in MNI mm; right ones are their mirror images.
_COURSES = {
    "AF": ((-45, 30, 10), (-38, -10, 28), (-45, -44, 8), (-52, -22, -12)),
    "IFOF": ((-26, 46, -4), (-34, -10, -6), (-32, -54, 0), (-18, -88, 2)),
    "PYT": ((-34, -26, 62), (-26, -20, 30), (-22, -16, 6), (-12, -18, -16)),
}
_RADIUS_MM = 6.0


@dataclass(frozen=True, kw_only=True)
class VoxelScenario:
    """What is simulated; shifts are of the logit of each voxel's error.

    Parameters
    ----------
    n_patients, n_controls : int
        Participants.
    systematic, tumor : float
        Shift everywhere, and on top at the tumor's edge.
    decay_mm, shape : float and str
        Of the tumor's shift: exp(−d/decay), or exp(−(d/decay)²/2) for ``gaussian``.
    """

    n_patients: int = 24
    n_controls: int = 24
    systematic: float = 0.5
    tumor: float = 2.0
    decay_mm: float = 10.0
    shape: str = "exponential"


class VoxelCohort(NamedTuple):
    """Counts by shell and section, the scores of the same masks, and the patients' mean loss of Dice in this cohort."""

    patients: ErrorCounts
    controls: ErrorCounts
    frame: pd.DataFrame
    truth: Truth


def _tube(bundle: Bundle) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Voxel centers of a bundle and of the layer around it, sections along it, and who is inside."""
    course = np.array(_COURSES[bundle.name], dtype=float) * ((1 if bundle.hemisphere == "left" else -1), 1, 1)
    share = np.linspace(0, 1, 20, endpoint=False)[:, None]
    points = np.concatenate([a + share * (b - a) for a, b in pairwise(course)])
    low, high = points.min(axis=0) - 12, points.max(axis=0) + 12
    axes = [np.arange(a, b, _VOXEL_MM) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    away = np.linalg.norm(grid[:, None] - points, axis=2)
    near = away.min(axis=1) < _RADIUS_MM + _VOXEL_MM
    section = away.argmin(axis=1) * _N_SECTIONS // len(points)
    return grid[near], section[near], away.min(axis=1)[near] < _RADIUS_MM


_TUBES = {bundle: _tube(bundle) for bundle in _BUNDLES}


def simulate_voxels(scenario: VoxelScenario, rng: np.random.Generator) -> VoxelCohort:
    """Draw a cohort; the truth is what these very patients lose, with the same luck in all three states."""
    n = {True: scenario.n_patients, False: scenario.n_controls}
    made: dict[bool, ErrorCounts] = {}
    rows: list[dict[str, object]] = []
    lost: list[tuple[float, float]] = []
    place = {bundle: rng.normal(0, 0.4, _N_SECTIONS) for bundle in _BUNDLES}  # some sections are hard for everybody
    for patient in (True, False):
        counts = np.zeros((4, n[patient], len(_BUNDLES), len(EDGES_MM) - 1 if patient else 1, _N_SECTIONS))
        for i in range(n[patient]):
            person, response = rng.normal(0, 0.3), rng.uniform(0.4, 1.6)
            center = rng.normal((-36, 0, 8), (10, 28, 16)) * (rng.choice([-1, 1]), 1, 1)
            radius = rng.uniform(10, 22)
            states: list[list[float]] = []
            for b, bundle in enumerate(_BUNDLES):
                at, section, inside = _TUBES[bundle]
                away = np.maximum(np.linalg.norm(at - center, axis=1) - radius, 0.0)
                ratio = away / scenario.decay_mm
                fade = np.exp(-(ratio**2) / 2) if scenario.shape == "gaussian" else np.exp(-ratio)
                wave = rng.normal(0, 0.05, (3, 3))  # errors come in patches of some centimeters
                field = 0.5 * np.sin(at @ wave.T + rng.uniform(0, 2 * np.pi, 3)).sum(axis=1)
                bare = np.where(inside, -1.6, -2.0) + person + place[bundle][section] + field
                far = scenario.systematic * patient
                near = scenario.tumor * response * fade * patient
                luck = rng.uniform(size=len(at))
                wrong = [luck < 1 / (1 + np.exp(-logit)) for logit in (bare, bare + far, bare + far + near)]
                states.append([_dice(inside, inside ^ one) for one in wrong])
                predicted = inside ^ wrong[-1]
                shell = np.searchsorted(EDGES_MM, away, side="right") - 1 if patient else np.zeros(len(at), dtype=int)
                for which, mask in enumerate((inside, inside & ~predicted, predicted, predicted & ~inside)):
                    np.add.at(counts[which, i, b], (shell[mask], section[mask]), 1)
                rows.append(_row(patient, i, bundle, states[-1][-1], float(away[inside].min()), center))
            if patient:
                none, alone, both = np.mean(states, axis=0)
                lost.append((none - alone, alone - both))
        made[patient] = ErrorCounts(
            participants=tuple(f"{'p' if patient else 'c'}{i}" for i in range(n[patient])),
            bundles=_BUNDLES,
            **dict(zip(("reference", "missed", "predicted", "false"), counts, strict=True)),
            skipped={},
        )
    return VoxelCohort(made[True], made[False], pd.DataFrame(rows), Truth(*np.mean(lost, axis=0)))


def _dice(reference: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    return float(2 * (reference & predicted).sum() / (reference.sum() + predicted.sum()))


def _row(patient: bool, i: int, bundle: Bundle, dice: float, distance_mm: float, center: Array) -> dict[str, object]:
    own = (center[0] < 0) == (bundle.hemisphere == "left")
    return {
        "participant_id": f"{'p' if patient else 'c'}{i}",
        "cohort": "simulated",
        "group": "glioma" if patient else "control",
        "model": "simulated",
        "modality": "none",
        "bundle": bundle.name,
        "hemisphere": bundle.hemisphere,
        "side": ("ipsi" if own else "contra") if patient else "n/a",
        "metric": "dice",
        "value": dice,
        "unit": "1",
        "status": "ok" if dice > 0 else "missed",
        "tumor_distance_mm": distance_mm if patient else np.nan,
    }
