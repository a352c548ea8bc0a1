"""The training loop that source training and fine-tuning share, on one device or several."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ...files import atomic, write_text
from ...work import DETAIL, Work
from ..network.devices import PRECISION, enough_memory, placed, same_every_time
from ..network.weights import set_weights
from ..prediction.inference import logits
from ..samples.cache import sample_keys
from ..samples.patches import Size
from ..samples.samples import Sample
from .epochs import Loop, Restraint, Schedule, batch_of, make_optimizer
from .losses import hard_dice
from .processes import Processes, alone
from .states import State, StateFolder, network_settings


def fit(
    network: nn.Module,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    schedule: Schedule,
    *,
    seed: int,
    patch: Size | None = None,
    processes: Processes | None = None,
    deterministic: bool = True,
    restraint: Restraint = Restraint(),
    state: StateFolder = StateFolder(),
    stage: str = "Training",
    work: Work = Work(),
) -> State:
    """Train the parameters of a network that require gradients; the best validated weights end up in it.

    Order, augmentation and patch of each step depend on the seed and the step's place alone, so a run that is
    continued from ``state`` on the same device ends with the same weights, to the bit, as one that was never
    interrupted. Of several processes each takes its share of every batch and gradients are averaged; the result is that
    of one process with the same batches, up to rounding.

    Parameters
    ----------
    network : Module
        Changed in place.
    training, validation : sequence of Sample
        Participants with reference masks; without validation the last weights are kept.
    patch : tuple of int, optional
        Train on one drawn patch of this size in voxels a participant and epoch, and validate in windows of it; the
        whole box by default. See `patches.draw_corner`.
    processes : Processes, optional
        Which share this training, and where they compute; this one alone by default, on the device that
        `devices.pick_device` finds.
    deterministic
        See `devices`.
    state : StateFolder
        Gets the state after each epoch, and is continued from if it holds one that was started with the same
        settings: its own, and everything that the weights depend on.

    Raises
    ------
    ConfigError
        If the state was started with other settings.
    MachineError
        If a GPU's memory is used up, or another of the processes has ended.
    """
    processes = processes or alone()
    started_with = {
        "schedule": dataclasses.asdict(schedule),
        "seed": seed,
        "patch": patch,
        "precision": PRECISION,
        "training": sample_keys(training),
        "validation": sample_keys(validation),
        "network": network_settings(network),
        "anchor": None if restraint.anchor is None else restraint.anchor.strength,
    }
    state = dataclasses.replace(state, settings={**state.settings, **started_with})
    with (
        enough_memory(_CURE),
        same_every_time(processes.device, deterministic),
        placed([network], processes.device),
        processes.together(),
    ):
        optimizer = make_optimizer(network, schedule, restraint.rate)
        reached = state.restore(network, optimizer)
        if restraint.anchor is not None:
            restraint = dataclasses.replace(restraint, anchor=restraint.anchor.on(processes.device))
        what: dict[str, Any] = {"schedule": schedule, "seed": seed, "patch": patch, "restraint": restraint}
        with processes.shared(network) as shared:
            loop = Loop(processes=processes, network=shared, optimizer=optimizer, **what)
            with closing(loop.batches(training, len(reached.log))) as batches:
                for epoch in range(len(reached.log), schedule.epochs):
                    if _is_over(reached, schedule):
                        break
                    entry = loop.epoch(batches, schedule.steps(len(training)), epoch, _reporter(work, stage, reached))
                    if validation and ((epoch + 1) % schedule.validate_every == 0 or epoch + 1 == schedule.epochs):
                        entry["dice"] = validate(network, validation, processes.device, patch)
                    reached.add(entry, network)
                    if processes.is_main:
                        state.save(network, optimizer, reached)
    set_weights(network, reached.weights)
    network.eval()
    return dataclasses.replace(reached, precision=PRECISION)


_CURE = "Train on smaller patches with `patch`, or on fewer participants a step with `batch_size`, or on the cpu."


def validate(network: nn.Module, samples: Sequence[Sample], device: torch.device, window: Size | None = None) -> float:
    """Mean Dice over participants and the bundles each annotation has; every process looks at all of them.

    The network is on the device and is left in evaluation mode; with a window it goes through each box in such windows.
    """
    network.eval()
    values: list[Tensor] = []
    with torch.no_grad():
        for sample in samples:
            batch = batch_of([sample], device)
            # In windows, answers are gathered on the CPU.
            output = logits(network, batch.image, window)
            batch = batch.to(output.device)
            values.append(hard_dice(output, batch.target, batch.known).nanmean())
    return float(np.mean(torch.stack(values).tolist()))


def _is_over(reached: State, schedule: Schedule) -> bool:
    if schedule.patience is None:
        return False
    validated = [int(entry["epoch"]) for entry in reached.log if "dice" in entry]
    return sum(epoch > reached.best_epoch for epoch in validated) >= schedule.patience


def _reporter(work: Work, stage: str, reached: State) -> Callable[[int, int, float | None], None]:
    """Says with each step the last loss that is known and the last validation's Dice, as the detail of the stage."""
    dice = next((f", Dice {entry['dice']:.3f}" for entry in reversed(reached.log) if "dice" in entry), "")
    before = reached.log[-1]["loss"] if reached.log else None

    def report(done: int, total: int, loss: float | None) -> None:
        known = before if loss is None else loss
        work.report(done, total, stage if known is None else f"{stage}{DETAIL}loss {known:.3f}{dice}")

    return report


def draw_curve(log: Sequence[Mapping[str, float]], ax: Any = None) -> Any:
    """Draw loss and validation Dice by epoch; the Dice gets an axis of its own at the right."""
    if ax is None:
        from matplotlib.figure import Figure

        # Margins that fit both axes: to have them fitted would take longer than an epoch of a small network.
        ax = Figure(figsize=(5, 3)).subplots(gridspec_kw={"left": 0.14, "right": 0.86, "bottom": 0.17, "top": 0.95})
    ax.plot([one["epoch"] for one in log], [one["loss"] for one in log], color="#555555", label="training loss")
    ax.set(xlabel="epoch", ylabel="training loss")
    ax.set_ylim(bottom=0)
    validated = [one for one in log if "dice" in one]
    if validated:
        right = ax.twinx()
        dice = [one["dice"] for one in validated]
        right.plot([one["epoch"] for one in validated], dice, color="#1b6ca8", marker="o", markersize=3)
        right.set_ylabel("validation Dice", color="#1b6ca8")
        right.set_ylim(0, 1)
    return ax


def save_log(log: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Write the log as ``training.csv`` and its curve as ``training.svg``; the same log gives the same bytes."""
    import matplotlib

    write_text(folder / "training.csv", pd.DataFrame(list(log)).to_csv(index=False))
    # Names of clip paths are drawn at random, and the date is written, unless told otherwise.
    with matplotlib.rc_context({"svg.hashsalt": "shiftkit"}), atomic(folder / "training.svg") as part:
        draw_curve(log).figure.savefig(part, format="svg", metadata={"Date": None})
