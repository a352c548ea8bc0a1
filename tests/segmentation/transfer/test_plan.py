import dataclasses
import json
from pathlib import Path

import pytest
import torch
from makers.segmentation import BUNDLES, MakeModel, MakeTuned

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.segmentation.network.networks import build_network
from shiftkit.segmentation.transfer.adaptation import add_bundles, add_inputs
from shiftkit.segmentation.transfer.finetuning import Transfer, finetune
from shiftkit.segmentation.transfer.plan import TransferPlan, plan_transfer
from shiftkit.segmentation.transfer.strategies import STRATEGIES
from shiftkit.types import Cohort


@pytest.mark.parametrize("name", ["decoder", "scratch", "none"])
def test_the_plan_is_what_happens(name: str, tuned: MakeTuned, make_model: MakeModel) -> None:
    """What the plan calls frozen is the source's to the bit afterwards, what it calls skipped is not."""
    model, plan, folder = make_model(), tuned(name).plan, tuned(name).folder / "fold-2"
    before, after = model.network.state_dict(), load_model(folder).network.state_dict()
    assert sorted((*plan.loaded, *plan.skipped)) == sorted(before)
    assert sorted((*plan.trained, *plan.frozen)) == sorted(key for key, _ in model.network.named_parameters())
    weights = [key for key in before if key.endswith("conv.weight")]
    assert all(torch.equal(before[key], after[key]) for key in plan.frozen)
    assert not any(torch.equal(before[key], after[key]) for key in plan.skipped if key in weights)
    assert not any(torch.equal(before[key], after[key]) for key in plan.trained if key in weights)
    said = str(plan)
    assert f"Loaded {len(plan.loaded)} tensors of small; skipped {len(plan.skipped)}" in said
    millions = sum(before[key].numel() for key in plan.frozen) / 1e6
    assert f"frozen {len(plan.frozen)} ({millions:.2f} M parameters)" in said
    kept = json.loads((folder / "transfer.json").read_text())
    assert kept["frozen"] == list(plan.frozen) and kept["skipped"] == list(plan.skipped)


def test_the_plan_says_which_heads_and_inputs_are_new(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """With a bundle and a modality added, heads are told apart by name, and the tensors that grew are listed."""
    model = make_model(bundles=BUNDLES[:1])
    source = dataclasses.replace(model, modality="fa")
    wider = add_inputs(add_bundles(source, BUNDLES), "fa+t1w")
    plan = plan_transfer(source, wider, "full", STRATEGIES["full"])
    assert (plan.heads, plan.new_heads, plan.new_inputs) == (BUNDLES[:1], BUNDLES[1:], ("t1w",))
    assert "model.0.conv.unit0.conv.weight" in plan.widened
    assert "model.2.1.conv.unit0.conv.weight" in plan.widened
    assert "Heads mapped by name: AFleft; new, from the mean of these: AFright." in str(plan)
    assert "New input: t1w, with weights that start at zero." in str(plan)
    told: list[TransferPlan] = []
    transfer = Transfer(folds=2, epochs=1, device="cpu", bundles=["AFright"])
    finetune(model, patients, out=tmp_path / "t", transfer=transfer, announce=told.append)
    assert [one.new_heads for one in told] == [BUNDLES[1:]]
    assert load_model(tmp_path / "t" / "fold-1").bundles == BUNDLES


@pytest.mark.parametrize("network", ["segresnet", "dynunet"])
def test_each_tensor_is_counted_once(network: str, make_model: MakeModel) -> None:
    """Networks without running statistics load as many tensors as they train and freeze, whatever their names."""
    architecture = dataclasses.replace(make_model().architecture, name=network)
    model = dataclasses.replace(make_model(), network=build_network(architecture), architecture=architecture)
    plan = plan_transfer(model, model, "decoder", STRATEGIES["decoder"])
    assert len(plan.loaded) == len(plan.trained) + len(plan.frozen)
    assert len({model.network.state_dict()[name].data_ptr() for name in plan.loaded}) == len(plan.loaded)


def test_adabn_says_what_it_estimates(
    tuned: MakeTuned, patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """The plan lists the running statistics; a network without any is refused before anything is written."""
    plan = tuned("adabn").plan
    assert plan.trained == () and len(plan.estimated) > 6 and all("running_" in key for key in plan.estimated)
    assert f"estimated on the patients: {len(plan.estimated)} tensors" in str(plan)
    with pytest.raises(ConfigError, match="batch for `normalization`"):
        finetune(make_model(), patients, out=tmp_path / "u", transfer=Transfer(strategy="adabn", folds=2))
    assert not (tmp_path / "u").exists()
