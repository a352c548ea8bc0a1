import dataclasses
from pathlib import Path

import pytest
import torch
from makers.segmentation import MakeModel

from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.segmentation.prediction.routing import Folds, open_models
from shiftkit.segmentation.training.folds import fold_members
from shiftkit.segmentation.transfer.finetuning import Transfer, finetune
from shiftkit.segmentation.transfer.strategies import STRATEGIES
from shiftkit.types import Bundle, Cohort
from shiftkit.work import Work


def test_the_patients_of_a_finetuning_get_their_out_of_fold_masks_again(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Routed through the folds that fine-tuning left, every mask is the byte-identical out-of-fold one."""
    tuned = finetune(make_model(), patients, out=tmp_path / "t", transfer=Transfer(folds=3, epochs=1, device="cpu"))
    models = open_models([tmp_path / "t"])
    assert isinstance(models, Folds) and models.name == tuned.model == "small+decoder"
    again = predict(models, patients, out=tmp_path / "p", device="cpu")
    for one, two in zip(tuned.cohort, again.cohort, strict=True):
        for bundle, path in one.probabilities.items():
            assert path.read_bytes() == two.probabilities[bundle].read_bytes()


TRAINING = [name for name, one in STRATEGIES.items() if one.keeps_source and name not in ("none", "adabn")]


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
