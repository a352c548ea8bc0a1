"""Small synthetic cohorts: two tubes a hemisphere in a brain that is brighter on one side."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shiftkit import cohorts
from shiftkit.images import write_image
from shiftkit.segmentation.checkpoints import Model, load_model
from shiftkit.segmentation.network import Architecture, build_network
from shiftkit.types import Bundle, Cohort, Volume

SHAPE = (24, 24, 16)
BUNDLES = tuple(Bundle.parse(label) for label in ("AFleft", "AFright"))
GRID = {"channels": (4, 8, 16), "spacing_mm": 2.5, "shape": SHAPE}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Results to the bit need a fixed number of threads."""
    torch.set_num_threads(1)


def write_cohort(root: Path, count: int, *, group: str = "control", prefix: str = "c", bundles=BUNDLES) -> Cohort:
    """Write ``count`` participants: 3/4 train, the rest val, on a grid whose axes run LPS."""
    rng = np.random.default_rng(len(prefix) + count)
    affine = np.diag([-2.5, -2.5, 2.5, 1.0])
    affine[:3, 3] = [28.75, 28.75, -18.75]
    x, y, z = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    world_x = affine[0, 0] * x + affine[0, 3]
    brain = ((x - 11.5) / 11) ** 2 + ((y - 11.5) / 11) ** 2 + ((z - 7.5) / 7.5) ** 2 < 1
    rows = []
    for number in range(count):
        key = f"sub-{prefix}{number:02d}"
        height = 7 + rng.integers(-1, 2)
        image = (0.3 + rng.normal(0, 0.02, SHAPE)) * brain
        peaks = rng.normal(0, 0.05, (*SHAPE, 9)) * brain[..., None]
        for bundle in bundles:
            side = -1 if bundle.hemisphere == "left" else 1
            tube = (np.abs(world_x - side * 12.5) < 4) & (np.abs(z - height) < 2) & (np.abs(y - 11.5) < 8) & brain
            image[tube] += 0.5
            peaks[tube, :3] = [0.1, 0.9, 0.1]
            write_image(Volume(array=tube, affine=affine), cohorts.mask_path(root, key, bundle))
        write_image(Volume(array=image.astype(np.float32), affine=affine), cohorts.image_path(root, key, "fa"))
        path = cohorts.image_path(root, key, "peaks")
        write_image(Volume(array=peaks.astype(np.float32), affine=affine), path)
        cohorts.write_peaks_sidecar(path)
        split = "train" if number < count * 3 / 4 else "val"
        rows.append({"participant_id": key, "group": group, "split": split})
    cohorts.write_description(root, root.name)
    cohorts.write_participants(root, pd.DataFrame(rows))
    return cohorts.load_cohort(root)


def same_weights(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same weights, to the bit."""
    one, two = load_model(a).network.state_dict(), load_model(b).network.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


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
