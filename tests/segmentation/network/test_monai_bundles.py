import json
import pickle
import shutil
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE
from safetensors.torch import save_file
from torch import nn

import shiftkit as sk
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.segmentation.network.foreign import ForeignNetwork, authored
from shiftkit.segmentation.network.monai_bundles import read_definition
from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.segmentation.network.weights import weights_of

UNET = {
    "_target_": "UNet",
    "_desc_": "as in many a bundle",
    "spatial_dims": 3,
    "in_channels": "@image::channels",
    "out_channels": "@classes",
    "channels": "@widths",
    "strides": [2],
    "norm": ["instance", {"affine": True}],
}
"""As MONAI's own bundles write it, with references."""
CONFIG = {
    "imports": ["$import os"],
    "device": "$os.abort()",
    "image": {"channels": 1},
    "classes": 2,
    "widths": [4, 8],
    "network_def": UNET,
    "network": "$@network_def.to(@device)",
}
TOLD = {"modality": "fa", "bundles": ["AFleft", "AFright"], "spacing_mm": 2.5, "shape": list(SHAPE), "output": "logits"}


def monai_unet(seed: int = 0) -> nn.Module:
    """The network that `UNET` means."""
    from monai.networks.nets.unet import UNet

    torch.manual_seed(seed)
    return UNet(3, 1, 2, (4, 8), (2,), norm=("instance", {"affine": True})).eval()


def write_bundle(folder: Path, config: Any = CONFIG, told: Any = TOLD, weights: nn.Module | None = None) -> Path:
    """A bundle as MONAI lays it out, with safetensors."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps({"version": "0.1.0", "shiftkit": told}))
    save_file(weights_of(weights or monai_unet()), folder / "models" / "model.safetensors")
    return folder


def with_network(**changes: Any) -> dict[str, Any]:
    """The configuration with another network."""
    return {**CONFIG, "network_def": {**UNET, **changes}}


def test_a_bundle_is_the_network_that_monai_builds(tmp_path: Path) -> None:
    """References are followed, expressions elsewhere are not looked at; the output is that of MONAI's own network."""
    folder = write_bundle(tmp_path / "tracts")
    model = load_model(folder)
    assert (model.name, model.modality, model.bundles, model.shape) == ("tracts", "fa", BUNDLES, SHAPE)
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), monai_unet()(image[:, :1]), atol=1e-5, rtol=0)
    other = write_bundle(tmp_path / "other", weights=monai_unet(1))
    assert sk.load_model(folder).digest == model.digest != load_model(other).digest


def test_what_goes_in_and_out_can_be_given_where_a_bundle_does_not_say_it(tmp_path: Path) -> None:
    """Without it the message has both ways; channels as MONAI describes them are read; a path is a network."""
    folder = write_bundle(tmp_path / "silent", told={})
    with pytest.raises(ConfigError, match=r"lacks modality, bundles, spacing_mm.*metadata\.json.*shiftkit\.Model\("):
        load_model(folder)
    given: Any = folder
    model = sk.Model(network=given, modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE)
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), monai_unet()(image[:, :1]))
    ends = {
        "inputs": {"image": {"channel_def": {"0": "FA"}}},
        "outputs": {"pred": {"channel_def": {"1": "AF_left", "0": "background"}}},
    }
    metadata = folder / "configs" / "metadata.json"
    metadata.write_text(json.dumps({"network_data_format": ends, "shiftkit": {"spacing_mm": 2.5}}))
    model = load_model(folder)
    assert model.modality == "fa" and model.bundles == BUNDLES[:1]
    assert isinstance(model.network, ForeignNetwork) and model.network.background == 0
    metadata.write_text(json.dumps({"shiftkit": {**TOLD, "output": "softmax"}}))
    with pytest.raises(DataError, match="`output` is logits"):
        load_model(folder)
    metadata.write_text(json.dumps({"shiftkit": {**TOLD, "shape": 24}}))
    with pytest.raises(DataError, match="what cannot be"):
        load_model(folder)


