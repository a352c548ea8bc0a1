"""Means and shares over participants: coverage by simulation, and what degenerate samples give."""

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.statistics.people import mean_over_participants, share_over_participants


def sample(rng: np.random.Generator, share: float, n: int, like: float) -> pd.DataFrame:
    """Five bundles of each participant; ``like`` is how alike a participant's bundles are."""
    own = rng.beta(share * (1 - like) / like, (1 - share) * (1 - like) / like, n)
    beyond = rng.random((n, 5)) < own[:, None]
    return pd.DataFrame({"participant_id": np.repeat(np.arange(n), 5), "beyond": beyond.ravel()})


@pytest.mark.parametrize(("share", "like"), [(0.1, 0.3), (0.3, 0.3), (0.3, 0.9)])
def test_intervals_of_shares_hold_the_truth_though_bundles_are_alike(share: float, like: float) -> None:
    """Twelve participants of five bundles: the 95 % interval holds the true share in at least 93 % of samples."""
    rng = np.random.default_rng(0)
    found = [share_over_participants(sample(rng, share, 12, like), "beyond") for _ in range(400)]
    assert np.mean([one.low <= share <= one.high for one in found]) > 0.93


def test_copies_of_a_row_do_not_narrow_anything() -> None:
    """The unit is the participant: five identical bundles each give the interval of one."""
    once = pd.DataFrame({"participant_id": range(12), "beyond": [True] * 3 + [False] * 9, "mm": np.arange(12.0)})
    often = pd.concat([once] * 5, ignore_index=True)
    for function, column in ((share_over_participants, "beyond"), (mean_over_participants, "mm")):
        one, many = function(once, column), function(often, column)
        assert (many.low, many.high, many.n) == pytest.approx((one.low, one.high, one.n), abs=0.03)


def test_a_share_of_none_has_an_interval_and_few_have_none() -> None:
    """0 of 10 may be 30 %; four participants give a mean without an interval, nobody a status."""
    none = pd.DataFrame({"participant_id": range(10), "beyond": False, "mm": 1.0})
    assert 0.25 < share_over_participants(none, "beyond").high < 0.4
    assert np.isnan(mean_over_participants(none[:4], "mm").low)
    assert mean_over_participants(none[:0], "mm").status == "too_few"


def test_intervals_of_means_hold_the_truth() -> None:
    """Ten participants of a skewed distribution: the 95 % interval holds the mean in at least 90 % of samples."""
    rng = np.random.default_rng(1)
    held = []
    for _ in range(200):
        rows = pd.DataFrame({"participant_id": range(10), "mm": rng.gamma(4, 1, 10)})
        one = mean_over_participants(rows, "mm")
        held.append(one.low <= 4 <= one.high)
    assert np.mean(held) > 0.9
