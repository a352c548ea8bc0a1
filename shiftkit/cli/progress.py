"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Any

_LINE_EVERY_S = 5.0


class Progress:
    """Callable that stages report to: ``progress(done, total, text)``.

    One bar (or one series of lines) per text; it ends when ``done`` reaches ``total``.
    """

    def __init__(self) -> None:
        self.quiet = False
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._last_line: dict[str, float] = {}

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say that ``done`` of ``total`` steps of the stage called ``text`` are finished."""
        if self.quiet:
            return
        if sys.stderr.isatty():
            self._draw(done, total, text)
        else:
            self._print(done, total, text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _draw(self, done: int, total: int, text: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bars = Bars(*columns, console=Console(stderr=True))
            self._bars.start()
        if text not in self._tasks:
            self._tasks[text] = self._bars.add_task(text, total=total)
        self._bars.update(self._tasks[text], completed=done, total=total)

    def _print(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if done < total and now - self._last_line.get(text, float("-inf")) < _LINE_EVERY_S:
            return
        self._last_line[text] = now
        print(f"{text}: {done}/{total}", file=sys.stderr, flush=True)
