"""The networks: 3D CNNs with one sigmoid channel a bundle, so that bundles may overlap."""

import re
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import ConfigError

NETWORKS = ("unet", "segresnet", "dynunet")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build a network again.

    Parameters
    ----------
    name : str
        ``unet`` (residual units), ``segresnet`` or ``dynunet``.
    in_channels, out_channels : int
        Input channels, coordinates included, and bundles.
    channels : tuple of int
        Feature maps at each depth.
    """

    name: str = "unet"
    in_channels: int
    out_channels: int
    channels: tuple[int, ...] = (16, 32, 64, 128)


def build_network(architecture: Architecture) -> nn.Module:
    """Build a network with random weights.

    Normalization is by instance, so that no running statistics of one population are carried to another.

    Raises
    ------
    ConfigError
        If the name is unknown.

    References
    ----------
    Çiçek Ö et al. MICCAI 2016, doi 10.1007/978-3-319-46723-8_49. Kerfoot E et al. STACOM 2018,
    doi 10.1007/978-3-030-12029-0_40.
    """
    from monai.networks.nets import DynUNet, SegResNet, UNet

    depth = len(architecture.channels)
    inputs, outputs = architecture.in_channels, architecture.out_channels
    if architecture.name == "unet":
        network: nn.Module = UNet(
            spatial_dims=3,
            in_channels=inputs,
            out_channels=outputs,
            channels=architecture.channels,
            strides=(2,) * (depth - 1),
            num_res_units=2,
            norm=("instance", {"affine": True}),
        )
    elif architecture.name == "segresnet":
        network = SegResNet(
            in_channels=inputs, out_channels=outputs, init_filters=architecture.channels[0], norm="instance"
        )
    elif architecture.name == "dynunet":
        strides = [1, *[2] * (depth - 1)]
        network = DynUNet(
            3, inputs, outputs, [3] * depth, strides, strides[1:], filters=list(architecture.channels), res_block=True
        )
    else:
        raise ConfigError(f"A network is one of {', '.join(NETWORKS)}; got {architecture.name!r}.")
    return network.to(memory_format=torch.channels_last_3d)


def part_of(name: str) -> str:
    """The part of the default U-Net a parameter belongs to: ``encoder``, ``decoder`` or ``head``.

    The deepest block counts as encoder; the head is the last unit, which makes the bundle channels.

    Examples
    --------
    >>> part_of("model.1.submodule.0.conv.unit0.conv.weight")
    'encoder'
    >>> part_of("model.1.submodule.2.0.conv.weight")
    'decoder'
    >>> part_of("model.2.1.conv.unit0.conv.weight")
    'head'
    """
    inner = re.sub(r"^model\.", "", name)
    depth = inner.count("1.submodule.")
    rest = re.sub(r"^(1\.submodule\.)+", "", inner)
    if not rest.startswith("2."):
        return "encoder"
    return "head" if depth == 0 and rest.startswith("2.1.") else "decoder"
