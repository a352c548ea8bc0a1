"""ONNX files, computed by onnxruntime: no code of theirs is run, and nothing is known of their inside."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, DataError
from ...files import require_file
from ...words import readable

_LONGEST_TOLD = 300
_KINDS = {"float16": torch.float16, "double": torch.float64}
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
        If the file is missing or none, names weights outside of its folder, or takes anything else than one image.
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
        beside = [path, *_weights_beside(path)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # its warnings are about optimizations
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own, of many kinds
            told = readable(" ".join(str(error).split()))[:_LONGEST_TOLD]
            raise DataError(f"{path} must be an ONNX file that onnxruntime can compute; it says: {told}.") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 5:
            raise DataError(
                f"An ONNX network takes one image, shape (N, C, X, Y, Z); {path.name} takes "
                f"{', '.join(f'{one.name} of shape {tuple(one.shape)}' for one in inputs)}. Export it again so."
            )
        self.input, self.number_type = inputs[0].name, inputs[0].type
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
        given = image.detach().cpu().contiguous()
        kind = next((kind for name, kind in _KINDS.items() if name in self.number_type), torch.float32)
        (made,) = self.session.run([self.output], {self.input: given.to(kind).numpy()})
        return torch.from_numpy(made).to(image.device)

    def extra_repr(self) -> str:
        """By this it is told apart: its weights are in the file."""
        return f"onnx={self.digest}"


_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])")
"""How an ONNX file, a protocol buffer, begins to say where numbers lie: the key, and the length of a name."""


def _weights_beside(path: Path) -> list[Path]:
    """Files with weights that an ONNX file names, as exports of PyTorch do by default; a `DataError` if one is outside.

    Newer versions of onnxruntime refuse these too; older ones open what a link leads to.
    """
    blob, folder = path.read_bytes(), path.resolve().parent
    found: set[Path] = set()
    for match in _LOCATION.finditer(blob):
        low, high = match[1][0], match[1][1:]
        length = (low & 0x7F) | (high[0] << 7 if high else 0)
        name = blob[match.end() : match.end() + length].decode(errors="replace")
        place = folder / name
        if "\0" in name or not place.exists():
            continue  # of a missing one onnxruntime tells; and numbers can look like a name
        if not place.resolve().is_relative_to(folder):
            raise DataError(
                f"An ONNX file has its weights in itself or beside it; {path.name} names {readable(name)}, which lies "
                "elsewhere. Export it again, with all in one file."
            )
        require_file(place, "file of weights")
        found.add(place)
    return sorted(found)


def _digest(files: list[Path]) -> str:
    """SHA-256 of the network, with its weights wherever they lie."""
    whole = hashlib.sha256()
    for one in files:
        with one.open("rb") as stream:
            while part := stream.read(2**24):
                whole.update(part)
    return whole.hexdigest()
