from pathlib import Path

import numpy as np
import pytest
import torch
from makers.segmentation import SHAPE, on_grid
from torch import Tensor, nn

import shiftkit as sk
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.segmentation.network.foreign import call_factory
from shiftkit.segmentation.prediction.embedding import layers_of
from shiftkit.segmentation.prediction.inference import infer
from shiftkit.types import Bundle, Cohort


class Answering(nn.Module):
    """Answers each image with what a function makes of it."""

    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, image: Tensor) -> Tensor:
        """Answer."""
        return self.answer(image)


def own(answer, output: str = "logits", bundles=("AFleft", "AFright"), **more) -> sk.Model:
    """A model that answers with what a function makes of the image."""
    told = {"modality": "fa", "spacing_mm": 2.5, "shape": SHAPE, **more}
    return sk.Model(network=Answering(answer), output=output, bundles=bundles, **told)


def two_channels(image: Tensor) -> Tensor:
    """The image, and what it lacks to 1."""
    return torch.cat([image, 1 - image], dim=1)


def test_outputs_become_probabilities_once(controls: Cohort) -> None:
    """Logits get one sigmoid, probabilities none; labels, as a map or one channel a bundle, become 0 and 1."""
    (sample,) = on_grid(controls.cases[:1])
    image = sample.image[:1]
    share = np.clip(np.concatenate([image, 1 - image]), 0, 1)
    both = infer([own(lambda image: two_channels(image.clamp(0, 1)), "probabilities")], sample)
    np.testing.assert_allclose(both, share, atol=2e-6)
    logits = infer([own(two_channels)], sample)
    np.testing.assert_allclose(logits, 1 / (1 + np.exp(-np.concatenate([image, 1 - image]))), atol=1e-6)
    wanted = np.concatenate([(image > 0.2) & (image <= 0.6), image > 0.6]).astype(float)
    maps = own(lambda image: (image > 0.2).long() + (image > 0.6).long(), "labels")
    np.testing.assert_allclose(infer([maps], sample), wanted, atol=1e-6)
    flat = own(lambda image: ((image > 0.2).long() + (image > 0.6).long())[:, 0], "labels")
    np.testing.assert_allclose(infer([flat], sample), wanted, atol=1e-6)
    channels = own(lambda image: torch.cat([(image > 0.2) & (image <= 0.6), image > 0.6], dim=1), "labels")
    np.testing.assert_allclose(infer([channels], sample), wanted, atol=1e-6)


def test_a_single_bundle_is_read_alike_as_map_and_as_channel(controls: Cohort) -> None:
    """Of one bundle a map of 0 and 1 is its channel, with or without an axis of channels."""
    (sample,) = on_grid(controls.cases[:1])
    one = infer([own(lambda image: image > 0.6, "labels", ("AFleft",))], sample)
    flat = infer([own(lambda image: (image > 0.6)[:, 0], "labels", ("AFleft",))], sample)
    assert np.array_equal(one, flat)
    np.testing.assert_allclose(one[0], sample.image[0] > 0.6, atol=1e-6)


def test_a_background_is_left_out_and_makes_channels_exclude_each_other(controls: Cohort) -> None:
    """Beside ``background`` logits become what softmax gives; probabilities and labels lose that channel."""
    (sample,) = on_grid(controls.cases[:1])
    names = ("background", "AFleft", "AFright")

    def three(image: Tensor) -> Tensor:
        return torch.cat([2 - 3 * image, image, 2 * image], dim=1)

    wanted = three(torch.from_numpy(sample.image[None, :1])).softmax(1)[0, 1:].numpy()
    model = own(three, bundles=names)
    assert [str(one) for one in model.bundles] == ["AFleft", "AFright"]
    np.testing.assert_allclose(infer([model], sample), wanted, atol=1e-6)
    soft = own(lambda image: three(image).softmax(1), "probabilities", names)
    np.testing.assert_allclose(infer([soft], sample), wanted, atol=2e-6)
    hard = own(lambda image: three(image).argmax(1), "labels", names)
    likeliest = three(torch.from_numpy(sample.image[None, :1])).argmax(1).numpy()
    np.testing.assert_allclose(infer([hard], sample), np.concatenate([likeliest == 1, likeliest == 2]), atol=1e-6)
    last = own(lambda image: three(image)[:, [1, 2, 0]], bundles=("AFleft", "AFright", "background"))
    np.testing.assert_allclose(infer([last], sample), wanted, atol=1e-6)


