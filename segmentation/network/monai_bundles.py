"""MONAI bundles that others made, read without running their code.

Of a bundle only the network's definition and the weights are read: ``network_def`` of ``configs/inference.json`` or
``.yaml``, by the parser here, and ``models/model.safetensors`` or ``models/model.pt``.
"""

import inspect
import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ...errors import ConfigError, DataError, ShiftkitError
from ...files import read_json, read_text
from ...words import readable
from .building import build_for
from .networks import Architecture, build_network
from .weights import map_safetensors, map_state_dict, weights_of

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_NAMES = ("network_def", "network", "net")
"""Where bundles define their network, most usual first."""
_OWN = "shiftkit.segmentation.network.build_network"
_TARGET = re.compile(r"(monai\.networks\.nets(\.[a-z0-9_]+)?\.)?(?P<name>[A-Za-z]\w*)")
_REFERENCE = re.compile(r"@(?P<id>\w+((::|#)\w+)*)")
_ELSEWHERE = re.compile(r"pretrain|weights|url|repo|^checkpoint$")
"""Arguments with which MONAI's networks fetch weights from the internet, or open files."""
_MOST_VALUES, _LARGEST, _DEEPEST = 10_000, 1_000_000, 20
_LONGEST_TOLD = 300


def config_of(folder: Path) -> Path | None:
    """The file of a folder that defines a bundle's network, if there is one."""
    return next((path for name in _CONFIGS if (path := folder / "configs" / name).is_file()), None)


def read_bundle(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build the network of a bundle and load its weights; also its definition, with references resolved.

    Raises
    ------
    ConfigError
        If the definition is more than a network of MONAI and literals, with the line that converts it.
    DataError
        If it cannot be built, or weights are missing, of another network, or Python objects.
    """
    definition = read_definition(folder)
    models = folder / "models"
    try:
        weights = (
            map_safetensors(models / "model.safetensors")
            if (models / "model.safetensors").is_file() or not (models / "model.pt").is_file()
            else map_state_dict(models / "model.pt")
        )
    except ShiftkitError:
        raise
    except (OSError, ValueError, SafetensorError, BadZipFile) as error:
        raise DataError(f"The weights in {models} cannot be read ({_told(error)}). Copy the bundle again.") from error
    network = build(definition, weights, folder)
    # Last: a number that is finite in double precision may not be one in the network.
    broken = next((name for name, one in weights_of(network).items() if not torch.isfinite(one).all()), None)
    if broken is not None:
        raise DataError(f"Weights must be finite; {readable(broken)} in {models} is not. Copy the bundle again.")
    return network, definition


def build(definition: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """The network of a definition that `read_definition` gave, with weights; a `DataError` where these do not fit."""
    try:
        return build_for(lambda: _made(definition, folder), weights, folder)
    except (NotImplementedError, RuntimeError) as error:
        raise _unbuilt(error, definition, folder) from error


def read_definition(folder: Path) -> dict[str, Any]:
    """The network's definition of a bundle, a ``_target_`` and literals; see `read_bundle` for the errors."""
    path = config_of(folder)
    if path is None:
        raise DataError(f"A MONAI bundle holds configs/{_CONFIGS[0]}; {folder} does not. Is it the right folder?")
    config = _read_config(path)
    name = next((one for one in _NAMES if isinstance(config.get(one), Mapping)), None)
    if name is None:
        there = next((one for one in _NAMES if one in config), None)
        if there is not None and isinstance(config[there], str) and config[there].startswith("@"):
            name = there
        elif there is None:
            raise DataError(
                f"A bundle defines its network under {' or '.join(_NAMES[:2])}; {path} has "
                f"{', '.join(map(readable, map(str, config))) or 'nothing'}. {_BY_FILE}"
            )
        else:
            raise _refused(path, there, config[there])
    parser = _Parser(path, config)
    definition = parser.value(config[name], name, top=True)
    if not isinstance(definition, dict) or "_target_" not in definition:
        raise ConfigError(f"{name} of {path} must be a network with a _target_; it is {_shown(definition)}. {_BY_FILE}")
    target = definition["_target_"]
    if target == _OWN:
        return definition
    found = _TARGET.fullmatch(str(target))
    if found is None or _class(found["name"]) is None:
        raise ConfigError(
            f"Of a bundle networks of monai.networks.nets are built, and {_OWN}; {name}._target_ of {path} is "
            f"{readable(str(target))}, whose code would be run. {_BY_FILE}"
        )
    return {**definition, "_target_": f"monai.networks.nets.{found['name']}"}


_BY_FILE = (
    "Build it in a file of your own, whose code you know, and give `model` as net.py:make_network, which returns "
    "shiftkit.Model(network=…, modality=…, bundles=…, spacing_mm=…)."
)


class _Parser:
    """Literals of a configuration, and plain references to such."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config, self.seen = path, config, 0

    def value(self, given: Any, place: str, *, top: bool = False, chain: tuple[str, ...] = ()) -> Any:
        """What a value means, as JSON can hold it."""
        self.seen += 1
        if self.seen > _MOST_VALUES or place.count("::") > _DEEPEST:
            raise ConfigError(f"A network's definition is short; that of {self.path} is not. {_BY_FILE}")
        if isinstance(given, str):
            return self._text(given, place, top, chain)
        if isinstance(given, Mapping):
            return self._mapping(given, place, top, chain)
        if isinstance(given, list):
            return [self.value(one, f"{place}::{i}", chain=chain) for i, one in enumerate(given)]
        number = isinstance(given, int | float) and abs(given) <= _LARGEST
        if given is None or number:
            return given
        raise ConfigError(f"{place} of {self.path} must be a number, a text or a list of these; it is {_shown(given)}.")

    def _text(self, given: str, place: str, top: bool, chain: tuple[str, ...]) -> Any:
        if given.startswith("@"):
            found = _REFERENCE.fullmatch(given)
            if found is None or given in chain:
                raise _refused(self.path, place, given)
            return self.value(self._at(found["id"], place, given), place, top=top, chain=(*chain, given))
        if given.startswith(("$", "%")):
            raise _refused(self.path, place, given)
        return given

    def _mapping(self, given: Mapping[Any, Any], place: str, top: bool, chain: tuple[str, ...]) -> dict[str, Any]:
        allowed = {"_desc_", "_target_"} if top else {"_desc_"}
        for name in given:
            if str(name).startswith("_") and name not in allowed:
                raise _refused(self.path, f"{place}::{name}", given[name])
        items = {str(name): one for name, one in given.items() if name != "_desc_"}
        return {name: self.value(one, f"{place}::{name}", chain=chain) for name, one in items.items()}

    def _at(self, name: str, place: str, given: str) -> Any:
        found: Any = self.config
        for part in re.split(r"::|#", name):
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise DataError(f"{place} of {self.path} is {given}, and there is no {readable(name)} in that file.")
        return found


def _refused(path: Path, place: str, value: Any) -> ConfigError:
    """Why a value is not read, with the line that prints what has to stand in its place."""
    told = readable(value)[:80] if isinstance(value, str) else _shown(value)
    return ConfigError(
        f"Of a bundle a network's definition is read, and no code is run: literals, and @ references to such. {place} "
        f"of {path} is {told!r}. Write its value there; if you trust the bundle, this prints it: python -c "
        f"\"from monai.bundle import ConfigParser as P; p = P(P.load_config_file('{path}')); "
        f"print(p.get_parsed_content('{place}'))\""
    )


def _shown(value: Any) -> str:
    """A value that may hold itself, or a number of a million digits, in a few words."""
    try:
        return readable(reprlib.repr(value))[:80]
    except ValueError:
        return f"a {type(value).__name__}"


_MOST_BYTES = 2**20
"""Of a configuration; MONAI's own have a hundredth, and a reader of YAML takes a second for each."""


def _read_config(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"A bundle's configuration has at most {_MOST_BYTES / 2**20:g} MiB; {path} is larger.")
    try:
        if path.suffix == ".json":
            content = read_json(path)
        else:
            try:
                import yaml
            except ImportError as error:
                raise ConfigError(
                    f"{path} is read with the package pyyaml, which cannot be imported here. Install it with pip "
                    "install 'shiftkit[yaml]', or write the same as inference.json."
                ) from error
            content = yaml.safe_load(read_text(path))
    except ShiftkitError:
        raise
    except Exception as error:  # of YAML's reader: errors are of several kinds
        raise DataError(f"{path} cannot be read ({_told(error)}). Copy the bundle again.") from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path} must hold names with values; it holds a {type(content).__name__}.")
    return content


