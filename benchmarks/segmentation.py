"""shiftkit against nnU-Net v2 and a bare MONAI loop on the phantom's healthy people: same cases, machine and time.

All train on the participants of the split ``train``, beside each other where there are enough cores; those of ``val``
choose the epoch, and all predict the participants of ``test``, whose masks none has seen. shiftkit trains as it does
with no options; the peers get the given minutes, which should be no fewer than that takes. Besides, what ``shiftkit
predict`` needs for one 2 mm case on two cores, and for a 1 mm one.

    python -m venv NNUNET && NNUNET/bin/pip install torch==2.13.0 nnunetv2
    python benchmarks/segmentation.py --work FOLDER --peer NNUNET/bin/python --spacing-mm 4 --minutes 90
    python benchmarks/segmentation.py --work FOLDER --peer python --device cuda --minutes 2.5

What is done is kept in the work folder and not done again; ``--until plan`` stops before the long part. `gpu.py` runs
it on a GPU.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

CASE_TARGET_S, VOLUME_TARGET_GIB = 3.0, 4.0
DICE_MARGIN, SPEED_TARGET = 0.01, 3.0
NETWORK_TARGET, SCORE_TARGET_S, LATE_TARGET_S = 0.7, 2.0, 0.5
DATASET = "Dataset501_Phantom"
PEER = Path(__file__).with_name("segmentation_nnunet.py")
PEERS = {"nnunet": "nnU-Net v2 `3d_fullres`", "monai": "bare MONAI loop"}
NAMES = {"shiftkit": "shiftkit", **PEERS}
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
"""Of the given time, at which the table says what validation had reached."""
Record = dict[str, Any]


def main() -> None:
    options = _options()
    if options.child:
        found = _CHILDREN[options.child](options)
        found["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        _keep(options.work / f"{options.child}.json", found)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    if options.peer:
        _draw(options)
        _convert(options)
        _once(options.work / "plan.json", lambda: _plan(options))
        if options.until == "plan":
            return
        _all_of(options, "train")
        _all_of(options, "predict")
        lines += comparison(options.work)
    if options.device == "cpu" and options.until == "end":
        lines += _processes(options.work)
    _publish(lines, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--peer", type=Path, help="Python of the environment that has nnunetv2")
    parser.add_argument("--minutes", type=float, default=90.0, help="wall time of each peer's training")
    parser.add_argument("--spacing-mm", type=float, default=2.5, help="of the phantom, and of shiftkit's grid")
    parser.add_argument("--people", type=int, default=60, help="healthy people; two thirds are trained on")
    parser.add_argument("--device", default="cpu", help="cpu, where each has a core of its own, or cuda")
    parser.add_argument("--epochs", type=int, help="of shiftkit, to rehearse; else as it does by default")
    parser.add_argument("--jobs", type=int, default=2, help="processes that draw, convert and preprocess")
    parser.add_argument("--until", choices=("plan", "comparison", "end"), default="end")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/segmentation.md is the committed one")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- the cohort, and nnU-Net's raw data --------------------------------------------------------------------------


def _draw(options: argparse.Namespace) -> None:
    from shiftkit.phantoms import phantom
    from shiftkit.work import Work

    how: Record = {"spacing_mm": options.spacing_mm, "work": Work(jobs=options.jobs)}
    phantom(options.work / "phantom", n_healthy=options.people, n_glioma=0, **how)


def _cohort(work: Path) -> Any:
    from shiftkit.cohorts.folder import load_cohort

    return load_cohort(work / "phantom" / "healthy")


def _convert(options: argparse.Namespace) -> None:
    """The same peaks as shiftkit reads, with its signs, one file a channel; each combination of bundles a label."""
    import nibabel as nib

    raw = options.work / "raw" / DATASET
    if (raw / "dataset.json").is_file():
        return
    cohort = _cohort(options.work)
    for name in ("imagesTr", "imagesTs", "labelsTr"):
        (raw / name).mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ProcessPoolExecutor(options.jobs) as pool:
        every = [itertools.repeat(one) for one in (cohort.bundles, raw)]
        coded = {case.key: made for case, made in zip(cohort, pool.map(_convert_images, cohort, *every), strict=True)}
    training = [case for case in cohort if case.attributes["split"] != "test"]
    combinations: dict[int, int] = {0: 0}
    for case in training:
        code, affine = coded[case.key]
        label = np.zeros(code.shape, np.int16)
        for value in np.unique(code).tolist():
            label[code == value] = combinations.setdefault(value, len(combinations))
        nib.save(nib.Nifti1Image(label, affine), raw / "labelsTr" / f"{case.key}.nii")
    labels: Record = {"background": 0}
    for index, bundle in enumerate(cohort.bundles):
        labels[bundle.label] = [label for code, label in combinations.items() if code >> index & 1]
    description = {
        "channel_names": {str(channel): f"peak{channel}" for channel in range(9)},
        "labels": labels,
        "regions_class_order": list(range(1, len(cohort.bundles) + 1)),
        "numTraining": len(training),
        "file_ending": ".nii",
    }
    split = {name: [case.key for case in cohort.where(split=name)] for name in ("train", "val")}
    folder = options.work / "preprocessed" / DATASET
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps([split]))
    (raw / "dataset.json").write_text(json.dumps(description, indent=2))


def _convert_images(case: Any, bundles: tuple[Any, ...], raw: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write a case's channels; returns a code of the bundles of each voxel, and the affine."""
    import nibabel as nib

    from shiftkit.cohorts.peaks import load_peaks
    from shiftkit.images import read_mask
    from shiftkit.segmentation.samples.samples import canonical_peaks

    peaks = load_peaks(case)
    folder = raw / ("imagesTs" if case.attributes["split"] == "test" else "imagesTr")
    signed = canonical_peaks(peaks.array)
    for channel in range(9):
        nib.save(nib.Nifti1Image(signed[..., channel], peaks.affine), folder / f"{case.key}_{channel:04d}.nii")
    masks = [read_mask(case.masks[bundle]).array for bundle in bundles]
    return np.sum([mask.astype(np.int32) << index for index, mask in enumerate(masks)], axis=0), peaks.affine


