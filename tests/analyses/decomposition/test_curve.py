"""The curve, and how far the tumor reaches."""

import numpy as np
from makers import simulated
from makers.decompositions import FAST

from shiftkit.analyses.decomposition.study import decompose


def test_the_reach_of_the_tumor_is_where_its_effect_meets_the_margin() -> None:
    """Beyond the stated distance the curve lies within the margin of its far end, and just before it does not."""
    result = decompose(simulated.scores(60, 60, seed=2), **FAST)
    reach = next(one for one in result.estimates if one.name == "tumor_reach")
    assert reach.low <= reach.value <= reach.high
    curve = result.curve[result.curve["shape"] == "exponential"]
    excess = np.interp([reach.value - 3, reach.value + 3], curve["distance_mm"], curve["drop"]) - curve["drop"].iloc[-1]
    assert excess[0] > 0.02 > excess[1]
