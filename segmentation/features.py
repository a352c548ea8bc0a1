"""What the encoder makes of an image: channel means over the brain at each depth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .data import COORDINATE_CHANNELS, Sample
from .embeddings import capture, layers_of, pool


def encoder_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of the encoder from the input down, by name."""
    found = layers_of(network)
    return {name: layer for name, layer in found.items() if name.startswith("encoder")}


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
    device = next(network.parameters()).device
    image = torch.from_numpy(np.ascontiguousarray(sample.image))[None].to(device)
    kept, _ = capture(network, image, encoder_layers(network))
    brain = image[:, :-COORDINATE_CHANNELS].abs().amax(dim=1, keepdim=True).gt(0).float()
    means: dict[str, NDArray[np.float64]] = {}
    for name, output in kept.items():
        means[name] = pool(output, brain[0])[0].cpu().numpy()
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
