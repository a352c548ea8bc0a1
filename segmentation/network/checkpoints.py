"""Checkpoints: a folder in the shape of a MONAI bundle, weights in safetensors, never a pickle."""

import copy
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from ...bundles import bundle_named
from ...errors import ConfigError, DataError, ShiftkitError, raise_all
from ...files import atomic, holds, read_json, write_text
from ...images import image_digest
from ...types import Bundle, Case, Cohort
from ...words import name_problem, named, readable
from ..samples.domain import Domain
from ..samples.samples import COORDINATE_CHANNELS, NORMALIZATION, box_shape, channels_of
from .building import build_for, require_weights_of
from .foreign import BACKGROUND, OUTPUTS, ForeignNetwork, authored
from .monai_bundles import build, config_of, read_bundle, read_definition
from .networks import Architecture, build_network, network_def, require_fit
from .onnx_files import OnnxNetwork
from .weights import map_safetensors, set_weights, weights_of

_WEIGHTS = Path("models") / "model.safetensors"
METADATA = Path("configs") / "metadata.json"
"""In a checkpoint's folder, everything about it but its weights."""
UNKNOWN_TRAINING = "source_trained_on_unknown"
"""In ``training`` of a model that was tuned: of its source nobody has said who it was trained on."""
PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".bin")
"""Suffixes of files that are usually pickles."""

