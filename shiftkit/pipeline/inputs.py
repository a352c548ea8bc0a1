"""Who and what enters a run, after names were turned into things."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError, ModelMismatchError
from ..names import find_cohort, find_model
from ..types import Cohort
from ..work import Work

if TYPE_CHECKING:
    from ..analyses.statistics.inference import Inference
    from ..cohorts.layout import Filters
    from ..segmentation.network.checkpoints import Model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """A source model, the patients, and controls that the model has not seen.

    ``target_controls`` are healthy people scanned like the patients, unseen too; ``seen`` are the keys of controls that
    were left out because the model was trained or tuned on them.
    """

    model: "Model"
    patients: Cohort
    controls: Cohort
    seen: tuple[str, ...]
    target_controls: Cohort | None = None

    @property
    def cohorts(self) -> dict[str, Cohort]:
        """What is predicted and scored, by the part it plays."""
        parts = {"patients": self.patients, "controls": self.controls, "target_controls": self.target_controls}
        return {name: cohort for name, cohort in parts.items() if cohort is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """What a decomposition is asked: options of `shiftkit.api.decompose`, and how sure its numbers have to be."""

    metric: str
    bundles: tuple[str, ...]
    hemispheres: tuple[str, ...]
    covariates: tuple[str, ...]
    sensitivity: bool
    include: tuple[str, ...]
    allow: tuple[str, ...]
    device: str
    inference: "Inference"
    equivalence_margin: float | None = None
    dry_run: bool = False
    replay: Path | None = None


def gather(
    model: str | Path,
    cohort: str | Path | Cohort,
    reference: str | Path | Cohort | None = None,
    target_controls: str | Path | Cohort | None = None,
    *,
    bundles: Sequence[str] = (),
    filters: "Filters | str | Path | None" = None,
    work: Work = Work(),
) -> Inputs:
    """Turn names into a model and cohorts, and leave out every control the model has seen.

    Without ``reference`` the controls are the cohort's own, else those of the cohort named ``healthy``. Without
    ``target_controls`` they are the cohort's own of group ``target_control``, if it has any. ``bundles`` are labels
    that the model is going to learn: patients may have masks of these alone. ``filters`` say which files serve where
    several could; see `shiftkit.names.find_cohort`.

    Raises
    ------
    DataError
        If there are no patients, or no control is left.
    ModelMismatchError
        If model and cohort have no bundle in common.
    """
    from ..segmentation.network.checkpoints import load_model

    loaded = load_model(find_model(model))
    found = find_cohort(cohort, filters=filters, work=work)
    # Filters choose among files of every cohort, also of those that are looked up by name further below.
    if filters is not None:
        reference, target_controls = (
            None if one is None else find_cohort(one, filters=filters, work=work)
            for one in (reference, target_controls)
        )
    patients = find_patients(found)
    controls, seen = unseen_controls(loaded, found, reference, work)
    targets, seen_targets = _target_controls(loaded, found, target_controls, work)
    inputs = Inputs(
        model=loaded, patients=patients, controls=controls, seen=(*seen, *seen_targets), target_controls=targets
    )
    for part in inputs.cohorts.values():
        # Patients whose only masks are of bundles that are going to be learned suit a model that lacks these.
        if part is not patients or not bundles:
            _require_common_bundles(loaded, part)
    return inputs


def find_patients(cohort: Cohort) -> Cohort:
    """The patients of a cohort; a `DataError` if there are none."""
    patients = cohort.where(group="glioma")
    if not len(patients):
        raise DataError(
            f"The cohort must hold patients; {cohort.name} has no participant with group 'glioma' in "
            "participants.tsv. Fill in the group column, or name another cohort."
        )
    return patients


def _target_controls(
    model: "Model", cohort: Cohort, given: str | Path | Cohort | None, work: Work
) -> tuple[Cohort | None, tuple[str, ...]]:
    """Healthy people scanned like the patients, and those of them that the model has seen."""
    if given is None:
        pool = cohort.where(group="target_control")
        if not len(pool):
            return None, ()
    else:
        pool = find_cohort(given, work=work).where(lambda case: case.group in ("control", "target_control"))
    unseen, seen = _by_sight(model, pool)
    if not len(unseen):
        raise DataError(
            f"`target_controls` must hold healthy participants that the model has not seen; {pool.name} has "
            f"{len(pool)} of group 'control' or 'target_control', and the model was trained on {len(seen)} of them."
        )
    return unseen, seen


def find_controls(cohort: Cohort, reference: str | Path | Cohort | None = None, work: Work = Work()) -> Cohort:
    """The controls of the reference or, without one, the cohort's own, else those of the cohort named ``healthy``.

    A `DataError` if there are none.
    """
    own = cohort.where(group="control")
    pool = find_cohort(reference, work=work) if reference else own if len(own) else find_cohort("healthy", work=work)
    controls = pool.where(group="control")
    if not len(controls):
        raise DataError(
            f"The reference must hold controls; {pool.name} has no participant with group 'control' in "
            "participants.tsv. Fill in the group column, or name another cohort with `reference`."
        )
    return controls


def unseen_controls(
    model: "Model", cohort: Cohort, reference: str | Path | Cohort | None = None, work: Work = Work()
) -> tuple[Cohort, tuple[str, ...]]:
    """The controls the model has not seen, and the keys of those it has; a `DataError` if none is unseen."""
    controls = find_controls(cohort, reference, work)
    unseen, seen = _by_sight(model, controls)
    if not len(unseen):
        raise DataError(
            f"A control must be one that the model has not seen; model {model.name} was trained or tuned on all "
            f"{len(controls)} controls of {controls.name}. Name other controls with `reference`, or train with `folds`."
        )
    return unseen, seen


def _by_sight(model: "Model", cohort: Cohort) -> tuple[Cohort, tuple[str, ...]]:
    """Whom the model has not seen, and the keys of those it has: it segments these better than anybody new."""
    seen = tuple(case.key for case in cohort if model.has_seen(case))
    return cohort.where(lambda case: case.key not in seen), seen


def _require_common_bundles(model: "Model", cohort: Cohort) -> None:
    if not set(model.bundles) & set(cohort.bundles):
        raise ModelMismatchError(
            f"Model and cohort must have bundles in common; model {model.name} predicts "
            f"{' '.join(bundle.label for bundle in model.bundles)}, cohort {cohort.name} has reference masks of "
            f"{' '.join(bundle.label for bundle in cohort.bundles) or 'no bundle'}. Name a model for these bundles."
        )
