"""How long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, text)``; the text is the name of the stage, and after `DETAIL` what changes."""

DETAIL = " · "
