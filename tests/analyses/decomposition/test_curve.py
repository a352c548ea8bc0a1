"""The curve, and how far the tumor reaches."""

import numpy as np
from makers import simulated
from makers.decompositions import FAST, pooled

from shiftkit.analyses.decomposition.study import decompose


def test_the_reach_of_the_tumor_is_where_its_effect_meets_the_margin() -> None:
    """Beyond the stated distance the curve lies within the margin of its far end, and just before it does not."""
    result = decompose(simulated.scores(60, 60, seed=2), **FAST)
    reach = next(one for one in result.estimates if one.name == "tumor_reach")
    assert reach.low <= reach.value <= reach.high
    curve = result.curve[result.curve["shape"] == "exponential"]
    excess = np.interp([reach.value - 3, reach.value + 3], curve["distance_mm"], curve["drop"]) - curve["drop"].iloc[-1]
    assert excess[0] > 0.02 > excess[1]


def test_the_stacked_curve_ends_in_the_systematic_part_with_its_interval() -> None:
    """Far away the curve is the stacked systematic part, and near the tumor it lies above it."""
    result = decompose(simulated.scores(30, 30, decay_mm=6.0, seed=4), **FAST)
    curve = result.curve[result.curve["shape"] == "stacked"].reset_index(drop=True)
    last, systematic = curve.iloc[-1], pooled(result, "systematic")
    assert abs(last["drop"] - systematic["estimate"]) < 2e-4
    # The printed interval is the hull of this one and the bounds'.
    assert systematic["low"] - 1e-3 <= last["low"] < last["drop"] < last["high"] <= systematic["high"] + 1e-3
    assert curve["drop"].iloc[0] > last["drop"] and (np.diff(curve["drop"]) <= 1e-12).all()


def test_a_notebook_shows_the_first_figure_with_the_sentence() -> None:
    """The representation holds the claim and the drawing of the parts, and no pyplot figure stays open."""
    import matplotlib.pyplot as plt

    result = decompose(simulated.scores(12, 12, seed=3), **FAST)
    text = result._repr_html_()
    assert text.startswith("<p>") and "<svg" in text and "Loss against controls" in text
    assert text.index(">systematic<") > text.index("<svg") and plt.get_fignums() == []


def test_patients_points_are_means_of_their_own_rows() -> None:
    """Points of the total have the total as their mean; the tumor's are near less far of patients who have both."""
    table = simulated.scores(20, 20, seed=3)
    result = decompose(table, **FAST)
    points = result.participants
    means = points.groupby("component")["value"].mean()
    assert abs(means["total"] - pooled(result, "total")["estimate"]) < 1e-12
    controls = table[table["group"] == "control"].groupby(["bundle", "hemisphere"])["value"].mean()
    one = table[table["participant_id"] == points[points["component"] == "tumor"]["participant_id"].iloc[0]]
    loss = controls.loc[list(zip(one["bundle"], one["hemisphere"], strict=True))].to_numpy() - one["value"].to_numpy()
    distance = one["tumor_distance_mm"].to_numpy()
    wanted = loss[distance <= 10].mean() - loss[distance > 40].mean()
    assert abs(points[points["component"] == "tumor"]["value"].iloc[0] - wanted) < 1e-12
    near = table[table["tumor_distance_mm"] <= 10]["participant_id"].nunique()
    assert (points["component"] == "tumor").sum() <= near < 20
