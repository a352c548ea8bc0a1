"""Several processes of one launcher, as the command line meets them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from makers.segmentation import MakeModel, files_in, small_model
from torch import nn

from shiftkit.cli import main
from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import load_model, save_model
from shiftkit.segmentation.network.devices import pick_device
from shiftkit.segmentation.training.processes import require_batches, synchronized
from shiftkit.types import Cohort

START = "from shiftkit.cli import entry; entry()"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_share_one_training(controls: Cohort, tmp_path: Path) -> None:
    """`train` under `torchrun` ends with 0, speaks once, and leaves the checkpoint of one process."""
    script = tmp_path / "start.py"
    script.write_text(START)
    words = ["train", "--cohort", str(controls.root), "--modality", "fa", "--epochs", "1", "--batch-size", "2"]
    words += ["--spacing", "5", "--device", "cpu"]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()), str(script)]
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *launch, *words, "--out", str(tmp_path / "two")]
    shared = subprocess.run(call, env=there, capture_output=True, text=True, check=False, timeout=900)
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.count("Checkpoint: ") == shared.stderr.count("Done.") == 1
    assert main([*words, "--out", str(tmp_path / "one")]) == 0  # here: a process of its own imports PyTorch once more
    assert set(files_in(tmp_path / "two")) == set(files_in(tmp_path / "one"))
    one, two = load_model(tmp_path / "one"), load_model(tmp_path / "two")
    assert two.participants == one.participants and two.training["epochs"] == 1
    image = torch.rand(1, 4, *one.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = torch.sigmoid(one.network(image)) - torch.sigmoid(two.network(image))
    assert float(difference.abs().max()) < 1e-3


PAIRS = """
import json, os, signal, sys
import monai.inferers, monai.losses.dice, monai.metrics.meandice, monai.networks.nets, torch, torch._dynamo
import shiftkit.cli.commands, shiftkit.pipeline.finetune, shiftkit.segmentation.transfer.shots
from shiftkit.cli import main
from shiftkit.segmentation.training.processes import _leave
from shiftkit.segmentation.training.states import StateFolder
torch.set_num_threads(1)

def launched(rank, port, calls, victim):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "RANK": str(rank)}
    if rank == victim:
        save = StateFolder.save
        def fatal(*given):
            save(*given)
            os.kill(os.getpid(), signal.SIGKILL)
        StateFolder.save = fatal
    codes = [main(call) for call in calls]
    sys.stdout.flush()
    _leave()
    os._exit(max(codes))

def pair(port, calls, victim):
    pids = []
    for rank in (0, 1):
        if (pid := os.fork()) == 0:
            launched(rank, port, calls, victim)
        pids.append(pid)
    # As Python tells it: of a killed one the signal's number, below 0.
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

ended = [pair(*one) for one in json.loads(sys.argv[1])]
print(json.dumps(ended))
"""
"""Pairs of processes one after another, forked from one that has imported all: as a launcher's, in a tenth of the time.

