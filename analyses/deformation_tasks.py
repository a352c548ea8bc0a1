"""The work behind `deformation.deform`: who is measured against which template, one task a participant and bundle."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ShiftkitError
from ..files import file_digest, write_text
from ..images import read_mask, write_image
from ..status import Status
from ..types import Bundle, Case, Cohort, Volume
from ..version import __version__
from .bundle_template import BundleTemplate, Controls, controls_of, outside_of_use
from .distance import check_orthogonal, side_of
from .v_norm import measure

FEWEST_CONTROLS = 3
"""For a template without one of them, and a range of the others."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One bundle of one participant against one template; sent to a process."""

    cohort: str
    case: Case
    bundle: Bundle
    template: BundleTemplate
    spacing_mm: float
    out: Path | None

    def __call__(self) -> dict[str, Any]:
        """The table's row, with the profile under ``profile_mm``."""
        row: dict[str, Any] = {
            "participant_id": self.case.participant_id,
            "cohort": self.cohort,
            "group": self.case.group,
            "bundle": self.bundle.name,
            "hemisphere": self.bundle.hemisphere,
            "side": side_of(self.bundle.hemisphere, self.case.attributes.get("tumor_side", "n/a")),
        }
        try:
            return row | self._measured()
        except ShiftkitError as error:
            return row | {"status": Status.UNAVAILABLE, "reason": str(error)}

    def _measured(self) -> dict[str, Any]:
        path = self.case.masks.get(self.bundle)
        if path is None:
            return {"status": Status.UNAVAILABLE}
        digest = self._digest(path)
        kept = self._kept(digest)
        if kept is not None:
            return kept
        mask = _read(path)
        made: dict[str, Any] = {"status": outside_of_use(mask, self.template.volume_ml)}
        if made["status"] is None:
            lost = None if self.case.group == "control" else self._lost()
            found, image = measure(mask, self.template, lost=lost, spacing_mm=self.spacing_mm)
            made = {**found.columns(), "profile_mm": list(found.profile_mm), "status": Status.OK}
            if self.out is not None:
                write_image(image, self.out / "maps" / self.case.key / f"{self._stem()}_desc-vnorm_map.nii.gz")
        if self.out is not None:
            keep(self._record(), digest, made)
        return made

    def _lost(self) -> Volume | None:
        path = self.case.tumor_core or self.case.tumor
        return None if path is None else read_mask(path)

    def _stem(self) -> str:
        return f"{self.case.key}_label-{self.bundle.label}"

    def _record(self) -> Path:
        assert self.out is not None
        return self.out / "measurements" / self.cohort / f"{self._stem()}.json"

    def _kept(self, digest: str) -> dict[str, Any] | None:
        """What an interrupted run has measured from the same input."""
        return None if self.out is None else kept(self._record(), digest)

    def _digest(self, path: Path) -> str:
        sources = [path, *(one for one in (self.case.tumor_core, self.case.tumor) if one is not None)]
        digest = hashlib.sha256(self.template.mask.array.tobytes())
        digest.update(" ".join([__version__, str(self.spacing_mm), *map(file_digest, sources)]).encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who is measured against whom."""

    cohort: Cohort
    controls: Cohort
    bundles: tuple[Bundle, ...]
    spacing_mm: float
    out: Path | None
    short: dict[Bundle, int] = field(default_factory=dict[Bundle, int])

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
            self.write(bundle, whole)
            for cohort, case, is_control in self.measured:
                held_out = is_control and case.key in made.names
                template = made.template(without=case.key) if held_out else whole
                yield Task(
                    cohort=cohort,
                    case=case,
                    bundle=bundle,
                    template=template,
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
