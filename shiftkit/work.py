"""Work on participants in several processes, and how it says how far it is."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def n_processes(jobs: int) -> int:
    """Turn a ``--jobs`` value into a number of processes: 0 uses every core."""
    return jobs or os.cpu_count() or 1


def in_parallel(tasks: Iterable[Any], jobs: int) -> Iterator[Any]:
    """Results of ``joblib.delayed`` tasks in their order, each as soon as it and those before it are done.

    Parameters
    ----------
    tasks : iterable
        Calls wrapped with ``joblib.delayed``.
    jobs : int
        Processes; 0 uses every core.

    Examples
    --------
    >>> from joblib import delayed
    >>> list(in_parallel((delayed(abs)(number) for number in (-1, -2)), jobs=1))
    [1, 2]
    """
    from joblib import Parallel

    # Workers that leave when idle for five minutes, joblib's default, can leave just as they are asked again: it waits.
    patient: dict[str, Any] = {"idle_worker_timeout": 3600}
    results: Any = Parallel(n_jobs=n_processes(jobs), return_as="generator", **patient)(tasks)
    return iter(results)


Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, text)``; the text is the name of the stage, and after `DETAIL` what changes."""

DETAIL = " · "
