"""What a GPU that is at hand for ten minutes can tell: tests, steps, prediction, and how long training must be.

In this order: the tests that need a GPU; a training step by itself, in each precision and memory format, beside a bare
loop of MONAI's own network; the same step in shiftkit's loop, with and without augmentation; participants predicted a
second; and the Dice on unseen participants that trainings of different length reach. The phantom is made on the CPU's
cores meanwhile.

    python benchmarks/gpu.py --work FOLDER --minutes 10 --out benchmarks/gpu.md

What is done is kept in the work folder and not done again; when the time is over, what is there is written, and packed
into ``FOLDER/gpu.tar.gz``. With ``--toy`` all of it is rehearsed on small images, on the CPU where there is no GPU.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STEP_TARGET, KERNEL_TARGET, PARTICIPANTS_TARGET, DICE_TARGET = 1.15, 0.8, 5.0, 0.01
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Size:
    """How large what is measured is."""

    boxes: dict[str, tuple[int, int, int]]
    repeats: int
    people: int
    spacing_mm: float
    model_mm: float
    trainings: tuple[tuple[int, int], ...]
    """Participants and steps, the most wanted first."""
    at_once: int


FULL = Size(
    boxes={"2.5 mm": (64, 80, 64), "1.25 mm": (128, 160, 128)},
    repeats=20,
    people=48,
    spacing_mm=2.0,
    model_mm=2.5,
    trainings=((16, 9600), (8, 9600), (16, 2400), (8, 2400), (24, 2400), (16, 1200), (8, 1200), (16, 4800), (8, 4800)),
    at_once=6,
)
TOY = Size(
    boxes={"10 mm": (16, 24, 16), "5 mm": (32, 40, 32)},
    repeats=2,
    people=8,
    spacing_mm=5.0,
    model_mm=5.0,
    trainings=((2, 4), (2, 8)),
    at_once=2,
)


def main() -> None:
    options = _options()
    size = TOY if options.toy else FULL
    if options.child:
        name, *arguments = options.child.split()
        _keep(options.work / f"{'-'.join([name, *arguments])}.json", _CHILDREN[name](options.work, size, *arguments))
        return
    end = time.monotonic() + 60 * options.minutes
    options.work.mkdir(parents=True, exist_ok=True)
    _keep(options.work / "machine.json", _machine(options.toy))
    with contextlib.ExitStack() as running:
        phantom = running.enter_context(_started(options, "phantom"))
        for stage in ("tests", "steps"):
            with _started(options, stage) as child:
                _wait(child, end)
        _wait(phantom, end)
        for stage in ("loop", "predict"):
            with _started(options, stage) as child:
                _wait(child, end)
        _train_all(options, size, end)
    _publish(options, size)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which what is there is written")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/gpu.md is the committed one")
    parser.add_argument("--toy", action="store_true", help="small images and few steps, also on a CPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- processes ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _started(options: argparse.Namespace, stage: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """A stage in a process of its own, unless it is done already; ended at the latest with the block."""
    name = stage.replace(" ", "-")
    if (options.work / f"{name}.json").is_file():
        yield None
        return
    words = [
        sys.executable,
        __file__,
        "--work",
        str(options.work),
        "--child",
        stage,
        *(["--toy"] if options.toy else []),
    ]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "SHIFTKIT_CACHE": str(options.work / "cache")}
    if name.startswith("training"):
        environment["OMP_NUM_THREADS"] = "1"  # several at once
    with (options.work / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()


def _wait(child: subprocess.Popen[bytes] | None, end: float) -> None:
    if child is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, end - time.monotonic()))


def _train_all(options: argparse.Namespace, size: Size, end: float) -> None:
    """Trainings side by side, the most wanted first, as long as there is time."""
    waiting = [f"training {participants} {steps}" for participants, steps in size.trainings]
    with contextlib.ExitStack() as stack:
        running: list[subprocess.Popen[bytes]] = []
        while (waiting or running) and time.monotonic() < end:
            running = [child for child in running if child.poll() is None]
            if waiting and len(running) < size.at_once:
                child = stack.enter_context(_started(options, waiting.pop(0)))
                running += [] if child is None else [child]
            else:
                time.sleep(0.2)


def _keep(path: Path, record: Record) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(record))
    part.replace(path)


def _machine(toy: bool) -> Record:
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    if card is None and not toy:
        sys.exit("There is no GPU here; rehearse with --toy.")
    cores = len(os.sched_getaffinity(0))
    return {"card": card, "torch": torch.__version__, "cores": cores, "python": platform.python_version()}


# --- what is measured --------------------------------------------------------------------------------------------


def _phantom(work: Path, size: Size) -> Record:
    from shiftkit.phantoms import phantom
    from shiftkit.work import Work

    start = time.monotonic()
    jobs = max(1, len(os.sched_getaffinity(0)) - 4)  # some are left for what is timed meanwhile
    shutil.rmtree(work / "phantom", ignore_errors=True)
    phantom(work / "phantom", n_healthy=size.people, n_glioma=0, spacing_mm=size.spacing_mm, work=Work(jobs=jobs))
    return {"wall_s": time.monotonic() - start}


def _tests(work: Path, size: Size) -> Record:
    words = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:xdist", "-p", "no:cacheprovider"]
    # Warnings of other versions than those that are tested with are no failures here.
    words += ["-W", "default", "--tb=short", "tests/segmentation/test_gpu.py"]
    start = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-20000:], done.stderr[-4000:])
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    return {"summary": done.stdout.strip().splitlines()[-1], "lines": lines, "wall_s": time.monotonic() - start}


def _steps(work: Path, size: Size) -> Record:
    """A step by itself: milliseconds a step, and of them in kernels, by box, network, precision and memory format."""
    import torch

    from shiftkit.segmentation.network.devices import same_every_time

    found: Record = {}
    device = _device()
    for name, box in size.boxes.items():
        for deterministic in (True, False):
            with same_every_time(device, deterministic):
                for precision in ("float32", "bfloat16"):
                    for form in ("channels_last_3d", "contiguous_format"):
                        key = f"{name}|{'deterministic' if deterministic else 'fast'}|{precision}|{form}"
                        found[key] = _bare(size, box, precision, getattr(torch, form), device)
                        print(key, found[key], flush=True)
        found[f"{name}|peer"] = _peer(size, box, device)
        print(name, "peer", found[f"{name}|peer"], flush=True)
    return found


def _bare(size: Size, box: tuple[int, int, int], precision: str, form: Any, device: Any) -> Record:
    import torch

    from shiftkit.segmentation.network.networks import Architecture, build_network
    from shiftkit.segmentation.training.losses import supervised_loss

    image, target, known = _random(box, device)
    image = image.contiguous(memory_format=form)
    network = build_network(Architecture(in_channels=12, out_channels=10)).to(device).to(memory_format=form)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def forward() -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            return network(image)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        supervised_loss(forward().float(), target, known).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    made = {**_timed(step, size.repeats, device), "peak_gib": _peak_gib(device)}
    network.eval()
    with torch.no_grad():
        return made | {"forward_ms": _timed(forward, size.repeats, device)["ms"]}


def _graphed(box: tuple[int, int, int], device: Any) -> Callable[[], None]:
    """A step whose forward and backward pass are each launched as one CUDA graph."""
    import torch

    from shiftkit.segmentation.network.networks import Architecture, build_network
    from shiftkit.segmentation.training.losses import supervised_loss

    image, target, known = _random(box, device)
    network = build_network(Architecture(in_channels=12, out_channels=10)).to(device)
    network = network.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    graphed = torch.cuda.make_graphed_callables(network, (image,))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        supervised_loss(graphed(image), target, known).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    return step


def _peer(size: Size, box: tuple[int, int, int], device: Any) -> Record:
    """The loop of MONAI's tutorials around its own network of the same size: its loss, AdamW, nothing else."""
    import torch
    from monai.losses.dice import DiceCELoss
    from monai.networks.nets.unet import UNet

    image, target, _ = _random(box, device)
    network = UNet(3, 12, 10, (16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2).to(device)
    optimizer, loss = torch.optim.AdamW(network.parameters(), lr=1e-3), DiceCELoss(sigmoid=True)

    def step() -> None:
        optimizer.zero_grad()
        value = loss(network(image), target)
        value.backward()
        optimizer.step()
        value.item()

    return _timed(step, size.repeats, device)


def _loop(work: Path, size: Size) -> Record:
    """The same step in shiftkit's loop, batches made and copied, by augmentation."""
    from shiftkit.segmentation.network.devices import PRECISION, memory_format_on, same_every_time

    found: Record = {}
    device = _device()
    for name, box in size.boxes.items():
        for deterministic in (True, False):
            with same_every_time(device, deterministic):
                bare = _bare(size, box, PRECISION, memory_format_on(device), device)
                # Not every version can, and what follows matters more.
                with contextlib.suppress(RuntimeError):
                    bare["graph"] = _timed(_graphed(box, device), size.repeats, device)["ms"]
                bare["peer"] = _peer(size, box, device)["ms"]
            for augmentation in ("none", "light", "strong"):
                if augmentation == "strong" and (not deterministic or box == max(size.boxes.values())):
                    continue
                key = f"{name}|{'deterministic' if deterministic else 'fast'}|{augmentation}"
                found[key] = {**_looped(box, augmentation, deterministic), "bare": bare}
                print(key, found[key], flush=True)
    return found


_SEEN = 12
"""Participants in each epoch of the loop."""


def _looped(box: tuple[int, int, int], augmentation: str, deterministic: bool) -> Record:
    import numpy as np

    from shiftkit.segmentation.network.networks import Architecture, build_network
    from shiftkit.segmentation.samples.samples import Sample
    from shiftkit.segmentation.training.epochs import Schedule
    from shiftkit.segmentation.training.fitting import fit
    from shiftkit.types import Bundle
    from shiftkit.work import Work

    rng = np.random.default_rng(0)
    sides = itertools.product(("AF", "FAT", "IFOF", "ILF", "PYT"), ("left", "right"))
    bundles = tuple(Bundle.parse(f"{name}{side}") for name, side in sides)
    where: Record = {"affine": np.eye(4), "own_affine": np.eye(4), "own_shape": box}
    brain = rng.random(box) < 0.5
    samples = [
        Sample(
            key=str(number),
            image=(rng.standard_normal((12, *box)) * brain).astype(np.float32),
            target=rng.random((10, *box)) > 0.99,
            known=np.ones(10, bool),
            bundles=bundles,
            **where,
        )
        for number in range(4)
    ]
    samples = [dataclasses.replace(samples[number % 4], key=str(number)) for number in range(_SEEN)]
    network = build_network(Architecture(in_channels=12, out_channels=10))
    moments: list[float] = []

    def progress(done: int, total: int, text: str) -> None:
        if done % _SEEN == 0:  # once an epoch, whose loss was read: of it the GPU has finished
            moments.append(time.monotonic())

    epochs = 4 if augmentation == "strong" else 6  # the first ones are warming up
    schedule = Schedule(epochs=epochs, learning_rate=1e-3, augmentation=augmentation)
    device = _device()
    how: Record = {"device": str(device), "deterministic": deterministic, "work": Work(progress=progress)}
    fit(network, samples, [], schedule, seed=0, **how)
    gaps = [(b - a) / _SEEN * 1000 for a, b in itertools.pairwise(moments[1:])]
    return {"ms": sum(gaps) / len(gaps), "median_ms": median(gaps)}


def _timed(step: Callable[[], Any], repeats: int, device: Any) -> Record:
    """Milliseconds a call: by the clock over all calls, and, from a profile of two, in kernels."""
    import torch

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        step()
    wait()
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    wait()
    ms = (time.perf_counter() - start) / repeats * 1000
    if device.type != "cuda":
        return {"ms": ms}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(2):
            step()
        wait()
    kernels = sum(one.self_device_time_total for one in profile.key_averages()) / 2 / 1000
    return {"ms": ms, "kernels_ms": kernels}


def _random(box: tuple[int, int, int], device: Any) -> tuple[Any, Any, Any]:
    import torch

    torch.manual_seed(0)
    image = torch.randn(1, 12, *box, device=device)
    target = (torch.rand(1, 10, *box, device=device) > 0.99).float()
    return image, target, torch.ones(1, 10, dtype=torch.bool, device=device)


def _peak_gib(device: Any) -> float:
    import torch

    if device.type != "cuda":
        return float("nan")
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return peak


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _predict(work: Path, size: Size) -> Record:
    """Participants a second, files in the system's memory, by the model that is shipped; and what the network takes."""
    from shiftkit.api import load_model
    from shiftkit.cohorts.folder import load_cohort
    from shiftkit.segmentation.prediction.cohort import predict

    cohort, model = load_cohort(work / "phantom" / "healthy"), load_model("reference")
    walls: list[float] = []
    for turn in range(2):
        shutil.rmtree(work / "predicted", ignore_errors=True)
        start = time.monotonic()
        predict(model, cohort, out=work / "predicted", device=str(_device()))
        walls.append(time.monotonic() - start)
        print(turn, walls[-1], flush=True)
    one = dataclasses.replace(cohort, cases=cohort.cases[:1])
    start = time.monotonic()
    predict(model, one, out=work / "predicted-one", device=str(_device()))
    alone = time.monotonic() - start
    shutil.rmtree(work / "predicted-one")
    return {"participants": len(cohort), "wall_s": min(walls), "alone_s": alone, "shape": _shape(cohort.cases[0])}


def _shape(case: Any) -> list[int]:
    import nibabel as nib

    return [int(n) for n in nib.load(case.images["peaks"]).shape]


def _training(work: Path, size: Size, participants: str, steps: str) -> Record:
    """A training of so many steps, and its Dice on participants whom nobody has seen, on their own grid."""
    import numpy as np

    from shiftkit.cohorts.folder import load_cohort
    from shiftkit.images import read_mask
    from shiftkit.segmentation.prediction.cohort import predict
    from shiftkit.segmentation.training.recipes import Recipe
    from shiftkit.segmentation.training.source import train
    from shiftkit.work import Work

    cohort = load_cohort(work / "phantom" / "healthy")
    parts = {name: list(cohort.where(split=name)) for name in ("train", "val", "test")}
    cases = (*parts["train"][: int(participants)], *parts["val"])
    # The same steps and as many validations as by default, whatever the default is.
    epochs = -(-int(steps) // int(participants))
    place = work / f"model-{participants}-{steps}"
    shutil.rmtree(place, ignore_errors=True)
    start = time.monotonic()
    recipe = Recipe(epochs=epochs, spacing_mm=size.model_mm, device=str(_device()))
    model = train(dataclasses.replace(cohort, cases=cases), out=place / "model", recipe=recipe, work=Work(jobs=2))
    wall = time.monotonic() - start
    test = dataclasses.replace(cohort, cases=tuple(parts["test"]))
    made = predict(model, test, out=place / "predicted", probabilities=False, device=str(_device()))
    dice: list[list[float]] = []
    for case, found in zip(test, made.cohort, strict=True):
        pairs = [(read_mask(case.masks[one]).array, read_mask(found.masks[one]).array) for one in model.bundles]
        dice.append([float(2 * (a & b).sum() / max(1, a.sum() + b.sum())) for a, b in pairs])
    return {
        "dice": float(np.mean(dice)),
        "by_participant": [round(float(np.mean(row)), 4) for row in dice],
        "validation_dice": model.training["validation_dice"],
        "best_epoch": model.training["best_epoch"],
        "epochs": epochs,
        "wall_s": wall,
        "trained_on": int(participants),
        "tuned_on": len(parts["val"]),
    }


_CHILDREN: dict[str, Callable[..., Record]] = {
    "phantom": _phantom,
    "tests": _tests,
    "steps": _steps,
    "loop": _loop,
    "predict": _predict,
    "training": _training,
}


# --- the table ---------------------------------------------------------------------------------------------------


def _publish(options: argparse.Namespace, size: Size) -> None:
    records = {path.stem: json.loads(path.read_text()) for path in sorted(options.work.glob("*.json"))}
    machine = records["machine"]
    where = machine["card"] or "no GPU: a rehearsal on a CPU, whose numbers say nothing"
    lines = [
        "# On a GPU",
        "",
        f"`python benchmarks/gpu.py --work FOLDER --minutes {options.minutes:g}{' --toy' if options.toy else ''}`",
        "",
        f"{where}; {machine['cores']} CPU cores, PyTorch {machine['torch']}. One run; what is missing was not reached "
        "in the time.",
        "",
        *_tests_lines(records.get("tests")),
        *_steps_lines(records.get("steps"), records.get("loop"), size),
        *_predict_lines(records.get("predict")),
        *_training_lines({name: one for name, one in records.items() if name.startswith("training-")}, size),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)
    with tarfile.open(options.work / "gpu.tar.gz", "w:gz") as packed:
        for path in sorted([*options.work.glob("*.json"), *options.work.glob("*.log")]):
            packed.add(path, path.name)


def _tests_lines(record: Record | None) -> list[str]:
    if record is None:
        return []
    return [
        f"`pytest -m cuda`: {record['summary'].strip('= ')}.",
        "",
        *(f"- {line}" for line in record["lines"]),
        *([""] if record["lines"] else []),
    ]


def _steps_lines(steps: Record | None, loop: Record | None, size: Size) -> list[str]:
    if steps is None:
        return []
    lines = [
        "A training step by itself (U-Net of 1.2 M parameters, one box of 12 channels, ten bundles), ms by the clock, "
        "of them in kernels, forward alone, and GiB. Clock times vary by half between runs at the smaller box, where "
        "the processor's launches are what takes long:",
        "",
        "| box | | precision | memory format | step | in kernels | forward | GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, one in steps.items():
        kernels = f"{one['kernels_ms']:.1f}" if "kernels_ms" in one else "n/a"
        if key.endswith("|peer"):
            cells = [key.split("|")[0], "bare MONAI loop", "float32", "contiguous", f"{one['ms']:.1f}", kernels, "", ""]
        else:
            cells = [*key.split("|"), f"{one['ms']:.1f}", kernels, f"{one['forward_ms']:.1f}", f"{one['peak_gib']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    if loop is None:
        return [*lines, ""]
    lines += [
        "",
        f"The same step in `train`'s loop, batches made by threads and copied; targets: ≤ {STEP_TARGET} × the bare "
        f"step, ≥ {KERNEL_TARGET:.0%} in kernels for the larger box:",
        "",
        "| box | | augmentation | ms a step | bare step then | bare MONAI loop then | × the bare step | in kernels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, one in loop.items():
        box, way, augmentation = key.split("|")
        bare = one["bare"]
        share = f"{bare['kernels_ms'] / one['ms']:.0%}" if "kernels_ms" in bare else "n/a"
        ratio = one["ms"] / bare["ms"]
        told = _met(ratio <= STEP_TARGET) if augmentation == "light" else ""
        cells = [box, way, augmentation, *(f"{ms:.1f}" for ms in (one["ms"], bare["ms"], bare["peer"]))]
        lines.append(f"| {' | '.join(cells)} | {ratio:.2f}{told} | {share} |")
    graphs = {
        f"{box}, {way}: {one['bare']['graph']:.1f} ms"
        for (box, way, _), one in ((key.split("|"), one) for key, one in loop.items())
        if "graph" in one["bare"]
    }
    if graphs:
        told = "; ".join(sorted(graphs))
        lines += ["", f"The bare step with both passes launched as CUDA graphs, which `train` does not do: {told}."]
    return [*lines, ""]


def _predict_lines(record: Record | None) -> list[str]:
    if record is None:
        return []
    rate = record["participants"] / record["wall_s"]
    return [
        f"`predict`, ten bundles with probabilities, {record['participants']} participants of "
        f"{'·'.join(map(str, record['shape']))} voxels, files in the system's memory (best of two): {rate:.1f} "
        f"participants a second{_met(rate >= PARTICIPANTS_TARGET)} (target {PARTICIPANTS_TARGET:g}); one alone "
        f"{record['alone_s']:.2f} s.",
        "",
    ]


def _training_lines(records: dict[str, Record], size: Size) -> list[str]:
    if not records:
        return []
    ordered = sorted(records.items(), key=lambda item: tuple(map(int, item[0].split("-")[1:])))
    lines = [
        "How long training must be: mean Dice of ten bundles over participants whom nobody has seen, by the number of "
        "steps (several trainings at once on the card, so times are longer than one alone would take):",
        "",
        "| trained on | tuned on | steps | test Dice | validation Dice | best epoch of | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in ordered:
        _, participants, steps = name.split("-")
        lines.append(
            f"| {participants} | {one['tuned_on']} | {steps} | {one['dice']:.4f} | {one['validation_dice']:.4f} | "
            f"{one['best_epoch']} of {one['epochs']} | {one['wall_s']:.0f} |"
        )
    missing = [
        f"{participants} for {steps} steps"
        for participants, steps in sorted(size.trainings)
        if f"training-{participants}-{steps}" not in records
    ]
    if missing:
        lines += ["", f"Not finished in the time: {', '.join(missing)}."]
    return [*lines, ""]


def _met(yes: bool) -> str:
    return ", met" if yes else ", **not met**"


if __name__ == "__main__":
    main()
