import itertools
from dataclasses import replace

import numpy as np
import pytest

from shiftkit.phantoms import render
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import Person, draw_person
from shiftkit.phantoms.raters import draw_generosity
from shiftkit.types import Bundle

AFFINE, SHAPE = render.grid(2.5)


@pytest.fixture(scope="module")
def person() -> Person:
    return draw_person(5, "sub-h001", False)


def masks(person: Person, seed: int) -> dict[Bundle, np.ndarray]:
    """One rater's masks of the same anatomy."""
    rated = replace(person, generosity=draw_generosity(np.random.default_rng(seed), person.bundles))
    populations = {b: render.bundle_population(b, rated, None, AFFINE, SHAPE, False) for b in rated.bundles}
    return {bundle: population.mask(0.18, SHAPE) for bundle, population in populations.items()}


@pytest.fixture(scope="module")
def drawn(person: Person) -> list[dict[Bundle, np.ndarray]]:
    """The masks of twelve raters."""
    return [masks(person, seed) for seed in range(12)]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_raters_agree_as_trained_people_do(person: Person, drawn: list[dict[Bundle, np.ndarray]]) -> None:
    """Raters of the same brain agree with a mean Dice of 0.85 to 0.90 (Rheault 2022), and no bundle is beyond them."""
    pairs = {b: [dice(x[b], y[b]) for x, y in itertools.combinations(drawn[:8], 2)] for b in person.bundles}
    means = [np.mean(values) for values in pairs.values()]
    assert 0.85 <= np.mean(means) <= 0.90
    assert min(means) > 0.75


def test_raters_are_not_biased(person: Person, drawn: list[dict[Bundle, np.ndarray]]) -> None:
    """Over raters, a mask is on average as large as that of somebody who knows the truth, to a tenth."""
    truth = {b: render.bundle_population(b, person, None, AFFINE, SHAPE, False) for b in person.bundles}
    exact = {b: replace(one, generosity=None).mask(0.18, SHAPE).sum() for b, one in truth.items()}
    ratios = [np.mean([one[b].sum() for one in drawn]) / exact[b] for b in person.bundles]
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_a_rater_who_draws_at_half_the_density_is_one_doubling_more_generous(person: Person) -> None:
    """A generosity of 1 everywhere gives the mask of half the threshold, up to rounding."""
    bundle = Bundle.parse("AFleft")
    generous = replace(person, generosity={bundle: np.ones(person.bundles[bundle].shape[:2])})
    population = render.bundle_population(bundle, generous, None, AFFINE, SHAPE, False)
    exact = replace(population, generosity=None)
    assert dice(population.mask(0.18, SHAPE), exact.mask(0.09, SHAPE)) > 0.999
    assert population.mask(0.18, SHAPE).sum() > 1.1 * exact.mask(0.18, SHAPE).sum()


def test_images_do_not_know_the_rater(person: Person) -> None:
    """Another rater changes the masks and not one voxel of an image."""
    other = replace(person, generosity=draw_generosity(np.random.default_rng(9), person.bundles))
    one, two = (render.render(p, load_profile("source"), np.random.default_rng(0), 5.0) for p in (person, other))
    assert all(np.array_equal(one.images[name].array, two.images[name].array) for name in one.images)
    assert not all(np.array_equal(one.masks[b].array, two.masks[b].array) for b in one.masks)


def test_generosity_is_smooth_along_a_streamline(person: Person) -> None:
    """A rater does not change their mind from point to point: neighbors differ by under a fifth of the spread."""
    values = np.concatenate([one.ravel() for one in person.generosity.values()])
    steps = np.concatenate([np.diff(one, axis=1).ravel() for one in person.generosity.values()])
    assert np.sqrt((steps**2).mean()) < 0.2 * values.std()
