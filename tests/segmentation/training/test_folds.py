from pathlib import Path

import pytest

from shiftkit.errors import ConfigError
from shiftkit.segmentation.training.folds import fold_members, split_fold
from shiftkit.types import Case, Cohort


def test_folds_keep_participants_together() -> None:
    """All sessions of a participant are in one fold; test, inner validation and training never share one."""
    cases = tuple(Case(participant_id=f"sub-{i:02d}", session=f"ses-{s}") for i in range(11) for s in (1, 2))
    cohort = Cohort(name="c", root=Path(), cases=cases)
    groups = fold_members(cohort, 4, seed=3)
    assert sorted(one for group in groups for one in group) == sorted({case.participant_id for case in cases})
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
    for members in groups:
        training, inner = split_fold(cohort, members, seed=1)
        parts = [{case.participant_id for case in part} for part in (training, inner)] + [set(members)]
        assert sum(map(len, parts)) == 11 and len(set().union(*parts)) == 11
    with pytest.raises(ConfigError, match="between 2 and the number of participants, 11"):
        fold_members(cohort, 12, seed=0)


def test_fewer_shots_are_a_subset_of_more() -> None:
    """The same draw of fewer patients is contained in that of more; other draws differ; folds are respected."""
    cohort = Cohort(name="c", root=Path(), cases=tuple(Case(participant_id=f"sub-{i:02d}") for i in range(20)))
    members = fold_members(cohort, 4, seed=0)[0]

    def chosen(shots: int, draw: int = 0) -> set[str]:
        return {case.participant_id for part in split_fold(cohort, members, 5, shots, draw) for case in part}

    assert chosen(2) < chosen(4) < chosen(8)
    assert len(chosen(8)) == 8 and chosen(8).isdisjoint(members)
    assert chosen(4) != chosen(4, draw=1)
    with pytest.raises(ConfigError, match="`shots` must be between 1 and the 15"):
        chosen(16)
