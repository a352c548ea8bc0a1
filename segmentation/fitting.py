"""The training loop that source training and fine-tuning share, on one device or several."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .augmentation import AUGMENTATIONS
from .data import Sample
from .losses import dice_bce, hard_dice
from .states import State, restore_state, save_state

Progress = Callable[[int, int, str], None]
Rate = Callable[[str, float], float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    epochs : int
        Passes over the training participants.
    learning_rate : float
        At the start; it falls to zero along a half cosine.
    weight_decay : float
        Of AdamW.
    validate_every : int
        Epochs between validations; the weights of the best one are kept.
    batch_size : int
        Participants a step, over all processes together.
    patience : int or None
        Stop after so many validations without a better one.
    augmentation : str
        A name in `augmentation.AUGMENTATIONS`.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 1e-4
    validate_every: int = 2
    batch_size: int = 1
    patience: int | None = None
    augmentation: str = "light"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """What training ended with.

    Parameters
    ----------
    log : tuple of dict
        One entry an epoch: loss, learning rate, validation Dice where it was measured.
    best_epoch : int
        Epoch of the weights that were kept.
    best_dice : float
        Mean validation Dice of that epoch; NaN without validation.
    precision : str
        What was computed in: ``float32`` or ``bfloat16``.
    """

    log: tuple[dict[str, float], ...]
    best_epoch: int
    best_dice: float
    precision: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchor:
    """Pull towards the source weights: strength/2 · ‖w − w₀‖² is added to the loss.

    References
    ----------
    Li X, Grandvalet Y, Davoine F. ICML 2018, arXiv 1802.01483.
    """

    weights: Mapping[str, Tensor]
    strength: float

    def penalty(self, network: nn.Module) -> Tensor:
        """The term to add; parameters without an anchor are free."""
        terms = [
            ((parameter - self.weights[name].to(parameter.device)) ** 2).sum()
            for name, parameter in network.named_parameters()
            if name in self.weights and parameter.requires_grad
        ]
        return self.strength / 2 * torch.stack(terms).sum()


def pick_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Raises
    ------
    ConfigError
        If a GPU is asked for and there is none: the CPU is never taken silently instead.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device is auto, cpu or cuda; got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda needs a GPU that PyTorch can use; there is none here. Use auto or cpu.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def fit(
    network: nn.Module,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    schedule: Schedule,
    *,
    seed: int,
    device: str = "auto",
    rate: Rate | None = None,
    anchor: Anchor | None = None,
    state: Path | None = None,
    text: str = "Training",
    progress: Progress | None = None,
) -> Fit:
    """Train the parameters of a network that require gradients; the best validated weights end up in it.

    Order and augmentation of each step depend on the seed and the step's place alone, so a run that is
    continued from ``state`` on the same device ends with the same weights, to the bit, as one that was never
    interrupted. Under ``torchrun`` or ``accelerate launch`` each batch is shared out among the processes and
    gradients are averaged; the result is that of one process with the same batches, up to rounding.

    Parameters
    ----------
    network : Module
        Changed in place.
    training, validation : sequence of Sample
        Participants with reference masks; without validation the last weights are kept.
    schedule : Schedule
        Epochs, learning rate, augmentation.
    seed : int
        Of order and augmentation.
    device : str
        ``auto``, ``cpu`` or ``cuda``. A GPU with bfloat16 computes in it, anything else in float32.
    rate : callable, optional
        Takes a parameter's name and the share of training that is over; returns what its learning rate is
        multiplied by. With 0 a parameter stays as it is, to the bit.
    anchor : Anchor, optional
        Weights to stay close to.
    state : Path, optional
        Folder that gets the state after each epoch, and is continued from if it holds one.
    text : str
        Name of the stage for ``progress``.
    progress : callable, optional
        Called as ``progress(done, total, text)`` after each step.

    Raises
    ------
    ConfigError
        If the batch cannot be shared out equally among the processes.
    """
    from accelerate import Accelerator

    target = pick_device(device)
    half = target.type == "cuda" and torch.cuda.is_bf16_supported()
    accelerator = Accelerator(cpu=target.type == "cpu", mixed_precision="bf16" if half else "no")
    if schedule.batch_size % accelerator.num_processes:
        raise ConfigError(
            f"A batch is shared out equally among processes; {schedule.batch_size} participants cannot be among "
            f"{accelerator.num_processes}. Give a batch size that is a multiple of the number of processes."
        )
    optimizer = _optimizer(network, schedule, rate)
    reached = restore_state(state, network, optimizer)
    network, optimizer = accelerator.prepare(network, optimizer)
    loop = _Loop(accelerator, network, optimizer, schedule, seed, rate, anchor)
    total = schedule.epochs * loop.steps(len(training))
    for epoch in range(len(reached.log), schedule.epochs):
        if _is_over(reached, schedule):
            break
        report = None if progress is None else _reporter(progress, epoch * loop.steps(len(training)), total, text)
        entry = loop.epoch(training, epoch, total, report)
        if validation and ((epoch + 1) % schedule.validate_every == 0 or epoch + 1 == schedule.epochs):
            entry["dice"] = validate(network, validation, accelerator.device)
        reached.add(entry, accelerator.unwrap_model(network))
        if accelerator.is_main_process:
            save_state(state, accelerator.unwrap_model(network), optimizer.optimizer, reached)
    bare = accelerator.unwrap_model(network).cpu()
    bare.load_state_dict(reached.weights)
    bare.eval()
    return Fit(
        log=tuple(reached.log),
        best_epoch=reached.best_epoch,
        best_dice=reached.best_dice,
        precision="bfloat16" if half else "float32",
    )


def validate(network: nn.Module, samples: Sequence[Sample], device: torch.device) -> float:
    """Mean Dice over participants and the bundles each annotation has; every process looks at all of them."""
    network.eval()
    values: list[float] = []
    with torch.no_grad():
        for sample in samples:
            image, target, known = tensors([sample], device)
            values.append(float(hard_dice(network(image), target, known).nanmean()))
    return float(np.mean(values))


def tensors(samples: Sequence[Sample], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and known bundles of a batch, on a device."""
    image = torch.from_numpy(np.stack([sample.image for sample in samples])).to(device)
    target = torch.from_numpy(np.stack([_required(sample.target) for sample in samples])).to(device, torch.float32)
    known = torch.from_numpy(np.stack([_required(sample.known) for sample in samples])).to(device)
    return image.to(memory_format=torch.channels_last_3d), target, known


