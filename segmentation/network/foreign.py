"""Networks that others wrote, made to speak as those here do: images and coordinates in, logits out.

Nothing is asked of such a network but that it maps an image to one channel a bundle, or to labels. What it answers is
checked each time, so that a participant for whom it makes no sense fails by name, and no mask is written.
"""

import copy
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, DataError, ModelMismatchError, ShiftkitError
from ...files import require_file
from ..samples.patches import Size
from .building import fitting_results
from .devices import device_of
from .onnx_files import OnnxNetwork

OUTPUTS = ("logits", "probabilities", "labels")
BACKGROUND = "background"
"""Among bundles, the name of a channel or label that is none."""

_SURE = 16.0
"""Logit of a label: its sigmoid is 1 in single precision, but for 1e-7."""
_LEAST = 1e-6
"""Of a probability, and what it lacks to 1 at least: a logit must be finite."""
_ROUNDING = 1e-3


class ForeignNetwork(nn.Module):
    """A network of somebody else, with the input and output of those here.

    Parameters
    ----------
    network : Module
        From (N, C, X, Y, Z), the image's own channels, to what ``output`` says.
    output : str
        ``logits`` or ``probabilities``, shape (N, B, X, Y, Z); ``labels``, either whole numbers of shape (N, X, Y, Z)
        or (N, 1, X, Y, Z), 0 being no bundle and k the k-th, or 0 and 1 of shape (N, B, X, Y, Z).
    n_inputs, n_bundles : int
        Image channels without coordinates, and bundles.
    background : int, optional
        Place of a channel that is no bundle. Logits then exclude each other: softmax, not sigmoid, makes
        probabilities of them.
    shape : tuple of int
        The box in voxels that it is going to see.
    definition : mapping, optional
        How MONAI builds the network, where it came as a bundle.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        output: str,
        n_inputs: int,
        n_bundles: int,
        background: int | None,
        shape: Size,
        definition: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.output, self.n_inputs, self.n_bundles, self.background = output, n_inputs, n_bundles, background
        self.shape, self.definition = shape, definition
        self._computed: set[tuple[int, ...]] = set()

    def forward(self, image: Tensor) -> Tensor:
        """Logits, shape (N, B, X, Y, Z), of images followed by coordinates, shape (N, C + 3, X, Y, Z).

        While it is trained, a network of probabilities answers with these: where it is sure and wrong, the way through
        a logit, which must be finite, would have no gradient.

        A `ModelMismatchError` where the network fails, or answers with something else than it should.
        """
        # A copy: what a network does to its input in place must not reach the sample, which is looked at again.
        seen = image[:, : self.n_inputs].clone()
        shape = tuple(seen.shape)
        # What code of one's own needs its author knows; of a bundle nobody does, until it has seen such an image once.
        unknown = self.definition is not None and not self.training and shape not in self._computed
        try:
            with fitting_results(shape) if unknown else nullcontext():
                answer: Any = self.network(seen)
        except (ShiftkitError, MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # it is not our code: whatever it raises is this image's, or the network's, fault
            told = " ".join(str(error).split())[:_LONGEST_TOLD]
            raise ModelMismatchError(
                f"The network must take an image of shape {tuple(seen.shape)}; it raised {type(error).__name__}: "
                f"{told}. If it needs other sizes, give the model's `shape`; if other channels, its `modality`."
            ) from error
        self._computed.add(shape)
        checked = self._checked(answer, (len(seen), *seen.shape[2:]))
        return self._bundles(checked) if self.training and self.answers_probabilities else self._logits(checked)

    @property
    def answers_probabilities(self) -> bool:
        """Whether the network's own answer is probabilities, which is what it is trained on."""
        return self.output == "probabilities"

    def identity(self) -> bytes:
        """What makes it this network besides its weights: how it is read, its parts, and their code if it is known."""
        read = (self.output, self.n_inputs, self.n_bundles, self.background, repr(self.network))
        return "\n".join([*map(str, read), *_sources(self.network)]).encode()

    def _checked(self, answer: Any, shape: tuple[int, ...]) -> Tensor:
        n, *size = shape
        channels = self.n_bundles + (self.background is not None)
        wanted = f"(N, {channels}, {', '.join(map(str, size))})"
        if not isinstance(answer, Tensor):
            raise ModelMismatchError(
                f"The network must answer with one tensor of shape {wanted}; it answered with a "
                f"{type(answer).__name__}. Wrap it in a module that returns the tensor."
            )
        got = tuple(answer.shape)
        if got[:1] != (n,):
            raise ModelMismatchError(
                f"The network must answer with one result an image, shape {wanted} with N = {n}; it answered with "
                f"{got}. Leave the first axis as it is."
            )
        maps = self.output == "labels" and got[1:] in (tuple(size), (1, *size))
        if not maps and got[1:] != (channels, *size):
            raise ModelMismatchError(
                f"The network must answer with one channel a bundle, shape {wanted}; it answered with {got}. "
                + (
                    f"If one of its {got[1]} channels is the background, name it among `bundles`, as {BACKGROUND}."
                    if len(got) == 5 and got[1] == channels + 1 and self.background is None
                    else "Name as many `bundles` as it has channels, in their order, and return the image's own size."
                )
            )
        if answer.is_complex() or (self.output == "logits" and not answer.is_floating_point()):
            # Of a mask of 0 and 1 taken for logits every voxel would be inside.
            raise ModelMismatchError(
                f"Logits are real numbers of any size; the network answered with {_kind(answer)}. If it answers with "
                "labels or masks, say so with `output`: labels."
            )
        answer = answer.float()
        if not torch.isfinite(answer).all():
            # Of NaN every comparison is false: the bundle would be booked as missed.
            raise ModelMismatchError(
                "The network must answer with finite numbers; NaN or infinite ones are among them. Look for absurd "
                "values in the image, and for a division by zero in the network."
            )
        if self.answers_probabilities:
            _require_shares(answer)
        return self._channels(answer.reshape(got[0], 1, *size)) if maps and channels != 1 else answer

    def _channels(self, labels: Tensor) -> Tensor:
        """One channel a bundle, and one for the background where it is named, of whole numbers."""
        places = self.n_bundles + (self.background is not None)
        first = 0 if self.background is not None else 1
        last = first + places - 1
        strange = labels[(labels != labels.round()) | (labels < 0) | (labels > last)]
        if strange.numel():
            raise ModelMismatchError(
                f"The network must answer with labels from 0 to {last}, as `bundles` name them; "
                f"{strange.flatten()[0].item():g} is among them. Name every label, or give another `output`."
            )
        return torch.cat([labels == place for place in range(first, last + 1)], dim=1).float()

    def _logits(self, answer: Tensor) -> Tensor:
        if self.output == "logits" and self.background is None:
            return answer
        if self.output == "logits":
            # log(p / (1 - p)) of a softmax: what is against a channel is all the others together.
            others = torch.stack([_without(answer, place).logsumexp(1) for place in range(answer.shape[1])], dim=1)
            return self._bundles(answer - others)
        if self.output == "labels":
            strange = answer[(answer != 0) & (answer != 1)]
            if strange.numel():
                raise ModelMismatchError(
                    f"Labels of one channel a bundle are 0 and 1; {strange.flatten()[0].item():g} is among them. Say "
                    "what these numbers are with `output`: logits or probabilities."
                )
            return self._bundles((2 * answer - 1) * _SURE)
        return self._bundles(torch.logit(answer, eps=_LEAST))

    def require_logits(self, answer: Tensor) -> None:
        """Refuse, with a `ModelMismatchError`, what an image was answered with where logits were to be and are not."""
        low, high = answer.min().item(), answer.max().item()
        if self.output == "logits" and self.background is None and 0 <= low < _NONE and _ALL < high <= 1:
            # Of logits it would say that every voxel of the image lies inside of every bundle.
            raise ModelMismatchError(
                f"Logits are below 0 outside of a bundle; the network answered with {low:g} to {high:g} for a whole "
                "image, as probabilities do. If these are probabilities, say so with `output`."
            )

    def _bundles(self, channels: Tensor) -> Tensor:
        return channels if self.background is None else _without(channels, self.background)


