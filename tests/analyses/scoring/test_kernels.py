"""Compiled kernels: compiled once for all processes, and quickly."""

import json
import os
import subprocess
import sys
from pathlib import Path

CHILDREN = """
import json, os, numba, numpy as np
from numba.core import event
from shiftkit.analyses.scoring.metrics import DEFAULT_METRICS, compare, compile_kernels
from shiftkit.distances import edge_distance_map
from shiftkit.work import Work

def compiled():
    seen = event.RecordingListener()
    with event.install_listener("numba:compile", seen):
        compile_kernels(DEFAULT_METRICS)
        before = len(seen.buffer)
        rng = np.random.default_rng(0)
        for order in ("C", "F"):
            a, b = (np.asarray(rng.random((9, 10, 11)) > 0.5, order=order) for _ in range(2))
            compare(a, b, (2.0, 2.5, 3.0))
            edge_distance_map(a, (2.0, 2.5, 3.0))
    print(json.dumps([before, len(seen.buffer) - before]), flush=True)

# Two processes, one after the other, that share imports and nothing that is compiled.
for _ in range(2):
    child = os.fork()
    if child == 0:
        compiled()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def compiled(cache: Path) -> list[list[int]]:
    """How often two processes compile something beforehand, and for masks of either memory layout after that."""
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_first_run_compiles_every_kernel_once_and_the_next_process_none(tmp_path: Path) -> None:
    """What is compiled before processes start serves masks of either memory layout, and is found again on disk."""
    first, later = compiled(tmp_path)
    assert first[0] > 0 and first[1] == 0
    assert later == [0, 0]
