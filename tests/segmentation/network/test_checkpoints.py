import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE

from shiftkit.errors import ConfigError, DataError
from shiftkit.segmentation.network.checkpoints import Model, load_model, save_model
from shiftkit.segmentation.network.exporting import export_model, verify_model
from shiftkit.segmentation.network.networks import build_network
from shiftkit.segmentation.prediction.embedding import encoder_layers, feature_means, feature_statistics
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.types import Cohort

MakeModel = Callable[..., Model]


def test_a_checkpoint_comes_back_as_it_was(make_model: MakeModel, tmp_path: Path) -> None:
    """Weights to the bit, and everything that is needed to use them rightly."""
    model = make_model()
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.digest == model.digest
    for field in ("name", "modality", "bundles", "spacing_mm", "shape", "thresholds", "architecture", "participants"):
        assert getattr(again, field) == getattr(model, field), field
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        assert torch.equal(model.network(image), again.network(image))


def test_the_folder_is_a_monai_bundle_without_pickles(make_model: MakeModel, tmp_path: Path) -> None:
    """Metadata, inference configuration, model card and safetensors lie where a MONAI bundle has them."""
    save_model(make_model(), tmp_path / "m")
    files = {path.relative_to(tmp_path / "m").as_posix() for path in (tmp_path / "m").rglob("*") if path.is_file()}
    assert files == {"configs/metadata.json", "configs/inference.json", "docs/README.md", "models/model.safetensors"}
    block = json.loads((tmp_path / "m" / "configs" / "metadata.json").read_text())["shiftkit"]
    assert block["orientation"] == "RAS" and block["bundles"] == ["AFleft", "AFright"]


def test_saving_twice_writes_the_same_bytes(make_model: MakeModel, tmp_path: Path) -> None:
    """No time, user or path goes into a checkpoint."""
    for name in ("a", "b"):
        save_model(make_model(), tmp_path / name)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_pickles_are_refused_with_the_way_to_convert(tmp_path: Path) -> None:
    """A pickle could run code when opened: it is not, and the message says what to do."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    torch.save({"x": Trap()}, tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"safetensors\.torch\.save_file"):
        load_model(tmp_path / "model.pt")
    folder = tmp_path / "bundle" / "models"
    folder.mkdir(parents=True)
    torch.save({"x": Trap()}, folder / "model.pt")
    with pytest.raises(DataError, match=r"safetensors\.torch\.save_file"):
        load_model(tmp_path / "bundle")
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "metadata", "bundles"])
def test_damage_is_noticed(damage: str, make_model: MakeModel, tmp_path: Path) -> None:
    """A changed byte, a short file, broken or contradictory metadata: each is refused by name, none crashes."""
    save_model(make_model(), tmp_path / "m")
    weights, metadata = tmp_path / "m/models/model.safetensors", tmp_path / "m/configs/metadata.json"
    blob = bytearray(weights.read_bytes())
    if damage == "flip":
        blob[-3] ^= 1
        weights.write_bytes(blob)
    elif damage == "cut":
        weights.write_bytes(blob[: len(blob) // 2])
    elif damage == "metadata":
        metadata.write_text("{")
    else:
        content = json.loads(metadata.read_text())
        content["shiftkit"]["bundles"].append("CC")
        metadata.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"[Cc]heckpoint"):
        load_model(tmp_path / "m")
    verdict = verify_model(tmp_path / "m")
    assert not verdict.sound and "heckpoint" in str(verdict)


def test_a_sound_checkpoint_is_verified(make_model: MakeModel, tmp_path: Path) -> None:
    """Every check passes; a pickle beside the weights does not."""
    save_model(make_model(), tmp_path / "m")
    assert verify_model(tmp_path / "m").sound
    (tmp_path / "m" / "models" / "old.pt").write_bytes(b"")
    verdict = verify_model(tmp_path / "m")
    assert not verdict.sound and verdict.checks["no pickles"] == "remove old.pt"


def test_torchscript_gives_the_same_output(make_model: MakeModel, tmp_path: Path) -> None:
    """What is exported computes what the network computes."""
    model = make_model()
    export_model(model, tmp_path / "m.torchscript")
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "m.torchscript")(image), model.network(image))
    with pytest.raises(ConfigError, match="torchscript or onnx"):
        export_model(model, tmp_path / "m.tf", "tensorflow")


@pytest.mark.parametrize(
    ("network", "normalization"),
    [("unet", "instance"), ("unet", "batch"), ("segresnet", "instance"), ("dynunet", "instance")],
)
@pytest.mark.filterwarnings("error")
def test_onnx_gives_the_same_output(
    network: str,
    normalization: str,
    make_model: MakeModel,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """What is exported computes what the network computes, in another runtime; one file, and PyTorch says nothing."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = with_network(make_model(), network, normalization)
    export_model(model, tmp_path / "m.onnx", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert capfd.readouterr() == ("", "")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    image = torch.rand(1, 4, *SHAPE)
    made = torch.from_numpy(session.run(["logits"], {"image": image.numpy()})[0])
    with torch.no_grad():
        torch.testing.assert_close(made, model.network(image), atol=1e-4, rtol=1e-3)


def test_without_onnx_the_extra_is_named(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the packages are not installed, the error says which extra brings them, and nothing is written."""
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"pip install 'shiftkit\[export\]'"):
        export_model(make_model(), tmp_path / "m.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def with_network(model: Model, name: str, normalization: str = "instance") -> Model:
    """The same model with another kind of network; batch statistics are moved off their start."""
    architecture = dataclasses.replace(model.architecture, name=name, normalization=normalization)
    torch.manual_seed(1)
    network = build_network(architecture)
    with torch.no_grad():
        network(torch.rand(1, 4, *SHAPE))
    return dataclasses.replace(model, network=network.eval(), architecture=architecture)


def test_a_known_image_is_known_under_any_name(controls: Cohort, make_model: MakeModel) -> None:
    """Seen-ness goes by voxels and affine, not by participant id."""
    from shiftkit.segmentation.training.recipes import digests

    case = controls.cases[0]
    model = dataclasses.replace(make_model(), participants=digests([case], "fa"))
    assert model.has_seen(dataclasses.replace(case, participant_id="sub-other"))
    assert not model.has_seen(controls.cases[1])


def test_feature_means_weigh_the_brain(controls: Cohort, make_model: MakeModel) -> None:
    """One vector a depth, as long as it has channels; on the first depth equal to the weighted mean by hand."""
    model = make_model()
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE, BUNDLES)
    means = feature_means(model.network, sample)
    assert [len(means[name]) for name in encoder_layers(model.network)] == [4, 8, 16]
    image = torch.from_numpy(sample.image)[None]
    with torch.no_grad():
        output = model.network.get_submodule("model.0")(image)
    brain = torch.nn.functional.avg_pool3d((image[:, :1] != 0).float(), 2)
    by_hand = (output * brain).sum(dim=(0, 2, 3, 4)) / brain.sum()
    torch.testing.assert_close(torch.from_numpy(means["encoder-1"]).float(), by_hand, atol=1e-5, rtol=1e-4)
    statistics = feature_statistics(model.network, [sample, sample])
    assert statistics["encoder-2"]["n"] == 2 and max(statistics["encoder-2"]["sd"]) < 1e-5
