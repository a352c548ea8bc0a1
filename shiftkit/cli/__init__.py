"""The command line: one verb a stage, and exit codes that tell what happened."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from ..errors import ShiftkitError, ShiftkitWarning, Unfinished

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
    if not verbose:
        _silence_libraries()
    warnings.showwarning = _warn
    try:
        return _run(words, quiet)
    except Unfinished as error:
        return _end(error.exit_code, f"Done, but not for all: {error}")
    except KeyboardInterrupt:
        return _end(INTERRUPTED, "Interrupted; what was finished is kept, and --resume continues from there.")
    except Exception as error:
        if verbose:
            traceback.print_exc()
        if isinstance(error, ShiftkitError):
            return _end(error.exit_code, f"Error: {error}")
        return _end(1, f"Internal error: {type(error).__name__}: {error}. Run again with -v for the traceback.")


def entry() -> None:
    """Where the ``shiftkit`` script starts."""
    sys.exit(main())


def _run(words: list[str], quiet: bool) -> int:
    from .bars import progress  # here, so that an interruption while importing is handled too
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
    if not {"--help", "--version"} & set(words):
        print("Done.", file=sys.stderr)
    return 0


def _end(code: int, message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code


def _warn(message: Warning | str, category: type[Warning], *place: object, **_: object) -> None:
    """Our own warnings as a line, those of libraries as Python shows them."""
    from .bars import progress

    progress.close()
    own = issubclass(category, ShiftkitWarning)
    print(f"Warning: {message}" if own else f"{category.__name__}: {message}", file=sys.stderr, flush=True)


def _silence_libraries() -> None:
    # Warnings of libraries are for developers; -v shows them. Child processes inherit the variable.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ShiftkitWarning)
