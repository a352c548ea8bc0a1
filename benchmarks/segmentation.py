"""shiftkit against nnU-Net v2 on the phantom's healthy cohort: same wall time, same cases, same machine.

Both train on the participants of the split ``train`` at the same time, each on one core of its own; ``val`` chooses
shiftkit's epoch; both predict the participants of ``test``, whose masks neither has seen, again on one core each.
Besides, what ``shiftkit predict`` needs for one 2 mm case on two cores, and for a 1 mm one.

    python -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2
    python benchmarks/segmentation.py --work FOLDER --peer NNUNET/bin/python --minutes 15

What is done is kept in the work folder and not done again; ``--until plan`` stops before the long part.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

BUNDLES_AT_ONCE, CASE_TARGET_S, VOLUME_TARGET_GIB = 10, 3.0, 4.0
DICE_MARGIN, SPEED_TARGET = 0.01, 3.0
DATASET = "Dataset501_Phantom"
PEER = Path(__file__).with_name("segmentation_nnunet.py")
Record = dict[str, Any]


def main() -> None:
    options = _options()
    if options.child:
        _child(options.child, options.work, options.epochs)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    if options.peer:
        _convert(options.work)
        _once(options.work / "plan.json", lambda: _run(_peer(options, "plan"), options.work, "plan"))
        if options.until == "plan":
            return
        _train_both(options)
        _predict_both(options)
    rows = [*_comparison(options.work), *_processes(options.work)]
    _publish(rows, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--peer", type=Path, help="Python of the environment that has nnunetv2")
    parser.add_argument("--minutes", type=float, default=15.0, help="wall time of each training")
    parser.add_argument("--until", choices=("plan", "end"), default="end")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/segmentation.md is the committed one")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


# --- nnU-Net's raw data ------------------------------------------------------------------------------------------


def _convert(work: Path) -> None:
    """The same peaks as shiftkit reads, with its signs, one file a channel; each combination of bundles a label."""
    import nibabel as nib

    from shiftkit.cohorts.peaks import load_peaks
    from shiftkit.images import read_mask
    from shiftkit.names import find_cohort
    from shiftkit.segmentation.samples.samples import canonical_peaks

    raw = work / "raw" / DATASET
    if (raw / "dataset.json").is_file():
        return
    cohort = find_cohort("healthy")
    combinations: dict[int, int] = {0: 0}
    for case in cohort:
        peaks = load_peaks(case)
        test = case.attributes["split"] == "test"
        folder = raw / ("imagesTs" if test else "imagesTr")
        folder.mkdir(parents=True, exist_ok=True)
        for channel in range(9):
            image = nib.Nifti1Image(canonical_peaks(peaks.array)[..., channel], peaks.affine)
            nib.save(image, folder / f"{case.key}_{channel:04d}.nii.gz")
        if not test:
            code = sum(read_mask(case.masks[b]).array.astype(int) << i for i, b in enumerate(cohort.bundles))
            label = np.zeros(code.shape, np.int16)
            for value in np.unique(code).tolist():
                label[code == value] = combinations.setdefault(value, len(combinations))
            (raw / "labelsTr").mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(label, peaks.affine), raw / "labelsTr" / f"{case.key}.nii.gz")
    labels: dict[str, Any] = {"background": 0}
    for index, bundle in enumerate(cohort.bundles):
        labels[bundle.label] = [label for code, label in combinations.items() if code >> index & 1]
    description = {
        "channel_names": {str(channel): f"peak{channel}" for channel in range(9)},
        "labels": labels,
        "regions_class_order": list(range(1, len(cohort.bundles) + 1)),
        "numTraining": len(cohort.where(split="train")) + len(cohort.where(split="val")),
        "file_ending": ".nii.gz",
    }
    split = {name: [case.key for case in cohort.where(split=name)] for name in ("train", "val")}
    folder = work / "preprocessed" / DATASET
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps([split]))
    (raw / "dataset.json").write_text(json.dumps(description, indent=2))


# --- training and prediction, side by side -----------------------------------------------------------------------


def _train_both(options: argparse.Namespace) -> None:
    work = options.work
    if (work / "train.json").is_file() and (work / "train-peer.json").is_file():
        return
    # One epoch beside a short trial of the peer says how many fit into the time.
    _once(work / "trial.json", lambda: _together(options, "trial", ["--epochs", "1"], 1.0))
    trial = json.loads((work / "trial.json").read_text())
    epochs = int((options.minutes * 60 - trial["load_s"]) / trial["epoch_s"] * 0.97)
    _together(options, "train", ["--epochs", str(epochs)], options.minutes)


def _together(options: argparse.Namespace, name: str, arguments: list[str], minutes: float) -> None:
    record = options.work / f"{name}-peer.json"
    peer = _peer(options, "train", "--minutes", str(minutes), "--record", str(record))
    ours = [sys.executable, __file__, "--work", str(options.work), "--child", name, *arguments]
    _side_by_side(options.work, name, ours, peer)


def _predict_both(options: argparse.Namespace) -> None:
    work = options.work
    if (work / "predict.json").is_file() and (work / "predict-peer.json").is_file():
        return
    images, out, record = work / "raw" / DATASET / "imagesTs", work / "predicted-peer", work / "predict-peer.json"
    peer = _peer(options, "predict", "--input", str(images), "--output", str(out), "--record", str(record))
    ours = [sys.executable, __file__, "--work", str(work), "--child", "predict"]
    _side_by_side(work, "predict", ours, peer)


def _side_by_side(work: Path, name: str, ours: list[str], peer: list[str]) -> None:
    """Both at once, each on one core; the wall time of each whole process goes into its record."""
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    for core, (who, command) in enumerate((("", ours), ("-peer", peer))):
        log = (work / f"{name}{who}.log").open("wb")
        command = ["taskset", "-c", str(core), *command]
        child = subprocess.Popen(command, env=_environment(work, 1), stdout=log, stderr=subprocess.STDOUT)
        running[who] = (child, time.monotonic())
    while running:
        time.sleep(0.2)
        for who, (child, start) in list(running.items()):
            if child.poll() is None:
                continue
            del running[who]
            if child.returncode:
                sys.exit(f"{name}{who} ended with {child.returncode}; see {name}{who}.log in the work folder.")
            record = work / f"{name}{who}.json"
            found = json.loads(record.read_text()) | {"process_s": time.monotonic() - start}
            record.write_text(json.dumps(found))


def _child(name: str, work: Path, epochs: int) -> None:
    """What shiftkit does in a process of its own, with its peak memory."""
    import torch

    from shiftkit.api import load_model
    from shiftkit.names import find_cohort
    from shiftkit.segmentation.prediction.cohort import predict
    from shiftkit.segmentation.training.recipes import Recipe
    from shiftkit.segmentation.training.source import train
    from shiftkit.work import Work

    torch.set_num_threads(1)
    start, loaded = time.monotonic(), [time.monotonic()]
    cohort = find_cohort("healthy")
    if name == "predict":
        test = dataclasses.replace(cohort, cases=tuple(cohort.where(split="test")))
        predict(load_model(work / "train"), test, out=work / "predicted", device="cpu")
        found: Record = {}
    else:

        def progress(done: int, total: int, text: str) -> None:
            if text == "Loading images":
                loaded[0] = time.monotonic()

        recipe = Recipe(epochs=epochs, device="cpu")
        model = train(cohort, out=work / name, recipe=recipe, work=Work(progress=progress))
        end = time.monotonic()
        parameters = sum(one.numel() for one in model.network.parameters())
        found = {"wall_s": end - start, "load_s": loaded[0] - start, "epoch_s": (end - loaded[0]) / epochs}
        found |= {"steps": epochs * len(cohort.where(split="train")), "batch_size": 1, "parameters": parameters}
        found["patch"] = list(model.shape)
    found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    (work / f"{name}.json").write_text(json.dumps(found))


def _comparison(work: Path) -> list[str]:
    from shiftkit.names import find_cohort

    if not (work / "predict-peer.json").is_file():
        return []
    cohort = find_cohort("healthy")
    test = list(cohort.where(split="test"))
    _once(work / "dice.json", lambda: (work / "dice.json").write_text(json.dumps(_dice(work, test, cohort.bundles))))
    dice = json.loads((work / "dice.json").read_text())
    ours = {name: json.loads((work / f"{name}.json").read_text()) for name in ("train", "predict")}
    peer = {name: json.loads((work / f"{name}-peer.json").read_text()) for name in ("train", "predict")}
    (a, b), n = (np.array(dice[who]) for who in ("shiftkit", "peer")), len(test)
    difference = (a - b).mean(axis=1)
    low, high = _interval(difference)
    faster = peer["predict"]["process_s"] / ours["predict"]["process_s"]

    def row(text: str, unit: str, one: float, two: float, target: str) -> str:
        return f"| {text} | {one:{unit}} | {two:{unit}} | {target} |"

    gap = float(difference.mean())
    return [
        f"| {n} unseen participants | shiftkit | nnU-Net v2 `3d_fullres` | target |",
        "|---|---|---|---|",
        row("wall time of training, s", ".0f", ours["train"]["wall_s"], peer["train"]["wall_s"], "the same"),
        row("steps of training", ".0f", ours["train"]["steps"], peer["train"]["steps"], ""),
        f"| participants a step × box | {_box(ours['train'])} | {_box(peer['train'])} | |",
        row("parameters, millions", ".2f", ours["train"]["parameters"] / 1e6, peer["train"]["parameters"] / 1e6, ""),
        row("mean Dice", ".4f", a.mean(), b.mean(), f"≥ nnU-Net − {DICE_MARGIN}: {_met(gap >= -DICE_MARGIN)}"),
        row("Dice of the worst bundle", ".4f", a.mean(axis=0).min(), b.mean(axis=0).min(), ""),
        row(
            "inference, s a case (process with start and I/O)",
            ".2f",
            ours["predict"]["process_s"] / n,
            peer["predict"]["process_s"] / n,
            f"{SPEED_TARGET:g}× faster: {faster:.1f}×, {_met(faster >= SPEED_TARGET)}",
        ),
        *(
            row(
                f"peak memory of {text}, GiB",
                ".2f",
                ours[name]["peak_gib"],
                peer[name]["peak_gib"],
                f"no higher: {_met(ours[name]['peak_gib'] <= peer[name]['peak_gib'])}",
            )
            for name, text in (("train", "training"), ("predict", "inference"))
        ),
        "| on a GPU: images/s, time to the same Dice, memory | no GPU here | no GPU here | |",
        "",
        f"Dice of shiftkit less nnU-Net's, mean over participants: {gap:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} "
        "(bootstrap of participants).",
        "",
    ]


def _dice(work: Path, cases: list[Any], bundles: tuple[Any, ...]) -> dict[str, list[list[float]]]:
    from shiftkit.cohorts.folder import mask_path
    from shiftkit.images import read_mask

    found: dict[str, list[list[float]]] = {"shiftkit": [], "peer": []}
    for case in cases:
        truth = [read_mask(case.masks[bundle]).array for bundle in bundles]
        ours = [read_mask(mask_path(work / "predicted", case.key, bundle)).array for bundle in bundles]
        saved = np.load(work / "predicted-peer" / f"{case.key}.npz")["probabilities"]
        peer = list(saved.transpose(0, 3, 2, 1) >= 0.5)  # nnU-Net keeps z, y, x
        for who, made in (("shiftkit", ours), ("peer", peer)):
            pairs = zip(made, truth, strict=True)
            found[who].append([float(2 * (m & t).sum() / (m.sum() + t.sum())) for m, t in pairs])
    return found


def _interval(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _box(record: Record) -> str:
    return f"{record['batch_size']} × {'·'.join(map(str, record['patch']))}"


# --- one process of shiftkit predict -----------------------------------------------------------------------------


def _processes(work: Path) -> list[str]:
    """One 2 mm case on two cores, and a 1 mm one, each with ``shiftkit predict`` as a user calls it."""
    lines = [
        "| `shiftkit predict`, one case, ten bundles | s a case, I/O included | s of the whole process, Python's "
        "and PyTorch's start included | GiB | target |",
        "|---|---|---|---|---|",
    ]
    for name, spacing_mm, cores in (("2 mm on 2 cores", 2.0, "0,1"), ("1 mm (182·218·182) on 2 cores", 1.0, "0,1")):
        folder = work / f"case-{spacing_mm:g}mm"
        found = json.loads(_measured(folder, spacing_mm, cores).read_text())
        fast = f"< {CASE_TARGET_S:g} s a case: {_met(found['case_s'] < CASE_TARGET_S)}"
        small = f"< {VOLUME_TARGET_GIB:g} GiB: {_met(found['peak_gib'] < VOLUME_TARGET_GIB)}"
        target = fast if spacing_mm == 2.0 else small
        lines.append(f"| {name} | {found['case_s']:.2f} | {found['wall_s']:.2f} | {found['peak_gib']:.2f} | {target} |")
    return lines


def _measured(folder: Path, spacing_mm: float, cores: str) -> Path:
    record = folder / "record.json"
    _once(record, lambda: record.write_text(json.dumps(_predict_process(folder, spacing_mm, cores))))
    return record


def _predict_process(folder: Path, spacing_mm: float, cores: str) -> Record:
    """Smallest wall time and largest memory of three runs, the first of which warms the disk."""
    import shutil

    _one_case(folder / "cohort", spacing_mm)
    runs: list[tuple[float, float]] = []
    for number in range(3):
        out = folder / f"out-{number}"
        shutil.rmtree(out, ignore_errors=True)
        command = [
            "taskset",
            "-c",
            cores,
            str(Path(sys.executable).with_name("shiftkit")),
            "predict",
            "--model",
            "reference",
        ]
        command += ["--cohort", str(folder / "cohort"), "--out", str(out), "--device", "cpu"]
        start = time.monotonic()
        child = subprocess.Popen(command, env=_environment(folder, 2))
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"shiftkit predict ended with {os.waitstatus_to_exitcode(status)}")
        runs.append((time.monotonic() - start, usage.ru_maxrss / 2**20))
    case = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-c", _IN_A_PROCESS, str(folder)],
        env=_environment(folder, 2),
        check=True,
        capture_output=True,
        text=True,
    )
    walls, peaks = zip(*runs, strict=True)
    return {"wall_s": min(walls), "peak_gib": max(peaks), "case_s": float(case.stdout.split()[-1])}


_IN_A_PROCESS = """
import sys, time, pathlib
import shiftkit as sk
from shiftkit.segmentation.prediction.cohort import predict
folder = pathlib.Path(sys.argv[1])
model, cohort, walls = sk.load_model("reference"), sk.load_cohort(folder / "cohort"), []
for number in range(3):
    start = time.monotonic()
    predict(model, cohort, out=folder / f"in-{time.monotonic_ns()}", device="cpu")
    walls.append(time.monotonic() - start)
