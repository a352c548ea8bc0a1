"""What shiftkit finds on this machine."""

import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ..errors import ShiftkitError
from ..files import cache_dir
from ..names import BUILT_IN_MODELS
from ..work import n_processes
from ..work.packages import package_versions

EXTRAS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "models as ONNX": ("export", ("onnx", "onnxscript")),
    "ONNX files as models": ("onnx", ("onnxruntime",)),
    "MONAI bundles in YAML": ("yaml", ("yaml",)),
    "score tables in Parquet": ("parquet", ("pyarrow",)),
    "work on a Dask cluster": ("cluster", ("distributed",)),
}
"""What works only with further packages: the extra that brings them, and their names."""


def examine() -> tuple[list[str], bool]:
    """Describe the installation, one fact a line, and whether shiftkit can work here.

    A line that starts with ``PROBLEM`` says what to do.
    """
    own, system = version("shiftkit"), platform.system()
    lines = [f"shiftkit {own}, Python {platform.python_version()}, {system}, {n_processes(0)} cores"]
    lines += [f"{name} {found}" for name, found in package_versions().items()]
    problems = _check_cache(lines) + _check_models(lines)
    _describe_devices(lines)
    lines += [_feature(what, extra, names) for what, (extra, names) in EXTRAS.items()]
    lines += [f"PROBLEM: {problem}" for problem in problems]
    return lines, not problems


def _check_cache(lines: list[str]) -> list[str]:
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # rights alone do not tell whether a disk is full or read-only
            pass
    except OSError as error:
        return [f"the cache folder {folder} cannot be written ({error}); set SHIFTKIT_CACHE to one that can"]
    lines.append(f"cache folder {folder}, {shutil.disk_usage(folder).free / 1e9:.0f} GB free")
    return []


def _check_models(lines: list[str]) -> list[str]:
    from ..segmentation.network.checkpoints import load_model

    problems: list[str] = []
    for name, path in BUILT_IN_MODELS.items():
        try:
            lines.append(f"built-in model {name}: {load_model(Path(path))}")
        except ShiftkitError as error:
            problems.append(f"the built-in model {name} cannot be loaded ({error}); install shiftkit again")
    return problems


def _feature(what: str, extra: str, names: Sequence[str]) -> str:
    missing = [name for name in names if find_spec(name) is None]
    if not missing:
        return f"{what}: yes"
    return f"{what}: no, {' and '.join(missing)} missing; pip install 'shiftkit[{extra}]'"


def _describe_devices(lines: list[str]) -> None:
    import torch

    count = torch.cuda.device_count()
    lines += [f"GPU {index}: {torch.cuda.get_device_name(index)}" for index in range(count)]
    if not count:
        lines.append("no GPU: everything runs on the CPU")
