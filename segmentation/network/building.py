"""Networks of definitions that anybody may have written, built and computed in no more memory than there is for them.

A line of JSON can ask for any number of layers, channels or places in an attention window. So weights are looked at
first, by their names and shapes, which are not read for it (`weights`); a network is built in no more memory than these
need; their numbers are read once they are known to be its own; and no result it computes is larger than the machine.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ...errors import DataError, MachineError, ModelMismatchError
from ...words import readable
from ...work import machine_memory_bytes
from .weights import set_weights

_SPARE_PARTS, _SPARE_NUMBERS = 1000, 10_000_000
"""What a network may have beside its weights: modules that only pass on, and numbers that are replaced."""


def build_for(
    make: Callable[[], nn.Module], weights: Mapping[str, Tensor], place: Path, *, computing: bool = True
) -> nn.Module:
    """What ``make`` builds, with weights that lie at a place, in evaluation mode.

    Parameters
    ----------
    computing : bool
        Whether a network may compute while it is built. Those of shiftkit make parameters alone, and to count these
        takes no time.

    Raises
    ------
    DataError
        If the weights are not those of the network, before they are read, or if it asks for more than they need.
    MachineError
        If the machine has too little memory for them.
    """
    _require_memory(weights, place)
    if computing:
        # What does not compute after all takes no memory so. What does, fails, and is looked at below.
        with (
            suppress(NotImplementedError, RuntimeError),
            _no_larger_than(weights, place, computing=False),
            torch.device("meta"),
        ):
            require_weights_of(make(), weights, place)
    with _no_larger_than(weights, place, computing):
        network = make()
    require_weights_of(network, weights, place)
    set_weights(network, weights)
    return network.eval()


def require_weights_of(network: nn.Module, weights: Mapping[str, Tensor], place: Path) -> None:
    """Refuse, with a `DataError`, weights that are not those of a network, by names, shapes and kind of numbers."""
    state = {name: one for name, one in network.state_dict().items() if isinstance(one, Tensor)}
    wanted, found = ({name: tuple(one.shape) for name, one in there.items()} for there in (state, weights))
    wrong = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    if wrong:
        one = wrong[0]
        raise DataError(
            f"Weights must be those of the network that is defined beside them; of {place} {len(wrong)} of "
            f"{len(wanted)} tensors differ: {readable(one)[:_LONGEST_TOLD]} has shape {found.get(one, 'none')} on disk "
            f"and {wanted.get(one, 'none')} in the definition. Copy both again from one source."
        )
    whole = [name for name, one in state.items() if one.is_floating_point() and not weights[name].is_floating_point()]
    if whole:
        raise DataError(
            f"Weights are broken numbers, of whole ones nobody knows the scale; {readable(whole[0])} of {place} is "
            f"{str(weights[whole[0]].dtype).removeprefix('torch.')}. Save the weights as they were trained."
        )


_LONGEST_TOLD = 300
_COPIES = 2
"""Of weights in memory while they are put into a network: its own, and those that are read."""


def _require_memory(weights: Mapping[str, Tensor], place: Path) -> None:
    needed = _COPIES * sum(one.numel() * torch.float32.itemsize for one in weights.values())
    if needed > (have := machine_memory_bytes()):
        raise MachineError(
            f"The weights of {place} need {needed / 2**30:.3g} GiB of memory while they are loaded; this machine has "
            f"{have / 2**30:.3g}. Use one with more."
        )


@contextmanager
def _no_larger_than(weights: Mapping[str, Tensor], place: Path, computing: bool) -> Generator[None]:
    """Stop building a network once it is larger than its weights by far, before what is larger is made.

    Where nothing is ``computing``, its modules, parameters and buffers are counted; on the device meta these take none.
    """
    parts, numbers = 20 * len(weights), 2 * sum(one.numel() for one in weights.values())
    most = {"modules": parts + _SPARE_PARTS, "operations": parts + _SPARE_PARTS, "numbers": numbers + _SPARE_NUMBERS}
    seen = dict.fromkeys(most, 0)

    def require(what: str, size: int) -> None:
        if size > most[what]:
            raise DataError(
                f"Weights must be those of the network that is defined beside them; of {place} {len(weights)} tensors "
                f"are on disk, and the definition asks for more than {most[what]} {what}. Copy both again from one "
                "source."
            )

    def count(what: str, size: Callable[[Any], int]) -> Callable[[nn.Module, str, Any], None]:
        def note(module: nn.Module, name: str, part: Any) -> None:
            seen[what] += size(part)
            require(what, seen[what])

        return note

    def before(size: int) -> None:
        seen["operations"] += 1
        require("operations", seen["operations"])
        require("numbers", size)

    kept = count("numbers", lambda part: 0 if part is None or part.is_meta else part.numel())
    handles = [
        register_module_module_registration_hook(count("modules", lambda _: 1)),
        register_module_parameter_registration_hook(kept),
        register_module_buffer_registration_hook(kept),
    ]
    try:
        with _Before(before) if computing else nullcontext():
            yield
    finally:
        for handle in handles:
            handle.remove()


_MOST_MEMORY = 0.75
"""Share of the machine's memory that a network's results may take; the rest is for images and the system."""


def results_bytes() -> int:
    """Memory for the results of a network."""
    return int(_MOST_MEMORY * machine_memory_bytes())


def too_large(shape: tuple[int, ...], asked_bytes: float) -> ModelMismatchError:
    """What is said where an image of a shape leads to a result that the machine cannot hold."""
    return ModelMismatchError(
        f"Results of a network must fit into {results_bytes() / 2**30:.3g} GiB, {_MOST_MEMORY:.0%} of the machine's "
        f"memory; of an image of shape {tuple(shape)} this one makes one of {asked_bytes / 2**30:.3g} GiB beside "
        "others. Give a smaller `patch`, or mend the network if it should not."
    )


def fitting_results(shape: tuple[int, ...]) -> AbstractContextManager[Any]:
    """Within the block no operation makes a result that the machine cannot hold: it is refused before it is made."""
    most = results_bytes()

    def before(size: int) -> None:
        if size * torch.float32.itemsize > most:
            raise too_large(shape, size * torch.float32.itemsize)

    return _Before(before)


class _Before(TorchDispatchMode):
    """Tells how many numbers the result of each operation has, before it is computed."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        super().__init__()
        self.tell = tell

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute."""
        given = kwargs or {}
        self.tell(0 if func._schema.is_mutable else _numbers(func, args, given))  # what changes a tensor makes none
        return func(*args, **given)


def _numbers(func: Any, args: Any, given: Mapping[str, Any]) -> int:
    """Numbers in the largest result of an operation, as tried without any; 0 where that cannot be known."""
    bare, named = tree_map_only(Tensor, lambda one: one.to("meta"), (args, {**given}))
    if any(one.name == "device" for one in func._schema.arguments):
        named["device"] = torch.device("meta")
    try:
        made = func(*bare, **named)
    except Exception:  # its size depends on numbers: it is no larger than what it is made of
        return 0
    results = made if isinstance(made, tuple | list) else [made]
    return max((one.numel() for one in results if isinstance(one, Tensor)), default=0)
