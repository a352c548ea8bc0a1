"""Where a network computes, in which precision, and whether it computes the same twice."""

import itertools
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...errors import ConfigError, MachineError


def pick_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu``, ``cuda`` or one of several GPUs, ``cuda:1``, or a Mac's, ``mps``, into a device.

    Of several processes of a launcher each gets a GPU of its own, unless one is named or there are fewer.
    A GPU that is asked for and is not there is refused with a `ConfigError`: the CPU is never taken silently instead.
    ``auto`` takes no Mac's: nothing here was measured on one.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device not in ("auto", "cpu", "mps") and not re.fullmatch(r"cuda(:\d+)?", device):
        raise ConfigError(
            f"`device` must be auto, cpu, cuda or mps, or one of several GPUs as in cuda:1; got {device!r}."
        )
    if device == "mps":
        if not torch.backends.mps.is_available():
            raise ConfigError(
                "`device` mps needs the GPU of a Mac that PyTorch can use; there is none here. Use auto or cpu."
            )
        return torch.device("mps")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.startswith("cuda") and not count:
        raise ConfigError(f"`device` {device} needs a GPU that PyTorch can use; there is none here. Use auto or cpu.")
    if device.startswith("cuda:") and int(device.removeprefix("cuda:")) >= count:
        raise ConfigError(f"`device` must name a GPU that is there, cuda:0 to cuda:{count - 1}; got {device!r}.")
    if count and device in ("auto", "cuda"):
        own = os.environ.get("LOCAL_RANK")
        return torch.device("cuda") if own is None else torch.device("cuda", int(own) % count)
    return torch.device("cpu" if device == "auto" else device)


def device_of(network: nn.Module) -> torch.device:
    """Where a network is; one without parameters is taken to compute on the CPU."""
    tensor = next(itertools.chain(network.parameters(), network.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


@contextmanager
def same_every_time(device: torch.device, wanted: bool = True) -> Generator[None]:
    """Within the block a GPU uses algorithms that give the same bits each time; afterwards all is as before.

    If that is not ``wanted``, it tries which algorithms are fastest for the sizes at hand, and uses these. The CPU
    does the same each time anyway, with a fixed number of threads, and is left alone. PyTorch warns of an operation
    that has no such algorithm, and goes on: of the networks here SegResNet has one, linear upsampling.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = (cudnn.deterministic, cudnn.benchmark)
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    workspace = os.environ.get(_WORKSPACE)
    if wanted:
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # what cuBLAS asks for in return for equal sums
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Every new array would be filled before it is written: half as many kernels again, for nothing.
        memory.fill_uninitialized_memory = False
    cudnn.deterministic, cudnn.benchmark = wanted, not wanted
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def placed(networks: Iterable[nn.Module], device: torch.device) -> Generator[None]:
    """Within the block the networks are on a device, as is fastest there; afterwards they are on the CPU."""
    moved = list(networks)
    try:
        for network in moved:
            _place(network, device)
        yield
    finally:
        for network in moved:
            _place(network, torch.device("cpu"))


def _place(network: nn.Module, device: torch.device) -> None:
    network.to(device)
    network.to(memory_format=memory_format_on(device))  # pyright: ignore[reportCallIssue]


PRECISION = "float32"
"""In what networks compute everywhere, in training, validation and prediction alike.

A GPU's convolutions round their inputs to TF32, PyTorch's default. Under bfloat16 they gained nothing
(`benchmarks/gpu.md`), and on a CPU it would make results depend on the processor.
"""


def memory_format_on(device: torch.device) -> torch.memory_format:
    """How images and weights lie in a device's memory: whichever is faster there, see `benchmarks/gpu.md`."""
    # Instance normalization gives contiguous maps whatever it gets: a GPU would turn each of them around.
    return torch.channels_last_3d if device.type == "cpu" else torch.contiguous_format


@contextmanager
def enough_memory(cure: str) -> Generator[None]:
    """Turn a GPU's lack of memory into a `MachineError` that says what to do about it."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()  # what is kept for reuse would be missed by whoever tries again
        raise MachineError(
            f"The GPU must have room for the network's feature maps; its memory is used up. {cure}"
        ) from error
