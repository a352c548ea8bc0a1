"""Fixtures of the segmentation room: two small cohorts and a maker of untrained models."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from makers.segmentation import RECIPE, controls, make_model, on_grid, one_thread, patients, small_model

from shiftkit.segmentation.samples.samples import Sample
from shiftkit.segmentation.training.source import train
from shiftkit.segmentation.transfer.finetuning import Transfer, finetune
from shiftkit.segmentation.transfer.plan import TransferPlan
from shiftkit.types import Cohort, Predictions

__all__ = ["controls", "make_model", "one_thread", "patients"]


@pytest.fixture(scope="session")
def trained(controls: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint trained by `RECIPE`; tests copy it before they change it."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained") / "m"
    train(controls, out=out, recipe=RECIPE)
    return out


@dataclass(frozen=True)
class Tuned:
    """A fine-tuning that tests look at: what was announced, where it is, what was predicted out of fold."""

    plan: TransferPlan
    folder: Path
    predictions: Predictions


@pytest.fixture(scope="session")
def tuned(patients: Cohort, controls: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Tuned]:
    """One epoch of the small model in two folds, with controls, by strategy; made once each."""

    @cache
    def make(strategy: str) -> Tuned:
        told: list[TransferPlan] = []
        torch.set_num_threads(1)
        folder = tmp_path_factory.mktemp("tuned") / strategy
        made = finetune(
            small_model(normalization="batch" if strategy == "adabn" else "instance"),
            patients,
            out=folder,
            transfer=Transfer(strategy=strategy, folds=2, epochs=1, device="cpu"),
            controls=controls,
            announce=told.append,
        )
        (plan,) = told
        return Tuned(plan, folder, made)

    return make


@pytest.fixture(scope="session")
def samples(controls: Cohort) -> list[Sample]:
    """The controls on the small models' grid, with their masks; nobody may change them."""
    return on_grid(controls)