_CONVERT = (
    "Pickled checkpoints (.pt, .pth) can run code when they are opened and are never loaded: read the state dict "
    "yourself, write it with safetensors.torch.save_file, and add configs/metadata.json."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A network with everything needed to use it rightly.

    One of shiftkit's own has an ``architecture``. Of any other module ``network``, ``modality``, ``bundles`` and
    ``spacing_mm`` are needed. It gets the image's channels, shape (N, C, X, Y, Z): intensities scaled so that the 1st
    and 99th percentile of the brain are 0 and 1, or peaks in world RAS+; it is put into evaluation mode.

    Parameters
    ----------
    name : str
        How tables call it; by default as the module's class.
    network : Module, or path
        On the CPU, in evaluation mode; or of an ONNX file or a MONAI bundle, which is read and whose code is not run.
    architecture : Architecture, optional
        How to build the network again.
    modality : str
        Its input; a stack is joined by ``+``.
    bundles : tuple of Bundle
        In the order of its output channels, or of its labels; labels such as ``AFleft`` are understood, and
        ``background`` for a channel or label that is none.
    spacing_mm, shape
        Of its grid, around the brain's center, RAS; by default a box of 160 × 200 × 160 mm or a little more, each side
        a multiple of 16 voxels.
    output : str
        What another module answers with: ``logits``, ``probabilities`` or ``labels``; see
        `shiftkit.segmentation.network.foreign.ForeignNetwork`.
    coordinates : bool
        Whether another module also gets where each voxel lies, as those of shiftkit do: three more channels, x, y and z
        from the box's center in units of 100 mm.
    thresholds : mapping of Bundle to float
        Probability from which a voxel counts as inside; 0.5 by default.
    participants : mapping of str to str, or Cohort
        Everyone it was trained or tuned on, with the digest of their image: controls among them are left out. Of
        another module this is not known unless it is given.
    training : mapping
        Settings and results of the training, for the model card.
    feature_statistics : mapping
        Of the participants it was trained on, at each depth of the encoder; see `embedding.feature_statistics`.
    image_statistics : tuple of mapping
        Of its training's images, and of those it was tuned on; see `shiftkit.segmentation.samples.domain`. Empty in
        checkpoints of before.
    overconfidence : float
        Expected less true Dice on validation participants; taken off every expected Dice.
    patch : tuple of int or None
        Size in voxels of the patches it was trained on, and so of the windows it predicts in; None for the whole
        box.

    Raises
    ------
    ConfigError
        If what is told of another module cannot be.

    Examples
    --------
    >>> model = Model(network=nn.Conv3d(1, 2, 3, padding=1), modality="fa", bundles=("AFleft", "AFright"), spacing_mm=5)
    >>> model.shape, [str(bundle) for bundle in model.bundles]
    ((32, 48, 32), ['AFleft', 'AFright'])
    """

    name: str = ""
    network: nn.Module = dataclasses.field(repr=False)
    architecture: Architecture | None = None
    modality: str
    bundles: tuple[Bundle, ...]
    spacing_mm: float
    shape: tuple[int, int, int] = (0, 0, 0)
    output: str = "logits"
    coordinates: bool = False
    thresholds: Mapping[Bundle, float] = dataclasses.field(repr=False, default_factory=dict[Bundle, float])
    participants: Mapping[str, str] = dataclasses.field(repr=False, default_factory=dict[str, str])
    training: Mapping[str, Any] = dataclasses.field(repr=False, default_factory=dict[str, Any])
    feature_statistics: Mapping[str, Any] = dataclasses.field(repr=False, default_factory=dict[str, Any])
    image_statistics: tuple[Domain, ...] = ()
    overconfidence: float = 0.0
    patch: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.architecture is None and not isinstance(self.network, ForeignNetwork):
            for name, value in _understood(self).items():
                object.__setattr__(self, name, value)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights; of a module that is not shiftkit's own, also of its code as far as it is known."""
        return _digest(save(weights_of(authored(self.network))), self.network)

    @property
    def knows_training(self) -> bool:
        """Whether it is known who it was trained on; of other people's networks only if they say so."""
        return self.architecture is not None or (bool(self.participants) and UNKNOWN_TRAINING not in self.training)

    @property
    def kind(self) -> str:
        """What sort of network it is."""
        if isinstance(self.network, ForeignNetwork):
            return type(self.network.network).__name__
        return "network" if self.architecture is None else self.architecture.name

    @property
    def in_channels(self) -> int:
        """Channels of what the network is given, coordinates included, which another module does not see."""
        return channels_of(self.modality) + COORDINATE_CHANNELS

    def has_seen(self, case: Case) -> bool:
        """Whether the model was trained or tuned on this participant's image, whatever the participant is called."""
        first = case.images.get(self.modality.split("+")[0])
        # By the image: a participant is known again in another cohort, and under another name.
        return first is not None and image_digest(first) in self.participants.values()

    def require_input(self, cohort: Cohort) -> None:
        """Refuse, with a `ModelMismatchError`, a cohort in which nobody has the images that the model reads."""
        cohort.require_input(self.name, self.modality)

    def __str__(self) -> str:
        count = sum(parameter.numel() for parameter in self.network.parameters())
        labels = " ".join(dict.fromkeys(bundle.name for bundle in self.bundles))
        return (
            f"{self.name}: {self.kind}, {count / 1e6:.2f} M parameters, {self.modality} at {self.spacing_mm:g} mm, "
            f"bundles {labels}, "
            + (
                f"trained or tuned on {len(self.participants)} participants"
                if self.knows_training
                else "trained on participants that are not known"
            )
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(str(self))}</p>"


def _understood(model: Model) -> dict[str, Any]:
    """What a model of another module holds, from what its author said; a `ConfigError` where that cannot be."""
    # What an author wrote may be anything.
    network: Any = model.network
    definition = None
    if isinstance(network, str | Path):
        network, _, definition = _read_others(Path(network).expanduser())
    given: list[Any] = list(model.bundles)
    people: Any = model.participants
    labels = [str(one) for one in given]
    problems: list[str] = []
    if not isinstance(network, nn.Module):
        problems.append(f"`network` must be a torch.nn.Module, or a path; got {type(network).__name__}")
    if isinstance(model.bundles, str) or not all(isinstance(one, str | Bundle) for one in given):
        problems.append(f"`bundles` must be a list of names, such as AFleft; got {model.bundles!r}")
    elif len(set(labels)) < len(labels) or not set(labels) - {BACKGROUND}:
        problems.append(f"`bundles` must be different names, at least one beside {BACKGROUND}; got {' '.join(labels)}")
    if model.output not in OUTPUTS:
        problems.append(f"`output` is {', '.join(OUTPUTS[:-1])} or {OUTPUTS[-1]}; got {model.output!r}")
    if not _is_name(model.modality) or not all(model.modality.split("+")):
        problems.append(f"`modality` must be a name such as fa, or a stack such as t1w+fa; got {model.modality!r}")
    if not (_number(model.spacing_mm) and 0.1 <= model.spacing_mm <= 20):
        problems.append(f"`spacing_mm` must lie between 0.1 and 20; got {model.spacing_mm!r}")
    if len(model.shape) != 3 or (any(model.shape) and not all(_count(one, _LARGEST) for one in model.shape)):
        problems.append(f"`shape` must be three whole numbers, at most {_LARGEST}; got {model.shape!r}")
    if not _is_name(model.name or "network"):
        problems.append(f"`name` must be a name; got {model.name!r}")
    raise_all(problems, "A network of your own", ConfigError)
    bundles = tuple(one if isinstance(one, Bundle) else Bundle.parse(one) for one in given if str(one) != BACKGROUND)
    shape = model.shape if any(model.shape) else box_shape(model.spacing_mm)
    if (voxels := math.prod(shape)) > _MOST_VOXELS:
        raise ConfigError(
            f"A model's box has at most {_MOST_VOXELS:.1e} voxels, which is a brain at 0.3 mm; that of "
            f"{' × '.join(map(str, shape))} has {voxels:.1e}. Give a smaller `shape`, or a coarser `spacing_mm`."
        )
    told = {Bundle.parse(str(one)): at for one, at in model.thresholds.items()}
    if wrong := [at for one, at in told.items() if one not in bundles or not (_number(at) and 0 <= at <= 1)]:
        raise ConfigError(f"`thresholds` are one a bundle, between 0 and 1; got {wrong[0]!r}.")
    if isinstance(people, Cohort):
        first = model.modality.split("+")[0]
        people = {case.key: image_digest(case.images[first]) for case in people if first in case.images}
    return {
        "name": model.name or type(network).__name__,
        "network": ForeignNetwork(
            network,
            output=model.output,
            n_inputs=channels_of(model.modality) + (COORDINATE_CHANNELS if model.coordinates else 0),
            n_bundles=len(bundles),
            background=labels.index(BACKGROUND) if BACKGROUND in labels else None,
            shape=shape,
            definition=definition,
        ).eval(),
        "bundles": bundles,
        "spacing_mm": float(model.spacing_mm),
        "shape": shape,
        "thresholds": {one: float(told.get(one, 0.5)) for one in bundles},
        "participants": people,
    }


def save_model(model: Model, path: Path) -> None:
    """Write a checkpoint folder; weights are written last, so that a half-written one is not taken for whole."""
    write_text(path / METADATA, json.dumps(_metadata(model), indent=2, ensure_ascii=False) + "\n")
    if (definition := _definition(model)) is not None:
        write_text(path / "configs" / "inference.json", json.dumps({"network_def": definition}, indent=2) + "\n")
    write_text(path / "docs" / "README.md", _model_card(model))
    with atomic(path / _WEIGHTS) as part:
        # Of others' modules as the author names them, who can load them without shiftkit.
        part.write_bytes(save(weights_of(authored(model.network))))


def load_model(path: Path, source: Model | None = None) -> Model:
    """Read a checkpoint folder.

    Parameters
    ----------
    source : Model, optional
        Of a checkpoint that fine-tuning a module of your own has left: the model that was tuned. Its code is needed to
        build the network again, for a folder never says which code is run.

    Raises
    ------
    ConfigError
        If the checkpoint is of a module of your own, and ``source`` is missing or another module.
    DataError
        If it is missing, damaged, of another kind, or a pickle.
    """
    path = Path(path)
    if path.suffix == ".onnx" or _is_of_others(path):
        return _load_others(path)
    if path.is_file():
        raise DataError(f"A checkpoint is a folder with weights in safetensors; {path} is a file. {_CONVERT}")
    if not (path / METADATA).is_file() or not is_whole(path):
        pickles = any(file.suffix in PICKLES for file in path.rglob("*")) if path.is_dir() else False
        advice = _CONVERT if pickles else "Is it the right folder?"
        raise DataError(f"A checkpoint holds {METADATA} and {_WEIGHTS}; {path} does not. {advice}")
    module = _module_for(path, source)
    try:
        block = read_json(path / METADATA)["shiftkit"]
        _require_sound(block)
        weights = map_safetensors(path / _WEIGHTS)
        bundles = tuple(Bundle.parse(label) for label in block["bundles"])
        if module is None:
            architecture = _architecture(block)
            network = build_for(lambda: build_network(architecture), weights, path, computing=False)
        else:
            architecture, network = None, module
            require_weights_of(authored(network), weights, path)
            set_weights(authored(network), weights)
        blob = (path / _WEIGHTS).read_bytes()
        broken = next((name for name, one in weights.items() if not torch.isfinite(one).all()), None)
        if broken is not None:
            raise ValueError(f"weights of {broken} are not finite")
        model = Model(
            name=block["name"],
            network=network.eval(),
            architecture=architecture,
            modality=block["modality"],
            bundles=bundles,
            spacing_mm=float(block["spacing_mm"]),
            shape=tuple(block["shape"]),
            thresholds={Bundle.parse(label): float(value) for label, value in block["thresholds"].items()},
            participants=block["participants"],
            training=block["training"],
            feature_statistics=block.get("feature_statistics", {}),  # absent in the first checkpoints, as what follows
            image_statistics=tuple(block.get("image_statistics", ())),
            overconfidence=float(block.get("overconfidence", 0.0)),
            patch=tuple(block["patch"]) if block.get("patch") else None,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, SafetensorError) as error:
        told = readable(" ".join(str(error).split()))[:_LONGEST_TOLD]
        raise DataError(f"The checkpoint {path} is damaged or of another version ({told}). Copy it again.") from error
    # Of the file as it lies there: predictions name the digest, and are trusted to be this model's.
    if _digest(blob, model.network) != block.get("digest"):
        raise DataError(
            f"The weights of a checkpoint must be those its metadata names; {path / _WEIGHTS} has another digest. "
            "The file was changed or damaged: copy the checkpoint again."
        )
    return model


def _is_of_others(path: Path) -> bool:
    """Whether a folder is a MONAI bundle that shiftkit has not written."""
    if config_of(path) is None:
        return False
    try:
        block = read_json(path / METADATA).get("shiftkit", {})
        return "network" not in block and (not block or not set(block).isdisjoint(_NEEDED))
    except (OSError, ValueError, TypeError, AttributeError):
        # Of a checkpoint that is damaged it is told what is wrong.
        return not (path / METADATA).exists()


def _read_others(path: Path) -> tuple[nn.Module, Mapping[str, Any], dict[str, Any] | None]:
    """A network of an ONNX file or MONAI bundle, what it says of its input and output, and a bundle's definition."""
    if path.suffix == ".onnx":
        network = OnnxNetwork(path)
        shape = {} if network.sizes is None else {"shape": network.sizes}
        return network, {**shape, **network.described()}, None
    network, definition = read_bundle(path)
    return network, _described(path), definition


_TOLD = ("name", "modality", "bundles", "spacing_mm", "shape", "output", "coordinates", "patch", "thresholds")
_NEEDED = ("modality", "bundles", "spacing_mm")


def _described(folder: Path) -> dict[str, Any]:
    """What a bundle's metadata say of input and output: under ``shiftkit``, or as MONAI describes channels."""
    if not (folder / METADATA).is_file():
        return {}
    try:
        metadata = read_json(folder / METADATA)
        told: dict[str, Any] = dict(metadata.get("shiftkit", {}))
        ends = metadata.get("network_data_format", {})
        (image, *_), (answer, *_) = (list(ends.get(one, {}).values()) or [{}] for one in ("inputs", "outputs"))
        inputs, outputs = (_channels(one.get("channel_def", {})) for one in (image, answer))
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / METADATA} cannot be read ({_short(error)}). Copy the bundle again.") from error
    if outputs:
        # As others spell bundles; what is none is told when it is read.
        told.setdefault("bundles", [one if one == BACKGROUND else str(bundle_named(one) or one) for one in outputs])
    if inputs and "image" not in inputs:
        told.setdefault("modality", "+".join(inputs).lower())
    return told


