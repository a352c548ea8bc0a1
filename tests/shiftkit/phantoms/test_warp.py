import numpy as np
import pytest
from scipy import ndimage

from shiftkit.phantoms.people import Person, draw_person
from shiftkit.phantoms.warp import (
    COARSE_MM,
    ORIGIN_MM,
    coarse_points,
    exponentiate,
    interpolate,
    jacobian,
    sample,
    smooth_noise,
)


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return [draw_person(7, f"sub-h{i:03d}", False) for i in range(1, 9)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("zero_outside", "mode"), [(False, "nearest"), (True, "constant")])
def test_interpolation_is_scipys_to_the_bit(dtype: type, zero_outside: bool, mode: str) -> None:
    """Linear interpolation gives the very numbers of scipy's, inside, on the edge and outside."""
    rng = np.random.default_rng(0)
    field = rng.standard_normal((6, 7, 8, 2)).astype(dtype)
    points = np.concatenate([rng.uniform(-3, 25, (5000, 3)), np.argwhere(np.ones((6, 7, 8))) * 2.0 + 1])
    found = interpolate(field, points, np.ones(3), 2.0, zero_outside=zero_outside)
    for channel in range(2):
        index = ((points - 1) / 2.0).T
        assert (found[:, channel] == ndimage.map_coordinates(field[..., channel], index, order=1, mode=mode)).all()


def test_anatomies_never_fold(people: list[Person]) -> None:
    """The Jacobian between template and participant is positive everywhere, both ways."""
    for one in people:
        assert jacobian(one.warp.forward).min() > 0
        assert jacobian(one.warp.backward).min() > 0


def test_there_and_back_is_where_one_was(people: list[Person]) -> None:
    """Forward and backward warps undo each other to a tenth of a millimeter at the median, half at the most."""
    brain = coarse_points()[5:-5, 5:-5, 5:-5]
    for one in people:
        error = np.linalg.norm(one.warp.to_template(one.warp.to_participant(brain)) - brain, axis=-1)
        assert np.median(error) < 0.1
        assert error.max() < 0.5


def test_people_differ_by_millimeters(people: list[Person]) -> None:
    """Anatomies depart from the template by some millimeters, each in its own way."""
    fields = np.stack([one.warp.forward for one in people])
    assert 1.5 < np.sqrt((fields**2).sum(-1).mean()) < 8
    assert np.abs(fields[0] - fields[1]).max() > 2


def test_a_translation_is_integrated_exactly() -> None:
    """The exponential of a constant velocity is that translation, and its Jacobian is one."""
    velocity = np.broadcast_to(np.array([1.0, -2.0, 0.5]), coarse_points().shape)
    warp = exponentiate(velocity)
    assert np.allclose(warp.forward, velocity)
    assert np.allclose(warp.backward, -velocity)
    assert np.allclose(jacobian(warp.forward), 1)


def test_jacobian_of_a_known_stretch() -> None:
    """Stretching by 10, 20 and 30 percent multiplies volume by 1.1 x 1.2 x 1.3."""
    assert np.allclose(jacobian(coarse_points() * (0.1, 0.2, 0.3)), 1.1 * 1.2 * 1.3)


def test_noise_is_as_smooth_as_asked() -> None:
    """Neighbors in smoother noise are more alike, and its standard deviation is one."""
    rough, smooth = (smooth_noise(np.random.default_rng(1), width) for width in (8.0, 25.0))
    assert np.isclose(rough.std(), 1)
    assert np.isclose(smooth.std(), 1)
    assert np.diff(smooth, axis=0).std() < 0.5 * np.diff(rough, axis=0).std()


def test_sampling_on_grid_points_returns_the_field() -> None:
    """A field looked up at its own grid points is itself."""
    field = smooth_noise(np.random.default_rng(2), 10.0)
    assert np.allclose(sample(field, coarse_points()), field)
    assert np.allclose(coarse_points()[1, 0, 0] - ORIGIN_MM, (COARSE_MM, 0, 0))