_LONGEST_TOLD = 300
_NONE, _ALL = 0.1, 0.9
"""Between them lie probabilities of a network that has learned nothing; its logits may too."""


def _kind(answer: Tensor) -> str:
    return "complex numbers" if answer.is_complex() else f"whole numbers, {str(answer.dtype).removeprefix('torch.')}"


def _require_shares(answer: Tensor) -> None:
    low, high = answer.min().item(), answer.max().item()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ModelMismatchError(
            f"Probabilities lie between 0 and 1; the network answered with {low:g} to {high:g}. If these are "
            "logits, say so with `output`."
        )


def authored(network: nn.Module) -> nn.Module:
    """A network as its author knows it, whose parameters have the author's names; those here are as they are."""
    return network.network if isinstance(network, ForeignNetwork) else network


def _without(channels: Tensor, place: int) -> Tensor:
    return torch.cat([channels[:, :place], channels[:, place + 1 :]], dim=1)


def _sources(network: nn.Module) -> Iterator[str]:
    """Code of the classes that are not PyTorch's: with the same weights, another `forward` is another network."""
    kinds = {type(module) for module in network.modules() if not type(module).__module__.startswith("torch.")}
    for kind in sorted(kinds, key=lambda one: (one.__module__, one.__qualname__)):
        with suppress(OSError, TypeError):  # written at a prompt
            yield inspect.getsource(kind)


