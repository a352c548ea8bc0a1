"""Simulated runs of every kind, each read by one who has only its table, its record and its page.

Run with ``python benchmarks/contradictions.py --runs 2000`` from the project's root; it writes
``benchmarks/contradictions.md``. Drawings are left out: they take longer than all else and hold no words.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from joblib import Parallel, delayed

# Of the tests: the reader and the cohorts that the tests use; the package first, for tests/shiftkit is none.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from makers.contradictions import contradictions_of
from makers.decompositions import any_cohort, write_run

from shiftkit.errors import ShiftkitError

HERE = Path(__file__).parent


def main() -> None:
    """Simulate, read, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.runs)
    found = Parallel(n_jobs=asked.jobs)(delayed(_one)(seed) for seed in seeds)
    counts, bad = Counter(status for _, status, _ in found), [one for one in found if one[2]]
    lines = [
        "# Contradictions within a run\n",
        f"`python benchmarks/contradictions.py --runs {asked.runs} --first {asked.first}`: cohorts of 4–25 patients "
        "and 4–23 controls of every kind, before and after fine-tuning, Dice and HD95; the reader derives words, "
        "p-values, statuses, sentences and differences between estimators anew from `decomposition.tsv`, `run.json` "
        "and the page.\n",
        "| status of the run | runs |",
        "|---|---|",
        *(f"| {status} | {n} |" for status, n in sorted(counts.items())),
        f"\nRuns with a contradiction: **{len(bad)}**.\n",
        *(f"- seed {seed}: {'; '.join(problems[:3])}" for seed, _, problems in bad[:20]),
    ]
    (HERE / "contradictions.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(lines[-1] if bad else lines[-1].strip())


def _one(seed: int) -> tuple[int, str, list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = write_run(Path(folder), *any_cohort(seed))
        except ShiftkitError as error:
            return seed, f"refused ({type(error).__name__})", []
        return seed, result.status, contradictions_of(Path(folder))


if __name__ == "__main__":
    main()
