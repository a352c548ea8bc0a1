import dataclasses
import json
import sys
from pathlib import Path

import pytest
import torch
from makers.segmentation import SHAPE, MakeModel
from safetensors.torch import load_file

from shiftkit.errors import ConfigError
from shiftkit.names import BUILT_IN_MODELS
from shiftkit.segmentation.network.checkpoints import Model, load_model, save_model
from shiftkit.segmentation.network.exporting import export_model, verify_model
from shiftkit.segmentation.network.networks import build_network


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


def with_network(model: Model, name: str, normalization: str = "instance") -> Model:
    """The same model with another kind of network, as few levels as it can have; batch statistics off their start."""
    channels = (4, 8, 8) if name == "dynunet" else (4, 8)
    architecture = dataclasses.replace(model.architecture, name=name, normalization=normalization, channels=channels)
    torch.manual_seed(1)
    network = build_network(architecture)
    with torch.no_grad():
        network(torch.rand(1, 4, *SHAPE))
    return dataclasses.replace(model, network=network.eval(), architecture=architecture)


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


def test_monai_builds_the_shipped_reference_from_its_configuration() -> None:
    """MONAI's own parser makes the network of its configuration; with the weights the output is the model's."""
    from monai.bundle.config_parser import ConfigParser

    folder = BUILT_IN_MODELS["reference"]
    parser = ConfigParser(ConfigParser.load_config_file(folder / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    assert type(network).__module__ == "monai.networks.nets.unet"
    network.load_state_dict(load_file(folder / "models" / "model.safetensors"))
    model = load_model(folder)
    image = torch.rand(1, 12, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), model.network(image), atol=1e-5, rtol=0)
    metadata = ConfigParser.load_config_file(folder / "configs" / "metadata.json")
    assert [*metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values()] == [*map(str, model.bundles)]
    assert set(metadata["shiftkit"]["normalization"]) == {"scalar", "peaks", "coordinates"}


@pytest.mark.parametrize(
    ("network", "normalization"), [("unet", "batch"), ("segresnet", "instance"), ("dynunet", "instance")]
)
def test_monai_builds_every_checkpoint(network: str, normalization: str, make_model: MakeModel, tmp_path: Path) -> None:
    """Each kind of network is defined in its checkpoint as MONAI builds it, and computes the same there."""
    from monai.bundle.config_parser import ConfigParser

    model = with_network(make_model(), network, normalization)
    save_model(model, tmp_path / "m")
    parser = ConfigParser(ConfigParser.load_config_file(tmp_path / "m" / "configs" / "inference.json"))
    made = parser.get_parsed_content("network_def")
    made.load_state_dict(load_file(tmp_path / "m" / "models" / "model.safetensors"))
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(made.eval()(image), model.network(image), atol=1e-5, rtol=0)


def test_exports_carry_bundles_and_normalization(make_model: MakeModel, tmp_path: Path) -> None:
    """What a file's user has to know stands in it: bundles in their order, modality, grid and how images are scaled."""
    model = make_model()
    export_model(model, tmp_path / "m.pt")
    extra = {"shiftkit.json": ""}
    torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    told = json.loads(extra["shiftkit.json"])
    assert (told["modality"], told["bundles"], told["shape"]) == ("fa", [*map(str, model.bundles)], [*SHAPE])
    assert set(told["normalization"]) == {"scalar", "peaks", "coordinates"} and told["output"] == "logits"
