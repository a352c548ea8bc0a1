"""Phantom cohorts on disk: who is in them, and everything that was drawn, written beside the images."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from .. import cohorts
from ..errors import ConfigError
from ..files import write_text
from ..images import write_image
from ..types import Cohort
from .acquisition import Profile, load_profile
from .people import Person, draw_person, generator
from .render import Rendering, render

Progress = Callable[[int, int, str], None]

# Cohort of patients: which scanner, and whether the tumor is rendered.
_FACTORIAL = {
    "glioma": ("target", True),
    "glioma_clean": ("source", False),
    "glioma_systematic": ("target", False),
    "glioma_tumor": ("source", True),
}


def phantom(
    out: Path,
    *,
    n_healthy: int = 60,
    n_glioma: int = 24,
    spacing_mm: float = 2.5,
    seed: int = 0,
    factorial: bool = False,
    source: str | Path = "source",
    target: str | Path = "target",
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Cohort]:
    """Write the phantom's cohorts; what is there already is kept.

    Parameters
    ----------
    out : Path
        Folder that gets one folder a cohort.
    n_healthy, n_glioma : int
        Controls and patients; 0 leaves the cohort out.
    spacing_mm : float
        Voxel size, 1–5 mm.
    seed : int
        The same seed gives the same bytes, whatever ``jobs``; a participant depends on the seed and its
        own identifier only.
    factorial : bool
        Also write ``glioma_clean``, ``glioma_systematic`` and ``glioma_tumor``: the same patients without
        shift and with each shift alone.
    source, target : str or Path
        Acquisition profiles of controls and patients.
    jobs : int
        Processes.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    dict of str to Cohort

    Raises
    ------
    ConfigError
        If the numbers make no cohort, or a profile cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> made = phantom(Path(tempfile.mkdtemp()), n_healthy=1, n_glioma=0, spacing_mm=5)
    >>> len(made["healthy"].bundles)
    10
    """
    if n_healthy < 0 or n_glioma < 0 or n_healthy + n_glioma == 0 or not 1 <= spacing_mm <= 5:
        raise ConfigError(
            "A phantom needs at least one participant and a spacing of 1–5 mm; "
            f"got {n_healthy} controls, {n_glioma} patients, {spacing_mm} mm."
        )
    profiles = {"source": load_profile(source), "target": load_profile(target)}
    plan: dict[str, list[str]] = {}
    if n_healthy:
        plan["healthy"] = [f"sub-h{i:03d}" for i in range(1, n_healthy + 1)]
    if n_glioma:
        names = _FACTORIAL if factorial else ("glioma",)
        plan |= {name: [f"sub-g{i:03d}" for i in range(1, n_glioma + 1)] for name in names}
    people = sorted({one for names in plan.values() for one in names})
    todo = [(name, one) for one in people for name, members in plan.items() if one in members]
    tasks = (delayed(_write_participant)(out, name, one, spacing_mm, seed, profiles) for name, one in todo)
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in plan}
    for done, (name, row) in enumerate(Parallel(n_jobs=jobs, return_as="generator")(tasks), start=1):
        rows[name].append(row)
        if progress is not None:
            progress(done, len(todo), "Rendering the phantom")
    for name, members in plan.items():
        _write_tables(out / name, name, rows[name], len(members), seed, spacing_mm)
    return {name: cohorts.load_cohort(out / name) for name in plan}


def _write_participant(
    out: Path, cohort: str, participant_id: str, spacing_mm: float, seed: int, profiles: dict[str, Profile]
) -> tuple[str, dict[str, object]]:
    patient = cohort != "healthy"
    scanner, with_tumor = _FACTORIAL.get(cohort, ("source", False))
    root = out / cohort
    truth = root / participant_id / "anat" / f"{participant_id}_desc-truth_phantom.json"
    if not truth.is_file():  # written last: its presence says that the participant is complete
        person = draw_person(seed, participant_id, patient)
        noise = generator(seed, participant_id, f"scan {scanner}")
        _write(root, participant_id, render(person, profiles[scanner], noise, spacing_mm, with_tumor), with_tumor)
        write_text(truth, json.dumps(_truth(person, scanner, with_tumor), indent=2) + "\n")
    known = json.loads(truth.read_text(encoding="utf-8"))
    return cohort, {
        "participant_id": participant_id,
        "group": "glioma" if patient else "control",
        "age": known["age"],
        "sex": known["sex"],
        "site": "B" if scanner == "target" else "A",
        "scanner": scanner,
        "tumor_side": known["tumor_side"],
        "tumor_volume_ml": known["tumor_volume_ml"],
    }


def _write(root: Path, key: str, rendering: Rendering, with_tumor: bool) -> None:
    for modality, volume in rendering.images.items():
        path = cohorts.image_path(root, key, modality)
        write_image(volume, path)
        if modality == "peaks":
            cohorts.write_peaks_sidecar(path)
    for bundle, volume in rendering.masks.items():
        write_image(volume, cohorts.mask_path(root, key, bundle))
    for part, volume in (("tumor", rendering.tumor), ("core", rendering.core)):
        if volume is not None:
            path = cohorts.tumor_path(root, key, part)
            write_image(volume, path)
            if not with_tumor:
                sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
                write_text(sidecar, json.dumps({"Virtual": True}) + "\n")


def _truth(person: Person, scanner: str, with_tumor: bool) -> dict[str, object]:
    tumor = person.tumor
    return {
        "participant_id": person.participant_id,
        "age": person.age,
        "sex": person.sex,
        "profile": scanner,
        "t1_contrast": person.t1_contrast,
        "tumor_rendered": with_tumor,
        "tumor_side": tumor.side if tumor else "n/a",
        "tumor_site": tumor.site if tumor else "n/a",
        "tumor_center_mm": tumor.center_mm.tolist() if tumor else None,
        "tumor_radius_mm": tumor.radius_mm if tumor else None,
        "tumor_core_share": tumor.core_share if tumor else None,
        "tumor_volume_ml": round(4 / 3 * 3.14159265 * tumor.radius_mm**3 / 1000, 1) if tumor else "n/a",
    }


def _write_tables(
    root: Path, name: str, rows: list[dict[str, object]], count: int, seed: int, spacing_mm: float
) -> None:
    frame = pd.DataFrame(rows).sort_values("participant_id")
    if name == "healthy":
        n_train, n_val = round(0.6 * count), round(0.07 * count)
        frame["split"] = ["train"] * n_train + ["val"] * n_val + ["test"] * (count - n_train - n_val)
    cohorts.write_description(root, f"shiftkit phantom: {name}", Phantom={"Seed": seed, "SpacingMm": spacing_mm})
    cohorts.write_participants(root, frame)
