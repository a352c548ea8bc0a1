"""What tests of a decomposition share: quick settings, one pooled row, and runs on disk without drawings."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from makers import simulated
from shiftkit.analyses.decomposition.result import Decomposition
from shiftkit.analyses.decomposition.shells.findings import ShellResult
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.pipeline.decompose import ending_of, split
from shiftkit.pipeline.inputs import Design
from shiftkit.pipeline.story import end
from shiftkit.runs import Run
from shiftkit.work import Work

QUICK = Inference(n_bootstrap=200, n_permutations=199)
FAST = {"inference": QUICK, "sensitivity": False}
DESIGN = Design(
    metric="dice",
    bundles=(),
    hemispheres=(),
    covariates=(),
    sensitivity=False,
    cross_check=False,
    include=(),
    allow=(),
    device="cpu",
    inference=Inference(n_bootstrap=100, n_permutations=99),
)


def pooled(result: Decomposition, component: str, method: str = "anchored") -> pd.Series:
    """The pooled row of one component."""
    table = result.table
    keep = (table["bundle"] == "all") & (table["component"] == component) & (table["method"] == method)
    return table[keep].iloc[0]


def write_run(
    folder: Path,
    frame: pd.DataFrame,
    after: Mapping[str, pd.DataFrame] | None = None,
    design: Design = DESIGN,
    shell: ShellResult | None = None,
) -> Decomposition:
    """A run as ``shiftkit decompose`` leaves it behind, but for its drawings, which take longer than all else."""
    result = split(frame, after or {}, design)
    ending = ending_of(result, frame, design, {"scores": "none"}, (), shell)
    bare = replace(result, findings=tuple(replace(one, figure=None) for one in result.findings))
    findings = tuple(replace(one, figure=None) for one in ending.findings)
    ending = replace(ending, result=bare, findings=findings, bundle_findings={})
    end(Run(root=folder, verb="decompose"), ending, Work(jobs=1))
    return result


def any_cohort(seed: int) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], Design]:
    """A small cohort of any kind: with and without effects, near and far bundles, fine-tuning, covariates, distances.

    The scores before and, for every second cohort, after fine-tuning; and what is asked.
    """
    rng = np.random.default_rng(seed)
    sizes = int(rng.integers(4, 26)), int(rng.integers(4, 24))
    effects: dict[str, Any] = {
        "systematic": float(rng.choice([-0.5, 0.0, 0.3, 0.7])),
        "tumor": float(rng.choice([-1.0, 0.0, 0.8, 2.0])),
        "decay_mm": float(rng.choice([5.0, 20.0, 60.0])),
        "between": float(rng.choice([0.05, 0.3])),
        "seed": seed,
    }
    frame = simulated.scores(*sizes, **effects)
    kept = frame["bundle"].isin(["AF", "PYT"] if rng.random() < 0.7 else ["AF", "ILF", "PYT"])
    if rng.random() < 0.2:
        kept &= frame["hemisphere"] == "left"
    if rng.random() < 0.15:
        frame["tumor_distance_mm"] = frame["tumor_distance_mm"].clip(upper=18.0)
    lost = kept & (rng.random(len(frame)) < 0.05)
    frame.loc[lost, ["value", "status"]] = [np.nan, "unavailable"]
    frame.loc[rng.random(len(frame)) < 0.02, "tumor_distance_mm"] = np.nan
    metric = str(rng.choice(["dice", "dice", "dice", "hd95"]))
    target = simulated.scores(0, int(rng.choice([0, 0, 0, 6])), seed=seed + 1, model="m")
    if len(target):
        target = target[target["bundle"].isin(["AF", "PYT"])].assign(group="target_control")
        target["participant_id"] = target["participant_id"] + "t"
    frame = frame.assign(kept=kept)
    frames = [pd.concat([frame[frame.pop("kept")], target], ignore_index=True)]
    if rng.random() < 0.4:
        better = float(rng.choice([0.3, 0.8, 1.5]))
        values = 1 - better * (1 - frames[0]["value"]) + rng.normal(0, 0.01, len(frames[0]))
        frames.append(frames[0].assign(model="m+decoder", value=values.clip(0, 1)))
    if metric == "hd95":
        frames = [one.assign(metric=metric, unit="mm", value=20 * (1 - one["value"])) for one in frames]
    design = replace(DESIGN, metric=metric, covariates=("age",) if seed % 6 == 0 and min(sizes) > 14 else ())
    return frames[0], dict(zip(["m+decoder"], frames[1:], strict=False)), replace(design, sensitivity=seed % 25 == 0)
