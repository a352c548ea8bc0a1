"""Catch what would pass for domain shift: flips, swaps, wrong grids, wrong frames, damaged files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..errors import ConfigError
from ..images import megavoxels
from ..types import Case, Cohort
from ..words import nearest
from ..work import Cost, Work
from . import directions, duplicates, flips, grids, masks, sides, table, values
from .subject import read_subject
from .verdict import CHECKS, CheckReport, Problem

__all__ = ["CHECKS", "CheckReport", "Problem", "check", "cost_of", "require_checks"]

_FAMILIES = (grids.find, values.find, flips.find, sides.find, directions.find, masks.find)


def check(cohort: Cohort, *, allow: Sequence[str] = (), work: Work = Work()) -> CheckReport:
    """Look at every file of a cohort and say, per participant, what is wrong and how to mend it.

    Parameters
    ----------
    cohort : Cohort
        What to look at; files are only read.
    allow : sequence of str
        Checks (keys of ``CHECKS``) whose errors do not count; they are still listed.
    work : Work
        In how many processes, and whom to tell how far it is.

    Returns
    -------
    CheckReport
        ``exit_code`` is 3 with any error that counts.

    Raises
    ------
    ConfigError
        If ``allow`` names no check.
    """
    require_checks(allow)
    work.begin(f"Would check {len(cohort)} cases of {cohort.name}.", cost_of(cohort, work))
    problems = list(table.find(cohort))
    files: list[tuple[str, duplicates.Digests]] = []
    examined = work.map(partial(examine, root=cohort.root), cohort.cases, "Checking")
    for case, (found, own) in zip(cohort, examined, strict=True):
        problems += found
        files.append((case.key, own))
    # Across participants, so at the end; digests alone come back from the processes, images would fill the memory.
    problems += duplicates.find(files)
    return CheckReport(
        cohort=cohort.name,
        participants=tuple(case.key for case in cohort),
        problems=tuple(sorted(problems)),
        allowed=tuple(allow),
    )


def require_checks(names: Sequence[str]) -> None:
    """Refuse, with a `ConfigError`, what is the name of no check."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        near = nearest(unknown[0], CHECKS)
        raise ConfigError(f"The checks are {', '.join(CHECKS)}; `allow` got {', '.join(unknown)}{near or '.'}")


def cost_of(cohort: Cohort, work: Work) -> Cost:
    """What it takes to check a cohort; as in `benchmarks/check.md`."""
    mega = megavoxels(cohort)
    start = Cost(seconds=3)  # of the processes
    return start + work.cost(len(cohort), cpu_s=0.2 + 1.5 * mega, memory_gib=0.3 + 0.2 * mega)


def examine(case: Case, root: Path) -> tuple[list[Problem], duplicates.Digests]:
    """All problems of one participant, and the digests that tell duplicates."""
    subject = read_subject(case, root)
    found = [problem for family in _FAMILIES for problem in family(subject)]
    return [*subject.damaged, *found], duplicates.digests(subject)
