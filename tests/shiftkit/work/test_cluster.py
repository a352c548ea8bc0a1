"""Work on the workers of a Dask cluster: two processes beside this one, on the same machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import delayed
from makers.tubes import tube, write

import shiftkit as sk
from shiftkit.cli import main
from shiftkit.errors import ConfigError, MachineError
from shiftkit.work import Cost, DryRun, Work, cluster
from shiftkit.work.cluster import Terms

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a scheduler with two workers: processes of their own, started in another folder as a user does."""
    place = tmp_path_factory.mktemp("workers")
    told = place / "scheduler.json"
    # By default four workers must be lost with a task, which takes longer.
    surroundings = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    surroundings |= {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}

    def start(program: str, *words: str) -> subprocess.Popen[bytes]:
        call = [sys.executable, "-m", f"distributed.cli.{program}", *words, "--no-dashboard"]
        return subprocess.Popen(call, cwd=place, env=surroundings, stderr=subprocess.DEVNULL, start_new_session=True)

    started = [start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(told))]
    try:
        until(lambda: told.is_file() and bool(told.read_text(encoding="utf-8")), 60)
        address = json.loads(told.read_text(encoding="utf-8"))["address"]
        started.append(start("dask_worker", address, "--nthreads", "1", "--nworkers", "2"))
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, 60)
            yield client
    finally:
        for one in started:  # with those that they started
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()


@pytest.fixture
def address(dask: Any) -> str:
    """The scheduler's, with both workers there."""
    dask.wait_for_workers(2, 60)
    return at(dask.scheduler.address)


def at(address: str) -> str:
    return address.replace("tcp", "dask")


def unfinished(dask: Any) -> list[str]:
    """Keys of tasks that are done or wait to be."""
    return dask.run_on_scheduler(
        lambda dask_scheduler: [
            key for key, one in dask_scheduler.tasks.items() if one.state not in ("memory", "erred")
        ]
    )


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this test, from where the cohort is ``cohort`` and the predictions are ``masks``."""
    keys = [f"sub-{number}" for number in range(5)]
    write(tmp_path, "cohort", keys, {"AFleft": tube(6), "PYTright": tube(14)}, None)
    write(tmp_path, "masks", keys, {"AFleft": tube(7), "PYTright": tube(14)}, None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scores_on_a_cluster_have_the_bytes_of_one_process(people: Path, address: str) -> None:
    """Tables and maps of errors are the same, with paths that start from the folder of the first process."""
    sk.score("masks", "cohort", metrics=["dice"], out="one.tsv", error_maps="one", jobs=1)
    sk.score("masks", "cohort", metrics=["dice"], out="many.tsv", error_maps="many", scheduler=address)
    assert Path("one.tsv").read_bytes() == Path("many.tsv").read_bytes()
    one, many = (
        {path.relative_to(folder): path.read_bytes() for path in Path(folder).rglob("*.nii.gz")}
        for folder in ("one", "many")
    )
    assert len(one) == 10 and one == many
    assert not list(people.rglob(".part-*"))


def test_a_killed_worker_costs_nothing_but_time(address: str, tmp_path: Path) -> None:
    """Results come in order, all of them, from other processes, when one of these is killed with large input in it."""
    flag, told, big = tmp_path / "killed", list[int](), np.ones(500_000)

    def killed_once(item: int) -> tuple[int, int]:
        if item == 3 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item + int(big[0]), os.getpid()

    work = Work(scheduler=address, progress=lambda done, total, text: told.append(done))
    made = list(work.map(killed_once, range(8), "Stage"))
    assert [value for value, _ in made] == [item * item + 1 for item in range(8)]
    assert os.getpid() not in {where for _, where in made}
    assert flag.exists() and told == [1, 2, 3, 4, 5, 6, 7, 8]


def test_errors_of_a_task_are_those_of_one_process(address: str) -> None:
    """An error on a worker reaches whoever asked, as it is."""

    def refuse(item: int) -> int:
        raise ConfigError(f"No {item}. Give another.")

    with pytest.raises(ConfigError, match="No 1"):
        list(Work(scheduler=address).map(refuse, [1, 2], "Stage"))


def test_tasks_are_made_as_they_are_needed_and_taken_back_when_they_are_not(dask: Any, address: str) -> None:
    """Few tasks are ahead of the results; when nobody asks for more, none stays on the cluster."""
    made: list[int] = []

    def tasks() -> Iterator[Any]:
        for item in range(200):
            made.append(item)
            yield delayed(abs)(item)

    results = Work(scheduler=address).spread(tasks())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(made) <= 3 + 8 * 2
    results.close()
    until(lambda: not unfinished(dask))


def test_jobs_are_the_tasks_at_a_time(address: str) -> None:
    """With one at a time, no two overlap, whatever number of workers there is."""

    def when(item: int) -> tuple[float, float]:
        began_s = time.time()
        time.sleep(0.05)
        return began_s, time.time()

    work = Work(scheduler=address, jobs=1)
    spans = sorted(work.map(when, range(6), "Stage"))
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert work.processes == 1 and Work(scheduler=address).cost(9, cpu_s=2, memory_gib=1) == Cost(
        seconds=9, memory_gib=2
    )


INTERRUPTED = """
import pathlib, signal, sys, time
from shiftkit.work import Work

# Whoever starts tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def begin(item, folder=sys.argv[1]):
    pathlib.Path(folder, str(item)).touch()
    time.sleep(0.3)

