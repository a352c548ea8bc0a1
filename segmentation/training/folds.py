"""Who is trained on, who chooses the epoch, and who is tested: always by participant."""

import numpy as np

from ...errors import ConfigError, DataError
from ...types import Case, Cohort


def fold_members(cohort: Cohort, folds: int, seed: int) -> list[frozenset[str]]:
    """Split participants into folds of nearly equal size; all sessions of a participant stay together.

    At least two folds, and no more than participants; else a `ConfigError`.
    """
    participants = sorted({case.participant_id for case in cohort})
    if not 2 <= folds <= len(participants):
        raise ConfigError(
            f"`folds` must be between 2 and the number of participants, {len(participants)}; got {folds}."
        )
    # Sorted before, so that folds do not depend on the order of participants.tsv.
    order = np.random.default_rng(seed).permutation(participants)
    return [frozenset(str(one) for one in order[start::folds]) for start in range(folds)]


def split_fold(
    cohort: Cohort, members: frozenset[str], seed: int, shots: int | None = None, draw: int = 0
) -> tuple[list[Case], list[Case]]:
    """Training and inner validation cases of a fold: by participant, and nobody of the test fold.

    A `ConfigError` if there are fewer training participants than shots, a `DataError` if nobody is left to train on.
    """
    rest = sorted({case.participant_id for case in cohort} - members)
    order = [str(one) for one in np.random.default_rng([seed, draw]).permutation(rest)]
    if shots is not None:
        require_shots([shots], len(order))
        order = order[:shots]  # the first ones: fewer shots of the same draw are a subset of more
    if not order:
        raise DataError("Fine-tuning needs at least one training participant in every fold; give fewer folds.")
    # One in five chooses the epoch; of one or two nobody can be spared.
    n_inner = max(1, len(order) // 5) if len(order) > 2 else 0
    inner, training = set(order[:n_inner]), set(order[n_inner:])
    return (
        [case for case in cohort if case.participant_id in training],
        [case for case in cohort if case.participant_id in inner],
    )


def require_shots(shots: list[int], available: int) -> None:
    """Refuse, naming them, numbers of patients that a fold cannot give: ``available`` are outside the largest one."""
    wrong = [str(count) for count in shots if not 1 <= count <= available]
    if wrong:
        raise ConfigError(
            f"`shots` must be between 1 and the {available} patients outside a fold; got {', '.join(wrong)}. Ask for "
            "fewer, or give more `folds`, which leave more patients outside each."
        )