def _plan(options: argparse.Namespace) -> None:
    with (options.work / "plan.log").open("wb") as log:
        command = [str(options.peer), str(PEER), "plan", "--jobs", str(options.jobs)]
        subprocess.run(command, env=_environment(options), stdout=log, stderr=subprocess.STDOUT, check=True)
    _keep(options.work / "plan.json", {})


# --- training and prediction, side by side -----------------------------------------------------------------------


def _all_of(options: argparse.Namespace, verb: str) -> None:
    """What is to be done by all, at once on a GPU, else as many at once as there are cores, each on its own."""
    work = options.work
    waiting = [who for who in NAMES if not (work / f"{verb}-{who}.json").is_file()]
    if verb == "predict":
        waiting = [who for who in waiting if who != "monai"]  # it measures itself, and writes nothing
    cores = sorted(os.sched_getaffinity(0))
    free = list(range(len(waiting))) if options.device != "cpu" else cores
    running: dict[str, tuple[subprocess.Popen[bytes], float, int]] = {}
    failed: list[str] = []
    while waiting or running:
        while waiting and free:
            who, core = waiting.pop(0), free.pop(0)
            pinned = ["taskset", "-c", str(core)] if options.device == "cpu" else []
            with (work / f"{verb}-{who}.log").open("wb") as log:
                command = [*pinned, *_command(options, verb, who)]
                child = subprocess.Popen(command, env=_environment(options), stdout=log, stderr=subprocess.STDOUT)
            running[who] = (child, time.monotonic(), core)
        time.sleep(0.1)
        for who, (child, start, core) in list(running.items()):
            if child.poll() is None:
                continue
            del running[who]
            free.append(core)
            if child.returncode:
                failed.append(f"{verb} of {who} ended with {child.returncode}; see {verb}-{who}.log in {work}.")
                print((work / f"{verb}-{who}.log").read_text()[-3000:], flush=True)
                continue
            record = work / f"{verb}-{who}.json"
            _keep(record, json.loads(record.read_text()) | {"process_s": time.monotonic() - start})
    if failed:
        sys.exit("\n".join(failed))