list(Work(scheduler=sys.argv[2]).map(begin, range(100), "Stage"))
"""


def test_an_interrupted_run_leaves_no_task_on_the_cluster(dask: Any, address: str, tmp_path: Path) -> None:
    """After Ctrl-C the scheduler forgets the tasks within seconds; only those that had begun are done."""
    parent = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(tmp_path), address], stderr=subprocess.PIPE)
    until(lambda: len(list(tmp_path.iterdir())) >= 2, 60)
    parent.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in parent.communicate(timeout=20)[1]
    until(lambda: not unfinished(dask), 10)
    begun = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == begun < 50


@pytest.mark.parametrize(
    "scheduler", ["dask://", "dask:/node:8786", "tcp://node:8786", "dask://node", "dask://node:x", "dask://node:70000"]
)
def test_what_is_no_address_is_a_usage_error(scheduler: str, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the form that an address has."""
    words = ["score", "--predictions", "masks", "--cohort", "cohort", "--out", "s.tsv", "--scheduler", scheduler]
    assert main(words) == 2
    assert "--scheduler must be local, or dask://HOST:PORT" in capsys.readouterr().err


@pytest.mark.parametrize("listens", [False, True], ids=["nobody", "silent"])
def test_where_no_scheduler_answers_is_said_soon(
    listens: bool, people: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within ten seconds, also of a dry run, whether nothing listens there or a program that never speaks."""
    assert cluster._ANSWER_S <= 5  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(cluster, "_ANSWER_S", 1.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        words = ["score", "--predictions", "masks", "--cohort", "cohort", "--out", "s.tsv", "--dry-run"]
        began_s = time.monotonic()
        assert main([*words, "--scheduler", f"dask://127.0.0.1:{other.getsockname()[1]}"]) == 1
    assert time.monotonic() - began_s < 5
    assert "A Dask scheduler must answer at dask://127.0.0.1" in capsys.readouterr().err
    assert not Path("s.tsv").exists()


def test_without_the_package_the_extra_is_named(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what installs it."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'shiftkit\[cluster\]'"):
        sk.check("cohort", scheduler="dask://127.0.0.1:1")


@pytest.mark.parametrize(
    ("workers", "said"),
    [({"n_workers": 0}, "has none"), ({"n_workers": 1, "threads_per_worker": 2}, "one thread each")],
)
def test_a_cluster_without_fit_workers_is_refused(workers: dict[str, int], said: str) -> None:
    """None at all, or some with several threads, in which kernels and drawings would get into each other's way."""
    with (
        distributed.LocalCluster(processes=False, protocol="tcp", dashboard_address=":0", **workers) as made,
        pytest.raises(MachineError, match=f"{said}.* --nthreads 1"),
    ):
        Work(scheduler=at(made.scheduler_address)).begin("Would work.")


def test_workers_with_other_packages_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other versions of shiftkit or of what numbers depend on: before anything is done, and of late workers too."""
    here = dict(cluster._versions())  # pyright: ignore[reportPrivateUsage]
    other = tuple({**here, "shiftkit": "0.0.1"}.items())
    monkeypatch.setattr(cluster, "_versions", lambda: other)
    with pytest.raises(MachineError, match=rf"2 of 2 .*: it has shiftkit {here['shiftkit']}, not 0\.0\.1"):
        Work(scheduler=address).begin("Would work.")
    late = cluster.Cluster(client=cluster._connect(address), scheduler=address, terms=Terms.here())  # pyright: ignore[reportPrivateUsage]
    with late.client, pytest.raises(MachineError, match=r"came later .* not 0\.0\.1"):
        list(late.spread(delayed(abs)(item) for item in (1, 2)))


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="no folder means another one in each process here")
def test_folders_that_workers_do_not_see_are_refused(people: Path, address: str) -> None:
    """Before anything is done: a cohort, predictions and a folder to write to that other machines do not share."""
    own = Path("/proc/self/cwd")  # each process has another one
    for places in ((own / "masks", "cohort"), ("masks", own / "cohort")):
        with pytest.raises(MachineError, match=r"2 of 2 .*: it does not see /proc/self/cwd/.* all machines share"):
            sk.score(*places, out="s.tsv", scheduler=address, dry_run=True)
    with pytest.raises(MachineError, match=r"it does not see /proc/self/cwd, or another folder .* `out`"):
        Work(scheduler=address, dry_run=True).begin("Would work.", out=own / "new" / "run")
    with pytest.raises(DryRun):
        Work(scheduler=address, dry_run=True).begin("Would work.", out=people / "new" / "run")
    assert sorted(path.name for path in people.iterdir()) == ["cohort", "masks"]


def test_a_lost_scheduler_ends_the_run_with_what_to_do() -> None:
    """As when its job ends: one sentence, and nobody waits for results that will not come."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as made:
        results = Work(scheduler=at(made.scheduler_address)).map(abs, range(100), "Stage")
        assert next(results) == 0
    with pytest.raises(MachineError, match=r"connection to the Dask scheduler .* was lost.* --resume"):
        list(results)


def test_workers_that_leave_and_do_not_come_back_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the jobs that they are end: after a while one sentence, and no waiting for ever."""
    monkeypatch.setattr(cluster, "_LOOK_S", 0.2)
    monkeypatch.setattr(cluster, "_PATIENCE_S", 0.5)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
    ) as made:
        results = Work(scheduler=at(made.scheduler_address)).map(time.sleep, [0, *[0.3] * 50], "Stage")
        assert next(results) is None
        made.scale(0)
        with pytest.raises(MachineError, match=r"have left, and none came .* --resume"):
            list(results)


def test_a_task_that_kills_every_worker_ends_with_what_to_do(address: str) -> None:
    """As when memory runs out: one sentence, and the run does not go on for ever."""
    work = Work(scheduler=address)
    with pytest.raises(MachineError, match=r"Workers of dask://.* were lost 2 times with the same task"):
        list(work.map(lambda item: os.kill(os.getpid(), signal.SIGKILL), [1, 2], "Stage"))
