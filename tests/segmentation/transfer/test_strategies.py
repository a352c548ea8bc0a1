import numpy as np
import pytest
from makers.segmentation import BUNDLES, SHAPE, MakeModel, own_model
from torch import nn

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import Model
from shiftkit.segmentation.network.foreign import authored
from shiftkit.segmentation.network.networks import Architecture, build_network, levels, part_of
from shiftkit.segmentation.transfer.strategies import STRATEGIES, strategy_for


@pytest.mark.parametrize(
    ("name", "first", "count"), [("unet", "model.0.", 6), ("segresnet", "convInit", 9), ("dynunet", "input_block", 6)]
)
def test_gradual_unfreezing_goes_from_the_output_to_the_input(name: str, first: str, count: int) -> None:
    """In every network blocks join in order of their distance from the output; at three quarters all of them train."""
    network = build_network(Architecture(name=name, in_channels=4, out_channels=2, channels=(8, 16, 32)))
    rate = STRATEGIES["gradual"].rate(network)
    level = levels(network)
    names = sorted(level, key=level.__getitem__)
    assert part_of(names[0]) == "head" and names[-1].startswith(first)
    assert len(set(level.values())) == count
    parts = [part_of(name) for name in names]
    assert parts == sorted(parts, key=["head", "decoder", "encoder"].index)
    counts = [sum(rate(name, share) for name in names) for share in np.linspace(0, 1, 9)]
    assert counts == sorted(counts) and counts[0] == parts.count("head") and counts[6] == len(names)
    decayed = STRATEGIES["layerwise"].rate(network)
    values = [decayed(name, 0.0) for name in names]
    assert values == sorted(values, reverse=True) and values[0] == 1


def trained_by(model: Model, name: str, *layers: str) -> set[str]:
    strategy = strategy_for(model, name, layers=layers)
    return {one for one, _ in authored(model.network).named_parameters() if strategy.trains(one)}


def test_strategies_that_need_no_inside_suit_modules_of_others() -> None:
    """The head is what an image meets last, whatever was built first; norm is every normalization layer."""
    model = own_model()
    assert trained_by(model, "head") == {"out.weight", "out.bias"}
    assert trained_by(model, "norm") == {"down.1.weight", "down.1.bias"}
    assert trained_by(model, "head", "down.*") == {f"down.{i}.{one}" for i in (0, 1) for one in ("weight", "bias")}
    assert trained_by(model, "head", "out.bias") == {"out.bias"}
    assert len(trained_by(model, "full")) == len(trained_by(model, "l2sp")) == 6
    assert trained_by(model, "none") == set()
    one = Model(network=nn.Conv3d(1, 2, 1), modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE)
    assert trained_by(one, "head") == {"weight", "bias"}, "a single layer is the last one"
    ending = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 2, 1), nn.InstanceNorm3d(2, affine=True))
    model = Model(network=ending, modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE)
    assert trained_by(model, "head") == {"1.weight", "1.bias", "2.weight", "2.bias"}, "and what follows it"


@pytest.mark.parametrize("name", ["scratch", "decoder", "encoder", "gradual", "layerwise"])
def test_strategies_that_need_the_inside_are_refused_by_name(name: str) -> None:
    """The message names the strategy, what it would have to know, and those that are possible."""
    with pytest.raises(ConfigError, match=rf"Strategy {name} has to know.*none, full, head, norm, adabn, l2sp"):
        strategy_for(own_model(), name)


def test_layers_are_of_the_head_and_must_be_there(make_model: MakeModel) -> None:
    """Unknown layers are refused with those that there are, layers of other strategies with the cure."""
    with pytest.raises(ConfigError, match=r"none of up, x\.\*\. It has out, down\.0, down\.1"):
        strategy_for(own_model(), "head", layers=["out", "up", "x.*"])
    with pytest.raises(ConfigError, match="`strategy` is full"):
        strategy_for(own_model(), "full", layers=["out"])
    plain = Model(network=nn.Conv3d(1, 2, 1), modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE)
    with pytest.raises(ConfigError, match="has none with parameters"):
        strategy_for(plain, "norm")
    assert all(name.startswith("model.0.") for name in trained_by(make_model(), "head", "model.0"))
