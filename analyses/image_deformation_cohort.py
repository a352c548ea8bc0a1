"""Image-based deformation of a cohort: every participant's T1w image against the healthy template, in one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError, ShiftkitError
from ..images import read_image, read_mask, write_image
from ..parallel import in_parallel
from ..status import Status
from ..tables import IMAGE_DEFORMATION, parse_table
from ..types import Bundle, Case, Cohort, Finding, Volume
from .deformation_result import ranked
from .deformation_tasks import digest_of, everyone, keep, kept
from .distance import side_of
from .image_deformation import SETTINGS, ImageDeformation, brain_of, deform_image, load_template
from .image_deformation_findings import findings
from .registration import SETTINGS as REGISTRATION
from .registration import Array
from .scoring import Progress

LEAST_SEEN = 0.5
"""Share of a bundle outside of the tumor, below which the rest says nothing of it."""
WHOLE = "all"


@dataclass(frozen=True, kw_only=True)
class ImageDeformationResult:
    """How far the images of a cohort are from the healthy template, by bundle.

    Parameters
    ----------
    table : DataFrame
        Columns of `shiftkit.tables.IMAGE_DEFORMATION`.
    failed : mapping of str to str
        Participants whose image could not be used, and why.
    """

    table: pd.DataFrame
    failed: Mapping[str, str]

    def to_frame(self) -> pd.DataFrame:
        """One row a participant and bundle, and one for the whole brain."""
        return self.table.copy()

    def findings(self) -> tuple[Finding, ...]:
        """What it says, ready for a report."""
        return findings(self.table)

    def plot(self, ax: Any = None) -> Any:
        """V-Norm of the image by bundle; returns the axes."""
        return self.findings()[0].plot(ax)

    def __str__(self) -> str:
        return self.findings()[0].claim

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(str(self))}</p>" + self.table.to_html(index=False, max_rows=10, na_rep="n/a")


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One participant; sent to a process."""

    cohort: str
    case: Case
    bundles: tuple[Bundle, ...]
    out: Path | None

    def __call__(self) -> list[dict[str, Any]]:
        """The table's rows."""
        try:
            rows = self._kept_or_made()
        except ShiftkitError as error:
            reason = {"status": Status.UNAVAILABLE, "reason": str(error)}
            rows = [{**_named(bundle), **reason} for bundle in (None, *self.bundles)]
        side = self.case.attributes.get("tumor_side", "n/a")
        person = {"participant_id": self.case.participant_id, "cohort": self.cohort, "group": self.case.group}
        return [
            {**person, "side": "n/a" if row["bundle"] == WHOLE else side_of(row["hemisphere"], side), **row}
            for row in rows
        ]

    def _kept_or_made(self) -> list[dict[str, Any]]:
        if "t1w" not in self.case.images:
            raise DataError(f"Image-based deformation needs a T1w image; {self.case.key} has none.")
        if self.out is None:
            return self._made()
        record = self.out / "measurements" / self.cohort / f"{self.case.key}_T1w.json"
        digest = self._digest()
        found = kept(record, digest)
        rows: list[dict[str, Any]] = self._made() if found is None else found["rows"]
        if found is None:
            keep(record, digest, {"rows": rows})
        return rows

    def _digest(self) -> str:
        # A mask that another bundle's name is given to is another result, so each digest stands beside its name.
        masks = [self.case.masks.get(bundle) for bundle in self.bundles]
        labels = tuple(bundle.label for bundle in self.bundles)
        settings = (SETTINGS, REGISTRATION, LEAST_SEEN, labels, self.case.group, load_template().image.tobytes())
        return digest_of(settings, [self.case.images["t1w"], self.case.tumor, *masks])

    def _made(self) -> list[dict[str, Any]]:
        image = read_image(self.case.images["t1w"])
        patient = self.case.group != "control" and self.case.tumor is not None
        lost = read_mask(self.case.tumor) if patient and self.case.tumor is not None else None
        found = deform_image(image, lost)
        brain = image.with_array(brain_of(image))
        if self.out is not None:
            stem = f"{self.case.key}_desc-imagevnorm_map.nii.gz"
            write_image(length_map(found, brain), self.out / "maps" / self.case.key / stem)
        common = {"translation_mm": found.translation_mm, "rotation_deg": found.rotation_deg, "size": found.size}
        rows = [{**_named(None), **_summary(found, brain), **common}]
        for bundle in self.bundles:
            path = self.case.masks.get(bundle)
            own = {"status": Status.UNAVAILABLE} if path is None else {**_summary(found, read_mask(path)), **common}
            rows.append({**_named(bundle), **own})
        return rows


