"""ONNX files, computed by onnxruntime: no code of theirs is run, and nothing is known of their inside.

Before it is opened, a file is looked at (`onnx_graphs`); while it is computed, its results have a share of the
machine's memory and no more.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, DataError
from ...files import require_file
from ...words import readable
from .building import results_bytes, too_large
from .onnx_graphs import require_steps

_LONGEST_TOLD = 300
_KINDS = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}
DESCRIPTION = "shiftkit"
"""Under which name an exported file carries what goes in and out, as JSON."""


class OnnxNetwork(nn.Module):
    """A network in an ONNX file with one input, an image of shape (N, C, X, Y, Z), and its first output.

    It computes on the CPU, wherever it is asked to be, and has neither weights to train nor layers to look at.

    Raises
    ------
    ConfigError
        If onnxruntime is not installed.
    DataError
        If the file is missing or none, asks for more than a network does, or takes anything else than one image.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        require_file(path, "ONNX file")
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                f"{path} is computed by onnxruntime, which cannot be imported here. Install it with pip install "
                "'shiftkit[onnx]'."
            ) from error
        beside = [path, *require_steps(path)]
        _bound_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what it would write to stderr is told here
        options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            self.session = onnxruntime.InferenceSession(
                str(path),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConstantFolding"],  # it computes in memory that is not bounded
            )
        except Exception as error:  # its own, of many kinds
            raise DataError(
                f"{path} must be an ONNX file that onnxruntime {onnxruntime.__version__} can compute; it cannot: "
                f"{_reason(error)}. Export it again for opset 18, or update onnxruntime."
            ) from error
        self.how = onnxruntime.RunOptions()
        self.how.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")  # others need it afterwards
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 5:
            raise DataError(
                f"An ONNX network takes one image, shape (N, C, X, Y, Z); {path.name} takes "
                f"{', '.join(f'{one.name} of shape {tuple(one.shape)}' for one in inputs)}. Export it again so."
            )
        if inputs[0].type not in _KINDS:
            raise DataError(
                f"An ONNX network takes an image of {', '.join(_KINDS)}; {path.name} takes {inputs[0].type}. Export it "
                "again so."
            )
        self.input, self.number_type = inputs[0].name, _KINDS[inputs[0].type]
        self.output = self.session.get_outputs()[0].name
        self.digest = _digest(beside)
        sizes = inputs[0].shape[2:]
        self.sizes = tuple(sizes) if all(isinstance(one, int) and one > 0 for one in sizes) else None

    def described(self) -> Mapping[str, Any]:
        """What the file says of its input and output, if shiftkit wrote it."""
        told = self.session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
        try:
            block = json.loads(told) if told else {}
        except (ValueError, RecursionError):
            return {}
        return block if isinstance(block, dict) else {}

    def forward(self, image: Tensor) -> Tensor:
        """Answer on the image's device."""
        given = image.detach().cpu().contiguous().to(self.number_type)
        try:
            (made,) = self.session.run([self.output], {self.input: given.numpy()}, self.how)
        except Exception as error:  # its own, of many kinds
            if asked := _TOO_LARGE.search(str(error)):
                raise too_large(tuple(image.shape), int(asked[1])) from error
            raise RuntimeError(_reason(error)) from error
        return torch.from_numpy(made).to(image.device)

    def extra_repr(self) -> str:
        """By this it is told apart: its weights are in the file."""
        return f"onnx={self.digest}"


@cache
def _bound_memory() -> None:
    """Let the results of all networks in this process share so much memory; onnxruntime refuses what is beyond."""
    import onnxruntime

    arena = onnxruntime.OrtArenaCfg({"max_mem": results_bytes()})
    kind, plain = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, plain), arena)


_TOO_LARGE = re.compile(r"Available memory of \d+ is smaller than requested bytes of (\d+)")
_SOURCE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from \S+ failed: *|Exception during loading: *"
    r"|/\S+\.(cc|h):\d+ .*?\) (?=\w)"
)
"""What onnxruntime says to its own engineers."""


def _reason(error: Exception) -> str:
    """What onnxruntime says of a network, without its own codes and places."""
    return readable(_SOURCE.sub("", " ".join(str(error).split())))[:_LONGEST_TOLD].rstrip(". ")


def _digest(files: list[Path]) -> str:
    """SHA-256 of the network, with its weights wherever they lie."""
    whole = hashlib.sha256()
    for one in files:
        with one.open("rb") as stream:
            while part := stream.read(2**24):
                whole.update(part)
    return whole.hexdigest()