_MOST_LAYERS = 8
_FEWEST_LAYERS = 4


def choose_layers(network: ForeignNetwork) -> list[str]:
    """Submodules of a network at which features are taken, by their path, in the order in which an image meets them.

    The network sees noise once. Of its innermost modules that give one map a channel, and that it uses once, all are
    taken if there are at most eight. Of more, the last one at each resolution on the way down and up; where that gives
    fewer than four, since the network hardly changes the resolution, eight at equal distances.
    """
    if isinstance(network.network, OnnxNetwork):
        raise ConfigError(
            "Features are taken inside a network, and an ONNX file is computed as a whole. Give the torch.nn.Module "
            "that it was exported from."
        )
    places = _met(network)
    names = [name for name, _ in places]
    usable = [(name, size) for name, size in places if size and names.count(name) == 1]
    if not usable:
        raise ConfigError(
            "Features are taken where a module of the network gives one map a channel, shape (N, C, X, Y, Z); this one "
            "has no such module. Build it of modules, as torch.nn.Conv3d."
        )
    found = [name for name, _ in usable]
    if len(usable) <= _MOST_LAYERS:
        return found
    after = [*(size for _, size in usable[1:]), ()]
    ends = [name for (name, size), then in zip(usable, after, strict=True) if size != then]
    if len(ends) >= _FEWEST_LAYERS:
        return ends
    steps = [round(i * (len(found) - 1) / (_MOST_LAYERS - 1)) for i in range(_MOST_LAYERS)]
    return [found[step] for step in steps]


def last_layer(network: ForeignNetwork) -> tuple[str, ...]:
    """Where a network makes its answer: paths of the last module with weights that an image meets, and of what follows.

    The network sees noise once. What follows, such as a normalization, has parameters and no weights of two or more
    dimensions. A network of one module alone has no path for it, and gives its parameters' names.
    """
    modules = dict(network.network.named_modules())
    # What cannot be followed, as compiled modules, is taken in the order in which it was built.
    met = [name for name, _ in _met(network)] or list(modules)
    learned = [name for name in met if [*modules[name].parameters(recurse=False)]]
    last = [i for i, name in enumerate(learned) if any(one.ndim > 1 for one in modules[name].parameters(recurse=False))]
    found = tuple(dict.fromkeys(learned[last[-1] if last else -1 :]))
    return found if all(found) else tuple(name for name, _ in network.network.named_parameters(recurse=False))


