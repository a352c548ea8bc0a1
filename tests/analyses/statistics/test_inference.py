"""Intervals, thresholds and tests over participants."""

import numpy as np
import pytest
from scipy import stats

from shiftkit.analyses.statistics.inference import (
    Inference,
    draw_weights,
    holm,
    interval,
    jackknife_interval,
    max_t,
    p_value,
    permute_within,
    strata_of,
)


def test_holm_p_values_and_strata() -> None:
    """P is never 0, Holm is monotone, and permutation stays within strata of at least two."""
    assert p_value(9.0, np.zeros(99)) == pytest.approx(0.01)
    adjusted = holm(np.array([0.04, 0.01, np.nan, 0.03]))
    np.testing.assert_allclose(adjusted, [0.06, 0.03, np.nan, 0.06])
    volume = np.append(np.arange(12.0), np.nan)
    strata = strata_of(volume)
    order = permute_within(strata, np.random.default_rng(0), 1)[0]
    assert sorted(order) == list(range(13))
    assert (strata[order] == strata).all()
    assert (np.bincount(strata) >= 4).all()


@pytest.mark.slow
def test_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    """Over 2,000 samples of 20 the expanded percentile interval of a mean covers in 93–97 %."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        sample = rng.normal(size=20)
        draws = draw_weights([20], 500, rng) @ sample / 20
        low, high = interval(draws, 0.95, 20)
        hits += low <= 0 <= high
    assert 0.93 <= hits / 2000 <= 0.97


def test_a_number_says_how_many_participants_are_behind_it() -> None:
    """Too few have no interval, fewer than 20 are exploratory; a value that is not there is too few."""
    draws = np.random.default_rng(0).normal(size=500)
    found = [Inference().estimate("one", 0.0, draws, n) for n in (4, 5, 19, 20)]
    assert [one.status for one in found] == ["too_few", "exploratory", "exploratory", "ok"]
    assert [bool(np.isfinite(one.low)) for one in found] == [False, True, True, True]
    assert Inference().estimate("one", 0.0, draws, 4, fewest=3).status == "exploratory"
    assert Inference().estimate("one", float("nan"), draws, 40).status == "too_few"


def test_each_purpose_has_random_numbers_of_its_own() -> None:
    """The same seed and purpose give the same draws; another purpose or seed gives others; cohorts keep their sizes."""
    one, other = Inference(n_bootstrap=50, seed=1), Inference(n_bootstrap=50, seed=2)
    first = one.weights((6, 3), 7)
    np.testing.assert_array_equal(first, one.weights((6, 3), 7))
    assert not np.array_equal(first, one.weights((6, 3), 8))
    assert not np.array_equal(first, other.weights((6, 3), 7))
    assert (first[:, :6].sum(axis=1) == 6).all() and (first[:, 6:].sum(axis=1) == 3).all()


def test_the_largest_of_many_statistics_sets_the_bar() -> None:
    """max-T: an adjusted p-value is never below the plain one, and equals it where there is a single statistic."""
    values = np.random.default_rng(3).normal(size=(4, 200))
    plain = np.array([p_value(float(row[0]), row[1:]) for row in values])
    assert (max_t(values) >= plain - 1e-12).all()
    np.testing.assert_allclose(max_t(values[:1]), plain[:1])


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    """Leaving out one of a sample at a time gives the t interval; a group of two gives none."""
    data = np.random.default_rng(0).normal(size=15)
    low, high = jackknife_interval(data.mean(), (data.sum() - data) / 14, np.zeros(15), 0.95)
    expected = stats.t.interval(0.95, 14, data.mean(), stats.sem(data))
    assert (low, high) == pytest.approx(expected)
    assert np.isnan(jackknife_interval(0.0, np.zeros(2), np.zeros(2), 0.95)[0])
