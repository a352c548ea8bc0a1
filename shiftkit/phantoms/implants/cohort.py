"""Cohorts of healthy participants with implanted tumors: who gets which, and everything that is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...cohorts.folder import (
    image_path,
    load_cohort,
    mask_path,
    require_own_files,
    tumor_path,
    write_description,
    write_participants,
)
from ...cohorts.layout import read_json
from ...cohorts.peaks import sidecar_path, write_peaks_sidecar
from ...errors import ConfigError, DataError, ShiftkitError, raise_all
from ...files import held, holds, sweep, write_json
from ...geometry import same_grid
from ...images import megavoxels, read_mask, write_image
from ...types import Bundle, Case, Cohort, Volume
from ...work import Cost, Work
from ..people import generator
from .brains import Brain, find_brain
from .copying import Copied, deal, fitted, read_images, tumors_of
from .growth import REACH_MM, SHAPES, Growth, Order, draw_order, grow
from .transport import CHANGED, Transport, show

_HEALTHY = ("control", "target_control")
_FADING = 0.6
"""Share of fibers' signal that edema takes at its worst; as in ``profiles/moderate.toml``."""
FORMAT = 2
"""Of what is written; raised when the same settings give other images or masks."""


@dataclass(frozen=True, kw_only=True)
class Implanted:
    """What `implant` made: the cohort, and participants that could not be used, with the reason."""

    cohort: Cohort
    failed: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        lost = f"; {len(self.failed)} participants failed" if self.failed else ""
        return f"{self.cohort}{lost}"


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What all implants of a cohort share; written beside each of them."""

    seed: int
    shape: str
    volume_ml: float | None
    like: str | None

    def to_dict(self) -> dict[str, object]:
        return {"seed": self.seed, "shape": self.shape, "volume_ml": self.volume_ml, "like": self.like}


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One implant: into whom, under which key, and whose tumor is copied, if any."""

    case: Case
    key: str
    copied: Copied | None


