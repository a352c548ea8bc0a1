"""How long and how fast to train, and what holds weights back."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..samples.augmentation import AUGMENTATIONS
from ..samples.patches import Size, draw_patch
from ..samples.samples import Sample
from .losses import supervised_loss

Rate = Callable[[str, float], float]
"""Takes a parameter's name and the share of training that is over; gives a factor of its learning rate."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train: AdamW, whose rate falls to zero along a half cosine.

    The weights of the best validation are kept, one in every ``validate_every`` epochs; with ``patience`` training
    stops after so many without a better one. ``batch_size`` counts participants over all processes together.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 1e-4
    validate_every: int = 2
    batch_size: int = 1
    patience: int | None = None
    augmentation: str = "light"


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restraint:
    """What holds weights back while they are trained: a factor of each learning rate, weights to stay close to.

    With a factor of 0 a parameter stays as it is, to the bit.
    """

    rate: Rate | None = None
    anchor: Anchor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """One epoch after another, with what `fitting.fit` was given and what an `accelerate.Accelerator` made of it."""

    accelerator: Any
    network: nn.Module
    optimizer: Any
    schedule: Schedule
    seed: int
    patch: Size | None = None
    restraint: Restraint = Restraint()

    def epoch(
        self, training: Sequence[Sample], epoch: int, report: Callable[[int, int, float], None]
    ) -> dict[str, float]:
        """Step once through all participants; returns the log's entry.

        ``report`` is told with each step how many are done, how many there are in all epochs, and the loss.
        """
        order = np.random.default_rng([self.seed, epoch]).permutation(len(training))
        steps = math.ceil(len(training) / self.schedule.batch_size)
        total = steps * self.schedule.epochs
        # The last batch is filled up from the beginning: processes must get equally many participants each.
        batches = np.resize(order, steps * self.schedule.batch_size).reshape(steps, -1)
        losses: list[float] = []
        _train_mode(self.accelerator.unwrap_model(self.network))
        for step, batch in enumerate(batches):
            self._set_rates((epoch * steps + step) / total)
            mine = batch[self.accelerator.process_index :: self.accelerator.num_processes]
            losses.append(self._step([self._drawn(training, epoch, int(index)) for index in mine]))
            report(epoch * steps + step + 1, total, losses[-1])
        # Each process saw its own share of every batch: what is logged is the mean over all.
        mean = self.accelerator.reduce(torch.tensor(losses, device=self.accelerator.device), "mean").mean()
        return {"epoch": epoch + 1, "loss": float(mean)}

    def _drawn(self, training: Sequence[Sample], epoch: int, index: int) -> Sample:
        # Of the step's place alone: a training that is continued draws what an undisturbed one draws.
        rng = np.random.default_rng([self.seed, epoch, index])
        sample = AUGMENTATIONS[self.schedule.augmentation](training[index], rng)
        # Cut last: what was moved, bent or blurred near a patch's edge came from beyond it.
        return sample if self.patch is None else draw_patch(sample, self.patch, rng)

    def _step(self, samples: list[Sample]) -> float:
        image, target, known = tensors(samples, self.accelerator.device)
        self.optimizer.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            logits = self.network(image)
        # In float32: a sum over half a million voxels in bfloat16, which has three digits, would stop growing.
        loss = supervised_loss(logits.float(), target, known)
        anchor = self.restraint.anchor
        whole = loss if anchor is None else loss + anchor.penalty(self.accelerator.unwrap_model(self.network))
        self.accelerator.backward(whole)
        # A batch of one participant makes single gradients noisy; one bad step must not undo many good ones.
        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        torch.nn.utils.clip_grad_norm_(trainable, _LONGEST_GRADIENT)
        self.optimizer.step()
        return float(loss.detach())

    def _set_rates(self, share: float) -> None:
        # Half a cosine: fast while far from the goal, and no restlessness left when the last weights are kept.
        now = self.schedule.learning_rate * 0.5 * (1 + np.cos(np.pi * share))
        rate = self.restraint.rate
        for group in self.optimizer.param_groups:
            group["lr"] = now * (1.0 if rate is None else rate(group["name"], share))


def tensors(samples: Sequence[Sample], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Image, target and known bundles of a batch, on a device."""
    image = torch.from_numpy(np.stack([sample.image for sample in samples])).to(device)
    target = torch.from_numpy(np.stack([_required(sample.target) for sample in samples])).to(device, torch.float32)
    known = torch.from_numpy(np.stack([_required(sample.known) for sample in samples])).to(device)
    return image.to(memory_format=torch.channels_last_3d), target, known  # as the network's weights lie: faster


_LONGEST_GRADIENT = 5.0


def make_optimizer(network: nn.Module, schedule: Schedule, rate: Rate | None) -> torch.optim.AdamW:
    """AdamW over what is trained; with a rate every parameter is a group of its own."""
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = (
        [{"params": [parameter for _, parameter in named], "name": "all"}]
        if rate is None
        else [{"params": [parameter], "name": name} for name, parameter in named]
    )
    # Groups keep the order of the network: Adam's moments on disk are told apart by position.
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)


def _train_mode(network: nn.Module) -> None:
    """Frozen layers stay in evaluation mode, so that running statistics do not move behind their back."""
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        # Of its own parameters: a block that holds frozen and trained layers is neither.
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _required(array: Any) -> Any:
    if array is None:
        raise ValueError("training needs samples with reference masks")
    return array