def length_map(found: ImageDeformation, brain: Volume) -> Volume:
    """Length of the displacement in mm in the brain outside of the tumor, 0 elsewhere, on the mask's grid."""
    seen = brain.array & ~_lost_at(found, brain)
    image = np.zeros(brain.shape, dtype=np.float32)
    image[seen] = np.linalg.norm(found.displacement_mm(_world(brain, seen)), axis=1)
    return brain.with_array(image)


def _summary(found: ImageDeformation, mask: Volume) -> dict[str, Any]:
    if not mask.array.any():
        return {"status": Status.EMPTY}
    seen = mask.array & ~_lost_at(found, mask)
    share = float(seen.sum() / mask.array.sum())
    if share < LEAST_SEEN:
        return {"status": Status.TOO_SMALL, "seen_share": share}
    points = _world(mask, seen)
    return {
        "v_norm_mm": float(np.linalg.norm(found.displacement_mm(points), axis=1).mean()),
        "jacobian_mean": float(found.jacobian(points).mean()),
        "seen_share": share,
        "status": Status.OK,
    }


def _world(mask: Volume, inside: Any) -> Array:
    return np.argwhere(inside) @ mask.affine[:3, :3].T + mask.affine[:3, 3]


def _lost_at(found: ImageDeformation, mask: Volume) -> Any:
    """Which voxels of a mask's grid lie where the image had no say, shape (X, Y, Z)."""
    lost = np.zeros(mask.shape, dtype=bool)
    if found.lost is None:
        return lost
    inverse = np.linalg.inv(found.lost.affine)
    inside = np.argwhere(mask.array)
    world = inside @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    index = np.round(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    held = ((index >= 0) & (index < found.lost.shape)).all(axis=1)
    lost[tuple(inside[held].T)] = found.lost.array[tuple(index[held].T)]
    return lost


def _named(bundle: Bundle | None) -> dict[str, Any]:
    if bundle is None:
        return {"bundle": WHOLE, "hemisphere": WHOLE}
    return {"bundle": bundle.name, "hemisphere": bundle.hemisphere}


def deform_images(
    cohort: Cohort,
    controls: Cohort,
    *,
    bundles: Sequence[Bundle],
    out: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ImageDeformationResult:
    """Measure how far each participant's T1w image is from the healthy template, outside of the tumor.

    Parameters
    ----------
    cohort, controls : Cohort
        With T1w images without skull; patients' tumor masks say where the image has no say.
    bundles : sequence of Bundle
        Where it is averaged, besides the whole brain.
    out : Path, optional
        Folder for maps, and what is needed to continue after an interruption.
    jobs : int
        Processes; 0 uses every core.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    ImageDeformationResult
    """
    from joblib import delayed

    people = everyone(cohort, controls)
    tasks = (delayed(_Task(cohort=name, case=case, bundles=tuple(bundles), out=out))() for name, case, _ in people)
    rows: list[dict[str, Any]] = []
    for done, made in enumerate(in_parallel(tasks, jobs), start=1):
        rows += made
        if progress is not None:
            progress(done, len(people), "Registering images")
    frame = pd.DataFrame([{key: row.get(key, np.nan) for key in IMAGE_DEFORMATION.columns} for row in rows])
    keys = ["bundle", "hemisphere"]
    frame = frame.sort_values([*keys, "cohort", "participant_id"], kind="stable").reset_index(drop=True)
    table = ranked(frame, keys)[list(IMAGE_DEFORMATION.columns)]
    return ImageDeformationResult(
        table=parse_table(table, IMAGE_DEFORMATION, "The table of image-based deformation"),
        failed={row["participant_id"]: row["reason"] for row in rows if "reason" in row},
    )