def normalization_layers(network: ForeignNetwork) -> tuple[str, ...]:
    """Paths of the normalization layers that have parameters: PyTorch's, and modules whose class is named so."""
    return tuple(
        name
        for name, one in network.network.named_modules()
        if name
        and (isinstance(one, _NORMALIZATIONS) or "norm" in type(one).__name__.lower())
        and [*one.parameters(recurse=False)]
    )


_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)  # pyright: ignore[reportPrivateUsage]


def require_parameters(network: ForeignNetwork) -> None:
    """Refuse to tune, with a `ConfigError`, what has nothing that could be tuned."""
    if isinstance(network.network, OnnxNetwork):
        raise ConfigError(
            "Fine-tuning follows a gradient, and an ONNX file has none. Give the torch.nn.Module that it was exported "
            "from."
        )
    if next(network.parameters(), None) is None:
        raise ConfigError("Fine-tuning needs parameters, and this network has none. Build it of modules that learn.")


def require_gradient(network: ForeignNetwork, patch: Size | None = None) -> None:
    """Refuse, with a `ConfigError`, a network that cannot be trained: no gradient leads to what requires one.

    A copy of it, in training mode, sees noise once.
    """
    try:
        twin = copy.deepcopy(network).train()
    except Exception as error:
        told = " ".join(str(error).split())[:_LONGEST_TOLD]
        raise ConfigError(
            f"A network that is fine-tuned is copied, one copy a fold; this one cannot be: {type(error).__name__}: "
            f"{told}. Keep in the module only what copy.deepcopy takes."
        ) from error
    with torch.enable_grad():
        answer = twin(_noise(network, patch))
    if not answer.requires_grad:
        raise ConfigError(
            "Fine-tuning follows the gradient from the network's answer to its weights; this network's answer has "
            "none. Leave torch.no_grad, detach, rounding and argmax out of its forward."
        )


def _noise(network: ForeignNetwork, size: Size | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, network.n_inputs + 3, *(size or network.shape), generator=generator).to(device_of(network))


def _met(network: ForeignNetwork) -> list[tuple[str, tuple[int, ...]]]:
    """Innermost modules in the order in which an image meets them, each with the size of its map, () if it has none."""
    places: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            places.append((name, shape[2:] if len(shape) == 5 else ()))

        return keep

    inner = [(name, one) for name, one in network.network.named_modules() if name and not [*one.children()]]
    handles = [one.register_forward_hook(note(name)) for name, one in inner]
    try:
        with torch.no_grad():
            network(_noise(network))
    finally:
        for handle in handles:
            handle.remove()
    return places


_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")


def call_factory(name: str) -> Any:
    """What ``file.py:function`` returns: the file is run as Python code, and the function called without arguments.

    A `DataError` where the file is missing or fails, a `ConfigError` where it has no such function.
    """
    found = _FACTORY.fullmatch(name)
    if found is None:
        raise ConfigError(f"A network's code is named file.py:function; got {name!r}.")
    path, function = Path(found["file"]).expanduser().resolve(), found["function"]
    require_file(path, "file with your network")
    # Its own name, so that no module that is installed is taken for it, nor a second file of that name.
    called = f"shiftkit_network_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(called, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} must be a file of Python code; it cannot be read as one.")
    module = module_from_spec(spec)
    sys.modules[called] = module  # where Python looks for the source of its classes
    with _importing_beside(path.parent), _blamed_on(path):
        spec.loader.exec_module(module)
    make = getattr(module, function, None)
    if not callable(make):
        there = [one for one, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == called]
        raise ConfigError(
            f"{found['file']} has no function {function}; it has {', '.join(there) or 'none'}. Name one as "
            "file.py:function."
        )
    with _importing_beside(path.parent), _blamed_on(path):
        return make()


@contextmanager
def _importing_beside(folder: Path) -> Generator[None]:
    """As in a script, modules beside the file can be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


@contextmanager
def _blamed_on(path: Path) -> Generator[None]:
    try:
        yield
    except ShiftkitError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:_LONGEST_TOLD]
        raise DataError(f"The code of {path.name} must run; it raised {type(error).__name__}: {told}.") from error
