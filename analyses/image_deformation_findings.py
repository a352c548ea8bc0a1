"""Image-based deformation as a finding."""

import pandas as pd

from ..status import Status
from ..types import Finding
from .by_participant import in_mm, mean_over_participants
from .deformation_figures import draw_groups
from .deformation_findings import beyond_healthy

_METHOD = (
    "Each T1w image without skull was blurred by 1.5 mm, normalized by local mean and spread (15 mm) and registered "
    "with the MNI152 template: an affine part by mutual information, then SyN on squared differences at 3 mm. Voxels "
    "of the tumor and 3 mm around it were replaced by the neutral value and took no part in the cost (cost-function "
    "masking). V-Norm is the mean length of the displacement after the affine part, over what lies outside of the "
    "tumor; the healthy range is that of the controls."
)
_REFERENCES = ("10.1006/nimg.2001.0845", "10.1016/j.neuroimage.2007.10.002", "10.1016/j.media.2007.06.004")
_CAVEATS = (
    "The template is one for everyone, so the values hold individual anatomy: only what exceeds the healthy range "
    "speaks of a tumor.",
    "Within the tumor's mask nothing is measured.",
    "A noisy or blurred scan adds to V-Norm: controls of another scanner than the patients' are no clean comparison.",
    "Noise of 6 % displaces by up to 1 mm where nothing has moved; smaller values say little.",
)


def findings(table: pd.DataFrame) -> tuple[Finding, ...]:
    """Displacement of the image at each bundle, and of the whole brain."""
    whole = table[(table["bundle"] == "all") & (table["status"] == Status.OK)]
    means = [
        mean_over_participants(rows, "v_norm_mm", f"whole brain, {group}") for group, rows in whole.groupby("group")
    ]
    said = [f"{in_mm(one)} in {one.n} of group {one.name.split(', ')[1]}" for one in means]
    claim = f"Beyond its affine part the brain outside of the tumor is displaced by {' and '.join(said)} on average."
    claim = " ".join([claim, *beyond_healthy(table[table["bundle"] != "all"])])
    if not said:
        claim = "No image could be registered; the table says why."
    return (
        Finding(
            key="image-deformation",
            title="How far is the brain around the bundles from a healthy one?",
            claim=claim,
            estimates=tuple(means),
            table=table,
            caveats=_CAVEATS,
            method=_METHOD,
            references=_REFERENCES,
            figure=lambda ax: draw_groups(table[table["bundle"] != "all"], ax, name="mean V-Norm of the image"),
            alt="Mean displacement of the image at each participant's bundles: controls, and patients by side.",
        ),
    )
