"""Plans: they say what studies then show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import shiftkit as sk
from shiftkit.analyses.decomposition.anchored import anchored
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.validation.planning import Layout, plan, standard_layout
from shiftkit.analyses.validation.simulation import SPREADS, Scenario, simulate
from shiftkit.analyses.validation.study import validate_design
from shiftkit.catalogue import PLAN
from shiftkit.errors import DataError
from shiftkit.tables import read_table


@pytest.fixture(scope="module")
def layout() -> Layout:
    return standard_layout()


def test_scatter_is_read_off_controls() -> None:
    """Person and row scatter of simulated Dice are found within a fifth, whatever the patients score."""
    rng = np.random.default_rng(1)
    people, rows = rng.normal(0, 0.04, (200, 1)), rng.normal(0, 0.03, (200, 10))
    frame = simulate(Scenario(n_patients=20, n_controls=200, spread=replace(SPREADS["low"], missing=0.0)), rng)
    controls = frame["group"] == "control"
    frame.loc[controls, "value"] = (0.7 + people + rows).ravel()
    found = Layout.of(build_rows(frame, "dice"))
    assert found.person == pytest.approx(0.04, rel=0.2) and found.row == pytest.approx(0.03, rel=0.2)


@pytest.mark.slow
def test_widths_are_those_of_studies_of_that_size(layout: Layout) -> None:
    """What a plan says of 30 + 30 lies within 15 % of the median width over cohorts that another simulator draws."""
    scenario = Scenario(n_patients=30, n_controls=30, systematic=0.3, tumor=0.3, spread=SPREADS["middle"])
    made = [simulate(scenario, np.random.default_rng([5, number])) for number in range(60)]
    told = [anchored(build_rows(frame, "dice")).verdict(0.02).systematic for frame in made]
    planned = plan(30, 30, layout, replicates=60).table.iloc[0]
    assert planned["width_systematic"] == pytest.approx(np.median([one.high - one.low for one in told]), rel=0.15)


def test_without_effects_there_is_hardly_any_power(layout: Layout) -> None:
    """The share of studies that show a part which is not there stays below 0.10 in 100 of them."""
    made = plan(30, 30, layout, systematic=0.0, tumor=0.0, replicates=100).table.iloc[0]
    assert max(made["power_systematic"], made["power_tumor"]) <= 0.10


def test_more_people_narrow_the_interval_and_few_give_none(layout: Layout) -> None:
    """Four times the people: about half as wide. Eight patients: no split at all, and the claim says so."""
    small, large = (plan(n, n, layout, replicates=30).table.iloc[0] for n in (25, 100))
    assert 0.35 < large["width_systematic"] / small["width_systematic"] < 0.65
    few = plan(8, 20, layout, replicates=10)
    assert few.table["withheld"].iloc[0] == 1 and "a total and no split" in few.claim


def test_one_hemisphere_is_said_first_and_the_other_is_offered() -> None:
    """With the left side alone the claim begins with how little can be named; a variant adds the right side."""
    made = plan(30, 20, standard_layout(("left",)), replicates=20)
    assert made.claim.startswith("With one hemisphere only, both parts are named in")
    both = made.table.set_index("variant").loc["the other hemisphere too"]
    assert both["width_systematic"] < made.table["width_systematic"].iloc[0]


def test_a_run_lends_its_design(tmp_path: Path) -> None:
    """``--from`` takes bundles and distances of a table of scores and writes its own; one control is too few."""
    frame = simulate(Scenario(n_patients=12, n_controls=8), np.random.default_rng(0))
    frame.to_csv(tmp_path / "scores.tsv", sep="\t", index=False, na_rep="n/a")
    made = sk.plan(20, 10, run=tmp_path / "scores.tsv", replicates=10, jobs=1, out=tmp_path)
    written = read_table(tmp_path / "tables" / "plan.tsv", PLAN)
    assert written["variant"].tolist() == made.table["variant"].tolist()
    assert written["n_patients"].tolist()[:3] == [20, 30, 20]
    one = frame[(frame["group"] == "glioma") | (frame["participant_id"] == frame["participant_id"].iloc[-1])]
    with pytest.raises(DataError, match="two controls"):
        Layout.of(build_rows(one, "dice"))


@pytest.mark.slow
def test_the_own_design_is_judged_by_its_own_distances(tmp_path: Path) -> None:
    """With far bundles both parts are covered, and hardly a split withheld, in 60 cohorts a shape; without, all are."""
    frame = simulate(Scenario(n_patients=25, n_controls=20), np.random.default_rng(3))
    made = validate_design(build_rows(frame, "dice"), replicates=60).table
    cover = made[made["property"].str.startswith("coverage")]
    assert (cover["high"] >= 0.93).all() and len(cover) == 9
    assert (made[made["property"] == "withheld"]["value"] < 0.1).all()
    near = frame[(frame["group"] == "control") | (frame["tumor_distance_mm"] < 15)]
    near.to_csv(tmp_path / "near.tsv", sep="\t", index=False, na_rep="n/a")
    withheld = sk.validate(10, design=tmp_path / "near.tsv", jobs=1).table
    assert (withheld[withheld["property"] == "withheld"]["value"] == 1).all()
