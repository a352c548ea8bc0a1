from pathlib import Path

import numpy as np
import pytest
from makers.bundles import CENTER_MM, ball, elsewhere, template_of, tube, visible_mm
from scipy import ndimage, stats

from shiftkit.analyses.deformation.template import BundleTemplate
from shiftkit.analyses.deformation.v_norm import Measurement, measure, measure_against_own
from shiftkit.images import read_image
from shiftkit.phantoms import render
from shiftkit.phantoms.people import draw_person
from shiftkit.types import Bundle, Volume


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 2.5])
def test_identical_masks_are_not_deformed(spacing_mm: float) -> None:
    """A mask against the template of itself: no motion, no displacement anywhere, full overlap, at every voxel size."""
    mask = tube(spacing_mm)
    found, image = measure(mask, template_of(mask, mask).template())
    assert found.v_norm_mm == 0
    assert (found.rigid.distance_mm, found.rigid.angle_deg) == (0, 0)
    assert (found.dice_before, found.dice_after) == (1, 1)
    assert (found.jacobian_min, found.jacobian_max) == (1, 1)
    assert not image.array.any()


def test_a_known_push_is_measured_where_it_is_at_every_voxel_size(pushed: tuple[Measurement, Volume]) -> None:
    """A push of 6 mm in the middle: within 15 % or 0.5 mm of the truth at 1, 2 and 2.5 mm, and at its place."""
    others = (
        measure(tube(spacing_mm, push_mm=6.0), template_of(tube(spacing_mm)).template())[0] for spacing_mm in (1.0, 2.5)
    )
    measured = [pushed[0], *others]
    for found in measured:
        profile = np.array(found.profile_mm)
        # The rigid part takes some of a push that is the same on a third of the bundle, robustly little.
        assert profile[14:18].mean() > 3.0
        assert profile[[2, 3, 28, 29]].mean() < 2.0
        assert found.dice_after > 0.9 > found.dice_before
        truth = visible_mm(6.0)
        assert abs(found.v_norm_mm - truth) < max(0.15 * truth, 0.5)
    assert np.ptp([found.v_norm_mm for found in measured]) < 0.3


def test_the_map_lies_on_the_participants_grid_and_agrees_with_the_mean(pushed: tuple[Measurement, Volume]) -> None:
    """The image has the mask's grid, is zero outside it, and its mean is the V-Norm."""
    found, image = pushed
    mask = tube(2.0, push_mm=6.0)
    assert image.shape == mask.shape
    np.testing.assert_array_equal(image.affine, mask.affine)
    assert not image.array[~mask.array].any()
    assert float(image.array[mask.array].mean()) == pytest.approx(found.v_norm_mm, abs=0.15)
    assert found.quantiles_mm == tuple(sorted(found.quantiles_mm))


def test_swelling_shows_in_the_jacobian(healthy: BundleTemplate) -> None:
    """A thicker bundle has expanded, a thinner one contracted."""
    thick, thin = (measure(tube(2.0, radius_mm=r), healthy)[0] for r in (8.0, 4.5))
    assert thick.jacobian_mean > 1.15
    assert thin.jacobian_mean < 0.9
    assert thick.jacobian_min > 0


def test_what_a_tumor_destroyed_is_not_taken_for_displacement(healthy: BundleTemplate) -> None:
    """A bite out of a bundle that lies in the tumor's core adds next to nothing; without the core's mask it does."""
    whole, bite = tube(2.0), ball((-36, 0, 0), 9)
    bitten = whole.with_array(whole.array & ~bite.array)
    looked = measure(bitten, healthy)[0].v_norm_mm
    masked = measure(bitten, healthy, lost=bite)[0].v_norm_mm
    assert masked < 0.5 * looked


def test_zero_against_the_same_mask() -> None:
    """A mask against itself has not moved, and a mask in another pose next to not."""
    mask = tube(2.0, bend_mm=4.0)
    assert measure_against_own(mask, mask)[0].v_norm_mm == 0
    assert measure_against_own(mask, elsewhere(mask))[0].v_norm_mm < 0.3


def test_what_an_earlier_tumor_destroyed_is_not_taken_for_displacement() -> None:
    """A bite out of the baseline adds little where its tumor mask says so, and more where nothing does."""
    mask, bite = tube(2.0), ball(CENTER_MM - (5.0, 0, 0))
    bitten = mask.with_array(mask.array & ~bite.array)
    looked = measure_against_own(mask, bitten)[0].v_norm_mm
    masked = measure_against_own(mask, bitten, baseline_lost=bite)[0].v_norm_mm
    assert masked < 0.5 * looked


def test_patients_displacement_is_ranked_rightly() -> None:
    """Phantom patients at 2.5 mm against their own masks without tumor: V-Norm ranks as the push does."""
    affine, shape = render.grid(2.5)
    measured, true = [], []
    for key in ("sub-g002", "sub-g003", "sub-g008", "sub-g011"):
        person = draw_person(3, key, True)
        assert person.tumor is not None
        bundle = Bundle.parse(f"FAT{person.tumor.side}")
        clean, pushed = (
            Volume(
                array=render.bundle_population(bundle, person, None, affine, shape, tumor).mask(0.18, shape),
                affine=affine,
            )
            for tumor in (False, True)
        )
        core = render.tumor_masks(person, affine, shape)["core"]
        measured.append(measure_against_own(pushed, clean, lost=core, spacing_mm=3.0)[0].v_norm_mm)
        points = clean.points_inside()
        true.append(float(np.linalg.norm(person.tumor.push.to_participant(points) - points, axis=1).mean()))
    assert stats.spearmanr(measured, true).statistic > 0.75


def test_left_bundles_of_a_population_against_mirrored_right_ones(shared_data: Path) -> None:
    """Left and mirrored right maps differ in size and course: overlap grows by much, nothing folds."""
    for name in ("AF", "FAT", "ILF"):
        left, right = (read_image(shared_data / "hcp1065" / f"{name}_{side}.nii.gz") for side in ("left", "right"))
        mirror = np.diag([-1.0, 1, 1, 1])
        masks = [  # counts of streamlines have holes
            Volume(array=ndimage.binary_closing(one.array > 0, iterations=4), affine=affine)
            for one, affine in ((left, left.affine), (right, mirror @ right.affine))
        ]
        found, image = measure(masks[0], template_of(masks[1]).template())
        assert 1 < found.v_norm_mm < 12
        assert found.dice_after > found.dice_before + 0.2
        assert found.jacobian_min > 0
        assert image.array.max() < 30
