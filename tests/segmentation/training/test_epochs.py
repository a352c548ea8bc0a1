import pytest
import torch
from makers.segmentation import PATCH, MakeModel, on_grid

from shiftkit.segmentation.network.networks import Architecture, build_network, part_of
from shiftkit.segmentation.training.epochs import Anchor, Restraint, Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.processes import alone
from shiftkit.segmentation.transfer.strategies import STRATEGIES, freeze
from shiftkit.types import Cohort


def test_training_on_patches_is_seen_by_the_network(controls: Cohort) -> None:
    """While it is trained the network sees nothing but patches, and validation goes through windows of that size."""
    samples = on_grid(controls.cases[:3])
    torch.manual_seed(0)
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8, 16)))
    seen: list[tuple[bool, tuple[int, ...]]] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, inputs[0].shape[2:])))
    schedule = Schedule(epochs=2, learning_rate=1e-3, validate_every=2, batch_size=2)
    fit(network, samples[:2], samples[2:], schedule, seed=0, patch=PATCH, processes=alone("cpu"))
    assert {shape for _, shape in seen} == {PATCH}
    assert sum(training for training, _ in seen) == 2
    assert sum(not training for training, _ in seen) > 4


def test_running_statistics_of_frozen_layers_stay(patients: Cohort, make_model: MakeModel) -> None:
    """Training the decoder leaves the frozen encoder's batch statistics alone, and moves the decoder's."""
    network = make_model(normalization="batch").network
    freeze(network, STRATEGIES["decoder"].trains)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    samples = on_grid(patients.cases[:2])
    fit(network, samples, [], Schedule(epochs=1, learning_rate=1e-3), seed=0, processes=alone("cpu"))
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, before[name]) == (part_of(name) == "encoder"), name


def test_a_rate_of_zero_keeps_a_parameter_to_the_bit(patients: Cohort, make_model: MakeModel) -> None:
    """Blocks that wait for their turn in gradual unfreezing do not move, not even by weight decay."""
    network = make_model().network
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    samples = on_grid(patients.cases[:2])
    fit(
        network,
        samples,
        [],
        Schedule(epochs=1, learning_rate=1e-2),
        seed=0,
        processes=alone("cpu"),
        restraint=Restraint(rate=lambda name, share: float(part_of(name) == "head")),
    )
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) == (part_of(name) != "head"), name


def test_a_strong_anchor_holds_the_weights(patients: Cohort, make_model: MakeModel) -> None:
    """The penalty is strength/2 times the squared distance, and the stronger it is, the less weights move."""
    samples = on_grid(patients.cases[:2])
    moved = []
    for strength in (0.0, 1000.0):
        network = make_model().network
        source = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        anchor = Anchor(weights=source, strength=strength)
        schedule = Schedule(epochs=6, learning_rate=1e-3, weight_decay=0)
        fit(network, samples, [], schedule, seed=0, processes=alone("cpu"), restraint=Restraint(anchor=anchor))
        now = {name: parameter.detach() for name, parameter in network.named_parameters()}
        distance = sum(float(((now[name] - source[name]) ** 2).sum()) for name in now)
        penalty = float(Anchor(weights=source, strength=3.0).penalty(network).detach())
        assert penalty == pytest.approx(1.5 * distance, rel=1e-3)
        moved.append(distance)
    assert moved[1] < 0.5 * moved[0]