def _command(options: argparse.Namespace, verb: str, who: str) -> list[str]:
    work, record = options.work, options.work / f"{verb}-{who}.json"
    how = ["--device", options.device, "--minutes", str(options.minutes)]
    if who != "nnunet":
        spacing = ["--spacing-mm", str(options.spacing_mm)]
        spacing += [] if options.epochs is None else ["--epochs", str(options.epochs)]
        return [sys.executable, __file__, "--work", str(work), "--child", f"{verb}-{who}", *how, *spacing]
    folders = ["--input", str(work / "raw" / DATASET / "imagesTs"), "--output", str(work / "predicted-nnunet")]
    return [str(options.peer), str(PEER), verb, "--record", str(record), *how, *(folders if verb == "predict" else [])]


def _train_shiftkit(options: argparse.Namespace) -> Record:
    """With no options but the grid and where; and what its validation had reached when."""
    import pandas as pd

    from shiftkit.segmentation.training.recipes import Recipe
    from shiftkit.segmentation.training.source import train
    from shiftkit.work import Work

    _threads(options)
    cohort = _cohort(options.work)
    people = len(cohort.where(split="train"))
    ends: list[float] = []
    start = time.monotonic()

    def progress(done: int, total: int, text: str) -> None:
        if text.startswith("Training") and done % people == 0:
            ends.append(time.monotonic() - start)

    recipe = Recipe(device=options.device, spacing_mm=options.spacing_mm, epochs=options.epochs)
    model = train(cohort, out=options.work / "model", recipe=recipe, work=Work(progress=progress))
    wall = time.monotonic() - start
    epochs = pd.read_csv(options.work / "model" / "training.csv")["dice"]
    return {
        "wall_s": wall,
        "steps": len(epochs) * people,
        "batch_size": 1,
        "patch": list(model.shape),
        "parameters": sum(one.numel() for one in model.network.parameters()),
        "curve": [(end, dice) for end, dice in zip(ends, epochs, strict=True) if dice == dice],
    }


def _predict_shiftkit(options: argparse.Namespace) -> Record:
    from shiftkit.api import load_model
    from shiftkit.segmentation.prediction.cohort import predict

    _threads(options)
    shutil.rmtree(options.work / "predicted", ignore_errors=True)
    test = _cohort(options.work).where(split="test")
    predict(load_model(options.work / "model"), test, out=options.work / "predicted", device=options.device)
    return {}


def _train_monai(options: argparse.Namespace) -> Record:
    from segmentation_monai import bare_monai

    cohort = _cohort(options.work)
    parts = [list(cohort.where(split=name)) for name in ("train", "val", "test")]
    threads = 1 if options.device == "cpu" else 4
    _threads(options)
    made = bare_monai(
        *parts, cohort.bundles, seconds=60 * options.minutes, device=options.device, threads=threads
    )  # fmt: skip
    return {**dataclasses.asdict(made), "batch_size": 1, "patch": "the whole image"}


def _threads(options: argparse.Namespace) -> None:
    import torch

    torch.set_num_threads(1 if options.device == "cpu" else 4)


_CHILDREN = {
    "train-shiftkit": _train_shiftkit,
    "train-monai": _train_monai,
    "predict-shiftkit": _predict_shiftkit,
}


# --- the table ---------------------------------------------------------------------------------------------------