Of a pair one may be a victim: it is killed when it has made its first epoch.
"""


@pytest.mark.slow
def test_folds_and_draws_are_spread_over_processes_and_survive_a_kill(
    patients: Cohort, controls: Cohort, tmp_path: Path
) -> None:
    """Two processes leave, byte by byte, the files of one: of `train --folds` and `finetune`, killed and resumed.

    Whichever process is killed, the other ends with a sentence and not 0. So do learning curves, whose folds both made;
    nothing is said twice.
    """
    save_model(small_model(), tmp_path / "small")
    of_controls = ["-q", "train", "--cohort", str(controls.root), "--modality", "fa", "--spacing", "5", "--epochs", "2"]
    of_controls += ["--folds", "2", "--device", "cpu"]
    of_patients = ["-q", "finetune", "--model", str(tmp_path / "small"), "--cohort", str(patients.root)]
    of_patients += ["--folds", "3", "--epochs", "2", "--device", "cpu"]
    calls = {"source": of_controls, "tuned": [*of_patients, "--reference", str(controls.root)]}
    two = {name: [*words, "--out", str(tmp_path / "two" / name)] for name, words in calls.items()}
    curves = [*of_patients, "--shots", "2", "--draws", "1", "--out", str(tmp_path / "two" / "curves")]
    pairs = [
        (str(free_port()), [two["source"]], 0),
        (str(free_port()), [two["tuned"]], 1),
        (str(free_port()), [*([*words, "--resume"] for words in two.values()), curves], None),
    ]
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", PAIRS, json.dumps(pairs)]
    made = subprocess.run(call, env=there, capture_output=True, text=True, check=False, timeout=900)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout.splitlines()[-1]) == [[-9, 1], [1, -9], [0, 0]], made.stderr
    assert made.stderr.count("one has ended before") == 2 and "Process 2 of 2: Error" in made.stderr
    assert made.stdout.count("Out-of-fold predictions") == made.stdout.count("learning") + 1 == 1, made.stdout
    for name, words in calls.items():
        assert main([*words, "--out", str(tmp_path / "one" / name)]) == 0
        assert files_in(tmp_path / "two" / name) == files_in(tmp_path / "one" / name), name
    folds = (tmp_path / "two" / "curves").glob("*/shots-2/draw-0/fold-*/models")
    assert len(list(folds)) == 6 and (tmp_path / "two" / "curves" / "run.json").is_file()


@pytest.fixture(params=["0", "1"])
def one_of_two(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A launcher started two processes, of which this is the first or the other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", request.param)
    yield


@pytest.mark.usefixtures("one_of_two")
def test_what_processes_cannot_share_is_refused(
    patients: Cohort, controls: Cohort, make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of two processes ends with a sentence before it waits for the other, and nothing is written."""
    save_model(make_model(), tmp_path / "small")
    training = ["train", "--cohort", str(controls.root), "--modality", "fa", "--spacing", "5", "--device", "cpu"]
    tuning = ["finetune", "--model", str(tmp_path / "small"), "--cohort", str(patients.root), "--folds", "2"]
    for words, told in (
        ([*training, "--batch-size", "3"], "3 participants cannot be among 2"),
        ([*training, "--batch-size", "2", "--normalization", "batch"], "Batch normalization looks at a whole batch"),
        ([*tuning, "--fold", "1"], "Leave out --fold to have all shared"),
    ):
        assert main([*words, "--out", str(tmp_path / "refused")]) == 2
        assert told in capsys.readouterr().err
    assert files_in(tmp_path / "refused") == {}


def test_no_process_is_idle(
    patients: Cohort,
    controls: Cohort,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """More processes than folds, of all draws together, are refused; each says which it is."""
    save_model(make_model(), tmp_path / "small")
    monkeypatch.setenv("WORLD_SIZE", "5")
    monkeypatch.setenv("RANK", "1")
    base = ["--model", str(tmp_path / "small"), "--cohort", str(patients.root), "--out", str(tmp_path / "refused")]
    for words, told in (
        (["finetune", *base, "--folds", "3", "--reference", str(controls.root)], "of which there are 3; 5 processes"),
        (["finetune", *base, "--folds", "2", "--shots", "1", "--draws", "1"], "of which there are 4; 5 processes"),
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("Process 2 of 5: Error") and told in said
    assert not (tmp_path / "refused").exists()


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two GPUs the second process gets the second, and a third for shared batches is refused; so is a named one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in (("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
    require_batches("auto", 4, "batch")
    with pytest.raises(ConfigError, match="a GPU each"):
        require_batches("cuda:0", 4, "batch")
    for name, value in (("WORLD_SIZE", "3"), ("LOCAL_WORLD_SIZE", "3"), ("RANK", "2"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    assert pick_device("auto") == torch.device("cuda", 0)
    with pytest.raises(ConfigError, match="3 were started here, of 2 GPUs"):
        require_batches("auto", 3, "instance")


def test_batch_normalization_is_synchronized_in_place() -> None:
    """Within the block every layer is a synchronized one over the same tensors; afterwards the network is itself."""
    network = small_model(normalization="batch").network
    before = dict(network.named_modules())
    tensors = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    layers = [name for name, module in before.items() if isinstance(module, nn.BatchNorm3d)]
    with synchronized(network):
        assert layers and all(isinstance(network.get_submodule(name), nn.SyncBatchNorm) for name in layers)
        assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == tensors
        network.get_buffer(f"{layers[0]}.running_mean").fill_(3.0)
    assert dict(network.named_modules()) == before
    assert float(network.get_buffer(f"{layers[0]}.running_mean").mean()) == 3.0
