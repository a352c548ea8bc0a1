"""Answers: an interval decides, what is not shown cannot be handled, and no point estimate is a verdict."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from makers import simulated

from shiftkit.analyses.replication.answers import NOT_SUPPORTED, SUPPORTED, UNDECIDED, Answer, answers, decided
from shiftkit.analyses.replication.conditions import Arm
from shiftkit.analyses.replication.study import replicate
from shiftkit.analyses.statistics.inference import Inference

INFERENCE = Inference(n_bootstrap=200, n_permutations=199)
BEFORE: dict[str, Any] = {"systematic": 0.8, "tumor": 1.5}
POOR: dict[str, Any] = {"systematic": 1.2, "tumor": 1.5}


def _arm(after: dict[str, Any], scratch: dict[str, Any] | None, before: dict[str, Any] = BEFORE, n: int = 30) -> Arm:
    """Scores of the same people by three networks with these effects; people and noise are those of one seed."""
    parts = [simulated.scores(n, 20, model="m", **before), simulated.scores(n, 20, model="m+decoder", **after)]
    if scratch is not None:
        parts.append(simulated.scores(n, 20, model="m+scratch", **scratch))
    return Arm(modality="peaks", training="plain", source="m", scores=pd.concat(parts, ignore_index=True))


def _asked(arm: Arm, bundle: str = "all") -> dict[int, Answer]:
    return {one.finding: one for one in answers(arm, ("decoder",), 0.02, INFERENCE, bundle)}


def _words(arm: Arm) -> list[str]:
    return [one.word for one in _asked(arm).values()]


def test_what_the_paper_found_is_supported_where_it_is_so() -> None:
    """Most of the systematic part is repaired, better than from scratch, and hardly any of the tumor's."""
    arm = _arm({"systematic": 0.1, "tumor": 1.4}, POOR)
    assert _words(arm) == [SUPPORTED] * 3
    found = _asked(arm)
    assert found[1].criteria[0].estimate.low > 0
    assert f"{found[1].criteria[0].estimate.value:.3f}" in found[1].sentence
    assert [row["criterion"] for row in found[2].rows] == ["systematic_repaired", "gain_over_scratch"]


@pytest.mark.parametrize(
    ("after", "scratch", "words"),
    [
        ({"systematic": 0.1, "tumor": 0.1}, POOR, [SUPPORTED, SUPPORTED, NOT_SUPPORTED]),  # the tumor's is handled too
        ({"systematic": 0.7, "tumor": 1.4}, POOR, [SUPPORTED, NOT_SUPPORTED, SUPPORTED]),  # little is repaired
        ({"systematic": 0.1, "tumor": 1.4}, {"systematic": 0.0, "tumor": 1.0}, [SUPPORTED, NOT_SUPPORTED, SUPPORTED]),
        ({"systematic": 0.1, "tumor": 1.4}, None, [SUPPORTED, UNDECIDED, SUPPORTED]),  # scratch was not tried
    ],
)
def test_each_finding_can_fail_alone(after: dict[str, Any], scratch: dict[str, Any] | None, words: list[str]) -> None:
    """A part that is handled or not, and a scratch that is as good, turn the findings that they concern."""
    assert _words(_arm(after, scratch)) == words


def test_what_is_not_there_cannot_be_handled() -> None:
    """Without a drop the first finding is not supported, and the others are undecided, with the reason."""
    arm = _arm({"systematic": 0.0, "tumor": 0.0}, POOR, before={"systematic": 0.0, "tumor": 0.0, "between": 0.05}, n=60)
    found = _asked(arm)
    assert found[1].word in (NOT_SUPPORTED, UNDECIDED) and found[1].criteria[0].estimate.low < 0
    assert found[2].word == UNDECIDED and "is not shown" in found[2].sentence
    assert found[3].word == UNDECIDED and "is not shown" in found[3].sentence


@pytest.mark.slow  # fifteen seconds
def test_half_repaired_is_undecided() -> None:
    """Where the truth lies on the line between the answers, noise must not decide: at most 2 of 12 cohorts do."""
    wrong = 0
    for seed in range(12):
        more = {"seed": seed, "between": 0.1}
        before = simulated.scores(30, 30, **BEFORE, **more)
        after = before.assign(model="m+decoder")
        # The mean of no drop, known from a cohort without effects and the same noise, and the drop: half of it is back.
        healthy = simulated.scores(30, 30, systematic=0.0, tumor=0.0, **more)["value"]
        noise = simulated.scores(30, 30, systematic=0.0, tumor=0.0, between=0.1, seed=seed + 100)["value"]
        after["value"] = (before["value"] + healthy) / 2 + (noise - noise.mean()) / 4
        arm = Arm(modality="peaks", training="plain", source="m", scores=pd.concat([before, after]))
        found = _asked(arm)
        wrong += found[2].criteria[0].word != UNDECIDED
        wrong += found[3].word != UNDECIDED
    assert wrong <= 2


def test_few_patients_decide_nothing_about_parts() -> None:
    """Of six patients there is a total and no split: the second and third finding are undecided and say why."""
    found = _asked(_arm({"systematic": 0.1, "tumor": 1.4}, POOR, n=6))
    assert [found[number].word for number in (2, 3)] == [UNDECIDED] * 2
    assert "fewer than 10 patients" in found[3].sentence


