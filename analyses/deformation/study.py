"""How far a bundle is from the healthy one: V-Norm, in world millimeters, with its healthy range."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DataError
from ...types import Bundle, Cohort
from ...work import Work, in_parallel
from ..statistics.inference import Inference
from .cases import Plan, require_baseline
from .findings import told
from .push import Push
from .result import FEWEST_CONTROLS, DeformationResult, with_healthy_range


def deform(
    cohort: Cohort,
    controls: Cohort,
    *,
    baseline: Cohort | None = None,
    bundles: Sequence[str] = (),
    hemispheres: Sequence[str] = (),
    spacing_mm: float = 2.0,
    out: Path | None = None,
    inference: Inference = Inference(),
    work: Work = Work(),
) -> DeformationResult:
    """Measure how far each participant's bundles are from the healthy ones.

    Parameters
    ----------
    cohort : Cohort
        With masks of bundles; patients' tumor masks, where there are any, say where a bundle may be gone.
    controls : Cohort
        At least three participants with the bundle; their masks lie in the cohort's common space. Each is measured
        against the template of all others, which is the healthy range.
    baseline : Cohort, optional
        The same participants at another time, such as before the tumor grew or after it was resected. Each bundle
        is registered onto the participant's own too, which leaves out the anatomy that people differ in. A
        participant with several sessions there is taken in the same session, else in the first.
    bundles, hemispheres : sequence of str
        Only these; all by default.
    spacing_mm : float
        Of the lattice on which masks are compared.
    out : Path, optional
        Folder for templates, maps, and what is needed to continue after an interruption.
    inference : Inference
        How sure the means, the shares and the push are; what is measured of a bundle does not depend on it.

    Raises
    ------
    ConfigError
        If the spacing is not within 1–4 mm, or the baseline is the cohort itself.
    DataError
        If no bundle has three controls, a name matches nothing, or the baseline has none of the participants.

    References
    ----------
    Riccardi C et al. Med Image Anal 107:103766 (2025), doi 10.1016/j.media.2025.103766.
    """
    from joblib import delayed

    if not 1 <= spacing_mm <= 4:
        raise ConfigError(f"The working lattice has a spacing of 1–4 mm; got {spacing_mm:g}.")
    if baseline is not None:
        require_baseline(cohort, baseline)
    chosen = _choose(cohort, controls, bundles, hemispheres)
    plan = Plan(cohort=cohort, controls=controls, bundles=chosen, spacing_mm=spacing_mm, out=out, baseline=baseline)
    total = len(plan.measured) * len(chosen)
    rows: list[dict[str, Any]] = []
    # Tasks are made as they are asked for, not listed first: each holds a template.
    for row in in_parallel((delayed(task)() for task in plan.tasks()), work.jobs):
        rows.append(row)
        work.report(len(rows), total, "Measuring deformation")
    if not rows:
        counts = ", ".join(f"{bundle} {n}" for bundle, n in plan.short.items())
        raise DataError(
            f"A healthy range needs at least {FEWEST_CONTROLS} controls whose mask of a bundle is whole; "
            f"{controls.name} has {counts}. Name a larger cohort with `reference`."
        )
    skeletons_mm = {(bundle.name, str(bundle.hemisphere)): points for bundle, points in plan.skeletons_mm.items()}
    failed = {str(row["participant_id"]): str(row["reason"]) for row in rows if "reason" in row}
    push = Push.of(rows, skeletons_mm).estimate(inference)
    return told(with_healthy_range(rows, failed, push, inference), inference)


def _choose(cohort: Cohort, controls: Cohort, bundles: Sequence[str], hemispheres: Sequence[str]) -> tuple[Bundle, ...]:
    there = tuple(sorted(set(cohort.bundles) | (set(controls.bundles) if cohort.root == controls.root else set())))
    for option, wanted, known in (
        ("bundles", bundles, {bundle.name for bundle in there}),
        ("hemispheres", hemispheres, {str(bundle.hemisphere) for bundle in there}),
    ):
        unknown = sorted(set(wanted) - known)
        if unknown:
            raise DataError(
                f"`{option}` must name what {cohort.name} has: {', '.join(sorted(known))}; got {', '.join(unknown)}."
            )
    return tuple(
        bundle
        for bundle in there
        if (not bundles or bundle.name in bundles) and (not hemispheres or bundle.hemisphere in hemispheres)
    )
