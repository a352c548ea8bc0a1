"""Score tables that add up on the metric's own scale: people, bundles and noise, with tumors on one side."""

from typing import Any

import numpy as np
import pandas as pd

from shiftkit.analyses.decomposition.rows import Rows, build_rows

N_BUNDLES = 6
SIDES = ("left", "right")


def distances(rng: np.random.Generator, n: int) -> Any:
    """From tumors to bundles in mm, shape (n, 12): left then right; a bundle lies where it lies in everybody."""
    places = np.random.default_rng(7).uniform(-1, 1, (N_BUNDLES, 2))
    tumor = rng.uniform(-1, 1, (n, 2))
    near = np.maximum(45 * np.linalg.norm(places[None] - tumor[:, None], axis=2) - rng.uniform(5, 25, (n, 1)), 0)
    far = near + rng.uniform(30, 45, (n, 1))
    left = rng.random((n, 1)) < 0.5
    return np.hstack([np.where(left, near, far), np.where(left, far, near)])


def frame(
    rng: np.random.Generator,
    distance_mm: Any,
    drop: Any,
    *,
    n_controls: int = 30,
    n_targets: int = 0,
    acquisition: float = 0.0,
    there: Any = None,
    target_there: Any = None,
    age: tuple[Any, Any] | None = None,
    aging: tuple[float, float] = (0.0, 0.0),
) -> pd.DataFrame:
    """Scores of patients, who drop by ``drop``, shape (n, 12), of controls, and of healthy people scanned so too.

    ``there`` says which rows are, of patients and of target controls; ``age`` and ``aging`` are values and slopes of
    patients and controls.
    """
    n, k = distance_mm.shape
    level = rng.normal(0.75, 0.05, k)
    groups = [("glioma", n, drop), ("control", n_controls, 0.0), ("target_control", n_targets, acquisition)]
    rows: list[dict[str, Any]] = []
    for group, size, loss in groups:
        patient = group == "glioma"
        years = np.zeros(size) if age is None or group == "target_control" else age[0 if patient else 1]
        aged = aging[0 if patient else 1] * years[:, None]
        values = level + rng.normal(0, 0.035, (size, 1)) + rng.normal(0, 0.05, (size, k)) - loss - aged
        kept = {"glioma": there, "target_control": target_there}.get(group)
        for i, j in np.argwhere(np.ones((size, k), dtype=bool) if kept is None else kept):
            rows.append(
                {
                    "participant_id": f"sub-{group[0]}{i:03d}",
                    "group": group,
                    "cohort": "c",
                    "model": "m",
                    "modality": "fa",
                    "bundle": f"B{j % N_BUNDLES}",
                    "hemisphere": SIDES[j // N_BUNDLES],
                    "metric": "dice",
                    "value": float(np.clip(values[i, j], 0, 1)),
                    "status": "ok",
                    "tumor_distance_mm": distance_mm[i, j] if patient else np.nan,
                    "age": years[i],
                }
            )
    return pd.DataFrame(rows)


def rows(*args: Any, **options: Any) -> Rows:
    """The same, as rows of a model."""
    return build_rows(frame(*args, **options), "dice")
