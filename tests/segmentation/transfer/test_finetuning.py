import dataclasses
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE

from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.segmentation.network.checkpoints import Model, load_model
from shiftkit.segmentation.network.networks import Architecture, build_network, level_of, levels, part_of
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.segmentation.training.epochs import Anchor, Restraint, Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.folds import fold_members, split_fold
from shiftkit.segmentation.transfer.adaptation import add_bundles, add_inputs, refresh_statistics
from shiftkit.segmentation.transfer.finetuning import Transfer, finetune
from shiftkit.segmentation.transfer.plan import TransferPlan, plan_transfer
from shiftkit.segmentation.transfer.shots import finetune_shots
from shiftkit.segmentation.transfer.strategies import STRATEGIES, freeze
from shiftkit.types import Bundle, Case, Cohort
from shiftkit.work import Work

MakeModel = Callable[..., Model]
TRAINING = [name for name, one in STRATEGIES.items() if one.keeps_source and name not in ("none", "adabn")]


def logits(model: Model, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.network(image)


@pytest.mark.parametrize("name", TRAINING)
def test_frozen_tensors_stay_bit_identical(name: str, patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """What a strategy freezes is the source's to the bit after training; everything else has moved."""
    model = make_model()
    finetune(model, patients, out=tmp_path / "t", transfer=Transfer(strategy=name, folds=2, epochs=1, device="cpu"))
    tuned = load_model(tmp_path / "t" / "fold-1")
    trains = STRATEGIES[name].trains
    before, after = dict(model.network.named_parameters()), dict(tuned.network.named_parameters())
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key for key in before if not trains(key)}.isdisjoint(moved)
    # Biases before instance normalization have no effect, hence no gradient, and the last blocks of a gradual
    # unfreezing have their turn only at the end.
    weights = {key for key in before if trains(key) and key.endswith("conv.weight")}
    assert name == "gradual" or weights <= moved
    assert moved


def test_zero_shot_predicts_as_the_source(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Strategy none changes nothing: weights and thresholds are the source's."""
    model = make_model()
    finetune(model, patients, out=tmp_path / "t", transfer=Transfer(strategy="none", folds=2, device="cpu"))
    tuned = load_model(tmp_path / "t" / "fold-2")
    assert tuned.digest == model.digest and tuned.thresholds == model.thresholds


def test_scratch_forgets_the_source(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Training from scratch starts from the same random weights, whatever the source, and has seen no source image."""
    for seed in (0, 1):
        model = dataclasses.replace(make_model(seed=seed), participants={"sub-x": "digest"})
        finetune(
            model,
            patients,
            out=tmp_path / str(seed),
            transfer=Transfer(strategy="scratch", folds=2, epochs=1, device="cpu"),
        )
    one, two = (load_model(tmp_path / str(seed) / "fold-1") for seed in (0, 1))
    assert one.digest == two.digest and "sub-x" not in one.participants


def test_each_patient_is_predicted_by_the_model_that_never_saw_it(
    patients: Cohort, controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Every patient has one unseen fold model, and the out-of-fold masks are that model's."""
    out = tmp_path / "t"
    made = finetune(
        make_model(), patients, out=out, controls=controls, transfer=Transfer(folds=3, epochs=1, device="cpu")
    )
    models = [load_model(out / f"fold-{number}") for number in (1, 2, 3)]
    assert [case.key for case in made.cohort] == [case.key for case in patients]
    assert made.model == "small+decoder"
    for case in patients:
        assert sum(not model.has_seen(case) for model in models) == 1
    tested = [fold_members(patients, 3, 0)[number] for number in range(3)]
    for model, members in zip(models, tested, strict=True):
        assert {case.participant_id for case in patients if not model.has_seen(case)} == members
    assert len(list((out / "controls").glob("sub-*"))) == len(controls)
    assert len((out / "predictions" / "participants.tsv").read_text().splitlines()) == 1 + len(patients)


def test_interrupted_finetuning_resumes_to_the_same_bytes(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Stopped in the second fold and resumed, weights and predictions are those of an undisturbed run."""

    def stop(done: int, total: int, text: str) -> None:
        if text.startswith("Fine-tuning fold 2/2") and done == 3:
            raise KeyboardInterrupt

    options = {"folds": 2, "epochs": 2, "device": "cpu"}
    finetune(make_model(), patients, out=tmp_path / "whole", transfer=Transfer(**options))
    with pytest.raises(KeyboardInterrupt):
        finetune(make_model(), patients, out=tmp_path / "parts", work=Work(progress=stop), transfer=Transfer(**options))
    with pytest.raises(ConfigError, match="resume"):
        finetune(make_model(), patients, out=tmp_path / "parts", transfer=Transfer(**options))
    finetune(make_model(), patients, out=tmp_path / "parts", resume=True, transfer=Transfer(**options))
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert len(files) > 30
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes(), file


def test_folds_keep_participants_together() -> None:
    """All sessions of a participant are in one fold; test, inner validation and training never share one."""
    cases = tuple(Case(participant_id=f"sub-{i:02d}", session=f"ses-{s}") for i in range(11) for s in (1, 2))
    cohort = Cohort(name="c", root=Path(), cases=cases)
    groups = fold_members(cohort, 4, seed=3)
    assert sorted(one for group in groups for one in group) == sorted({case.participant_id for case in cases})
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    for members in groups:
        training, inner = split_fold(cohort, members, seed=1)
        parts = [{case.participant_id for case in part} for part in (training, inner)] + [set(members)]
        assert sum(map(len, parts)) == 11 and len(set().union(*parts)) == 11
    with pytest.raises(ConfigError, match="between 2 and the number of participants, 11"):
        fold_members(cohort, 12, seed=0)


def test_fewer_shots_are_a_subset_of_more() -> None:
    """The same draw of fewer patients is contained in that of more; other draws differ; folds are respected."""
    cohort = Cohort(name="c", root=Path(), cases=tuple(Case(participant_id=f"sub-{i:02d}") for i in range(20)))
    members = fold_members(cohort, 4, seed=0)[0]

    def chosen(shots: int, draw: int = 0) -> set[str]:
        return {case.participant_id for part in split_fold(cohort, members, 5, shots, draw) for case in part}

    assert chosen(2) < chosen(4) < chosen(8)
    assert len(chosen(8)) == 8 and chosen(8).isdisjoint(members)
    assert chosen(4) != chosen(4, draw=1)
    with pytest.raises(ConfigError, match="`shots` must be between 1 and the 15"):
        chosen(16)


def test_learning_curves_cover_every_combination(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Each strategy meets each number of patients in each draw, on the same patients as its control."""
    made = finetune_shots(
        make_model(), patients, out=tmp_path, shots=(1, 2), draws=2, transfer=Transfer(folds=2, epochs=1, device="cpu")
    )
    assert set(made) == {(s, n, d) for s in ("decoder", "scratch") for n in (1, 2) for d in (0, 1)}
    for count in (1, 2):
        seen = [
            set(load_model(tmp_path / strategy / f"shots-{count}" / "draw-0" / "fold-1").participants)
            for strategy in ("decoder", "scratch")
        ]
        assert seen[0] == seen[1] and len(seen[0]) == count


def test_more_shots_than_patients_are_refused_before_anything_is_trained(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Of 2, 3 and 9 patients, four outside a fold allow the first two: nothing is loaded, trained or written."""
    for shots, draws, told in (((2, 3, 9), 1, "the 4 patients outside a fold; got 9"), ((2,), 0, "at least one draw")):
        with pytest.raises(ConfigError, match=told):
            finetune_shots(
                make_model(), patients, out=tmp_path / "t", shots=shots, draws=draws, transfer=Transfer(folds=3)
            )
    with pytest.raises(ConfigError, match="the 4 patients outside a fold; got 5, 0"):
        finetune_shots(make_model(), patients, out=tmp_path / "t", shots=(5, 0), transfer=Transfer(folds=3))
    with pytest.raises(ConfigError, match="`strategy` must be one of"):
        finetune_shots(make_model(), patients, out=tmp_path / "t", shots=(2,), strategies=("magic",))
    assert not (tmp_path / "t").exists()


def announced(model: Model, cohort: Cohort, out: Path, **options: object) -> TransferPlan:
    told: list[TransferPlan] = []
    finetune(
        model, cohort, out=out, announce=told.append, transfer=Transfer(folds=2, epochs=1, device="cpu", **options)
    )
    (plan,) = told
    return plan


@pytest.mark.parametrize("name", ["decoder", "scratch", "none"])
def test_the_plan_is_what_happens(name: str, patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """What the plan calls frozen is the source's to the bit afterwards, what it calls skipped is not."""
    model = make_model()
    plan = announced(model, patients, tmp_path / "t", strategy=name)
    before, after = model.network.state_dict(), load_model(tmp_path / "t" / "fold-2").network.state_dict()
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
    kept = json.loads((tmp_path / "t" / "fold-2" / "transfer.json").read_text())
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
    assert announced(model, patients, tmp_path / "t", bundles=["AFright"]).new_heads == BUNDLES[1:]
    assert load_model(tmp_path / "t" / "fold-1").bundles == BUNDLES


@pytest.mark.parametrize("network", ["segresnet", "dynunet"])
def test_each_tensor_is_counted_once(network: str, make_model: MakeModel) -> None:
    """Networks without running statistics load as many tensors as they train and freeze, whatever their names."""
    architecture = dataclasses.replace(make_model().architecture, name=network)
    model = dataclasses.replace(make_model(), network=build_network(architecture), architecture=architecture)
    plan = plan_transfer(model, model, "decoder", STRATEGIES["decoder"])
    assert len(plan.loaded) == len(plan.trained) + len(plan.frozen)
    assert len({model.network.state_dict()[name].data_ptr() for name in plan.loaded}) == len(plan.loaded)


def test_adabn_says_what_it_estimates(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """The plan lists the running statistics; a network without any is refused before anything is written."""
    plan = announced(make_model(normalization="batch"), patients, tmp_path / "t", strategy="adabn")
    assert plan.trained == () and len(plan.estimated) > 6 and all("running_" in key for key in plan.estimated)
    assert f"estimated on the patients: {len(plan.estimated)} tensors" in str(plan)
    with pytest.raises(ConfigError, match="batch for `normalization`"):
        finetune(make_model(), patients, out=tmp_path / "u", transfer=Transfer(strategy="adabn", folds=2))
    assert not (tmp_path / "u").exists()


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


def test_running_statistics_of_frozen_layers_stay(patients: Cohort, make_model: MakeModel) -> None:
    """Training the decoder leaves the frozen encoder's batch statistics alone, and moves the decoder's."""
    network = make_model(normalization="batch").network
    freeze(network, STRATEGIES["decoder"].trains)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in patients.cases[:2]]
    fit(network, samples, [], Schedule(epochs=1, learning_rate=1e-3), seed=0, device="cpu")
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, before[name]) == (part_of(name) == "encoder"), name


def test_a_rate_of_zero_keeps_a_parameter_to_the_bit(patients: Cohort, make_model: MakeModel) -> None:
    """Blocks that wait for their turn in gradual unfreezing do not move, not even by weight decay."""
    network = make_model().network
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in patients.cases[:2]]
    fit(
        network,
        samples,
        [],
        Schedule(epochs=1, learning_rate=1e-2),
        seed=0,
        device="cpu",
        restraint=Restraint(rate=lambda name, share: float(part_of(name) == "head")),
    )
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) == (part_of(name) != "head"), name


@pytest.mark.parametrize(
    ("name", "first", "count"), [("unet", "model.0.", 6), ("segresnet", "convInit", 9), ("dynunet", "input_block", 6)]
)
def test_gradual_unfreezing_goes_from_the_output_to_the_input(name: str, first: str, count: int) -> None:
    """In every network blocks join in order of their distance from the output; at three quarters all of them train."""
    network = build_network(Architecture(name=name, in_channels=4, out_channels=2, channels=(8, 16, 32)))
    rate = STRATEGIES["gradual"].rate(network)
    names = sorted(levels(network), key=level_of)
    assert part_of(names[0]) == "head" and names[-1].startswith(first)
    assert len(set(levels(network).values())) == count
    parts = [part_of(name) for name in names]
    assert parts == sorted(parts, key=["head", "decoder", "encoder"].index)
    counts = [sum(rate(name, share) for name in names) for share in np.linspace(0, 1, 9)]
    assert counts == sorted(counts) and counts[0] == parts.count("head") and counts[6] == len(names)
    decayed = STRATEGIES["layerwise"].rate(network)
    values = [decayed(name, 0.0) for name in names]
    assert values == sorted(values, reverse=True) and values[0] == 1


def test_a_strong_anchor_holds_the_weights(patients: Cohort, make_model: MakeModel) -> None:
    """The penalty is strength/2 times the squared distance, and the stronger it is, the less weights move."""
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in patients.cases[:2]]
    moved = []
    for strength in (0.0, 1000.0):
        network = make_model().network
        source = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        anchor = Anchor(weights=source, strength=strength)
        schedule = Schedule(epochs=6, learning_rate=1e-3, weight_decay=0)
        fit(network, samples, [], schedule, seed=0, device="cpu", restraint=Restraint(anchor=anchor))
        now = {name: parameter.detach() for name, parameter in network.named_parameters()}
        distance = sum(float(((now[name] - source[name]) ** 2).sum()) for name in now)
        penalty = float(Anchor(weights=source, strength=3.0).penalty(network).detach())
        assert penalty == pytest.approx(1.5 * distance, rel=1e-3)
        moved.append(distance)
    assert moved[1] < 0.5 * moved[0]


def test_bad_requests_are_refused(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Unknown strategies, impossible folds and models for other bundles end with one clear error."""
    with pytest.raises(ConfigError, match="`strategy` must be one of none, scratch"):
        finetune(make_model(), patients, out=tmp_path / "a", transfer=Transfer(strategy="magic"))
    with pytest.raises(ConfigError, match="`folds`"):
        finetune(make_model(), patients, out=tmp_path / "b", transfer=Transfer(folds=7))
    with pytest.raises(ModelMismatchError, match="predicts CC, cohort patients has AFleft AFright"):
        finetune(make_model(bundles=(Bundle.parse("CC"),)), patients, out=tmp_path / "c")
    with pytest.raises(DataError, match="t1w"):
        finetune(make_model(), patients, out=tmp_path / "d", transfer=Transfer(folds=2, modality="fa+t1w"))
    with pytest.raises(DataError, match=r"asks for CC AF, cohort patients has masks of AFleft AFright"):
        finetune(make_model(), patients, out=tmp_path / "e", transfer=Transfer(folds=2, bundles=["CC", "AF", "AFleft"]))
    assert list(tmp_path.iterdir()) == []


DDP = """
import os, sys, torch
from pathlib import Path
from shiftkit.cohorts.folder import load_cohort
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.network.networks import Architecture, build_network
from safetensors.torch import save_file
torch.set_num_threads(1)
cohort, out = load_cohort(Path(sys.argv[1])), Path(sys.argv[2])
samples = [load_sample(case, "fa", 2.5, (24, 24, 16), cohort.bundles) for case in cohort.cases[:4]]
torch.manual_seed(0)
network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8, 16)))
fit(network, samples, [], Schedule(epochs=3, learning_rate=1e-3, batch_size=2), seed=0, device="cpu")
if os.environ.get("RANK", "0") == "0":
    with torch.no_grad():
        answer = [torch.sigmoid(network(torch.from_numpy(sample.image)[None])) for sample in samples]
    save_file({"probability": torch.cat(answer)}, out)
"""


@pytest.mark.slow
def test_two_processes_reach_the_result_of_one(patients: Cohort, tmp_path: Path) -> None:
    """The same batches shared out among two processes (gloo) give the same probabilities within 1e-4.

    Weights are not compared: biases before instance normalization have no effect and no gradient but rounding,
    which Adam blows up to full steps.
    """
    from safetensors.torch import load_file

    script = tmp_path / "train.py"
    script.write_text(DDP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run([sys.executable, script, patients.root, tmp_path / "one"], check=True)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    subprocess.run([sys.executable, *launch, script, patients.root, tmp_path / "two"], check=True)
    one, two = load_file(tmp_path / "one")["probability"], load_file(tmp_path / "two")["probability"]
    assert float(one.std()) > 0.01
    assert float((one - two).abs().max()) < 1e-4