def test_a_bundle_is_asked_alone() -> None:
    """Both sides of one bundle; a bundle that nobody has is undecided instead of an error."""
    arm = _arm({"systematic": 0.1, "tumor": 1.4}, POOR)
    assert _asked(arm, "AF")[1].word == SUPPORTED and ", AF: supported" in _asked(arm, "AF")[1].sentence
    assert _asked(arm, "CC")[1].word == UNDECIDED


def test_a_small_effect_is_not_a_finding() -> None:
    """An interval above 0 and below the margin does not support; one that holds both margin and 0 decides nothing."""
    assert decided(0.001, 0.015, least=0.02) == NOT_SUPPORTED
    assert decided(0.001, 0.030, least=0.02) == SUPPORTED
    assert decided(-0.010, 0.030, least=0.02) == UNDECIDED


def test_a_network_that_has_learned_nothing_answers_nothing() -> None:
    """Where unseen controls score next to nothing there is no drop to be seen, and that supports no answer."""
    arm = _arm({"systematic": 0.1, "tumor": 1.4}, POOR)
    poor = Arm(modality="peaks", training="plain", source="m", scores=arm.scores.assign(value=arm.scores["value"] / 50))
    assert _words(poor) == [UNDECIDED] * 3
    assert "has not learned to segment" in _asked(poor)[1].sentence


def _in_patients(arm: Arm, model: str, values: Any) -> Arm:
    """The arm with other scores of one network in patients."""
    scores = arm.scores.copy()
    own = (scores["model"] == model) & (scores["group"] == "glioma")
    scores.loc[own, "value"] = values
    return replace(arm, scores=scores)


@pytest.mark.parametrize("level", [0.02, 0.25])
def test_a_collapsed_network_repairs_nothing(level: float) -> None:
    """Where fine-tuning ends at the floor, near and far alike, the tumor's part is gone and nothing is repaired."""
    arm = _arm({"systematic": 0.1, "tumor": 1.4}, POOR)
    n = int(((arm.scores["model"] == "m+decoder") & (arm.scores["group"] == "glioma")).sum())
    found = _asked(_in_patients(arm, "m+decoder", np.random.default_rng(0).normal(level, 0.005, n)))
    assert [found[number].word for number in (1, 2, 3)] == [SUPPORTED, UNDECIDED, UNDECIDED]
    assert f"fine-tuned by decoder scores {level:.2f} in patients: it has not learned" in found[3].sentence


def test_a_network_from_scratch_that_learned_nothing_is_no_rival() -> None:
    """A gain over a network at the floor is told and supports nothing."""
    found = _asked(_in_patients(_arm({"systematic": 0.1, "tumor": 1.4}, POOR), "m+scratch", 0.02))
    assert [found[number].word for number in (1, 2, 3)] == [SUPPORTED, UNDECIDED, SUPPORTED]
    assert "trained from scratch scores 0.02 in patients" in found[2].sentence


def test_who_was_not_scored_is_left_out_and_named() -> None:
    """One patient without scores after fine-tuning, or from scratch, leaves the other patients' answers."""
    arm = _arm({"systematic": 0.1, "tumor": 1.4}, POOR)
    for model in ("decoder", "scratch"):
        lost = (arm.scores["model"] == f"m+{model}") & (arm.scores["participant_id"] == "sub-003")
        found = _asked(replace(arm, scores=arm.scores[~lost]))
        assert [one.word for one in found.values()] == [SUPPORTED] * 3
        assert f"without 1 patient not scored after {model}: sub-003" in found[2].sentence
        assert found[1].criteria[0].estimate.n == 30
        assert found[3].criteria[0].estimate.n == (29 if model == "decoder" else 30)


def test_a_strategy_that_scored_nobody_takes_only_its_own_answers() -> None:
    """Of a further strategy the others stay as they are; of the one that judges, the first finding, with a reason."""
    arm = _arm({"systematic": 0.1, "tumor": 1.4}, POOR)
    found = answers(arm, ("decoder", "head"), 0.02, INFERENCE)
    assert [(one.strategy, one.word) for one in found] == [
        ("none", SUPPORTED),
        ("decoder", SUPPORTED),
        ("decoder", SUPPORTED),
        ("head", UNDECIDED),
        ("head", UNDECIDED),
    ]
    lost = replicate([arm], primary="head", inference=INFERENCE)
    assert [one.word for number in (1, 2, 3) for one in lost.of(number)] == [SUPPORTED, UNDECIDED, UNDECIDED]
    assert "no patient was scored after head" in str(lost) and "systematic part: undecided with peaks" in lost.claim


def test_a_number_that_is_not_given_has_its_reason_as_status() -> None:
    """No row of the table is ok without a value, and each has the status of the split."""
    found = answers(_arm({"systematic": 0.1, "tumor": 1.4}, POOR, n=6), ("decoder",), 0.02, INFERENCE)
    table = pd.DataFrame([row for one in found for row in one.rows]).set_index("criterion")
    assert set(table.loc[["systematic_repaired", "tumor_left"], "status"]) == {"too_few_for_split"}
    assert (table.loc[table["value"].isna(), "status"] != "ok").all()
    assert "an amount" not in " ".join(one.sentence for one in found)
