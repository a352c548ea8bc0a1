"""Foresight: a link is found out of sample where there is one, and nowhere else."""

import pandas as pd
from makers.feature_cohorts import linked

from shiftkit.analyses.features.foresight import foresee
from shiftkit.analyses.statistics.inference import Inference


def test_a_shift_that_costs_dice_foretells_it_out_of_sample() -> None:
    """Drops that grow with the shift are predicted in held-out patients; the interval of the skill is above 0."""
    result = foresee(*linked(), inference=Inference(n_bootstrap=300))
    shift, prediction, skill = result.estimates
    assert shift.value > 0.7 and shift.p_value < 0.01
    assert prediction.low > 0.5 and skill.low > 0
    assert "foretells" in result.claim
    assert result.table["predicted"].notna().all()


def test_a_shift_that_costs_nothing_foretells_nothing() -> None:
    """Without a link no skill is claimed, in 10 of 10 cohorts."""
    for seed in range(10):
        result = foresee(*linked(12, link=0.0, seed=seed), inference=Inference(n_bootstrap=200, seed=seed))
        assert "is not shown to foretell" in result.claim


def test_the_prediction_of_a_patient_never_saw_their_score() -> None:
    """Changing one patient's own scores leaves their own predictions as they were."""
    made, scores = linked()
    worse = scores.copy()
    own = scores["participant_id"] == "sub-030"
    worse.loc[own, "value"] -= 0.5
    first, second = (
        foresee(made, each, inference=Inference(n_bootstrap=100))
        .table.set_index("participant_id")
        .loc["sub-030", "predicted"]
        for each in (scores, worse)
    )
    pd.testing.assert_series_equal(first, second)


def test_too_few_patients_for_a_link_have_a_status() -> None:
    """With five patients a status stands in every row and the claim says why."""
    made, scores = linked(5)
    result = foresee(made, scores)
    assert set(result.table["status"]) == {"too_few"}
    assert "Too few" in result.claim
