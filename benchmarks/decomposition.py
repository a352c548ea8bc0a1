"""Speed and memory of the primary estimate, and of the exponential beside it against a loop over statsmodels' GLM.

Run with ``python benchmarks/decomposition.py`` from the project's root; it writes ``benchmarks/decomposition.md``.
"""

import resource
import time
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from numpy.typing import NDArray

from shiftkit.analyses.decomposition.anchored import anchored
from shiftkit.analyses.decomposition.permutation import tumor_test
from shiftkit.analyses.decomposition.regression import exponential, regress
from shiftkit.analyses.decomposition.rows import Rows, build_rows
from shiftkit.analyses.decomposition.study import LAMBDA_GRID_MM, decompose
from shiftkit.analyses.statistics.inference import draw_weights
from shiftkit.analyses.validation.simulation import Scenario, simulate

HERE = Path(__file__).parent
GRID = np.array(LAMBDA_GRID_MM)
N_DRAWS, N_PERMUTATIONS, N_PEER = 2000, 2000, 20
Array = NDArray[np.float64]


def main() -> None:
    """Measure and write the table."""
    _ours(_rows(20), 10)  # what loads on first use is not timed
    lines = [
        "# The decomposition's speed\n",
        "`OMP_NUM_THREADS=1 python benchmarks/decomposition.py`: one core, 10 bundles and hemispheres, λ profiled anew "
        f"over {GRID.size} candidates in each of {N_DRAWS} bootstrap draws, {N_PERMUTATIONS} permutations. The "
        "peer fits statsmodels' GLM (binomial, frequency weights) for every candidate in "
        f"{N_PEER} of the draws. The primary estimate is `anchored`, with its jackknife over all participants and "
        "verdict; bootstrap, test and peer are those of the exponential beside it.\n",
        "| patients + controls | primary estimate (ms) | bootstrap (s) | test (s) | peer, a draw (s) | ratio | "
        "largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for n in (50, 100, 200):
        lines.append(_line(n))
        print(lines[-1], flush=True)
    frame = simulate(Scenario(n_patients=100, n_controls=100), np.random.default_rng(0))
    decompose(frame)
    start = time.perf_counter()
    decompose(frame)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    decompose(frame, cross_check=True)
    crossed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines.append(
        "\nA whole `decompose` of 100 + 100 with its defaults, single bundles, curve and sensitivity table counted, "
        f"warm: {seconds:.1f} s; with `cross_check`, a GEE and a mixed model by statsmodels: {crossed:.1f} s. Peak "
        f"memory of this process: {peak:.2f} GiB. The difference is that of intercepts, slopes and components in the "
        "draws compared, with the same λ chosen in each.\n"
    )
    (HERE / "decomposition.md").write_text("\n".join(lines), encoding="utf-8")


def _rows(n: int) -> Rows:
    return build_rows(simulate(Scenario(n_patients=n, n_controls=n), np.random.default_rng(n)), "dice")


def _line(n: int) -> str:
    rows = _rows(n)
    weights, bootstrap, tests, primary = _ours(rows, N_DRAWS)
    found = regress(rows, _none(rows), weights[:N_PEER], exponential(GRID))
    start = time.perf_counter()
    peers = [_peer(rows, weight) for weight in weights[:N_PEER]]
    peer = (time.perf_counter() - start) / N_PEER
    difference = 0.0
    for draw, (chosen, intercepts, slope, components) in enumerate(peers, start=1):
        assert chosen == found.chosen[draw], "another decay length was chosen"
        ours = (np.concatenate([found.healthy[draw], found.far[draw]]), found.near[draw], found.draws[draw - 1])
        for a, b in zip(ours, (intercepts, slope, components), strict=True):
            difference = max(difference, float(np.abs(a - b).max()))
    ratio = peer / (bootstrap / N_DRAWS)
    return (
        f"| {n} + {n} | {primary:.0f} | {bootstrap:.2f} | {tests:.2f} | {peer:.2f} | {ratio:.0f} | {difference:.1e} |"
    )


def _none(rows: Rows) -> Array:
    return np.zeros((len(rows.outcome), 0))


def _ours(rows: Rows, draws: int) -> tuple[Array, float, float, float]:
    """Weights, seconds of the bootstrap and the test, milliseconds of processor of the primary estimate."""
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    weights = draw_weights(rows.sizes, draws, rng)
    regress(rows, _none(rows), weights, exponential(GRID))
    bootstrap = time.perf_counter() - start
    start = time.perf_counter()
    tumor_test(rows, _none(rows), GRID, N_PERMUTATIONS, rng)
    tests = time.perf_counter() - start
    start = time.process_time()
    anchored(rows).verdict(0.02)
    return weights, bootstrap, tests, 1000 * (time.process_time() - start)


def _peer(rows: Rows, weight: Array) -> tuple[int, Array, Array, Array]:
    """The same draw by a loop over statsmodels: chosen candidate, intercepts, slope, and components."""
    stratum = rows.level + len(rows.levels) * rows.patient
    dummies = np.eye(2 * len(rows.levels))[stratum]
    own = weight[rows.person]
    best = None
    for number, length in enumerate(GRID):
        near = np.exp(-rows.distance_mm / length)
        model = sm.GLM(rows.outcome, np.column_stack([dummies, near]), family=sm.families.Binomial(), freq_weights=own)
        fitted = model.fit(tol=1e-12)
        if best is None or fitted.deviance < best[1].deviance:
            best = (number, fitted, near)
    assert best is not None
    number, fitted, near = best
    intercepts, slope = fitted.params[:-1], fitted.params[-1:]
    patient = rows.patient
    level = rows.level[patient]
    share = own[patient] / np.bincount(rows.person)[rows.person[patient]]
    share = share / share.sum()
    healthy, far = intercepts[level], intercepts[level + len(rows.levels)]
    none, shifted, both = (
        float((share / (1 + np.exp(-eta))).sum()) for eta in (healthy, far, far + slope * near[patient])
    )
    return number, intercepts, slope, np.array([none - both, none - shifted, shifted - both])


if __name__ == "__main__":
    main()