def implant(
    cohort: Cohort,
    out: Path,
    *,
    like: Cohort | None = None,
    volume_cm3: float | None = None,
    shape: str = "lobed",
    n_implants: int = 1,
    seed: int = 0,
    resume: bool = False,
    work: Work = Work(),
) -> Implanted:
    """Write a cohort of the same participants, each with a tumor implanted, and what is true of it.

    What a tumor does is simulated: it pushes tissue aside (masks and peaks go along), leaves no fibers in its core and
    fewer in its infiltrated rim, and edema weakens their signal. Scanner, noise and anatomy stay the participant's own.
    Participants keep their ids, so that one can be compared with itself; all are of group ``glioma``.

    Parameters
    ----------
    cohort : Cohort
        Whoever is of group ``control`` or ``target_control`` in it gets a tumor; drawn or real images of any grid.
    out : Path
        Folder of the new cohort: new or empty, or with ``resume`` a half-made one.
    like : Cohort, optional
        Patients whose tumors are copied: volume, place in the brain and, as far as a place nearby allows, distance to
        each bundle. All of them are used about equally often. Without it, volumes and places are the phantom's.
    volume_cm3 : float, optional
        One volume for all instead; 0 changes no image.
    shape : {"lobed", "ellipsoid"}
        Family of shapes: ``lobed`` is none that the phantom has, ``ellipsoid`` is the phantom's own.
    n_implants : int
        Tumors of each participant; several are sessions ``implant1``, ``implant2``, ….
    seed : int
        The same seed gives the same bytes, in however many processes.
    resume : bool
        Keep what is complete in ``out``.
    work : Work
        In how many processes, and whom to tell how far it is.

    Returns
    -------
    Implanted
        Beside each participant's images lie, in ``anat/``, ``desc-masseffect_displacement.nii.gz`` (mm, in world
        RAS+, as the phantom writes it), the masks of tumor, core and edema, and ``desc-truth_implant.json``.

    Raises
    ------
    ConfigError
        If ``out`` holds something or lies inside a cohort, options contradict each other, or a volume fits into no
        brain.
    DataError
        If there is no healthy participant, nobody to copy from, or nobody could be used.

    Notes
    -----
    The push is a diffeomorphism, the exponential of the velocity around expanding balls; it is 0 at the brain's edge
    and beyond 60 mm from the tumor's. Peaks are turned as fibers are, see `transport.turned`. Reference masks lose what
    lies in the core, but not what leads there: that fibers are cut all along, as the phantom's are, masks do not tell.

    Examples
    --------
    >>> import tempfile
    >>> from shiftkit.phantoms import phantom
    >>> place = Path(tempfile.mkdtemp())
    >>> healthy = phantom(place, n_healthy=1, n_glioma=0, spacing_mm=5)["healthy"]
    >>> made = implant(healthy, place / "implanted", volume_cm3=30)
    >>> made.cohort["sub-h001"].group, made.cohort["sub-h001"].tumor is not None
    ('glioma', True)
    """
    if shape not in SHAPES:
        raise ConfigError(f"`shape` is {' or '.join(SHAPES)}; got {shape!r}.")
    if like is not None and volume_cm3 is not None:
        raise ConfigError("Volumes come from the tumors of `like`, or are all `volume_cm3`; both are given. Drop one.")
    if holds(out) and not resume:
        raise ConfigError(f"Implants need an empty folder; {out} holds files already. Give `resume`, or another `out`.")
    for one in (cohort, *([] if like is None else [like])):
        if out.resolve().is_relative_to(one.root.resolve()):
            raise ConfigError(
                f"Implants are a cohort of their own; {out} lies in the folder of {one.name}. Give another `out`."
            )
    healthy = require_own_files(cohort).where(group=_HEALTHY)
    if not len(healthy):
        raise DataError(
            f"Tumors are implanted into healthy participants; {cohort.name} has nobody of group control or "
            "target_control in participants.tsv. Fill in the group column, or name another cohort."
        )
    settings = _Settings(seed=seed, shape=shape, volume_ml=volume_cm3, like=None if like is None else like.name)
    _require_own(out, cohort.name, settings)
    n_masks = 0 if like is None else sum(case.tumor is not None for case in like)
    work.begin(
        f"Would implant {n_implants * len(healthy)} tumors into {len(healthy)} cases of {cohort.name}"
        + (f", as {n_masks} of {like.name} are" if like is not None else "")
        + f", as cohort {out.name}.",
        cost_of(healthy, n_implants * len(healthy) + n_masks, work),
        out,
    )
    tumors = () if like is None else tumors_of(like, work)
    keys = {_key(case, n, n_implants): case for case in healthy for n in range(1, n_implants + 1)}
    copied = deal(sorted(keys), tumors, generator(seed, "all", "deal")) if tumors else {}
    tasks = [_Task(case=case, key=key, copied=copied.get(key)) for key, case in keys.items()]
    out.mkdir(parents=True, exist_ok=True)
    with held(out, "implant"):
        sweep(out)
        phantom = {"Phantom": cohort.description["Phantom"]} if "Phantom" in cohort.description else {}
        told = _told(cohort.name, settings)
        describe = partial(write_description, out, f"{cohort.name} with implanted tumors", Implanted=told, **phantom)
        describe()  # first, so that a folder that was left half-made says whose it is
        made = list(work.map(partial(_implant, out, settings), tasks, "Implanting"))
        failed = {task.key: problem for task, (_, problem) in zip(tasks, made, strict=True) if problem}
        if len(failed) == len(tasks):
            raise_all([f"{key}: {told}" for key, told in list(failed.items())[:5]], f"Nobody of {cohort.name}")
        truths = {task.key: truth for task, (truth, problem) in zip(tasks, made, strict=True) if not problem}
        write_participants(out, _participants(healthy, tasks, truths))
        describe()  # and last, for what it says of masks
    there = load_cohort(out).where(lambda case: case.key in truths)
    return Implanted(cohort=there, failed=failed)


