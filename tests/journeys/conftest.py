"""Fixtures of the journeys: two small cohorts and a maker of untrained models, as in the segmentation room."""

import pytest
import torch
from makers.segmentation import MakeModel, small_model, write_cohort

from shiftkit.types import Cohort


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results to the bit need a fixed number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def controls(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Six controls."""
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "controls", 6)


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Six patients."""
    return write_cohort(tmp_path_factory.mktemp("cohorts") / "patients", 6, group="glioma", prefix="p")


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Maker of small untrained models."""
    return small_model
