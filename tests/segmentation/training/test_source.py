from dataclasses import replace
from pathlib import Path

import pytest
import torch
from makers.segmentation import BUNDLES, GRID, PATCH, RECIPE, SHAPE, files_in, interrupted, same_weights

from shiftkit.errors import ConfigError, DataError
from shiftkit.segmentation.network.checkpoints import load_model, save_model
from shiftkit.segmentation.network.exporting import export_model, verify_model
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.types import Cohort
from shiftkit.work import Work

# A box that hardly holds the bundles: learning takes seconds in it.
LEARNING = replace(RECIPE, epochs=40, augmentation="none", channels=(8, 16), shape=(24, 16, 8))


def test_source_models_do_not_depend_on_the_memory(controls: Cohort, trained: Path, tmp_path: Path) -> None:
    """A checkpoint is the same whether participants are kept in memory or loaded again each time."""
    train(controls, out=tmp_path / "m", recipe=replace(RECIPE, memory_gib=0.0))
    assert files_in(tmp_path / "m") == files_in(trained)


def test_a_model_of_patches_learns_and_remembers_its_patch(controls: Cohort, tmp_path: Path) -> None:
    """Trained on patches alone, and predicting in windows, a model learns left from right, and says so on disk."""
    model = train(controls, out=tmp_path / "m", recipe=replace(LEARNING, epochs=45, patch=PATCH))
    assert model.training["validation_dice"] > 0.8
    again = load_model(tmp_path / "m")
    assert again.patch == PATCH and "16 × 12 × 8" in (tmp_path / "m" / "docs" / "README.md").read_text()
    save_model(again, tmp_path / "copy")
    metadata = Path("configs") / "metadata.json"
    assert (tmp_path / "copy" / metadata).read_bytes() == (tmp_path / "m" / metadata).read_bytes()


def test_supervision_is_kept_on_disk(controls: Cohort, tmp_path: Path) -> None:
    """A checkpoint comes back with its heads, checks out, exports one output, and resumes to the bit."""
    recipe = replace(RECIPE, epochs=2, network="dynunet", deep_supervision=True, patch=(16, 16, 8))
    model = train(controls, out=tmp_path / "m", recipe=recipe)
    again = load_model(tmp_path / "m")
    assert again.architecture.deep_supervision and again.digest == model.digest
    assert verify_model(tmp_path / "m").sound
    exported = torch.jit.load(export_model(again, tmp_path / "m.pt"))
    image = torch.rand(1, 4, *SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(exported(image), again.network(image), atol=1e-5, rtol=1e-4)

    with pytest.raises(KeyboardInterrupt):
        train(controls, out=tmp_path / "parts", recipe=recipe, work=interrupted("Training", 7))
    train(controls, out=tmp_path / "parts", recipe=recipe, resume=True)
    assert same_weights(tmp_path / "m", tmp_path / "parts")


def test_training_learns_left_from_right(controls: Cohort, tmp_path: Path) -> None:
    """A source model trained on a few look-alike controls segments both sides, each in its own channel."""
    calls: list[tuple[int, int, str]] = []
    model = train(
        controls,
        out=tmp_path / "m",
        work=Work(progress=lambda *call: calls.append(call)),
        recipe=LEARNING,
    )
    assert model.training["validation_dice"] > 0.9
    assert set(model.participants) == {case.key for case in controls}
    assert all(model.has_seen(case) for case in controls)
    assert calls[-1][0] == calls[-1][1] and calls[-1][2].startswith("Training · loss")
    assert len(model.feature_statistics["encoder-1"]["mean"]) == 8
    assert not (tmp_path / "m" / "state").exists()


def test_the_same_seed_gives_the_same_weights(controls: Cohort, trained: Path, tmp_path: Path) -> None:
    """Weights depend on data, settings and seed alone."""
    for seed in (0, 1):
        train(controls, out=tmp_path / str(seed), recipe=replace(RECIPE, seed=seed))
    assert same_weights(tmp_path / "0", trained)
    assert not same_weights(tmp_path / "1", trained)


def test_folds_predict_every_control_unseen(controls: Cohort, tmp_path: Path) -> None:
    """With folds every control is predicted, by a model that has not seen it."""
    made = train(controls, out=tmp_path / "m", folds=3, recipe=replace(RECIPE, epochs=1))
    assert [case.key for case in made.predictions.cohort] == [case.key for case in controls]
    for case in controls:
        assert sum(not model.has_seen(case) for model in made.models) == 1
    rows = made.predictions.cohort.cases[0]
    assert set(rows.masks) == set(BUNDLES)


def test_bad_requests_are_refused(controls: Cohort, tmp_path: Path) -> None:
    """Missing bundles, modalities, participants and devices end with one clear error."""
    with pytest.raises(DataError, match="has masks of: AF; got XYZ"):
        train(controls, out=tmp_path / "a", recipe=Recipe(modality="fa", bundles=["XYZ"]))
    with pytest.raises(DataError, match="t1w"):
        train(controls, out=tmp_path / "b", recipe=Recipe(modality="t1w", **GRID))
    with pytest.raises(DataError, match="split 'train'"):
        train(controls.where(split="val"), out=tmp_path / "c", recipe=Recipe(modality="fa"))
    with pytest.raises(ConfigError, match="auto, cpu, cuda or mps"):
        train(controls, out=tmp_path / "d", recipe=Recipe(modality="fa", device="tpu", **GRID))
    with pytest.raises(ConfigError, match="`augmentation` must be one of none, light"):
        train(controls, out=tmp_path / "e", recipe=Recipe(modality="fa", augmentation="weird"))


def test_a_folder_of_the_users_is_not_trained_into(controls: Cohort, tmp_path: Path) -> None:
    """A file that is none of shiftkit's: refused before training, by its name, and left as it was; resumed too."""
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"holds notes\.txt"):
            train(controls, out=tmp_path, recipe=RECIPE, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
