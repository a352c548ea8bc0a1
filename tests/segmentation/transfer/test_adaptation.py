import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE, MakeModel

from shiftkit.errors import ConfigError, ModelMismatchError
from shiftkit.segmentation.network.checkpoints import Model
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.segmentation.transfer.adaptation import add_bundles, add_inputs, refresh_statistics
from shiftkit.types import Bundle, Cohort


def logits(model: Model, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.network(image)


def test_added_bundles_leave_the_others_as_they_were(make_model: MakeModel) -> None:
    """Heads are mapped by name: known bundles are predicted as before; a new one starts from their mean."""
    model = make_model()
    wider = add_bundles(model, [Bundle.parse("CC"), BUNDLES[1], Bundle.parse("ILFleft")])
    assert [bundle.label for bundle in wider.bundles] == ["AFleft", "AFright", "CC", "ILFleft"]
    image = torch.rand(1, 4, *SHAPE)
    before, after = logits(model, image), logits(wider, image)
    torch.testing.assert_close(after[:, :2], before, atol=1e-5, rtol=1e-4)
    old, new = (one.network.state_dict()["model.2.1.conv.unit0.conv.weight"] for one in (model, wider))
    assert torch.equal(new[2, :2], old.mean(dim=0)) and torch.equal(new[3], new[2])
    assert wider.thresholds[Bundle.parse("CC")] == 0.5
    assert add_bundles(model, BUNDLES) is model


def test_wider_inputs_start_by_predicting_the_same(make_model: MakeModel) -> None:
    """A channel that was added has no say at first, whatever its values; the coordinates keep theirs."""
    model = make_model()
    wider = add_inputs(model, "fa+t1w")
    image = torch.rand(1, 4, *SHAPE)
    wide = torch.cat([image[:, :1], torch.rand(1, 1, *SHAPE) * 100, image[:, 1:]], dim=1)
    torch.testing.assert_close(logits(wider, wide), logits(model, image), atol=1e-5, rtol=1e-4)
    with pytest.raises(ModelMismatchError, match="begin with what the model reads"):
        add_inputs(model, "t1w+fa")


def test_adabn_takes_the_patients_statistics(patients: Cohort, make_model: MakeModel) -> None:
    """After refreshing, the first layer's running mean is the mean of its input over the patients' images."""
    model = make_model(normalization="batch")
    samples = [load_sample(case, "fa", 2.5, SHAPE) for case in patients]
    weights = {name: parameter.clone() for name, parameter in model.network.named_parameters()}
    assert refresh_statistics(model.network, samples) > 3
    unit = model.network.get_submodule("model.0.conv.unit0")
    with torch.no_grad():
        inputs = torch.cat([unit.conv(torch.from_numpy(sample.image)[None]) for sample in samples])
    torch.testing.assert_close(unit.adn.N.running_mean, inputs.mean(dim=(0, 2, 3, 4)), atol=1e-5, rtol=1e-3)
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.network.named_parameters())
    with pytest.raises(ConfigError, match="normalizes by instance"):
        refresh_statistics(make_model().network, samples)
