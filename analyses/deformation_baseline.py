"""A participant's bundle against their own at another time: displacement without the anatomy that people differ in."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..images import read_mask
from ..status import Status
from ..types import Case, Cohort, Volume
from .bundle_template import Controls, outside_of_use
from .registration import Surface
from .v_norm import Measurement, measure


def measure_against_own(
    mask: Volume,
    baseline: Volume,
    *,
    lost: Volume | None = None,
    baseline_lost: Volume | None = None,
    spacing_mm: float = 2.0,
) -> tuple[Measurement, Volume]:
    """Measure what SyN has to move between a bundle's mask and the same participant's mask in a baseline.

    Parameters
    ----------
    mask, baseline : Volume
        Boolean, at least one voxel, orthogonal axes; each on a grid and in a pose of its own, which the rigid part
        takes.
    lost, baseline_lost : Volume, optional
        Boolean: where a tumor may have destroyed the bundle, then and now. Neither place is evidence.
    spacing_mm : float
        Of the working lattice.

    Returns
    -------
    Measurement, Volume
        As of `shiftkit.analyses.v_norm.measure`, with the baseline as the template.

    Raises
    ------
    DataError
        If a mask is too thin to have an inside.

    Examples
    --------
    >>> import numpy as np
    >>> array = np.zeros((12, 40, 12), dtype=bool)
    >>> array[3:9, 3:37, 3:9] = True
    >>> mask = Volume(array=array, affine=np.diag([2.0, 2, 2, 1]))
    >>> measure_against_own(mask, mask)[0].v_norm_mm
    0.0
    """
    template = Controls.of({"own": baseline}, spacing_mm).template()
    if baseline_lost is not None and baseline_lost.array.any():
        template = replace(template, lost=Surface.of(baseline_lost))
    return measure(mask, template, lost=lost, spacing_mm=spacing_mm)


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
