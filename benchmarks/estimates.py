"""What a dry run says that a verb will take, beside what it took.

    python benchmarks/estimates.py --work FOLDER --out benchmarks/estimates.md

Each verb is asked with ``--dry-run --json`` and then run, in processes of its own: time by the clock, memory as the
most that its processes held at once (proportional set size, so that shared pages count once), disk as what it wrote.
On a machine that does other work times are longer than said; the processor time beside them is not.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_EVERY_S = 0.2
_GIB = 2**30


@dataclass(frozen=True)
class Took:
    """What a process and its children took: seconds by the clock and of processors, most memory at once."""

    seconds: float
    cpu_s: float
    memory_gib: float


def main() -> None:
    """Ask, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="new folder for what the verbs write")
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    parser.add_argument("--people", type=int, default=12, help="patients, and controls")
    parser.add_argument("--spacing", type=float, default=4.0, help="voxel size in mm")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    os.environ["SHIFTKIT_CACHE"] = str(options.work / "cache")
    rows = [_row(options.work, words) for words in _calls(options.people, options.spacing)]
    where = (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} over the last quarter of an hour"
    )
    lines = [
        "# What dry runs say, and what it takes",
        "",
        f"`python benchmarks/estimates.py --work FOLDER --out benchmarks/estimates.md`, {where}.",
        "",
        "| call | said, s | took, s | CPU, s | said / took | memory said, GiB | held | disk said, GiB | written |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    options.out.write_text("\n".join(lines), encoding="utf-8")


def _calls(people: int, spacing: float) -> list[list[str]]:
    """Calls that build on each other."""
    both = ["--cohort", "p/glioma", "--reference", "p/healthy"]
    model = ["--model", "reference"]
    return [
        f"phantom --n-healthy {people} --n-glioma {people} --spacing {spacing:g} p".split(),
        ["check", "p/glioma"],
        ["predict", *model, "--cohort", "p/glioma", "--out", "predictions"],
        ["score", "--predictions", "predictions", "--cohort", "p/glioma", "--out", "scores.tsv"],
        ["decompose", *model, *both, "--out", "run"],
        ["features", *model, *both, "--out", "features"],
        ["deform", *both, "--out", "deformation"],
        ["finetune", *model, *both, "--folds", "2", "--epochs", "3", "--out", "tuned"],
        f"train --cohort p/healthy --spacing {spacing:g} --epochs 5 --out model".split(),
        ["implant", "p/healthy", "implanted", "--like", "p/glioma"],
    ]


def _row(folder: Path, words: list[str]) -> str:
    call = [sys.executable, "-P", "-m", "shiftkit", *words]
    asked = subprocess.run([*call, "--dry-run", "--json"], cwd=folder, capture_output=True, text=True, check=True)
    said = json.loads(asked.stdout)["estimate"]
    took = _watched(call, folder)
    written = [
        folder / word for word in words[1:] if (folder / word).exists() and word not in ("p/glioma", "p/healthy")
    ]
    disk = _size_gib(written[-1]) if written and words[0] not in ("check",) else 0.0
    print(" ".join(words), said, took, f"{disk:.3f}", file=sys.stderr, flush=True)
    return (
        f"| `{' '.join(words)}` | {said['seconds']:g} | {took.seconds:.0f} | {took.cpu_s:.0f} | "
        f"{said['seconds'] / took.seconds:.2f} | {said['memory_gib']:g} | {took.memory_gib:.2g} | "
        f"{said['disk_gib']:g} | {disk:.2g} |"
    )


def _watched(call: list[str], folder: Path) -> Took:
    before, cpu_before = time.monotonic(), _cpu_s()
    with (folder / "output.txt").open("a") as output:
        running = psutil.Popen(call, cwd=folder, stdout=output, stderr=output)
        most = 0
        while running.poll() is None:
            held = 0
            for one in [running, *running.children(recursive=True)]:
                try:
                    held += one.memory_full_info().pss
                except psutil.Error:  # it has ended meanwhile
                    continue
            most = max(most, held)
            time.sleep(_EVERY_S)
    if running.returncode not in (0, 4):
        raise SystemExit(f"{' '.join(call)} ended with {running.returncode}; see {folder / 'output.txt'}")
    return Took(seconds=time.monotonic() - before, cpu_s=_cpu_s() - cpu_before, memory_gib=most / _GIB)


def _cpu_s() -> float:
    """Of processes that this one started and saw end, and of theirs."""
    return os.times().children_user + os.times().children_system


def _size_gib(place: Path) -> float:
    files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file() and not one.is_symlink()]
    return sum(one.stat().st_size for one in files) / _GIB


if __name__ == "__main__":
    main()
