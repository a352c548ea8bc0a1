import threading
import time
from contextlib import closing

import pytest

from shiftkit.segmentation.samples.prefetching import prefetched


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_order_does_not_depend_on_the_threads(threads: int) -> None:
    """Items come in their order, also when later ones are ready first."""

    def slow_at_first(number: int) -> int:
        time.sleep(0.02 / (number + 1))
        return number * number

    assert list(prefetched(slow_at_first, range(8), threads)) == [number * number for number in range(8)]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_when_it_is_its_turn(threads: int) -> None:
    """Items before a bad one are given; then its error is raised."""
    made = prefetched(lambda number: 1 // (3 - number), range(6), threads)
    assert [next(made) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_no_more_is_made_than_there_are_threads_ahead() -> None:
    """Memory is bounded: one more than the threads are made beyond what was taken; closed, none is begun."""
    begun: list[int] = []
    lock = threading.Lock()

    def note(number: int) -> int:
        with lock:
            begun.append(number)
        return number

    with closing(prefetched(note, range(100), threads=2)) as made:
        for _ in range(5):
            next(made)
        time.sleep(0.05)
        assert len(begun) <= 5 + 2
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count
