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

DATASET, NAME = 501, "Dataset501_Phantom"


class nnUNetTrainer(original.nnUNetTrainer):
    """The default trainer, for a given wall time; the predictor finds a network's trainer by this name."""

    minutes = 1.0

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> Any:
        """As the default, without mirroring and rotation."""
        _, dummy, initial, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        return (0.0, 0.0), dummy, initial, None

    def run_training(self) -> None:
        """Steps until the time is over; no validation, no checkpoint but the last."""
        start = time.monotonic()
        self.on_train_start()
        self.iterations = 0
        self.network.train()
        while (share := (time.monotonic() - start) / (60 * self.minutes)) < 1:
            for group in self.optimizer.param_groups:
                group["lr"] = self.initial_lr * (1 - share) ** 0.9
            loss = self.train_step(next(self.dataloader_train))["loss"]
            self.iterations += 1
            if self.iterations % 5 == 1:
                print(
                    f"iteration {self.iterations}: loss {float(loss):.4f}, {60 * self.minutes * share:.0f} s",
                    flush=True,
                )
        self.wall_s = time.monotonic() - start
        self.current_epoch = self.num_epochs - 1
        self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_final.pth"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("plan", "train", "predict"))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.verb == "plan":
        plan()
    elif options.verb == "train":
        keep(options.record, **train(options.minutes))
    else:
        keep(options.record, **predict(options.input, options.output))


def plan() -> None:
    os.environ["nnUNet_n_proc_DA"] = "1"  # noqa: SIM112 - nnU-Net's own name; its planner takes no 0
    extract_fingerprints([DATASET], num_processes=1, check_dataset_integrity=True)
    plan_experiments([DATASET])
    preprocess([DATASET], configurations=("3d_fullres",), num_processes=(1,))


def train(minutes: float) -> dict[str, Any]:
    folder = Path(str(paths.nnUNet_preprocessed)) / NAME
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    description = json.loads((folder / "dataset.json").read_text())
    plans["continue_training"] = False
    torch.manual_seed(0)
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, description, device=torch.device("cpu"))
    trainer.minutes = minutes
    trainer.run_training()
    settings = plans["configurations"]["3d_fullres"]
    return {
        "wall_s": trainer.wall_s,
        "steps": trainer.iterations,
        "batch_size": settings["batch_size"],
        "patch": settings["patch_size"],
        "parameters": sum(one.numel() for one in trainer.network.parameters()),
    }


def predict(images: Path, out: Path) -> dict[str, Any]:
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    trained = Path(str(paths.nnUNet_results)) / NAME / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    predictor.initialize_from_trained_model_folder(str(trained), (0,), "checkpoint_final.pth")
    out.mkdir(parents=True, exist_ok=True)
    predictor.predict_from_files_sequential(str(images), str(out), save_probabilities=True)
    return {}


def keep(record: Path, **measured: Any) -> None:
    measured["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
