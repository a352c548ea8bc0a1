"""The networks: 3D CNNs with one sigmoid channel a bundle, so that bundles may overlap."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from ...errors import ConfigError
from ..samples.patches import Size


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
    normalization : str
        ``instance``, or ``batch`` (U-Net only): running statistics of the training population.
    deep_supervision : bool
        While it is trained, the network also answers from coarser levels of its decoder, all but the two
        coarsest (DynUNet only); see `losses.supervised_loss`.
    """

    name: str = "unet"
    in_channels: int
    out_channels: int
    channels: tuple[int, ...] = (16, 32, 64, 128)
    normalization: str = "instance"
    deep_supervision: bool = False

    @classmethod
    def of(cls, parts: Mapping[str, Any]) -> Self:
        """From a mapping, as JSON holds it; a TypeError or KeyError if it holds anything else."""
        given: dict[str, Any] = {**parts, "channels": tuple(parts["channels"])}
        return cls(**given)


def build_network(architecture: Architecture | Mapping[str, Any]) -> nn.Module:
    """Build a network with random weights, of an architecture or of what JSON holds of one.

    Normalization is by instance by default, so that no running statistics of one population are carried to
    another.

    Raises
    ------
    ConfigError
        If the name is unknown, or the network has no such normalization or supervision.

    References
    ----------
    Çiçek Ö et al. MICCAI 2016, doi 10.1007/978-3-319-46723-8_49. Kerfoot E et al. STACOM 2018,
    doi 10.1007/978-3-030-12029-0_40. Isensee F et al. Nat Methods 2021;18:203, doi 10.1038/s41592-020-01008-z.
    """
    architecture = architecture if isinstance(architecture, Architecture) else Architecture.of(architecture)
    definition = network_def(architecture)
    known = ("instance", "batch") if architecture.name == "unet" else ("instance",)
    if architecture.normalization not in known:
        raise ConfigError(
            f"Normalization of {architecture.name} is {' or '.join(known)}; got {architecture.normalization!r}."
        )
    if architecture.deep_supervision and architecture.name != "dynunet":
        raise ConfigError(
            f"Deep supervision needs a network with supervision heads, which is dynunet; got {architecture.name}. "
            "Choose dynunet for `network`, or leave deep supervision out."
        )
    import monai.networks.nets as nets

    made = getattr(nets, definition.pop("_target_").rpartition(".")[2])
    network: nn.Module = made(**definition)
    if architecture.deep_supervision:
        network.register_forward_hook(_forget_heads)
    return network.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]


def divisor(architecture: Architecture) -> int:
    """What each side of the input must be a multiple of: two to the power of how often it is halved.

    Examples
    --------
    >>> divisor(Architecture(in_channels=4, out_channels=2, channels=(8, 16, 32)))
    4
    """
    return 2 ** (_SEGRESNET_HALVES if architecture.name == "segresnet" else len(architecture.channels) - 1)


def require_fit(what: str, size: Size, architecture: Architecture, box: Size | None = None) -> None:
    """Refuse an option ``what`` whose size in voxels the network cannot work on, or that exceeds a box.

    Raises
    ------
    ConfigError
        If the size is no multiple of the network's strides, or leaves a single voxel at its deepest level.

    Examples
    --------
    >>> unet = Architecture(in_channels=4, out_channels=2, channels=(8, 16, 32))
    >>> require_fit("patch", (16, 16, 8), unet, (24, 24, 16))
    >>> require_fit("patch", (16, 16, 10), unet)
    Traceback (most recent call last):
    ...
    shiftkit.errors.ConfigError: `patch` must be ...
    """
    step = divisor(architecture)
    got = " × ".join(map(str, size))
    if len(size) != 3 or any(n < 1 or n % step for n in size) or all(n == step for n in size):
        raise ConfigError(
            f"`{what}` must be three multiples of {step} voxels, at least one of them larger than {step}, for a "
            f"{architecture.name} that halves its input {step.bit_length() - 1} times; got {got}. Choose another "
            f"`{what}`, or a network with fewer levels."
        )
    if box is not None and any(n > whole for n, whole in zip(size, box, strict=True)):
        raise ConfigError(
            f"`{what}` must lie within the model's box of {' × '.join(map(str, box))} voxels; got {got}. Choose a "
            f"smaller `{what}`, or leave it out to use the whole box."
        )


def part_of(name: str) -> str:
    """The part of a network a parameter belongs to, by its name: ``encoder``, ``decoder`` or ``head``.

    The deepest block counts as encoder; the head is the last unit, which makes the bundle channels.

    Examples
    --------
    >>> part_of("model.1.submodule.0.conv.unit0.conv.weight")
    'encoder'
    >>> part_of("model.1.submodule.2.0.conv.weight"), part_of("model.2.1.conv.unit0.conv.weight")
    ('decoder', 'head')
    >>> part_of("up_layers.0.0.conv1.conv.weight"), part_of("output_block.conv.conv.weight")
    ('decoder', 'head')
    """
    return _place(name)[0]


