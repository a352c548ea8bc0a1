"""Giving a source model other bundles or another input without losing what it knows."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...errors import ConfigError, ModelMismatchError
from ...types import Bundle
from ..network.checkpoints import Model
from ..network.devices import device_of
from ..network.networks import Architecture, build_network
from ..samples.samples import COORDINATE_CHANNELS, Sample, channels_of


def add_bundles(model: Model, bundles: Sequence[Bundle]) -> Model:
    """A model that predicts further bundles too; those it predicts already are skipped.

    Heads are matched by bundle name. Every bundle the source predicts is predicted as before, to rounding:
    new channels feed nothing into old ones. A new bundle starts from the mean of the existing heads.
    """
    new = [bundle for bundle in dict.fromkeys(bundles) if bundle not in model.bundles]
    if not new:
        return model
    order = (*model.bundles, *new)
    thresholds = {bundle: model.thresholds.get(bundle, 0.5) for bundle in order}
    wider = _with_room(model, out_channels=len(order))
    wider.network.load_state_dict(_grown(model.network, wider.network))
    return dataclasses.replace(wider, bundles=order, thresholds=thresholds)


def add_inputs(model: Model, modality: str) -> Model:
    """A model that reads further modalities too, such as ``t1w+fa`` from one that reads ``t1w``.

    Weights of new channels are zero, so that the model starts by predicting what it did without them. A stack that does
    not begin with the model's own modalities is refused with a `ModelMismatchError`.
    """
    if modality == model.modality:
        return model
    if not modality.startswith(f"{model.modality}+"):
        raise ModelMismatchError(
            f"A wider input must begin with what the model reads; {model.name} reads {model.modality}, asked for is "
            f"{modality}. Write the stack as {model.modality}+…, or train a new model."
        )
    own, wanted = channels_of(model.modality), channels_of(modality)
    wider = _with_room(model, in_channels=wanted + COORDINATE_CHANNELS)
    state = wider.network.state_dict()
    for name, tensor in model.network.state_dict().items():
        if tensor.shape == state[name].shape:
            state[name] = tensor.clone()
        else:  # the input channels of the first convolutions: image channels first, coordinates last
            wide = torch.zeros_like(state[name])
            wide[:, :own] = tensor[:, :own]
            wide[:, wanted:] = tensor[:, own:]
            state[name] = wide
    wider.network.load_state_dict(state)
    return dataclasses.replace(wider, modality=modality)


def refresh_statistics(network: nn.Module, samples: Sequence[Sample]) -> int:
    """Replace the running statistics of batch normalization by those of other images; labels are not used.

    Returns the number of layers that were refreshed; see `normalizations` for networks without any.

    References
    ----------
    Li Y et al. Pattern Recognit 2018;80:109, doi 10.1016/j.patcog.2018.03.005.
    """
    layers = normalizations(network)
    momentum = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average over all images
        layer.train()  # normalize by the image at hand, and take it into the average
    with torch.no_grad():
        for sample in samples:
            network(torch.from_numpy(sample.image)[None].to(device_of(network)))
    for layer, before in zip(layers, momentum, strict=True):
        layer.momentum = before
        layer.eval()
    return len(layers)


def normalizations(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:  # pyright: ignore
    """The layers that carry running statistics of the training population; a `ConfigError` if there is none."""
    layers = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # pyright: ignore
    if not layers:
        raise ConfigError(
            "Strategy adabn needs a network with batch normalization; this one normalizes by instance, which uses "
            "each image's own statistics already. Train a source model with batch for `normalization`, or use norm."
        )
    return layers


def _with_room(model: Model, **channels: int) -> Model:
    architecture = dataclasses.replace(
        _require_own(model, "bundles" if "out_channels" in channels else "modality"), **channels
    )
    return dataclasses.replace(model, network=build_network(architecture).eval(), architecture=architecture)


def _require_own(model: Model, option: str) -> Architecture:
    if model.architecture is None:
        raise ConfigError(
            f"`{option}` needs a network that shiftkit can build again with more channels; {model.name} is a module of "
            "your own. Give it these channels yourself."
        )
    return model.architecture


def _grown(source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """Weights of ``source`` in the shapes of ``target``, whose bundle axes are longer."""
    transposed = {f"{name}.weight" for name, module in target.named_modules() if isinstance(module, nn.ConvTranspose3d)}
    made: dict[str, Tensor] = {}
    shapes = {name: tensor.shape for name, tensor in target.state_dict().items()}
    for name, tensor in source.state_dict().items():
        longer = [axis for axis in range(tensor.ndim) if shapes[name][axis] != tensor.shape[axis]]
        output_axis = 1 if name in transposed else 0
        # A new output is the mean of the old ones; a new input has weight 0, so that old outputs do not hear of it.
        grown = tensor.clone()
        for axis in longer:
            size = [*grown.shape]
            size[axis] = shapes[name][axis] - grown.shape[axis]
            mean = grown.mean(dim=axis, keepdim=True).expand(size)
            grown = torch.cat([grown, mean if axis == output_axis else torch.zeros_like(mean)], dim=axis)
        made[name] = grown
    return made
