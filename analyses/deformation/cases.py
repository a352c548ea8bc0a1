"""Who is measured against whom, and one worker for masks and images."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...catalogue import IMAGE_DEFORMATION
from ...distances import check_orthogonal
from ...errors import ConfigError, DataError, ShiftkitError
from ...files import file_digest, write_text
from ...images import read_image, read_mask, write_image
from ...results import Finding
from ...status import Status
from ...tables import parse_table
from ...types import Bundle, Case, Cohort, Volume
from ...version import __version__
from ...work import Work, in_parallel
from ..distance.tumor import side_of
from .brain import SETTINGS as IMAGE_SETTINGS
from .brain import ImageDeformation, brain_of, deform_image, load_template
from .findings import image_findings as findings
from .registration import SETTINGS, Array
from .result import ranked
from .template import N_POINTS, BundleTemplate, Controls, controls_of, outside_of_use
from .v_norm import QUANTILES, Measurement, measure, measure_against_own


def unusable(mask: Volume, baseline: Volume) -> str | None:
    """Why a mask cannot be measured against its baseline; ``unavailable`` if the fault is the baseline's, else None."""
    usual_ml = float(baseline.array.sum()) * baseline.voxel_volume_ml
    if outside_of_use(baseline, usual_ml) is not None:
        return Status.UNAVAILABLE
    return outside_of_use(mask, usual_ml)


def own_columns(found: Measurement) -> dict[str, Any]:
    """The numbers as columns of the table."""
    return {"v_norm_own_mm": found.v_norm_mm, "dice_own_after": found.dice_after, "own_status": Status.OK}


def baseline_of(case: Case, baseline: Cohort) -> Case | None:
    """The participant's case in the baseline: of the same session, else the first; None if there is none."""
    own = [one for one in baseline if one.participant_id == case.participant_id]
    return next((one for one in own if one.key == case.key), own[0] if own else None)


def lost_in(case: Case) -> Path | None:
    """The mask that says where a bundle may be destroyed: the tumor's core, else the tumor.

    None for a control, and where the sidecar says that the tumor is only virtual.
    """
    path = case.tumor_core or case.tumor
    if path is None or case.group == "control":
        return None
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    if sidecar.is_file() and json.loads(sidecar.read_text(encoding="utf-8")).get("Virtual") is True:
        return None
    return path


def read_lost(case: Case | None) -> Volume | None:
    """The mask of `lost_in`."""
    path = None if case is None else lost_in(case)
    return None if path is None else read_mask(path)


def require_baseline(cohort: Cohort, baseline: Cohort) -> None:
    """Refuse a baseline that is the cohort itself, or holds none of its participants.

    Raises
    ------
    ConfigError
        If both are one.
    DataError
        If they have no participant in common.
    """
    if cohort.root.resolve() == baseline.root.resolve():
        raise ConfigError(
            f"A baseline must hold the participants at another time, in a cohort of its own; --baseline and --cohort "
            f"are both {cohort.name}. Write the earlier scans as another cohort."
        )
    if not {case.participant_id for case in cohort} & {case.participant_id for case in baseline}:
        raise DataError(
            f"A baseline must hold the same participants under the same participant_id; {baseline.name} has none of "
            f"the {len(cohort)} cases of {cohort.name}. Rename them, or name another cohort with --baseline."
        )


