"""Catch what would pass for domain shift: flips, swaps, wrong grids, wrong frames, damaged files."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..errors import ConfigError
from ..types import Case, Cohort
from ..work import Work
from . import directions, duplicates, flips, grids, masks, sides, table, values
from .subject import read_subject
from .verdict import CHECKS, CheckReport, Problem

__all__ = ["CHECKS", "CheckReport", "Problem", "check"]

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
    unknown = [name for name in allow if name not in CHECKS]
    if unknown:
        raise ConfigError(f"The checks are {', '.join(CHECKS)}; `allow` got {', '.join(unknown)}.")
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


def examine(case: Case, root: Path) -> tuple[list[Problem], duplicates.Digests]:
    """All problems of one participant, and the digests that tell duplicates."""
    subject = read_subject(case, root)
    found = [problem for family in _FAMILIES for problem in family(subject)]
    return [*subject.damaged, *found], duplicates.digests(subject)
