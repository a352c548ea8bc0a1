from dataclasses import replace
from pathlib import Path

import pytest
from makers.segmentation import GRID, RECIPE, interrupted

from shiftkit.errors import ConfigError
from shiftkit.segmentation.training import recipes
from shiftkit.segmentation.training.recipes import LEAST_EPOCHS, STEPS, Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.types import Cohort


def test_patches_that_do_not_fit_are_refused(controls: Cohort, tmp_path: Path) -> None:
    """Before anything is loaded, the message names the size, what it must be, and the box."""
    for patch, words in (((10, 8, 8), "multiples of 4"), ((4, 4, 4), "larger than 4"), ((32, 8, 8), "24 × 24 × 16")):
        with pytest.raises(ConfigError, match=words):
            train(controls, out=tmp_path / "m", recipe=Recipe(modality="fa", patch=patch, **GRID))
    with pytest.raises(ConfigError, match="`shape` must be"):
        train(controls, out=tmp_path / "m", recipe=Recipe(modality="fa", **{**GRID, "shape": (24, 24, 18)}))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("participants", [1, 8, 36, 50, 400])
def test_few_participants_are_trained_on_for_as_many_steps_as_many(participants: int, batch_size: int) -> None:
    """By default a training has the same steps whatever the cohort, up to the last epoch; large ones have more.

    Some twenty validations choose among its epochs, however many these are.
    """
    schedule = Recipe(batch_size=batch_size).schedule(participants)
    an_epoch = schedule.steps(participants)
    steps = schedule.epochs * an_epoch
    assert steps == LEAST_EPOCHS * an_epoch or STEPS <= steps < STEPS + an_epoch
    assert schedule.epochs >= LEAST_EPOCHS
    assert 10 <= schedule.epochs // schedule.validate_every <= 40


def test_epochs_that_are_asked_for_are_made(controls: Cohort) -> None:
    """Asked for, the number of epochs is what it says, validated every second one."""
    schedule = Recipe(epochs=7).schedule(1000)
    assert (schedule.epochs, schedule.validate_every) == (7, 2)


def test_a_training_goes_on_by_the_length_it_was_begun_with(
    controls: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version may choose another length: what was begun or is finished is resumed with its own."""
    open_ended, out = replace(RECIPE, epochs=None), tmp_path / "m"
    monkeypatch.setattr(recipes, "LEAST_EPOCHS", 1)
    monkeypatch.setattr(recipes, "STEPS", 12)
    with pytest.raises(KeyboardInterrupt):
        train(controls, out=out, recipe=open_ended, work=interrupted("Training", 7))
    monkeypatch.setattr(recipes, "STEPS", 20)
    assert train(controls, out=out, recipe=open_ended, resume=True).training["epochs"] == 3
    assert train(controls, out=out, recipe=open_ended, resume=True).training["epochs"] == 3
    with pytest.raises(ConfigError, match=r"schedule\.epochs is 3 there, 4 now"):
        train(controls, out=out, recipe=replace(open_ended, epochs=4), resume=True)
