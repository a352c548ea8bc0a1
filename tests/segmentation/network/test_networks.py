import copy

import pytest
import torch

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.networks import NETWORKS, Architecture, build_network, part_of, require_fit
from shiftkit.segmentation.training.losses import supervised_loss
from shiftkit.segmentation.transfer.strategies import STRATEGIES, freeze


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_refused_exactly_where_the_network_fails(name: str) -> None:
    """What passes the check can be trained on, and what is refused the network cannot compute."""
    architecture = Architecture(name=name, in_channels=4, out_channels=2, channels=(8, 16, 32))
    network = build_network(architecture).train()
    for size in ((8, 8, 8), (16, 8, 8), (4, 4, 8), (4, 4, 4), (12, 8, 8), (10, 8, 8), (16, 16, 6)):
        try:
            require_fit("patch", size, architecture)
            fits = True
        except ConfigError:
            fits = False
        try:
            made = network(torch.rand(1, 4, *size)).shape[2:] == size
        except (RuntimeError, ValueError):
            made = False
        assert fits == made, size


DEEP = Architecture(name="dynunet", in_channels=4, out_channels=2, channels=(4, 8, 8, 8, 16), deep_supervision=True)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(2, 2, 32, 32, 32, generator=generator) > 0.5).float()
    return torch.rand(2, 4, 32, 32, 32, generator=generator), target, torch.tensor([[True, True], [False, True]])


def test_heads_answer_in_training_only() -> None:
    """While it is trained a network of five levels gives three answers of one size, afterwards one."""
    torch.manual_seed(0)
    network = build_network(DEEP)
    image, _, _ = batch()
    with torch.no_grad():
        assert network.train()(image).shape == (2, 3, 2, 32, 32, 32)
        assert network.eval()(image).shape == (2, 2, 32, 32, 32)


def test_gradients_reach_every_head() -> None:
    """Each supervision head, and everything below it, is trained."""
    torch.manual_seed(0)
    network = build_network(DEEP).train()
    image, target, known = batch()
    supervised_loss(network(image), target, known).backward()
    heads = [name for name, _ in network.named_parameters() if name.startswith("deep_supervision_heads")]
    assert len({name.split(".")[1] for name in heads}) == 2
    for name, parameter in network.named_parameters():
        # A bias before instance normalization has no effect.
        if parameter.ndim > 1 or name in heads:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


SHALLOW = Architecture(name="dynunet", in_channels=4, out_channels=2, channels=(8, 16, 32), deep_supervision=True)


def test_a_trained_network_can_be_copied() -> None:
    """MONAI's network would keep its heads' last answers, with their graph, and could not be copied then."""
    network = build_network(SHALLOW).train()
    image, target, known = batch()
    supervised_loss(network(image), target, known).backward()
    twin = copy.deepcopy(network).eval()
    with torch.no_grad():
        assert torch.equal(twin(image), network.eval()(image))


def test_heads_belong_to_the_head() -> None:
    """Strategies that train only the last unit train the heads of all levels, and leave the rest frozen."""
    network = build_network(DEEP)
    freeze(network, STRATEGIES["head"].trains)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert {name.split(".")[0] for name in trained} == {"output_block", "deep_supervision_heads"}
    assert part_of("deep_supervision_heads.0.conv.conv.weight") == "head"


@pytest.mark.parametrize("name", ["unet", "segresnet"])
def test_other_networks_have_no_heads_to_supervise(name: str) -> None:
    """The message says which network has."""
    with pytest.raises(ConfigError, match="dynunet"):
        build_network(Architecture(name=name, in_channels=4, out_channels=2, deep_supervision=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_map_a_box_to_one_channel_a_bundle(name: str) -> None:
    """Every selectable network keeps the box and gives one logit a voxel and bundle."""
    network = build_network(Architecture(name=name, in_channels=4, out_channels=3, channels=(8, 16, 32))).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 4, 16, 24, 16)).shape == (1, 3, 16, 24, 16)


def test_unknown_networks_are_refused() -> None:
    """A misspelled network or normalization ends with the list of known ones."""
    with pytest.raises(ConfigError, match="unet, segresnet, dynunet"):
        build_network(Architecture(name="unnet", in_channels=4, out_channels=3))
    with pytest.raises(ConfigError, match="instance or batch"):
        build_network(Architecture(in_channels=4, out_channels=3, normalization="layer"))
