import numpy as np
import pytest
from makers.bundles import CENTER_MM, template_of, tube

from shiftkit.analyses.deformation.template import outside_of_use, skeleton_of, volume_ml


def test_a_template_is_as_large_as_its_controls_and_lies_between_them() -> None:
    """The template has the controls' mean volume and mean place, and leaving one out leaves it out."""
    masks = [tube(2.5, push_mm=push) for push in (-3.0, 0.0, 3.0)]
    controls = template_of(*masks)
    template = controls.template()
    volume = np.mean([mask.array.sum() * mask.voxel_volume_ml for mask in masks])
    assert volume_ml(template.mask) == pytest.approx(volume, rel=0.1)
    middle = template.mask.points_inside().mean(axis=0)
    assert middle == pytest.approx(tuple(CENTER_MM), abs=1.25)  # half a voxel
    assert controls.template(without="sub-2").n_controls == 2
    assert (controls.mean_mask("sub-2").array != controls.mean_mask().array).any()


def test_the_skeleton_runs_along_the_bundle() -> None:
    """32 points from the posterior to the anterior end, on the center line."""
    points = skeleton_of(tube(2.0))
    assert points.shape == (32, 3)
    assert (np.diff(points[:, 1]) >= -1e-9).all()
    assert np.ptp(points[:, 1]) > 50
    assert np.abs(points[4:28, 0] - CENTER_MM[0]).max() < 1.5


def test_masks_that_are_no_measure_get_a_word() -> None:
    """Empty, tiny and disconnected masks are named so; a whole one is not."""
    whole = tube(2.5)
    empty = whole.with_array(np.zeros_like(whole.array))
    tiny, halves = empty.array.copy(), whole.array.copy()
    tiny[10, 10, 5:10] = True
    halves[:, 14:20] = False
    assert outside_of_use(whole, 5.0) is None
    assert outside_of_use(empty, 5.0) == "empty"
    assert outside_of_use(whole.with_array(tiny), 5.0) == "too_small"
    assert outside_of_use(whole.with_array(halves), 5.0) == "disconnected"