def comparison(work: Path) -> list[str]:
    """Lines of the table of a work folder, as far as it is done."""
    known = [who for who in NAMES if (work / f"train-{who}.json").is_file()]
    if "shiftkit" not in known or len(known) < 2 or not (work / "predict-shiftkit.json").is_file():
        return []
    trained = {who: json.loads((work / f"train-{who}.json").read_text()) for who in known}
    cohort = _cohort(work)
    test, bundles = list(cohort.where(split="test")), cohort.bundles
    people, tuned_on = len(cohort.where(split="train")), len(cohort.where(split="val"))
    _once(work / "dice.json", lambda: _keep(work / "dice.json", _dice(work, test, bundles, trained)))
    dice = {who: np.array(rows) for who, rows in json.loads((work / "dice.json").read_text()).items()}
    predicted = {who: json.loads(path.read_text()) for who in known if (path := work / f"predict-{who}.json").is_file()}

    def row(text: str, cells: dict[str, str]) -> str:
        return f"| {text} | {' | '.join(cells.get(who, '') for who in known)} |"

    rates = {who: f"{one['process_s'] / len(test):.2f}" for who, one in predicted.items()}
    lines = [
        row(f"{people} to train on, {tuned_on} to tune on, {len(test)} unseen", {who: NAMES[who] for who in known}),
        f"|---|{'---|' * len(known)}",
        row("wall time of training, s", {who: f"{one['wall_s']:.0f}" for who, one in trained.items()}),
        row("steps of training", {who: f"{one['steps']}" for who, one in trained.items()}),
        row("participants a step × box", {who: _box(one) for who, one in trained.items()}),
        row("parameters, millions", {who: f"{one['parameters'] / 1e6:.2f}" for who, one in trained.items()}),
        row("**mean Dice of unseen participants**", {who: f"**{dice[who].mean():.4f}**" for who in known}),
        *(
            row(bundle.label, {who: f"{dice[who].mean(axis=0)[index]:.3f}" for who in known})
            for index, bundle in enumerate(bundles)
        ),
        *(
            row(f"validation Dice at {share:.0%} of the longest training", _reached(trained, share))
            for share in SHARES
        ),
        row("inference, s a case (process, files and probabilities)", rates),
        "",
    ]  # fmt: skip
    for who in known[1:]:
        low, high = interval((dice["shiftkit"] - dice[who]).mean(axis=1))
        gap = float((dice["shiftkit"] - dice[who]).mean())
        lines.append(
            f"- Dice of shiftkit less that of {NAMES[who]}, mean over participants: {gap:+.4f}, 95 % interval "
            f"{low:+.4f} to {high:+.4f} (bootstrap of participants); target above −{DICE_MARGIN}: "
            f"{_met(low > -DICE_MARGIN)}."
        )
    if "nnunet" in predicted:
        faster = predicted["nnunet"]["process_s"] / predicted["shiftkit"]["process_s"]
        lines.append(f"- Inference is {faster:.1f} times as fast as nnU-Net's (target {SPEED_TARGET:g}): "
                     f"{_met(faster >= SPEED_TARGET)}.")  # fmt: skip
    return [*lines, ""]


def _reached(trained: dict[str, Record], share: float) -> dict[str, str]:
    """The best validation up to a share of the longest training; how each validates is its own."""
    most = max(one["wall_s"] for one in trained.values())
    reached = {
        who: [dice for second, dice in one["curve"] if second <= share * most + 1.0] for who, one in trained.items()
    }
    return {who: f"{max(values):.3f}" if values else "–" for who, values in reached.items()}


def _dice(work: Path, cases: list[Any], bundles: tuple[Any, ...], trained: dict[str, Record]) -> dict[str, Any]:
    found: dict[str, Any] = {"shiftkit": dice_of(work / "predicted", cases, bundles)}
    if "monai" in trained:
        found["monai"] = trained["monai"]["dice"]
    for case in cases if "nnunet" in trained else ():
        saved = np.load(work / "predicted-nnunet" / f"{case.key}.npz")["probabilities"]
        made = saved.transpose(0, 3, 2, 1) >= 0.5  # nnU-Net keeps z, y, x
        found.setdefault("nnunet", []).append(_overlaps(case, bundles, list(made)))
    return found


