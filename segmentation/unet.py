"""The residual U-Net, built as MONAI builds it, without the two seconds that importing MONAI takes.

Names and shapes of parameters, the order in which they are drawn, and the output are those of
``monai.networks.nets.UNet`` with two residual units, to the bit; a test holds the two together. Segmenting one
participant takes as long as importing MONAI does, which is why the network that ships is not taken from there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """A U-Net of residual units that halves the grid at every depth but the last.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of image and output.
    channels : sequence of int
        Feature maps at each depth, at least two.
    normalization : str
        ``instance`` or ``batch``.

    References
    ----------
    Kerfoot E et al. STACOM 2018, doi 10.1007/978-3-030-12029-0_40.

    Examples
    --------
    >>> network = UNet(1, 2, (4, 8), "instance")
    >>> network(torch.zeros(1, 1, 8, 8, 8)).shape
    torch.Size([1, 2, 8, 8, 8])
    """

    def __init__(self, in_channels: int, out_channels: int, channels: Sequence[int], normalization: str) -> None:
        super().__init__()
        self.model = _level(in_channels, out_channels, channels, normalization, top=True)

    def forward(self, image: Tensor) -> Tensor:
        """Logits, shape (N, out_channels, X, Y, Z), of an image, shape (N, in_channels, X, Y, Z)."""
        return self.model(image)


class _Skip(nn.Module):
    """A block and, beside it, what goes into the block."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features, self.submodule(features)], dim=1)


class _Unit(nn.Sequential):
    """Convolution, then normalization and activation unless it is the network's last."""

    def __init__(self, conv: nn.Module, channels: int, normalization: str, bare: bool = False) -> None:
        super().__init__()
        self.add_module("conv", conv)
        if not bare:
            norm = nn.BatchNorm3d if normalization == "batch" else nn.InstanceNorm3d
            self.add_module("adn", nn.Sequential())
            self.get_submodule("adn").add_module("N", norm(channels, affine=True))
            self.get_submodule("adn").add_module("A", nn.PReLU())


class _ResidualUnit(nn.Module):
    """Convolutions in a row, and their input added to what they make of it."""

    def __init__(
        self, inputs: int, outputs: int, normalization: str, *, stride: int = 1, units: int = 2, bare: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Sequential()
        for number in range(units):
            first = number == 0
            conv = nn.Conv3d(inputs if first else outputs, outputs, 3, stride if first else 1, padding=1)
            self.conv.add_module(f"unit{number}", _Unit(conv, outputs, normalization, bare and number == units - 1))
        self.residual: nn.Module = nn.Identity()
        if stride != 1:
            self.residual = nn.Conv3d(inputs, outputs, 3, stride, padding=1)
        elif inputs != outputs:
            self.residual = nn.Conv3d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.residual(features)
        return self.conv(features) + residual


def _level(inputs: int, outputs: int, channels: Sequence[int], normalization: str, *, top: bool) -> nn.Sequential:
    """Down, everything deeper, up; made from the bottom, as the order of random numbers asks."""
    here, *deeper = channels
    if len(deeper) > 1:
        inner: nn.Module = _level(here, here, deeper, normalization, top=False)
        joined = 2 * here
    else:
        inner = _ResidualUnit(here, deeper[0], normalization)
        joined = here + deeper[0]
    down = _ResidualUnit(inputs, here, normalization, stride=2)
    widen = nn.ConvTranspose3d(joined, outputs, 3, 2, padding=1, output_padding=1)
    up = nn.Sequential(
        _Unit(widen, outputs, normalization),
        _ResidualUnit(outputs, outputs, normalization, units=1, bare=top),
    )
    return nn.Sequential(down, _Skip(inner), up)
