import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE
from torch import nn

from shiftkit.cohorts.folder import read_description
from shiftkit.errors import ConfigError
from shiftkit.images import read_image
from shiftkit.segmentation.network.checkpoints import Model
from shiftkit.segmentation.prediction.calibration import choose_thresholds, measure_overconfidence
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.segmentation.prediction.inference import infer, logits
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.types import Cohort

MakeModel = Callable[..., Model]
PATCH = (16, 12, 8)
WINDOWS = [(8, 8, 8), (16, 12, 8), (24, 8, 12), (20, 24, 16), (4, 16, 16)]


class Counting(nn.Module):
    """Passes on what a network says, and notes what it was asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Note and pass on."""
        self.seen.append(tuple(image.shape))
        return self.network(image)


class Ones(nn.Module):
    """Says one everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One logit a voxel and bundle."""
        return torch.ones_like(image[:, :2]) * self.one


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_of_a_local_network_give_the_whole(window: tuple[int, int, int]) -> None:
    """A network that looks at one voxel at a time, coordinates included, says the same in windows as at once."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(4, 6, 1), nn.ReLU(), nn.Conv3d(6, 2, 1))
    image = torch.randn(1, 4, 24, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(logits(network, image, window), logits(network, image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", WINDOWS)
def test_weights_of_windows_sum_to_one(window: tuple[int, int, int]) -> None:
    """Where every window says one, every voxel gets one: none is left out and none counts twice."""
    with torch.no_grad():
        made = logits(Ones(), torch.zeros(1, 4, 24, 24, 16), window)
    assert made.shape == (1, 2, 24, 24, 16)
    torch.testing.assert_close(made, torch.ones_like(made), atol=1e-6, rtol=0)


class Mean(nn.Module):
    """Says everywhere what the window's mean is."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One logit a voxel."""
        return image[:, :1].mean(dim=(2, 3, 4), keepdim=True).expand_as(image[:, :1]) * self.one


def test_windows_are_weighted_by_a_gaussian() -> None:
    """Where windows disagree, each counts by exp(-d²/2σ²), d from its middle, σ an eighth of it, 0.001 at least."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 4, 24, 12, 8)).astype(np.float32)
    with torch.no_grad():
        made = logits(Mean(), torch.from_numpy(image), (8, 12, 8))[0, 0].numpy()
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in (8, 12, 8)]
    weight = np.clip(np.einsum("i,j,k->ijk", *axes), 1e-3, None)
    total, weights = np.zeros((24, 12, 8)), np.zeros((24, 12, 8))
    for start in (0, 4, 8, 12, 16):
        total[start : start + 8] += weight * image[0, 0, start : start + 8].mean()
        weights[start : start + 8] += weight
    np.testing.assert_allclose(made, total / weights, atol=1e-5)


def test_a_window_as_large_as_the_box_is_the_whole_box(controls: Cohort, make_model: MakeModel) -> None:
    """To the bit."""
    model = make_model()
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    assert np.array_equal(infer([model], sample, window=SHAPE), infer([model], sample))


def test_no_more_than_a_window_is_computed_at_once(controls: Cohort, make_model: MakeModel) -> None:
    """The network never sees more than one window, windows overlap by half, and the output is gathered on the CPU."""
    network = Counting(make_model().network)
    image = torch.from_numpy(load_sample(controls.cases[0], "fa", 2.5, SHAPE).image)[None]
    with torch.inference_mode():
        made = logits(network, image, PATCH)
    assert set(network.seen) == {(1, 4, *PATCH)}
    assert len(network.seen) == 2 * 3 * 3  # steps of 8, 6 and 4 voxels through 24 × 24 × 16
    assert made.device.type == "cpu" and made.dtype == torch.float32


def test_a_model_of_patches_predicts_in_windows_of_them(controls: Cohort, make_model: MakeModel) -> None:
    """Without being told; any other window, the whole box included, can be asked for, and gives another answer."""
    whole = make_model()
    patched = dataclasses.replace(whole, patch=PATCH)
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    own = infer([patched], sample)
    assert np.array_equal(own, infer([whole], sample, window=PATCH))
    assert np.array_equal(infer([patched], sample, window=SHAPE), infer([whole], sample))
    assert np.abs(own - infer([whole], sample)).max() > 1e-3
    both = infer([whole, patched], sample)
    np.testing.assert_allclose(both, (own + infer([whole], sample)) / 2, atol=1e-6)


def test_thresholds_and_overconfidence_are_measured_in_windows(controls: Cohort, make_model: MakeModel) -> None:
    """What is chosen on validation participants is chosen for predictions as they will be made."""
    model = make_model()
    network = Counting(model.network)
    patched = dataclasses.replace(model, network=network, patch=PATCH)
    samples = [load_sample(controls.cases[0], "fa", 2.5, SHAPE, BUNDLES)]
    for measure in (choose_thresholds, measure_overconfidence):
        network.seen.clear()
        measure(patched, samples)
        assert set(network.seen) == {(1, 4, *PATCH)}


def test_the_window_is_part_of_a_predictions_record(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Predictions say which window was asked for, and are not resumed with another; impossible ones are refused."""
    one = dataclasses.replace(controls, cases=controls.cases[:1])
    model = make_model()
    made = predict(model, one, out=tmp_path / "p", window=PATCH, device="cpu")
    assert read_description(tmp_path / "p")["Model"]["Window"] == list(PATCH)
    with pytest.raises(ConfigError, match="made otherwise"):
        predict(model, one, out=tmp_path / "p", resume=True, device="cpu")
    plain = predict(dataclasses.replace(model, patch=PATCH), one, out=tmp_path / "q", device="cpu")
    assert "Window" not in read_description(tmp_path / "q")["Model"]
    for bundle in BUNDLES:
        asked, own = (read_image(each.cohort.cases[0].probabilities[bundle]).array for each in (made, plain))
        assert np.array_equal(asked, own)
    for window, words in (((10, 8, 8), "multiples of 4"), ((32, 8, 8), "within the model's box")):
        with pytest.raises(ConfigError, match=f"`window` must .*{words}"):
            predict(model, one, out=tmp_path / "r", window=window, device="cpu")
    assert not (tmp_path / "r").exists()


def test_windows_and_mirror_images_go_together(controls: Cohort, make_model: MakeModel) -> None:
    """Averaged over mirror images in windows, a probability is a probability and differs from the plain one."""
    model = dataclasses.replace(make_model(), patch=PATCH)
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    made = infer([model], sample, mirrored=True)
    assert made.min() >= 0 and made.max() <= 1
    assert np.abs(made - infer([model], sample)).max() > 1e-3
