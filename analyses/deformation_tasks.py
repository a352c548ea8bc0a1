"""The work behind `deformation.deform`: who is measured against which template, one task a participant and bundle."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ShiftkitError
from ..files import file_digest, write_text
from ..images import read_mask, write_image
from ..status import Status
from ..types import Bundle, Case, Cohort, Volume
from ..version import __version__
from .bundle_template import N_POINTS, BundleTemplate, Controls, controls_of, outside_of_use
from .deformation_baseline import baseline_of, lost_in, measure_against_own, own_columns, read_lost, unusable
from .distance import check_orthogonal, side_of
from .registration import SETTINGS, Array
from .v_norm import QUANTILES, Measurement, measure

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
