import numpy as np
import pytest
from makers.implants import order

from shiftkit.errors import ConfigError
from shiftkit.phantoms.implants.brains import Brain
from shiftkit.phantoms.implants.growth import SHAPES, Growth, draw_order, grow


def moved(growth: Growth, points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(growth.push.to_participant(points) - points, axis=-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("volume_ml", "place"), [(8.0, (0.3, 0.5, 0.0)), (120.0, (-0.9, 0.0, 0.2))])
def test_no_push_folds(brain: Brain, shape: str, volume_ml: float, place: tuple[float, float, float]) -> None:
    """The Jacobian is positive everywhere and both ways, for small and large tumors, deep and at the edge."""
    growth = grow(brain, order(volume_ml, place), np.random.default_rng(4), shape=shape)
    low, high = growth.jacobian_range
    assert 0 < low < 0.95 and high > 1.05


def test_nothing_moves_beyond_the_reach_nor_outside_the_brain(brain: Brain, grown: Growth) -> None:
    """The displacement is exactly zero there, both ways; it is not within."""
    points = brain.mask.with_array(np.ones_like(brain.mask.array)).points_inside()
    distance = np.linalg.norm(points - grown.center_mm, axis=1)
    outside = ~brain.mask.array.ravel()
    assert (distance > grown.reach_mm).any()
    for still in (distance > grown.reach_mm, outside):
        assert moved(grown, points[still]).max() == 0
        assert np.abs(grown.push.to_template(points[still]) - points[still]).max() == 0
    assert moved(grown, points[~outside]).max() > 2


def test_the_push_decays_with_distance(brain: Brain, grown: Growth) -> None:
    """Tissue next to the tumor moves most, and ever less farther on."""
    points = brain.mask.points_inside()
    points = points[brain.depth_at(points) > 20]  # where no edge damps it
    depth = grown.depth(points)
    means = [moved(grown, points[(depth > low) & (depth <= low + 0.5)]).mean() for low in (1.0, 1.5, 2.0, 2.5)]
    assert means == sorted(means, reverse=True) and means[-1] < 0.6 * means[0]


def test_there_and_back_is_where_one_was(brain: Brain, grown: Growth) -> None:
    """Push and its inverse undo each other to half a millimeter."""
    points = brain.mask.points_inside()
    assert np.linalg.norm(grown.push.to_template(grown.push.to_participant(points)) - points, axis=1).max() < 0.5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_volume_inside_the_brain_is_what_was_asked_for(brain: Brain, shape: str) -> None:
    """To 5 percent, also where the skull cuts the tumor, whatever its shape."""
    for place in ((0.3, 0.2, 0.0), (0.85, 0.0, 0.0)):
        growth = grow(brain, order(50.0, place), np.random.default_rng(2), shape=shape)
        seen_ml = (growth.depth(brain.mask.points_inside()) < 1).sum() * brain.mask.voxel_volume_ml
        assert seen_ml == pytest.approx(50.0, rel=0.05)


def test_a_lobed_tumor_is_none_of_the_phantoms(brain: Brain, grown: Growth) -> None:
    """Its surface is dented as no ellipsoid's is: by more than a stretched ball of the same second moments."""
    points = brain.mask.points_inside()
    inside = points[grown.depth(points) < 1]
    spread = np.cov(inside.T)
    reach = np.einsum("ni,ij,nj->n", inside - inside.mean(0), np.linalg.inv(spread), inside - inside.mean(0))
    # Of a filled ellipsoid no point lies beyond 5 of these; with lobes some do.
    assert np.quantile(reach, 0.995) > 5.2


def test_a_tumor_that_fits_into_no_brain_is_refused(brain: Brain) -> None:
    """With the largest volume that does."""
    with pytest.raises(ConfigError, match="at most a quarter of its volume"):
        grow(brain, order(500.0), np.random.default_rng(0))


def test_places_are_drawn_in_both_hemispheres_and_all_lobes() -> None:
    """As the phantom's gliomas lie, in shares of the brain's box; a given volume is kept."""
    drawn = [draw_order(np.random.default_rng(seed), 30.0) for seed in range(40)]
    assert {one.site for one in drawn} == {"frontal", "temporal", "insular", "parietal"}
    places = np.stack([one.place for one in drawn])
    assert (np.abs(places) < 1).all() and 10 < (places[:, 0] < 0).sum() < 30
    assert {one.volume_ml for one in drawn} == {30.0}