def _channels(named: Mapping[str, Any]) -> list[str]:
    return [str(named[number]) for number in sorted(named, key=int)]


def _load_others(path: Path) -> Model:
    """A model from an ONNX file or a MONAI bundle that says enough of itself."""
    network, told, definition = _read_others(path)
    missing = [name for name in _NEEDED if not told.get(name)]
    if missing:
        place = f"{path / METADATA}" if path.is_dir() else "the file, as shiftkit model export does"
        example = {"modality": "fa", "bundles": ["AFleft", "AFright"], "spacing_mm": 2.5, "output": "logits"}
        raise ConfigError(
            f"{path} must say what goes in and out; it lacks {', '.join(missing)}. Write them into {place}: "
            f'"shiftkit": {json.dumps(example)}; or give them in a file of your own, as file.py:function, that returns '
            f'shiftkit.Model(network="{path}", modality=…, bundles=…, spacing_mm=…).'
        )
    known: dict[str, Any] = {name: told[name] for name in _TOLD if told.get(name) is not None}
    known = {"name": path.stem if path.is_file() else path.resolve().name, **known, "network": network}
    try:
        known |= {name: tuple(known[name]) for name in ("shape", "patch") if name in known}
        model = Model(**known)
    except (ShiftkitError, TypeError, AttributeError) as error:
        raise DataError(f"{path} says of its input and output what cannot be: {_short(error)}") from error
    assert isinstance(model.network, ForeignNetwork)
    model.network.definition = definition
    return model


