"""The training loop that source training and fine-tuning share."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import ConfigError
from ..files import atomic, write_text
from .augmentation import light as augment
from .data import Sample
from .losses import dice_bce, hard_dice

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    epochs : int
        Passes over the training participants.
    learning_rate : float
        At the start; it falls to zero along a half cosine.
    weight_decay : float
        Of AdamW.
    validate_every : int
        Epochs between validations; the weights of the best one are kept.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 1e-4
    validate_every: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """What training ended with.

    Parameters
    ----------
    log : tuple of dict
        One entry an epoch: loss, learning rate, validation Dice where it was measured.
    best_epoch : int
        Epoch of the weights that were kept.
    best_dice : float
        Mean validation Dice of that epoch; NaN without validation.
    """

    log: tuple[dict[str, float], ...]
    best_epoch: int
    best_dice: float


def pick_device(device: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda`` into a device.

    Raises
    ------
    ConfigError
        If a GPU is asked for and there is none: the CPU is never taken silently instead.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"--device is auto, cpu or cuda; got {device!r}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda needs a GPU that PyTorch can use; there is none here. Use auto or cpu.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def fit(
    network: nn.Module,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    schedule: Schedule,
    *,
    seed: int,
    device: str = "auto",
    state: Path | None = None,
    text: str = "Training",
    progress: Progress | None = None,
) -> Fit:
    """Train the parameters of a network that require gradients; the best validated weights end up in it.

    Order, augmentation and initialization of each step depend on the seed and the step's place alone, so a
    run that is continued from ``state`` ends with the same weights as one that was not interrupted.

    Parameters
    ----------
    network : Module
        Changed in place.
    training, validation : sequence of Sample
        Participants with reference masks; without validation the last weights are kept.
    schedule : Schedule
        Epochs and learning rate.
    seed : int
        Of order and augmentation.
    device : str
        ``auto``, ``cpu`` or ``cuda``.
    state : Path, optional
        Folder that gets the state after each epoch, and is continued from if it holds one.
    text : str
        Name of the stage for ``progress``.
    progress : callable, optional
        Called as ``progress(done, total, text)`` after each step.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=pick_device(device).type == "cpu")
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    total = schedule.epochs * len(training)
    progress_so_far = _restore(state, network, optimizer)
    network, optimizer = accelerator.prepare(network, optimizer)
    for epoch in range(len(progress_so_far["log"]), schedule.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(training))
        losses: list[float] = []
        network.train()
        for step, index in enumerate(order):
            done = epoch * len(training) + step
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate * 0.5 * (1 + np.cos(np.pi * done / total))
            rng = np.random.default_rng([seed, epoch, int(index)])
            image, target, known = _tensors(augment(training[index], rng), accelerator.device)
            optimizer.zero_grad(set_to_none=True)
            loss = dice_bce(network(image), target, known)
            accelerator.backward(loss)
            torch.nn.utils.clip_grad_norm_(trainable, 5.0)
            optimizer.step()
            losses.append(float(loss.detach()))
            if progress is not None:
                progress(done + 1, total, text)
        entry = {"epoch": epoch + 1, "loss": float(np.mean(losses))}
        if validation and ((epoch + 1) % schedule.validate_every == 0 or epoch + 1 == schedule.epochs):
            entry["dice"] = _validate(network, validation, accelerator.device)
        progress_so_far["log"].append(entry)
        _keep_best(progress_so_far, entry, accelerator.unwrap_model(network))
        _save(state, accelerator.unwrap_model(network), optimizer.optimizer, progress_so_far)
    bare = accelerator.unwrap_model(network).cpu()
    bare.load_state_dict(progress_so_far["weights"])
    bare.eval()
    best = progress_so_far["best"]
    return Fit(log=tuple(progress_so_far["log"]), best_epoch=int(best["epoch"]), best_dice=float(best["dice"]))


def _tensors(sample: Sample, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    assert sample.target is not None and sample.known is not None
    image = torch.from_numpy(np.ascontiguousarray(sample.image))[None].to(device)
    target = torch.from_numpy(np.ascontiguousarray(sample.target))[None].to(device, torch.float32)
    known = torch.from_numpy(sample.known)[None].to(device)
    return image.to(memory_format=torch.channels_last_3d), target, known


def _validate(network: nn.Module, samples: Sequence[Sample], device: torch.device) -> float:
    network.eval()
    values: list[float] = []
    with torch.no_grad():
        for sample in samples:
            image, target, known = _tensors(sample, device)
            values.append(float(hard_dice(network(image), target, known).nanmean()))
    return float(np.mean(values))


def _keep_best(so_far: dict[str, Any], entry: dict[str, float], network: nn.Module) -> None:
    """Without validation every epoch is the best so far."""
    validated = any("dice" in one for one in so_far["log"])
    if not validated or ("dice" in entry and not entry["dice"] <= so_far["best"]["dice"]):
        so_far["best"] = {"epoch": entry["epoch"], "dice": entry.get("dice", float("nan"))}
        so_far["weights"] = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def _save(state: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer, so_far: dict[str, Any]) -> None:
    if state is None:
        return
    tensors = {f"now/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best/{name}": tensor for name, tensor in so_far["weights"].items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{index}/{name}": torch.as_tensor(value) for name, value in moments.items()}
    with atomic(state / f"epoch-{len(so_far['log'])}.safetensors") as part:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, part)
    # The log names the weights it belongs to and is replaced last: the pair is whole or not there.
    write_text(state / "log.json", json.dumps({"log": so_far["log"], "best": so_far["best"]}))
    for old in state.glob("epoch-*.safetensors"):
        if old.stem != f"epoch-{len(so_far['log'])}":
            old.unlink()


def _restore(state: Path | None, network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    if state is None or not (state / "log.json").is_file():
        return {"log": [], "best": {"epoch": 0, "dice": float("nan")}, "weights": dict(network.state_dict())}
    record = json.loads((state / "log.json").read_text(encoding="utf-8"))
    tensors = load_file(state / f"epoch-{len(record['log'])}.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, rest = name.split("/", 1)
        if kind == "adam":
            index, moment = rest.split("/")
            moments.setdefault(int(index), {})[moment] = tensor
        else:
            parts[kind][rest] = tensor
    network.load_state_dict(parts["now"])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return {**record, "weights": parts["best"]}
