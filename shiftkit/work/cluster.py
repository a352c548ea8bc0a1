"""Work on the workers of a Dask cluster, which see the same folders and have the same packages as this process."""

import asyncio
import contextlib
import functools
import itertools
import math
import os
import platform
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MachineError
from ..files import PART, holds
from ..words import named
from .addresses import address_of
from .packages import package_versions

_ANSWER_S = 5.0
_LOOK_S = 5.0
_PATIENCE_S = 60.0
_QUEUED = 2  # tasks a worker: one that it does, and one to begin with at once
_HELD = 8  # tasks a worker, those included that wait for one before them
_LARGE_BYTES = 2**20
_LOOKED_AT = 20
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What every worker must offer: these versions of packages, and the folder that relative paths start from."""

    versions: tuple[tuple[str, str], ...]
    folder: str

    @classmethod
    def here(cls) -> "Terms":
        """What this process has."""
        return cls(versions=_versions(), folder=str(Path.cwd()))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The workers of a Dask scheduler, of which ``jobs`` are used at a time, 0 for all.

    Tasks do as in processes of this machine, one a worker at a time: what they compile, draw or hold is not made for
    several threads. joblib's own backend for Dask is not used: it hands on no result before the last one, and what
    it sends around ahead of tasks is lost with the worker that has it.

    Parameters
    ----------
    client : distributed.Client
        The connection, which all work of this process shares.
    """

    client: Any
    scheduler: str
    terms: Terms
    jobs: int = 0

    @classmethod
    def of(cls, scheduler: str, jobs: int = 0) -> "Cluster":
        """Connect and look at the workers, or take the connection that there is.

        Raises
        ------
        ConfigError
            If the address is none, or the package is missing.
        MachineError
            If no scheduler answers, it has no worker, or a worker is not like this process.
        """
        client, accepted = _CONNECTED.get(scheduler, (None, set[Terms]()))
        if client is None or client.status != "running":
            client, accepted = _CONNECTED[scheduler] = _connect(scheduler), set[Terms]()
        there = cls(client=client, scheduler=scheduler, terms=Terms.here(), jobs=jobs)
        if there.terms not in accepted:
            there._require_alike()
            accepted.add(there.terms)
        return there

    @property
    def processes(self) -> int:
        """How many tasks are done at a time: one a worker."""
        count = max(1, len(self._threads()))
        return min(self.jobs, count) if self.jobs else count

    def require_seen(self, *places: Path) -> None:
        """Refuse, with a `MachineError`, folders and files that a worker does not see as they are seen here."""
        for place in filter(Path.exists, places):
            look = functools.partial(_sees, str(place.absolute()), tuple(holds(place)[:_LOOKED_AT]))
            self._require(look, "Put it into a folder that all machines share")

    def require_writable(self, out: Path) -> None:
        """Refuse, with a `MachineError`, a place to write to that a worker does not share with this process."""
        place = out.absolute()
        while not place.is_dir():
            place = place.parent
        # Only something that was written just now tells a folder from another one of the same name.
        with tempfile.NamedTemporaryFile(dir=place, prefix=PART) as written:
            self._require(functools.partial(_shares, written.name), "Give an `out` in a folder that all machines share")

    def spread(self, tasks: Iterable[Any]) -> Iterator[Any]:
        """Results of ``joblib.delayed`` tasks in their order, each as soon as it and those before it are done.

        Tasks of a worker that is lost are done again by another one. When nobody asks for results any longer, tasks
        that have not begun are taken back.

        Raises
        ------
        MachineError
            If the scheduler or all workers are gone, or several workers were lost with the same task.
        """
        waiting, begun = iter(tasks), deque[_Task]()
        sender = _Sender(client=self.client, terms=self.terms)
        count, looked_s = 1, -math.inf
        try:
            while True:
                if time.monotonic() - looked_s > _LOOK_S:  # workers come and go
                    count, looked_s = self.processes, time.monotonic()
                busy = [one.future for one in begun if not one.future.done()]
                room = min((self.jobs or _QUEUED * count) - len(busy), _HELD * count - len(begun))
                for function, positional, by_name in itertools.islice(waiting, max(0, room)):
                    begun.append(sender.task(function, positional, by_name))
                    busy.append(begun[-1].future)
                if not begun:
                    return
                if begun[0].future.done():
                    yield self._result(begun.popleft())
                else:
                    self._wait(busy)
        finally:
            with contextlib.suppress(Exception):  # a scheduler that is gone has nothing left to take back
                self.client.cancel([one.future for one in begun], force=True)

    def _wait(self, futures: Sequence[Any]) -> None:
        """Until one is done, or it is time to look again; a `MachineError` where no worker comes any more."""
        from distributed import CancelledError, wait

        try:
            with self.client.as_current():
                wait(list(futures), timeout=_LOOK_S, return_when="FIRST_COMPLETED")
            return
        except CancelledError:  # lost: who asks for the result will see what can be done
            return
        except TimeoutError:
            pass
        end_s = time.monotonic() + _PATIENCE_S
        while not self._threads():
            if time.monotonic() > end_s:
                raise MachineError(
                    f"Work needs workers; all those of {self.scheduler} have left, and none came in {_PATIENCE_S:.0f} "
                    f"s. {_AGAIN}"
                )
            time.sleep(1)

    def _result(self, task: "_Task") -> Any:
        from distributed import CancelledError, KilledWorker
        from distributed.protocol.pickle import loads

        for _ in range(_TRIES):
            try:
                return loads(task.future.result())
            except KilledWorker as error:
                raise MachineError(
                    f"Workers of {self.scheduler} were lost {error.allowed_failures + 1} times with the same task, as "
                    "happens when memory runs out. Give them more memory, then run the same command again, with "
                    "--resume where the verb has it."
                ) from None
            except CancelledError:
                if self.client.status != "running":
                    break
                task.begin_alone()  # what it shares with others is lost with the last worker that had it
        raise self._lost()

    def _threads(self) -> Mapping[str, int]:
        """Threads of each worker, by its address."""
        try:
            return self.client.nthreads()
        except (OSError, RuntimeError, ValueError):  # the connection is closed, or just now
            raise self._lost() from None

    def _lost(self) -> MachineError:
        return MachineError(f"The connection to the Dask scheduler at {self.scheduler} was lost. {_AGAIN}")

    def _require_alike(self) -> None:
        threads = self._threads()
        start = f"dask worker {address_of(self.scheduler)} --nthreads 1 --nworkers N"
        if not threads:
            raise MachineError(
                f"Work needs workers; the Dask scheduler at {self.scheduler} has none. Start some: {start}"
            )
        if crowded := [worker for worker, count in threads.items() if count != 1]:
            raise MachineError(
                f"Workers must have one thread each; {len(crowded)} of {len(threads)} at {self.scheduler} have more. "
                f"Start several with one: {start}"
            )
        self._require(functools.partial(_unlike, self.terms), "Start workers in the environment of this process")

    def _require(self, look: Callable[[], str | None], cure: str) -> None:
        """Refuse, with a `MachineError`, workers of whom one says that something is wrong."""
        found = self.client.run(look, on_error="return")
        told = {worker: _words(problem) for worker, problem in found.items() if problem is not None}
        if told:
            worker, problem = next(iter(told.items()))
            raise MachineError(
                "Workers must see the folders of this machine and have its packages; "
                f"{len(told)} of {len(found)} at {self.scheduler} cannot be used: {problem} ({worker}). {cure}."
            )


