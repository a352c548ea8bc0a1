from collections import Counter

import numpy as np

from shiftkit.distances import edge_distance_map
from shiftkit.phantoms.implants.brains import Brain
from shiftkit.phantoms.implants.copying import Copied, deal, fitted
from shiftkit.phantoms.implants.growth import grow
from shiftkit.types import Bundle

AF = Bundle(name="AF", hemisphere="left")


def copied(key: str, distance_mm: float = 20.0) -> Copied:
    return Copied(key=key, volume_ml=30.0, place=np.array([0.3, 0.1, 0.0]), distance_mm={AF: distance_mm})


def test_tumors_are_dealt_evenly() -> None:
    """Of seven participants and three tumors each tumor goes to two or three, and the same seed deals the same."""
    tumors, keys = [copied(name) for name in "abc"], [f"sub-{n}" for n in range(7)]
    dealt = deal(keys, tumors, np.random.default_rng(1))
    assert set(Counter(one.key for one in dealt.values()).values()) == {2, 3}
    again = deal(keys, tumors, np.random.default_rng(1))
    assert [dealt[key].key for key in keys] == [again[key].key for key in keys]


def test_a_copy_lies_as_far_from_a_bundle_as_its_model(brain: Brain) -> None:
    """Where a bundle runs elsewhere than in the patient, the copy moves until the distance fits, to a voxel or two."""
    points = brain.mask.with_array(np.ones_like(brain.mask.array)).points_inside()
    start = brain.point_at(np.array([0.3, 0.1, 0.0]))
    tube = np.linalg.norm((points - start)[:, [0, 2]] - (24.0, 0.0), axis=1) < 6
    mask = brain.mask.with_array(tube.reshape(brain.mask.shape) & brain.mask.array)

    def distance(distance_mm: float) -> float:
        order = fitted(copied("sub-1", distance_mm), brain, {AF: mask})
        growth = grow(brain, order, np.random.default_rng(0), shape="ellipsoid")
        tumor = (growth.depth(points) < 1).reshape(brain.mask.shape) & brain.mask.array
        return float(edge_distance_map(tumor, brain.mask.spacing_mm)[mask.array].min())

    near, far = distance(2.0), distance(16.0)
    assert abs(near - 2) < 6 and abs(far - 16) < 8 and far > near + 6


def test_without_common_bundles_the_place_is_the_patients(brain: Brain) -> None:
    """Volume and place are copied as they are, and whose they were is kept."""
    order = fitted(copied("sub-1"), brain, {})
    assert (order.volume_ml, order.copied_from) == (30.0, "sub-1") and (order.place == [0.3, 0.1, 0.0]).all()
