import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE, MakeModel, Own, on_grid, own_model

import shiftkit as sk
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.segmentation.network.exporting import export_model
from shiftkit.segmentation.prediction.embedding import layers_of
from shiftkit.segmentation.prediction.inference import infer, predict_probabilities
from shiftkit.segmentation.transfer.strategies import STRATEGIES, strategy_for
from shiftkit.types import Cohort

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of somebody else, as PyTorch exports it."""
    path = tmp_path_factory.mktemp("onnx") / "tracts.onnx"
    torch.manual_seed(0)
    torch.onnx.export(Own().eval(), (torch.rand(1, 1, *SHAPE),), str(path), verbose=False, external_data=False)
    return path


def described(path: Path, **more: Any) -> sk.Model:
    """The model that its user makes of a bare file."""
    told: dict[str, Any] = {"network": path, "modality": "fa", "bundles": BUNDLES, "spacing_mm": 2.5, "shape": SHAPE}
    return sk.Model(**{**told, **more})


def test_an_export_is_a_model_again(make_model: MakeModel, controls: Cohort, tmp_path: Path) -> None:
    """An exported file carries bundles, grid, normalization and coordinates: it predicts as the checkpoint does."""
    model = make_model()
    export_model(model, tmp_path / "m.onnx", "onnx")
    again = load_model(tmp_path / "m.onnx")
    assert (again.modality, again.bundles, again.spacing_mm, again.shape) == ("fa", BUNDLES, 2.5, SHAPE)
    (sample,) = on_grid(controls.cases[:1])
    np.testing.assert_allclose(infer([again], sample), infer([model], sample), atol=1e-4)
    inner: Any = again.network
    assert "percentile" in inner.network.described()["normalization"]["scalar"]


def test_a_file_of_others_needs_to_be_described(bare: Path, controls: Cohort) -> None:
    """What an export by PyTorch does not say is asked for, with the way to say it; then it predicts as its source."""
    with pytest.raises(ConfigError, match=r"lacks modality, bundles, spacing_mm.*shiftkit\.Model\(network=.*tracts"):
        load_model(bare)
    model = described(bare)
    (sample,) = on_grid(controls.cases[:1])
    np.testing.assert_allclose(infer([model], sample), infer([own_model()], sample), atol=1e-4)
    assert not model.knows_training and model.digest != described(bare, output="probabilities").digest
    with pytest.raises(ModelMismatchError, match="give the model's `shape`"):
        predict_probabilities(described(bare, shape=(16, 16, 16)), controls.cases[0])


def test_a_file_has_no_inside(bare: Path) -> None:
    """Fine-tuning by any strategy, and features, are refused in a sentence that says what is needed."""
    model = described(bare)
    for name in STRATEGIES:
        with pytest.raises(ConfigError, match="an ONNX file has none"):
            strategy_for(model, name)
    with pytest.raises(ConfigError, match="computed as a whole"):
        layers_of(model.network)


def test_what_is_no_network_is_refused(tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file, and onnxruntime that is not installed, each in a sentence."""
    (tmp_path / "bad.onnx").write_bytes(bare.read_bytes()[:200])
    with pytest.raises(DataError, match="must be an ONNX file"):
        load_model(tmp_path / "bad.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'shiftkit\[onnx\]'"):
        load_model(bare)


def test_weights_beside_a_file_are_part_of_it_and_none_lie_elsewhere(tmp_path: Path, controls: Cohort) -> None:
    """As PyTorch exports by default: with other weights beside the same file it is another model.

    A link out of the folder, and a path out of it, are refused before onnxruntime opens anything.
    """
    folder = tmp_path / "in"
    folder.mkdir()
    torch.manual_seed(0)
    path, weights = folder / "m.onnx", folder / "m.onnx.data"
    torch.onnx.export(Own().eval(), (torch.rand(1, 1, *SHAPE),), str(path), verbose=False, external_data=True)
    before = described(path)
    (sample,) = on_grid(controls.cases[:1])
    np.testing.assert_allclose(infer([before], sample), infer([own_model()], sample), atol=1e-4)
    weights.write_bytes(bytes(weights.stat().st_size))
    assert described(path).digest != before.digest
    weights.rename(tmp_path / "m.onnx.data")
    weights.symlink_to(tmp_path / "m.onnx.data")
    with pytest.raises(DataError, match=r"names m\.onnx\.data, which lies elsewhere"):
        described(path)
    weights.unlink()
    (folder / "a.onnx").write_bytes(path.read_bytes().replace(b"m.onnx.data", b"../m.x.data"))
    (tmp_path / "m.x.data").write_bytes(b"")
    with pytest.raises(DataError, match=r"names \.\./m\.x\.data"):
        described(folder / "a.onnx")


class Answering(torch.nn.Module):
    """What a network might answer with."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.own = kind, Own()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Answer."""
        answer = self.own(image)
        if self.kind == "twice":
            return torch.cat([answer, answer])
        return answer.half() if self.kind == "half" else (answer > 0).to(torch.int64)


@pytest.mark.parametrize(
    ("kind", "output", "told"),
    [
        ("whole", "logits", "whole numbers, int64.*`output`: labels"),
        ("twice", "logits", "one result an image"),
        ("whole", "labels", ""),
        ("half", "logits", ""),
    ],
)
def test_what_a_file_answers_with_is_what_was_said(
    kind: str, output: str, told: str, tmp_path: Path, controls: Cohort
) -> None:
    """Masks are no logits, of which 0 would be inside, and one image has one answer; half precision is taken."""
    path = tmp_path / "m.onnx"
    torch.manual_seed(0)
    made = Answering(kind).eval()
    torch.onnx.export(made, (torch.rand(1, 1, *SHAPE),), str(path), verbose=False, external_data=False)
    model = described(path, output=output)
    if told:
        with pytest.raises(ModelMismatchError, match=told):
            predict_probabilities(model, controls.cases[0])
    else:
        (sample,) = on_grid(controls.cases[:1])
        inside = infer([described(path, output=output)], sample) > 0.5
        wanted = infer([own_model()], sample) > 0.5
        assert np.mean(inside != wanted) < 1e-3 and wanted.any() and not wanted.all()