def _short(error: Exception) -> str:
    return readable(" ".join(str(error).split()))[:_LONGEST_TOLD]


def _definition(model: Model) -> Mapping[str, Any] | None:
    """How MONAI builds the network; of a module of others that is known where it came as a bundle."""
    if model.architecture is not None:
        return network_def(model.architecture)
    return model.network.definition if isinstance(model.network, ForeignNetwork) else None


def _architecture(block: Mapping[str, Any]) -> Architecture:
    """How a network is built that is shiftkit's own."""
    architecture = Architecture.of(block["network"])
    for name in ("shape", "patch"):
        if block.get(name):
            require_fit(name, tuple(block[name]), architecture)
    if len(block["bundles"]) != architecture.out_channels:
        raise ValueError(
            f"{len(block['bundles'])} bundles are named, the network has {architecture.out_channels} outputs"
        )
    return architecture


def _module_for(path: Path, source: Model | None) -> ForeignNetwork | None:
    """A copy of the module of others that a checkpoint holds weights of; None where its network is shiftkit's own."""
    try:
        block = read_json(path / METADATA)["shiftkit"]
        code, name, class_ = block["network"].get("code"), str(block["name"]), str(block["network"].get("class"))
        if code is not None and source is None and config_of(path) is not None:
            _require_sound(block)
            return _from_definition(path, block)
    except ShiftkitError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError):
        return None  # what is wrong with it is told when it is read
    if code is None:
        return None
    if source is None:
        raise ConfigError(
            f"{path} holds weights of {readable(name)}, a module of your own, {readable(class_)}, and a folder never "
            f"says which code is run. Name both: file.py:function@{path}, or in Python "
            f"load_model({str(path)!r}, source=…) with the model that was tuned."
        )
    network = source.network
    if not isinstance(network, ForeignNetwork) or _code(network) != code:
        raise ConfigError(
            f"{path} holds weights of {readable(name)}, which was tuned from another network than {source.name}: its "
            f"class was {readable(class_)}, and its code, its parts or how its output is read have changed since. Give "
            "the code as it was then, or fine-tune again in another folder."
        )
    return copy.deepcopy(network)


