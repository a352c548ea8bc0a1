"""nnU-Net's side of ``benchmarks/segmentation.py``; runs in an environment of its own that has ``nnunetv2``.

Raw data, preprocessed data and results are where nnU-Net's three environment variables say. Its plan, network, loss
and augmentation are its own, with three exceptions: it trains for a given wall time along its polynomial learning
rate; it does not mirror or rotate, for left and right are different labels and the channels are directions that a
rotation of the grid would leave behind; and it does not predict its validation cases at the end.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import torch
from nnunetv2 import paths
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as original

DATASET, NAME, LOOKS = 501, "Dataset501_Phantom", 12


class nnUNetTrainer(original.nnUNetTrainer):
    """The default trainer, for a given wall time; the predictor finds a network's trainer by this name."""

    minutes = 1.0

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:
        """As the default, without mirroring and rotation."""
        _, dummy, initial, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return (0.0, 0.0), dummy, initial, None

    def run_training(self) -> None:
        """Steps until the time is over, with a look at the validation's Dice now and then; the last weights stay."""
        start = time.monotonic()
        self.on_train_start()
        self.iterations, self.curve = 0, []
        self.network.train()
        while (share := (time.monotonic() - start) / (60 * self.minutes)) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** 0.9
            self.train_step(next(self.dataloader_train))
            self.iterations += 1
            if share * LOOKS >= len(self.curve) + 1:
                self.curve.append((time.monotonic() - start, self.look()))
                print(f"iteration {self.iterations}: {self.curve[-1]}", flush=True)
        self.curve.append((time.monotonic() - start, self.look()))
        self.wall_s = time.monotonic() - start
        self.current_epoch = self.num_epochs - 1
        self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_final.pth"))
        for loader in (self.dataloader_train, self.dataloader_val):
            if hasattr(loader, "_finish"):
                loader._finish()

    def look(self) -> float:
        """Its own estimate while it trains: mean Dice of the regions over patches of the validation cases."""
        self.network.eval()
        with torch.no_grad():
            seen = [self.validation_step(next(self.dataloader_val)) for _ in range(4)]
        self.network.train()
        hit, extra, missed = (sum(one[name] for one in seen) for name in ("tp_hard", "fp_hard", "fn_hard"))
        return float((2 * hit / (2 * hit + extra + missed).clip(1e-8)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("plan", "train", "predict"))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if options.verb == "plan":
        plan(options.jobs)
    elif options.verb == "train":
        keep(options.record, **train(options.minutes, options.device))
    else:
        keep(options.record, **predict(options.input, options.output, options.device))


def plan(jobs: int) -> None:
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - nnU-Net's own name; its planner takes no 0
    extract_fingerprints([DATASET], num_processes=jobs, check_dataset_integrity=False)
    plan_experiments([DATASET])
    preprocess([DATASET], configurations=("3d_fullres",), num_processes=(jobs,))


def train(minutes: float, device: str) -> dict[str, Any]:
    folder = Path(str(paths.nnUNet_preprocessed)) / NAME
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    description = json.loads((folder / "dataset.json").read_text())
    plans["continue_training"] = False
    torch.manual_seed(0)
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, description, device=torch.device(device))
    trainer.minutes = minutes
    trainer.run_training()
    settings = plans["configurations"]["3d_fullres"]
    return {
        "wall_s": trainer.wall_s,
        "steps": trainer.iterations,
        "batch_size": settings["batch_size"],
        "patch": settings["patch_size"],
        "parameters": sum(one.numel() for one in trainer.network.parameters()),
        "curve": trainer.curve,
    }


def predict(images: Path, out: Path, device: str) -> dict[str, Any]:
    on_card = device != "cpu"
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=on_card, device=torch.device(device), allow_tqdm=False
    )
    trained = Path(str(paths.nnUNet_results)) / NAME / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    predictor.initialize_from_trained_model_folder(str(trained), (0,), "checkpoint_final.pth")
    out.mkdir(parents=True, exist_ok=True)
    if on_card:  # its processes read and write beside the network
        predictor.predict_from_files(
            str(images), str(out), save_probabilities=True, num_processes_preprocessing=4,
            num_processes_segmentation_export=8,
        )  # fmt: skip
    else:
        predictor.predict_from_files_sequential(str(images), str(out), save_probabilities=True)
    return {}


def keep(record: Path, **measured: Any) -> None:
    measured["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
