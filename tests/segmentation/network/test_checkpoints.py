import dataclasses
import json
from pathlib import Path

import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE, MakeModel

from shiftkit.errors import ConfigError, DataError
from shiftkit.names import ModelNames
from shiftkit.segmentation.network.checkpoints import Model, load_model, require_same, save_model
from shiftkit.segmentation.network.exporting import verify_model
from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.segmentation.training.recipes import digests
from shiftkit.types import Cohort


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


def test_a_known_image_is_known_under_any_name(controls: Cohort, make_model: MakeModel) -> None:
    """Seen-ness goes by voxels and affine, not by participant id."""
    case = controls.cases[0]
    model = dataclasses.replace(make_model(), participants=digests([case], "fa"))
    assert model.has_seen(dataclasses.replace(case, participant_id="sub-other"))
    assert not model.has_seen(controls.cases[1])


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


def test_long_differences_are_cut_short() -> None:
    """The message shows a few differences and counts the others."""
    with pytest.raises(ConfigError, match=r"a is 1 there, 2 now; .* and 3 more. Give the same settings"):
        require_same(dict.fromkeys("abcdefgh", 1), dict.fromkeys("abcdefgh", 2), Path("m"))
    with pytest.raises(ConfigError, match="image is aaaaaaaaaaaa… there, nothing now"):
        require_same({"image": "a" * 64}, {}, Path("m"))
    require_same({"a": (1, 2), "b": {"c": None}}, {"b": {"c": None}, "a": [1, 2]}, Path("m"))


NONSENSE = {
    "thresholds must be one a bundle": {"thresholds": [1]},
    "thresholds must lie": {"thresholds": {bundle.label: -1 for bundle in BUNDLES}},
    "bundles must be different": {"bundles": [BUNDLES[0].label] * len(BUNDLES)},
    "orientation must be RAS": {"orientation": "LPS"},
    "shape must be": {"shape": [0, 0, 0]},
    "shape must be three": {"shape": [4096, 4096, 4096]},
    "shape must be three whole numbers, at most 1024, of": {"shape": [1024, 1024, 1024]},
    "patch": {"patch": [1, 1, 1]},
    "modality must be a text": {"modality": ["fa"]},
    "spacing_mm must lie": {"spacing_mm": float("nan")},
    "name must be a name": {"name": "=1+1"},
    "modality must be a name": {"modality": "../fa"},
    "participants must be": {"participants": {"sub-01": "no digest"}},
    "overconfidence must lie": {"overconfidence": float("nan")},
    "channels must be": {"network": {"name": "unet", "in_channels": 4, "out_channels": 2, "channels": [10**9] * 3}},
    "asks for more than": {"network": {"name": "unet", "in_channels": 4, "out_channels": 2, "channels": [4096] * 3}},
    "feature_statistics must be": {"feature_statistics": {"encoder-1": {"mean": [1e999], "sd": [1], "n": 3}}},
    "image_statistics must be": {
        "image_statistics": [{"n": 3, "measures": {"spacing_mm": {"mean": float("nan"), "sd": 0}}}]
    },
}


@pytest.mark.parametrize("words", NONSENSE)
def test_metadata_with_nonsense_is_refused(words: str, make_model: MakeModel, tmp_path: Path) -> None:
    """Values that no training writes are refused by name, not predicted with, and not looked for among the images."""
    save_model(make_model(), tmp_path / "m")
    metadata = tmp_path / "m" / "configs" / "metadata.json"
    content = json.loads(metadata.read_text())
    content["shiftkit"] |= NONSENSE[words]
    metadata.write_text(json.dumps(content))
    names = ModelNames.of(tmp_path / "m")
    assert names is None or names.modality == content["shiftkit"]["modality"]
    with pytest.raises(DataError, match=words):
        load_model(tmp_path / "m")


def test_weights_that_are_not_finite_are_refused(make_model: MakeModel, tmp_path: Path) -> None:
    """A network of NaN answers NaN, which is below any threshold: every mask would be empty, and count as missed."""
    model = make_model()
    with torch.no_grad():
        next(model.network.parameters()).fill_(float("nan"))
    save_model(model, tmp_path / "m")
    with pytest.raises(DataError, match="not finite"):
        load_model(tmp_path / "m")


def test_weights_whose_header_lies_are_refused_before_they_are_read(make_model: MakeModel, tmp_path: Path) -> None:
    """A header that claims more than the file, and a file larger than any weights, take neither time nor memory."""
    save_model(make_model(), tmp_path / "m")
    path = tmp_path / "m" / "models" / "model.safetensors"
    sound = path.read_bytes()
    path.write_bytes((2**62).to_bytes(8, "little") + sound[8:])
    with pytest.raises(DataError, match=f"claims {2**62} bytes"):
        load_model(tmp_path / "m")
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(DataError, match=r"1024\.0 GiB"):
        load_model(tmp_path / "m")


def test_metadata_of_any_depth_are_refused_in_a_sentence(make_model: MakeModel, tmp_path: Path) -> None:
    """Brackets in brackets are damage, not the end of the interpreter, and a message stays short."""
    save_model(make_model(), tmp_path / "m")
    for text in ("[" * 100_000, '{"shiftkit": {"name": "' + "x" * 100_000 + '"}}'):
        (tmp_path / "m" / "configs" / "metadata.json").write_text(text)
        with pytest.raises(DataError, match="damaged") as error:
            load_model(tmp_path / "m")
        assert len(str(error.value)) < 1500
