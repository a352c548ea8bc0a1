"""The state of a training on disk: what it takes to continue after a kill and end with the same weights."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...files import atomic, write_text
from ..network.checkpoints import require_same, set_weights, weights_of


@dataclasses.dataclass(kw_only=True)
class State:
    """How far a training has come; grows by one entry an epoch, with the loss and, where it was measured, the Dice.

    ``weights`` are those of the best validation so far; without validation the best epoch is the last, of Dice NaN.
    """

    log: list[dict[str, float]]
    best_epoch: int
    best_dice: float
    weights: dict[str, Tensor]
    precision: str = "float32"

    def add(self, entry: dict[str, float], network: nn.Module) -> None:
        """Append an epoch and keep its weights if they are the best; without validation every epoch is."""
        self.log.append(entry)
        validated = any("dice" in one for one in self.log)
        # A best value of NaN is beaten by any number.
        if not validated or ("dice" in entry and not entry["dice"] <= self.best_dice):
            self.best_epoch, self.best_dice = int(entry["epoch"]), entry.get("dice", float("nan"))
            self.weights = weights_of(network)


@dataclasses.dataclass(frozen=True)
class StateFolder:
    """Where the state of a training is kept, and what must be the same for it to go on; without a folder it is not."""

    folder: Path | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    @property
    def started_with(self) -> Mapping[str, Any]:
        """Settings of the training whose state is here; none where none is, or where it does not say."""
        if self.folder is None or not (self.folder / "log.json").is_file():
            return {}
        return json.loads((self.folder / "log.json").read_text(encoding="utf-8")).get("settings", {})

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, reached: State) -> None:
        """Write the state so that a kill at any moment leaves this one or the one before, never a mixture."""
        if self.folder is None:
            return
        tensors = {f"now/{name}": tensor for name, tensor in weights_of(network).items()}
        tensors |= {f"best/{name}": tensor for name, tensor in reached.weights.items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
        epoch = len(reached.log)
        with atomic(self.folder / f"epoch-{epoch}.safetensors") as part:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, part)
        # The log names the weights it belongs to and is replaced last: the pair is whole or not there.
        best = {"epoch": reached.best_epoch, "dice": reached.best_dice}
        content = {"log": reached.log, "best": best, "settings": dict(self.settings)}
        write_text(self.folder / "log.json", json.dumps(content))
        # Only now: until the log was replaced, the file before was the one that counts.
        for old in self.folder.glob("epoch-*.safetensors"):
            if old.stem != f"epoch-{epoch}":
                old.unlink()

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
        """Bring network and optimizer to where a training was; a new `State` where nothing is saved.

        What was started with other settings is refused; see `require_same`.
        """
        if self.folder is None or not (self.folder / "log.json").is_file():
            return State(log=[], best_epoch=0, best_dice=float("nan"), weights=weights_of(network))
        record = json.loads((self.folder / "log.json").read_text(encoding="utf-8"))
        require_same(record.get("settings", {}), self.settings, self.folder)
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in load_file(self.folder / f"epoch-{len(record['log'])}.safetensors").items():
            kind, rest = name.split("/", 1)
            if kind == "adam":
                index, moment = rest.split("/")
                moments.setdefault(int(index), {})[moment] = tensor
            else:
                parts[kind][rest] = tensor
        set_weights(network, parts["now"])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        for parameter, one in optimizer.state.items():
            # As the parameter lies in memory: the fused optimizer takes them side by side.
            one |= {
                name: torch.empty_like(parameter).copy_(moment)
                for name, moment in one.items()
                if moment.shape == parameter.shape
            }
        best = record["best"]
        return State(log=record["log"], best_epoch=best["epoch"], best_dice=best["dice"], weights=parts["best"])


def network_settings(network: nn.Module) -> dict[str, str]:
    """Digests of a network's weights as they are now, and of the names of what is trained of it."""
    weights = hashlib.sha256()
    for name, tensor in weights_of(network).items():
        weights.update(f"{name} {tuple(tensor.shape)}".encode())
        weights.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    trained = " ".join(name for name, parameter in network.named_parameters() if parameter.requires_grad)
    return {"start": weights.hexdigest()[:16], "trained": hashlib.sha256(trained.encode()).hexdigest()[:16]}
