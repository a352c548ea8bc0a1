"""What the encoder makes of an image: channel means over the brain at each depth."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .data import COORDINATE_CHANNELS, Sample


def encoder_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of the default U-Net's encoder from the input down, by name; none for other networks."""
    modules = dict(network.named_modules())
    layers: dict[str, nn.Module] = {}
    path = "model"
    while f"{path}.0" in modules and f"{path}.1.submodule" in modules:
        layers[f"encoder-{len(layers) + 1}"] = modules[f"{path}.0"]
        path = f"{path}.1.submodule"
    if layers:
        layers[f"encoder-{len(layers) + 1}"] = modules[path]
    return layers


def feature_means(network: nn.Module, sample: Sample) -> dict[str, NDArray[np.float64]]:
    """Mean of each channel over the brain, for each encoder block.

    Parameters
    ----------
    network : Module
        In evaluation mode.
    sample : Sample
        One participant on the model's grid.

    Returns
    -------
    dict of str to ndarray, shape (channels,)
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept[name] = output.detach()

    handles = [layer.register_forward_hook(partial(keep, name)) for name, layer in encoder_layers(network).items()]
    device = next(network.parameters()).device
    image = torch.from_numpy(np.ascontiguousarray(sample.image))[None].to(device)
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    brain = image[:, :-COORDINATE_CHANNELS].abs().amax(dim=1, keepdim=True).gt(0).float()
    means: dict[str, NDArray[np.float64]] = {}
    for name, output in kept.items():
        weight = nn.functional.interpolate(brain, size=output.shape[2:], mode="area")
        mean = (output * weight).sum(dim=(0, 2, 3, 4)) / weight.sum().clamp(min=1e-6)
        means[name] = mean.double().cpu().numpy()
    return means


def feature_statistics(network: nn.Module, samples: Sequence[Sample]) -> Mapping[str, Any]:
    """Mean and standard deviation over participants of each channel's mean, for each encoder block.

    The reference against which a new image's features are compared; rounded, so that they stay readable.
    """
    rows = [feature_means(network, sample) for sample in samples]
    return {
        name: {
            "mean": [round(x, 5) for x in np.mean([row[name] for row in rows], axis=0).tolist()],
            "sd": [round(x, 5) for x in np.std([row[name] for row in rows], axis=0, ddof=1).tolist()],
            "n": len(rows),
        }
        for name in (rows[0] if len(rows) > 1 else {})
    }