print(min(walls))
"""


def _one_case(root: Path, spacing_mm: float) -> None:
    """One test participant, resampled (nearest) to another spacing over the whole standard box."""
    import pandas as pd

    from shiftkit import cohorts
    from shiftkit.images import read_image, write_image
    from shiftkit.names import find_cohort
    from shiftkit.types import Volume

    case = next(iter(find_cohort("healthy").where(split="test")))
    image = read_image(case.images["peaks"])
    shape = np.round(np.array([182, 218, 182]) / spacing_mm).astype(int)
    where = [
        np.minimum((np.arange(n) * spacing_mm / 2.5).round().astype(int), m - 1)
        for n, m in zip(shape, image.shape, strict=True)
    ]
    affine = image.affine @ np.diag([spacing_mm / 2.5] * 3 + [1.0])
    path = cohorts.image_path(root, case.key, "peaks")
    write_image(Volume(array=image.array[np.ix_(*where)], affine=affine), path)
    cohorts.write_peaks_sidecar(path)
    cohorts.write_description(root, "one")
    cohorts.write_participants(root, pd.DataFrame([{"participant_id": case.participant_id, "group": "control"}]))


# --- what all of it shares ---------------------------------------------------------------------------------------


def _peer(options: argparse.Namespace, verb: str, *arguments: str) -> list[str]:
    return [str(options.peer), str(PEER), verb, *arguments]


def _environment(work: Path, threads: int) -> dict[str, str]:
    folders = {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
    source = {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    return {**os.environ, **folders, **source, **limits, "nnUNet_n_proc_DA": "0", "nnUNet_compile": "f"}


def _run(command: list[str], work: Path, name: str) -> None:
    with (work / f"{name}.log").open("wb") as log:
        subprocess.run(command, env=_environment(work, 1), stdout=log, stderr=subprocess.STDOUT, check=True)
    (work / f"{name}.json").write_text("{}")


def _once(record: Path, make: Any) -> None:
    if not record.is_file():
        make()


def _met(yes: bool) -> str:
    return "met" if yes else "**not met**"


def _publish(rows: list[str], options: argparse.Namespace) -> None:
    text = "\n".join(
        [
            "# Segmentation",
            "",
            f"`python benchmarks/segmentation.py --work FOLDER --peer NNUNET/bin/python --minutes {options.minutes:g}`",
            "",
            "The phantom's healthy cohort, 2.5 mm, peaks, ten overlapping bundles; 36 participants to train on, 4 to "
            "tune on. Both trained at the same time, one core each; nnU-Net trains by region (each combination of "
            "bundles a label), without mirroring and rotation, and its preprocessing is not counted.",
            "",
            *rows,
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
