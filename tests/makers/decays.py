"""Rows of simulated cohorts whose loss is known exactly: any decay with distance, any share of responders."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from shiftkit.analyses.decomposition.rows import CONTROL, PATIENT, TARGET_CONTROL, Rows

LEVELS = tuple((bundle, side) for bundle in ("AF", "FAT", "IFOF", "ILF", "PYT") for side in ("left", "right"))


def bent(distance_mm: Any) -> Any:
    """A decay that is no exponential, Gaussian, line or step: whole to 4 mm, half at 11, gone at 24."""
    return np.interp(distance_mm, [0, 4, 11, 24], [1.0, 1.0, 0.5, 0.0])


def rows(
    n_patients: int,
    n_controls: int,
    seed: int = 0,
    *,
    systematic: float = 0.08,
    tumor: float = 0.12,
    decay: Callable[[Any], Any] = bent,
    responders: float = 1.0,
    missing: float = 0.05,
    noise: float = 0.05,
    n_target: int = 0,
    acquisition: float = 0.0,
    age_gap: float = 0.0,
    age_effect: float = 0.0,
) -> tuple[Rows, np.ndarray]:
    """Rows on the scale of Dice, and each participant's age in standard deviations, shape (people, 1).

    The drop of a patient's row is ``systematic`` + ``tumor`` · decay(distance) if the patient responds.
    """
    rng = np.random.default_rng(seed)
    n = n_patients + n_controls + n_target
    cohort = np.repeat([PATIENT, CONTROL, TARGET_CONTROL], [n_patients, n_controls, n_target])
    ill = (cohort == PATIENT)[:, None]
    own_side = rng.random(n) < 0.5
    near = own_side[:, None] == (np.arange(len(LEVELS)) % 2 == 0)
    distance = np.where(near, np.maximum(rng.normal(12, 16, near.shape), 0), rng.uniform(25, 80, near.shape))
    responds = (rng.random(n) < responders)[:, None]
    age = rng.normal(age_gap * ill[:, 0], 1)
    value = 0.8 - 0.02 * np.arange(len(LEVELS)) + rng.normal(0, noise, (n, 1)) + rng.normal(0, noise, near.shape)
    value = value - age_effect * age[:, None] - acquisition * (cohort == TARGET_CONTROL)[:, None]
    value -= ill * (systematic + responds * tumor * decay(distance))
    person, level = np.nonzero(rng.random(near.shape) >= missing)
    made = Rows(
        outcome=value[person, level],
        logit=True,
        sign=1,
        cohort=cohort[person],
        person=person,
        people=tuple(f"sub-{number:03d}" for number in range(n)),
        n_patients=n_patients,
        n_target_controls=n_target,
        level=level,
        levels=LEVELS,
        distance_mm=np.where(ill, distance, np.inf)[person, level],
        frame=pd.DataFrame(index=range(len(person))),
    )
    return made, age[:, None]
