"""Resampling and permutation of participants: never of rows, bundles, patches or voxels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ...results import Estimate
from ...status import Status

Array = NDArray[np.float64]
EXPLORATORY_BELOW = 20
"""Participants below which a number is called exploratory."""
FEWEST = 5
"""Draws from fewer participants do not reach beyond those there are: no interval."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How sure a number is: how often participants are drawn and permuted, and what an interval shall cover.

    Parameters
    ----------
    n_bootstrap, n_permutations : int
        Resampled and permuted cohorts.
    level : float
        Coverage of the intervals.
    seed : int
        Every random number of a study starts from it.

    Examples
    --------
    >>> Inference(n_bootstrap=3, seed=1).weights((4, 2)).sum(axis=1).tolist()
    [6.0, 6.0, 6.0]
    """

    n_bootstrap: int = 2000
    n_permutations: int = 2000
    level: float = 0.95
    seed: int = 0

    def generator(self, *purpose: int) -> np.random.Generator:
        """A generator of its own for each purpose, so that one more draw here changes nothing there."""
        return np.random.default_rng([self.seed, *purpose] if purpose else self.seed)

    def weights(self, sizes: Sequence[int], *purpose: int) -> Array:
        """How often each participant is drawn, shape (n_bootstrap, sum of sizes); see `draw_weights`."""
        return draw_weights(sizes, self.n_bootstrap, self.generator(*purpose))

    def interval(self, draws: Array, n: int) -> tuple[float, float]:
        """Expanded percentile interval of a number over ``n`` participants; see `interval`."""
        return interval(draws, self.level, n)

    def estimate(
        self, name: str, value: float, draws: Array, n: int, unit: str = "1", *, fewest: int = FEWEST
    ) -> Estimate:
        """A number with its status, see `status_of`, and its interval unless there are too few participants."""
        status = status_of(n if np.isfinite(value) else 0, fewest)
        low, high = (float("nan"),) * 2 if status == Status.TOO_FEW else self.interval(draws, n)
        return Estimate(name=name, value=value, low=low, high=high, level=self.level, unit=unit, n=n, status=status)


def as_row(one: Estimate) -> dict[str, Any]:
    """An estimate over patients in the columns of a table."""
    return {"value": one.value, "low": one.low, "high": one.high, "n_patients": one.n, "status": str(one.status)}


def status_of(n: int, fewest: int = FEWEST) -> Status:
    """What a number over ``n`` participants is called: ``too_few``, ``exploratory`` under 20, or ``ok``.

    Examples
    --------
    >>> [str(status_of(n)) for n in (4, 5, 20)]
    ['too_few', 'exploratory', 'ok']
    """
    if n < fewest:
        return Status.TOO_FEW
    return Status.EXPLORATORY if n < EXPLORATORY_BELOW else Status.OK


def draw_weights(sizes: Sequence[int], draws: int, rng: np.random.Generator) -> Array:
    """How often each participant is drawn in each bootstrap sample, stratified by cohort, shape (draws, sum of sizes).

    Cohorts in the given order; each cohort's weights sum to its size. Davison & Hinkley, Bootstrap Methods and their
    Application (1997), doi 10.1017/CBO9780511802843.
    """
    # Counts instead of indices: a statistic of all draws is then one matrix product.
    parts = [rng.multinomial(n, np.full(n, 1 / n), size=draws) for n in sizes if n]
    return np.concatenate(parts, axis=1).astype(np.float64)


def interval(draws: Array, level: float, n: int) -> tuple[float, float]:
    """Expanded percentile interval.

    The percentile interval is too short in small samples, by about the factor by which a normal interval with
    the maximum-likelihood variance is shorter than Student's; the percentiles are moved outwards by that factor, for
    ``n`` participants in the smaller cohort. Replicates that are not finite are left out.

    References
    ----------
    Hesterberg TC. The American Statistician 69:371 (2015), doi 10.1080/00031305.2015.1089789.

    Examples
    --------
    >>> low, high = interval(np.linspace(0, 1, 1001), 0.95, 20)
    >>> bool(low < 0.025 and high > 0.975)
    True
    """
    finite = draws[np.isfinite(draws)]
    if n < 2 or finite.size < 50:  # of fewer draws no tail can be told
        return float("nan"), float("nan")
    # The functions themselves: those of scipy.stats check their arguments for longer than all else here takes.
    reach = expansion(n, level) * special.ndtri(0.5 + level / 2)
    low, high = np.quantile(finite, special.ndtr([-reach, reach]))
    return float(low), float(high)


def expansion(n: int, level: float) -> float:
    """By how much a bootstrap interval of n participants is too short: Student's interval over the normal one."""
    return float(np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 0.5 + level / 2) / special.ndtri(0.5 + level / 2))


