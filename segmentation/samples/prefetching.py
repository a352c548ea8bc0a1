"""Items that threads make ahead of need, in order, so that the device which uses them does not wait."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ...work import allowed_cores

Item = TypeVar("Item")
Made = TypeVar("Made")


def helper_threads(most: int) -> int:
    """How many threads help beside the one that computes: every other core's, at most so many; 0 with one core."""
    return min(most, allowed_cores() // 2)


def prefetched(make: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Generator[Made]:
    """``make(item)`` of each item in order; as many as there are threads are made while the last one is used.

    Without threads each is made when it is asked for. What the items are like does not depend on the number: of each,
    an error comes when it is its turn. Close the generator if it is left before its end (`contextlib.closing`): what
    was begun is waited for, the rest is not begun.

    Examples
    --------
    >>> list(prefetched(abs, [-1, -2, -3], threads=2))
    [1, 2, 3]
    """
    if not threads:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
