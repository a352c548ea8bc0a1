"""What the demonstration takes, stage by stage, and what it shows.

    python benchmarks/demo.py --work FOLDER --out benchmarks/demo.md

One process and one thread: its processor time, over two, is what two idle cores need at best.
"""

import argparse
import os
import platform
import resource
import sys
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def processor_s() -> float:
    """Of this process and those that it started and saw end."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Stages:
    """A reader of progress that books processor time from the end of one stage to the end of the next."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._booked = 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        """Book what the text names, as `shiftkit.work.Progress` asks."""
        self.book(text.partition(" · ")[0])

    def book(self, stage: str) -> None:
        """Book all processor time since the last call for a stage."""
        now = processor_s()
        self.spent[stage] = self.spent.get(stage, 0.0) + now - self._booked
        self._booked = now
        print(f"{now:7.1f} s {stage}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="new folder for the run")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    stages, told = Stages(), list[str]()
    import shiftkit

    stages.book("imports")
    made = shiftkit.demo(options.work, jobs=1, announce=told.append, progress=stages)
    stages.book("estimates and page, after the last stage that tells")
    total = processor_s()
    lines = [
        "# The demonstration",
        "",
        f"`python benchmarks/demo.py --work FOLDER --out benchmarks/demo.md`, {platform.machine()}, one process, one "
        "thread.",
        "",
        f"Processor time: {total:.0f} s, on two idle cores {total / 120:.1f} minutes at best. It says at the start: "
        f"*{' '.join(told)}*",
        "",
        "| stage, as it ends | s |",
        "|---|---|",
        *(f"| {stage} | {spent:.1f} |" for stage, spent in stages.spent.items()),
        "",
        f"What it shows: {made.claim}",
        "",
        "| component | method | model | estimate | interval |",
        "|---|---|---|---|---|",
        *shown(made),
    ]
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def shown(made) -> list[str]:
    """Rows of the primary estimate over all bundles."""
    table = made.table[(made.table["method"] == made.table["method"].iloc[0]) & (made.table["bundle"] == "all")]
    return [
        f"| {row['component']} | {row['method']} | {row['model']} | {row['estimate']:.3f} "
        f"| {row['low']:.3f} to {row['high']:.3f} |"
        for row in table.to_dict("records")
    ]


if __name__ == "__main__":
    main()
