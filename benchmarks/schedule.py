"""How long to train and how: what `train` gives by default, beside longer, shorter and other trainings, and a peer.

On phantoms of 4 mm, by the number of controls: the default; half and four times as many steps; other networks,
patches, losses, augmentations, averaged weights; and a bare MONAI loop that is given the default's wall time. The
harder variant are healthy people as the profile `severe` shows them, another scanner and rater. Each training is a
process with one thread, on one core or beside others on a GPU; all are measured on the same 20 participants, whom
nobody has seen.

    python benchmarks/schedule.py --work FOLDER --jobs 2 --device cpu --out benchmarks/schedule.md

What is done is kept in the work folder and not done again; what is missing is named in the table.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from segmentation import dice_of, interval

ROOT = Path(__file__).resolve().parents[1]
SPACING_MM, PEOPLE, TUNED_ON, TESTED = 4.0, 60, 4, 20
MARGIN = 0.01
Record = dict[str, Any]

VARIANTS: Mapping[str, str] = {
    "half": "half as many steps",
    "fourfold": "four times as many steps",
    "monai": "bare MONAI loop, the same wall time",
    "none": "no augmentation",
    "strong": "augmentation `strong`: bending, mirroring with sides swapped, acquisition",
    "mirrored": "`light`, half of the time mirrored with sides swapped",
    "acquisition": "augmentation `acquisition`",
    "patch": "patches of 24·32·24 voxels",
    "segresnet": "SegResNet",
    "dynunet": "DynUNet with deep supervision",
    "wide": "U-Net with twice the channels",
    "batch": "U-Net with batch normalization, two participants a step",
    "dice": "soft Dice alone as loss",
    "entropy": "cross-entropy alone as loss",
    "slow": "a third of the learning rate",
    "averaged": "weights averaged over steps (EMA, 0.999), last instead of best",
}
"""What is tried beside the default, and what it is called in the table."""

RUNS: tuple[tuple[str, int, str], ...] = (
    *(("healthy", count, "default") for count in (16, 8, 32)),
    *(("healthy", count, "fourfold") for count in (8, 16)),
    *(("severe", count, "default") for count in (16, 8, 32)),
    *((cohort, count, "monai") for count in (16, 8, 32) for cohort in ("healthy", "severe")),
    *(("healthy", 16, name) for name in VARIANTS if name not in ("monai", "fourfold")),
    *(("severe", 16, name) for name in ("mirrored", "strong", "averaged", "wide", "fourfold")),
    *(("healthy", count, "half") for count in (8, 32)),
    ("healthy", 32, "fourfold"),
)
"""Cohort, participants trained on, and variant; the most wanted first."""


def main() -> None:
    options = _options()
    if options.child:
        cohort, count, variant = options.child.split("-")
        record = _trained(options.work, cohort, int(count), variant, options.device)
        path = _record(options.work, cohort, int(count), variant)
        path.with_suffix(".part").write_text(json.dumps(record))
        path.with_suffix(".part").replace(path)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.toy:
        (options.work / "toy").touch()
    end = time.monotonic() + 60 * options.minutes
    _draw(options.work, options.jobs)
    _run_all(options, end)
    _publish(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, each with one thread")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--minutes", type=float, default=1e6, help="after which no training is begun")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/schedule.md is the committed one")
    parser.add_argument("--toy", action="store_true", help="a few steps each, to see that all runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def _record(work: Path, cohort: str, count: int, variant: str) -> Path:
    return work / f"{cohort}-{count}-{variant}.json"


def _draw(work: Path, jobs: int) -> None:
    from shiftkit.phantoms import phantom
    from shiftkit.work import Work

    many: Record = {"n_healthy": PEOPLE, "n_glioma": 0, "spacing_mm": SPACING_MM, "work": Work(jobs=jobs)}
    phantom(work / "phantom-source", **many)
    many |= {"n_healthy": 0, "n_target_controls": PEOPLE, "target": "severe"}
    phantom(work / "phantom-severe", **many)


def _run_all(options: argparse.Namespace, end: float) -> None:
    waiting = [run for run in RUNS if not _record(options.work, *run).is_file()]
    running: list[subprocess.Popen[bytes]] = []
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, **threads, "PYTHONPATH": paths}
    while waiting or running:
        running = [one for one in running if one.poll() is None]
        # The peer gets the wall time of the default beside it, so that one comes first.
        ready = [run for run in waiting if run[2] != "monai" or _record(options.work, *run[:2], "default").is_file()]
        if ready and len(running) < options.jobs and time.monotonic() < end:
            waiting.remove(ready[0])
            name = "-".join(map(str, ready[0]))
            words = [sys.executable, __file__, "--work", str(options.work), "--child", name]
            words += ["--device", options.device]
            with (options.work / f"{name}.log").open("wb") as log:
                running.append(subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT))
        elif not running:
            return
        else:
            time.sleep(0.5)


# --- one training ------------------------------------------------------------------------------------------------


def _trained(work: Path, name: str, count: int, variant: str, device: str) -> Record:
    """Train on the first ``count``, choose by the four after the first 36, and test on the last twenty."""
    import torch

    from shiftkit.cohorts.folder import load_cohort

    torch.set_num_threads(1)
    folder = "phantom-source/healthy" if name == "healthy" else "phantom-severe/target_controls"
    cohort = load_cohort(work / folder)
    people = sorted(cohort, key=lambda case: case.key)
    held_out = people[PEOPLE - TESTED - TUNED_ON : PEOPLE - TESTED]
    parts = {"train": people[:count], "val": held_out, "test": people[-TESTED:]}
    if variant == "monai":
        from segmentation_monai import bare_monai

        seconds = json.loads(_record(work, name, count, "default").read_text())["wall_s"]
        lists = (parts["train"], parts["val"], parts["test"])
        made = bare_monai(*lists, cohort.bundles, seconds=seconds, device=device, threads=1)
        return dataclasses.asdict(made)
    cases = [
        dataclasses.replace(case, attributes={**case.attributes, "split": split})
        for split, members in parts.items()
        for case in members
    ]
    return _own(work / f"{name}-{count}-{variant}", dataclasses.replace(cohort, cases=tuple(cases)), variant, device)


def _own(place: Path, cohort: Any, variant: str, device: str) -> Record:
    from shiftkit.segmentation.prediction.cohort import predict
    from shiftkit.segmentation.training.recipes import Recipe
    from shiftkit.segmentation.training.source import train

    shutil.rmtree(place, ignore_errors=True)
    recipe = Recipe(spacing_mm=SPACING_MM, device=device, **_OPTIONS.get(variant, {}))
    if (place.parent / "toy").is_file():
        recipe = dataclasses.replace(recipe, epochs=1)
    schedule = recipe.schedule(len(cohort.where(split="train")))
    longer = {"half": 0.5, "fourfold": 4.0}.get(variant)
    if longer is not None:
        recipe = dataclasses.replace(recipe, epochs=round(schedule.epochs * longer))
    finish = _CHANGES.get(variant, lambda: lambda model: model)()
    start = time.monotonic()
    model = train(cohort, out=place / "model", recipe=recipe)
    wall = time.monotonic() - start
    test = cohort.where(split="test")
    predict(finish(model), test, out=place / "predicted", probabilities=False, device=device)
    epochs = int(model.training["epochs"])
    return {
        "dice": dice_of(place / "predicted", list(test), model.bundles),
        "steps": epochs * schedule.steps(len(cohort.where(split="train"))),
        "wall_s": wall,
        "validation_dice": model.training["validation_dice"],
        "best_epoch": model.training["best_epoch"],
        "epochs": epochs,
        "parameters": sum(one.numel() for one in model.network.parameters()),
    }


_OPTIONS: Mapping[str, Record] = {
    "none": {"augmentation": "none"},
    "strong": {"augmentation": "strong"},
    "acquisition": {"augmentation": "acquisition"},
    "mirrored": {"augmentation": "mirrored"},
    "patch": {"patch": (24, 32, 24)},
    "segresnet": {"network": "segresnet"},
    "dynunet": {"network": "dynunet", "deep_supervision": True},
    "wide": {"channels": (32, 64, 128, 256)},
    "batch": {"normalization": "batch", "batch_size": 2},
}


# --- what shiftkit does not offer --------------------------------------------------------------------------------


def _mirrored() -> Callable[[Any], Any]:
    from shiftkit.segmentation.samples.augmentation import AUGMENTATIONS, light, mirror
    from shiftkit.segmentation.training import epochs, recipes

    def mirrored(sample: Any, rng: np.random.Generator) -> Any:
        return light(mirror(sample) if rng.random() < 0.5 else sample, rng)

    epochs.AUGMENTATIONS = recipes.AUGMENTATIONS = {**AUGMENTATIONS, "mirrored": mirrored}
    return lambda model: model


def _loss(dice: float, entropy: float) -> Callable[[], Callable[[Any], Any]]:
    def change() -> Callable[[Any], Any]:
        from monai.losses.dice import DiceLoss
        from torch.nn.functional import binary_cross_entropy_with_logits

        from shiftkit.segmentation.training import epochs

        def loss(output: Any, target: Any, known: Any, *, probabilities: bool = False) -> Any:
            return dice * DiceLoss(sigmoid=True)(output, target) + entropy * binary_cross_entropy_with_logits(
                output, target
            )

        epochs.supervised_loss = loss
        return lambda model: model

    return change


def _slow() -> Callable[[Any], Any]:
    from shiftkit.segmentation.training import recipes

    recipes._LEARNING_RATE = recipes._LEARNING_RATE / 3
    return lambda model: model


def _averaged() -> Callable[[Any], Any]:
    import torch

    from shiftkit.segmentation.training import fitting

    original, mean = fitting.make_optimizer, {}

    def make_optimizer(network: Any, schedule: Any, rate: Any) -> Any:
        optimizer = original(network, schedule, rate)
        mean.update({name: one.detach().clone() for name, one in network.named_parameters()})

        def follow(*_: Any) -> None:
            for name, one in network.named_parameters():
                mean[name].lerp_(one.detach(), 0.001)

        optimizer.register_step_post_hook(follow)
        return optimizer

    def finish(model: Any) -> Any:
        with torch.no_grad():
            for name, one in model.network.named_parameters():
                one.copy_(mean[name])
        return model

    fitting.make_optimizer = make_optimizer
    return finish


_CHANGES: Mapping[str, Callable[[], Callable[[Any], Any]]] = {
    "mirrored": _mirrored,
    "dice": _loss(1.0, 0.0),
    "entropy": _loss(0.0, 1.0),
    "slow": _slow,
    "averaged": _averaged,
}
"""Each changes what is trained with in this process and returns what is done to the model at the end."""


# --- the table ---------------------------------------------------------------------------------------------------


def _publish(options: argparse.Namespace) -> None:
    found = {run: json.loads(path.read_text()) for run in RUNS if (path := _record(options.work, *run)).is_file()}
    lines = [
        "# How long to train, and how",
        "",
        f"`python benchmarks/schedule.py --work FOLDER --jobs {options.jobs} --device {options.device}`",
        "",
        f"Phantom at {SPACING_MM:g} mm, peaks, ten overlapping bundles; {TUNED_ON} participants choose the epoch, "
        f"{TESTED} whom nobody has seen are measured on; one thread each, {options.jobs} at once, so times are longer "
        "than one alone would take. *severe* are healthy people in "
        "the scanner of that profile, masks by its rater. Differences are from the default on the same participants, "
        "with the 95 % interval over participants (bootstrap); one seed each.",
        "",
        "| trained on | | steps | min | mean Dice | less the default | |",
        "|---|---|---|---|---|---|---|",
    ]
    for cohort in ("healthy", "severe"):
        for count in (8, 16, 32):
            base = found.get((cohort, count, "default"))
            if base is None:
                continue
            lines += [
                _line(f"{count} {cohort}", variant, found[cohort, count, variant], base)
                for variant in ("default", *VARIANTS)
                if (cohort, count, variant) in found
            ]
    missing = ["-".join(map(str, run)) for run in RUNS if run not in found]
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def _line(where: str, variant: str, one: Record, base: Record) -> str:
    dice, default = (np.array(record["dice"]).mean(axis=1) for record in (one, base))
    cells = [where, VARIANTS.get(variant, "**default**"), f"{one['steps']}", f"{one['wall_s'] / 60:.1f}"]
    cells.append(f"{dice.mean():.4f}")
    if variant == "default":
        return f"| {' | '.join(cells)} | | |"
    low, high = interval(dice - default)
    told = ""
    if variant == "fourfold":
        told = f"within {MARGIN:g}: " + ("met" if (dice - default).mean() <= MARGIN else "**not met**")
    if variant == "monai":
        told = f"default above it − {MARGIN:g}: " + ("met" if high < MARGIN else "**not met**")
    return f"| {' | '.join(cells)} | {(dice - default).mean():+.4f} ({low:+.4f} to {high:+.4f}) | {told} |"


if __name__ == "__main__":
    main()
