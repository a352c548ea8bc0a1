"""What a study came to: kept beside its study file, or held against what is kept.

    make study
    python benchmarks/study/results.py build/study/small/study --keep benchmarks/study/small
    python benchmarks/study/results.py build/study/small/study --compare benchmarks/study/small

Kept are the tables, the figures at the width of a column, and how long each stage took on which machine. Compared is
every number but p-values and ratios; the same commit on the same machine gives the same numbers, and on another one
rounding adds up over a training, so that networks differ a little. The exit status is 1 where rows differ, or numbers
by more than ``--within``.
"""

import argparse
import os
import platform
import shutil
import sys
from pathlib import Path

import pandas as pd

from shiftkit.catalogue import CONDITIONS, CONTRASTS, CURVES, DECOMPOSITION, RECOVERY, REPLICATION
from shiftkit.files import read_json, write_json
from shiftkit.tables import Table, read_table

_TABLES = (REPLICATION, CONDITIONS, CONTRASTS, DECOMPOSITION, RECOVERY, CURVES)
_TOLD = {"answer", "status", "word"}
"""Words that follow from the numbers."""
_RATIOS = {RECOVERY.name: ["recovered", "low", "high"], CONTRASTS.name: ["effect_size"]}
"""Numbers that small denominators blow up; what they are made of is compared."""


def main() -> None:
    """Keep or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder that shiftkit study wrote")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--keep", type=Path, metavar="FOLDER", help="folder for what is kept; what is there is replaced")
    what.add_argument("--compare", type=Path, metavar="FOLDER", help="folder of what was kept")
    parser.add_argument("--within", type=float, default=0.02, help="largest difference of a number")
    options = parser.parse_args()
    if options.keep:
        keep(options.study, options.keep)
    elif not compare(options.study, options.compare, options.within):
        sys.exit(1)


def keep(study: Path, out: Path) -> None:
    """Copy tables and figures, and say what made them."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "tables").mkdir(parents=True)
    (out / "figures").mkdir()
    for table in _TABLES:
        shutil.copy(study / "tables" / f"{table.name}.tsv", out / "tables")
    for figure in sorted((study / "figures").glob("*-column.svg")):
        shutil.copy(figure, out / "figures")
    made = read_json(study / "run.json")
    told = {name: made[name] for name in ("shiftkit", "python", "packages", "started", "finished", "seeds", "verdict")}
    write_json(out / "made.json", {"machine": f"{platform.machine()}, {os.cpu_count()} cores", **told})


def compare(study: Path, kept: Path, within: float) -> bool:
    """Print the largest difference in each table; whether all numbers are the same within a tolerance."""
    same = True
    for table in _TABLES:
        now, before = (_numbers(folder / "tables" / f"{table.name}.tsv", table) for folder in (study, kept))
        alike = now.index.equals(before.index)
        there = now.index.intersection(before.index)
        far = (now.loc[there] - before.loc[there]).abs()
        # Where a number stands on one side only, it was given and is no more, or the other way round.
        lost = int((now.loc[there].isna() != before.loc[there].isna()).to_numpy().sum())
        largest = float(far.max().max()) if far.notna().any().any() else 0.0
        rows = f"{len(before)} rows kept, {len(now)} now"
        print(f"{table.name}: {rows}; largest difference {largest:.3g}, {lost} numbers given on one side only")
        same &= alike and not lost and largest <= within
    return same


def _numbers(path: Path, table: Table) -> pd.DataFrame:
    """Numbers of a table that are no p-values and no ratios, by the words that name its rows."""
    frame = read_table(path, table)
    named = {name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])} - _TOLD
    keys = [name for name in frame if name in named | {"finding", "shots"}]
    numbers = frame.set_index(keys).select_dtypes("number").drop(columns=_RATIOS.get(table.name, []))
    return numbers.filter(regex="^(?!p_|level)").sort_index()


if __name__ == "__main__":
    main()
