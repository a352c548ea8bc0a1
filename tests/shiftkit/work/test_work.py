"""Work in several processes: the same whatever the number, and the same default in every verb."""

import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import shiftkit as sk
from shiftkit.api import VERBS
from shiftkit.errors import MachineError
from shiftkit.options import options_of
from shiftkit.work import Cost, DryRun, Planned, Work, machine_memory_bytes, n_processes, notebook_bars

Usage = namedtuple("Usage", ("total", "used", "free"))


def process_of(_: int) -> int:
    return os.getpid()


GROWN: list[np.ndarray] = []


def grow(item: int) -> int:
    """Hold 320 MB more after each item but the first two, and take longer than joblib waits between its looks."""
    if item > 1:
        GROWN.append(np.ones(40_000_000))
    time.sleep(1.1)
    return item


def test_a_worker_that_grows_is_replaced_in_silence() -> None:
    """Workers that load much after their first item are replaced by joblib; no result is lost and none waits for ever.

    These tests turn warnings into errors, as careful users do: joblib's own, of the replacement, would end the thread
    that hands the results on.
    """
    assert list(Work(jobs=2).map(grow, range(6), "Stage")) == list(range(6))


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed in other ways there")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """When the process that started them is killed, workers end within seconds rather than keep what they hold."""
    script = (
        "import os, pathlib, sys, time\n"
        "from shiftkit.work import Work\n"
        "def wait(item):\n"
        "    pathlib.Path(sys.argv[1], str(os.getpid())).touch()\n"
        "    time.sleep(120)\n"
        "list(Work(jobs=2).map(wait, [0, 1], 'Stage'))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        _until(lambda: len(list(tmp_path.iterdir())) == 2, 60)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _until(lambda: not any(_alive(int(path.name)) for path in tmp_path.iterdir()), 20)


def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] == "Z")


def test_results_come_in_order_whatever_the_processes() -> None:
    """One process and two give the same results in the same order, and report each as it is done."""
    for jobs in (1, 2):
        told: list[str] = []
        work = Work(jobs=jobs, progress=lambda done, total, text, told=told: told.append(f"{text} {done}/{total}"))
        assert list(work.map(abs, [-3, 2, -1], "Stage")) == [3, 2, 1]
        assert told == ["Stage 1/3", "Stage 2/3", "Stage 3/3"]


def test_a_single_item_starts_no_process() -> None:
    """One item is worked on here: starting others would take longer."""
    assert list(Work(jobs=2).map(process_of, [0], "Stage")) == [os.getpid()]


def test_no_number_of_processes_means_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the cores, as in a container or a test worker, is heeded."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr("shiftkit.work.allowed_cores", lambda: 4)
    assert n_processes(0) == 1 and n_processes(3) == 3
    monkeypatch.setattr("shiftkit.work.allowed_cores", lambda: 1)
    assert n_processes(3) == 1


def test_memory_is_the_machines_or_what_its_group_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of a container is heeded; where there is none it is the machine's own."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "1048576\n")
    assert machine_memory_bytes() == 2**20
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "max\n")
    assert machine_memory_bytes() > 2**28


def test_every_public_verb_uses_every_core_by_default() -> None:
    """``jobs`` is 0 wherever a verb of the package has it, as on the command line."""
    defaults = {
        name: parameter.default
        for name in sk.__all__
        if inspect.isfunction(verb := getattr(sk, name))
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.name == "jobs"
    }
    assert {"check", "prepare", "phantom"} <= set(defaults)
    assert set(defaults.values()) == {0}


def test_a_notebook_shows_a_bar_for_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a Jupyter kernel a stage draws one bar, up to its end, its name escaped; elsewhere nothing is drawn."""
    shown: list[list[str]] = []

    class Place:
        def __init__(self, first: str) -> None:
            shown.append([first])

        def update(self, bar: str) -> None:
            shown[-1].append(bar)

    class ZMQInteractiveShell:
        pass

    kernel, screen = ModuleType("IPython"), ModuleType("IPython.display")
    vars(kernel).update(get_ipython=ZMQInteractiveShell, display=screen)
    vars(screen).update(HTML=str, display=lambda bar, display_id: Place(bar))
    notebook_bars.cache_clear()
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setitem(sys.modules, "IPython.display", screen)
    try:
        for stage in ("Reading <b>", "Fitting"):
            assert list(Work(jobs=1).map(abs, [-1, -2, -3], stage)) == [1, 2, 3]
        assert [bars[-1] for bars in shown] == [
            '<progress value="3" max="3"></progress> Reading &lt;b&gt;: 3/3',
            '<progress value="3" max="3"></progress> Fitting: 3/3',
        ]
        vars(kernel).update(get_ipython=lambda: None)
        notebook_bars.cache_clear()
        assert notebook_bars() is None
    finally:
        notebook_bars.cache_clear()


def test_a_dry_run_ends_where_work_begins_and_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written; half of the space is enough, for it is estimated; with less both are refused."""
    place, cost = tmp_path / "new" / "run", Cost(seconds=5, memory_gib=0.5, disk_gib=8)
    room = Usage(total=2**40, used=0, free=5 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room)
    with pytest.raises(DryRun) as ended:
        Work(dry_run=True).begin("Would work.", cost, place)
    assert ended.value.planned == Planned(would="Would work.", cost=cost)
    assert ended.value.planned.to_dict()["estimate"] == {"seconds": 5.0, "memory_gib": 0.5, "disk_gib": 8.0}
    Work().begin("Would work.", cost, place)
    for work in (Work(), Work(dry_run=True)):
        with pytest.raises(MachineError, match=r"About 12 GiB are needed at .*run; 5 GiB are free there"):
            work.begin("Would work.", Cost(disk_gib=12), place)
    assert not place.parent.exists()


def test_costs_grow_with_items_and_shrink_with_processes() -> None:
    """Time is shared by processes and memory is not; no more processes are counted than there are items."""
    one, two = (Work(jobs=jobs).cost(4, cpu_s=10, memory_gib=1, disk_gib=0.5) for jobs in (1, 2))
    assert one == Cost(seconds=40, memory_gib=1, disk_gib=2)
    if n_processes(2) == 2:
        assert two == Cost(seconds=20, memory_gib=2, disk_gib=2)
    assert Work(jobs=0).cost(1, cpu_s=10, memory_gib=1) == Cost(seconds=10, memory_gib=1)
    assert (one + one.times(3)) == Cost(seconds=160, memory_gib=1, disk_gib=8)


def test_every_verb_that_computes_has_a_dry_run() -> None:
    """All but those that print or write one small thing at once."""
    small = {"template", "cite", "model info", "model verify", "model export"}
    assert {name for name, verb in VERBS.items() if "dry_run" not in options_of(verb)} == small
