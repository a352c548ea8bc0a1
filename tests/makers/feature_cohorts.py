"""Embeddings with known shifts, made without the analyses' code."""

import numpy as np
import pandas as pd

from shiftkit.embeddings import Embeddings


def embeddings(
    n_controls: int = 20,
    n_patients: int = 20,
    *,
    systematic: float = 0.0,
    tumor: float = 0.0,
    asymmetry: float = 1.0,
    within: float = 0.7,
    channels: tuple[int, ...] = (6, 12),
    bundles: tuple[str, ...] = ("AF", "ILF"),
    p_left: float = 0.5,
    sides: tuple[str, ...] = (),
    seed: int = 0,
) -> Embeddings:
    """Draw participants whose regions are correlated, with a fixed difference between the hemispheres.

    ``systematic`` moves and spreads all features of patients, ``tumor`` those on the tumor's side; in units of the
    spread between participants.
    """
    rng = np.random.default_rng(seed)
    direction = {size: rng.standard_normal(size) for size in channels}
    direction = {size: one / np.sqrt((one**2).mean()) for size, one in direction.items()}
    offsets = {(b, h): {c: rng.normal(0, asymmetry, c) for c in channels} for b in bundles for h in ("left", "right")}
    rows, vectors = [], {size: [] for size in channels}
    for number in range(n_controls + n_patients):
        patient = number >= n_controls
        side = "n/a"
        if patient:
            side = sides[number - n_controls] if sides else ("left" if rng.random() < p_left else "right")
        own = {size: rng.normal(0, 1, size) for size in channels}
        for bundle in bundles:
            for hemisphere in ("left", "right"):
                rows.append(
                    {
                        "participant_id": f"sub-{number:03d}",
                        "group": "glioma" if patient else "control",
                        "tumor_side": side,
                        "fold": "1",
                        "region": "reference",
                        "bundle": bundle,
                        "hemisphere": hemisphere,
                        "volume_ml": 20.0,
                    }
                )
                for size in channels:
                    made = own[size] + rng.normal(0, within, size)
                    if patient:
                        made = made * (1 + 0.5 * systematic) + systematic * direction[size]
                        made = made + tumor * direction[size] * (hemisphere == side)
                    vectors[size].append(made + offsets[bundle, hemisphere][size])
    layers = {f"encoder-{i + 1}": np.array(vectors[size], dtype=np.float32) for i, size in enumerate(channels)}
    return Embeddings(model="m", modality="peaks", rows=pd.DataFrame(rows), layers=layers)
