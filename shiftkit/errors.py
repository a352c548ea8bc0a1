"""The errors a user can meet, each with the exit code that the command line gives it.

A message is one paragraph that says what must hold, what was found, where, and what to do.
"""

import re
from collections.abc import Sequence


class ShiftkitError(Exception):
    """Base of every error that shiftkit raises on purpose.

    Attributes
    ----------
    exit_code : int
        What the command line returns when this error ends it.
    """

    exit_code = 1

    @property
    def hint(self) -> str:
        """What to do: the last sentence of a message that has several; empty where there is nothing to be done.

        Examples
        --------
        >>> ConfigError("`folds` must be at least 2; got 1. Give more folds.").hint
        'Give more folds.'
        >>> ConfigError("`folds` must be at least 2; got 1.").hint
        ''
        """
        sentences = re.split(r"(?<=[.!?])\s+(?=[A-Z`'\"])", str(self))
        return sentences[-1] if len(sentences) > 1 else ""


class MachineError(ShiftkitError):
    """Something that neither input nor program can help: a folder in use, a full disk, a killed process (code 1)."""

    exit_code = 1


class ConfigError(ShiftkitError, ValueError):
    """An option, a configuration file or a name that cannot be used (exit code 2)."""

    exit_code = 2


class DataError(ShiftkitError, ValueError):
    """Input data that cannot be used (exit code 3)."""

    exit_code = 3


class ImageError(DataError):
    """One image that cannot be used, whatever the options; it costs its participant, and not the others."""


class ModelMismatchError(ShiftkitError, ValueError):
    """A model and data, or two models, that do not fit each other (exit code 5)."""

    exit_code = 5


class Unfinished(ShiftkitError):
    """The work is done, but not for everybody who was asked for (exit code 4)."""

    exit_code = 4


class ShiftkitWarning(UserWarning):
    """What a result can be given with, and must not be read without; the command line shows it on stderr."""


def raise_all(problems: Sequence[str], where: str, error: type[ShiftkitError] = DataError) -> None:
    """Raise one error of the given class that lists every problem found in ``where``; do nothing without any.

    Each problem is one sentence with its own place (column, key, file).

    Examples
    --------
    >>> raise_all([], "scores.tsv")
    >>> raise_all(["column 'value' is missing"], "scores.tsv")
    Traceback (most recent call last):
    ...
    shiftkit.errors.DataError: scores.tsv cannot be used: column 'value' is missing.
    """
    if problems:
        listed = "; ".join(problem.rstrip(".") for problem in problems)
        raise error(f"{where} cannot be used: {listed}{'' if listed.endswith('?') else '.'}")
