"""Kills shiftkit at random moments in every stage, runs the same command again, and compares all bytes.

Run as ``python benchmarks/kills.py --kills 100``. Each kill draws a stage, a moment between the first file that the
stage writes and its end, and a signal (SIGKILL in four of five, else SIGTERM or SIGINT). The command is then run
again, with ``--resume`` where the verb has it: it must end with 0 and the bytes of an undisturbed run, and leave no
half-written file, no lock and no worker behind. Every kill is a line of ``benchmarks/kills.md``, written at once;
kills that stand there are not repeated. Ends with 1 where anything deviates.
"""

import argparse
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import psutil

import shiftkit.pipeline.decompose  # what every verb loads, here once
import shiftkit.reports
import shiftkit.segmentation.training.source  # noqa: F401
from shiftkit.cli import entry
from shiftkit.cohorts.folder import load_cohort
from shiftkit.files import PART, lock_path
from shiftkit.images import read_image, write_image

TABLE = Path(__file__).with_name("kills.md")
SIGNALS = (*[signal.SIGKILL] * 8, signal.SIGTERM, signal.SIGINT)
FAST = ["--bootstrap", "100", "--permutations", "99"]
_CLOCK = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_MOST_S = 600.0


@dataclass(frozen=True)
class Stage:
    """A command that writes into ``out``; ``fresh`` puts there what it starts from."""

    words: list[str]
    resume: bool = True
    fresh: Callable[[], object] = lambda: None
    again: bool = True
    """Whether a verb without resume takes a folder that is finished."""


def stages(work: Path) -> dict[str, Stage]:
    """Every stage on a toy cohort; what they start from is made once."""
    out, cpu, one, two = str(work / "out"), ["--device", "cpu"], ["--jobs", "1"], ["--jobs", "2"]
    small = ["--spacing", "5", "-q"]
    made = {
        "phantom": ["phantom", str(work / "phantom"), "--n-healthy", "6", "--n-glioma", "4", "--seed", "5", *small],
        "raw": ["phantom", str(work / "raw"), "--n-healthy", "2", "--n-glioma", "0", "--dwi", *small],
    }
    healthy, glioma = str(work / "phantom" / "healthy"), str(work / "phantom" / "glioma")
    fa = ["--cohort", healthy, "--modality", "fa", *small, *cpu]
    made["model"] = ["train", *fa, "--epochs", "1", "--out", str(work / "model")]
    model = ["--model", str(work / "model"), "--cohort", glioma, "-q"]
    made["predictions"] = ["predict", *model, *cpu, "--out", str(work / "predictions")]
    for name, words in made.items():
        if not (work / name).is_dir():
            assert Command(words).wait() == 0, name
    if not (work / "brats").is_dir():
        _write_brats(load_cohort(Path(glioma)), work / "brats")
    masks = ["--predictions", str(work / "predictions"), "--cohort", glioma, "-q", *two]
    both = ["--reference", healthy, "--out", out]
    few = ["--bundles", "AF", *FAST]
    return {
        "phantom": Stage(["phantom", out, "--n-healthy", "1", "--n-glioma", "1", "--seed", "3", *small, *one], False),
        "prepare": Stage(
            ["prepare", out, "-q", *one], False, lambda: shutil.copytree(work / "raw" / "healthy", work / "out")
        ),
        "import": Stage(["import", "brats", str(work / "brats"), out, "--group", "glioma", "-q"], False, again=False),
        "train": Stage(["train", *fa, "--epochs", "3", "--out", out]),
        "train in folds": Stage(["train", *fa, "--epochs", "1", "--folds", "2", "--out", out]),
        "finetune": Stage(["finetune", *model, *both, *cpu, *one, "--folds", "2", "--epochs", "1"]),
        "predict": Stage(["predict", *model, *cpu, "--out", out]),
        "score": Stage(["score", *masks, "--out", f"{out}/scores.tsv"], False),
        "features": Stage(["features", *model, *both, *cpu, "--layers", "encoder-2", "--permutations", "99", *one]),
        "deform": Stage(["deform", "--cohort", glioma, "-q", "--bundles", "PYT", *both, *one]),
        "decompose": Stage(["decompose", *model, *both, *cpu, *one, *few]),
    }


