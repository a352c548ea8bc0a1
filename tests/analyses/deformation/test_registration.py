import numpy as np
from makers.bundles import tube
from scipy.spatial.transform import Rotation

from shiftkit.analyses.deformation.registration import Surface, align
from shiftkit.analyses.deformation.template import BundleTemplate
from shiftkit.analyses.deformation.v_norm import measure


def test_position_is_not_deformation(healthy: BundleTemplate) -> None:
    """A bundle that is turned and shifted gives back the motion, and next to no V-Norm."""
    motion = Rotation.from_euler("xz", [4.0, 7.0], degrees=True)
    still, moved = tube(2.0), tube(2.0, motion=motion)
    found = align(Surface.of(still), Surface.of(moved))
    # Roll, and the place along the bundle, are what a straight tube on voxels shows least.
    axis, truth = found.rotation[:, 1], motion.as_matrix()[:, 1]
    assert np.degrees(np.arccos(axis @ truth)) < 1.0
    assert found.angle_deg < 12
    across = found.translation_mm - (2.0, -1.0, 1.5)
    assert np.hypot(across[0], across[2]) < 0.6
    assert abs(across[1]) < 1.2
    measured, _ = measure(moved, healthy)
    assert measured.v_norm_mm < 0.5
    assert measured.dice_after > 0.9


def test_rigid_alignment_is_not_dragged_by_what_is_pushed() -> None:
    """With the middle third pushed by 6 mm, the whole is shifted by less than the mean push, 2.1 mm."""
    motion = align(Surface.of(tube(2.0)), Surface.of(tube(2.0, push_mm=6.0)))
    assert 0 < motion.distance_mm < 2.1
