"""The tumor's part measured on the user's own controls: implants, segmented by the same model, beside the estimate."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..runs import keep, kept
from ..types import Cohort
from ..work import Cost, Work
from .inputs import Design, Inputs
from .studies import Occasion

if TYPE_CHECKING:
    from ..analyses.decomposition.result import Decomposition
    from ..analyses.validation.implants import ImplantCheck

_PURPOSE = 24
"""Of the random choice of controls."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the check found, and whom it could not use, with the reason."""

    check: "ImplantCheck"
    failed: Mapping[str, str]


def require_checkable(design: Design, cohorts: Mapping[str, Cohort]) -> None:
    """Refuse a check that names and options tell to be impossible; how many controls are unseen is not known yet."""
    wanted = design.check_with_implants
    if not wanted:
        return
    if design.anonymous:
        raise ConfigError(
            "`check_with_implants` writes images of controls into the run, which `anonymous` must not hold. Leave out "
            "one of them."
        )
    if not any(case.tumor is not None for case in cohorts["patients"]):
        raise DataError(
            f"`check_with_implants` copies the patients' tumors; nobody of {cohorts['patients'].name} has a tumor "
            "mask. Add the masks, or leave it out."
        )
    _require_enough(wanted, cohorts["controls"], "")


def require_unseen(design: Design, inputs: Inputs) -> None:
    """Refuse a check on more controls than the model has not seen."""
    if design.check_with_implants:
        _require_enough(design.check_with_implants, inputs.controls, " that the model has not seen")


def _require_enough(wanted: int, controls: Cohort, which: str) -> None:
    there = len({case.participant_id for case in controls})
    if wanted > there:
        raise ConfigError(
            f"`check_with_implants` asks for {wanted} controls; {controls.name} has {there}{which}. Ask for fewer, or "
            "name a cohort with more by `reference`."
        )


def cost_of_check(inputs: Inputs, design: Design, work: Work) -> Cost:
    """Implants, and their segmentation and scores."""
    from ..analyses.scoring.study import cost_of as scoring
    from ..phantoms.implants.cohort import cost_of as implanting
    from ..segmentation.prediction.cohort import cost_of as segmenting

    n = design.check_with_implants
    if not n:
        return Cost()
    few = Cohort(name=inputs.controls.name, root=inputs.controls.root, cases=inputs.controls.cases[:n])
    return implanting(few, n + len(inputs.patients), work) + segmenting(inputs.network, few) + scoring(few, work)


def check_with_implants(
    occasion: Occasion, without: pd.DataFrame, decomposition: "Decomposition", digests: Mapping[str, str]
) -> Checked:
    """Implant the patients' tumors into unseen controls, segment these again, and measure what the tumor takes.

    ``without`` are the source model's scores, those of all controls among them; ``digests`` tell the inputs from
    others: implants of other inputs that lie in the run are made anew.
    """
    from ..analyses.scoring.study import score
    from ..analyses.validation.implants import measure_implants
    from ..phantoms.implants import implant
    from ..phantoms.implants.cohort import FORMAT
    from ..segmentation.prediction.cohort import predict

    run, inputs, design, work = occasion.run, occasion.inputs, occasion.design, occasion.work
    chosen = chosen_controls(inputs.controls, design)
    place, note = run.root / "implants", run.root / "implants" / "inputs.json"
    inputs_of = [digests[name] for name in ("model", "patients", "controls")]
    made_of = " ".join([str(FORMAT), *inputs_of, *(one.key for one in chosen)])
    if kept(note, made_of) is None:
        shutil.rmtree(place, ignore_errors=True)
    keep(note, made_of, {})
    made = implant(
        chosen, place / "implanted", like=inputs.patients, seed=design.inference.seed, resume=True, work=work
    )
    predicted = predict(
        inputs.network, made.cohort, out=place / "predictions", device=design.device, resume=True, work=work
    )
    there = {case.key for case in predicted.cohort}
    used = made.cohort.where(lambda case: case.key in there)
    having = score(predicted, used, metrics=(design.metric,), work=work).to_frame()
    check = measure_implants(without, having, decomposition, inference=design.inference)
    failed = {f"{key}, implanted": told for key, told in {**made.failed, **predicted.failed}.items()}
    return Checked(check=check, failed=failed)


def chosen_controls(controls: Cohort, design: Design) -> Cohort:
    """So many controls as a check asks for, at random; the same for the same seed."""
    names = sorted({case.participant_id for case in controls})
    order = design.inference.generator(_PURPOSE).permutation(len(names))
    drawn = {names[i] for i in np.sort(order[: design.check_with_implants])}
    return controls.where(lambda case: case.participant_id in drawn)