def _from_definition(path: Path, block: Mapping[str, Any]) -> ForeignNetwork:
    """The network of a checkpoint that was tuned from a MONAI bundle, whose definition it keeps."""
    told, definition = block["network"], read_definition(path)
    network = ForeignNetwork(
        build(definition, map_safetensors(path / _WEIGHTS), path),
        output=told["output"],
        n_inputs=channels_of(block["modality"]) + (COORDINATE_CHANNELS if told["coordinates"] else 0),
        n_bundles=len(block["bundles"]),
        background=told["background"],
        shape=tuple(block["shape"]),
        definition=definition,
    )
    if _code(network) != told["code"]:
        raise ConfigError(
            f"{path} holds weights of a MONAI bundle as another version of MONAI built it. Install that version, or "
            "fine-tune again."
        )
    return network


def _code(network: ForeignNetwork) -> str:
    return hashlib.sha256(network.identity()).hexdigest()


def _digest(blob: bytes, network: nn.Module) -> str:
    more = network.identity() if isinstance(network, ForeignNetwork) else b""
    return hashlib.sha256(blob + more).hexdigest()


_LONGEST_TOLD = 600


_OWN = ("configs", "docs", "models", "state", "training.*", "predictions", "controls", "tables", "fold-*")
_LOCKS = ".fold-*.lock"
"""Of folds that are made by themselves, at this moment or by somebody who was killed."""


