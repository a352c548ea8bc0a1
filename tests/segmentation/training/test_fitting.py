import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from makers.segmentation import on_grid

from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.segmentation.samples.patches import crop
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import draw_curve, fit, save_log, validate
from shiftkit.segmentation.training.processes import alone
from shiftkit.types import Cohort

AROUND = (0, 4, 4), (24, 16, 8)
"""Where a patch lies that hardly holds the bundles, and its size: a third of the work."""

SHALLOW = Architecture(name="dynunet", in_channels=4, out_channels=2, channels=(8, 16, 32), deep_supervision=True)


def test_a_supervised_network_learns(controls: Cohort) -> None:
    """One participant is learned by the network's own output, and by its head at half the resolution too."""
    sample = crop(on_grid(controls.cases[:1])[0], *AROUND)
    torch.manual_seed(0)
    network = build_network(SHALLOW)
    cpu = torch.device("cpu")
    assert validate(network, [sample], cpu) < 0.3
    fit(
        network,
        [sample],
        [],
        Schedule(epochs=60, learning_rate=2e-2, augmentation="none"),
        seed=0,
        processes=alone("cpu"),
    )
    assert validate(network, [sample], cpu) > 0.98
    with torch.no_grad():
        coarse = network.train()(torch.from_numpy(sample.image)[None])[0, 1] > 0
    target = torch.from_numpy(sample.target)
    assert 2 * (coarse & target).sum() / (coarse.sum() + target.sum()) > 0.6


def test_one_case_can_be_overfitted(controls: Cohort) -> None:
    """Network, loss and loop are sound: one participant is learned to a Dice above 0.98."""
    sample = crop(on_grid(controls.cases[:1])[0], *AROUND)
    torch.manual_seed(0)
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(8, 16, 32)))
    schedule = Schedule(epochs=60, learning_rate=2e-2, augmentation="none", validate_every=80)
    fit(network, [sample], [], schedule, seed=0, processes=alone("cpu"))
    assert validate(network, [sample], torch.device("cpu")) > 0.98


def test_early_stopping_ends_with_the_best_weights(controls: Cohort) -> None:
    """Training stops after `patience` validations without progress, and the best epoch's weights are kept."""
    samples = on_grid(controls)
    torch.manual_seed(0)
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8)))
    schedule = Schedule(epochs=40, learning_rate=0.0, patience=3, validate_every=1)
    result = fit(network, samples[:2], samples[4:], schedule, seed=0, processes=alone("cpu"))
    assert result.best_epoch == 1 and len(result.log) == 4
    assert validate(network, samples[4:], torch.device("cpu")) == result.best_dice


def test_the_learning_curve_shows_the_log(tmp_path: Path) -> None:
    """The picture holds every epoch's loss and every validation, and the same log gives the same bytes."""
    log = [{"epoch": 1, "loss": 0.9}, {"epoch": 2, "loss": 0.5, "dice": 0.4}, {"epoch": 3, "loss": 0.4}]
    axes = draw_curve(log)
    assert axes.lines[0].get_ydata().tolist() == [0.9, 0.5, 0.4]
    (right,) = [other for other in axes.figure.axes if other is not axes]
    assert right.lines[0].get_xydata().tolist() == [[2, 0.4]]
    for name in ("a", "b"):
        save_log(log, tmp_path / name)
    assert (tmp_path / "a" / "training.svg").read_bytes() == (tmp_path / "b" / "training.svg").read_bytes()


SHARED = """
import os, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from shiftkit.cohorts.folder import load_cohort
from shiftkit.segmentation.samples.cache import load_samples
from shiftkit.segmentation.training.epochs import Schedule
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.processes import join_processes
from shiftkit.segmentation.network.networks import Architecture, build_network
torch.set_num_threads(1)
made = {}
for what, folder in zip(("boxes", "patches"), sys.argv[2:]):
    cohort, patches = load_cohort(Path(folder)), what == "patches"
    memory_gib = 2e-4 if patches else 4.0
    samples = load_samples(cohort.cases[:4], "fa", cohort.bundles, 2.5, (24, 24, 16), memory_gib=memory_gib)
    torch.manual_seed(0)
    kind = {"name": "dynunet", "deep_supervision": True} if patches else {}
    network = build_network(Architecture(in_channels=4, out_channels=2, channels=(4, 8, 16), **kind))
    # Two epochs of patches, whose order differs: in a third one rounding grows by a hundred on some processors.
    schedule = Schedule(epochs=2 if patches else 10, learning_rate=1e-3 if patches else 3e-3, batch_size=2)
    fit(network, samples, [], schedule, seed=0, patch=(16, 12, 8) if patches else None, processes=join_processes("cpu"))
    with torch.no_grad():
        made[what] = torch.cat([torch.sigmoid(network(torch.from_numpy(one.image)[None])) for one in samples])
    if not patches:
        free = {f"{name}.conv.bias" for name, layer in network.named_modules() if hasattr(layer, "adn")}
        made |= {f"weights/{name}": one.contiguous() for name, one in network.state_dict().items() if name not in free}
if os.environ.get("RANK", "0") == "0":
    save_file(made, sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_reach_the_result_of_one(
    patients: Cohort, controls: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 20 steps shared out among two processes (gloo) weights are within 1e-3, and probabilities within 1e-4.

    So are probabilities after patches with deep supervision and a small cache. Of the weights biases before instance
    normalization are not compared: they have no effect and no gradient but rounding, which Adam blows up to full steps.
    """
    from safetensors.torch import load_file

    script, cohorts = tmp_path / "train.py", (patients.root, controls.root)
    script.write_text(SHARED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "one"), *map(str, cohorts)])
    runpy.run_path(str(script))  # here: a process of its own would import PyTorch once more
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    subprocess.run([sys.executable, *launch, script, tmp_path / "two", *cohorts], check=True)
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    for what in ("boxes", "patches"):
        assert float(one[what].std()) > 0.01
        assert float((one[what] - two[what]).abs().max()) < 1e-4, what
    weights = [name for name in one if name.startswith("weights/")]
    assert len(weights) > 10 and max(float((one[name] - two[name]).abs().max()) for name in weights) < 1e-3
