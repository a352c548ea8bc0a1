"""A verb as an array of jobs on a SLURM cluster, with the merge of its parts after them."""

import json
import math
import shlex
import subprocess
import sys
from collections.abc import Sequence

from ..errors import ConfigError, ShiftkitError

VERBS = ("predict", "score")
"""Those that can be done in parts."""

# The estimate is right within a factor of two or so, on an idle machine; and a job that is cut off is lost.
_TIME_MARGIN, _MEMORY_MARGIN = 4, 2
_LEAST_MINUTES, _START_GIB = 15, 1.0


def script(command: Sequence[str], *, parts: int, cpus: int) -> str:
    """The job's text for a verb and its words, with time and memory by the verb's own dry run.

    Raises
    ------
    ConfigError
        If the verb cannot be done in parts, or its words hold what the job sets.
    ShiftkitError
        What the dry run ended with.
    """
    verb, words = command[0], list(command[1:])
    if verb not in VERBS:
        raise ConfigError(f"A job in parts is one of {', '.join(VERBS)}; got {verb!r}.")
    if late := [word.split("=")[0] for word in words if word.split("=")[0] in ("--parts", "--cpus")]:
        raise ConfigError(
            f"What is said of the job stands before the verb, what is said of the verb after it; {late[0]} stands "
            f"after {verb}. Write shiftkit slurm {late[0]} N {verb} …"
        )
    if taken := [word for word in words if word.split("=")[0] in ("--shard", "--dry-run", "--json")]:
        raise ConfigError(f"The job itself says {', '.join(taken)}; leave that out.")
    if verb == "score" and not any(word.split("=")[0] == "--jobs" for word in words):
        words += ["--jobs", str(cpus)]
    cost = _estimate([verb, *words])
    minutes = max(_LEAST_MINUTES, math.ceil(_TIME_MARGIN * cost["seconds"] / parts / 60))
    memory_gib = math.ceil(_START_GIB + _MEMORY_MARGIN * cost["memory_gib"])
    limits = f"--time={minutes} --mem={memory_gib}G --cpus-per-task={cpus} --job-name=shiftkit-{verb}"
    return f"""#!/bin/bash
# shiftkit {verb} in {parts} parts and their merge. Hand both in with: bash FILE
# Estimated for all parts together: {cost["seconds"] / 60:.0f} min of computing, {cost["memory_gib"]:.2g} GiB of memory.
set -euo pipefail
# By its word, not by SLURM's variables: this may be handed in from inside of another job, which has set them.
case "${{1-}}" in
  part) shard=$SLURM_ARRAY_TASK_ID ;;
  merge) shard=merge ;;
  *)
    job=$(sbatch --parsable --array=1-{parts} {limits} "$0" part)
    # Also after parts in which somebody failed; where a part is missing, the merge says which.
    sbatch --parsable --dependency=afterany:"${{job%%;*}}" {limits} "$0" merge
    exit ;;
esac
shiftkit {shlex.join([verb, *words])} --shard "$shard/{parts}"
"""


def _estimate(command: Sequence[str]) -> dict[str, float]:
    """What the verb's dry run estimates; ends as it ends where it fails."""
    call = [sys.executable, "-P", "-c", "from shiftkit.cli import entry; entry()", *command, "--dry-run", "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        told = done.stderr.strip().splitlines()
        raise _Ended("\n".join(told[-3:]).removeprefix("Error: "), done.returncode)
    return json.loads(done.stdout)["estimate"]


class _Ended(ShiftkitError):
    """A dry run that failed, with its code."""

    def __init__(self, told: str, code: int) -> None:
        super().__init__(told)
        self.exit_code = code
