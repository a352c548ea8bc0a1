"""What a GPU that is at hand for ten minutes can tell: tests, steps, prediction, and what training reaches.

In this order: the tests that need a GPU; a training step by itself, in each precision and memory format, beside a bare
loop of MONAI's own network; the same step in shiftkit's loop, with and without augmentation; participants predicted a
second; training with no options beside nnU-Net v2 and a bare MONAI loop (`segmentation.py`); models to be
shipped (`models.py`), beside trainings of other lengths and kinds (`schedule.py`). Phantoms are drawn and preprocessed
on the CPU's cores meanwhile. nnU-Net must be importable by the same Python.

    python benchmarks/gpu.py --work FOLDER --minutes 10 --out benchmarks/gpu.md

What is done is kept in the work folder and not done again; when the time is over, what is there is written, and packed
into ``FOLDER/gpu.tar.gz``. ``--stages`` chooses some; ``--toy`` rehearses all of it on small images, on the CPU where
there is no GPU.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
MODELS = ("reference-robust", "reference-t1w-fa")
STEP_TARGET, KERNEL_TARGET, PARTICIPANTS_TARGET = 1.15, 0.8, 5.0
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Size:
    """How large what is measured is."""

    boxes: dict[str, tuple[int, int, int]]
    repeats: int
    people: int
    grids_mm: tuple[float, ...]
    """Of the phantoms that are trained on; `predict` gets the last."""
    minutes: float
    """For each peer."""


FULL = Size(
    boxes={"2.5 mm": (64, 80, 64), "1.25 mm": (128, 160, 128)},
    repeats=20,
    people=60,
    grids_mm=(2.5, 2.0),
    minutes=1.75,
)
TOY = Size(
    boxes={"10 mm": (16, 24, 16), "5 mm": (32, 40, 32)},
    repeats=2,
    people=12,
    grids_mm=(5.0,),
    minutes=0.3,
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
    with contextlib.ExitStack() as drawing:
        # Drawn and preprocessed on the cores that what is timed first leaves idle.
        drawn = [drawing.enter_context(_started(options, f"plan {grid:g}")) for grid in size.grids_mm]
        for stage in ("tests", "steps"):
            _do(options, stage, end)
        for child in drawn:
            _wait(child, end)
        for stage in ("loop", "predict", *(f"peers {grid:g}" for grid in size.grids_mm)):
            _do(options, stage, end)
    with _started(options, "schedule") as schedule:  # of many short trainings, beside which two more do not matter
        _all_at_once(options, [f"model {name}" for name in MODELS], len(MODELS), end)
        _wait(schedule, end)
    _publish(options, size)


STAGES = ("tests", "steps", "loop", "predict", "peers", "schedule", "model")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is kept between calls")
    parser.add_argument("--minutes", type=float, default=10.0, help="after which what is there is written")
    parser.add_argument("--out", type=Path, help="the table; benchmarks/gpu.md is the committed one")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="what is done; all")
    parser.add_argument("--toy", action="store_true", help="small images and few steps, also on a CPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- processes ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _started(options: argparse.Namespace, stage: str) -> Iterator[subprocess.Popen[bytes] | None]:
    """A stage in a process of its own, unless it is done already; ended at the latest with the block."""
    name = stage.replace(" ", "-")
    chosen = stage.split()[0] in (*options.stages, "plan")
    if not chosen or (options.work / f"{name}.json").is_file():
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
    with (options.work / f"{name}.log").open("wb") as log:
        child = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # its own processes too
            child.wait()


def _wait(child: subprocess.Popen[bytes] | None, end: float) -> None:
    if child is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, end - time.monotonic()))


def _do(options: argparse.Namespace, stage: str, end: float) -> None:
    with _started(options, stage) as child:
        _wait(child, end)


def _all_at_once(options: argparse.Namespace, waiting: list[str], at_once: int, end: float) -> None:
    """Stages side by side, the most wanted first, as long as there is time."""
    with contextlib.ExitStack() as stack:
        running: list[subprocess.Popen[bytes]] = []
        while (waiting or running) and time.monotonic() < end:
            running = [child for child in running if child.poll() is None]
            if waiting and len(running) < at_once:
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


def _segmentation(work: Path, size: Size, grid: str, until: str, jobs: int) -> None:
    """`segmentation.py` on one grid, as far as it shall go."""
    device = str(_device())
    words = [sys.executable, str(BENCHMARKS / "segmentation.py"), "--work", str(work / f"grid-{grid}")]
    words += ["--peer", sys.executable, "--device", device, "--spacing-mm", grid, "--people", str(size.people)]
    words += ["--minutes", str(size.minutes), "--jobs", str(jobs), "--until", until]
    words += ["--epochs", "2"] if size is TOY else []
    subprocess.run(words, check=until == "plan")  # of the rest what is done counts


def _plan(work: Path, size: Size, grid: str) -> Record:
    start = time.monotonic()
    jobs = max(1, len(os.sched_getaffinity(0)) // 2 - 1)  # some cores are left for what is timed meanwhile
    _segmentation(work, size, grid, "plan", jobs)
    return {"wall_s": time.monotonic() - start}


def _peers(work: Path, size: Size, grid: str) -> Record:
    sys.path.insert(0, str(BENCHMARKS))
    from segmentation import comparison

    _segmentation(work, size, grid, "comparison", jobs=4)
    return {"lines": comparison(work / f"grid-{grid}"), "minutes": size.minutes}


def _model(work: Path, size: Size, name: str) -> Record:
    """One of the models that are to be shipped."""
    start = time.monotonic()
    words = [sys.executable, str(BENCHMARKS / "models.py"), "--work", str(work / "models"), "--train", name]
    words += ["--device", str(_device()), "--jobs", str(max(1, len(os.sched_getaffinity(0)) // 2))]
    subprocess.run([*words, *(["--toy"] if size is TOY else [])], check=True)
    return {"wall_s": time.monotonic() - start}


def _tests(work: Path, size: Size) -> Record:
    words = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:xdist", "-p", "no:cacheprovider"]
    # Warnings of other versions than those that are tested with are no failures here.
    words += ["-W", "default", "--tb=short", "tests/segmentation/test_gpu.py"]
    start = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout[-20000:], done.stderr[-4000:])
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    last = (done.stdout.strip() or done.stderr.strip() or "it said nothing").splitlines()[-1]
    return {"summary": last, "lines": lines, "wall_s": time.monotonic() - start}


def _steps(work: Path, size: Size) -> Record:
    """A step by itself: milliseconds a step, and of them in kernels, by box, network, precision and memory format."""
    import torch

    from shiftkit.segmentation.network.devices import same_every_time

    found: Record = {}
    device = _device()
    for name, box in size.boxes.items():
        for deterministic in (True, False):
            with same_every_time(device, deterministic):
                for precision in ("float32", "bfloat16") if device.type == "cuda" else ("float32",):
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
    from shiftkit.segmentation.training.epochs import Loop, Schedule
    from shiftkit.segmentation.training.fitting import fit
    from shiftkit.segmentation.training.processes import alone
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
    waits: list[float] = []
    batches = Loop.batches

    def watched(self: Loop, *given: Any) -> Iterator[Any]:
        with contextlib.closing(batches(self, *given)) as made:
            while True:
                start = time.monotonic()
                try:
                    batch = next(made)
                except StopIteration:
                    return
                waits.append(time.monotonic() - start)
                yield batch

    Loop.batches = watched
    how: Record = {"processes": alone(str(device)), "deterministic": deterministic, "work": Work(progress=progress)}
    fit(network, samples, [], schedule, seed=0, **how)
    Loop.batches = batches
    gaps = [(b - a) / _SEEN * 1000 for a, b in itertools.pairwise(moments[1:])]
    return {"ms": sum(gaps) / len(gaps), "median_ms": median(gaps), "wait_ms": 1000 * mean(waits[_SEEN:])}


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
    from shiftkit.segmentation.prediction.cohort import predict

    cohort, model = _healthy(work, size.grids_mm[-1]), load_model("reference")
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


def _healthy(work: Path, grid_mm: float) -> Any:
    from shiftkit.cohorts.folder import load_cohort

    return load_cohort(work / f"grid-{grid_mm:g}" / "phantom" / "healthy")


def _shape(case: Any) -> list[int]:
    import nibabel as nib

    return [int(n) for n in nib.load(case.images["peaks"]).shape]


def _schedule(work: Path, size: Size) -> Record:
    """`schedule.py`, as far as it comes; what it has done stays if it is ended."""
    jobs = max(2, len(os.sched_getaffinity(0)) - 2)
    words = [sys.executable, str(BENCHMARKS / "schedule.py"), "--work", str(work / "schedule"), "--jobs", str(jobs)]
    words += ["--device", str(_device()), *(["--toy"] if size is TOY else [])]
    subprocess.run(words, check=True)
    return {}


_CHILDREN: dict[str, Callable[..., Record]] = {
    "plan": _plan,
    "tests": _tests,
    "steps": _steps,
    "loop": _loop,
    "predict": _predict,
    "peers": _peers,
    "model": _model,
    "schedule": _schedule,
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
        *(line for grid in size.grids_mm for line in _peers_lines(records.get(f"peers-{grid:g}"), grid)),
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
        "| box | | augmentation | ms a step | waited for a batch | bare step then | bare MONAI loop then | "
        "× the bare step | in kernels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, one in loop.items():
        box, way, augmentation = key.split("|")
        bare = one["bare"]
        share = f"{bare['kernels_ms'] / one['ms']:.0%}" if "kernels_ms" in bare else "n/a"
        ratio = one["ms"] / bare["ms"]
        told = _met(ratio <= STEP_TARGET) if augmentation == "light" else ""
        cells = [box, way, augmentation, *(f"{ms:.1f}" for ms in (one["ms"], one["wait_ms"], bare["ms"], bare["peer"]))]
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


def _peers_lines(record: Record | None, grid_mm: float) -> list[str]:
    if record is None:
        return []
    sys.path.insert(0, str(BENCHMARKS))
    from segmentation import ABOUT

    return [
        f"`segmentation.py` at {grid_mm:g} mm, all at once on the card, {record['minutes']:g} minutes for each peer. "
        + ABOUT,
        "",
        *record["lines"],
    ]


def _met(yes: bool) -> str:
    return ", met" if yes else ", **not met**"


if __name__ == "__main__":
    main()
