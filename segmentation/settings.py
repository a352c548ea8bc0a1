"""What a training was started with, so that it is never continued as another one."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ConfigError

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
