"""Score tables with known effects, made without the estimators' code."""

import numpy as np
import pandas as pd

LEVELS = [(bundle, side) for bundle in ("AF", "FAT", "IFOF", "ILF", "PYT") for side in ("left", "right")]


def scores(
    n_patients: int = 24,
    n_controls: int = 20,
    *,
    systematic: float = 0.5,
    tumor: float = 1.0,
    decay_mm: float = 12.0,
    between: float = 0.25,
    within: float = 0.25,
    seed: int = 0,
    model: str = "m",
) -> pd.DataFrame:
    """One row a participant, bundle and hemisphere; effects are on the logit scale, positive is worse in patients."""
    rng = np.random.default_rng(seed)
    level_means = dict(zip(LEVELS, rng.normal(1.5, 0.3, len(LEVELS)), strict=True))
    rows = []
    for number in range(n_patients + n_controls):
        patient = number < n_patients
        own, side, volume = rng.normal(0, between), str(rng.choice(["left", "right"])), rng.uniform(5, 100)
        for bundle, hemisphere in LEVELS:
            near = hemisphere == side
            distance = rng.uniform(0, 45) if near else rng.uniform(30, 80)
            eta = level_means[bundle, hemisphere] + own + rng.normal(0, within)
            if patient:
                eta -= systematic + tumor * np.exp(-distance / decay_mm)
            rows.append(
                {
                    "participant_id": f"sub-{number:03d}",
                    "cohort": "simulated",
                    "group": "glioma" if patient else "control",
                    "model": model,
                    "modality": "peaks",
                    "bundle": bundle,
                    "hemisphere": hemisphere,
                    "side": ("ipsi" if near else "contra") if patient else "n/a",
                    "metric": "dice",
                    "value": 1 / (1 + np.exp(-eta)),
                    "unit": "1",
                    "status": "ok",
                    "tumor_distance_mm": distance if patient else np.nan,
                    "tumor_volume_ml": volume if patient else np.nan,
                    "tumor_side": side if patient else "n/a",
                    "age": float(rng.integers(20, 70)),
                    "site": "B" if patient else "A",
                }
            )
    return pd.DataFrame(rows)