def _class(name: str) -> type[nn.Module] | None:
    """A network of MONAI by its name; None where there is none."""
    import monai.networks.nets as nets

    found = getattr(nets, name, None)
    own = inspect.isclass(found) and issubclass(found, nn.Module) and found.__module__.startswith(f"{nets.__name__}.")
    # Spaces of architectures, whose size is two to the power of what is asked for; no network is one alone.
    return found if own and not name.startswith("Topology") else None  # pyright: ignore[reportReturnType]


def _made(definition: Mapping[str, Any], folder: Path) -> nn.Module:
    """A network with random weights."""
    where = f" of {folder}"
    arguments = {name: one for name, one in definition.items() if name != "_target_"}
    try:
        if definition["_target_"] == _OWN:
            return build_network(Architecture.of(arguments["architecture"]))
        class_ = _class(definition["_target_"].rpartition(".")[2])
        if class_ is None:
            raise DataError(f"MONAI has no network {readable(definition['_target_'])} here. Update MONAI.")
        parameters = inspect.signature(class_).parameters
        fetched = {name: one.default for name, one in parameters.items() if _ELSEWHERE.search(name)} | {
            name: one for name, one in arguments.items() if _ELSEWHERE.search(name)
        }
        if asked := [name for name, one in fetched.items() if one]:
            raise ConfigError(
                f"A bundle brings its own weights, and nothing is fetched from elsewhere; {class_.__name__}{where} "
                f'takes {asked[0]}. Write "{asked[0]}": false into its definition.'
            )
        return class_(**arguments)
    except (ShiftkitError, NotImplementedError, RuntimeError):
        raise
    except ImportError as error:  # MONAI leaves to its users what few networks need
        raise ConfigError(
            f"The network{where} needs a package that cannot be imported here ({_told(error)}). Install it."
        ) from error
    except Exception as error:
        raise _unbuilt(error, definition, folder) from error


def _unbuilt(error: Exception, definition: Mapping[str, Any], folder: Path) -> DataError:
    arguments = {name: one for name, one in definition.items() if name != "_target_"}
    return DataError(
        f"The network of {folder} cannot be built: {_told(error)}. Look at its arguments, "
        f"{json.dumps(arguments)[:200]}."
    )


def _told(error: Exception) -> str:
    return readable(f"{type(error).__name__}: {' '.join(str(error).split())}")[:_LONGEST_TOLD]
