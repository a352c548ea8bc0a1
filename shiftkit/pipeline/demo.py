"""What the demonstration does before its decomposition: a cohort of the phantom, fine-tuned in folds."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from ..names import BUILT_IN_MODELS
from ..runs import Run
from ..work import Cost, Work

_PEOPLE: dict[str, Any] = {"n_healthy": 16, "n_glioma": 22, "target": "severe"}
"""As few people as show both parts of the drop: 20 patients are where a study stops being exploratory."""
_SEED = 1
"""Other than that of the built-in cohorts, whose controls have trained the reference model."""
_CPU_MIN = 7.1
"""Processor time in minutes, as it was measured."""


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who plays in the demonstration: folders of patients, of controls and of the fine-tuned model."""

    patients: Path
    controls: Path
    finetuned: Path


def rehearse(out: Path, *, device: str, seed: int, resume: bool, announce: Callable[[str], Any], work: Work) -> Cast:
    """Draw people and fine-tune the reference model to the patients, into ``phantom/`` and ``finetuned/`` of a run."""
    from ..phantoms import phantom
    from ..segmentation.network.devices import pick_device
    from ..segmentation.transfer.finetuning import Transfer
    from .finetune import finetune_cohort

    run = Run(root=out, verb="demo", resume=resume)
    run.require_own()
    pick_device(device)
    cores = work.processes
    work.begin(
        f"Would draw {_PEOPLE['n_healthy']} controls and {_PEOPLE['n_glioma']} patients, segment them, fine-tune the "
        "reference model to the patients, split the loss and write the report.",
        Cost(seconds=60 * _CPU_MIN / cores, memory_gib=2.0, disk_gib=0.5),
        out,
    )
    run.open()
    announce(
        f"{_PEOPLE['n_healthy']} controls and {_PEOPLE['n_glioma']} glioma patients are drawn, segmented, and the "
        f"network is fine-tuned to the patients: about {ceil(_CPU_MIN / cores)} minutes on {cores} idle "
        f"core{'s' * (cores > 1)}."
    )
    made = phantom(out / "phantom", seed=_SEED, work=work, **_PEOPLE)
    cast = Cast(patients=made["glioma"].root, controls=made["healthy"].root, finetuned=out / "finetuned" / "decoder")
    # Two folds: each trains on half of the patients, and there are half as many as with the usual four.
    transfer = Transfer(folds=2, device=device, seed=seed)
    model, controls = BUILT_IN_MODELS["reference"], made["healthy"]
    finetune_cohort(
        model, made["glioma"], reference=controls, out=cast.finetuned, transfer=transfer, resume=True, work=work
    )
    return cast