def test_the_network_sees_the_image_alone(controls: Cohort) -> None:
    """Coordinates, which networks here get, are no business of others': one channel for one scalar image."""
    seen: list[Tensor] = []

    def note(image: Tensor) -> Tensor:
        seen.append(image)
        return two_channels(image)

    (sample,) = on_grid(controls.cases[:1])
    infer([own(note)], sample)
    assert np.array_equal(seen[0].numpy(), sample.image[None, :1])


def test_a_network_that_changes_its_input_does_not_change_the_sample(controls: Cohort) -> None:
    """Scaling in place is the network's own business: seen again, the image is what it was."""
    (sample,) = on_grid(controls.cases[:1])
    model = own(lambda image: two_channels(image.mul_(3)))
    assert np.array_equal(infer([model], sample), infer([model], sample))


def fail(image: Tensor) -> Tensor:
    raise KeyError("nobody wrote this")


@pytest.mark.parametrize(
    ("answer", "output", "told"),
    [
        (lambda image: two_channels(image) / 0, "logits", "finite"),
        (lambda image: two_channels(image) * float("nan"), "probabilities", "finite"),
        (lambda image: image, "logits", r"shape \(N, 2, 24, 24, 16\); it answered with \(1, 1, 24, 24, 16\)"),
        (lambda image: torch.cat([image] * 3, dim=1), "logits", "background"),
        (lambda image: two_channels(image)[..., :8], "logits", "image's own size"),
        (lambda image: [two_channels(image)], "logits", "a list"),
        (lambda image: two_channels(image) * 5, "probabilities", "between 0 and 1"),
        (lambda image: two_channels(image), "labels", "0 and 1"),
        (lambda image: image * 0 + 3, "labels", "labels from 0 to 2.*3 is among them"),
        (fail, "logits", "KeyError.*nobody wrote this"),
        (lambda image: (two_channels(image) * 20 - 10).sigmoid(), "logits", "as probabilities do"),
    ],
    ids=[
        "infinite",
        "nan",
        "one channel",
        "a channel more",
        "size",
        "list",
        "no share",
        "fractions",
        "label",
        "raises",
        "probabilities",
    ],
)
def test_what_makes_no_sense_is_refused(answer, output: str, told: str, controls: Cohort) -> None:
    """NaN, wrong shapes, channel counts and numbers, and networks that raise: the message says what was found."""
    (sample,) = on_grid(controls.cases[:1])
    with pytest.raises(ModelMismatchError, match=told):
        infer([own(answer, output)], sample)


def test_descriptions_that_cannot_be_are_refused_together() -> None:
    """Every wrong part of a description is named, before anything is computed."""
    with pytest.raises(ConfigError, match=r"`bundles` must be different.*`output` is.*`spacing_mm` must lie"):
        own(two_channels, "softmax", ("AFleft", "AFleft"), spacing_mm=0)
    with pytest.raises(ConfigError, match=r"`network` must be a torch\.nn\.Module"):
        sk.Model(network=two_channels, modality="fa", bundles=("AFleft",), spacing_mm=5)  # pyright: ignore
    with pytest.raises(ConfigError, match="one a bundle"):
        own(two_channels, thresholds={"CC": 0.5})


def test_a_box_that_no_memory_holds_is_refused() -> None:
    """By its shape, or by a spacing at which the usual box has 5 * 10**9 voxels: before an image is read."""
    for told in ({"shape": (1024, 1024, 1024)}, {"shape": (0, 0, 0), "spacing_mm": 0.1}):
        with pytest.raises(ConfigError, match=r"at most 2\.7e\+08 voxels.* has \d\.\de\+09\. Give a smaller `shape`"):
            own(two_channels, **told)


