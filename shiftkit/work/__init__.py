"""Work on participants in several processes, here or on a cluster, and how it says how far it is."""

import functools
import html
import math
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ..files import require_room
from .addresses import LOCAL

Item = TypeVar("Item")
Made = TypeVar("Made")

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, text)``; the text is the name of the stage, and after `DETAIL` what changes."""

DETAIL = " · "


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What work is expected to take, from counts of participants, voxels and draws; right within a factor of two or so.

    Parameters
    ----------
    seconds : float
        By the clock, on an idle machine without a GPU.
    memory_gib, disk_gib : float
        At the largest moment, over all processes; what is left on disk.

    Examples
    --------
    >>> Cost(seconds=60, memory_gib=1) + Cost(seconds=30, memory_gib=2)
    Cost(seconds=90, memory_gib=2, disk_gib=0.0)
    >>> print(Cost(seconds=400, memory_gib=1.53))
    Estimated from counts: 7 min without a GPU, 1.5 GiB of memory.
    """

    seconds: float = 0.0
    memory_gib: float = 0.0
    disk_gib: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            seconds=self.seconds + other.seconds,
            memory_gib=max(self.memory_gib, other.memory_gib),  # one stage after another
            disk_gib=self.disk_gib + other.disk_gib,
        )

    def times(self, number: float) -> "Cost":
        """As much for each of several that are done one after another."""
        return Cost(seconds=self.seconds * number, memory_gib=self.memory_gib, disk_gib=self.disk_gib * number)

    def __str__(self) -> str:
        disk = f", {self.disk_gib:.2g} GiB on disk" if self.disk_gib >= _TOLD_GIB else ""
        took = duration(max(1.0, self.seconds))
        return f"Estimated from counts: {took} without a GPU, {self.memory_gib:.2g} GiB of memory{disk}."


_TOLD_GIB = 0.01


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a dry run ends with, whatever the verb: what would be done and take, in place of the verb's result.

    Parameters
    ----------
    would : str
        One sentence.
    cost : Cost
        What it is expected to take.

    Examples
    --------
    >>> print(Planned(would="Would draw 2 controls.", cost=Cost(seconds=8, memory_gib=0.5)))
    Would draw 2 controls.
    Estimated from counts: 8 s without a GPU, 0.5 GiB of memory.
    """

    would: str
    cost: Cost

    @property
    def verdict(self) -> str:
        """What would be done, under the name of other results' answer."""
        return self.would

    def __str__(self) -> str:
        return f"{self.would}\n{self.cost}"

    def to_dict(self) -> dict[str, Any]:
        """The same for machines."""
        parts = ("seconds", "memory_gib", "disk_gib")
        told = {name: float(f"{getattr(self.cost, name):.2g}") for name in parts}
        return {"dry_run": True, "verdict": self.would, "estimate": told}


class DryRun(BaseException):
    """Ends a dry run with what was planned; no error, so that nothing which handles errors stops it."""

    def __init__(self, planned: Planned) -> None:
        super().__init__(planned.would)
        self.planned = planned


