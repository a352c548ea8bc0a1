"""Weights in memory and on disk: safetensors, or what a pickle may hold that is read without running it."""

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import DataError
from ...files import require_file

_MOST_BYTES = 2**32
"""Of weights: a thousand times those of the networks here."""
_MOST_HEADER_BYTES, _MOST_TENSORS = 2**24, 10_000
_WRAPPED = ("state_dict", "model_state_dict", "model", "network", "net")
"""Under which names training programs keep a network's weights beside their own state."""
_LONGEST_TOLD = 300


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights on the CPU, as safetensors wants them: contiguous, none sharing memory."""
    state = network.state_dict().items()
    # Modules of others may keep what is no tensor there.
    return {name: one.detach().cpu().contiguous().clone() for name, one in state if isinstance(one, Tensor)}


def set_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put what `weights_of` gave into a network; a RuntimeError if it has other weights."""
    others = {name: one for name, one in network.state_dict().items() if not isinstance(one, Tensor)}
    network.load_state_dict({**others, **weights})


def map_safetensors(path: Path) -> dict[str, Tensor]:
    """Weights as they lie in their file: the numbers of a tensor are read when they are first used.

    A `ValueError` or `SafetensorError` where the header lies, or tensors and file differ in size.
    """
    require_file(path, "checkpoint's weights")
    size = _size(path)
    with path.open("rb") as stream:
        told = int.from_bytes(stream.read(8), "little")
    if told > min(size - 8, _MOST_HEADER_BYTES):
        raise ValueError(f"the header of {path.name} claims {told} bytes and the file has {size}")
    return _few(load_file(path), path)


def map_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a file of ``torch.save``, by PyTorch's reader that builds tensors and runs nothing else.

    Numbers are read when they are first used, but for files of before PyTorch 1.6. A `DataError` with the line that
    converts the file, where it holds anything else.
    """
    require_file(path, "checkpoint's weights")
    size = _size(path)
    mapped = zipfile.is_zipfile(path)
    if mapped:
        _require_unpacked(path)
    elif size > _MOST_OLD_BYTES:
        raise ValueError(
            f"{path.name}, as before PyTorch 1.6, has {size / 2**30:.1f} GiB, which are read at once; save it again"
        )
    try:
        with warnings.catch_warnings():  # of pickles that it does not take, which are told below
            warnings.simplefilter("ignore", UserWarning)
            made: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
        script = "TorchScript" in str(error)
        opened = f"torch.jit.load('{path}').state_dict()" if script else f"torch.load('{path}', weights_only=False)"
        raise DataError(
            f"Weights are read from tensors alone, and {path} holds {'TorchScript' if script else 'Python objects'}, "
            'which would be run. If you trust the file, convert it: python -c "import torch; from safetensors.torch '
            f"import save_file; s = {opened}; s = s.get('state_dict', s); "
            f"save_file({{k: v.contiguous() for k, v in s.items()}}, '{path.with_name('model.safetensors')}')\""
        ) from error
    while isinstance(made, Mapping) and not any(isinstance(one, Tensor) for one in made.values()):
        name = next((one for one in _WRAPPED if isinstance(made.get(one), Mapping)), None)
        if name is None:
            break
        made = made[name]
    if not isinstance(made, Mapping) or not made or not all(isinstance(one, Tensor) for one in made.values()):
        raise DataError(f"{path} must hold a state dict, tensors by name; it holds a {type(made).__name__}.")
    _require_plain(made.values(), path, size)
    # Written while a network lay in DataParallel or its like.
    bare = all(str(name).startswith("module.") for name in made)
    return _few({str(name).removeprefix("module." if bare else ""): tensor for name, tensor in made.items()}, path)


_MOST_OLD_BYTES = 2**28


def _few(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Refuse more tensors than any network has: by their number its parts are counted while it is built."""
    if len(weights) > _MOST_TENSORS:
        raise ValueError(f"{path.name} has {len(weights)} tensors; a network has at most {_MOST_TENSORS}")
    return weights


def _require_unpacked(path: Path) -> None:
    """Refuse an archive that unpacks to more than it has: PyTorch writes them as they are, whatever their content."""
    with zipfile.ZipFile(path) as archive:
        told = sum(one.file_size for one in archive.infolist())
    if told > path.stat().st_size:
        raise ValueError(f"{path.name} is compressed, to {told / 2**20:.0f} MiB; save it with torch.save")


_MOST_SHARED = 4
"""How often the numbers in a file may serve, as where two layers share their weights."""


def _require_plain(tensors: Iterable[Any], path: Path, size: int) -> None:
    """Refuse tensors that a file only names: without numbers of their own, or one number for any shape."""
    total = 0
    for one in tensors:
        plain = one.layout is torch.strided and one.device.type == "cpu" and not one.is_quantized and not one.is_nested
        if not plain or one.dtype not in _NUMBERS:
            raise DataError(f"Weights are plain numbers; {path} holds {one.dtype} in another form. Save them as such.")
        total += one.numel() * one.element_size()
    if total > _MOST_SHARED * size:
        raise DataError(
            f"Weights lie in their file; {path} has {size / 2**20:.3g} MiB and names tensors of {total / 2**20:.3g} "
            "MiB. Save contiguous tensors."
        )


_NUMBERS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


def _size(path: Path) -> int:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise ValueError(f"{path.name} has {size / 2**30:.1f} GiB, more than {_MOST_BYTES / 2**30:g}")
    return size
