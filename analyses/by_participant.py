"""Means and shares over participants, whose several bundles are not independent of each other."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..status import Status
from ..types import Estimate
from .resampling import draw_weights, expansion, interval

_DRAWS = 2000
_FEWEST = 5
"""Draws from fewer participants do not reach beyond those there are: no interval."""


def mean_over_participants(rows: pd.DataFrame, column: str, name: str = "mean", level: float = 0.95) -> Estimate:
    """Mean of a column, each participant's rows averaged first.

    Parameters
    ----------
    rows : DataFrame
        With ``participant_id``; rows without a value do not count.
    column : str
        The values, in mm.
    name : str
        Of the estimate.
    level : float
        Of the expanded percentile interval over participants, 2,000 draws of a fixed seed; NaN under five participants.

    Examples
    --------
    >>> rows = pd.DataFrame({"participant_id": ["sub-1", "sub-1", "sub-2"], "mm": [1.0, 3.0, 4.0]})
    >>> mean_over_participants(rows, "mm").value
    3.0
    """
    own = _own_means(rows, column)
    n = own.size
    if not n:
        return Estimate(name=name, value=float("nan"), unit="mm", level=level, status=Status.TOO_FEW)
    low, high = float("nan"), float("nan")
    if n >= _FEWEST:
        weights = draw_weights((n,), _DRAWS, np.random.default_rng(0))
        low, high = interval(weights @ own / n, level, n)
    return Estimate(name=name, value=float(own.mean()), low=low, high=high, level=level, unit="mm", n=n)


def share_over_participants(rows: pd.DataFrame, column: str, name: str = "share", level: float = 0.95) -> Estimate:
    r"""Mean share of a participant's rows for which a column is true.

    The interval is Wilson's with the effective number of rows :math:`p (1 - p) / s^2`, where :math:`s` is the standard
    error of the mean over participants, but at least as many as participants: at 0 and 1, where nothing varies, the
    participants are what is there. It is widened as Student's is over the normal one.

    References
    ----------
    Korn EL, Graubard BI. Survey Methodology 24:193 (1998); Brown LD, Cai TT, DasGupta A. Statist. Sci. 16:101 (2001),
    doi 10.1214/ss/1009213286.

    Examples
    --------
    >>> rows = pd.DataFrame({"participant_id": [f"sub-{i}" for i in range(10)], "beyond": [False] * 10})
    >>> found = share_over_participants(rows, "beyond")
    >>> found.value, bool(found.high > 0.25)
    (0.0, True)
    """
    own = _own_means(rows, column)
    n = own.size
    if not n:
        return Estimate(name=name, value=float("nan"), level=level, status=Status.TOO_FEW)
    share = float(own.mean())
    if n < 2:
        return Estimate(name=name, value=share, level=level, n=n)
    error = float(own.var(ddof=1)) / n
    count = min(max(share * (1 - share) / error, n), len(rows)) if error > 0 else n
    reach = expansion(n, level) * float(stats.norm.ppf(0.5 + level / 2))
    middle = (share + reach**2 / (2 * count)) / (1 + reach**2 / count)
    half = reach / (1 + reach**2 / count) * float(np.sqrt(share * (1 - share) / count + reach**2 / (4 * count**2)))
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Estimate(name=name, value=share, low=low, high=high, level=level, n=n)


def _own_means(rows: pd.DataFrame, column: str) -> Any:
    given = rows[rows[column].notna()]
    return given[column].astype(float).groupby(given["participant_id"]).mean().to_numpy()


def in_percent(one: Estimate) -> str:
    """A share with its interval, such as ``20% [5%, 50%]``."""
    return f"{one.value:.0%}" + (f" [{one.low:.0%}, {one.high:.0%}]" if np.isfinite(one.low) else "")


def in_mm(one: Estimate) -> str:
    """A length with its interval, such as ``1.20 [1.00, 1.40] mm``."""
    return f"{one.value:.2f}" + (f" [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else "") + " mm"