def require_own(out: Path, resume: bool) -> None:
    """Refuse, with a `ConfigError`, to train in a folder that holds something other than a training to resume."""
    names = holds(out)
    if names and not resume:
        raise ConfigError(
            f"A training needs a new or empty folder; {out} holds {names[0]}. Give another `out`, or `resume` if that "
            "is a training to continue or to keep."
        )
    for name in names:
        if not any(fnmatch(name, own) for own in (*_OWN, _LOCKS)):
            raise ConfigError(
                f"`resume` continues a training; {out} holds {name}, which none wrote. Give another `out`."
            )


_LARGEST = 1024
"""Voxels along an edge of a model's box; a brain at 0.5 mm needs fewer than half."""
_MOST_VOXELS = 2**28
"""Of a box, each of them a number a channel; a brain at 0.3 mm has 0.2 of 10⁹."""


_MOST_BUNDLES, _MOST_FEATURES, _DEEPEST = 500, 4096, 8
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _require_sound(block: Mapping[str, Any]) -> None:
    """Refuse metadata that no training writes: a `ValueError` says which entry, and what it must be."""
    labels, thresholds, network = block["bundles"], block["thresholds"], block["network"]
    numbers = list(thresholds.values()) if isinstance(thresholds, dict) else []
    sizes = {"shape": block["shape"], **({"patch": block["patch"]} if block.get("patch") else {})}
    people, statistics = block["participants"], block.get("feature_statistics", {})
    images = block.get("image_statistics", [])
    rules = {
        "name must be a name": _is_name(block["name"]),
        "modality must be a text": isinstance(block["modality"], str),
        "modality must be a name": _is_name(block["modality"]),
        "bundles must be different labels": isinstance(labels, list)
        and all(isinstance(one, str) for one in labels)
        and len(set(labels)) == len(labels) <= _MOST_BUNDLES,
        "thresholds must be one a bundle": isinstance(thresholds, dict)
        and isinstance(labels, list)
        and sorted(thresholds) == sorted(map(str, labels)),
        "thresholds must lie between 0 and 1": all(_number(one) and 0 <= one <= 1 for one in numbers),
        "spacing_mm must lie between 0.1 and 20": _number(block["spacing_mm"]) and 0.1 <= block["spacing_mm"] <= 20,
        "orientation must be RAS": block.get("orientation", "RAS") == "RAS",
        "overconfidence must lie between -1 and 1": _number(block.get("overconfidence", 0))
        and abs(block.get("overconfidence", 0)) <= 1,
        **(_rules_of_others(network) if "code" in network else _rules_of_network(network)),
        "participants must be names with SHA-256 digests": isinstance(people, dict)
        and all(_is_name(name) and isinstance(one, str) and _DIGEST.fullmatch(one) for name, one in people.items()),
        "training must be settings": isinstance(block["training"], dict),
        "image_statistics must be finite numbers": isinstance(images, list)
        and all(isinstance(one["measures"], dict) and _count(one["n"], 10**9) for one in images)
        and all(_is_name(name) and _spread(told) for one in images for name, told in one["measures"].items()),
        "feature_statistics must be finite numbers": isinstance(statistics, dict)
        and all(map(_finite, statistics.values())),
        **{
            f"{name} must be three whole numbers, at most {_LARGEST}, of {_MOST_VOXELS:.1e} voxels": isinstance(
                size, list
            )
            and len(size) == 3
            and all(_count(one, _LARGEST) for one in size)
            and math.prod(size) <= _MOST_VOXELS
            for name, size in sizes.items()
        },
    }
    problems = [rule for rule, kept in rules.items() if not kept]
    if problems:
        raise ValueError("; ".join(problems))


