"""The processes of one launcher, ``torchrun`` or ``accelerate launch``: they share a training's batches, or its folds.

Where nobody launched several there is one, and nothing is shared.
"""

import atexit
import functools
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, distributed, nn

from ...errors import ConfigError, MachineError
from ...files import launched
from ...work import Work
from ..network.checkpoints import is_whole
from ..network.devices import pick_device

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Which of how many processes this is, and the device it computes on."""

    rank: int = 0
    count: int = 1
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes what belongs to all: two would harm each other's files."""
        return self.rank == 0

    @property
    def alone(self) -> Self:
        """The same process by itself, for what it shares with nobody."""
        return replace(self, rank=0, count=1)

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """What this process does of several pieces of work: of two processes every other one, alone all of them.

        Examples
        --------
        >>> [Processes(rank=rank, count=2, device=torch.device("cpu")).share([1, 2, 3, 4, 5]) for rank in (0, 1)]
        [[1, 3, 5], [2, 4]]
        """
        return items[self.rank :: self.count]

    def gather(self, mine: Item, waiting: Callable[[], None] = lambda: None) -> list[Item]:
        """What every process hands in, in their order, once all have; ``waiting`` is called now and then until then.

        Raises
        ------
        MachineError
            If another process has ended.
        """
        if self.count == 1:
            return [mine]
        made: list[Any] = [None] * self.count
        with self.together():
            # Looked after, rather than waited for: in compiled code no signal is heard.
            met: Any = distributed.barrier(group=_patient(), async_op=True)
            while not met.is_completed():
                waiting()
                time.sleep(_LOOK_S)
            met.wait()
            distributed.all_gather_object(made, mine, group=_patient())
        return made

    def after_main(self, function: Callable[[bool], Item]) -> Item:
        """What a function makes, first in the main process, which is told that it writes, and then in the others."""
        if self.is_main:
            made = function(True)
            self.gather(None)
            return made
        self.gather(None)
        return function(False)

    @contextmanager
    def together(self) -> Generator[None]:
        """Within the block it is a `MachineError` that another process has ended, of which PyTorch says where."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not any(sign in str(error) for sign in _ENDED):
                raise
            raise MachineError(
                f"All {self.count} processes of a launcher must go on until all are done; one has ended before. What "
                "was finished is kept: see what it said, and start the same command again with `resume`."
            ) from error

    @contextmanager
    def shared(self, network: nn.Module) -> Generator[nn.Module]:
        """The network, or with several processes one around it that averages gradients over them.

        Batch normalization looks at the participants of all processes within the block; afterwards all is as before.
        """
        if self.count == 1:
            yield network
            return
        ids = [self.device] if self.device.type == "cuda" else None
        with synchronized(network):
            yield nn.parallel.DistributedDataParallel(network, device_ids=ids)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, entry by entry."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values


_LOOK_S = 0.5
_ENDED = ("closed by peer", "reset by peer", "Broken pipe", "likely closed", "remote process", "ncclRemoteError")
"""What errors of gloo and NCCL, which have no class of their own, say of a process that is gone."""


def alone(device: str = "auto") -> Processes:
    """One process by itself on a device, whoever launched it."""
    return Processes(device=pick_device(device))


def join_processes(device: str) -> Processes:
    """Meet the other processes that a launcher started, if it did; errors as of `pick_device`."""
    rank, count = launched()
    processes = Processes(rank=rank, count=count, device=pick_device(device))
    if count > 1 and not distributed.is_initialized():
        cuda = processes.device.type == "cuda"
        if cuda:
            torch.cuda.set_device(processes.device.index or 0)
        distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        atexit.register(_leave)
        _patient()  # now, while all are here
    return processes


def require_batches(device: str, batch_size: int, normalization: str) -> None:
    """Refuse to share the batches of one training among the processes where that would be another training.

    Raises
    ------
    ConfigError
        If a batch cannot be shared out equally, if batch normalization would look at a share alone, or if there is no
        GPU for each process.
    """
    _, count = launched()
    if count == 1:
        return
    if batch_size % count:
        raise ConfigError(
            f"A batch is shared out equally among processes; {batch_size} participants cannot be among {count}. Give "
            "a batch size that is a multiple of the number of processes."
        )
    target = pick_device(device)
    if target.type == "cpu" and normalization == "batch":
        raise ConfigError(
            "Batch normalization looks at a whole batch, and PyTorch shares it out among processes on GPUs alone; "
            f"these {count} compute on the CPU. Give instance for `normalization`, start one process, or have several "
            "`folds`, of which each process trains its own."
        )
    if target.type == "cuda":
        gpus, here = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", count))
        if device.startswith("cuda:") or here > gpus:
            raise ConfigError(
                f"Processes that share batches need a GPU each; {here} were started here, of {gpus} GPUs, with "
                f"{device} for `device`. Start at most {gpus}, with cuda or auto."
            )


def require_pieces(pieces: int, what: str) -> None:
    """Refuse, with a `ConfigError`, more processes than there are pieces of work, each of which is done by one."""
    _, count = launched()
    if count > pieces:
        raise ConfigError(
            f"Each process takes whole {what}, of which there are {pieces}; {count} processes were started. Start at "
            f"most {pieces}."
        )


def telling(work: Work, folders: Sequence[Path]) -> Callable[[], None]:
    """Says, each time that it has grown, how many of these folders hold a finished model."""
    known: set[int] = set()

    def tell() -> None:
        done = sum(map(is_whole, folders))
        if done not in known:
            known.add(done)
            work.report(done, len(folders), "Folds of all processes")

    return tell


@contextmanager
def synchronized(network: nn.Module) -> Generator[None]:
    """Within the block batch normalization looks at the participants of all processes; weights stay the same tensors.

    Afterwards the network's own layers are in their places again, with what they have learned.
    """
    batch: Any = nn.modules.batchnorm._BatchNorm  # pyright: ignore
    own = [
        (parent, name, layer)
        for parent in network.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, batch)
    ]
    nn.SyncBatchNorm.convert_sync_batchnorm(network)
    try:
        yield
    finally:
        for parent, name, layer in own:
            setattr(parent, name, layer)


@functools.cache
def _patient() -> Any:
    """The group in which processes wait for one another, for as long as folds take."""
    return distributed.new_group(backend="gloo", timeout=timedelta(days=30))


def _leave() -> None:
    # Others may wait for this one until a time-out of minutes unless it says that it goes.
    if distributed.is_initialized():
        distributed.destroy_process_group()
        _patient.cache_clear()


def bare(network: nn.Module) -> Any:
    """The network itself, without what averages its gradients."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
