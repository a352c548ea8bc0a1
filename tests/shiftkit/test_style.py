from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from shiftkit import style


def axes(width: float = 5.2) -> Any:
    return Figure(figsize=(width, 3.2)).add_subplot()


def test_intervals_reach_from_low_to_high_and_a_missing_limit_draws_none() -> None:
    """Whiskers end at the limits given, along y or, lying, along x; where a limit is NaN only the dot is drawn."""
    for lying in (False, True):
        ax = axes()
        style.intervals(ax, [0, 1], [1.0, 2.0], [0.5, np.nan], [3.0, np.nan], lying=lying)
        (bars,) = ax.containers[0][2]
        ends = [np.asarray(one)[:, 0 if lying else 1].tolist() for one in bars.get_segments()]
        assert ends == [[0.5, 3.0], [2.0, 2.0]]


def test_a_limit_on_the_wrong_side_by_rounding_is_drawn() -> None:
    """An interval whose limit passes its value by rounding makes no error bar of negative length."""
    style.intervals(axes(), [0], [1.0], [1.0 + 1e-16], [1.0 - 1e-16])


def test_series_differ_in_more_than_color() -> None:
    """Of four series no two share a color, a marker, a line or a hatch."""
    looks = [style.look(place) for place in range(4)]
    for kind in ("color", "marker", "line", "hatch"):
        assert len({getattr(one, kind) for one in looks}) == 4


def test_a_legend_stands_only_where_something_has_a_label() -> None:
    """Without labels there is no legend and no warning; above narrow axes the entries stand in one column."""
    empty, narrow, wide = axes(), axes(3.5), axes(7.5)
    style.legend_above(empty)
    assert empty.get_legend() is None
    for ax, columns in ((narrow, 1), (wide, 3)):
        ax.plot([0, 1], label="one")
        style.legend_above(ax)
        assert ax.get_legend()._ncols == columns


@pytest.mark.parametrize("name", ["name_rows", "name_columns"])
def test_names_stand_in_order_beside_a_line_at_zero(name: str) -> None:
    """The first name stands above the others, or left of them; the line is left out on request."""
    ax, bare = axes(), axes()
    getattr(style, name)(ax, ["a", "b"])
    getattr(style, name)(bare, ["a", "b"], zero=None)
    ticks = ax.yaxis if name == "name_rows" else ax.xaxis
    assert [one.get_text() for one in ticks.get_ticklabels()] == ["a", "b"]
    assert ax.yaxis_inverted() == (name == "name_rows") and len(ax.lines) == 1 and not bare.lines