def dice_of(predicted: Path, cases: list[Any], bundles: tuple[Any, ...]) -> list[list[float]]:
    """Of predictions in a folder, by participant and bundle."""
    from shiftkit.cohorts.folder import mask_path
    from shiftkit.images import read_mask

    return [
        _overlaps(case, bundles, [read_mask(mask_path(predicted, case.key, one)).array for one in bundles])
        for case in cases
    ]


def _overlaps(case: Any, bundles: tuple[Any, ...], masks: list[Any]) -> list[float]:
    from shiftkit.images import read_mask

    pairs = zip(masks, (read_mask(case.masks[one]).array for one in bundles), strict=True)
    return [float(2 * (made & true).sum() / max(1, made.sum() + true.sum())) for made, true in pairs]


def interval(values: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _box(record: Record) -> str:
    patch = record["patch"]
    return f"{record['batch_size']} × {patch if isinstance(patch, str) else '·'.join(map(str, patch))}"


# --- one process of shiftkit predict -----------------------------------------------------------------------------


def _processes(work: Path) -> list[str]:
    """One 2 mm case on two cores, a 1 mm one and several, with ``shiftkit predict`` as users call it; and the start."""
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
    _once(work / "cohort.json", lambda: _keep(work / "cohort.json", _several(work)))
    several = json.loads((work / "cohort.json").read_text())
    share = several["network_s"] / several["wall_s"]
    _once(work / "starts.json", lambda: _keep(work / "starts.json", _starts(work)))
    starts = json.loads((work / "starts.json").read_text())
    late = starts["predict"] - starts["imports"]
    return [
        *lines,
        "",
        f"- {several['cases']} participants at 2 mm on 2 cores: {several['wall_s'] / several['cases']:.2f} s each; "
        f"the network computes {share:.0%} of that time (target {NETWORK_TARGET:.0%}): "
        f"{_met(share >= NETWORK_TARGET)}.",
        f"- `shiftkit score --dry-run` is through {starts['score']:.2f} s after its start (target {SCORE_TARGET_S:g}): "
        f"{_met(starts['score'] <= SCORE_TARGET_S)}.",
        f"- `shiftkit predict --dry-run`: {starts['predict']:.2f} s, of which importing torch and MONAI's networks "
        f"takes {starts['imports']:.2f} (target {LATE_TARGET_S:g} s more): {_met(late <= LATE_TARGET_S)}.",
    ]


def _several(work: Path) -> Record:
    """Participants in a row, and of that time what the network takes."""
    from shiftkit.phantoms import phantom

    cohort = work / "several"
    phantom(cohort, n_healthy=8, n_glioma=0, spacing_mm=2.0)
    made = subprocess.run(
        ["taskset", "-c", "0,1", sys.executable, "-c", _WATCHED, str(work)],
        env=_case_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(made.stdout.splitlines()[-1])


_WATCHED = """
import json, pathlib, sys, time
import shiftkit as sk
from shiftkit.segmentation.prediction import cohort as prediction
folder = pathlib.Path(sys.argv[1])
model, people, spent = sk.load_model("reference"), sk.load_cohort(folder / "several" / "healthy"), []
infer = prediction.infer
def watched(*given):
    start = time.monotonic()
    made = infer(*given)
    spent.append(time.monotonic() - start)
    return made
prediction.infer = watched
found = []
for number in range(2):
    spent.clear()
    start = time.monotonic()
    prediction.predict(model, people, out=folder / f"several-{time.monotonic_ns()}", device="cpu")
    found.append({"cases": len(people), "wall_s": time.monotonic() - start, "network_s": sum(spent)})
print(json.dumps(min(found, key=lambda one: one["wall_s"])))
"""


def _starts(work: Path) -> dict[str, float]:
    """Smallest wall times of processes that only begin."""
    command, people = str(Path(sys.executable).with_name("shiftkit")), str(work / "several" / "healthy")
    words = {
        "imports": [sys.executable, "-c", "import torch; from monai.networks.nets import UNet"],
        "predict": [command, "predict", "--model", "reference", "--cohort", people, "--out", str(work / "dry")],
        "score": [command, "score", "--predictions", people, "--cohort", people, "--out", str(work / "dry.tsv")],
    }
    found: dict[str, float] = {}
    for name, line in words.items():
        walls: list[float] = []
        for _ in range(5):
            start = time.monotonic()
            dry = [] if name == "imports" else ["--dry-run"]
            subprocess.run([*line, *dry], env=_case_environment(), check=True, capture_output=True)
            walls.append(time.monotonic() - start)
        found[name] = min(walls)
    return found


def _measured(folder: Path, spacing_mm: float, cores: str) -> Path:
    record = folder / "record.json"
    _once(record, lambda: record.write_text(json.dumps(_predict_process(folder, spacing_mm, cores))))
    return record


def _predict_process(folder: Path, spacing_mm: float, cores: str) -> Record:
    """Smallest wall time and largest memory of three runs, the first of which warms the disk."""
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
        child = subprocess.Popen(command, env=_case_environment())
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"shiftkit predict ended with {os.waitstatus_to_exitcode(status)}")
        runs.append((time.monotonic() - start, usage.ru_maxrss / 2**20))
    case = subprocess.run(
        ["taskset", "-c", cores, sys.executable, "-c", _IN_A_PROCESS, str(folder)],
        env=_case_environment(),
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


def _case_environment() -> dict[str, str]:
    two = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
    # Compiled modules are kept, as everywhere but in some containers: otherwise each process compiles all of them.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), **two}


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


def _environment(options: argparse.Namespace) -> dict[str, str]:
    folders = {f"nnUNet_{name}": str(options.work / name) for name in ("raw", "preprocessed", "results")}
    paths = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]))
    threads = 1 if options.device == "cpu" else 4
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Processes that augment for nnU-Net; compiling its network takes longer than a short training.
    peer = {"nnUNet_n_proc_DA": "0" if options.device == "cpu" else "8", "nnUNet_compile": "f"}
    return {**os.environ, **folders, "PYTHONPATH": paths, **dict.fromkeys(names, str(threads)), **peer}


