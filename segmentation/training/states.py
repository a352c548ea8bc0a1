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

from ...errors import ConfigError
from ...files import atomic, write_text


@dataclasses.dataclass(kw_only=True)
class State:
    """How far a training has come; grows by one entry an epoch.

    Parameters
    ----------
    log : list of dict
        One entry an epoch.
    best_epoch, best_dice
        Of the best validation so far; without validation, the last epoch and NaN.
    weights : dict of str to Tensor
        The best epoch's.
    """

    log: list[dict[str, float]]
    best_epoch: int
    best_dice: float
    weights: dict[str, Tensor]

    def add(self, entry: dict[str, float], network: nn.Module) -> None:
        """Append an epoch and keep its weights if they are the best; without validation every epoch is."""
        self.log.append(entry)
        validated = any("dice" in one for one in self.log)
        # A best value of NaN is beaten by any number.
        if not validated or ("dice" in entry and not entry["dice"] <= self.best_dice):
            self.best_epoch, self.best_dice = int(entry["epoch"]), entry.get("dice", float("nan"))
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def save_state(
    folder: Path | None,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    reached: State,
    settings: Mapping[str, Any],
) -> None:
    """Write the state so that a kill at any moment leaves this one or the one before, never a mixture.

    Parameters
    ----------
    folder : Path or None
        Where to; nothing is written without one.
    network, optimizer
        As they are now.
    reached : State
        How far the training has come.
    settings : mapping
        What it was started with, as JSON can hold it.
    """
    if folder is None:
        return
    tensors = {f"now/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in reached.weights.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    epoch = len(reached.log)
    with atomic(folder / f"epoch-{epoch}.safetensors") as part:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, part)
    # The log names the weights it belongs to and is replaced last: the pair is whole or not there.
    best = {"epoch": reached.best_epoch, "dice": reached.best_dice}
    write_text(folder / "log.json", json.dumps({"log": reached.log, "best": best, "settings": dict(settings)}))
    for old in folder.glob("epoch-*.safetensors"):
        if old.stem != f"epoch-{epoch}":
            old.unlink()


def restore_state(
    folder: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, Any]
) -> State:
    """Bring network and optimizer to where a training was; a new `State` where nothing is saved.

    Raises
    ------
    ConfigError
        If what is saved was started with other settings.
    """
    if folder is None or not (folder / "log.json").is_file():
        weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        return State(log=[], best_epoch=0, best_dice=float("nan"), weights=weights)
    record = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    require_same(record.get("settings", {}), settings, folder)
    parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(folder / f"epoch-{len(record['log'])}.safetensors").items():
        kind, rest = name.split("/", 1)
        if kind == "adam":
            index, moment = rest.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
        else:
            parts[kind][rest] = tensor
    network.load_state_dict(parts["now"])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    best = record["best"]
    return State(log=record["log"], best_epoch=best["epoch"], best_dice=best["dice"], weights=parts["best"])


_SHOWN = 5
_ABSENT = "nothing"


def require_same(there: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Refuse to continue what was started with other settings.

    Parameters
    ----------
    there, now : mapping
        Settings by name, as JSON can hold them; mappings in mappings are compared entry by entry.
    folder : Path
        Where the training is, for the message.

    Raises
    ------
    ConfigError
        Naming what differs, with both values.

    Examples
    --------
    >>> require_same({"seed": 0}, {"seed": 0}, Path("out"))
    >>> require_same({"schedule": {"epochs": 30}}, {"schedule": {"epochs": 60}}, Path("out"))
    Traceback (most recent call last):
    ...
    shiftkit.errors.ConfigError: ... schedule.epochs is 30 there, 60 now...
    """
    one, two = _flat(json.loads(json.dumps(there))), _flat(json.loads(json.dumps(now)))
    differ = [name for name in {**one, **two} if one.get(name, _ABSENT) != two.get(name, _ABSENT)]
    if not differ:
        return
    words = [f"{name} is {one.get(name, _ABSENT)} there, {two.get(name, _ABSENT)} now" for name in differ[:_SHOWN]]
    more = f", and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
    raise ConfigError(
        f"A training is continued with the settings it was started with; in {folder} {'; '.join(words)}{more}. "
        "Give the same settings, or another --out to train anew."
    )


def network_settings(network: nn.Module) -> dict[str, str]:
    """Digests of a network's weights as they are now, and of the names of what is trained of it."""
    weights = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        weights.update(f"{name} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    trained = " ".join(name for name, parameter in network.named_parameters() if parameter.requires_grad)
    return {"start": weights.hexdigest()[:16], "trained": hashlib.sha256(trained.encode()).hexdigest()[:16]}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