@dataclass(frozen=True, kw_only=True)
class Work:
    """How work is done: in how many processes (0 uses every core), where, and whom it tells how far it is.

    ``scheduler`` is ``local``, or ``dask://HOST:PORT`` for the workers of a cluster, as `shiftkit.work.cluster` uses
    them. Results depend neither on it nor on ``jobs``. With ``dry_run`` nothing is done: see `begin`.

    Examples
    --------
    >>> said = []
    >>> work = Work(jobs=1, progress=lambda done, total, text: said.append(f"{text}: {done}/{total}"))
    >>> list(work.map(abs, [-1, -2], "Counting"))
    [1, 2]
    >>> said
    ['Counting: 1/2', 'Counting: 2/2']
    """

    jobs: int = 0
    scheduler: str = LOCAL
    progress: Progress | None = None
    dry_run: bool = False

    @property
    def processes(self) -> int:
        """In how many processes it is done at most: on cores of this machine, or by the cluster's workers."""
        if self.scheduler == LOCAL:
            return n_processes(self.jobs)
        from .cluster import Cluster

        return Cluster.of(self.scheduler, self.jobs).processes

    def begin(self, would: str, cost: Cost = Cost(), out: Path | None = None) -> None:
        """Say that all is checked that names, headers and options tell, and that computing begins: a dry run ends here.

        Parameters
        ----------
        would : str
            What is done now, as a sentence that begins with Would.
        cost : Cost
            What it is expected to take.
        out : Path, optional
            Where it is written: a folder or file, new or there.

        Raises
        ------
        MachineError
            If nothing can be written there, or the disk has not half of the space; or the cluster is none to work on.
        DryRun
            With ``dry_run``; public functions return what it holds.
        """
        if out is not None:
            require_room(out, cost.disk_gib)
        if self.scheduler != LOCAL:
            from .cluster import Cluster

            cluster = Cluster.of(self.scheduler, self.jobs)
            if out is not None:
                cluster.require_writable(out)
        if self.dry_run:
            raise DryRun(Planned(would=would, cost=cost))

    def require_seen(self, *places: Path) -> None:
        """Refuse, with a `MachineError`, folders and files to read from that workers elsewhere do not see."""
        if self.scheduler != LOCAL:
            from .cluster import Cluster

            Cluster.of(self.scheduler, self.jobs).require_seen(*places)

    def cost(self, items: int, *, cpu_s: float, memory_gib: float, disk_gib: float = 0.0) -> Cost:
        """What so many items take in these processes, from what one takes in one."""
        jobs = max(1, min(self.processes, items))
        return Cost(seconds=items * cpu_s / jobs, memory_gib=jobs * memory_gib, disk_gib=items * disk_gib)

    def map(self, function: Callable[[Item], Made], items: Sequence[Item], stage: str) -> Iterator[Made]:
        """Results in the order of the items, each as soon as it and those before it are done."""
        from joblib import delayed

        tasks = (delayed(function)(item) for item in items)
        for done, made in enumerate(self.spread(tasks, len(items)), start=1):
            self.report(done, len(items), stage)
            yield made

    def spread(self, tasks: Iterable[Any], most: int | None = None) -> Iterator[Any]:
        """Results of ``joblib.delayed`` tasks in their order, each as soon as it and those before it are done.

        There are at ``most`` so many: a single one is done here, for starting processes takes longer than most tasks.

        Examples
        --------
        >>> from joblib import delayed
        >>> list(Work(jobs=1).spread(delayed(abs)(number) for number in (-1, -2)))
        [1, 2]
        """
        if self.scheduler != LOCAL and most != 1:
            from .cluster import Cluster

            return Cluster.of(self.scheduler, self.jobs).spread(tasks)
        jobs = n_processes(self.jobs)
        return _in_processes(tasks, jobs if most is None else min(jobs, max(1, most)))

    def each(self, items: Sequence[Item], stage: str) -> Iterator[Item]:
        """The items one by one, in this process: one is reported as done when the next is asked for."""
        for done, item in enumerate(items, start=1):
            yield item
            self.report(done, len(items), stage)

    def report(self, done: int, total: int, stage: str) -> None:
        """Say how far a stage is, where anybody wants to know; in a notebook, a bar is drawn."""
        if told := self.progress or notebook_bars():
            told(done, total, stage)


def duration(seconds: float) -> str:
    """A time in two figures at most: a unit lasts until the next one says it better, at one and a half.

    Examples
    --------
    >>> [duration(seconds) for seconds in (12.3, 400, 9000)]
    ['12 s', '7 min', '2.5 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


_DRAW_EVERY_S = 0.2


@functools.cache
def notebook_bars() -> Progress | None:
    """Draws a bar for each stage below the cell that runs, in a Jupyter notebook; None anywhere else."""
    kernel = sys.modules.get("IPython")
    if kernel is None or type(kernel.get_ipython()).__name__ != "ZMQInteractiveShell":
        return None
    screen = import_module("IPython.display")  # no package of ours to need: where it is missing, no notebook runs us
    drawn: dict[str, tuple[Any, float]] = {}

    def draw(done: int, total: int, text: str) -> None:
        stage = text.partition(DETAIL)[0]
        bar = screen.HTML(f'<progress value="{done}" max="{total}"></progress> {html.escape(text)}: {done}/{total}')
        place, when = drawn.pop(stage, (None, float("-inf")))
        now = time.monotonic()
        if place is None:
            place = screen.display(bar, display_id=True)
        elif done == total or now - when >= _DRAW_EVERY_S:
            place.update(bar)
        else:
            now = when
        if done < total:  # a stage that begins again has a bar of its own
            drawn[stage] = place, now

    return draw


def n_processes(jobs: int) -> int:
    """A number of processes: as many as asked for, or for 0 one for every core that this process may use."""
    from joblib import cpu_count

    # More than there are would only take memory from one another.
    available = cpu_count()  # heeds containers, affinity and LOKY_MAX_CPU_COUNT, which os.cpu_count does not
    return min(jobs, allowed_cores()) if jobs else available


def allowed_cores() -> int:
    """Cores that the system lets this process use, by its affinity and its control group."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return cores


def machine_memory_bytes() -> int:
    """Memory that the system lets this process use: the machine's, or that of its control group."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return whole


_WATCH_S = 0.5


def end_with_parent(parent: int) -> None:
    """Let this process end soon after its parent did, however that ended; called first in every worker.

    A thread looks, rather than a signal of the kernel: on Linux that one comes when the *thread* which started this
    process ends, and other systems have none.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_processes(tasks: Iterable[Any], jobs: int) -> Iterator[Any]:
    """The same in so many processes of this machine."""
    from joblib import Parallel

    # joblib replaces a worker that has grown by 300 MB, as one does that loads PyTorch after its first task, and warns
    # of it in the thread that serves the workers: where warnings are errors, that thread would end and all would wait.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
    # Workers that leave when idle for five minutes, joblib's default, can leave just as they are asked again: it waits.
    patient: dict[str, Any] = {
        "idle_worker_timeout": 3600,
        "initializer": end_with_parent,
        "initargs": (os.getpid(),),
    }
    results: Any = Parallel(n_jobs=jobs, return_as="generator", **patient)(tasks)
    return iter(results)
