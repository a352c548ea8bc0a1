"""Several processes of one launcher, as the command line meets them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from makers.segmentation import MakeModel, files_in

from shiftkit.cli import main
from shiftkit.segmentation.network.checkpoints import load_model, save_model
from shiftkit.types import Cohort

START = "from shiftkit.cli import entry; entry()"


def launched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What two processes that share one call of the command line end with."""
    script = folder / "start.py"
    script.write_text(START)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port), str(script)]
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *launch, *words]
    return subprocess.run(call, env=there, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_two_processes_share_one_training(controls: Cohort, tmp_path: Path) -> None:
    """`train` ends with 0 and the checkpoint of one process."""
    words = ["train", "--cohort", str(controls.root), "--modality", "fa", "--epochs", "1", "--batch-size", "2"]
    words += ["--spacing", "5", "--device", "cpu"]
    shared = launched(tmp_path, *words, "--out", str(tmp_path / "two"))
    assert shared.returncode == 0, shared.stderr
    assert main([*words, "--out", str(tmp_path / "one")]) == 0  # here: a process of its own imports PyTorch once more
    assert set(files_in(tmp_path / "two")) == set(files_in(tmp_path / "one"))
    one, two = load_model(tmp_path / "one"), load_model(tmp_path / "two")
    assert two.participants == one.participants and two.training["epochs"] == 1
    image = torch.rand(1, 4, *one.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = torch.sigmoid(one.network(image)) - torch.sigmoid(two.network(image))
    assert float(difference.abs().max()) < 1e-3


def test_what_has_a_process_a_fold_is_refused_to_several(
    patients: Cohort,
    controls: Cohort,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where a launcher started two, `train --folds` and `finetune` end with a sentence, whichever of them is first."""
    save_model(make_model(), tmp_path / "small")
    monkeypatch.setenv("WORLD_SIZE", "2")
    training = ["train", "--cohort", str(controls.root), "--modality", "fa", "--spacing", "5", "--device", "cpu"]
    tuning = ["finetune", "--model", str(tmp_path / "small"), "--cohort", str(patients.root), "--folds", "2"]
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        for words, told in (([*training, "--folds", "2"], "--folds are several"), (tuning, "has one a fold")):
            assert main([*words, "--out", str(tmp_path / "refused")]) != 0
            said = capsys.readouterr().err
            assert told in said and "One run at a time" not in said and not (tmp_path / "refused").exists()
