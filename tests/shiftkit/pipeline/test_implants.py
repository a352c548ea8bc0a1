"""What a check with implants refuses, before anything is computed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from makers.decompositions import DESIGN

import shiftkit as sk
from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.errors import ConfigError, DataError
from shiftkit.pipeline.implants import chosen_controls, require_checkable, require_unseen
from shiftkit.pipeline.inputs import Inputs, Tool
from shiftkit.types import Case, Cohort


def people(n: int, tumor: Path | None = None) -> Cohort:
    cases = tuple(Case(participant_id=f"sub-{i}", tumor=tumor) for i in range(n))
    return Cohort(name="people", root=Path(), cases=cases)


@pytest.fixture
def make_inputs() -> Callable[[int], Inputs]:
    def make(n_controls: int) -> Inputs:
        predicted = find_predictions(people(1))
        return Inputs(
            model=Tool(name="tool", predicted=predicted), patients=people(1), controls=people(n_controls), seen=()
        )

    return make


def test_a_check_needs_tumors_and_enough_controls() -> None:
    """Patients without a tumor mask, more controls than there are, and an anonymous run are refused by name."""
    patients = people(3, Path("tumor.nii.gz"))
    asked = replace(DESIGN, check_with_implants=3)
    require_checkable(asked, {"patients": patients, "controls": people(3)})
    with pytest.raises(ConfigError, match="asks for 3 controls; people has 2"):
        require_checkable(asked, {"patients": patients, "controls": people(2)})
    with pytest.raises(DataError, match="nobody of people has a tumor mask"):
        require_checkable(asked, {"patients": people(3), "controls": people(3)})
    with pytest.raises(ConfigError, match="`anonymous` must not hold"):
        require_checkable(replace(asked, anonymous=True), {"patients": patients, "controls": people(3)})


def test_only_unseen_controls_count(make_inputs: Callable[[int], Inputs]) -> None:
    """Those that the model has seen are gone by now: what is left must suffice."""
    asked = replace(DESIGN, check_with_implants=3)
    require_unseen(asked, make_inputs(3))
    require_unseen(DESIGN, make_inputs(0))
    with pytest.raises(ConfigError, match="people has 2 that the model has not seen"):
        require_unseen(asked, make_inputs(2))


def test_the_same_seed_draws_the_same_controls() -> None:
    """As many as were asked for, whatever order they stand in; another seed draws others."""
    controls = people(20)
    turned = replace(controls, cases=controls.cases[::-1])
    asked = replace(DESIGN, check_with_implants=6)
    names = [{case.key for case in chosen_controls(one, asked)} for one in (controls, turned)]
    assert len(names[0]) == 6 and names[0] == names[1]
    other = replace(asked, inference=replace(asked.inference, seed=5))
    assert {case.key for case in chosen_controls(controls, other)} != names[0]


def test_a_check_needs_a_network(tmp_path: Path) -> None:
    """Scores, and masks that others made, cannot be made anew with a tumor."""
    for given in ({"scores": tmp_path / "scores.csv"}, {"predictions": [tmp_path]}):
        with pytest.raises(ConfigError, match="which needs a network"):
            sk.decompose(out=tmp_path / "run", check_with_implants=3, **given)
