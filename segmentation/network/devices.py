"""Where a network computes, and whether it computes the same twice."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch

from ...errors import ConfigError


def pick_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    A GPU that is asked for and is not there is refused with a `ConfigError`: the CPU is never taken silently instead.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"`device` must be auto, cpu or cuda; got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` cuda needs a GPU that PyTorch can use; there is none here. Use auto or cpu.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def same_every_time(device: torch.device, wanted: bool = True) -> Generator[None]:
    """Within the block a GPU uses algorithms that give the same bits each time; afterwards all is as before.

    The CPU does so anyway, with a fixed number of threads, and is left alone; so is everything if it is not ``wanted``,
    which can be faster. PyTorch warns of an operation that has no such algorithm, and goes on: of the networks here
    SegResNet has one, linear upsampling.
    """
    if device.type != "cuda" or not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = (cudnn.deterministic, cudnn.benchmark)
    workspace = os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, ":4096:8")  # what cuBLAS asks for in return for equal sums
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = flags
        if workspace is None:
            del os.environ[_WORKSPACE]


_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
