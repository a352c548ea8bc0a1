"""Small synthetic cohorts: two tubes a hemisphere in a brain that is brighter on one side."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shiftkit import cohorts
from shiftkit.images import read_image, write_image
from shiftkit.segmentation.network.checkpoints import Model, load_model
from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.segmentation.samples.samples import Sample, canonical_peaks, load_sample
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.types import Bundle, Case, Cohort, Volume
from shiftkit.work import Work

SHAPE = (24, 24, 16)
BUNDLES = tuple(Bundle.parse(label) for label in ("AFleft", "AFright"))
GRID = {"channels": (4, 8, 16), "spacing_mm": 2.5, "shape": SHAPE}
PATCH = (16, 12, 8)
RECIPE = Recipe(modality="fa", epochs=3, device="cpu", **GRID)
MakeModel = Callable[..., Model]
MakeTuned = Callable[[str], Any]
"""Of the fixture that fine-tunes the small model once by each strategy."""


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


def with_tumors(patients: Cohort, root: Path) -> Cohort:
    """The same patients, with FA alone and each with a tumor on the right, at another distance from the tube there."""
    for number, case in enumerate(patients):
        image = read_image(case.images["fa"])
        tumor = np.zeros(SHAPE, dtype=bool)
        tumor[3 + number : 6 + number, 10:14, 6:9] = True
        write_image(image.with_array(tumor), cohorts.tumor_path(root, case.key))
        write_image(image, cohorts.image_path(root, case.key, "fa"))
        for bundle, path in case.masks.items():
            write_image(read_image(path), cohorts.mask_path(root, case.key, bundle))
    rows = {"participant_id": [case.key for case in patients], "group": "glioma", "tumor_side": "right"}
    cohorts.write_participants(root, pd.DataFrame(rows))
    cohorts.write_description(root, root.name)
    return cohorts.load_cohort(root)


def same_weights(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same weights, to the bit."""
    one, two = load_model(a).network.state_dict(), load_model(b).network.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def on_grid(cases: Iterable[Case]) -> list[Sample]:
    """Participants of such a cohort on the grid of the small models, with their masks."""
    return [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in cases]


def small_model(
    seed: int = 0, modality: str = "fa", bundles: tuple[Bundle, ...] = BUNDLES, normalization: str = "instance"
) -> Model:
    """A small untrained model."""
    torch.manual_seed(seed)
    architecture = Architecture(
        in_channels={"fa": 1, "peaks": 9}[modality] + 3,
        out_channels=len(bundles),
        channels=GRID["channels"],
        normalization=normalization,
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


def random_sample(seed: int = 0, shape: tuple[int, int, int] = (12, 14, 10), modality: str = "fa+peaks") -> Sample:
    """A sample of noise with a bundle on either side, of which one is not known, and one in the middle."""
    rng = np.random.default_rng(seed)
    peaks = canonical_peaks(rng.standard_normal((*shape, 9)).astype(np.float32))
    scalar = rng.random((1, *shape), dtype=np.float32) + 0.1
    coordinates = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    image = np.concatenate([scalar, np.moveaxis(peaks, -1, 0), coordinates]).astype(np.float32)
    return Sample(
        key="sub-01",
        image=image,
        affine=np.eye(4),
        own_affine=np.eye(4),
        own_shape=shape,
        target=rng.random((3, *shape)) > 0.6,
        known=np.array([True, False, True]),
        modality=modality,
        bundles=(*BUNDLES, Bundle.parse("CC")),
    )


class Own(nn.Module):
    """A network that somebody else wrote: brighter voxels of either half of the brain, by two layers and a norm."""

    def __init__(self, output: str = "logits", channels: int = 4) -> None:
        super().__init__()
        self.output = output
        self.out = nn.Conv3d(channels, 2, 1)  # built first, met last
        self.down = nn.Sequential(nn.Conv3d(1, channels, 3, padding=1), nn.GroupNorm(2, channels), nn.ReLU())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits, probabilities or labels."""
        half = torch.linspace(-4, 4, image.shape[2])[:, None, None]
        made = self.out(self.down(image)) - torch.stack([half.expand(image.shape[2:]), -half.expand(image.shape[2:])])
        return {"logits": made, "probabilities": made.sigmoid(), "labels": (made > 0).float()}[self.output]


def own_model(output: str = "logits", seed: int = 0, **more: Any) -> Model:
    """A small untrained network of somebody else as a model."""
    torch.manual_seed(seed)
    told: dict[str, Any] = {"modality": "fa", "bundles": BUNDLES, "spacing_mm": 2.5, "shape": SHAPE, **more}
    return Model(network=Own(output), output=output, **told)


class Counting(nn.Module):
    """Passes on what a network says, and notes what it was asked."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Note and pass on."""
        self.seen.append(tuple(image.shape))
        return self.network(image)


def interrupted(stage: str, moment: int) -> Work:
    """Work that is interrupted as if by Ctrl-C when a stage of this name has done so much."""

    def progress(done: int, total: int, text: str) -> None:
        if text.startswith(stage) and done == moment:
            raise KeyboardInterrupt

    return Work(progress=progress)


def files_in(folder: Path) -> dict[Path, bytes]:
    """What every file of a folder holds."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
