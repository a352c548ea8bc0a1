"""How far a bundle is from the healthy one: V-Norm, in world millimeters, with its healthy range."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError, ShiftkitError
from ..files import file_digest, write_text
from ..images import read_mask, write_image
from ..parallel import in_parallel
from ..status import Status
from ..types import Bundle, Case, Cohort, Volume
from ..version import __version__
from .bundle_template import N_POINTS, BundleTemplate, Controls, controls_of, outside_of_use
from .deformation_result import DeformationResult, with_healthy_range
from .distance import check_orthogonal, side_of
from .registration import MARGIN_MM, NO_EVIDENCE_MM, Array, Lattice, Surface, align, deform_onto, redrawn
from .scoring import Progress

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST_CONTROLS = 3
"""For a template without one of them, and a range of the others."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The deformation of one bundle.

    Parameters
    ----------
    v_norm_mm : float
        Mean length of the displacement over the bundle's volume, after the rigid part.
    quantiles_mm : tuple of float
        At `QUANTILES`.
    profile_mm : tuple of float
        The mean at each of the template's 32 skeleton points; NaN where nothing of the bundle is left.
    dice_before, dice_after : float
        Overlap with the template after the rigid part, and after SyN.
    jacobian_mean, jacobian_min, jacobian_max : float
        Volume in the participant over volume in the template, at the bundle's points: above 1 where it has expanded.
    translation_mm, rotation_deg : float
        The rigid part: position, not deformation.
    """

    v_norm_mm: float
    quantiles_mm: tuple[float, ...]
    profile_mm: tuple[float, ...]
    dice_before: float
    dice_after: float
    jacobian_mean: float
    jacobian_min: float
    jacobian_max: float
    translation_mm: float
    rotation_deg: float

    def columns(self) -> dict[str, float]:
        """The numbers as columns of the table."""
        named = {name: value for name, value in asdict(self).items() if isinstance(value, float)}
        quantiles = zip(QUANTILES, self.quantiles_mm, strict=True)
        return named | {f"v_norm_p{100 * share:02.0f}_mm": value for share, value in quantiles}


def measure(
    mask: Volume, template: BundleTemplate, *, lost: Volume | None = None, spacing_mm: float = 2.0
) -> tuple[Measurement, Volume]:
    """Register a mask with a template, rigidly and then by SyN, and measure what SyN had to move.

    What a mask shows of a displacement is its part across the bundle's surface: a push along the bundle leaves the
    mask where it is. V-Norm is therefore a lower bound of how far tissue was moved.

    Parameters
    ----------
    mask : Volume
        Boolean, at least one voxel, orthogonal axes, any orientation and voxel size.
    template : BundleTemplate
        The healthy bundle.
    lost : Volume, optional
        Boolean: where the bundle may have been destroyed, such as the tumor's core. There the mask is no evidence,
        and the registration does not look.
    spacing_mm : float
        Of the working lattice, whatever the mask's voxels.

    Returns
    -------
    Measurement
    Volume
        Length of the displacement in mm at the mask's voxels, 0 elsewhere, on the mask's grid.

    Examples
    --------
    >>> array = np.zeros((12, 40, 12), dtype=bool)
    >>> array[3:9, 3:37, 3:9] = True
    >>> mask = Volume(array=array, affine=np.diag([2.0, 2, 2, 1]))
    >>> healthy = Controls.of({"sub-1": mask, "sub-2": mask}).template()
    >>> measure(mask, healthy)[0].v_norm_mm
    0.0
    """
    surface = Surface.of(mask)
    gone = Surface.of(lost) if lost is not None and lost.array.any() else None
    rigid = align(template.surface, redrawn(surface, spacing_mm / 2), spacing_mm, gone)
    aligned = redrawn(surface, spacing_mm / 2, rigid)
    held = np.concatenate([template.surface.inside_points(), aligned.inside_points()])
    lattice = Lattice.around(held, spacing_mm, MARGIN_MM)
    here = lattice.points()
    fixed, moving = template.surface.at(here), aligned.at(here)
    weight = None if gone is None else (gone.at(rigid.forward(here)) > NO_EVIDENCE_MM).astype(np.float64)
    found = deform_onto(fixed, moving, lattice, weight)

    inside = moving < 0
    points = here[inside]
    shift = found.displacement(points, "fixed")
    length = np.linalg.norm(shift, axis=1)
    jacobian = 1 / np.maximum(found.jacobian("fixed")[inside], 1e-3)
    carried = aligned.at(here + found.to_moving)
    measured = Measurement(
        v_norm_mm=float(length.mean()),
        quantiles_mm=tuple(np.quantile(length, QUANTILES).tolist()),
        profile_mm=tuple(_profile(length, template.nearest_point(points + shift))),
        dice_before=_dice(fixed < 0, inside),
        dice_after=_dice(fixed < 0, carried < 0),
        jacobian_mean=float(jacobian.mean()),
        jacobian_min=float(jacobian.min()),
        jacobian_max=float(jacobian.max()),
        translation_mm=rigid.distance_mm,
        rotation_deg=rigid.angle_deg,
    )
    voxels = np.argwhere(mask.array)
    world = voxels @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    image = np.zeros(mask.shape, dtype=np.float32)
    image[tuple(voxels.T)] = np.linalg.norm(found.displacement(rigid.backward(world), "fixed"), axis=1)
    return measured, mask.with_array(image)


def _profile(length_mm: Array, point: Any) -> list[float]:
    count = np.bincount(point, minlength=N_POINTS)
    total = np.bincount(point, weights=length_mm, minlength=N_POINTS)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).tolist()


def _dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / max(int(a.sum() + b.sum()), 1))


@dataclass(frozen=True, kw_only=True)
class _Task:
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
        mask = read_mask(path)
        check_orthogonal(mask.affine, path.name)
        made: dict[str, Any] = {"status": outside_of_use(mask, self.template.volume_ml)}
        if made["status"] is None:
            lost = None if self.case.group == "control" else self._lost()
            found, image = measure(mask, self.template, lost=lost, spacing_mm=self.spacing_mm)
            made = {**found.columns(), "profile_mm": list(found.profile_mm), "status": Status.OK}
            if self.out is not None:
                write_image(image, self.out / "maps" / self.case.key / f"{self._stem()}_desc-vnorm_map.nii.gz")
        if self.out is not None:
            write_text(self._record(), json.dumps({"digest": digest, **made}) + "\n")
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
        if self.out is None or not self._record().is_file():
            return None
        found = json.loads(self._record().read_text(encoding="utf-8"))
        return found if found.pop("digest") == digest else None

    def _digest(self, path: Path) -> str:
        sources = [path, *(one for one in (self.case.tumor_core, self.case.tumor) if one is not None)]
        digest = hashlib.sha256(self.template.mask.array.tobytes())
        digest.update(" ".join([__version__, str(self.spacing_mm), *map(file_digest, sources)]).encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Who is measured against whom."""

    cohort: Cohort
    controls: Cohort
    bundles: tuple[Bundle, ...]
    spacing_mm: float
    out: Path | None
    short: dict[Bundle, int] = field(default_factory=dict[Bundle, int])

    @property
    def measured(self) -> tuple[tuple[str, Case, bool], ...]:
        """Cohort, case, and whether it is one of the template's controls; nobody twice."""
        own = [(self.controls.name, case, True) for case in self.controls]
        same = self.cohort.root.resolve() == self.controls.root.resolve()
        keys = {case.key for case in self.controls} if same else set[str]()
        return (*own, *((self.cohort.name, case, False) for case in self.cohort if case.key not in keys))

    def tasks(self) -> Iterator[_Task]:
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
                yield _Task(
                    cohort=cohort,
                    case=case,
                    bundle=bundle,
                    template=template,
                    spacing_mm=self.spacing_mm,
                    out=self.out,
                )

    def aligned(self, bundle: Bundle) -> Controls | None:
        """The controls that have the bundle; None, and noted, if they are too few."""
        masks = [(case.key, _read(case.masks[bundle])) for case in self.controls if bundle in case.masks]
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


