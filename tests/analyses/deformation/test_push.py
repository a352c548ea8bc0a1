"""The tumors' mean push out of displacements that are mostly individual anatomy."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from shiftkit.analyses.deformation.push import Push, pattern_of

PLACES = [("AF", "left"), ("PYT", "left")]


def course(index: int) -> np.ndarray:
    """A bundle along y, or along z, bent a little."""
    points = np.full((32, 3), -30.0)
    points[:, 1 + index] = np.linspace(-40, 40, 32)
    points[:, 0] += 5 * np.cos(np.linspace(-2, 2, 32))
    return points


SKELETONS_MM = {place: course(index) for index, place in enumerate(PLACES)}


def simulate(
    seed: int, amplitude: float, n: int = 20, controls: int = 15, fading: float = 2.0
) -> tuple[list[dict[str, Any]], float]:
    """Smooth anatomy of 2 mm in everybody, less the controls' mean as a template takes it, and a push in patients.

    The push fades with the distance by a power, and each patient has an amplitude of their own. Also gives the mean
    length of the push over patients' bundles, mm.
    """
    rng = np.random.default_rng(seed)
    people = [*(f"sub-h{i}" for i in range(controls)), *(f"sub-g{i}" for i in range(n))]
    anatomy = ndimage.gaussian_filter1d(rng.normal(size=(len(people), 2, 32, 3)), 5, axis=2)
    anatomy *= 2 / np.linalg.norm(anatomy, axis=-1).mean()
    rows: list[dict[str, Any]] = []
    truth: list[float] = []
    for index, name in enumerate(people):
        healthy = index < controls
        others = [i for i in range(controls) if i != index]
        center, radius = np.array([-30.0, 0.0, 0.0]) + rng.normal(0, 15, 3), rng.uniform(12, 28)
        size = amplitude * rng.gamma(4, 0.25)
        for which, (bundle, hemisphere) in enumerate(PLACES):
            shift = anatomy[index, which] - anatomy[others, which].mean(axis=0)
            row = {"participant_id": name, "bundle": bundle, "hemisphere": hemisphere}
            if not healthy:
                push = size * pattern_of(SKELETONS_MM[bundle, hemisphere], center, radius, fading)
                truth.append(float(np.linalg.norm(push, axis=1).mean()))
                shift = shift + push
                row |= {"tumor": [*center.tolist(), radius]}
            row |= {"group": "control", "side": "n/a"} if healthy else {"group": "glioma", "side": "ipsi"}
            rows.append(row | {"shift_mm": shift.tolist()})
    return rows, float(np.mean(truth))


@pytest.mark.parametrize("amplitude", [0.0, 0.15])
def test_the_mean_push_is_recovered_with_its_interval(amplitude: float) -> None:
    """Anatomy is 2 mm and the push 0.5 mm or none: bias under 0.06 mm, and the interval holds it in 90 % or more."""
    errors, held = [], []
    for seed in range(50):
        rows, truth = simulate(seed, amplitude)
        found = Push.of(rows, SKELETONS_MM).estimate()
        errors.append(found.value - truth)
        held.append(found.low <= truth <= found.high)
    assert abs(np.mean(errors)) < 0.06
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("fading", [1.0, 3.0])
def test_how_a_push_fades_matters_little(fading: float) -> None:
    """A push that fades more slowly or faster than assumed is found to within a quarter."""
    made = [simulate(seed, 0.3, fading=fading) for seed in range(30)]
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
    assert Push.of(simulate(0, 0.1, n=4)[0], SKELETONS_MM).estimate().status == "too_few"
    assert Push.of(simulate(0, 0.1, controls=4)[0], SKELETONS_MM).estimate().status == "too_few"
    assert Push.of([], SKELETONS_MM).estimate().status == "too_few"
    assert Push.of(simulate(0, 0.1, n=10)[0], SKELETONS_MM).estimate().status == "exploratory"


def test_a_place_that_a_control_lacks_and_a_participant_without_tumor_do_not_count() -> None:
    """A control without a bundle is left out there, a patient without a tumor mask altogether."""
    rows, _ = simulate(2, 0.1)
    first = next(index for index, row in enumerate(rows) if row["group"] == "control")
    last = {key: value for key, value in rows[-1].items() if key != "tumor"}
    found = Push.of([*rows[:first], *rows[first + 1 : -1], last], SKELETONS_MM)
    assert len(found.patients) == len([row for row in rows if row["group"] == "glioma"]) - 1
    assert np.isnan(found.controls).any() and np.isfinite(found.estimate().value)