def levels(network: nn.Module) -> dict[str, int]:
    """How many blocks each parameter lies from the output: 0 for the head, most for the first layer.

    Examples
    --------
    >>> network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8)))
    >>> {part_of(name): level for name, level in levels(network).items()}
    {'encoder': 2, 'decoder': 1, 'head': 0}
    """
    found = {name: _place(name)[1] for name, _ in network.named_parameters()}
    rank = {level: index for index, level in enumerate(sorted(set(found.values())))}
    return {name: rank[level] for name, level in found.items()}


def network_def(architecture: Architecture) -> dict[str, Any]:
    """How MONAI builds the same network: a ``_target_`` and its arguments, as a bundle's configuration has them.

    Raises
    ------
    ConfigError
        If the name is unknown.
    """
    if architecture.name not in _BUILDERS:
        raise ConfigError(f"A network is one of {', '.join(NETWORKS)}; got {architecture.name!r}.")
    return _BUILDERS[architecture.name](architecture)


def _unet(architecture: Architecture) -> dict[str, Any]:
    return {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 3,
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "channels": list(architecture.channels),
        "strides": [2] * (len(architecture.channels) - 1),
        "num_res_units": 2,
        "norm": [architecture.normalization, {"affine": True}],  # the strategy norm trains these scales and shifts
    }


def _segresnet(architecture: Architecture) -> dict[str, Any]:
    return {
        "_target_": "monai.networks.nets.SegResNet",
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "init_filters": architecture.channels[0],
        "norm": "instance",
    }


def _dynunet(architecture: Architecture) -> dict[str, Any]:
    depth = len(architecture.channels)
    strides = [1, *[2] * (depth - 1)]
    return {
        "_target_": "monai.networks.nets.DynUNet",
        "spatial_dims": 3,
        "in_channels": architecture.in_channels,
        "out_channels": architecture.out_channels,
        "kernel_size": [3] * depth,
        "strides": strides,
        "upsample_kernel_size": strides[1:],
        "filters": list(architecture.channels),  # MONAI's own choice would depend on the strides alone
        "res_block": True,
        "deep_supervision": architecture.deep_supervision,
        "deep_supr_num": max(1, depth - 3),  # the two coarsest levels see too little to answer for a thin bundle
    }


_BUILDERS: Mapping[str, Callable[[Architecture], dict[str, Any]]] = {
    "unet": _unet,
    "segresnet": _segresnet,
    "dynunet": _dynunet,
}

NETWORKS = tuple(_BUILDERS)


def _forget_heads(network: Any, inputs: Any, output: Any) -> None:
    """DynUNet keeps its heads' last answers, and with them memory and what no copy of a network can take along."""
    network.heads[:] = [_NOTHING] * len(network.heads)


_NOTHING = torch.zeros(1)


def _place(name: str) -> tuple[str, int]:
    """Part of a parameter, and a number that grows with the way from the output; only the order of numbers counts."""
    if not name.startswith("model."):
        block, number = re.match(r"([A-Za-z_]+)\.?(\d*)", name).groups()  # pyright: ignore[reportOptionalMemberAccess]
        part, first = _BLOCKS[block]
        # Blocks are numbered in the order in which an image meets them; several heads answer side by side.
        return part, 0 if part == "head" else first - int(number or 0)
    # MONAI nests its U-Net: in each level 0 goes down, 1.submodule is everything deeper, 2 comes up.
    depth, rest = name.count("1.submodule."), re.sub(r"^model\.(1\.submodule\.)*", "", name)
    if not rest.startswith("2."):
        return "encoder", _DEEPEST - depth
    # Coming up is a transposed convolution, 2.0, and a unit, 2.1: the outermost unit makes the bundle channels.
    return ("head", 0) if depth == 0 and rest.startswith("2.1.") else ("decoder", 1 + depth)


_DEEPEST = 20
"""Above any decoder level."""

_BLOCKS = {
    **dict.fromkeys(("conv_final", "output_block", "deep_supervision_heads"), ("head", 0)),
    **dict.fromkeys(("upsamples", "skip_layers", "up_layers", "up_samples"), ("decoder", _DEEPEST)),
    "bottleneck": ("encoder", 2 * _DEEPEST),
    **dict.fromkeys(("downsamples", "down_layers"), ("encoder", 3 * _DEEPEST)),
    **dict.fromkeys(("input_block", "convInit"), ("encoder", 4 * _DEEPEST)),
}
"""Part and place of SegResNet's and DynUNet's blocks, the first of those that are numbered."""

_SEGRESNET_HALVES = 3  # MONAI's default, whatever the channels
