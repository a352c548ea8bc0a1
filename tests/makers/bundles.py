"""Bundles of a simple shape whose displacement is known, cohorts of them, and what is measured of such."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial.transform import Rotation

from shiftkit import cohorts
from shiftkit.analyses.deformation.push import pattern_of
from shiftkit.analyses.deformation.template import Controls
from shiftkit.catalogue import DEFORMATION
from shiftkit.images import write_image
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume

BUNDLE = Bundle.parse("AFleft")
PYT = Bundle.parse("PYTleft")
HALF_LENGTH_MM = 30.0
CENTER_MM = np.array([-30.3, 0.4, 0.7])  # no face of the shape on a voxel's center


def grid(spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Affine and world points of a box around the tube, in a left-handed order of axes."""
    n = np.ceil(np.array([52.0, 84, 44]) / spacing_mm).astype(int)
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (-4, -42, -22)
    index = np.stack(np.meshgrid(*(np.arange(k) for k in n), indexing="ij"), axis=-1)
    return affine, index @ affine[:3, :3].T + affine[:3, 3]


def tube(
    spacing_mm: float = 2.5,
    push_mm: float = 0.0,
    radius_mm: float = 6.0,
    motion: Rotation | None = None,
    bend_mm: float = 0.0,
) -> Volume:
    """A bundle along y at x = −30 mm, its middle third pushed towards the midline, all of it rotated, or bent."""
    affine, points = grid(spacing_mm)
    points = points - CENTER_MM
    if motion is not None:
        points = motion.inv().apply((points - (2.0, -1.0, 1.5)).reshape(-1, 3)).reshape(points.shape)
    x, y, z = np.moveaxis(points, -1, 0)
    x = x - push_mm * np.exp(-((y / 12.0) ** 2)) - bend_mm * np.cos(np.pi * y / HALF_LENGTH_MM)
    return Volume(array=(np.hypot(x, z * 1.3) < radius_mm) & (np.abs(y) < HALF_LENGTH_MM), affine=affine)


def ball(center_mm: Any, radius_mm: float = 8.0, spacing_mm: float = 2.0) -> Volume:
    """A tumor on the tube's grid."""
    affine, points = grid(spacing_mm)
    return Volume(array=np.linalg.norm(points - np.asarray(center_mm), axis=-1) < radius_mm, affine=affine)


def visible_mm(push_mm: float) -> float:
    """What V-Norm should be of a pushed tube: the push's mean over the tube, less what a shift of the whole takes."""
    y = np.linspace(-HALF_LENGTH_MM, HALF_LENGTH_MM, 601)
    push = push_mm * np.exp(-((y / 12) ** 2))
    return min(float(np.abs(push - shift).mean()) for shift in np.linspace(0, 3, 61))


def elsewhere(volume: Volume) -> Volume:
    """The same head, turned by 5° and shifted by 9 mm."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xz", [3.0, 4.0], degrees=True).as_matrix()
    motion[:3, 3] = (7.0, -4.0, 4.0)
    return Volume(array=volume.array, affine=motion @ volume.affine)


def template_of(*masks: Volume) -> Controls:
    """Controls with these masks."""
    return Controls.of({f"sub-{index}": mask for index, mask in enumerate(masks)})


def write_masks(folder: Path, group: str, masks: dict[str, Volume], bundle: Bundle = BUNDLE) -> Cohort:
    """A cohort of one bundle; patients' tumors are on its side."""
    for key, mask in masks.items():
        write_image(mask, cohorts.mask_path(folder, key, bundle))
    side = "left" if group == "glioma" else "n/a"
    rows = pd.DataFrame({"participant_id": list(masks), "group": group, "tumor_side": side})
    cohorts.write_participants(folder, rows)
    return cohorts.load_cohort(folder)


@dataclass(frozen=True)
class Study:
    """Patients now and at another time, and controls."""

    now: Cohort
    before: Cohort
    healthy: Cohort

    def words(self) -> list[str]:
        """What ``deform`` is asked for."""
        given = {"cohort": self.now, "reference": self.healthy, "baseline": self.before}
        named = [word for name, one in given.items() for word in (f"--{name}", str(one.root))]
        return [*named, "--spacing", "2.5", "--jobs", "1", "-q"]


def table_of(run: Path, bundle: str = BUNDLE.name) -> pd.DataFrame:
    """A deformation run's rows of one bundle, by participant."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION)
    return table[table["bundle"] == bundle].set_index("participant_id")


def rows_of(values: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Rows of a deformation's table, a number a participant; the second point of each profile is gone."""
    return [
        {
            "participant_id": f"sub-{group}{index}",
            "cohort": group,
            "group": group,
            "bundle": "AF",
            "hemisphere": "left",
            "side": "n/a" if group == "control" else "ipsi",
            "v_norm_mm": value,
            "profile_mm": [value, float("nan")],
            "status": "ok",
        }
        for group, some in values.items()
        for index, value in enumerate(some)
    ]


def course(index: int) -> np.ndarray:
    """32 points of a bundle along y, or along z, bent a little."""
    points = np.full((32, 3), -30.0)
    points[:, 1 + index] = np.linspace(-40, 40, 32)
    points[:, 0] += 5 * np.cos(np.linspace(-2, 2, 32))
    return points


SKELETONS_MM = {place: course(index) for index, place in enumerate([("AF", "left"), ("PYT", "left")])}


def pushed_rows(
    seed: int, amplitude: float, n: int = 20, controls: int = 15, fading: float = 2.0
) -> tuple[list[dict[str, Any]], float]:
    """Smooth anatomy of 2 mm in everybody, less the controls' mean as a template takes it, and a push in patients.

    The push fades with the distance by a power, and each patient has an amplitude of their own. Also gives the mean
    length of the push over patients' bundles, mm.
    """
    rng = np.random.default_rng(seed)
    people = [*(f"sub-h{i}" for i in range(controls)), *(f"sub-g{i}" for i in range(n))]
    anatomy = ndimage.gaussian_filter1d(rng.normal(size=(len(people), 2, 32, 3)), 5, axis=2)
    anatomy *= 2 / np.linalg.norm(anatomy, axis=-1).mean()
    rows: list[dict[str, Any]] = []
    truth: list[float] = []
    for index, name in enumerate(people):
        healthy = index < controls
        others = [i for i in range(controls) if i != index]
        center, radius = np.array([-30.0, 0.0, 0.0]) + rng.normal(0, 15, 3), rng.uniform(12, 28)
        size = amplitude * rng.gamma(4, 0.25)
        for which, ((bundle, hemisphere), skeleton_mm) in enumerate(SKELETONS_MM.items()):
            shift = anatomy[index, which] - anatomy[others, which].mean(axis=0)
            row = {"participant_id": name, "bundle": bundle, "hemisphere": hemisphere}
            if not healthy:
                push = size * pattern_of(skeleton_mm, center, radius, fading)
                truth.append(float(np.linalg.norm(push, axis=1).mean()))
                shift = shift + push
                row |= {"tumor": [*center.tolist(), radius]}
            row |= {"group": "control", "side": "n/a"} if healthy else {"group": "glioma", "side": "ipsi"}
            rows.append(row | {"shift_mm": shift.tolist()})
    return rows, float(np.mean(truth))
