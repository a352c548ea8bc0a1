import dataclasses
from pathlib import Path

import numpy as np
import pytest
from makers.segmentation import BUNDLES, PATCH, Counting, MakeModel, on_grid

from shiftkit.segmentation.prediction.calibration import (
    ABSTAIN_BELOW,
    THRESHOLDS,
    answers,
    choose_thresholds,
    confidence,
    measure_overconfidence,
)
from shiftkit.segmentation.prediction.inference import infer
from shiftkit.types import Cohort


def test_expected_dice_is_right_for_calibrated_probabilities() -> None:
    """Where voxels are drawn from their probabilities, the expected Dice is the mean of the drawn ones."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.5, 0.5, (12, 12, 12))
    mask = probability >= 0.5
    drawn = [rng.random(probability.shape) < probability for _ in range(200)]
    dice = [2 * (mask & one).sum() / (mask.sum() + one.sum()) for one in drawn]
    assert confidence(probability, mask).predicted_dice == pytest.approx(np.mean(dice), abs=0.002)


def test_confidence_at_its_limits() -> None:
    """Certainty has no entropy; a coin flip has one bit; an empty mask is nothing to rely on."""
    ones = np.ones((2, 2, 2))
    assert confidence(ones, ones > 0.5).entropy_bits == 0 and not confidence(ones, ones > 0.5).abstain
    assert confidence(ones / 2, ones > 0).entropy_bits == 1
    empty = confidence(ones * 0.01, ones > 2)
    assert empty.predicted_dice == 0 < ABSTAIN_BELOW and empty.abstain and np.isnan(empty.entropy_bits)


def test_overconfidence_is_taken_off(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """On the participants it was measured on, the corrected expected Dice is the true one on average."""
    model = make_model()
    samples = on_grid(controls)
    sure = dataclasses.replace(model, thresholds=dict.fromkeys(BUNDLES, 0.3))
    excess = measure_overconfidence(sure, answers(sure, samples))
    gaps = []
    for sample in samples:
        for probability, reference in zip(infer([sure], sample), sample.target, strict=True):
            mask = probability >= 0.3
            true = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
            gaps.append(confidence(probability, mask, excess).predicted_dice - true)
    assert abs(np.mean(gaps)) < 1e-3 < abs(excess)
    assert measure_overconfidence(sure, []) == 0


def test_thresholds_are_the_best_of_the_grid(controls: Cohort, make_model: MakeModel) -> None:
    """No other threshold of the grid has a higher mean Dice; bundles that nobody has keep theirs."""
    model = make_model()
    samples = on_grid(controls.cases[:2])
    chosen = choose_thresholds(model, answers(model, samples))

    def mean_dice(column: int, threshold: float) -> float:
        values = []
        for sample in samples:
            inside = infer([model], sample)[column] >= threshold
            reference = sample.target[column]
            values.append(2 * (inside & reference).sum() / (inside.sum() + reference.sum()))
        return float(np.mean(values))

    for column, bundle in enumerate(BUNDLES):
        assert mean_dice(column, chosen[bundle]) >= max(mean_dice(column, one) for one in THRESHOLDS) - 1e-4
    unknown = [dataclasses.replace(sample, known=np.array([False, True])) for sample in samples]
    assert choose_thresholds(model, answers(model, unknown))[BUNDLES[0]] == 0.5
    assert choose_thresholds(model, []) == model.thresholds


def test_thresholds_and_overconfidence_are_measured_in_windows(controls: Cohort, make_model: MakeModel) -> None:
    """What is chosen on validation participants is chosen for predictions as they will be made."""
    model = make_model()
    network = Counting(model.network)
    patched = dataclasses.replace(model, network=network, patch=PATCH)
    samples = [on_grid(controls.cases[:1])[0]]
    answers(patched, samples)
    assert set(network.seen) == {(1, 4, *PATCH)}
