import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from makers.segmentation import BUNDLES, GRID, SHAPE

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import load_model, save_model
from shiftkit.segmentation.network.networks import NETWORKS, Architecture, build_network, require_fit
from shiftkit.segmentation.samples.patches import crop, draw_corner, draw_patch
from shiftkit.segmentation.samples.samples import COORDINATE_CHANNELS, Sample, load_sample
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.types import Cohort

PATCH = (16, 12, 8)


def blocks(*, known: tuple[bool, ...] = (True, True, True)) -> Sample:
    """A box with a bundle of one voxel, one of a thousand, and an empty one."""
    target = np.zeros((3, 24, 20, 16), dtype=bool)
    target[0, 3, 15, 4] = True
    target[1, 10:20, 0:10, 5:15] = True
    image = np.random.default_rng(0).normal(size=(4, 24, 20, 16)).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-20, 5, 7]
    return Sample(
        key="sub-1",
        image=image,
        affine=affine,
        own_affine=affine,
        own_shape=(24, 20, 16),
        target=target,
        known=np.array(known),
        modality="fa",
    )


def test_a_patch_keeps_every_voxel_in_its_place(controls: Cohort) -> None:
    """Image, masks, coordinates and world positions in a patch are those of the same voxels in the box."""
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE, BUNDLES)
    assert sample.target is not None
    patch = crop(sample, (5, 2, 7), (8, 16, 8))
    assert patch.target is not None and patch.key == sample.key
    assert np.array_equal(patch.image, sample.image[:, 5:13, 2:18, 7:15])
    assert np.array_equal(patch.target, sample.target[:, 5:13, 2:18, 7:15])
    np.testing.assert_allclose(patch.affine @ [1, 2, 3, 1], sample.affine @ [6, 4, 10, 1])
    # In the box the coordinates are those of its center; in the patch they still are.
    middle = (np.array(SHAPE) - 1) / 2
    expected = (np.array([5 + 1, 2 + 2, 7 + 3]) - middle) * 2.5 / 100
    np.testing.assert_allclose(patch.image[-COORDINATE_CHANNELS:, 1, 2, 3], expected, atol=1e-6)


def test_a_patch_is_a_copy() -> None:
    """Changing a patch leaves the sample it was cut from as it was."""
    sample = blocks()
    before = sample.image.copy()
    crop(sample, (0, 0, 0), (4, 4, 4)).image[:] = 7
    assert np.array_equal(sample.image, before)


@given(
    size=st.tuples(st.integers(1, 24), st.integers(1, 20), st.integers(1, 16)),
    seed=st.integers(0, 2**32),
    known=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=60, deadline=None)
def test_patches_lie_within_the_box(size: tuple[int, int, int], seed: int, known: tuple[bool, bool, bool]) -> None:
    """Whatever the size and the bundles, the patch lies in the box; the same generator draws the same patch."""
    sample = blocks(known=known)
    patch = draw_patch(sample, size, np.random.default_rng(seed))
    assert patch.image.shape == (4, *size) and patch.target is not None and patch.target.shape == (3, *size)
    assert np.array_equal(patch.image, draw_patch(sample, size, np.random.default_rng(seed)).image)


def test_small_bundles_are_seen_as_often_as_large_ones() -> None:
    """Half of the patches are around a bundle, and a bundle of one voxel gets as many as one of a thousand.

    Of patches of one voxel, the single voxel is hit by 1/4, the large bundle by 1/4 and by its share of the
    other half.
    """
    sample, rng = blocks(), np.random.default_rng(1)
    assert sample.target is not None
    corners = [draw_corner(sample, (1, 1, 1), rng) for _ in range(4000)]
    hits = np.array([sample.target[:, *corner] for corner in corners]).mean(axis=0)
    voxels = sample.target[0].size
    for share, size in zip(hits[:2], (1, 1000), strict=True):
        expected = 0.25 + 0.5 * size / voxels
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("size", [(5, 7, 3), (16, 8, 8), (24, 4, 16)])
def test_half_of_the_patches_hold_the_bundle(size: tuple[int, int, int]) -> None:
    """A patch drawn around a voxel contains it, near the box's edge too."""
    sample, rng = blocks(known=(True, False, True)), np.random.default_rng(3)
    targets = [draw_patch(sample, size, rng).target for _ in range(1000)]
    assert np.mean([target is not None and target[0].any() for target in targets]) > 0.5 - 4 * 0.5 / np.sqrt(1000)


def test_unknown_bundles_attract_no_patches() -> None:
    """What an annotation lacks is not looked for: without known bundles every place is equally likely."""
    rng = np.random.default_rng(2)
    sample = blocks(known=(False, False, True))
    corners = np.array([draw_corner(sample, (20, 16, 12), rng) for _ in range(5000)])
    counts = np.bincount(np.ravel_multi_index(tuple(corners.T), (5, 5, 5)), minlength=125)
    chi_squared = ((counts - 40) ** 2 / 40).sum()
    assert chi_squared < 124 + 4 * np.sqrt(2 * 124)