class Opening:
    """Leaves a file where a pickle of it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("wrapped", [False, True])
def test_weights_of_torch_save_are_read_as_tensors_alone(wrapped: bool, tmp_path: Path) -> None:
    """A state dict is read, also within a trainer's state; no object is made, and the line that converts is told."""
    folder = write_bundle(tmp_path / "b")
    (folder / "models" / "model.safetensors").unlink()
    state = monai_unet().state_dict()
    parallel = {"epoch": 3, "state_dict": {f"module.{name}": one for name, one in state.items()}}
    torch.save(parallel if wrapped else state, folder / "models" / "model.pt")
    assert all(torch.equal(one, state[name]) for name, one in authored(load_model(folder).network).state_dict().items())
    ran = tmp_path / "ran"
    torch.save({"weights": state, "more": Opening(ran)}, folder / "models" / "model.pt")
    with pytest.raises(DataError, match=r"Python objects.*python -c .*safetensors\.torch import save_file"):
        load_model(folder)
    (folder / "models" / "model.pt").write_bytes(pickle.dumps(Opening(ran)))
    with pytest.raises(DataError, match="Python objects"):
        load_model(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (with_network(out_channels="$1 + 1"), r"network_def::out_channels of .* is '\$1 \+ 1'.*get_parsed_content\('n"),
        (with_network(norm=["instance", {"affine": "$open('ran', 'w')"}]), r"norm::1::affine of .* is .\$open"),
        (with_network(channels="@widths[0]"), r"network_def::channels of .* is '@widths\[0\]'"),
        (with_network(channels="%other.json::x"), "channels of .* is '%other"),
        (with_network(act={"_target_": "os.abort"}), r"act::_target_ of .* is 'os\.abort'"),
        (with_network(_requires_="$import os"), "_requires_"),
        (with_network(_mode_="callable"), "_mode_"),
        (
            with_network(_target_="os.system"),
            r"_target_ of .* is os\.system, whose code would be run.*net\.py:make_net",
        ),
        (with_network(_target_="monai.networks.nets.resnet50"), "resnet50, whose code"),
        (with_network(_target_="TopologySearch", num_depths=100), "TopologySearch, whose code"),
        (with_network(_target_="monai.networks.utils.Unet"), r"monai\.networks\.utils"),
        (with_network(_target_="FlexibleUNet", backbone="efficientnet-b0", pretrained=True), "nothing is fetched"),
        (with_network(_target_="MILModel", num_classes=2), '"pretrained": false'),
        ({**CONFIG, "network_def": "$torch.nn.Conv3d(1, 2, 1)", "network": "$1"}, "network_def of .* is '.torch"),
        ({**CONFIG, "classes": "@classes"}, "is '@classes'"),
    ],
)
def test_nothing_but_a_network_of_monai_and_literals_is_read(config: Any, told: str, tmp_path: Path) -> None:
    """Expressions, macros, other targets and downloads are refused with what converts them, and nothing is run."""
    with pytest.raises(ConfigError, match=told):
        load_model(write_bundle(tmp_path / "b", config))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (with_network(channels=[4, 1000000]), "tensors differ"),
        (with_network(depth=3), "cannot be built: TypeError"),
        (with_network(channels="@nowhere"), "no nowhere in that file"),
        ({"imports": []}, "defines its network under network_def or network"),
    ],
)
def test_what_does_not_fit_is_told(config: Any, told: str, tmp_path: Path) -> None:
    """Another size, unknown arguments and references that lead nowhere; a monstrous network takes no memory."""
    with pytest.raises(DataError, match=told):
        load_model(write_bundle(tmp_path / "b", config))


def test_yaml_is_read_alike(tmp_path: Path) -> None:
    """The same definition as YAML is the same network; its tags make no objects."""
    yaml = pytest.importorskip("yaml")
    folder = write_bundle(tmp_path / "b")
    wanted = read_definition(folder)
    (folder / "configs" / "inference.json").unlink()
    path = folder / "configs" / "inference.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert read_definition(folder) == wanted
    path.write_text("network_def: !!python/object/apply:os.abort []\n")
    with pytest.raises(DataError, match="cannot be read"):
        load_model(folder)


def test_shiftkits_own_builder_is_a_target_too(tmp_path: Path) -> None:
    """``build_network`` with an architecture builds what it builds here; it gets coordinates if that is said."""
    parts = {"name": "unet", "in_channels": 4, "out_channels": 2, "channels": [4, 8]}
    own = {"_target_": "shiftkit.segmentation.network.build_network", "architecture": parts}
    torch.manual_seed(0)
    network = build_network(Architecture.of(parts)).eval()
    folder = write_bundle(tmp_path / "b", {"network_def": own}, {**TOLD, "coordinates": True}, network)
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(load_model(folder).network(image), network(image))


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"_target_": "UNet", "channels": [4, 8], "strides": [2], "num_res_units": 1_000_000}, "modules"),
        ({"_target_": "DenseNet", "block_config": [1_000_000, 1, 1, 1]}, "modules"),
        ({"_target_": "SwinUNETR", "feature_size": 12_000}, "numbers"),
    ],
    ids=lambda value: value["_target_"] if isinstance(value, dict) else "",
)
def test_a_short_definition_builds_no_monster(network: dict[str, Any], told: str, tmp_path: Path) -> None:
    """However deep or wide a network it asks for, building ends soon after it is larger than the weights beside it.

    Also where MONAI computes while it builds, so that it cannot be tried without memory.
    """
    whole = {"in_channels": 1, "out_channels": 2, "spatial_dims": 3, **network}
    with pytest.raises(DataError, match=rf"asks for more than \d+ {told}"):
        load_model(write_bundle(tmp_path / "b", {"network_def": whole}))


