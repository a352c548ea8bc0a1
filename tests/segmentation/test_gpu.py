"""What holds on a GPU: `pytest -m cuda`; without one these are skipped."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from makers.segmentation import PATCH, RECIPE, MakeModel, files_in, interrupted, on_grid, same_weights

from shiftkit.errors import ConfigError, MachineError
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.segmentation.network.devices import pick_device, placed
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.segmentation.prediction.inference import infer
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.processes import alone
from shiftkit.segmentation.training.source import train
from shiftkit.types import Cohort

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use; there is none here"),
]
GPU_RECIPE = replace(RECIPE, device="cuda")


def losses(model: Path) -> np.ndarray:
    """Of each epoch of a training."""
    return pd.read_csv(model / "training.csv")["loss"].to_numpy()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A GPU of which nothing more may be used than is in use."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-5)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("window", [None, PATCH])
def test_a_gpu_predicts_what_the_cpu_does(
    controls: Cohort, make_model: MakeModel, window: tuple[int, int, int] | None
) -> None:
    """Probabilities differ by the rounding of the GPU's convolutions alone, whole and in windows."""
    model, (sample,) = make_model(), on_grid(controls.cases[:1])
    cpu = infer([model], sample, window=window)
    with placed([model.network], pick_device("cuda")):
        gpu = infer([model], sample, window=window)
    assert cpu.std() > 0.01
    np.testing.assert_allclose(gpu, cpu, atol=5e-3)


def test_a_gpu_learns_what_the_cpu_does_in_one_process(controls: Cohort, tmp_path: Path) -> None:
    """After a training on the CPU the same one on the GPU goes the same way: losses within 2 %, probabilities 0.05.

    Without augmentation, whose noise each device draws by itself.
    """
    (sample,) = on_grid(controls.cases[:1])
    cpu, gpu = (
        train(controls, out=tmp_path / device, recipe=replace(RECIPE, augmentation="none", device=device))
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(infer([gpu], sample), infer([cpu], sample), atol=0.05)
    np.testing.assert_allclose(losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), rtol=0.02)


@pytest.mark.parametrize("kind", [{}, {"network": "dynunet", "deep_supervision": True, "patch": (16, 16, 8)}])
def test_a_gpu_trains_to_the_same_bits_twice(controls: Cohort, tmp_path: Path, kind: dict[str, object]) -> None:
    """Weights, thresholds and statistics are the same to the bit, with drawn augmentation."""
    for name in ("one", "two"):
        train(controls, out=tmp_path / name / "m", recipe=replace(GPU_RECIPE, augmentation="strong", **kind))
    assert files_in(tmp_path / "one") == files_in(tmp_path / "two")


def test_an_interrupted_training_on_a_gpu_ends_with_the_same_bits(controls: Cohort, tmp_path: Path) -> None:
    """What was stopped in its second epoch and resumed is what was never interrupted."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(controls, out=whole, recipe=GPU_RECIPE)
    with pytest.raises(KeyboardInterrupt):
        train(controls, out=parts, recipe=GPU_RECIPE, work=interrupted("Training", 7))
    train(controls, out=parts, recipe=GPU_RECIPE, resume=True)
    assert same_weights(whole, parts)


@pytest.mark.parametrize("patch", [None, PATCH])
def test_masks_out_of_fold_are_those_of_the_checkpoint(
    controls: Cohort, tmp_path: Path, patch: tuple[int, int, int] | None
) -> None:
    """The model in memory after its training and the one read from disk give the same files, to the byte."""
    made = train(controls, out=tmp_path / "m", folds=2, recipe=replace(GPU_RECIPE, patch=patch))
    for number, model in enumerate(made.models, start=1):
        unseen = replace(controls, cases=tuple(case for case in controls if not model.has_seen(case)))
        again = predict(
            load_model(tmp_path / "m" / f"fold-{number}"), unseen, out=tmp_path / str(number), device="cuda"
        )
        assert len(again.cohort)
        for case in unseen:
            before = files_in(tmp_path / "m" / "predictions" / case.key)
            assert before and before == files_in(tmp_path / str(number) / case.key)


def test_a_full_gpu_says_what_to_do(
    controls: Cohort, make_model: MakeModel, tmp_path: Path, little_memory: None
) -> None:
    """Without room on the GPU, training names patches and prediction windows, and neither leaves a traceback."""
    with pytest.raises(MachineError, match="smaller patches with `patch`"):
        train(controls, out=tmp_path / "m", recipe=replace(GPU_RECIPE, channels=(64, 128), shape=(96, 96, 96)))
    with pytest.raises(MachineError, match="smaller windows with `window`"):
        predict(replace(make_model(), shape=(96, 96, 96)), controls, out=tmp_path / "p", device="cuda")


@pytest.mark.parametrize("brightness", [1e-4, 1.0, 1e4])
def test_shortened_numbers_stay_finite(controls: Cohort, make_model: MakeModel, brightness: float) -> None:
    """A GPU's convolutions round to TF32; on dark, usual or absurdly bright images losses and weights stay finite."""
    samples = [one.with_channels(one.channels * np.float32(brightness)) for one in on_grid(controls)]
    network = make_model().network
    reached = fit(
        network, samples[:4], samples[4:], Schedule(epochs=5, learning_rate=1e-2), seed=0, processes=alone("cuda")
    )
    assert np.isfinite([entry["loss"] for entry in reached.log]).all() and np.isfinite(reached.best_dice)
    assert all(torch.isfinite(one).all() for one in network.state_dict().values())


def test_the_fast_way_learns_and_leaves_switches_alone(controls: Cohort, tmp_path: Path) -> None:
    """Without determinism the same training ends near the same loss, and PyTorch is as it was found."""
    before = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    for name, deterministic in (("slow", True), ("fast", False)):
        train(controls, out=tmp_path / name, recipe=replace(GPU_RECIPE, deterministic=deterministic))
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == before
    slow, fast = (
        np.loadtxt(tmp_path / one / "training.csv", delimiter=",", skiprows=1, usecols=1) for one in ("slow", "fast")
    )
    np.testing.assert_allclose(fast, slow, rtol=0.02)


def test_one_of_several_gpus_is_chosen_by_number(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """The last GPU by its number predicts what ``cuda`` does; one beyond is refused by name."""
    count = torch.cuda.device_count()
    for name, device in (("any", "cuda"), ("last", f"cuda:{count - 1}")):
        predict(make_model(), controls, out=tmp_path / name, device=device)
    key = controls.cases[0].key
    assert files_in(tmp_path / "any" / key) == files_in(tmp_path / "last" / key)
    with pytest.raises(ConfigError, match=f"got 'cuda:{count}'"):
        pick_device(f"cuda:{count}")
