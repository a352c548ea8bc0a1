"""How far a bundle is from the healthy one: V-Norm, in world millimeters, with its healthy range."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...bundles import choose_bundles
from ...errors import ConfigError, DataError
from ...types import Bundle, Cohort
from ...work import Work
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
    begin: Callable[[], object] = lambda: None,
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
    begin : callable
        Called once all is found possible and before an image is read; a dry run ends before. See
        `shiftkit.work.Work.begin`.

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

    chosen = _chosen(cohort, controls, baseline, bundles, hemispheres, spacing_mm)
    people = len(cohort if cohort.root == controls.root else (*cohort, *controls))
    lattice = (2.0 / spacing_mm) ** 3
    work.begin(
        f"Would bring {len(chosen)} bundles of {people} participants of {cohort.name} and {controls.name} onto the "
        f"healthy ones{' and their own baseline' if baseline is not None else ''}.",
        work.cost(
            people * len(chosen) * (1 if baseline is None else 2),
            cpu_s=0.5 + 3.5 * lattice,
            memory_gib=0.4 + 0.1 * lattice,
            disk_gib=2e-5 * lattice,
        ),
        out,
    )
    begin()
    plan = Plan(cohort=cohort, controls=controls, bundles=chosen, spacing_mm=spacing_mm, out=out, baseline=baseline)
    total = len(plan.measured) * len(chosen)
    rows: list[dict[str, Any]] = []
    # Tasks are made as they are asked for, not listed first: each holds a template.
    for row in work.spread(delayed(task)() for task in plan.tasks()):
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


def _chosen(
    cohort: Cohort,
    controls: Cohort,
    baseline: Cohort | None,
    bundles: Sequence[str],
    hemispheres: Sequence[str],
    spacing_mm: float,
) -> tuple[Bundle, ...]:
    """The bundles to measure, once names and options are found possible."""
    if not 1 <= spacing_mm <= 4:
        raise ConfigError(f"The working lattice has a spacing of 1–4 mm; got {spacing_mm:g}.")
    if baseline is not None:
        require_baseline(cohort, baseline)
    there = (*cohort.bundles, *(controls.bundles if cohort.root == controls.root else ()))
    return choose_bundles(there, bundles, hemispheres, what=f"{cohort.name} has")