def test_patches_outside_the_box_are_refused() -> None:
    """A corner that would put a part of the patch outside is an error, not a smaller patch."""
    for corner in ((-1, 0, 0), (9, 0, 0), (0, 0, 1)):
        with pytest.raises(ValueError, match="within the box"):
            crop(blocks(), corner, (16, 20, 16))


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_refused_exactly_where_the_network_fails(name: str) -> None:
    """What passes the check can be trained on, and what is refused the network cannot compute."""
    architecture = Architecture(name=name, in_channels=4, out_channels=2, channels=(8, 16, 32))
    network = build_network(architecture).train()
    for size in ((8, 8, 8), (16, 8, 8), (4, 4, 8), (4, 4, 4), (12, 8, 8), (10, 8, 8), (16, 16, 6)):
        try:
            require_fit("patch", size, architecture)
            fits = True
        except ConfigError:
            fits = False
        try:
            made = network(torch.rand(1, 4, *size)).shape[2:] == size
        except (RuntimeError, ValueError):
            made = False
        assert fits == made, size


def test_patches_that_do_not_fit_are_refused(controls: Cohort, tmp_path: Path) -> None:
    """Before anything is loaded, the message names the size, what it must be, and the box."""
    for patch, words in (((10, 8, 8), "multiples of 4"), ((4, 4, 4), "larger than 4"), ((32, 8, 8), "24 × 24 × 16")):
        with pytest.raises(ConfigError, match=words):
            train(controls, out=tmp_path / "m", recipe=Recipe(modality="fa", patch=patch, **GRID))
    with pytest.raises(ConfigError, match="`shape` must be"):
        train(controls, out=tmp_path / "m", recipe=Recipe(modality="fa", **{**GRID, "shape": (24, 24, 18)}))
    assert not (tmp_path / "m").exists()


def test_training_on_patches_is_seen_by_the_network(controls: Cohort) -> None:
    """While it is trained the network sees nothing but patches, and validation goes through windows of that size."""
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in controls.cases[:3]]
    torch.manual_seed(0)
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8, 16)))
    seen: list[tuple[bool, tuple[int, ...]]] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, inputs[0].shape[2:])))
    schedule = Schedule(epochs=2, learning_rate=1e-3, validate_every=2, batch_size=2)
    fit(network, samples[:2], samples[2:], schedule, seed=0, patch=PATCH, device="cpu")
    assert {shape for _, shape in seen} == {PATCH}
    assert sum(training for training, _ in seen) == 2
    assert sum(not training for training, _ in seen) > 4


def test_a_model_of_patches_learns_and_remembers_its_patch(controls: Cohort, tmp_path: Path) -> None:
    """Trained on patches alone, and predicting in windows, a model learns left from right, and says so on disk."""
    model = train(
        controls, out=tmp_path / "m", recipe=Recipe(modality="fa", epochs=70, patch=PATCH, device="cpu", **GRID)
    )
    assert model.training["validation_dice"] > 0.8
    again = load_model(tmp_path / "m")
    assert again.patch == PATCH and "16 × 12 × 8" in (tmp_path / "m" / "docs" / "README.md").read_text()
    save_model(again, tmp_path / "copy")
    metadata = Path("configs") / "metadata.json"
    assert (tmp_path / "copy" / metadata).read_bytes() == (tmp_path / "m" / metadata).read_bytes()


SHARED = """
import os, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from shiftkit.cohorts.folder import load_cohort
from shiftkit.segmentation.samples.cache import load_samples
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.network.networks import Architecture, build_network
torch.set_num_threads(1)
cohort, out = load_cohort(Path(sys.argv[1])), Path(sys.argv[2])
samples = load_samples(cohort.cases[:4], "fa", cohort.bundles, 2.5, (24, 24, 16), memory_gib=2e-4)
torch.manual_seed(0)
network = build_network(
    Architecture(name="dynunet", in_channels=4, out_channels=2, channels=(4, 8, 16), deep_supervision=True)
)
schedule = Schedule(epochs=3, learning_rate=1e-3, batch_size=2)
fit(network, samples, [], schedule, seed=0, patch=(16, 12, 8), device="cpu")
if os.environ.get("RANK", "0") == "0":
    with torch.no_grad():
        answer = [torch.sigmoid(network(torch.from_numpy(sample.image)[None])) for sample in samples]
    save_file({"probability": torch.cat(answer)}, out)
"""


@pytest.mark.slow
def test_two_processes_draw_the_patches_of_one(controls: Cohort, tmp_path: Path) -> None:
    """Patches, deep supervision and a small cache shared out among two processes (gloo): the same probabilities."""
    from safetensors.torch import load_file

    script = tmp_path / "train.py"
    script.write_text(SHARED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run([sys.executable, script, controls.root, tmp_path / "one"], check=True)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    subprocess.run([sys.executable, *launch, script, controls.root, tmp_path / "two"], check=True)
    one, two = load_file(tmp_path / "one")["probability"], load_file(tmp_path / "two")["probability"]
    assert float(one.std()) > 0.01
    assert float((one - two).abs().max()) < 1e-4
