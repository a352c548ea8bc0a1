"""Embeddings with known shifts, made without the analyses' code, and how tests have them compared."""

import dataclasses

import numpy as np
import pandas as pd

from shiftkit.analyses.features.result import FeatureShift
from shiftkit.analyses.features.study import feature_shift
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.analyses.statistics.two_sample import STATISTICS
from shiftkit.embeddings import Embeddings
from shiftkit.work import Work


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


def with_layers(made: Embeddings, change: dict[str, np.ndarray]) -> Embeddings:
    """The same rows with some layers replaced or added."""
    return dataclasses.replace(made, layers={**made.layers, **change})


def linked(n: int = 24, link: float = 1.0, seed: int = 0) -> tuple[Embeddings, pd.DataFrame]:
    """Embeddings of predicted regions, and scores that fall with each patient's own shift."""
    made = embeddings(n, n, seed=seed)
    rng = np.random.default_rng(seed)
    people = made.rows["participant_id"].unique()
    own = dict(zip(people, rng.gamma(2, 1, len(people)), strict=True))
    patient = (made.rows["group"] == "glioma").to_numpy()
    size = np.where(patient, made.rows["participant_id"].map(own), 0.0)
    layers = {name: vectors + size[:, None].astype(np.float32) for name, vectors in made.layers.items()}
    drop = link * 0.05 * size + rng.normal(0, 0.03, len(size))
    side = np.where(made.rows["tumor_side"] == made.rows["hemisphere"], "ipsi", "contra")
    scores = made.rows[["participant_id", "group", "bundle", "hemisphere"]].assign(
        value=0.8 - drop, side=np.where(patient, side, "n/a"), metric="dice", model="m"
    )
    return dataclasses.replace(made, rows=made.rows.assign(region="predicted"), layers=layers), scores


def shift_of(
    made: Embeddings, statistics: tuple[str, ...] = STATISTICS, n: int = 99, seed: int = 0, jobs: int = 1
) -> FeatureShift:
    """The feature shift with few permutations, in one process: starting others takes longer than small cohorts."""
    inference = Inference(n_permutations=n, seed=seed)
    return feature_shift(made, statistics=statistics, inference=inference, work=Work(jobs=jobs))
