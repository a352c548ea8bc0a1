from pathlib import Path

import pytest
import torch
from makers.segmentation import BUNDLES, GRID, SHAPE, same_weights

from shiftkit.errors import ConfigError, DataError
from shiftkit.segmentation.network.networks import NETWORKS, Architecture, build_network
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import draw_curve, fit, save_log, validate
from shiftkit.segmentation.training.losses import dice_bce
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.types import Cohort
from shiftkit.work import Work


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


def test_missing_bundles_are_left_out_of_the_loss() -> None:
    """Whatever stands in the channel of a bundle that is not annotated, loss and gradient are the same."""
    torch.manual_seed(0)
    target = (torch.rand(1, 2, 6, 6, 6) > 0.5).float()
    known = torch.tensor([[True, False]])
    losses, gradients = [], []
    for value in (-5.0, 5.0):
        logits = torch.linspace(-1, 1, 432).reshape(1, 2, 6, 6, 6).clone()
        logits[:, 1] = value
        logits.requires_grad_(True)
        loss = dice_bce(logits, target, known)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(logits.grad.clone())
    assert losses[0] == losses[1]
    assert torch.equal(gradients[0][:, 0], gradients[1][:, 0])
    assert not gradients[0][:, 1].any()


def test_loss_of_a_perfect_answer_is_zero() -> None:
    """Confident right logits cost nothing; confident wrong ones cost a lot."""
    target = torch.zeros(1, 1, 8, 8, 8)
    target[..., 2:6, 2:6, 2:6] = 1
    known = torch.tensor([[True]])
    assert dice_bce((target * 2 - 1) * 40, target, known) < 1e-3
    assert dice_bce((1 - target * 2) * 40, target, known) > 1


def test_one_case_can_be_overfitted(controls: Cohort) -> None:
    """Network, loss and loop are sound: one participant is learned to a Dice above 0.98."""
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE, BUNDLES)
    torch.manual_seed(0)
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(8, 16, 32)))
    schedule = Schedule(epochs=80, learning_rate=1e-2, augmentation="none", validate_every=80)
    fit(network, [sample], [], schedule, seed=0, device="cpu")
    assert validate(network, [sample], torch.device("cpu")) > 0.98


def test_training_learns_left_from_right(controls: Cohort, tmp_path: Path) -> None:
    """A source model trained on a few look-alike controls segments both sides, each in its own channel."""
    calls: list[tuple[int, int, str]] = []
    model = train(
        controls,
        out=tmp_path / "m",
        work=Work(progress=lambda *call: calls.append(call)),
        recipe=Recipe(modality="fa", epochs=70, device="cpu", **GRID),
    )
    assert model.training["validation_dice"] > 0.9
    assert set(model.participants) == {case.key for case in controls}
    assert all(model.has_seen(case) for case in controls)
    assert calls[-1][0] == calls[-1][1] and calls[-1][2].startswith("Training · loss")
    assert len(model.feature_statistics["encoder-1"]["mean"]) == 4
    assert not (tmp_path / "m" / "state").exists()


def test_the_same_seed_gives_the_same_weights(controls: Cohort, tmp_path: Path) -> None:
    """Weights depend on data, settings and seed alone."""
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(controls, out=tmp_path / name, recipe=Recipe(modality="fa", epochs=2, seed=seed, device="cpu", **GRID))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_early_stopping_ends_with_the_best_weights(controls: Cohort) -> None:
    """Training stops after `patience` validations without progress, and the best epoch's weights are kept."""
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in controls]
    torch.manual_seed(0)
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8)))
    schedule = Schedule(epochs=40, learning_rate=0.0, patience=3, validate_every=1)
    result = fit(network, samples[:2], samples[4:], schedule, seed=0, device="cpu")
    assert result.best_epoch == 1 and len(result.log) == 4
    assert validate(network, samples[4:], torch.device("cpu")) == result.best_dice


def test_folds_predict_every_control_unseen(controls: Cohort, tmp_path: Path) -> None:
    """With folds every control is predicted, by a model that has not seen it."""
    made = train(controls, out=tmp_path / "m", folds=3, recipe=Recipe(modality="fa", epochs=1, device="cpu", **GRID))
    assert [case.key for case in made.predictions.cohort] == [case.key for case in controls]
    for case in controls:
        assert sum(not model.has_seen(case) for model in made.models) == 1
    rows = made.predictions.cohort.cases[0]
    assert set(rows.masks) == set(BUNDLES)


def test_bad_requests_are_refused(controls: Cohort, tmp_path: Path) -> None:
    """Missing bundles, modalities, participants and devices end with one clear error."""
    with pytest.raises(DataError, match="not \\['XYZ'\\]"):
        train(controls, out=tmp_path / "a", recipe=Recipe(modality="fa", bundles=["XYZ"]))
    with pytest.raises(DataError, match="t1w"):
        train(controls, out=tmp_path / "b", recipe=Recipe(modality="t1w", **GRID))
    with pytest.raises(DataError, match="split 'train'"):
        train(controls.where(split="val"), out=tmp_path / "c", recipe=Recipe(modality="fa"))
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        train(controls, out=tmp_path / "d", recipe=Recipe(modality="fa", device="tpu", **GRID))
    with pytest.raises(ConfigError, match="`augmentation` must be one of none, light"):
        train(controls, out=tmp_path / "e", recipe=Recipe(modality="fa", augmentation="weird"))


def test_the_learning_curve_shows_the_log(tmp_path: Path) -> None:
    """The picture holds every epoch's loss and every validation, and the same log gives the same bytes."""
    log = [{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.5, "dice": 0.4}, {"epoch": 3, "loss": 0.4}]
    axes = draw_curve(log)
    assert axes.lines[0].get_ydata().tolist() == [0.9, 0.5, 0.4]
    (right,) = [other for other in axes.figure.axes if other is not axes]
    assert right.lines[0].get_xydata().tolist() == [[2, 0.4]]
    for name in ("a", "b"):
        save_log(log, tmp_path / name)
    assert (tmp_path / "a" / "training.svg").read_bytes() == (tmp_path / "b" / "training.svg").read_bytes()
