"""The command line: one verb a stage, and exit codes that tell what happened."""

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor

from ..errors import ShiftkitError, ShiftkitWarning, Unfinished
from ..files import launched
from ..words import readable

VERBOSE = ("-v", "--verbose")
QUIET = ("-q", "--quiet")
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The last line on stderr always agrees with the code: 0 done, 1 internal error, 2 usage, 3 invalid
    data, 4 some participants failed, 5 model and data do not fit, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbose = bool(set(VERBOSE) & set(words))
    quiet = bool(set(QUIET) & set(words))
    words = [word for word in words if word not in (*VERBOSE, *QUIET)]
    with warnings.catch_warnings():  # who calls this from Python keeps what was set there
        if not verbose:
            _silence_libraries()
        warnings.showwarning = _warn
        return _code_of(words, verbose=verbose, quiet=quiet)


def _code_of(words: list[str], *, verbose: bool, quiet: bool) -> int:
    try:
        return _run(words, quiet)
    except Unfinished as error:
        return _end(error.exit_code, f"Done, but not for all: {error}")
    except KeyboardInterrupt:
        return _end(INTERRUPTED, _interruption())
    except Exception as error:
        if verbose:
            traceback.print_exc()
        if isinstance(error, ShiftkitError):
            return _end(error.exit_code, f"Error: {error}")
        if told := _of_machine(error):
            return _end(1, f"Error: {told}")
        return _end(1, f"Internal error: {type(error).__name__}: {error}. Run again with -v for the traceback.")


def entry() -> None:
    """Where the ``shiftkit`` script starts."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    code = main()
    if code == INTERRUPTED:
        _leave()  # workers may be in the middle of something, and waiting for them takes as long as that does
    sys.exit(code)


_PATIENCE_S = 1.2


def _interrupt(_number: int, _frame: object) -> None:
    """End orderly, with locks and half-written files taken away; what hangs, in compiled code, is not waited for."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    late = threading.Timer(_PATIENCE_S, _leave, [_interruption()])
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def _interruption() -> str:
    _, count = launched()
    what = f"Ended by the launcher, as when one of its {count} processes has ended" if count > 1 else "Interrupted"
    return f"{what}; what was finished is kept, and --resume continues from there."


def _leave(message: str = "") -> None:
    if message:
        _end(INTERRUPTED, message)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


def _of_machine(error: Exception) -> str | None:
    """A sentence for what neither input nor program can help; None for anything else."""
    if isinstance(error, OSError) and error.errno is not None:
        where = f" at {error.filename}" if error.filename else ""
        return (
            f"The machine could not read or write{where}: {error.strerror}. Nothing is left half-written; once that is "
            "mended, run the same command again, with --resume where the verb has it."
        )
    if isinstance(error, MemoryError):
        return "The machine has too little memory for this. Give fewer --jobs, or a machine with more."
    if isinstance(error, BrokenExecutor):
        return (
            "A worker process was killed, as systems do when memory runs out. Nothing is left half-written; run the "
            "same command again with fewer --jobs."
        )
    return None


def _run(words: list[str], quiet: bool) -> int:
    from .bars import progress, remark  # here, so that an interruption while importing is handled too
    from .commands import app

    progress.quiet = quiet
    from typer import Abort

    try:
        code = app(args=words, prog_name="shiftkit", standalone_mode=False)
    except Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Usage errors come from click or from typer's own copy of it, by version; both format themselves.
        if not hasattr(error, "format_message"):
            raise
        return _end(2, f"Usage error: {error.format_message()} See shiftkit --help.")  # pyright: ignore
    if isinstance(code, int) and code:  # what a verb asked for with typer.Exit, or an interruption
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return _end(code, "Not done; the lines above say why.")
    if not {"-h", "--help", "--version"} & set(words):
        remark("Done.")
    return 0


def _end(code: int, message: str) -> int:
    rank, count = launched()
    if rank:  # what ends one of several ends all, and the first cannot tell it
        message = f"Process {rank + 1} of {count}: {message}"
    print(readable(" ".join(message.split())), file=sys.stderr)
    return code


def _warn(message: Warning | str, category: type[Warning], *place: object, **_: object) -> None:
    """Our own warnings as a line, those of libraries as Python shows them."""
    from .bars import remark

    own = issubclass(category, ShiftkitWarning)
    words = f"Warning: {message}" if own else f"{category.__name__}: {message}"
    remark(readable(words))


def _silence_libraries() -> None:
    # Warnings of libraries are for developers; -v shows them. Child processes inherit the variable.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ShiftkitWarning)
