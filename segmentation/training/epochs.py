"""How long and how fast to train, and what holds weights back."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..network.devices import memory_format_on
from ..network.foreign import ForeignNetwork
from ..samples.augmentation import AUGMENTATIONS, ON_DEVICE
from ..samples.patches import Size, draw_patch
from ..samples.prefetching import helper_threads, prefetched
from ..samples.samples import Sample
from .losses import supervised_loss
from .processes import Processes, bare

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

    def steps(self, participants: int) -> int:
        """Steps of an epoch: each of so many participants is seen once."""
        return math.ceil(participants / self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchor:
    """Pull towards the source weights: strength/2 · ‖w − w₀‖² is added to the loss.

    References
    ----------
    Li X, Grandvalet Y, Davoine F. ICML 2018, arXiv 1802.01483.
    """

    weights: Mapping[str, Tensor]
    strength: float

    def on(self, device: torch.device) -> "Anchor":
        """The same on a device, once: a copy a step would have to be waited for."""
        return dataclasses.replace(self, weights={name: one.to(device) for name, one in self.weights.items()})

    def penalty(self, network: nn.Module) -> Tensor:
        """The term to add; parameters without an anchor are free."""
        terms = [
            ((parameter - self.weights[name]) ** 2).sum()
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
class Batch:
    """Image, target and known bundles of some participants; what a step works on."""

    image: Tensor
    target: Tensor
    known: Tensor

    def to(self, device: torch.device) -> "Batch":
        """On a device, the target as numbers; from pinned memory nobody waits for the copy."""
        image, target, known = (one.to(device, non_blocking=True) for one in (self.image, self.target, self.known))
        return Batch(image=image.to(memory_format=memory_format_on(device)), target=target.float(), known=known)


def batch_of(samples: Sequence[Sample], device: torch.device) -> Batch:
    """Samples as a batch in the CPU's memory, pinned if it is to go to a GPU."""

    def stacked(arrays: Sequence[NDArray[Any]]) -> Tensor:
        # One participant's is not copied: whoever uses it changes nothing in place.
        tensor = torch.from_numpy(arrays[0][None] if len(arrays) == 1 else np.stack(arrays))
        return tensor.pin_memory() if device.type == "cuda" else tensor

    return Batch(
        image=stacked([sample.image for sample in samples]),
        target=stacked([_required(sample.target) for sample in samples]),
        known=stacked([_required(sample.known) for sample in samples]),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loop:
    """One epoch after another, with what `fitting.fit` was given and what it made of it."""

    processes: Processes
    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    seed: int
    patch: Size | None = None
    restraint: Restraint = Restraint()

    def batches(self, training: Sequence[Sample], reached: int) -> Generator[tuple[list[int], Batch]]:
        """Whom this process sees in all steps from an epoch on, on its device.

        Batches are made by threads, and copied to a GPU, while the steps before compute.
        """
        places = (
            (epoch, mine) for epoch in range(reached, self.schedule.epochs) for mine in self._shares(training, epoch)
        )

        def make(place: tuple[int, list[int]]) -> tuple[list[int], Batch]:
            epoch, mine = place
            ready = training.__getitem__ if self._on_device else functools.partial(self._drawn, training, epoch)
            return mine, batch_of([ready(index) for index in mine], self._device)

        with closing(prefetched(make, places, helper_threads(_PREFETCHING))) as made:
            if self._device.type == "cuda":
                yield from _copied_ahead(made, self._device)
            else:
                yield from ((mine, batch.to(self._device)) for mine, batch in made)

    def epoch(
        self,
        batches: Iterator[tuple[list[int], Batch]],
        steps: int,
        epoch: int,
        report: Callable[[int, int, float | None], None],
    ) -> dict[str, float]:
        """Make the steps of one epoch; returns the log's entry.

        ``report`` is told with each step how many are done, how many there are in all epochs, and the loss where the
        CPU computes it: of a GPU it would have to be waited for.
        """
        total = steps * self.schedule.epochs
        losses: list[Tensor] = []
        _train_mode(bare(self.network))
        for step, (mine, batch) in enumerate(itertools.islice(batches, steps)):
            self._set_rates((epoch * steps + step) / total)
            losses.append(self._step(self._augmented(batch, epoch, mine) if self._on_device else batch))
            report(epoch * steps + step + 1, total, float(losses[-1]) if self._device.type == "cpu" else None)
        # Each process saw its own share of every batch: what is logged is the mean over all.
        return {"epoch": epoch + 1, "loss": float(self.processes.mean(torch.stack(losses)).mean())}

    @property
    def _device(self) -> torch.device:
        return self.processes.device

    def _shares(self, training: Sequence[Sample], epoch: int) -> Iterator[list[int]]:
        """Whom this process sees in each step of an epoch."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(training))
        steps = self.schedule.steps(len(training))
        # The last batch is filled up from the beginning: processes must get equally many participants each.
        for batch in np.resize(order, steps * self.schedule.batch_size).reshape(steps, -1):
            yield batch[self.processes.rank :: self.processes.count].tolist()

    @property
    def _on_device(self) -> bool:
        # A patch is cut from what was augmented, which for a patch's sake is not worth to be copied whole.
        return self._device.type == "cuda" and self.patch is None and self.schedule.augmentation in ON_DEVICE

    def _augmented(self, batch: Batch, epoch: int, mine: list[int]) -> Batch:
        augment = ON_DEVICE[self.schedule.augmentation]
        of_each = zip(batch.image, batch.target, mine, strict=True)
        made = [augment(image, target, self._draws(epoch, index)) for image, target, index in of_each]
        images, targets = (torch.stack(parts) for parts in zip(*made, strict=True))
        return dataclasses.replace(batch, image=images, target=targets)

    def _draws(self, epoch: int, index: int) -> np.random.Generator:
        # Of the step's place alone: a training that is continued draws what an undisturbed one draws.
        return np.random.default_rng([self.seed, epoch, index])

    def _drawn(self, training: Sequence[Sample], epoch: int, index: int) -> Sample:
        rng = self._draws(epoch, index)
        sample = AUGMENTATIONS[self.schedule.augmentation](training[index], rng)
        # Cut last: what was moved, bent or blurred near a patch's edge came from beyond it.
        return sample if self.patch is None else draw_patch(sample, self.patch, rng)

    def _step(self, batch: Batch) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        own = bare(self.network)
        shares = isinstance(own, ForeignNetwork) and own.answers_probabilities
        loss = supervised_loss(self.network(batch.image), batch.target, batch.known, probabilities=shares)
        anchor = self.restraint.anchor
        whole = loss if anchor is None else loss + anchor.penalty(own)
        whole.backward()
        # A batch of one participant makes single gradients noisy; one bad step must not undo many good ones.
        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        torch.nn.utils.clip_grad_norm_(trainable, _LONGEST_GRADIENT)
        self.optimizer.step()
        return loss.detach()

    def _set_rates(self, share: float) -> None:
        # Half a cosine: fast while far from the goal, and no restlessness left when the last weights are kept.
        now = self.schedule.learning_rate * 0.5 * (1 + np.cos(np.pi * share))
        rate = self.restraint.rate
        for group in self.optimizer.param_groups:
            group["lr"] = now * (1.0 if rate is None else rate(group["name"], share))


def _copied_ahead(made: Iterable[tuple[list[int], Batch]], device: torch.device) -> Generator[tuple[list[int], Batch]]:
    """Each batch on a GPU, copied on a stream of its own while the one before is computed with."""
    copying, ahead = torch.cuda.Stream(device), None
    for mine, batch in made:
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)  # for the copy that was begun before
        with torch.cuda.stream(copying):
            there = batch.to(device)
        for tensor in (there.image, there.target, there.known):
            tensor.record_stream(computing)  # its memory is free again when both streams are done with it
        if ahead is not None:
            yield ahead
        ahead = mine, there
    if ahead is not None:
        torch.cuda.current_stream(device).wait_stream(copying)
        yield ahead


_PREFETCHING = 8
"""Threads that make batches: of them a GPU's step takes one at a time, and each may hold a large box."""

_LONGEST_GRADIENT = 5.0


def make_optimizer(network: nn.Module, schedule: Schedule, rate: Rate | None) -> torch.optim.AdamW:
    """AdamW over what is trained; with a rate every parameter is a group of its own."""
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = (
        [{"params": [parameter for _, parameter in named], "name": "all"}]
        if rate is None
        else [{"params": [parameter], "name": name} for name, parameter in named]
    )
    # One kernel for all parameters instead of a dozen each, where it exists.
    fused = True if named and named[0][1].is_cuda else None
    # Groups keep the order of the network: Adam's moments on disk are told apart by position.
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=fused)


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
