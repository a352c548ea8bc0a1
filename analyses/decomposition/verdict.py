"""What may be said of a split: intervals, words, p-values and status of its parts, all from one object."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ...status import Status

Array = NDArray[np.float64]


def jackknife(replicates: Array, stratum: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Spread of statistics that were computed again without each participant.

    Participants are left out within strata; the strata's variances add up, and so do (Satterthwaite) their degrees of
    freedom, at least 2.

    Parameters
    ----------
    replicates : ndarray, shape (1 + n, M)
        Of the full sample, then without each participant.
    stratum : ndarray of int, shape (n,)
        Cohort of each.

    Returns
    -------
    deviation : ndarray, shape (n, M)
        Its cross products are the covariance.
    se, df : ndarray, shape (M,)
        Standard errors, and their degrees of freedom.
    """
    deviation = np.zeros((len(stratum), replicates.shape[1]))
    total, below = np.zeros(replicates.shape[1]), np.zeros(replicates.shape[1])
    for one in np.unique(stratum):
        left_out = replicates[1:][stratum == one]
        n = len(left_out)
        deviation[stratum == one] = np.sqrt((n - 1) / n) * (left_out - left_out.mean(axis=0))
        variance = (deviation[stratum == one] ** 2).sum(axis=0)
        total += variance
        below += variance**2 / max(n - 1, 1)
    df = np.divide(total**2, below, out=np.full(total.shape, 2.0), where=below > 0)
    # Rounding of a constant is no spread.
    return deviation, np.where(total < 1e-20, 0.0, np.sqrt(total)), np.maximum(df, 2.0)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A statistic with its delete-one jackknife's standard error and degrees of freedom.

    Parameters
    ----------
    value, se, df : float
        NaN where it could not be computed.
    """

    value: float
    se: float
    df: float

    @classmethod
    def of(cls, replicates: Array, stratum: NDArray[np.int64]) -> "Moment":
        """From the full sample's value and those without each participant, shape (1 + n,).

        Examples
        --------
        >>> x = np.arange(10.0)
        >>> mean = Moment.of(np.append(x.mean(), (x.sum() - x) / 9), np.zeros(10, dtype=int))
        >>> low, high = mean.interval(0.95)
        >>> round(low, 3), round(high, 3), mean.df  # the t interval of a mean
        (2.334, 6.666, 9.0)
        """
        _, se, df = jackknife(replicates[:, None], stratum)
        return cls(value=float(replicates[0]), se=float(se[0]), df=float(df[0]))

    def interval(self, level: float) -> tuple[float, float]:
        """Student's interval."""
        reach = float(special.stdtrit(self.df, 0.5 + level / 2)) * self.se
        return self.value - reach, self.value + reach

    @property
    def t(self) -> float:
        """Value in standard errors."""
        return self.value / self.se if self.se > 0 else float("nan")

    @property
    def p_value(self) -> float:
        """Two-sided."""
        return float(2 * special.stdtr(self.df, -abs(self.t)))