class _Loop:
    """One epoch after another; holds what the steps share."""

    def __init__(
        self,
        accelerator: Any,
        network: nn.Module,
        optimizer: Any,
        schedule: Schedule,
        seed: int,
        rate: Rate | None,
        anchor: Anchor | None,
    ) -> None:
        self.accelerator = accelerator
        self.network = network
        self.optimizer = optimizer
        self.schedule = schedule
        self.seed = seed
        self.rate = rate
        self.anchor = anchor
        self.trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def steps(self, count: int) -> int:
        return math.ceil(count / self.schedule.batch_size)

    def epoch(
        self, training: Sequence[Sample], epoch: int, total: int, report: Callable[[int], None] | None
    ) -> dict[str, float]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(training))
        steps = self.steps(len(training))
        batches = np.resize(order, steps * self.schedule.batch_size).reshape(steps, -1)
        losses: list[float] = []
        _train_mode(self.accelerator.unwrap_model(self.network))
        for step, batch in enumerate(batches):
            self._set_rates((epoch * steps + step) / total)
            mine = batch[self.accelerator.process_index :: self.accelerator.num_processes]
            losses.append(self._step([self._augmented(training, epoch, int(index)) for index in mine]))
            if report is not None:
                report(step + 1)
        mean = self.accelerator.reduce(torch.tensor(losses, device=self.accelerator.device), "mean").mean()
        return {"epoch": epoch + 1, "loss": float(mean)}

    def _augmented(self, training: Sequence[Sample], epoch: int, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, epoch, index])
        return AUGMENTATIONS[self.schedule.augmentation](training[index], rng)

    def _step(self, samples: list[Sample]) -> float:
        image, target, known = tensors(samples, self.accelerator.device)
        self.optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            logits = self.network(image)
        loss = dice_bce(logits.float(), target, known)
        whole = loss if self.anchor is None else loss + self.anchor.penalty(self.accelerator.unwrap_model(self.network))
        self.accelerator.backward(whole)
        torch.nn.utils.clip_grad_norm_(self.trainable, 5.0)
        self.optimizer.step()
        return float(loss.detach())

    def _set_rates(self, share: float) -> None:
        now = self.schedule.learning_rate * 0.5 * (1 + np.cos(np.pi * share))
        for group in self.optimizer.param_groups:
            group["lr"] = now * (1.0 if self.rate is None else self.rate(group["name"], share))


def _optimizer(network: nn.Module, schedule: Schedule, rate: Rate | None) -> torch.optim.AdamW:
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = (
        [{"params": [parameter for _, parameter in named], "name": "all"}]
        if rate is None
        else [{"params": [parameter], "name": name} for name, parameter in named]
    )
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)


def _is_over(reached: State, schedule: Schedule) -> bool:
    if schedule.patience is None:
        return False
    validated = [int(entry["epoch"]) for entry in reached.log if "dice" in entry]
    return sum(epoch > reached.best_epoch for epoch in validated) >= schedule.patience


def _train_mode(network: nn.Module) -> None:
    """Frozen layers stay in evaluation mode, so that running statistics do not move behind their back."""
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _reporter(progress: Progress, before: int, total: int, text: str) -> Callable[[int], None]:
    return lambda step: progress(before + step, total, text)


def _required(array: Any) -> Any:
    if array is None:
        raise ValueError("training needs samples with reference masks")
    return array
