import pytest
import torch
from monai.networks.nets.unet import UNet as MonaiUNet
from torch import nn

from shiftkit.segmentation.unet import UNet


@pytest.mark.parametrize("normalization", ["instance", "batch"])
@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 16), (16, 32, 64, 128)])
def test_the_network_is_monais_to_the_bit(channels: tuple[int, ...], normalization: str) -> None:
    """The same seed gives the same parameters under the same names, the same output and the same gradients."""
    made: list[tuple[nn.Module, torch.Tensor]] = []
    image = torch.rand(2, 4, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    for monai in (False, True):
        torch.manual_seed(3)
        network = (
            MonaiUNet(
                spatial_dims=3,
                in_channels=4,
                out_channels=3,
                channels=channels,
                strides=(2,) * (len(channels) - 1),
                num_res_units=2,
                norm=(normalization, {"affine": True}),
            )
            if monai
            else UNet(4, 3, channels, normalization)
        )
        output = network(image)
        output.square().mean().backward()
        made.append((network, output))
    (ours, output), (theirs, expected) = made
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    assert torch.equal(output, expected)
    for (name, one), (_, two) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert one.grad is not None and two.grad is not None and torch.equal(one.grad, two.grad), name
