"""The training loop that source training and fine-tuning share, on one device or several."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...errors import ConfigError
from ...files import atomic, write_text
from ...work import DETAIL, Work
from ..network.devices import pick_device, same_every_time
from ..prediction.inference import logits
from ..samples.cache import sample_keys
from ..samples.patches import Size
from ..samples.samples import Sample
from .epochs import Loop, Restraint, Schedule, make_optimizer, tensors
from .losses import hard_dice
from .states import State, StateFolder, network_settings


def fit(
    network: nn.Module,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    schedule: Schedule,
    *,
    seed: int,
    patch: Size | None = None,
    device: str = "auto",
    deterministic: bool = True,
    restraint: Restraint = Restraint(),
    state: StateFolder = StateFolder(),
    stage: str = "Training",
    work: Work = Work(),
) -> State:
    """Train the parameters of a network that require gradients; the best validated weights end up in it.

    Order, augmentation and patch of each step depend on the seed and the step's place alone, so a run that is
    continued from ``state`` on the same device ends with the same weights, to the bit, as one that was never
    interrupted. Under ``torchrun`` or ``accelerate launch`` each batch is shared out among the processes and
    gradients are averaged; the result is that of one process with the same batches, up to rounding.

    Parameters
    ----------
    network : Module
        Changed in place.
    training, validation : sequence of Sample
        Participants with reference masks, such as a `cache.SampleCache`; without validation the last weights are
        kept.
    schedule : Schedule
        Epochs, learning rate, augmentation.
    seed : int
        Of order, augmentation and patches.
    patch : tuple of int, optional
        Train on one drawn patch of this size a participant and epoch, and validate in windows of it; the whole
        box by default. See `patches.draw_corner`.
    device : str
        ``auto``, ``cpu`` or ``cuda``. A GPU with bfloat16 computes in it, anything else in float32.
    deterministic : bool
        On a GPU, use only algorithms that give the same bits each time; the CPU always does.
        See `devices.same_every_time`.
    restraint : Restraint
        What holds weights back.
    state : StateFolder
        Gets the state after each epoch, and is continued from if it holds one that was started with the same
        settings. Schedule, seed, patch, precision, keys of participants, starting weights, what is trained and the
        anchor's strength are compared besides its own.
    stage : str
        Name of the stage for ``work``.
    work : Work
        Is told of each step; loss and Dice follow the name of the stage.

    Returns
    -------
    State
        What training ended with.

    Raises
    ------
    ConfigError
        If the batch cannot be shared out equally among the processes, or the state was started with other
        settings.
    """
    from accelerate import Accelerator

    target = pick_device(device)
    half = target.type == "cuda" and torch.cuda.is_bf16_supported()
    precision = "bfloat16" if half else "float32"
    accelerator = Accelerator(cpu=target.type == "cpu", mixed_precision="bf16" if half else "no")
    if schedule.batch_size % accelerator.num_processes:
        raise ConfigError(
            f"A batch is shared out equally among processes; {schedule.batch_size} participants cannot be among "
            f"{accelerator.num_processes}. Give a batch size that is a multiple of the number of processes."
        )
    started_with = {
        "schedule": dataclasses.asdict(schedule),
        "seed": seed,
        "patch": patch,
        "precision": precision,
        "training": sample_keys(training),
        "validation": sample_keys(validation),
        "network": network_settings(network),
        "anchor": None if restraint.anchor is None else restraint.anchor.strength,
    }
    state = dataclasses.replace(state, settings={**state.settings, **started_with})
    optimizer = make_optimizer(network, schedule, restraint.rate)
    reached = state.restore(network, optimizer)
    network, optimizer = accelerator.prepare(network, optimizer)
    loop = Loop(
        accelerator=accelerator,
        network=network,
        optimizer=optimizer,
        schedule=schedule,
        seed=seed,
        patch=patch,
        restraint=restraint,
    )
    total = schedule.epochs * loop.steps(len(training))
    with same_every_time(accelerator.device, deterministic):
        for epoch in range(len(reached.log), schedule.epochs):
            if _is_over(reached, schedule):
                break
            entry = loop.epoch(training, epoch, total, _reporter(work, total, stage, reached))
            if validation and ((epoch + 1) % schedule.validate_every == 0 or epoch + 1 == schedule.epochs):
                entry["dice"] = validate(network, validation, accelerator.device, patch)
            reached.add(entry, accelerator.unwrap_model(network))
            if accelerator.is_main_process:
                state.save(accelerator.unwrap_model(network), optimizer.optimizer, reached)
    bare = accelerator.unwrap_model(network).cpu()
    bare.load_state_dict(reached.weights)
    bare.eval()
    return dataclasses.replace(reached, precision=precision)


def validate(network: nn.Module, samples: Sequence[Sample], device: torch.device, window: Size | None = None) -> float:
    """Mean Dice over participants and the bundles each annotation has; every process looks at all of them.

    The network is on the device and is left in evaluation mode; with a window it goes through each box in such windows.
    """
    network.eval()
    values: list[float] = []
    with torch.no_grad():
        for sample in samples:
            image, target, known = tensors([sample], device)
            output = logits(network, image, window)
            values.append(float(hard_dice(output, target.to(output.device), known.to(output.device)).nanmean()))
    return float(np.mean(values))


def _is_over(reached: State, schedule: Schedule) -> bool:
    if schedule.patience is None:
        return False
    validated = [int(entry["epoch"]) for entry in reached.log if "dice" in entry]
    return sum(epoch > reached.best_epoch for epoch in validated) >= schedule.patience


def _reporter(work: Work, total: int, stage: str, reached: State) -> Callable[[int, float], None]:
    """Says with each step its loss and the last validation's Dice, as the detail of the stage."""
    dice = next((f", Dice {entry['dice']:.3f}" for entry in reversed(reached.log) if "dice" in entry), "")
    return lambda done, loss: work.report(done, total, f"{stage}{DETAIL}loss {loss:.3f}{dice}")


def draw_curve(log: Sequence[Mapping[str, float]], ax: Any = None) -> Any:
    """Draw loss and validation Dice by epoch; the Dice gets an axis of its own at the right."""
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(5, 3), layout="constrained").subplots()
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
    with matplotlib.rc_context({"svg.hashsalt": "shiftkit"}), atomic(folder / "training.svg") as part:
        draw_curve(log).figure.savefig(part, format="svg", metadata={"Date": None})
