"""Phantom cohorts on disk: who is in them, and everything that was drawn, written beside the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from .. import cohorts
from ..errors import ConfigError
from ..files import read_json, sweep
from ..types import Cohort
from ..work import Cost, Work
from .acquisition import Profile, load_profile
from .people import PATIENTS_AGE, TYPICAL_AGE, Replay, draw_person, generator
from .record import Files
from .render import render, tumor_distances

# Cohort: which scanner, and whether the tumor is rendered. Those of gliomas hold the same patients.
_COHORTS = {
    "healthy": ("source", False),
    "glioma": ("target", True),
    "glioma_clean": ("source", False),
    "glioma_systematic": ("target", False),
    "glioma_tumor": ("source", True),
    "target_controls": ("target", False),
}

_GROUPS = {"source": "control", "target": "target_control"}  # of people without a tumor, by scanner


def phantom(
    out: Path,
    *,
    n_healthy: int = 60,
    n_glioma: int = 24,
    n_target_controls: int = 0,
    spacing_mm: float = 2.5,
    seed: int = 0,
    factorial: bool = False,
    source: str | Path = "source",
    target: str | Path = "moderate",
    fields: bool = False,
    dwi: bool = False,
    work: Work = Work(),
) -> dict[str, Cohort]:
    """Write the phantom's cohorts; what is there already is kept.

    Parameters
    ----------
    out : Path
        Folder that gets one folder a cohort.
    n_healthy, n_glioma, n_target_controls : int
        Controls, patients, and healthy people of the patients' age in the patients' scanner; 0 leaves a cohort out.
    spacing_mm : float
        Voxel size, 1–5 mm.
    seed : int
        The same seed gives the same bytes, however ``work`` is done; a participant depends on the seed and its
        own identifier only.
    factorial : bool
        Also write ``glioma_clean``, ``glioma_systematic`` and ``glioma_tumor``: the same patients without
        shift and with each shift alone.
    source, target : str or Path
        Profiles of controls and patients: ``"source"``, ``"mild"``, ``"moderate"``, ``"severe"`` or a TOML file.
    fields : bool
        Also write each participant's displacement to the template, and a patient's mass effect.
    dwi : bool
        Also write raw diffusion series with ``.bval``, ``.bvec`` and a brain mask.
    work : Work
        In how many processes, and whom to tell how far it is.

    Returns
    -------
    dict of str to Cohort

    Raises
    ------
    ConfigError
        If the numbers make no cohort, a profile cannot be read, or the folder holds another phantom or cohort.

    Examples
    --------
    >>> import tempfile
    >>> made = phantom(Path(tempfile.mkdtemp()), n_healthy=1, n_glioma=0, spacing_mm=5)
    >>> len(made["healthy"].bundles)
    10
    """
    counts = dict.fromkeys(_COHORTS, n_glioma) | {"healthy": n_healthy, "target_controls": n_target_controls}
    if min(counts.values()) < 0 or not any(counts.values()) or not 1 <= spacing_mm <= 5:
        raise ConfigError(
            "A phantom needs at least one participant and a spacing of 1–5 mm; got "
            f"{n_healthy} controls, {n_glioma} patients, {n_target_controls} target controls, {spacing_mm} mm."
        )
    profiles = {"source": load_profile(source), "target": load_profile(target)}
    always = ("healthy", "glioma", "target_controls")
    names = [name for name in (_COHORTS if factorial else always) if counts[name]]
    plan = {name: [f"sub-{name[0]}{i:03d}" for i in range(1, counts[name] + 1)] for name in names}
    for name in names:
        _require_phantom(out / name)
    people = sorted({one for members in plan.values() for one in members})
    rendered = sum(map(len, plan.values()))
    work.begin(
        f"Would draw {' and '.join(f'{len(members)} participants of {name}' for name, members in plan.items())} at "
        f"{spacing_mm:g} mm into {out}.",
        cost_of(rendered, spacing_mm, work, dwi=dwi),
        out,
    )
    order = _Order(out=out, spacing_mm=spacing_mm, seed=seed, profiles=profiles, fields=fields, dwi=dwi)
    tasks = [(one, [name for name, members in plan.items() if one in members]) for one in people]
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in plan}
    for made in work.map(partial(_write_participant, order), tasks, "Rendering the phantom"):
        for name, row in made.items():
            rows[name].append(row)
    for name, members in plan.items():
        sweep(out / name)
        _write_tables(out / name, name, rows[name], len(members), seed, spacing_mm)
    return {name: cohorts.load_cohort(out / name) for name in plan}


def cost_of(n: int, spacing_mm: float, work: Work, *, dwi: bool = False) -> Cost:
    """What it takes to draw so many participants; as in `benchmarks/phantom.md`."""
    mega = 3.0 / spacing_mm**3 * 2.6  # the brain's box
    series = 60 if dwi else 0  # volumes
    return work.cost(
        n,
        cpu_s=1.5 + 1.0 * mega + 0.2 * series * mega,
        memory_gib=0.5 + 0.4 * mega,
        disk_gib=mega * (12 + series) * 2e-3,
    )


def _require_phantom(root: Path) -> None:
    """Refuse a folder with tables that no phantom wrote: they would be written over."""
    path = root / "dataset_description.json"
    try:
        known = "Phantom" in read_json(path) if path.is_file() else not (root / "participants.tsv").exists()
    except (ValueError, TypeError):
        known = False
    if not known:
        raise ConfigError(
            f"A phantom is written to a folder of its own; {root} holds a cohort that is no phantom. Name another."
        )


@dataclass(frozen=True, kw_only=True)
class _Order:
    out: Path
    spacing_mm: float
    seed: int
    profiles: dict[str, Profile]
    fields: bool
    dwi: bool


def _write_participant(order: _Order, task: tuple[str, Sequence[str]]) -> dict[str, dict[str, object]]:
    """Render one participant for every cohort that it belongs to; what is complete is kept."""
    participant_id, names = task
    files = {name: Files(root=order.out / name, key=participant_id) for name in names}
    settings = {name: _settings(order, _COHORTS[name][0]) for name in names}
    todo = [name for name in names if not files[name].complete(settings[name], order.fields, order.dwi)]
    if todo:
        patient = not {"healthy", "target_controls"} & set(names)
        age = TYPICAL_AGE if "healthy" in names else PATIENTS_AGE
        person = draw_person(order.seed, participant_id, patient, order.profiles["target"].gliomas, age)
        distances = tumor_distances(person, order.spacing_mm)
        tapes: dict[str, Replay] = {}
        for name in todo:
            scanner, with_tumor = _COHORTS[name]
            noise = generator(order.seed, participant_id, f"scan {scanner}")
            if not order.dwi:  # whose numbers would fill the memory
                noise = tapes.setdefault(scanner, Replay(noise)).rewound()
            made = render(person, order.profiles[scanner], noise, order.spacing_mm, with_tumor, order.dwi)
            files[name].write(person, made, with_tumor, order.fields)
            files[name].write_truth(person, made, with_tumor, distances, scanner, settings[name])
    return {name: _row(files[name].truth()) for name in names}


def _settings(order: _Order, scanner: str) -> dict[str, object]:
    return {"seed": order.seed, "spacing_mm": order.spacing_mm, "profile": order.profiles[scanner].to_dict()}


def _row(truth: dict[str, object]) -> dict[str, object]:
    return {
        "participant_id": truth["participant_id"],
        "group": "glioma" if truth["tumor_side"] != "n/a" else _GROUPS[str(truth["profile"])],
        "age": truth["age"],
        "sex": truth["sex"],
        "site": "B" if truth["profile"] == "target" else "A",
        "scanner": truth["profile"],
        "tumor_side": truth["tumor_side"],
        "tumor_volume_ml": truth["tumor_volume_ml"],
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