def test_a_result_larger_than_the_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few weights and any image: the first map that memory does not hold is told, and is not made.

    What was computed once is not looked at again; nor is a module of one's own.
    """
    model = load_model(write_bundle(tmp_path / "b"))
    image = torch.rand(1, 4, *SHAPE)
    own = sk.Model(network=monai_unet(), modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE)
    monkeypatch.setattr("shiftkit.segmentation.network.building.machine_memory_bytes", lambda: 2**14)
    with torch.no_grad():
        with pytest.raises(ModelMismatchError, match=r"\(1, 1, 24, 24, 16\) this one makes one of \S+e-05 GiB"):
            model.network(image)
        own.network(image)
        monkeypatch.setattr("shiftkit.segmentation.network.building.machine_memory_bytes", lambda: 2**30)
        first = model.network(image)
        monkeypatch.setattr("shiftkit.segmentation.network.building.machine_memory_bytes", lambda: 2**14)
        assert torch.equal(model.network(image), first)


def rewritten(path: Path, state: Any) -> None:
    path.with_name("model.safetensors").unlink(missing_ok=True)
    torch.save(state, path)


def test_weights_that_only_claim_to_be_there_are_refused(tmp_path: Path) -> None:
    """One number for any shape, no numbers at all, an archive that unpacks to more than it has: none takes memory."""
    folder = write_bundle(tmp_path / "b", with_network(channels=[4, 1_000_000]))
    state, path = monai_unet().state_dict(), folder / "models" / "model.pt"
    first = next(iter(state))
    rewritten(path, {**state, first: torch.zeros(1).expand(1_000_000, 1_000_000)})
    with pytest.raises(DataError, match=r"names tensors of 3\.81e\+06 MiB"):
        load_model(folder)
    rewritten(path, {**state, first: torch.empty(1_000_000, 1_000_000, device="meta")})
    with pytest.raises(DataError, match="plain numbers"):
        load_model(folder)
    rewritten(path, {**state, first: torch.zeros(8, 8).to_sparse()})
    with pytest.raises(DataError, match="plain numbers"):
        load_model(folder)
    rewritten(path, state)
    with ZipFile(path) as there:
        content = {name: there.read(name) for name in there.namelist()}
    with ZipFile(path, "w", ZIP_DEFLATED) as smaller:
        for name, blob in content.items():
            smaller.writestr(name, blob if name.endswith(".pkl") else bytes(2**20))
    with pytest.raises(DataError, match="compressed, to"):
        load_model(folder)


def test_weights_of_another_kind_are_refused_and_half_precision_is_taken(tmp_path: Path) -> None:
    """Whole numbers have lost their scale, 1e300 is infinite in a network, NaN is none; float16 is the same network."""
    state = monai_unet().state_dict()
    folder = write_bundle(tmp_path / "b")
    path = folder / "models" / "model.pt"
    name = next(iter(state))
    for changed, told in (
        ((100 * state[name]).to(torch.int32), "whole ones"),
        (torch.full_like(state[name], 1e300, dtype=torch.float64), "must be finite"),
        (torch.full_like(state[name], torch.nan), "must be finite"),
    ):
        rewritten(path, {**state, name: changed})
        with pytest.raises(DataError, match=told):
            load_model(folder)
    rewritten(path, {key: one.half() if one.is_floating_point() else one for key, one in state.items()})
    made = authored(load_model(folder).network).state_dict()
    assert all(one.dtype == state[key].dtype for key, one in made.items())
    assert all(torch.allclose(one, state[key], atol=1e-3) for key, one in made.items())


def test_half_of_a_file_is_no_bundle(tmp_path: Path) -> None:
    """Weights of either kind, and the configuration, cut anywhere: a sentence, whatever lies there."""
    whole = write_bundle(tmp_path / "whole")
    torch.save(monai_unet().state_dict(), whole / "models" / "model.pt")
    for name in ("models/model.safetensors", "models/model.pt", "configs/inference.json"):
        blob = (whole / name).read_bytes()
        for at in (0, 7, len(blob) // 2, len(blob) - 1):
            folder = tmp_path / f"{Path(name).suffix}-{at}"
            shutil.copytree(whole, folder)
            (folder / name).write_bytes(blob[:at])
            if name.endswith(".pt"):
                (folder / "models" / "model.safetensors").unlink()
            with pytest.raises((DataError, ConfigError)):
                load_model(folder)


def test_values_that_explode_when_they_are_told_are_told_briefly(tmp_path: Path) -> None:
    """A number of thousands of digits, and in YAML a text of a few lines that stands for a billion: a sentence."""
    with pytest.raises(ConfigError, match="must be a number") as error:
        load_model(write_bundle(tmp_path / "digits", with_network(out_channels=10**4000)))
    assert len(str(error.value)) < 1000
    pytest.importorskip("yaml")
    folder = write_bundle(tmp_path / "laughs")
    (folder / "configs" / "inference.json").unlink()
    lines = ["a0: &a0 [ha, ha]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))]
    path = folder / "configs" / "inference.yaml"
    for last in ("network_def: *a11", "network_def: {_target_: UNet, channels: *a11}", "network_def: 0x" + "f" * 5000):
        path.write_text("\n".join([*lines, last]))
        with pytest.raises(ConfigError) as error:
            load_model(folder)
        assert len(str(error.value)) < 1000
    path.write_text("network_def: " + "[" * 2_000_000)
    with pytest.raises(DataError, match="at most 1 MiB"):
        load_model(folder)
