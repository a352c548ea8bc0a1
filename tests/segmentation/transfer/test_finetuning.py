import dataclasses
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers.segmentation import BUNDLES, SHAPE, MakeModel, MakeTuned, Own, files_in, interrupted, own_model
from safetensors.torch import load_file, save_file

from shiftkit.cohorts.folder import load_cohort
from shiftkit.errors import ConfigError, DataError, MachineError, ModelMismatchError
from shiftkit.files import held, write_json
from shiftkit.images import read_image, write_image
from shiftkit.segmentation.network.checkpoints import Model, load_model
from shiftkit.segmentation.network.foreign import authored
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.segmentation.prediction.inference import predict_probabilities
from shiftkit.segmentation.prediction.routing import Folds, open_models
from shiftkit.segmentation.training.folds import fold_members
from shiftkit.segmentation.transfer.finetuning import Transfer, finetune, finetune_fold
from shiftkit.segmentation.transfer.strategies import STRATEGIES
from shiftkit.types import Bundle, Cohort


def test_the_patients_of_a_finetuning_get_their_out_of_fold_masks_again(
    tuned: MakeTuned, patients: Cohort, tmp_path: Path
) -> None:
    """Routed through the folds that fine-tuning left, every mask is the byte-identical out-of-fold one."""
    made = tuned("decoder")
    models = open_models([made.folder])
    assert isinstance(models, Folds) and models.name == made.predictions.model == "small+decoder"
    again = predict(models, patients, out=tmp_path / "p", device="cpu")
    for one, two in zip(made.predictions.cohort, again.cohort, strict=True):
        for bundle, path in one.probabilities.items():
            assert path.read_bytes() == two.probabilities[bundle].read_bytes()


TRAINING = [name for name, one in STRATEGIES.items() if one.keeps_source and name not in ("none", "adabn")]


@pytest.mark.parametrize("name", TRAINING)
def test_frozen_tensors_stay_bit_identical(name: str, tuned: MakeTuned, make_model: MakeModel) -> None:
    """What a strategy freezes is the source's to the bit after training; everything else has moved."""
    model = load_model(tuned(name).folder / "fold-1")
    trains = STRATEGIES[name].trains
    before, after = dict(make_model().network.named_parameters()), dict(model.network.named_parameters())
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key for key in before if not trains(key)}.isdisjoint(moved)
    # Biases before instance normalization have no effect, hence no gradient, and the last blocks of a gradual
    # unfreezing have their turn only at the end.
    weights = {key for key in before if trains(key) and key.endswith("conv.weight")}
    assert name == "gradual" or weights <= moved
    assert moved


def test_zero_shot_predicts_as_the_source(tuned: MakeTuned, make_model: MakeModel) -> None:
    """Strategy none changes nothing: weights and thresholds are the source's."""
    source, model = make_model(), load_model(tuned("none").folder / "fold-2")
    assert model.digest == source.digest and model.thresholds == source.thresholds


