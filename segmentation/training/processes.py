"""The processes of one training: one by default, several under ``torchrun`` or ``accelerate launch``."""

import atexit
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ...errors import ConfigError
from ..network.devices import pick_device


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Which of how many processes this is, and the device it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes: all hold the same weights, and two would harm each other's files."""
        return self.rank == 0

    def shared(self, network: nn.Module) -> nn.Module:
        """The network, or with several processes one around it that averages gradients over them."""
        if self.count == 1:
            return network
        ids = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, entry by entry."""
        if self.count > 1:
            distributed.all_reduce(values)
            values /= self.count
        return values


def join_processes(device: str, batch_size: int) -> Processes:
    """Meet the other processes that a launcher started, if it did.

    Raises
    ------
    ConfigError
        If a batch cannot be shared out equally, or the device is not there.
    """
    # Both launchers say it so; see torch.distributed's environment variables.
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    target = pick_device(device)
    if batch_size % count:
        raise ConfigError(
            f"A batch is shared out equally among processes; {batch_size} participants cannot be among {count}. Give "
            "a batch size that is a multiple of the number of processes."
        )
    if count > 1:
        if target.type == "cuda":
            target = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(target)
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if target.type == "cuda" else "gloo")
            atexit.register(_leave)
    return Processes(rank=rank, count=count, device=target)


def _leave() -> None:
    # Others may wait for this one until a time-out of minutes unless it says that it goes.
    if distributed.is_initialized():
        distributed.destroy_process_group()


def bare(network: nn.Module) -> Any:
    """The network itself, without what averages its gradients."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