def _keep(path: Path, record: Record) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.replace(path)


def _once(record: Path, make: Any) -> None:
    if not record.is_file():
        make()


def _met(yes: bool) -> str:
    return "met" if yes else "**not met**"


def _publish(rows: list[str], options: argparse.Namespace) -> None:
    place = "one core each" if options.device == "cpu" else "all at once on one GPU"
    peer = f" --peer NNUNET/bin/python --device {options.device} --spacing-mm {options.spacing_mm:g} "
    peer += f"--minutes {options.minutes:g}"
    about = [
        f"The phantom's healthy people, {options.spacing_mm:g} mm, peaks, ten bundles that overlap; {place}. {ABOUT}",
        "",
    ]
    text = "\n".join(
        [
            "# Segmentation",
            "",
            f"`python benchmarks/segmentation.py --work FOLDER{peer if options.peer else ''}`",
            "",
            *(
                about
                if options.peer
                else ["What training reaches beside nnU-Net v2 and a bare MONAI loop: `gpu.md`.", ""]
            ),
            *rows,
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


ABOUT = (
    "shiftkit is `train` with no options, reading included; the peers are given a time. nnU-Net trains by region (each "
    "combination of bundles a label), without mirroring and rotation, along its learning rate over that time, its "
    "preprocessing not counted, not compiled; it keeps its last weights, the other two those of the best validation. "
    "The MONAI loop is its U-Net and `DiceCELoss` (softmax), AdamW with one cycle, scaled and noisy images, bfloat16 "
    "on a GPU. Validation is each one's own: over boxes, pooled over patches, over whole images. One seed."
)


if __name__ == "__main__":
    main()