def _read(path: Path) -> Volume:
    mask = read_mask(path)
    check_orthogonal(mask.affine, path.name)
    return mask


def deform(
    cohort: Cohort,
    controls: Cohort,
    *,
    bundles: Sequence[str] = (),
    hemispheres: Sequence[str] = (),
    spacing_mm: float = 2.0,
    out: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> DeformationResult:
    """Measure how far each participant's bundles are from the healthy ones.

    Parameters
    ----------
    cohort : Cohort
        With masks of bundles; patients' tumor masks, where there are any, say where a bundle may be gone.
    controls : Cohort
        At least three participants with the bundle; their masks lie in the cohort's common space.
    bundles, hemispheres : sequence of str
        Only these; all by default.
    spacing_mm : float
        Of the lattice on which masks are compared.
    out : Path, optional
        Folder for templates, maps, and what is needed to continue after an interruption.
    jobs : int
        Processes; 0 uses every core.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    DeformationResult
        Controls are measured against the template of all others, which is the healthy range.

    Raises
    ------
    ConfigError
        If the spacing is not within 1–4 mm.
    DataError
        If no bundle has three controls, or a name matches nothing.

    References
    ----------
    Riccardi C et al. Med Image Anal 107:103766 (2025), doi 10.1016/j.media.2025.103766.
    """
    from joblib import delayed

    if not 1 <= spacing_mm <= 4:
        raise ConfigError(f"The working lattice has a spacing of 1–4 mm; got {spacing_mm:g}.")
    chosen = _choose(cohort, controls, bundles, hemispheres)
    plan = _Plan(cohort=cohort, controls=controls, bundles=chosen, spacing_mm=spacing_mm, out=out)
    total = len(plan.measured) * len(chosen)
    rows: list[dict[str, Any]] = []
    for row in in_parallel((delayed(task)() for task in plan.tasks()), jobs):
        rows.append(row)
        if progress is not None:
            progress(len(rows), total, "Measuring deformation")
    if not rows:
        counts = ", ".join(f"{bundle} {n}" for bundle, n in plan.short.items())
        raise DataError(
            f"A healthy range needs at least {FEWEST_CONTROLS} controls whose mask of a bundle is whole; "
            f"{controls.name} has {counts}. Name a larger cohort with --reference."
        )
    if progress is not None and len(rows) < total:
        progress(total, total, "Measuring deformation")
    rows += _too_few(plan)
    return with_healthy_range(rows, _failures(rows))


def _choose(cohort: Cohort, controls: Cohort, bundles: Sequence[str], hemispheres: Sequence[str]) -> tuple[Bundle, ...]:
    there = tuple(sorted(set(cohort.bundles) | (set(controls.bundles) if cohort.root == controls.root else set())))
    for option, wanted, known in (
        ("bundles", bundles, {bundle.name for bundle in there}),
        ("hemispheres", hemispheres, {str(bundle.hemisphere) for bundle in there}),
    ):
        unknown = sorted(set(wanted) - known)
        if unknown:
            raise DataError(
                f"--{option} must name what {cohort.name} has: {', '.join(sorted(known))}; got {', '.join(unknown)}."
            )
    return tuple(
        bundle
        for bundle in there
        if (not bundles or bundle.name in bundles) and (not hemispheres or bundle.hemisphere in hemispheres)
    )


def _too_few(plan: _Plan) -> list[dict[str, Any]]:
    """Rows without a number for bundles that have no healthy range."""
    return [
        {
            "participant_id": case.participant_id,
            "cohort": name,
            "group": case.group,
            "bundle": bundle.name,
            "hemisphere": bundle.hemisphere,
            "side": side_of(bundle.hemisphere, case.attributes.get("tumor_side", "n/a")),
            "status": Status.TOO_FEW,
        }
        for bundle in plan.short
        for name, case, _ in plan.measured
    ]


def _failures(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Participants with a mask that could not be read, and why."""
    return {str(row["participant_id"]): str(row["reason"]) for row in rows if "reason" in row}