@dataclass(frozen=True, kw_only=True)
class Region:
    """Lower and upper end of what is possible, each estimated; the lower one may come out above the upper one.

    References
    ----------
    Imbens GW, Manski CF. Econometrica 72:1845 (2004), doi 10.1111/j.1468-0262.2004.00555.x.
    """

    low: Moment
    high: Moment

    @cached_property
    def _gap(self) -> float:
        """Width of the region in units of the larger standard error."""
        return max(self.high.value - self.low.value, 0.0) / max(self.low.se, self.high.se)

    @cached_property
    def _df(self) -> float:
        return min(self.low.df, self.high.df)

    def coverage(self, q: float) -> float:
        """F(q + Δ/s) − F(−q): coverage of any point of the region by its ends ± q standard errors."""
        return float(special.stdtr(self._df, q + self._gap) - special.stdtr(self._df, -q))

    def reach(self, level: float) -> float:
        """The q whose coverage is ``level``."""
        low, high = 0.0, float(special.stdtrit(self._df, 0.5 + level / 2))
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if self.coverage(middle) < level else (low, middle)
        return (low + high) / 2


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component as it is told.

    Parameters
    ----------
    value, low, high : float
        Estimate and interval; the estimate is NaN where only a range is given.
    bound_low, bound_high : float
        What is possible without sampling error; NaN where there are no bounds.
    p_value, p_adjusted : float
        Smallest α whose 1 − α interval excludes 0; of a level alone, and of the interval that holds for all at once.
    word : str
        ``worse_near better_near not_shown`` of the tumor's part, ``shown negative negligible not_shown`` of others.
    status : Status
        Whether a number can be given.
    """

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    bound_low: float = float("nan")
    bound_high: float = float("nan")
    p_value: float = float("nan")
    p_adjusted: float = float("nan")
    word: str = "n/a"
    status: Status = Status.OK

    @property
    def given(self) -> bool:
        """Whether there is an interval; without one there is no word, and nothing to be said."""
        return bool(np.isfinite(self.low))


def word(low: float, high: float, shown: str = "shown", negative: str = "negative") -> str:
    """What an interval shows.

    Examples
    --------
    >>> word(0.01, 0.05), word(-0.01, 0.05), word(-0.02, -0.01)
    ('shown', 'not_shown', 'negative')
    """
    return shown if low > 0 else negative if high < 0 else "not_shown"


def plain(moment: Moment, level: float) -> Part:
    """A component without bounds: Student's interval."""
    low, high = moment.interval(level)
    return Part(value=moment.value, low=low, high=high, p_value=moment.p_value, word=word(low, high))


@dataclass(frozen=True, kw_only=True)
class Ends:
    """A systematic part and what is possible of it, all estimated: S, U and L0, or those less something.

    Parameters
    ----------
    point, upper, lower : Moment
        Stacked estimate; if the effect is gone beyond c; if as much of it is left there as λmax allows.
    """

    point: Moment
    upper: Moment
    lower: Moment

    @classmethod
    def of(cls, point: Array, upper: Array, lower: Array, stratum: NDArray[np.int64]) -> "Ends":
        """From replicates, each of shape (1 + n,)."""
        return cls(
            **{name: Moment.of(one, stratum) for name, one in (("point", point), ("upper", upper), ("lower", lower))}
        )

    @property
    def region(self) -> Region:
        """From the lower to the upper end."""
        return Region(low=self.lower, high=self.upper)

    def interval(self, level: float) -> tuple[float, float]:
        """Hull of the point's interval and of the region's."""
        low, high = self.point.interval(level)
        q = self.region.reach(level)
        upper, lower = self.upper, self.lower
        return min(low, lower.value - q * lower.se, upper.value - q * upper.se), max(high, upper.value + q * upper.se)

    @property
    def p_value(self) -> float:
        """The smallest α whose interval excludes 0; the last of its ends decides."""
        sign = 1 if self.point.value > 0 else -1
        q = min(self.lower.t, self.upper.t) if sign > 0 else -self.upper.t
        if q <= 0:
            return 1.0
        return max(self.point.p_value, 1 - self.region.coverage(q))

    @property
    def bounds(self) -> tuple[float, float]:
        """What is possible, sampling error aside."""
        return min(self.lower.value, self.upper.value, self.point.value), max(self.upper.value, self.point.value)

    def part(self, level: float, margin: float) -> Part:
        """The systematic part as it is told: without a point if the bounds are wider than the margin."""
        low, high = self.interval(level)
        return _part(
            self.point.value, self.bounds, margin, low=low, high=high, p_value=self.p_value, word=word(low, high)
        )


