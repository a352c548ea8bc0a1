import copy
from pathlib import Path

import pytest
import torch
from makers.segmentation import BUNDLES, GRID, SHAPE, same_weights

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import Model, load_model, save_model
from shiftkit.segmentation.network.exporting import export_model, verify_model
from shiftkit.segmentation.network.networks import Architecture, build_network, part_of
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit, validate
from shiftkit.segmentation.training.losses import dice_bce, head_weights, supervised_loss
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.segmentation.transfer.strategies import STRATEGIES, freeze
from shiftkit.types import Cohort
from shiftkit.work import Work

DEEP = Architecture(name="dynunet", in_channels=4, out_channels=2, channels=(4, 8, 8, 8, 16), deep_supervision=True)
SHALLOW = Architecture(name="dynunet", in_channels=4, out_channels=2, channels=(8, 16, 32), deep_supervision=True)


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


def test_the_loss_is_the_weighted_sum_over_heads() -> None:
    """Weights are 4/7, 2/7 and 1/7; equal heads cost what one costs; and one output costs what it always did."""
    torch.manual_seed(0)
    _, target, known = batch()
    heads = torch.randn(2, 3, 2, 32, 32, 32)
    expected = sum(weight * dice_bce(heads[:, k], target, known) for k, weight in enumerate((4 / 7, 2 / 7, 1 / 7)))
    torch.testing.assert_close(supervised_loss(heads, target, known), expected)
    single = dice_bce(heads[:, 0], target, known)
    assert torch.equal(supervised_loss(heads[:, 0], target, known), single)
    torch.testing.assert_close(supervised_loss(heads[:, :1].expand_as(heads), target, known), single)
    assert all(sum(head_weights(count)) == pytest.approx(1) for count in range(1, 6))


def test_a_supervised_network_learns(controls: Cohort) -> None:
    """One participant is learned by the network's own output, and by its head at half the resolution too."""
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE, BUNDLES)
    torch.manual_seed(0)
    network = build_network(SHALLOW)
    cpu = torch.device("cpu")
    assert validate(network, [sample], cpu) < 0.3
    fit(network, [sample], [], Schedule(epochs=80, learning_rate=1e-2, augmentation="none"), seed=0, device="cpu")
    assert validate(network, [sample], cpu) > 0.98
    with torch.no_grad():
        coarse = network.train()(torch.from_numpy(sample.image)[None])[0, 1] > 0
    target = torch.from_numpy(sample.target)
    assert 2 * (coarse & target).sum() / (coarse.sum() + target.sum()) > 0.6


def test_a_trained_network_can_be_copied() -> None:
    """MONAI's network would keep its heads' last answers, with their graph, and could not be copied then."""
    network = build_network(SHALLOW).train()
    image, target, known = batch()
    supervised_loss(network(image), target, known).backward()
    twin = copy.deepcopy(network).eval()
    with torch.no_grad():
        assert torch.equal(twin(image), network.eval()(image))


def test_supervision_is_kept_on_disk(controls: Cohort, tmp_path: Path) -> None:
    """A checkpoint comes back with its heads, checks out, exports one output, and resumes to the bit."""
    options = {**GRID, "modality": "fa", "network": "dynunet", "deep_supervision": True, "patch": (16, 16, 8)}
    model = train(controls, out=tmp_path / "m", recipe=Recipe(epochs=2, device="cpu", **options))
    again = load_model(tmp_path / "m")
    assert again.architecture.deep_supervision and again.digest == model.digest
    assert verify_model(tmp_path / "m").sound
    exported = torch.jit.load(export_model(again, tmp_path / "m.pt"))
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(exported(image), again.network(image), atol=1e-5, rtol=1e-4)

    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("Training") and done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            controls, out=tmp_path / "parts", work=Work(progress=stop), recipe=Recipe(epochs=2, device="cpu", **options)
        )
    train(controls, out=tmp_path / "parts", resume=True, recipe=Recipe(epochs=2, device="cpu", **options))
    assert same_weights(tmp_path / "m", tmp_path / "parts")


def test_checkpoints_of_before_load(tmp_path: Path) -> None:
    """Metadata that knows neither supervision nor patches describes a network without either."""
    architecture = Architecture(in_channels=4, out_channels=2, channels=(4, 8))
    model = Model(
        name="old",
        network=build_network(architecture).eval(),
        architecture=architecture,
        modality="fa",
        bundles=BUNDLES,
        spacing_mm=2.5,
        shape=SHAPE,
        thresholds=dict.fromkeys(BUNDLES, 0.5),
        participants={},
    )
    save_model(model, tmp_path / "m")
    path = tmp_path / "m" / "configs" / "metadata.json"
    text = path.read_text().replace('"patch": null,', "")
    text = text.replace('"instance",\n      "deep_supervision": false', '"instance"')
    assert "patch" not in text and "deep_supervision" not in text
    path.write_text(text)
    again = load_model(tmp_path / "m")
    assert again.architecture == architecture and again.patch is None and again.digest == model.digest


def test_heads_belong_to_the_head() -> None:
    """Strategies that train only the last unit train the heads of all levels, and leave the rest frozen."""
    network = build_network(DEEP)
    trained, _ = freeze(network, STRATEGIES["head"].trains)
    assert {name.split(".")[0] for name in trained} == {"output_block", "deep_supervision_heads"}
    assert part_of("deep_supervision_heads.0.conv.conv.weight") == "head"


@pytest.mark.parametrize("name", ["unet", "segresnet"])
def test_other_networks_have_no_heads_to_supervise(name: str) -> None:
    """The message says which network has."""
    with pytest.raises(ConfigError, match="dynunet"):
        build_network(Architecture(name=name, in_channels=4, out_channels=2, deep_supervision=True))