def test_weights_code_and_reading_tell_networks_apart() -> None:
    """Predictions are kept by digest: other weights, another output or another module must not pass for the same."""

    def conv(seed: int, output: str = "logits", kernel: int = 1) -> str:
        torch.manual_seed(seed)
        network = nn.Conv3d(1, 1, kernel, padding=kernel // 2)
        return sk.Model(network=network, modality="fa", bundles=("AFleft",), spacing_mm=5, output=output).digest

    assert conv(0) == conv(0)
    assert len({conv(0), conv(1), conv(0, "probabilities"), conv(0, kernel=3)}) == 4


def test_who_it_was_trained_on_is_known_if_it_was_said(controls: Cohort) -> None:
    """A cohort given as ``participants`` is recognized by its images; without it nothing is known."""
    model = own(two_channels, participants=controls.where(lambda case: case.key == controls.cases[0].key))
    assert [model.has_seen(case) for case in controls] == [True, *[False] * 5]
    assert model.knows_training and not own(two_channels).knows_training
    assert "not known" in str(own(two_channels))


class Deep(nn.Module):
    """Many convolutions on two levels, and one that is used twice."""

    def __init__(self, steps: int, pool: bool) -> None:
        super().__init__()
        self.down = nn.Sequential(*(nn.Conv3d(1, 1, 3, padding=1) for _ in range(steps)))
        self.twice = nn.ReLU()
        self.pool = nn.MaxPool3d(2) if pool else nn.Identity()
        self.deep = nn.Sequential(*(nn.Conv3d(1, 1, 3, padding=1) for _ in range(steps)))
        self.up = nn.Upsample(scale_factor=2 if pool else 1)
        self.deeper = nn.MaxPool3d(2) if pool else nn.Identity()
        self.end = nn.Upsample(scale_factor=2 if pool else 1)

    def forward(self, image: Tensor) -> Tensor:
        """Down, deep, and up again."""
        half = self.twice(self.deep(self.pool(self.twice(self.down(image)))))
        return self.up(self.end(self.deeper(half)))


def test_layers_are_chosen_by_resolution_or_at_equal_distances() -> None:
    """Of many modules the last at each resolution; without any change of it, eight from the first to the last."""

    def chosen(steps: int, pool: bool) -> list[str]:
        network = Deep(steps, pool)
        model = sk.Model(network=network, modality="fa", bundles=("AFleft",), spacing_mm=2.5, shape=SHAPE)
        layers = layers_of(model.network)
        assert all(layers[name] is network.get_submodule(name) for name in layers)
        return list(layers)

    assert chosen(5, pool=True) == ["down.4", "deep.4", "deeper", "end", "up"]
    flat = chosen(20, pool=False)
    assert len(flat) == 8 and flat[0] == "down.0" and flat[-1] == "up" and "twice" not in flat
    assert chosen(1, pool=True) == ["down.0", "pool", "deep.0", "deeper", "end", "up"], "few are all taken"


def test_layers_can_be_named_by_path() -> None:
    """The author's own dotted path is the name; an unknown one is refused with those that were chosen."""
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 1, 1))
    model = sk.Model(network=network, modality="fa", bundles=("AFleft",), spacing_mm=2.5, shape=SHAPE)
    assert layers_of(model.network, ("2", "0")) == {"2": network[2], "0": network[0]}
    with pytest.raises(ConfigError, match=r"one of 0, 1, 2 or the path.*got encoder-1"):
        layers_of(model.network, ("encoder-1",))


def test_a_file_of_code_is_run_and_blamed(tmp_path: Path) -> None:
    """``file.py:function`` gives what it returns, with modules beside it; what is wrong with it is said of it."""
    (tmp_path / "beside.py").write_text("ANSWER = 42\n")
    path = tmp_path / "mine.py"
    path.write_text("import beside\n\ndef answer():\n    return beside.ANSWER\n\ndef fail():\n    return 1 / 0\n")
    assert call_factory(f"{path}:answer") == 42
    with pytest.raises(DataError, match=r"mine\.py must run; it raised ZeroDivisionError"):
        call_factory(f"{path}:fail")
    with pytest.raises(ConfigError, match=r"no function nothing; it has answer, fail"):
        call_factory(f"{path}:nothing")
    with pytest.raises(DataError, match="no file with your network"):
        call_factory(f"{tmp_path / 'absent.py'}:answer")


def test_bundles_are_parsed_once() -> None:
    """Labels and bundles mean the same."""
    model = own(two_channels, bundles=("AFleft", Bundle.parse("AFright")))
    assert model.bundles == (Bundle.parse("AFleft"), Bundle.parse("AFright"))
    assert set(model.thresholds.values()) == {0.5}
