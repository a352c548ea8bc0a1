"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Any

from ..files import is_first_process
from ..words import readable
from ..work import DETAIL, duration

_LINE_EVERY_S = 5.0


class Progress:
    """Callable that stages report to: ``progress(done, total, text)``.

    One bar (or one series of lines) per stage; it ends when ``done`` reaches ``total``. What follows the stage's name
    after `shiftkit.work.DETAIL` changes from step to step.
    """

    def __init__(self) -> None:
        self.quiet = False
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._last_line: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say that ``done`` of ``total`` steps of the stage called ``text`` are finished."""
        if self.quiet or not is_first_process():
            return
        stage, _, detail = readable(text).partition(DETAIL)
        if sys.stderr.isatty():
            self._draw(done, total, stage, detail)
        else:
            self._print(done, total, stage, detail)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _draw(self, done: int, total: int, stage: str, detail: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._bars = Bars(*columns, console=Console(stderr=True))
            self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, detail="")
        self._bars.update(self._tasks[stage], completed=done, total=total, detail=detail)

    def _print(self, done: int, total: int, stage: str, detail: str) -> None:
        now = time.monotonic()
        # Counted from the first call: what was on disk already took no time, and would promise an early end.
        start, begun = self._first.setdefault(stage, (now, done))
        if done < total and now - self._last_line.get(stage, float("-inf")) < _LINE_EVERY_S:
            return
        self._last_line[stage] = now
        left = f", {duration((now - start) / (done - begun) * (total - done))} left" if begun < done < total else ""
        print(f"{stage}: {done}/{total}{left}{f' ({detail})' if detail else ''}", file=sys.stderr, flush=True)


progress = Progress()
"""The one of this process, whose bars stand on the terminal."""


def say(*lines: str) -> None:
    """Print lines on stdout, after the progress bar is gone; of several processes of a launcher the first speaks."""
    progress.close()
    for line in lines if is_first_process() else ():
        print(readable(line), flush=True)


def remark(*lines: str) -> None:
    """Print lines on stderr, as `say` does on stdout."""
    progress.close()
    for line in lines if is_first_process() else ():
        print(line, file=sys.stderr, flush=True)