def cost_of(cohort: Cohort, implants: int, work: Work) -> Cost:
    """What it takes to implant so many tumors into participants of a cohort, or to read as many."""
    mega = megavoxels(cohort)
    return work.cost(implants, cpu_s=2.0 + 7.0 * mega, memory_gib=0.4 + 0.5 * mega, disk_gib=0.025 * mega)


def _key(case: Case, number: int, n_implants: int) -> str:
    """Of a participant's implant: their own key, or a session of its own for each of several."""
    if n_implants == 1:
        return case.key
    return f"{case.participant_id}_{case.session or 'ses-'}implant{number}"


def _require_own(out: Path, name: str, settings: _Settings) -> None:
    """Refuse to continue what is no cohort of implants, or one that was asked for with other settings."""
    if not holds(out):
        return
    path = out / "dataset_description.json"
    found = read_json(path).get("Implanted") if path.is_file() else None
    wanted = _told(name, settings)
    if found != wanted:
        wrong = [key.lower() for key in wanted if found.get(key) != wanted[key]] if isinstance(found, dict) else []
        how = f"was made with another {', '.join(wrong)}" if wrong else "holds no implants"
        raise ConfigError(
            f"`resume` continues implants of the same cohort and settings; {out} {how}. Give another `out`."
        )


def _told(name: str, settings: _Settings) -> dict[str, object]:
    """What a description says that implants were made of."""
    return {"Cohort": name, "Format": FORMAT, **settings.to_dict()}


def _truth_path(root: Path, key: str) -> Path:
    return tumor_path(root, key).with_name(f"{key}_desc-truth_implant.json")


def _implant(out: Path, settings: _Settings, task: _Task) -> tuple[dict[str, Any], str]:
    """What is true of one implant, and why there is none; what is complete is kept."""
    path = _truth_path(out, task.key)
    try:
        if path.is_file():  # written last: its presence says that the rest is complete
            return read_json(path), ""
        images = read_images(task.case)
        masks = _masks(task.case, next(iter(images.values())))
        brain = find_brain(images, task.case.key)
        rng = generator(settings.seed, task.key, "implant")
        order = _order(settings, task.copied, brain, masks, rng)
        growth = None if order.volume_ml == 0 else grow(brain, order, rng, shape=settings.shape, fading=_FADING)
        return _write(out, task, images, masks, Transport(brain=brain, growth=growth), order, settings), ""
    except ConfigError:
        raise  # what was asked for fits nobody better
    except ShiftkitError as error:
        return {}, str(error)


def _masks(case: Case, grid: Volume) -> dict[Bundle, Volume]:
    masks: dict[Bundle, Volume] = {}
    for bundle, path in sorted(case.masks.items()):
        masks[bundle] = read_mask(path)
        if not same_grid(masks[bundle], grid):
            raise DataError(f"A mask must share the grid of its images; {path.name} does not. Resample it.")
    return masks


def _order(
    settings: _Settings, copied: Copied | None, brain: Brain, masks: Mapping[Bundle, Volume], rng: np.random.Generator
) -> Order:
    return draw_order(rng, settings.volume_ml) if copied is None else fitted(copied, brain, masks)


