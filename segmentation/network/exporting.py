"""Checking a checkpoint, and handing its network to other programs."""

import json
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from ...errors import ConfigError, DataError
from ...files import atomic
from .checkpoints import PICKLES, Model, description_of, load_model
from .onnx_files import DESCRIPTION

FORMATS = ("torchscript", "onnx")
ONNX_PACKAGES = ("onnx", "onnxscript")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a checkpoint is what it says it is: of each check ``ok``, or what is wrong."""

    checks: dict[str, str]

    @property
    def sound(self) -> bool:
        """Whether every check is ``ok``."""
        return all(word == "ok" for word in self.checks.values())

    def __str__(self) -> str:
        return "\n".join(f"{name}: {word}" for name, word in self.checks.items())


def verify_model(path: Path) -> Verdict:
    """Check a checkpoint: digest and shapes of weights, metadata, no pickles beside them, finite output.

    A checkpoint that cannot be loaded has one check, with the reason.
    """
    try:
        model = load_model(path)
    except DataError as error:
        return Verdict(checks={"weights and metadata": str(error)})
    checks = {"weights and metadata": "ok"}
    # Weights are safe, but a pickle beside them may be opened by whoever gets the folder.
    pickles = sorted(file.name for file in Path(path).rglob("*") if file.suffix in PICKLES)
    checks["no pickles"] = f"remove {', '.join(pickles)}" if pickles else "ok"
    missing = [bundle.label for bundle in model.bundles if bundle not in model.thresholds]
    checks["a threshold for every bundle"] = f"missing: {', '.join(missing)}" if missing else "ok"
    card = Path(path) / "docs" / "README.md"
    checks["model card"] = "ok" if card.is_file() else "docs/README.md is missing"
    with torch.inference_mode():
        output = model.network(_example(model))
    expected = (1, len(model.bundles), *model.shape)
    fits = tuple(output.shape) == expected and bool(torch.isfinite(output).all())
    checks["finite output"] = "ok" if fits else f"output must be finite, of shape {expected}; got {tuple(output.shape)}"
    return Verdict(checks=checks)


def export_model(model: Model, out: Path, format_: str = "torchscript") -> Path:
    """Write the network for other programs; input and output are on the model's grid, output are logits.

    The file carries what its user has to know, as JSON under ``shiftkit``: bundles in their order, modality, grid and
    normalization; see `description_of`. Of ONNX it stands among the metadata, of TorchScript in the extra file
    ``shiftkit.json``.

    ``format_`` is torchscript or onnx; another one is refused with a `ConfigError`, and so is ONNX without the extra
    ``export``, the packages ``onnx`` and ``onnxscript``.
    """
    if format_ not in FORMATS:
        raise ConfigError(f"A model can be exported as {' or '.join(FORMATS)}; got {format_!r}.")
    example, told = _example(model), json.dumps(description_of(model), ensure_ascii=False)
    if format_ == "torchscript":
        with torch.inference_mode(), atomic(out) as part, warnings.catch_warnings():
            # Normalization checks its number of channels in Python, which tracing records as the constant it is.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # pyright: ignore[reportPrivateImportUsage]
            torch.jit.save(torch.jit.trace(model.network, example), part, _extra_files={f"{DESCRIPTION}.json": told})
        return out
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"Export to ONNX needs the packages {' and '.join(ONNX_PACKAGES)}; {' and '.join(missing)} cannot be "
            "imported here. Install them with pip install 'shiftkit[export]', or export as torchscript."
        )
    with atomic(out) as part, _quiet_exporter():
        torch.onnx.export(
            model.network,
            (example,),
            str(part),
            input_names=["image"],
            output_names=["logits"],
            external_data=False,  # one file, which can be moved
            verbose=False,
        )
        import onnx

        made = onnx.load(part)
        onnx.helper.set_model_props(made, {DESCRIPTION: told})
        onnx.save(made, part)
    return out


@contextmanager
def _quiet_exporter() -> Generator[None]:
    """Hide what PyTorch's exporter says about itself: that torchvision is absent, and its own deprecations."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _example(model: Model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, model.in_channels, *model.shape, generator=generator)
