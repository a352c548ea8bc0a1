"""The tumors' mean push out of displacements that are mostly individual anatomy."""

import numpy as np
import pytest
from makers.bundles import SKELETONS_MM, course, pushed_rows

from shiftkit.analyses.deformation.push import Push, pattern_of
from shiftkit.analyses.statistics.inference import Inference


@pytest.mark.parametrize("amplitude", [0.0, 0.15])
def test_the_mean_push_is_recovered_with_its_interval(amplitude: float) -> None:
    """Anatomy is 2 mm and the push 0.5 mm or none: bias under 0.06 mm, and the interval holds it in 90 % or more."""
    errors, held = [], []
    for seed in range(50):
        rows, truth = pushed_rows(seed, amplitude)
        found = Push.of(rows, SKELETONS_MM).estimate()
        errors.append(found.value - truth)
        held.append(found.low <= truth <= found.high)
    assert abs(np.mean(errors)) < 0.06
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("fading", [1.0, 3.0])
def test_how_a_push_fades_matters_little(fading: float) -> None:
    """A push that fades more slowly or faster than assumed is found to within a quarter."""
    made = [pushed_rows(seed, 0.3, fading=fading) for seed in range(30)]
    found = np.mean([Push.of(rows, SKELETONS_MM).estimate().value for rows, _ in made])
    assert found == pytest.approx(np.mean([truth for _, truth in made]), rel=0.25)


def test_the_pattern_is_what_a_mask_shows() -> None:
    """Across the bundle, without a rigid part, larger near the tumor, and proportional to it."""
    points = course(0)
    center = np.array([-50.0, 5.0, -30.0])
    pattern = pattern_of(points, center, 15.0)
    along = np.gradient(points, axis=0)
    assert np.abs((pattern * along).sum(axis=1)).max() < 1e-9
    assert np.abs(pattern[:, [0, 2]].sum(axis=0)).max() < 0.25 * np.abs(pattern).sum()
    assert pattern[17:19, 0].min() > 1.0
    far = pattern_of(points, center - (60.0, 0, 0), 15.0)
    assert np.linalg.norm(far, axis=1).mean() < 0.1 * np.linalg.norm(pattern, axis=1).mean()


def test_few_people_give_a_word() -> None:
    """Four patients, or four controls: no number; ten patients: exploratory."""
    assert Push.of(pushed_rows(0, 0.1, n=4)[0], SKELETONS_MM).estimate().status == "too_few"
    assert Push.of(pushed_rows(0, 0.1, controls=4)[0], SKELETONS_MM).estimate().status == "too_few"
    assert Push.of([], SKELETONS_MM).estimate().status == "too_few"
    assert Push.of(pushed_rows(0, 0.1, n=10)[0], SKELETONS_MM).estimate().status == "exploratory"


def test_a_place_that_a_control_lacks_and_a_participant_without_tumor_do_not_count() -> None:
    """A control without a bundle is left out there, a patient without a tumor mask altogether."""
    rows, _ = pushed_rows(2, 0.1)
    first = next(index for index, row in enumerate(rows) if row["group"] == "control")
    last = {key: value for key, value in rows[-1].items() if key != "tumor"}
    found = Push.of([*rows[:first], *rows[first + 1 : -1], last], SKELETONS_MM)
    assert len(found.patients) == len([row for row in rows if row["group"] == "glioma"]) - 1
    assert np.isnan(found.controls).any() and np.isfinite(found.estimate().value)


def test_seed_level_and_draws_are_those_asked_for() -> None:
    """The push stays; its interval follows the seed, the level and the number of draws."""
    push = Push.of(pushed_rows(0, 0.1)[0], SKELETONS_MM)
    usual = push.estimate()
    for asked in (Inference(seed=1), Inference(n_bootstrap=200), Inference(level=0.8)):
        found = push.estimate(asked)
        assert (found.value, found.level) == (usual.value, asked.level)
        assert (found.low, found.high) != (usual.low, usual.high)
    assert push.estimate(Inference(level=0.8)).high < usual.high
