"""Phantoms that tests share: a participant is rendered once a session, whichever test and worker asks for it first."""

import shutil
from pathlib import Path

from filelock import FileLock

from shiftkit.cohorts.folder import read_participants
from shiftkit.phantoms import phantom
from shiftkit.types import Cohort


def copy_of_phantom(
    pool: Path, out: Path, *, n_healthy: int = 0, n_glioma: int = 0, spacing_mm: float, seed: int
) -> dict[str, Cohort]:
    """The cohorts that `phantom` writes, copied from those of the same spacing and seed in ``pool``; rendered if new.

    A participant depends on seed, spacing and its own identifier only, so cohorts of all sizes share them.
    """
    shared = pool / f"phantom-{spacing_mm:g}mm-seed{seed}"
    with FileLock(f"{shared}.lock"):
        made = phantom(shared, n_healthy=n_healthy, n_glioma=n_glioma, spacing_mm=spacing_mm, seed=seed)
        for name, cohort in made.items():
            for participant in read_participants(cohort.root):  # folders may hold more, of larger cohorts
                shutil.copytree(cohort.root / participant, out / name / participant)
    return phantom(out, n_healthy=n_healthy, n_glioma=n_glioma, spacing_mm=spacing_mm, seed=seed)
