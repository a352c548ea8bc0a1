"""The page of a replication: numbers as sentences have them, each row with its input, no figure without a number."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from makers import simulated

from shiftkit.analyses.replication.conditions import Arm
from shiftkit.analyses.replication.study import replicate
from shiftkit.analyses.statistics.inference import Inference

INFERENCE = Inference(n_bootstrap=100, n_permutations=99)


def _arm(modality: str = "peaks") -> Arm:
    parts = [simulated.scores(12, 10, model="m"), simulated.scores(12, 10, systematic=0.7, model="m+decoder")]
    scores = pd.concat(parts, ignore_index=True)
    one_bundle = scores[scores["bundle"] == "AF"]
    return Arm(modality=modality, training="plain", source="m", scores=one_bundle.assign(modality=modality))


def _found(*arms: Arm, **more: Any) -> Any:
    return replicate(arms, primary="decoder", inference=INFERENCE, **more)


def test_every_number_names_its_input() -> None:
    """Of two inputs no two estimates are called alike."""
    names = [one.name for one in _found(_arm(), _arm("t1w")).estimates]
    assert len(set(names)) == len(names)
    assert "peaks: drop" in names and "t1w: drop" in names


def test_negative_numbers_have_the_minus_sign_of_other_sentences() -> None:
    """U+2212 in what is said of strategies that score less, and no hyphen before a digit."""
    arm = _arm()
    worse = arm.scores["model"] == "m+decoder"
    arm = replace(arm, scores=arm.scores.assign(value=arm.scores["value"] - 0.1 * worse))
    told = {one.key: one.claim for one in _found(arm).findings}
    assert "changes the score by peaks: −0." in told["contrasts"]
    assert not any(f"{before}-{digit}" in text for text in told.values() for before in " [" for digit in "0123456789")


def test_a_figure_without_a_number_is_not_drawn() -> None:
    """Where nobody was scored there are answers, each undecided, and no empty axes."""
    arm = _arm()
    nothing = replace(arm, scores=arm.scores.assign(value=np.nan))
    curves = pd.DataFrame(
        [{"modality": "peaks", "training": "plain", "strategy": "decoder", "quantity": "dice", "shots": 2}]
    ).assign(value=np.nan, low=np.nan, high=np.nan)
    found = _found(nothing, curves=curves)
    assert {one.word for number in (1, 2, 3) for one in found.of(number)} == {"undecided"}
    assert {one.key for one in found.findings if one.figure is not None} == set()
    assert {"conditions", "curves"} <= {one.key for one in found.findings}
