"""How often `check` raises a false alarm on sound phantom cases, how long it takes, and how long indexing takes.

Run as ``python benchmarks/check.py``; writes ``benchmarks/check.md``. The sound cases are made into a temporary
folder, or kept in the one named by ``--phantom``, where an interrupted run continues.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import bids2table
import pandas as pd

from shiftkit.checks import check
from shiftkit.cohorts.folder import (
    image_path,
    load_cohort,
    mask_path,
    tumor_path,
    write_description,
    write_participants,
)
from shiftkit.phantoms import phantom
from shiftkit.types import Bundle, Cohort

BUNDLES = [Bundle.parse(f"{name}{side}") for name in ("AF", "FAT", "IFOF", "ILF", "PYT") for side in ("left", "right")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--design", nargs="+", default=["4:100", "2.5:30"], help="voxel size in mm : cases a cohort")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--phantom", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lines = [
            "# Checking and indexing",
            "",
            f"`python benchmarks/check.py --design {' '.join(options.design)} --seed {options.seed}`, one process.",
            "",
            "| sound cohort | mm | cases | cases with errors | cases with warnings | checks that fired | s a case |",
            "|---|---|---|---|---|---|---|",
            *alarms(options.phantom or Path(scratch) / "phantom", options.design, options.seed),
            "",
            *indexing(Path(scratch) / "thousand"),
        ]
    text = "\n".join(lines) + "\n"
    (Path(__file__).parent / "check.md").write_text(text, encoding="utf-8")
    print(text)


def alarms(root: Path, design: list[str], seed: int) -> Iterator[str]:
    """One row a cohort; a row lies beside its cohort once it is done, so an interrupted run continues."""
    for spacing, cases in (one.split(":") for one in design):
        made = phantom(root / spacing, n_healthy=int(cases), n_glioma=int(cases), spacing_mm=float(spacing), seed=seed)
        for name, cohort in made.items():
            done = root / spacing / f"{name}-{cases}.txt"
            if not done.is_file():
                done.write_text(judge(name, spacing, cohort), encoding="utf-8")
            yield done.read_text(encoding="utf-8")


def judge(name: str, spacing: str, cohort: Cohort) -> str:
    start = time.perf_counter()
    report = check(cohort)
    seconds = (time.perf_counter() - start) / len(cohort)
    for problem in report.problems:
        print(problem)
    verdicts = Counter(report.verdicts[key] for key in report.participants)
    fired = ", ".join(f"{key} {n}" for key, n in Counter(one.check for one in report.problems).items()) or "none"
    counts = f"{len(cohort)} | {verdicts['error']} | {verdicts['warning']}"
    return f"| {name} | {spacing} | {counts} | {fired} | {seconds:.2f} |"


def indexing(root: Path) -> list[str]:
    keys = [f"sub-{i:04d}" for i in range(1000)]
    for key in keys:
        paths = [image_path(root, key, modality) for modality in ("t1w", "fa", "ap", "peaks")]
        paths += [mask_path(root, key, bundle) for bundle in BUNDLES]
        for path in [*paths, tumor_path(root, key), tumor_path(root, key, "core")]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    write_participants(root, pd.DataFrame({"participant_id": keys, "group": "control"}))
    write_description(root, "thousand")
    ours, peer = (min(timed(call, root) for _ in range(3)) for call in (load_cohort, bids2table.index_dataset))
    return [
        "| indexing 1,000 participants × 16 files | s | ratio |",
        "|---|---|---|",
        f"| `shiftkit.load_cohort` | {ours:.2f} | 1 |",
        f"| `bids2table.index_dataset` {bids2table.__version__} | {peer:.2f} | {peer / ours:.1f} |",
    ]


def timed(call, root: Path) -> float:
    start = time.perf_counter()
    call(root)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