def test_scratch_forgets_the_source(tuned: MakeTuned, patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Training from scratch starts from the same random weights, whatever the source, and has seen no source image."""
    other = dataclasses.replace(make_model(seed=1), participants={"sub-x": "digest"})
    transfer = Transfer(strategy="scratch", folds=2, epochs=1, device="cpu")
    finetune(other, patients, out=tmp_path / "t", transfer=transfer)
    one, two = (load_model(folder / "fold-1") for folder in (tuned("scratch").folder, tmp_path / "t"))
    assert one.digest == two.digest and "sub-x" not in two.participants


def test_each_patient_is_predicted_by_the_model_that_never_saw_it(
    tuned: MakeTuned, patients: Cohort, controls: Cohort
) -> None:
    """Every patient has one unseen fold model, and the out-of-fold masks are that model's."""
    out, made = tuned("decoder").folder, tuned("decoder").predictions
    models = [load_model(out / f"fold-{number}") for number in (1, 2)]
    assert [case.key for case in made.cohort] == [case.key for case in patients]
    assert made.model == "small+decoder"
    for case in patients:
        assert sum(not model.has_seen(case) for model in models) == 1
    for model, members in zip(models, fold_members(patients, 2, 0), strict=True):
        assert {case.participant_id for case in patients if not model.has_seen(case)} == members
    assert len(list((out / "controls").glob("sub-*"))) == len(controls)
    assert len((out / "predictions" / "participants.tsv").read_text().splitlines()) == 1 + len(patients)


def test_interrupted_finetuning_resumes_to_the_same_bytes(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Stopped in the second fold and resumed, weights and predictions are those of an undisturbed run."""
    transfer = Transfer(folds=2, epochs=2, device="cpu")
    finetune(make_model(), patients, out=tmp_path / "whole", transfer=transfer)
    stop = interrupted("Fine-tuning fold 2/2", 3)
    with pytest.raises(KeyboardInterrupt):
        finetune(make_model(), patients, out=tmp_path / "parts", transfer=transfer, work=stop)
    with pytest.raises(ConfigError, match="resume"):
        finetune(make_model(), patients, out=tmp_path / "parts", transfer=transfer)
    finetune(make_model(), patients, out=tmp_path / "parts", transfer=transfer, resume=True)
    assert len(files_in(tmp_path / "whole")) > 30
    assert files_in(tmp_path / "whole") == files_in(tmp_path / "parts")


def test_bad_requests_are_refused(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Unknown strategies, impossible folds and models for other bundles end with one clear error."""
    with pytest.raises(ConfigError, match="`strategy` must be one of none, scratch"):
        finetune(make_model(), patients, out=tmp_path / "a", transfer=Transfer(strategy="magic"))
    with pytest.raises(ConfigError, match="`folds`"):
        finetune(make_model(), patients, out=tmp_path / "b", transfer=Transfer(folds=7))
    with pytest.raises(ModelMismatchError, match="predicts CC, cohort patients has AFleft AFright"):
        finetune(make_model(bundles=(Bundle.parse("CC"),)), patients, out=tmp_path / "c")
    with pytest.raises(ModelMismatchError, match="t1w"):
        finetune(make_model(), patients, out=tmp_path / "d", transfer=Transfer(folds=2, modality="fa+t1w"))
    with pytest.raises(DataError, match="must name what patients has masks of: AF; got CC"):
        finetune(make_model(), patients, out=tmp_path / "e", transfer=Transfer(folds=2, bundles=["CC", "AF", "AFleft"]))
    assert list(tmp_path.iterdir()) == []


def test_folds_are_not_resumed_with_other_people_or_settings(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """A cohort that grew would be predicted by folds that saw it, other epochs would mix: both are refused by name."""
    first = dataclasses.replace(patients, cases=patients.cases[:-1])
    transfer = Transfer(strategy="head", folds=2, epochs=1, device="cpu")
    finetune(make_model(), first, out=tmp_path / "t", transfer=transfer)
    before = files_in(tmp_path / "t")
    for cohort, changed, words in (
        (patients, transfer, r"participants\."),
        (first, dataclasses.replace(transfer, epochs=2), r"settings\.epochs is 1 there, 2 now"),
        (first, dataclasses.replace(transfer, strategy="full"), "strategy"),
        (first, dataclasses.replace(transfer, folds=3), "made otherwise"),
    ):
        with pytest.raises(ConfigError, match=words):
            finetune(make_model(), cohort, out=tmp_path / "t", transfer=changed, resume=True)
    assert files_in(tmp_path / "t") == before


QUICK = Transfer(strategy="full", folds=2, epochs=1, device="cpu")


def test_a_changed_control_is_refused_and_what_is_finished_stays_so(
    patients: Cohort, controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """No fold is trained on controls, so only their predictions tell; the folder is finished before and after."""
    healthy = load_cohort(Path(shutil.copytree(controls.root, tmp_path / "healthy")))
    call = partial(finetune, make_model(), patients, out=tmp_path / "t", transfer=QUICK, controls=healthy)
    call()
    before, case = files_in(tmp_path / "t"), healthy.cases[0]
    image = read_image(case.images["fa"])
    write_image(image.with_array(image.array * 0.5), case.images["fa"])
    with pytest.raises(ConfigError, match=rf"a prediction of {case.key} made otherwise: images\.fa"):
        call(resume=True)
    assert files_in(tmp_path / "t") == before


@pytest.mark.parametrize(
    ("strategy", "output"),
    [("full", "logits"), ("full", "probabilities"), ("head", "logits"), ("norm", "probabilities"), ("l2sp", "logits")],
)
def test_a_module_of_others_is_tuned_out_of_fold(strategy: str, output: str, patients: Cohort, tmp_path: Path) -> None:
    """What a strategy names moves and nothing else; folds on disk, loaded with the source, are those that predicted."""
    source = own_model(output)
    moves = {
        "full": {"out.weight", "out.bias", "down.0.weight", "down.0.bias", "down.1.weight", "down.1.bias"},
        "head": {"out.weight", "out.bias"},
        "norm": {"down.1.weight", "down.1.bias"},
    }
    transfer = dataclasses.replace(QUICK, strategy=strategy)
    made = finetune(source, patients, out=tmp_path / "t", transfer=transfer)
    folds = [load_model(tmp_path / "t" / f"fold-{number}", source) for number in (1, 2)]
    before = authored(source.network).state_dict()
    for fold in folds:
        after = authored(fold.network).state_dict()
        assert {name for name in before if not torch.equal(before[name], after[name])} == moves.get(
            strategy, moves["full"]
        )
    assert not folds[0].knows_training, "whom the source has seen nobody said"
    for case, theirs in zip(made.cohort, patients, strict=True):
        (unseen,) = (fold for fold in folds if not fold.has_seen(theirs))
        again = predict_probabilities(unseen, theirs)
        for bundle, path in case.probabilities.items():
            np.testing.assert_allclose(read_image(path).array, again[bundle].array, atol=1 / 255)


def test_weights_of_others_are_kept_as_their_author_names_them(patients: Cohort, tmp_path: Path) -> None:
    """A fold's safetensors file goes into the bare module; without the code, or with other code, it is not loaded."""
    source = own_model()
    finetune(source, patients, out=tmp_path / "t", transfer=QUICK)
    fold = tmp_path / "t" / "fold-1"
    bare = Own()
    bare.load_state_dict(load_file(fold / "models" / "model.safetensors"))
    assert not [*fold.rglob("*.pt"), *fold.rglob("*.pkl")]
    with pytest.raises(ConfigError, match=r"says which code is run.*file\.py:function@.*fold-1"):
        load_model(fold)
    with pytest.raises(ConfigError, match="have changed since"):
        load_model(fold, own_model("probabilities"))
    with pytest.raises(ConfigError, match="have changed since"):
        load_model(fold, Model(network=Own(channels=8), modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE))


def test_tuning_a_module_of_others_goes_on_only_with_the_same_weights_and_code(
    patients: Cohort, tmp_path: Path
) -> None:
    """Resumed with the same module nothing changes; with other weights, or another class, it is refused."""
    transfer = dataclasses.replace(QUICK, strategy="head", epochs=2)
    finetune(own_model(), patients, out=tmp_path / "whole", transfer=transfer)
    with pytest.raises(KeyboardInterrupt):
        stop = interrupted("Fine-tuning fold 2/2", 3)
        finetune(own_model(), patients, out=tmp_path / "parts", transfer=transfer, work=stop)
    kept = files_in(tmp_path / "parts")
    with pytest.raises(ConfigError, match=r"(?i)source"):
        finetune(own_model(seed=1), patients, out=tmp_path / "parts", transfer=transfer, resume=True)

    class Other(Own):
        """Its parts are the same, its code is not."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image) * 2

    other = Other()
    other.load_state_dict(authored(own_model().network).state_dict())
    changed = Model(network=other, modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE, name="Own")
    with pytest.raises(ConfigError, match="have changed since"):
        finetune(changed, patients, out=tmp_path / "parts", transfer=transfer, resume=True)
    assert files_in(tmp_path / "parts") == kept
    finetune(own_model(), patients, out=tmp_path / "parts", transfer=transfer, resume=True)
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")
    with pytest.raises(ConfigError, match="layers"):
        other_layers = dataclasses.replace(transfer, layers=["down"])
        finetune(own_model(), patients, out=tmp_path / "parts", transfer=other_layers, resume=True)


class NoGradient(Own):
    """Computes without gradients."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits that nothing leads back from."""
        return super().forward(image).detach()


def test_what_has_no_gradient_is_not_tuned(patients: Cohort, tmp_path: Path) -> None:
    """Labels and answers that are detached are refused with the cure, before anything is written."""
    with pytest.raises(ConfigError, match=r"labels have none.*logits or probabilities"):
        finetune(own_model("labels"), patients, out=tmp_path / "a", transfer=QUICK)
    deaf = Model(network=NoGradient(), modality="fa", bundles=BUNDLES, spacing_mm=2.5, shape=SHAPE)
    with pytest.raises(ConfigError, match=r"torch\.no_grad"):
        finetune(deaf, patients, out=tmp_path / "b", transfer=QUICK)
    with pytest.raises(ConfigError, match="`bundles` needs a network that shiftkit can build again"):
        add = dataclasses.replace(QUICK, bundles=["AFright"])
        finetune(own_model(bundles=BUNDLES[:1]), patients, out=tmp_path / "c", transfer=add)
    assert list(tmp_path.iterdir()) == []


def test_folds_of_a_monai_bundle_are_bundles_again(patients: Cohort, tmp_path: Path) -> None:
    """They keep the definition of their network: loaded by themselves, they are what was tuned."""
    from monai.networks.nets.unet import UNet

    parts: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    parts["norm"] = ["instance", {"affine": True}]
    told = {"modality": "fa", "bundles": ["AFleft", "AFright"], "spacing_mm": 2.5, "shape": SHAPE}
    source = tmp_path / "bundle"
    write_json(source / "configs" / "inference.json", {"network_def": {"_target_": "UNet", **parts}})
    write_json(source / "configs" / "metadata.json", {"shiftkit": told})
    (source / "models").mkdir()
    save_file(UNet(**parts).state_dict(), source / "models" / "model.safetensors")
    finetune(load_model(source), patients, out=tmp_path / "t", transfer=dataclasses.replace(QUICK, strategy="norm"))
    one, two = load_model(tmp_path / "t" / "fold-1"), load_model(tmp_path / "t" / "fold-1", load_model(source))
    assert one.digest == two.digest != load_model(source).digest and one.bundles == BUNDLES


def test_folds_that_were_trained_one_by_one_are_those_of_one_call(
    tuned: MakeTuned, patients: Cohort, controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """In any order, beside each other's locks; taken up by the whole fine-tuning, every file is as without.

    A fold that is there, or that there is none of, is refused, and so is one that somebody else is at work in; one of
    other settings is never taken for one's own.
    """
    made, out = tuned("decoder"), tmp_path / "t"
    transfer = Transfer(strategy="decoder", folds=2, epochs=1, device="cpu")
    with held(out / "fold-1", "finetune"):
        two = finetune_fold(make_model(), patients, 2, out=out, transfer=transfer)
    assert sorted(path.name for path in out.iterdir()) == ["fold-2"]
    assert two.digest == load_model(made.folder / "fold-2").digest
    for fold, told in ((2, "is begun or made"), (3, "from 1 to 2; got 3")):
        with pytest.raises(ConfigError, match=told):
            finetune_fold(make_model(), patients, fold, out=out, transfer=transfer)
    with pytest.raises(ConfigError, match="seed"):
        finetune_fold(make_model(), patients, 2, out=out, transfer=dataclasses.replace(transfer, seed=1), resume=True)
    finetune_fold(make_model(), patients, 1, out=out, transfer=transfer)
    finetune(make_model(), patients, out=out, transfer=transfer, controls=controls, resume=True)
    assert files_in(out) == files_in(made.folder)
    busy = (
        "import sys, time; from pathlib import Path; from shiftkit.files import held\n"
        f"with held(Path({str(tmp_path / 'u' / 'fold-1')!r}), 'finetune'): print(1, flush=True); time.sleep(60)"
    )
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE, env=there) as other:
        assert other.stdout is not None and other.stdout.readline()
        for call in (partial(finetune_fold, fold=1), partial(finetune, resume=True)):
            with pytest.raises(MachineError, match="is at work"):
                call(make_model(), patients, out=tmp_path / "u", transfer=transfer)
        other.kill()
