"""Who is measured against whom, and what is measured of one bundle of one participant."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...cohorts.layout import read_json
from ...distances import check_orthogonal
from ...errors import ConfigError, DataError, ShiftkitError
from ...files import file_digest, write_text
from ...images import read_mask, write_image
from ...runs import keep, kept
from ...status import Status
from ...types import Bundle, Case, Cohort, Volume
from ..distance.tumor import side_of
from .registration import Array
from .result import FEWEST_CONTROLS
from .template import BundleTemplate, Controls, outside_of_use, volume_ml
from .v_norm import Measurement, measure, measure_against_own

FORMAT = 1
"""Of measurements kept on disk: raised whenever the same input would give other numbers."""


def require_baseline(cohort: Cohort, baseline: Cohort) -> None:
    """Refuse a baseline that is the cohort itself (`ConfigError`), or holds none of its participants (`DataError`)."""
    if cohort.root.resolve() == baseline.root.resolve():
        raise ConfigError(
            f"A baseline must hold the participants at another time, in a cohort of its own; `baseline` and `cohort` "
            f"are both {cohort.name}. Write the earlier scans as another cohort."
        )
    if not {case.participant_id for case in cohort} & {case.participant_id for case in baseline}:
        raise DataError(
            f"A baseline must hold the same participants under the same participant_id; {baseline.name} has none of "
            f"the {len(cohort)} cases of {cohort.name}. Rename them, or name another cohort with `baseline`."
        )


def read_lost(case: Case) -> Volume | None:
    """The mask that says where a bundle may be destroyed: the tumor's core, else the tumor.

    None for a control, and where the sidecar says that the tumor is only virtual.
    """
    path = _lost_in(case)
    return None if path is None else read_mask(path)


def _lost_in(case: Case) -> Path | None:
    # The core destroys; what is only infiltrated or swollen still shows where a bundle runs.
    path = case.tumor_core or case.tumor
    if path is None or case.group == "control":
        return None
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    if sidecar.is_file() and read_json(sidecar).get("Virtual") is True:
        return None
    return path


def unusable(mask: Volume, baseline: Volume) -> str | None:
    """Why a mask cannot be measured against its baseline; ``unavailable`` if the fault is the baseline's, else None."""
    usual_ml = volume_ml(baseline)
    return Status.UNAVAILABLE if outside_of_use(baseline, usual_ml) is not None else outside_of_use(mask, usual_ml)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One bundle of one participant; sent to a process.

    ``template`` is the healthy bundle, None where controls are too few; ``before`` the participant in the baseline,
    nothing if not there, None where no baseline is asked for. Maps and finished measurements are kept in ``out``.
    """

    cohort: str
    case: Case
    bundle: Bundle
    template: BundleTemplate | None
    before: tuple[Case, ...] | None
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
        # One value may fail and the other stand: a baseline needs no controls, a template no earlier scan.
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
            word = outside_of_use(mask, volume_ml(template.mask))
            if word is not None:
                return {"status": word}
            found, image = measure(mask, template, lost=lost, spacing_mm=self.spacing_mm)
            self._write(image, "vnorm")
            along = {"profile_mm": list(found.profile_mm), "shift_mm": found.shift_mm.tolist()}
            return {**found.columns(), **along, **self._tumor(found), "status": Status.OK}

        against = template.mask.array, template.mask.affine, template.skeleton_mm
        return self._kept_or("", against, [path, _lost_in(self.case)], make)

    def _own(self) -> dict[str, Any]:
        """Against the participant's own baseline."""
        if self.before is None:
            return {}
        path, before = self.case.masks.get(self.bundle), next(iter(self.before), None)
        earlier = None if before is None else before.masks.get(self.bundle)
        if path is None or before is None or earlier is None:
            return {"own_status": Status.UNAVAILABLE}

        def make() -> dict[str, Any]:
            mask, baseline = _read(path), _read(earlier)
            word = unusable(mask, baseline)
            if word is not None:
                return {"own_status": word}
            lost = {"lost": read_lost(self.case), "baseline_lost": read_lost(before)}
            found, image = measure_against_own(mask, baseline, **lost, spacing_mm=self.spacing_mm)
            self._write(image, "vnormown")
            return {"v_norm_own_mm": found.v_norm_mm, "dice_own_after": found.dice_after, "own_status": Status.OK}

        return self._kept_or("_own", (), [path, _lost_in(self.case), earlier, _lost_in(before)], make)

    def _tumor(self, found: Measurement) -> dict[str, Any]:
        """Where a patient's tumor lies in the template's world, and the radius of a ball as large, mm."""
        path = self.case.tumor or self.case.tumor_core
        if path is None or self.case.group == "control":
            return {}
        mask = read_mask(path)
        if not mask.array.any():
            return {}
        # In the template's world, where the push is compared along the skeleton that everybody shares.
        center = mask.world(np.argwhere(mask.array).mean(axis=0))
        volume_mm3 = 1000 * float(mask.array.sum()) * mask.voxel_volume_ml
        # A ball of volume V has the radius (3 V / 4 π)^(1/3).
        return {"tumor": [*found.rigid.backward(center).tolist(), (3 * volume_mm3 / (4 * np.pi)) ** (1 / 3)]}

    def _write(self, image: Volume, what: str) -> None:
        if self.out is not None:
            write_image(image, self.out / "maps" / self.case.key / f"{self._stem}_desc-{what}_map.nii.gz")

    @property
    def _stem(self) -> str:
        return f"{self.case.key}_label-{self.bundle.label}"

    def _kept_or(
        self, suffix: str, against: Sequence[Any], sources: Sequence[Path | None], make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """What an interrupted run has measured from the same arrays and files, else what ``make`` makes of them."""
        if self.out is None:
            return make()
        # The group decides whether a tumor counts; a template may keep its voxels and move in the world.
        digest = hashlib.sha256(repr((FORMAT, self.spacing_mm, self.case.group)).encode())
        for array in against:
            digest.update(array.tobytes())
        for path in sources:
            digest.update(f"\0{path and file_digest(path)}".encode())
        record = self.out / "measurements" / self.cohort / f"{self._stem}{suffix}.json"
        found = kept(record, digest.hexdigest())
        if found is None:
            found = make()
            keep(record, digest.hexdigest(), found)
        return found


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who is measured against whom, with the settings of `shiftkit.analyses.deformation.study.deform`.

    The last two fields fill while `tasks` are taken: how many masks there are of bundles that too few controls have,
    and the templates' skeletons, shape (32, 3).
    """

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
        """Cohort's name, case, and whether it is one of the controls; nobody twice."""
        same = self.cohort.root.resolve() == self.controls.root.resolve()
        keys = {case.key for case in self.controls} if same else set[str]()
        own = ((self.controls.name, case, True) for case in self.controls)
        return (*own, *((self.cohort.name, case, False) for case in self.cohort if case.key not in keys))

    def tasks(self) -> Iterator[Task]:
        """Bundle after bundle, so that one template is in memory at a time; a control's template holds all others.

        Bundles that too few controls have come last: an own baseline needs no controls. If none has enough, there is
        no task.
        """
        for bundle in self.bundles:
            made = self._aligned(bundle)
            if made is None:
                continue
            whole = made.template()
            self.skeletons_mm[bundle] = whole.skeleton_mm
            self._write(bundle, whole)
            for cohort, case, is_control in self.measured:
                held_out = is_control and case.key in made.names
                yield self._task(cohort, case, bundle, made.template(without=case.key) if held_out else whole)
        for bundle in self.short if self.skeletons_mm else ():
            for cohort, case, _ in self.measured:
                yield self._task(cohort, case, bundle, None)

    def _task(self, cohort: str, case: Case, bundle: Bundle, template: BundleTemplate | None) -> Task:
        return Task(
            cohort=cohort,
            case=case,
            bundle=bundle,
            template=template,
            before=None if self.baseline is None else _before(case, self.baseline),
            spacing_mm=self.spacing_mm,
            out=self.out,
        )

    def _aligned(self, bundle: Bundle) -> Controls | None:
        """The controls whose mask of the bundle can be used, aligned; None, and noted, if they are too few."""
        masks: dict[str, Volume] = {}
        for case in self.controls:
            if bundle in case.masks:
                # Of a damaged mask the control's own row says why it has no number.
                with suppress(ShiftkitError):
                    masks[case.key] = _read(case.masks[bundle])
        # The median, which a few fragments among the masks do not move.
        usual_ml = float(np.median([volume_ml(mask) for mask in masks.values() if mask.array.any()] or [0.0]))
        whole = {key: mask for key, mask in masks.items() if outside_of_use(mask, usual_ml) is None}
        if len(whole) >= FEWEST_CONTROLS:
            return Controls.of(whole, self.spacing_mm)
        self.short[bundle] = len(masks)
        return None

    def _write(self, bundle: Bundle, template: BundleTemplate) -> None:
        """Keep the template and its skeleton beside the maps."""
        if self.out is None:
            return
        write_image(template.mask, self.out / "templates" / f"label-{bundle.label}_mask.nii.gz")
        points = pd.DataFrame(template.skeleton_mm, columns=["x_mm", "y_mm", "z_mm"])
        text = points.to_csv(sep="\t", index_label="point", float_format="%.3f", lineterminator="\n")
        write_text(self.out / "templates" / f"label-{bundle.label}_skeleton.tsv", text)


def _before(case: Case, baseline: Cohort) -> tuple[Case, ...]:
    """The participant's case in the baseline: of the same session, else the first; nothing if there is none."""
    own = [one for one in baseline if one.participant_id == case.participant_id]
    return (next((one for one in own if one.key == case.key), own[0]),) if own else ()


def _read(path: Path) -> Volume:
    mask = read_mask(path)
    check_orthogonal(mask.affine, path.name)
    return mask