_CONNECTED: dict[str, tuple[Any, set[Terms]]] = {}
"""The connection to each scheduler, with what its workers were found to offer."""
_AGAIN = "What was finished is kept; run the same command again, with --resume where the verb has it."


def _connect(scheduler: str) -> Any:
    address = address_of(scheduler)
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError(
            "Work on a cluster needs the package distributed, which cannot be imported here. Install it with pip "
            "install 'shiftkit[cluster]', or leave out `scheduler`."
        ) from error
    try:
        with ThreadPoolExecutor(1) as aside:  # where a loop may run already, as in a notebook, no other one can
            aside.submit(asyncio.run, _greet(address)).result()
        return Client(address, timeout=_ANSWER_S, set_as_default=False, name="shiftkit")
    except Exception as error:
        raise MachineError(
            f"A Dask scheduler must answer at {scheduler}; none does within {_ANSWER_S:.0f} s. Start one with dask "
            "scheduler, which prints its address, or leave out `scheduler`."
        ) from error


async def _greet(address: str) -> None:
    """Connect once: a client would wait without end for a program that takes the connection and is no scheduler."""
    from distributed.comm.core import connect

    comm = await asyncio.wait_for(connect(address, timeout=_ANSWER_S), _ANSWER_S)
    comm.abort()


