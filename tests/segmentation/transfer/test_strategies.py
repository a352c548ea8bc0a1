import numpy as np
import pytest

from shiftkit.segmentation.network.networks import Architecture, build_network, levels, part_of
from shiftkit.segmentation.transfer.strategies import STRATEGIES


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
