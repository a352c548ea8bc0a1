"""Fixtures of the segmentation room: two small cohorts and a maker of untrained models."""

from collections.abc import Callable

import pytest
import torch
from makers.segmentation import BUNDLES, GRID, SHAPE, write_cohort

from shiftkit.segmentation.network.checkpoints import Model
from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.types import Bundle, Cohort


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


@pytest.fixture
def make_model() -> Callable[..., Model]:
    """Maker of small untrained models."""

    def make(
        seed: int = 0, modality: str = "fa", bundles: tuple[Bundle, ...] = BUNDLES, normalization: str = "instance"
    ) -> Model:
        torch.manual_seed(seed)
        inputs = {"fa": 1, "peaks": 9}[modality] + 3
        architecture = Architecture(
            in_channels=inputs, out_channels=len(bundles), channels=GRID["channels"], normalization=normalization
        )
        return Model(
            name="small",
            network=build_network(architecture).eval(),
            architecture=architecture,
            modality=modality,
            bundles=bundles,
            spacing_mm=2.5,
            shape=SHAPE,
            thresholds=dict.fromkeys(bundles, 0.5),
            participants={},
        )

    return make