def _rules_of_others(network: Mapping[str, Any]) -> dict[str, bool]:
    place = network["background"]
    return {
        "output must be one of " + ", ".join(OUTPUTS): network["output"] in OUTPUTS,
        "background must be the number of a channel": place is None or place == 0 or _count(place, _MOST_BUNDLES),
        "coordinates must be true or false": isinstance(network["coordinates"], bool),
    }


def _rules_of_network(network: Mapping[str, Any]) -> dict[str, bool]:
    channels = network["channels"]
    return {
        "channels must be numbers of feature maps": isinstance(channels, list)
        and 0 < len(channels) <= _DEEPEST
        and all(_count(one, _MOST_FEATURES) for one in channels),
        "in_channels and out_channels must be numbers of channels": all(
            _count(network[name], _MOST_BUNDLES) for name in ("in_channels", "out_channels")
        ),
        "deep_supervision must be true or false": isinstance(network.get("deep_supervision", False), bool),
    }


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and name_problem(value) is None


def _count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _spread(told: Any) -> bool:
    """Whether mean and standard deviation of one measure are."""
    return _number(told["mean"]) and _number(told["sd"]) and told["sd"] >= 0


def _finite(layer: Any) -> bool:
    """Whether the statistics of one layer are: mean and standard deviation of as many channels, and of how many."""
    mean, sd = layer["mean"], layer["sd"]
    both = isinstance(mean, list) and isinstance(sd, list) and len(mean) == len(sd)
    return both and _count(layer["n"], 10**9) and all(map(_number, mean)) and all(_number(x) and x >= 0 for x in sd)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(path: Path) -> bool:
    """Whether a folder holds a checkpoint that was written to its end: weights come last."""
    return (path / _WEIGHTS).is_file()


_SHOWN = 5
_ABSENT = "nothing"


def require_same(there: Mapping[str, Any], now: Mapping[str, Any], folder: Path, what: str = "a training") -> None:
    """Refuse to go on with what was begun with other settings: a `ConfigError` names what differs, with both values.

    Settings are as JSON can hold them; mappings in mappings are compared entry by entry.

    Examples
    --------
    >>> require_same({"seed": 0}, {"seed": 0}, Path("out"))
    >>> require_same({"schedule": {"epochs": 30}}, {"schedule": {"epochs": 60}}, Path("out"))
    Traceback (most recent call last):
    ...
    shiftkit.errors.ConfigError: out holds a training made otherwise: schedule.epochs is 30 there, 60 now...
    """
    # Through JSON, as what is on disk came: tuples are lists there.
    one, two = _flat(json.loads(json.dumps(there))), _flat(json.loads(json.dumps(now)))
    differ = [name for name in {**one, **two} if one.get(name, _ABSENT) != two.get(name, _ABSENT)]
    if not differ:
        return
    values = [(name, *(_as_told(part.get(name, _ABSENT)) for part in (one, two))) for name in differ]
    words = [f"{name} is {before} there, {after} now" for name, before, after in values]
    raise ConfigError(
        f"{folder} holds {what} made otherwise: {named(words, _SHOWN, '; ')}. Give the same settings, models and "
        "images, or another `out`."
    )