def _part(value: float, bounds: tuple[float, float], margin: float, **told: Any) -> Part:
    wide = bounds[1] - bounds[0] > margin
    status = Status.RANGE if wide else Status.OK
    return Part(value=float("nan") if wide else value, bound_low=bounds[0], bound_high=bounds[1], status=status, **told)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of one model: every sentence, word, status, p and figure reads this.

    Parameters
    ----------
    status : Status
        Whether a split can be given.
    total, systematic, tumor : Part
        The components; parts without a number where the status says so.
    margin, level : float
        Effect that counts as none, set beforehand; coverage of the intervals.
    beside : mapping of str to Part
        ``raw``, and with target controls ``acquisition`` and ``disease``.
    bundles : mapping of (str, str) to mapping of str to Part
        Of each bundle and hemisphere with rows of its own: its components, with intervals that hold for all at once.
    """

    status: Status
    total: Part
    systematic: Part
    tumor: Part
    margin: float
    level: float
    beside: Mapping[str, Part] = field(default_factory=dict[str, Part])
    bundles: Mapping[tuple[str, str], Mapping[str, Part]] = field(
        default_factory=dict[tuple[str, str], Mapping[str, Part]]
    )

    @property
    def parts(self) -> dict[str, Part]:
        """Every pooled component by its name."""
        return {"total": self.total, "systematic": self.systematic, "tumor": self.tumor, **self.beside}

    @property
    def margin_decides(self) -> bool:
        """Whether the drop is large enough for a part of the margin's size to be negligible."""
        return self.total.value > 2 * self.margin

    def record(self) -> dict[str, Any]:
        """What ``run.json`` keeps of it: status, margin, level, and the pooled components."""
        parts = {name: {**asdict(part), "status": str(part.status)} for name, part in self.parts.items()}
        return {"status": str(self.status), "margin": self.margin, "level": self.level, "components": parts}


def judge(
    total: Moment, systematic: Ends | None, tumor: Ends | None, *, status: Status, margin: float, level: float
) -> Verdict:
    """Words from unrounded ends by strict inequalities, the first that applies.

    Parameters
    ----------
    total : Moment
        T.
    systematic : Ends, optional
        S, U and L0; None where the status says why there is no split.
    tumor : Ends, optional
        T − S, T − U and T − L0.
    status : Status
        Of the design.
    margin, level : float
        As for `Verdict`.
    """
    # The stacked tumor's part alone may be 0 without spread: no shape of decay fits better than none.
    constant = not all(one.se > 0 for one in [total, *([] if tumor is None else [tumor.upper])])
    status = Status.CONSTANT if constant and status != Status.TOO_FEW else status
    if status != Status.OK or systematic is None or tumor is None:
        known = status != Status.TOO_FEW and total.se > 0
        whole = plain(total, level) if known else Part(value=total.value, status=status)
        none = Part(status=status)
        return Verdict(status=status, total=whole, systematic=none, tumor=none, margin=margin, level=level)
    ends, far, near = systematic.interval, systematic.part(level, margin), _tumor(tumor, level, margin)
    if near.word == "better_near":
        # U is no upper bound where the tumor's effect is negative: the pair far from the tumor, without bounds.
        ends, far = systematic.upper.interval, plain(systematic.upper, level)
    low, high = ends(0.90)
    if far.word == "not_shown" and -margin < low and high < margin and 2 * margin < total.value:
        far = replace(far, word="negligible")
    whole = plain(total, level)
    return Verdict(status=far.status, total=whole, systematic=far, tumor=near, margin=margin, level=level)


def _tumor(ends: Ends, level: float, margin: float) -> Part:
    """The tumor's part. Its interval holds its bounds, so that nothing is shown which the bounds leave open."""
    # The tumor's ends are T less the systematic part's, so that the greater of them is the one less L0.
    bounds = min(ends.upper.value, ends.point.value), max(ends.lower.value, ends.upper.value, ends.point.value)
    low, high = ends.point.interval(level)
    low = min(low, bounds[0])
    upper_low, upper_high = ends.upper.interval(level)
    # Above 0.5 each tail is a p of its own side; both are looked at. No α shows what the bounds leave open.
    below, above = (float(special.stdtr(one.df, one.t)) for one in (ends.upper, ends.point))
    p_value = min(1.0, 2 * min(1 - above if bounds[0] > 0 else 1.0, below))
    if not low > 0 and upper_high < 0:
        return Part(value=ends.upper.value, low=upper_low, high=upper_high, p_value=p_value, word="better_near")
    if not low > 0:
        # Its slopes are not negative: downwards the stacked estimate alone would have no sampling error.
        low = min(low, upper_low)
    q = Region(low=ends.upper, high=ends.lower).reach(level)
    # The last is the word's own limit: without it an interval could exclude 0 that no word tells of.
    high = max(high, ends.lower.value + q * ends.lower.se, upper_high)
    return _part(
        ends.point.value, bounds, margin, low=low, high=high, p_value=p_value, word=word(low, high, "worse_near")
    )