def _write(
    out: Path,
    task: _Task,
    images: Mapping[str, Volume],
    masks: Mapping[Bundle, Volume],
    transport: Transport,
    order: Order,
    settings: _Settings,
) -> dict[str, Any]:
    """Write images, masks and truth of one participant."""
    key = task.key
    if order.volume_ml > 0 and not transport.tumor.array.any():
        raise DataError(
            f"A tumor of {order.volume_ml:g} ml fills no voxel of {transport.grid.voxel_volume_ml:.3g} ml; give a "
            "larger `volume_cm3`, or 0 for none."
        )
    scene = show(images, transport)
    for name, volume in scene.images.items():
        path = image_path(out, key, name)
        write_image(volume, path)
        if name == "peaks":
            write_peaks_sidecar(path)
    after = {bundle: transport.pull_bundle(mask) for bundle, mask in masks.items()}
    for bundle, mask in after.items():
        write_image(mask, mask_path(out, key, bundle))
    write_image(transport.tumor, tumor_path(out, key))
    write_image(transport.core, tumor_path(out, key, "core"))
    # Without an entity label: that would be a bundle called edema.
    write_image(scene.edema, tumor_path(out, key).with_name(f"{key}_desc-edema_mask.nii.gz"))
    moved = tumor_path(out, key).with_name(f"{key}_desc-masseffect_displacement.nii.gz")
    write_json(sidecar_path(moved), {"Units": "mm", "Description": _MASS_EFFECT})
    write_image(transport.grid.with_array(transport.displacement_mm), moved)
    truth = _truth(task, transport, order, settings) | {
        "moved_only": sorted(set(images) - set(CHANGED)),
        "bundle_volume_ml": {bundle.label: [_ml(masks[bundle]), _ml(mask)] for bundle, mask in after.items()},
        "edema_volume_ml": _ml(scene.edema),
    }
    write_json(_truth_path(out, key), truth)
    return truth


def _truth(task: _Task, transport: Transport, order: Order, settings: _Settings) -> dict[str, Any]:
    growth = transport.growth
    return {
        "participant_id": task.case.participant_id,
        "version": version("shiftkit"),
        "settings": settings.to_dict(),
        "tumor_volume_ml": _ml(transport.tumor),
        "tumor_core_volume_ml": _ml(transport.core),
        "tumor_volume_drawn_ml": order.volume_ml,
        "tumor_site": order.site or "n/a",
        "tumor_copied_from": order.copied_from or "n/a",
        "tumor_side": "n/a" if growth is None else _side(transport),
        **({} if growth is None else _grown(growth, transport)),
    }


def _grown(growth: Growth, transport: Transport) -> dict[str, Any]:
    low, high = growth.jacobian_range
    return {
        "tumor_center_mm": growth.center_mm.round(3).tolist(),
        "tumor_radius_mm": growth.radius_mm,
        "tumor_core_share": growth.core_share,
        "tumor_mass_share": growth.mass,
        "tumor_edema_mm": growth.edema_mm,
        "edema_fading": growth.fading,
        "reach_mm": growth.reach_mm,
        "jacobian_range": [low, high],
        "displacement_max_mm": float(np.linalg.norm(transport.displacement_mm, axis=-1).max()),
    }


def _side(transport: Transport) -> str:
    """The hemisphere in which the tumor lies; bilateral with a fifth of it on either side."""
    aside = transport.tumor.points_inside()[:, 0] - transport.brain.box_mm[0][0]
    if not aside.size:
        return "n/a"
    if min(np.mean(aside < 0), np.mean(aside > 0)) >= 0.2:
        return "bilateral"
    return "left" if aside.mean() < 0 else "right"


_MASS_EFFECT = (
    "How far, and where to (x, y, z in world RAS+), the tumor has pushed the tissue that now lies at a voxel; zero "
    f"beyond {REACH_MM:g} mm from the tumor's edge."
)


def _ml(mask: Volume) -> float:
    return round(float(mask.array.sum()) * mask.voxel_volume_ml, 2)


def _participants(healthy: Cohort, tasks: Sequence[_Task], truths: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Rows of the healthy cohort, as patients; a tumor that is one of several has no row."""
    rows: list[dict[str, Any]] = []
    for person in dict.fromkeys(case.participant_id for case in healthy):
        own = [truths[task.key] for task in tasks if task.case.participant_id == person and task.key in truths]
        if not own:
            continue
        tumor = {"tumor_side": own[0]["tumor_side"], "tumor_volume_ml": own[0]["tumor_volume_ml"]}
        rows.append(
            {
                "participant_id": person,
                **healthy[person].attributes,
                "group": "glioma",
                **(tumor if len(own) == 1 else dict.fromkeys(tumor, "n/a")),
            }
        )
    return pd.DataFrame(rows).fillna("n/a").sort_values("participant_id")