def _as_told(value: Any) -> Any:
    """A value as a message shows it: of a digest its beginning."""
    return f"{value[:12]}…" if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _metadata(model: Model) -> dict[str, Any]:
    return {
        "version": version("shiftkit"),
        "name": model.name,
        "task": "White-matter bundle segmentation",
        "monai_version": ">=1.4",
        "pytorch_version": ">=2.8",
        "network_data_format": {
            "inputs": {"image": {"type": "image", "num_channels": _seen_channels(model)}},
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "num_channels": len(model.bundles),
                    "channel_def": {str(number): bundle.label for number, bundle in enumerate(model.bundles)},
                }
            },
        },
        "shiftkit": {
            "name": model.name,
            "network": _network_block(model),
            "modality": model.modality,
            "orientation": "RAS",
            "peaks": "world RAS+, largest component positive",
            "normalization": NORMALIZATION,
            "bundles": [bundle.label for bundle in model.bundles],
            "spacing_mm": model.spacing_mm,
            "shape": list(model.shape),
            "patch": None if model.patch is None else list(model.patch),
            "thresholds": {bundle.label: value for bundle, value in model.thresholds.items()},
            "participants": dict(model.participants),
            "training": dict(model.training),
            "overconfidence": model.overconfidence,
            "feature_statistics": dict(model.feature_statistics),
            "image_statistics": [dict(one) for one in model.image_statistics],
            "digest": model.digest,
        },
    }


def description_of(model: Model) -> dict[str, Any]:
    """What somebody with the network alone has to know: what goes in, in which scale and grid, and what comes out."""
    return {
        "name": model.name,
        "modality": model.modality,
        "bundles": [bundle.label for bundle in model.bundles],
        "spacing_mm": model.spacing_mm,
        "orientation": "RAS",
        "shape": list(model.shape),
        "patch": None if model.patch is None else list(model.patch),
        "output": "logits",
        "coordinates": True,
        "thresholds": {bundle.label: value for bundle, value in model.thresholds.items()},
        "normalization": NORMALIZATION,
    }


def _seen_channels(model: Model) -> int:
    return model.network.n_inputs if isinstance(model.network, ForeignNetwork) else model.in_channels


def _network_block(model: Model) -> dict[str, Any]:
    if isinstance(model.network, ForeignNetwork):
        # How to know it again: the code is its author's, and is not kept.
        network = model.network
        return {
            "class": model.kind,
            "code": _code(network),
            "output": network.output,
            "background": network.background,
            "coordinates": network.n_inputs > channels_of(model.modality),
        }
    if model.architecture is None:
        raise ConfigError(f"A checkpoint says how its network is built; of {model.name} that is not known.")
    return dataclasses.asdict(model.architecture)


def _model_card(model: Model) -> str:
    settings = "\n".join(f"| {key} | {value} |" for key, value in model.training.items())
    patches = ""
    if model.patch is not None:
        patches = f", seen through overlapping windows of {' × '.join(map(str, model.patch))} voxels"
    return (
        f"# {model.name}\n\n{model}.\n\nInput: {model.modality} at {model.spacing_mm:g} mm, RAS order, a box of "
        f"{' × '.join(map(str, model.shape))} voxels around the brain{patches}.\n\n"
        f"Output: one probability map a bundle: {', '.join(bundle.label for bundle in model.bundles)}.\n\n"
        f"| training | |\n|---|---|\n{settings}\n\n"
        "Research only, not for clinical use. Images of people, scanners or bundles other than those it was trained "
        "on are out of its domain: measure the shift before you trust it.\n"
    )