def p_value(observed: float, permuted: Array) -> float:
    """(b + 1) / (B + 1): the share of permutations at least as extreme, never 0 (doi 10.2202/1544-6115.1585)."""
    if not np.isfinite(observed):
        return float("nan")
    # The observed labeling is one of the permutations, and rounding must not tell it from its equals.
    return float((1 + np.count_nonzero(permuted >= observed - 1e-12)) / (1 + permuted.size))


def holm(p_values: Array) -> Array:
    """Holm's step-down adjustment; NaN stays NaN and does not count.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(p_values.shape, np.nan)
    there = np.flatnonzero(np.isfinite(p_values))
    order = there[np.argsort(p_values[there], kind="stable")]
    steps = p_values[order] * (order.size - np.arange(order.size))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def permute_within(strata: NDArray[np.int64], rng: np.random.Generator, draws: int) -> NDArray[np.int64]:
    """Permutations of 0…n−1 that move nobody out of their stratum, shape (draws, n)."""
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    orders = np.empty((draws, strata.size), dtype=np.int64)
    for order in orders:
        for those in members:
            order[those] = rng.permutation(those)
    return orders


def strata_of(volume: Array) -> NDArray[np.int64]:
    """Strata of tumor volume: tertiles, or one stratum where there are fewer than six known volumes.

    Patients of unknown volume are a stratum of their own, joined to the first where there is only one of them.
    """
    known = np.isfinite(volume)
    strata = np.zeros(volume.size, dtype=np.int64)
    if known.sum() < 6:
        return strata
    strata[known] = np.searchsorted(np.quantile(volume[known], [1 / 3, 2 / 3]), volume[known])
    strata[~known] = 3 if (~known).sum() > 1 else 0  # alone, nobody could trade places
    return strata


def jackknife_interval(value: float, left_out: Array, group: NDArray[Any], level: float) -> tuple[float, float]:
    """Student interval around a statistic, with the delete-one jackknife's standard error.

    ``left_out`` is the statistic without each participant, shape (n,). Participants are left out within groups, whose
    variances add up; NaN where a group has fewer than three.

    Examples
    --------
    >>> data = np.arange(10.0)
    >>> low, high = jackknife_interval(data.mean(), (data.sum() - data) / 9, np.zeros(10), 0.95)
    >>> round(float(low), 3), round(float(high), 3)  # the t interval of a mean
    (2.334, 6.666)
    """
    variance, smallest = 0.0, len(group)
    for one in np.unique(group):
        values = left_out[group == one]
        n = len(values)
        if n < 3 or not np.isfinite(values).all():
            return float("nan"), float("nan")
        variance += (n - 1) / n * float(((values - values.mean()) ** 2).sum())
        smallest = min(smallest, n)
    # Degrees of freedom of the smallest group: cautious, as Welch's are never fewer.
    reach = float(np.sqrt(variance) * special.stdtrit(smallest - 1, 0.5 + level / 2))
    return value - reach, value + reach


def standardized(values: Array) -> Array:
    """Statistics in units of their permutation distribution, so that layers and bundles can be compared."""
    permuted = values[1:]
    spread = float(np.nanstd(permuted))
    return (values - np.nanmean(permuted)) / spread if spread > 0 else np.zeros_like(values)


def max_t(standardized_values: Array) -> Array:
    """p-values adjusted over the rows: the share of permutations whose largest value is as large.

    Values of shape (cells, permutations + 1), observed in the first column; a column is the same permutation of
    participants in all cells.

    Examples
    --------
    >>> values = np.array([[5.0, 0.0, 1.0, 0.5], [0.0, 2.0, 0.1, 0.3]])
    >>> max_t(values).tolist()
    [0.25, 1.0]
    """
    # Westfall and Young: the largest of a permutation carries the correlation between cells.
    largest = np.nanmax(standardized_values[:, 1:], axis=0)
    return np.array([p_value(float(observed), largest) for observed in standardized_values[:, 0]])
