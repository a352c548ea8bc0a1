"""Places along healthy bundles: what a cut, a push and other grids do to them."""

import numpy as np
import pytest
from makers.tubes import AFFINE, tube

from shiftkit.analyses.distance.places import Places, healthy_bundle
from shiftkit.errors import DataError
from shiftkit.types import Bundle, Volume

AF = Bundle.parse("AFleft")


def healthy(n: int) -> list[Volume]:
    return [Volume(array=tube(4), affine=AFFINE)] * n


def test_places_do_not_move_when_a_bundle_is_cut():
    """What is left of a destroyed bundle keeps its sections, and so does a bundle that is pushed sideways."""
    places = Places.of({AF: healthy(2)}, 6)

    def sections(mask: np.ndarray) -> dict[int, int]:
        volume = Volume(array=mask, affine=AFFINE)
        found, along = places.section(AF, volume.points_inside()), np.argwhere(mask)[:, 1]
        return {int(y): int(found[along == y][0]) for y in np.unique(along)}

    whole, cut, pushed = sections(tube(4)), sections(tube(4, slice(10, 25))), sections(tube(6))
    assert set(whole.values()) == set(range(6))
    assert all(whole[y] == section for y, section in cut.items())
    assert all(abs(whole[y] - section) <= 1 for y, section in pushed.items())


def test_a_healthy_bundle_is_as_large_as_controls_have_it():
    """The healthy bundle has the controls' mean volume and lies where they agree."""
    assert (healthy_bundle(healthy(3), AF).array == tube(4)).all()


def test_controls_must_show_the_bundle_in_one_place():
    """Without any mask, or with masks that do not overlap, there are no places; the error names the cohort."""
    with pytest.raises(DataError, match="none of here has a mask"):
        healthy_bundle([Volume(array=np.zeros_like(tube(4)), affine=AFFINE)], AF, "here")
    apart = [Volume(array=tube(x), affine=AFFINE) for x in (4, 17)]
    with pytest.raises(DataError, match="one common space"):
        healthy_bundle(apart, AF)