FEWEST_CONTROLS = 3
"""For a template without one of them, and a range of the others."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One bundle of one participant; sent to a process.

    Parameters
    ----------
    template : BundleTemplate or None
        The healthy bundle; None where controls are too few.
    baseline : Cohort or None
        Where the participant's own bundle is looked up, if anywhere.
    """

    cohort: str
    case: Case
    bundle: Bundle
    template: BundleTemplate | None
    baseline: Cohort | None
    spacing_mm: float
    out: Path | None

    def __call__(self) -> dict[str, Any]:
        """The table's row, with ``profile_mm``, ``shift_mm`` and ``tumor`` of the measurement."""
        row: dict[str, Any] = {
            "participant_id": self.case.participant_id,
            "cohort": self.cohort,
            "group": self.case.group,
            "bundle": self.bundle.name,
            "hemisphere": self.bundle.hemisphere,
            "side": side_of(self.bundle.hemisphere, self.case.attributes.get("tumor_side", "n/a")),
        }
        for part, word in ((self._healthy, "status"), (self._own, "own_status")):
            try:
                row |= part()
            except ShiftkitError as error:
                row |= {word: Status.UNAVAILABLE, "reason": str(error)}
        return row

    def _healthy(self) -> dict[str, Any]:
        """Against the healthy template."""
        path, template = self.case.masks.get(self.bundle), self.template
        if path is None or template is None:
            return {"status": Status.UNAVAILABLE if template is not None else Status.TOO_FEW}

        def make() -> dict[str, Any]:
            mask, lost = _read(path), read_lost(self.case)
            word = outside_of_use(mask, template.volume_ml)
            if word is not None:
                return {"status": word}
            found, image = measure(mask, template, lost=lost, spacing_mm=self.spacing_mm)
            self._write(image, "vnorm")
            along = {"profile_mm": list(found.profile_mm), "shift_mm": found.shift_mm.tolist()}
            return {**found.columns(), **along, **self._tumor(found), "status": Status.OK}

        return self._kept_or("", template.mask.array.tobytes(), [path, lost_in(self.case)], make)

    def _own(self) -> dict[str, Any]:
        """Against the participant's own baseline."""
        if self.baseline is None:
            return {}
        path, before = self.case.masks.get(self.bundle), baseline_of(self.case, self.baseline)
        earlier = None if before is None else before.masks.get(self.bundle)
        if path is None or before is None or earlier is None:
            return {"own_status": Status.UNAVAILABLE}

        def make() -> dict[str, Any]:
            mask, baseline = _read(path), _read(earlier)
            word = unusable(mask, baseline)
            if word is not None:
                return {"own_status": word}
            found, image = measure_against_own(
                mask,
                baseline,
                lost=read_lost(self.case),
                baseline_lost=read_lost(before),
                spacing_mm=self.spacing_mm,
            )
            self._write(image, "vnormown")
            return own_columns(found)

        return self._kept_or("_own", b"", [path, lost_in(self.case), earlier, lost_in(before)], make)

    def _tumor(self, found: Measurement) -> dict[str, Any]:
        """Where a patient's tumor lies in the template's world, and the radius of a ball as large, mm."""
        path = self.case.tumor or self.case.tumor_core
        if path is None or self.case.group == "control":
            return {}
        mask = read_mask(path)
        if not mask.array.any():
            return {}
        center = np.argwhere(mask.array).mean(axis=0) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
        volume = 1000 * float(mask.array.sum()) * mask.voxel_volume_ml
        return {"tumor": [*found.rigid.backward(center).tolist(), (3 * volume / (4 * np.pi)) ** (1 / 3)]}

    def _write(self, image: Volume, what: str) -> None:
        if self.out is not None:
            write_image(image, self.out / "maps" / self.case.key / f"{self._stem()}_desc-{what}_map.nii.gz")

    def _stem(self) -> str:
        return f"{self.case.key}_label-{self.bundle.label}"

    def _kept_or(
        self, suffix: str, template: bytes, sources: Sequence[Path | None], make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What an interrupted run has measured from the same input, else what ``make`` makes of it."""
        if self.out is None:
            return make()
        digest = digest_of([template, self.spacing_mm, SETTINGS, QUANTILES, N_POINTS, self.case.group], sources)
        record = self.out / "measurements" / self.cohort / f"{self._stem()}{suffix}.json"
        found = kept(record, digest)
        if found is None:
            found = make()
            keep(record, digest, found)
        return found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who is measured against whom."""

    cohort: Cohort
    controls: Cohort
    bundles: tuple[Bundle, ...]
    spacing_mm: float
    out: Path | None
    baseline: Cohort | None = None
    short: dict[Bundle, int] = field(default_factory=dict[Bundle, int])
    skeletons_mm: dict[Bundle, Array] = field(default_factory=dict[Bundle, Array])

    @property
    def measured(self) -> tuple[tuple[str, Case, bool], ...]:
        """See `everyone`."""
        return everyone(self.cohort, self.controls)

    def tasks(self) -> Iterator[Task]:
        """Bundle after bundle; a control's template holds all others."""
        for bundle in self.bundles:
            made = self.aligned(bundle)
            if made is None:
                continue
            whole = made.template()
            self.skeletons_mm[bundle] = whole.skeleton_mm
            self.write(bundle, whole)
            for cohort, case, is_control in self.measured:
                held_out = is_control and case.key in made.names
                yield self._task(cohort, case, bundle, made.template(without=case.key) if held_out else whole)

    def tasks_without_template(self) -> Iterator[Task]:
        """Those of bundles that too few controls have; an own baseline needs no controls."""
        for bundle in self.short:
            for cohort, case, _ in self.measured:
                yield self._task(cohort, case, bundle, None)

    def _task(self, cohort: str, case: Case, bundle: Bundle, template: BundleTemplate | None) -> Task:
        return Task(
            cohort=cohort,
            case=case,
            bundle=bundle,
            template=template,
            baseline=self.baseline,
            spacing_mm=self.spacing_mm,
            out=self.out,
        )

    def aligned(self, bundle: Bundle) -> Controls | None:
        """The controls that have the bundle; None, and noted, if they are too few."""
        read = [(case.key, _readable(case.masks[bundle])) for case in self.controls if bundle in case.masks]
        masks = [(key, mask) for key, mask in read if mask is not None]
        if sum(mask.array.any() for _, mask in masks) >= FEWEST_CONTROLS:
            made = controls_of(masks, self.spacing_mm)
            if len(made.names) >= FEWEST_CONTROLS:
                return made
        self.short[bundle] = len(masks)
        return None

    def write(self, bundle: Bundle, template: BundleTemplate) -> None:
        """Keep the template and its skeleton beside the maps."""
        if self.out is None:
            return
        write_image(template.mask, self.out / "templates" / f"label-{bundle.label}_mask.nii.gz")
        points = pd.DataFrame(template.skeleton_mm, columns=["x_mm", "y_mm", "z_mm"])
        text = points.to_csv(sep="\t", index_label="point", float_format="%.3f", lineterminator="\n")
        write_text(self.out / "templates" / f"label-{bundle.label}_skeleton.tsv", text)


def everyone(cohort: Cohort, controls: Cohort) -> tuple[tuple[str, Case, bool], ...]:
    """Who is measured: cohort's name, case, and whether it is one of the controls; nobody twice."""
    same = cohort.root.resolve() == controls.root.resolve()
    keys = {case.key for case in controls} if same else set[str]()
    own = ((controls.name, case, True) for case in controls)
    return (*own, *((cohort.name, case, False) for case in cohort if case.key not in keys))


def digest_of(settings: Sequence[Any], sources: Sequence[Path | None]) -> str:
    """Digest of all that a measurement depends on: settings, this version, and files' content (None stays None)."""
    digest = hashlib.sha256(__version__.encode())
    for one in (*settings, *(None if path is None else file_digest(path) for path in sources)):
        digest.update(b"\0" + (one if isinstance(one, bytes) else repr(one).encode()))
    return digest.hexdigest()


def keep(record: Path, digest: str, made: dict[str, Any]) -> None:
    """Write what was measured from input of a digest, to be found after an interruption."""
    write_text(record, json.dumps({"digest": digest, **made}) + "\n")


def kept(record: Path, digest: str) -> dict[str, Any] | None:
    """What was measured before from input of the same digest; None if nothing was."""
    if not record.is_file():
        return None
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:  # damaged: measured again
        return None
    return found if found.pop("digest", None) == digest else None


def _read(path: Path) -> Volume:
    mask = read_mask(path)
    check_orthogonal(mask.affine, path.name)
    return mask


def _readable(path: Path) -> Volume | None:
    """None for a damaged mask: the control's own row says why it has no number."""
    try:
        return _read(path)
    except ShiftkitError:
        return None


LEAST_SEEN = 0.5
"""Share of a bundle outside of the tumor, below which the rest says nothing of it."""
WHOLE = "all"


@dataclass(frozen=True, kw_only=True)
class ImageDeformationResult:
    """How far the images of a cohort are from the healthy template, by bundle.

    Parameters
    ----------
    table : DataFrame
        Columns of `shiftkit.catalogue.IMAGE_DEFORMATION`.
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
        settings = (IMAGE_SETTINGS, SETTINGS, LEAST_SEEN, labels, self.case.group, load_template().image.tobytes())
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
    work: Work = Work(),
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
    work : Work
        See `shiftkit.work.Work`.

    Returns
    -------
    ImageDeformationResult
    """
    from joblib import delayed

    people = everyone(cohort, controls)
    tasks = (delayed(_Task(cohort=name, case=case, bundles=tuple(bundles), out=out))() for name, case, _ in people)
    rows: list[dict[str, Any]] = []
    for done, made in enumerate(in_parallel(tasks, work.jobs), start=1):
        rows += made
        work.report(done, len(people), "Registering images")
    frame = pd.DataFrame([{key: row.get(key, np.nan) for key in IMAGE_DEFORMATION.columns} for row in rows])
    keys = ["bundle", "hemisphere"]
    frame = frame.sort_values([*keys, "cohort", "participant_id"], kind="stable").reset_index(drop=True)
    table = ranked(frame, keys)[list(IMAGE_DEFORMATION.columns)]
    return ImageDeformationResult(
        table=parse_table(table, IMAGE_DEFORMATION, "The table of image-based deformation"),
        failed={row["participant_id"]: row["reason"] for row in rows if "reason" in row},
    )