def _write_brats(cohort, to: Path) -> None:
    """The patients in the layout of BraTS."""
    for number, case in enumerate(cohort, start=1):
        folder = to / f"BraTS_{number:03d}"
        folder.mkdir(parents=True)
        shutil.copy(case.images["t1w"], folder / f"{folder.name}_t1.nii.gz")
        tumor = read_image(case.tumor)
        write_image(tumor.with_array((tumor.array > 0) * np.uint8(4)), folder / f"{folder.name}_seg.nii.gz")


class Command:
    """The command line in a process of its own, with the parts of `subprocess.Popen` that are used here.

    It is forked from this process, which has loaded the libraries: a kill then meets work instead of an import. What it
    says goes into a file that nobody has to read.
    """

    def __init__(self, words: list[str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become(words)

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, most_s: float = _MOST_S) -> int:
        """The exit code once it has one; a `TimeoutError` after so long."""
        end = time.perf_counter() + most_s
        while self.poll() is None:
            if time.perf_counter() > end:
                raise TimeoutError
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to a process that was not waited for, and so has no successor of its number."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(words: list[str]) -> NoReturn:
    """Run a command in this process, and end it."""
    code = 1
    try:
        said = os.open(_log(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(said, 1)
        os.dup2(said, 2)
        sys.argv = ["shiftkit", *words]
        entry()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without what this process would still do at its end, such as removing its scratch folder.
        os._exit(code)


def _log() -> Path:
    return Path(tempfile.gettempdir()) / f"kills-{os.getuid()}.log"


def _said() -> str:
    text = _log().read_text(errors="replace").strip()
    return text.splitlines()[-1][:160] if text else "nothing"


def digests(root: Path) -> dict[str, str]:
    """Every file below a folder, without the times of day that a record of a run holds."""
    made: dict[str, str] = {}
    for path in sorted(one for one in root.rglob("*") if one.is_file()):
        content = path.read_bytes()
        if path.suffix in (".json", ".html"):
            content = _CLOCK.sub(b"", content)
        made[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return made


def undisturbed(stage: Stage, out: Path) -> tuple[dict[str, str], list[float]]:
    """Digests of a run that nobody disturbs; when it started, when it had one file more, and when it ended, in s."""
    _clean(out)
    stage.fresh()
    before, start, times = _n_files(out), time.perf_counter(), [0.0]
    running = Command(stage.words)
    while running.poll() is None:
        now = time.perf_counter() - start
        times += [now] * (_n_files(out) - before + 1 - len(times))
        time.sleep(0.01)
    if running.returncode:
        raise SystemExit(f"An undisturbed run ended with {running.returncode}: {_said()}")
    return digests(out), [*times, time.perf_counter() - start]


def _n_files(out: Path) -> int:
    """Finished files in a folder and in what will be moved to its place."""
    names = (
        name for one in (out, out.with_name(f"{PART}{out.name}")) for _, _, found in os.walk(one) for name in found
    )
    return sum(not name.startswith(PART) for name in names)


def _clean(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    lock_path(out).unlink(missing_ok=True)


def kill(
    stage: Stage, out: Path, right: dict[str, str], sent: signal.Signals, n_files: int, after_s: float
) -> tuple[bool, str]:
    """Whether the signal, some time after so many files, found the command at work; what deviates after another run."""
    _clean(out)
    stage.fresh()
    before, running = _n_files(out), Command(stage.words)
    while running.poll() is None and _n_files(out) - before < n_files:
        time.sleep(0.005)
    try:
        running.wait(after_s)
        return False, ""
    except TimeoutError:
        pass
    below = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(sent)
    start = time.perf_counter()
    running.wait(60)
    wrong: list[str] = []
    if sent != signal.SIGKILL:
        took = time.perf_counter() - start
        wrong += [f"ended {took:.1f} s after {sent.name}"] if took > 2 else []
        if running.returncode == 0:
            return False, ""  # it was done when the signal came
        wrong += [f"exit {running.returncode} after {sent.name}"] if running.returncode != 130 else []
    n_kept = len(digests_safely(out))
    psutil.wait_procs(below, timeout=2)
    wrong += [f"{n} workers outlived it" for n in [sum(map(_alive, below))] if n]
    if not stage.resume and digests(out) == right and not stage.again:
        return True, "the same bytes, all were there"
    again = [*stage.words, *(["--resume"] if stage.resume else [])]
    second = Command(again)
    try:
        code = second.wait(_MOST_S)
    except TimeoutError:
        second.send_signal(signal.SIGKILL)
        code = second.wait()
        wrong.append(f"the second run hung for {_MOST_S:.0f} s")
    if code:
        wrong.append(f"the second run ended with {code}: {_said()}")
    else:
        there = digests(out)
        other = sorted(name for name in {*there, *right} if there.get(name) != right.get(name))
        wrong += [f"other bytes: {', '.join(other[:4])}"] if other else []
    wrong += ["a lock stayed"] if lock_path(out).exists() else []
    wrong += ["a half-written file stayed"] if [*out.parent.glob(f"{PART}*"), *out.rglob(f"{PART}*")] else []
    return True, "; ".join(wrong) or f"the same bytes, {n_kept} of {len(right)} files were there"


def digests_safely(out: Path) -> list[str]:
    """Names of the files that the killed command left, without half-written ones."""
    return [path.name for path in out.rglob("*") if path.is_file() and not path.name.startswith(PART)]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kills(number: int, work: Path, only: str, told: set[int]) -> Iterator[tuple[int, str]]:
    """One line for each kill that is not told of yet."""
    everything = stages(work)
    names = [name for name in everything if only in name]
    known: dict[str, tuple[dict[str, str], list[float]]] = {}
    out = work / "out"
    for index in range(number):
        if index in told:
            continue
        rng = np.random.default_rng([2026, index])
        name = names[index % len(names)]  # in turn, so that every stage has its share
        stage = everything[name]
        if name not in known:
            known[name] = undisturbed(stage, out)
        right, times = known[name]
        for _ in range(5):  # a machine that was faster this time had ended before the signal
            sent, share = SIGNALS[rng.integers(len(SIGNALS))], rng.random()
            # Half of the time goes by before the first file; what is counted, and not the clock, says how far a run is.
            first_s = times[1] if len(times) > 2 else 0.0
            moment_s = max(0.0, first_s - 0.5) + share * (times[-1] - max(0.0, first_s - 0.5))
            n_files = int(np.searchsorted(times, moment_s, side="right")) - 1
            landed, found = kill(stage, out, right, sent, n_files, moment_s - times[n_files])
            if landed:
                break
        else:
            found = "no signal found it at work"
        yield index, f"| {index} | {name} | {sent.name} | {share:.2f} ({n_files} files) | {found} |"


def _rows() -> dict[int, str]:
    if not TABLE.is_file():
        return {}
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line[:3] not in ("| k", "|--")]
    return {int(line.split("|")[1]): line for line in lines if line.startswith("| ")}


def _is_right(line: str) -> bool:
    return "| the same bytes" in line


def write(rows: dict[int, str]) -> None:
    """The table, in the order of the kills."""
    n_right = sum(map(_is_right, rows.values()))
    head = [
        "# Kills at random moments",
        "",
        f"`python benchmarks/kills.py --kills {len(rows)}`: {n_right} of {len(rows)} kills end in the bytes of an "
        "undisturbed run.",
        "The moment is the share of the time between the first file and the end; run.json is compared without its "
        "times of day.",
        "",
        "| kill | stage | signal | moment | the same command again |",
        "|---|---|---|---|---|",
    ]
    TABLE.write_text("\n".join([*head, *(rows[key] for key in sorted(rows))]) + "\n", encoding="utf-8")


def main() -> None:
    """Kill, run again, compare, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--only", default="", help="Stages whose name holds this; nothing is written.")
    parser.add_argument("--work", type=Path, help="A folder for the toy inputs, kept for the next call.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = (given.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        rows = {} if given.only else _rows()
        for index, line in kills(given.kills, work, given.only, set(rows)):
            print(line, flush=True)
            rows[index] = line
            if not given.only:
                write(rows)
    n_wrong = sum(not _is_right(line) for line in rows.values())
    print(f"{len(rows)} kills, {n_wrong} deviations.")
    sys.exit(bool(n_wrong))


if __name__ == "__main__":
    main()
