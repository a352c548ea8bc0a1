import numpy as np
import pytest

from shiftkit.analyses.distance.tumor import Tumor, bundle_distance, mid_sagittal_x, side_of, tumor_side
from shiftkit.types import Bundle, Volume


def test_touching_is_zero_and_a_gap_is_the_gap() -> None:
    """Masks that share a face are at 0 mm, and with n empty voxels between them at n voxels."""
    affine = np.diag([2.0, 2.5, 3.0, 1.0])
    tumor, bundle = np.zeros((20, 5, 5), dtype=bool), np.zeros((20, 5, 5), dtype=bool)
    tumor[:5] = True
    measured = Tumor.of(Volume(array=tumor, affine=affine))
    for gap in range(4):
        bundle[:] = False
        bundle[5 + gap : 8 + gap] = True
        assert bundle_distance(measured, bundle).edge_mm == 2.0 * gap


def test_distances_of_a_bundle_inside_and_outside() -> None:
    """Mean, quantiles and overlap are those of the bundle's voxels; volumes are in ml by the affine."""
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    tumor, bundle = np.zeros((10, 3, 3), dtype=bool), np.zeros((10, 3, 3), dtype=bool)
    tumor[:4], bundle[2:8, 1, 1] = True, True
    found = bundle_distance(Tumor.of(Volume(array=tumor, affine=affine)), bundle)
    assert found.edge_mm == 0
    assert found.mean_mm == pytest.approx(np.mean([0, 0, 0, 2, 4, 6]))
    assert found.quantiles_mm[2] == pytest.approx(1.0)
    assert found.overlap_ml == pytest.approx(2 * 0.008)
    assert Tumor.of(Volume(array=tumor, affine=affine)).volume_ml == pytest.approx(36 * 0.008)


def test_oblique_grids_measure_as_straight_ones() -> None:
    """Rotating the affine changes no distance; millimetres come from the affine, not from its diagonal."""
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    straight, oblique = np.eye(4), np.eye(4)
    straight[:3, :3] = np.diag([2.0, 1.0, 3.0])
    oblique[:3, :3] = turn @ straight[:3, :3]
    mask, bundle = np.zeros((9, 9, 9), dtype=bool), np.zeros((9, 9, 9), dtype=bool)
    mask[0, 0, 0] = bundle[6, 7, 8] = True
    distances = [
        bundle_distance(Tumor.of(Volume(array=mask, affine=affine)), bundle).edge_mm for affine in (straight, oblique)
    ]
    assert distances == pytest.approx([np.sqrt(10**2 + 6**2 + 21**2)] * 2)


@pytest.mark.parametrize(
    ("columns", "side"),
    [
        ((1, 4), "left"),
        ((7, 9), "right"),
        ((3, 7), "bilateral"),
        ((4, 9), "bilateral"),
        ((4, 10), "right"),
        ((0, 0), "n/a"),
    ],
)
def test_side_of_the_tumor_is_that_of_its_mass(columns: tuple[int, int], side: str) -> None:
    """World x decides, whatever way the voxel axis runs; a fifth across the midline makes it bilateral."""
    mask = np.zeros((10, 3, 3), dtype=bool)
    mask[slice(*columns)] = True
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = -9.0
    assert tumor_side(Volume(array=mask, affine=affine)) == side
    flipped = np.diag([-2.0, 2.0, 2.0, 1.0])
    flipped[0, 3] = 9.0
    assert tumor_side(Volume(array=mask[::-1], affine=flipped)) == side


def test_midline_comes_from_bundles_of_both_hemispheres() -> None:
    """In a scanner's coordinates the plane lies halfway between left and right bundles, not at 0."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 3] = 51.0  # the whole head is off the isocenter
    masks: dict[Bundle, Volume | None] = {}
    for hemisphere, x in (("left", 1), ("right", 8)):
        array = np.zeros((10, 3, 3), dtype=bool)
        array[x] = True
        masks[Bundle(name="AF", hemisphere=hemisphere)] = Volume(array=array, affine=affine)  # type: ignore[arg-type]
    assert mid_sagittal_x(masks) == pytest.approx(60.0)
    assert mid_sagittal_x({}) == 0.0
    tumor = np.zeros((10, 3, 3), dtype=bool)
    tumor[1:4] = True
    assert tumor_side(Volume(array=tumor, affine=affine), mid_sagittal_x(masks)) == "left"


def test_sides_of_bundles() -> None:
    """Ipsi and contra follow the tumor, a bilateral tumor has no far side, and the midline has none at all."""
    table = {(h, t): side_of(h, t) for h in ("left", "right", "none") for t in ("left", "right", "bilateral", "n/a")}
    assert [table["left", t] for t in ("left", "right", "bilateral", "n/a")] == ["ipsi", "contra", "bilateral", "n/a"]
    assert [table["right", t] for t in ("left", "right")] == ["contra", "ipsi"]
    assert {table["none", t] for t in ("left", "right", "bilateral", "n/a")} == {"n/a"}


def test_an_empty_tumor_mask_has_no_distance() -> None:
    """Neither an empty tumor nor an absent bundle yields a number."""
    empty = Tumor.of(Volume(array=np.zeros((3, 3, 3), dtype=bool), affine=np.eye(4)))
    assert np.isnan(bundle_distance(empty, np.ones((3, 3, 3), dtype=bool)).edge_mm)
    assert np.isnan(bundle_distance(None, None).mean_mm)
    assert empty.volume_ml == 0
