"""What a transfer takes over from its source, what it leaves behind, and what it will train."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...types import Bundle
from ..network.checkpoints import Model, weights_of
from ..network.foreign import authored
from .strategies import Strategy


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferPlan:
    """What will happen to every tensor of a network, before anything is trained.

    Parameters
    ----------
    loaded, widened : tuple of str
        Tensors taken over from the source; of these, those that got room for further bundles or input channels.
    skipped : tuple of str
        Tensors of the source that are not used: the network starts from random weights there.
    trained, frozen : tuple of str
        Parameters, by whether training may move them.
    estimated : tuple of str
        Running statistics that are estimated anew on the patients' images.
    heads, new_heads : tuple of Bundle
        Bundles whose head the source has, mapped by name; and those whose head starts from the mean of these.
    new_inputs : tuple of str
        Modalities that the source does not read; their weights start at zero.
    sizes : mapping of str to int
        Numbers in each tensor.
    """

    source: str
    strategy: str
    description: str
    loaded: tuple[str, ...]
    widened: tuple[str, ...]
    skipped: tuple[str, ...]
    trained: tuple[str, ...]
    frozen: tuple[str, ...]
    estimated: tuple[str, ...]
    heads: tuple[Bundle, ...]
    new_heads: tuple[Bundle, ...]
    new_inputs: tuple[str, ...]
    sizes: Mapping[str, int] = dataclasses.field(repr=False)

    def lines(self) -> tuple[str, ...]:
        """What a user is told: one fact a line."""
        told = [
            f"Strategy {self.strategy}: {self.description}",
            f"Loaded {_counted(len(self.loaded), 'tensor')} of {self.source}; skipped {len(self.skipped)}; training "
            f"{self._size(self.trained)}, frozen {self._size(self.frozen)}.",
        ]
        if self.estimated:
            told.append(f"Running statistics estimated on the patients: {_counted(len(self.estimated), 'tensor')}.")
        if self.new_heads:
            mapped, new = (" ".join(map(str, bundles)) for bundles in (self.heads, self.new_heads))
            told.append(f"Heads mapped by name: {mapped}; new, from the mean of these: {new}.")
        if self.new_inputs:
            told.append(f"New input: {' '.join(self.new_inputs)}, with weights that start at zero.")
        return tuple(told)

    def to_json(self) -> str:
        """Every tensor by name, for a file beside the fold model."""
        content: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "sizes"
        }
        for name in ("heads", "new_heads"):
            content[name] = [bundle.label for bundle in content[name]]
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        from html import escape

        return "".join(f"<p>{escape(line)}</p>" for line in self.lines())

    def _size(self, names: Sequence[str]) -> str:
        return f"{len(names)} ({sum(self.sizes[name] for name in names) / 1e6:.2f} M parameters)"


def plan_transfer(source: Model, start: Model, name: str, strategy: Strategy) -> TransferPlan:
    """Say what a strategy will do.

    ``source`` is the model as it was trained, ``start`` the same with further bundles or inputs; see
    `adaptation.add_bundles` and `adaptation.add_inputs`.
    """
    before, after = (weights_of(authored(model.network)) for model in (source, start))
    network = authored(start.network)
    parameters = [key for key, _ in network.named_parameters()]
    # Not the keys of the state: a network may hold one tensor under two names there. Others may hold buffers apart.
    tensors = (*parameters, *(key for key, _ in network.named_buffers() if key in after))
    keeps, had = strategy.keeps_source, source.modality.split("+")
    return TransferPlan(
        source=source.name,
        strategy=name,
        description=strategy.description,
        loaded=tensors if keeps else (),
        # Only bundles or inputs that were added change a shape, so these are the first and the last layers.
        widened=tuple(key for key in tensors if before[key].shape != after[key].shape) if keeps else (),
        skipped=() if keeps else tensors,
        trained=tuple(key for key in parameters if strategy.trains(key)),
        frozen=tuple(key for key in parameters if not strategy.trains(key)),
        estimated=tuple(key for key in tensors if strategy.statistics and "running_" in key),
        heads=tuple(bundle for bundle in start.bundles if bundle in source.bundles) if keeps else (),
        new_heads=tuple(bundle for bundle in start.bundles if bundle not in source.bundles) if keeps else (),
        new_inputs=tuple(part for part in start.modality.split("+") if part not in had) if keeps else (),
        sizes={key: tensor.numel() for key, tensor in after.items()},
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