class _Task:
    """One task on its way, which can be begun again."""

    def __init__(self, sender: "_Sender", function: bytes, arguments: bytes, shared: Any) -> None:
        self._sender, self._function, self._arguments = sender, function, arguments
        self.future = sender.submit(function if shared is None else shared, arguments)

    def begin_alone(self) -> None:
        """Again, with all that it needs."""
        self.future = self._sender.submit(self._function, self._arguments)


@dataclass(kw_only=True)
class _Sender:
    """Sends tasks; a large function that several have in common is sent to every worker once."""

    client: Any
    terms: Terms
    _last: Any = None
    _packed: bytes = b""
    _shared: Any = None

    def task(self, function: Any, positional: tuple[Any, ...], by_name: Mapping[str, Any]) -> _Task:
        """Begin with ``function(*positional, **by_name)``."""
        from distributed.protocol.pickle import dumps

        if function is not self._last:
            self._last, self._packed, self._shared = function, dumps(function), None
        elif self._shared is None and len(self._packed) > _LARGE_BYTES:
            with contextlib.suppress(TimeoutError):  # no worker at the moment: it travels with the task
                self._shared = self.client.scatter(self._packed, broadcast=True, hash=False)
        return _Task(self, self._packed, dumps((positional, by_name)), self._shared)

    def submit(self, function: Any, arguments: bytes) -> Any:
        """Its future result, packed."""
        # Dask would have large input sent ahead of tasks. That is done where it pays.
        warnings.filterwarnings("ignore", message="Sending large graph")
        return self.client.submit(_perform, self.terms, function, arguments, pure=False)


def _perform(terms: Terms, function: bytes, arguments: bytes) -> bytes:
    """On a worker: do a task as a process on the first machine would."""
    from distributed.protocol.pickle import dumps, loads

    if problem := _accepted(terms):
        raise MachineError(f"A worker that came later cannot be used: {problem}.")
    with contextlib.chdir(terms.folder):
        positional, by_name = loads(arguments)
        return dumps(loads(function)(*positional, **by_name))


@functools.cache
def _accepted(terms: Terms) -> str | None:
    from distributed import get_worker

    return _unlike(terms) if get_worker().state.nthreads == 1 else "it has more than one thread"


def _unlike(terms: Terms) -> str | None:
    """On a worker: what it does not offer."""
    here = dict(_versions())
    other = [
        f"{name} {here.get(name, 'missing')}, not {wanted}"
        for name, wanted in terms.versions
        if here.get(name) != wanted
    ]
    return f"it has {named(other, 3)}" if other else _sees(terms.folder, ())


def _sees(place: str, names: Sequence[str]) -> str | None:
    """On a worker: whether it sees a file or folder, with these names in it."""
    if not Path(place).exists():
        return f"it does not see {place}"
    missing = [name for name in names if not os.path.lexists(Path(place, name))]
    return f"it sees another {place}, without {named(missing, 3)}" if missing else None


def _shares(written: str) -> str | None:
    """On a worker: whether it sees what was just written, and can write beside it."""
    folder = Path(written).parent
    if not Path(written).exists():
        return f"it does not see {folder}, or another folder of that name"
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"it cannot write into {folder} ({error.strerror})"


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    python = ".".join(platform.python_version_tuple()[:2])
    return (("shiftkit", version("shiftkit")), ("Python", python), *package_versions().items())


def _words(problem: str | Exception) -> str:
    """What a worker said; an exception is one that kept it from looking."""
    if isinstance(problem, ImportError):
        return f"it has no shiftkit {version('shiftkit')}, or not all that it needs ({problem})"
    return problem if isinstance(problem, str) else f"it does not answer ({type(problem).__name__}: {problem})"
