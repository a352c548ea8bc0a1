"""Image-based deformation: what is recovered of a known push, and what a tumor's signal may not do."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from shiftkit import cohorts
from shiftkit.analyses.deformation import brain as image_deformation
from shiftkit.analyses.deformation import cases as image_deformation_cohort
from shiftkit.analyses.deformation.brain import ImageDeformation, brain_of, deform_image
from shiftkit.analyses.deformation.cases import deform_images
from shiftkit.analyses.deformation.registration import Deformation
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.status import Status
from shiftkit.types import Bundle, Volume

PLACE_MM, PUSH_MM = np.array([-30.0, -20.0, 25.0]), np.array([-6.0, 0.0, 3.0])
TUMOR_MM, RADIUS_MM = np.array([-22.0, 30.0, 25.0]), 14.0


def push_at(points_mm: np.ndarray) -> np.ndarray:
    """The known displacement at world points, shape (N, 3): a smooth push that fades within 25 mm."""
    far = np.linalg.norm(points_mm - PLACE_MM, axis=-1)
    return np.exp(-0.5 * (far / 12.0) ** 2)[..., None] * PUSH_MM


@pytest.fixture(scope="module")
def healthy() -> Volume:
    """The template's own brain, 2 mm."""
    from nilearn.datasets import load_mni152_template

    image: Any = load_mni152_template(resolution=2)
    return Volume(array=image.get_fdata(dtype=np.float32), affine=np.asarray(image.affine, dtype=np.float64))


@pytest.fixture(scope="module")
def pushed(healthy: Volume) -> Volume:
    """The same brain, pushed, 20 % brighter towards the front, with noise."""
    index = np.indices(healthy.shape).reshape(3, -1).T
    points = index @ healthy.affine[:3, :3].T + healthy.affine[:3, 3]
    source = points - push_at(points)  # the push is smooth: a first-order inverse errs by less than 10 %
    source = points - push_at(source)
    inverse = np.linalg.inv(healthy.affine)
    there = source @ inverse[:3, :3].T + inverse[:3, 3]
    values = ndimage.map_coordinates(healthy.array, there.T, order=1).reshape(healthy.shape)
    noise = np.random.default_rng(0).normal(0, 0.02 * values.max(), values.shape)
    ramp = 1 + 0.2 * (points[:, 1].reshape(healthy.shape) / 100)
    return healthy.with_array(np.where(values > 0, np.maximum(values * ramp + noise, 1e-3), 0).astype(np.float32))


def tumor_of(image: Volume) -> Volume:
    points = np.indices(image.shape).reshape(3, -1).T @ image.affine[:3, :3].T + image.affine[:3, 3]
    return image.with_array((np.linalg.norm(points - TUMOR_MM, axis=1) < RADIUS_MM).reshape(image.shape))


@pytest.fixture(scope="module")
def filled(pushed: Volume) -> tuple[ImageDeformation, ImageDeformation]:
    """The pushed brain with a dark and with a bright tumor, both masked."""
    lost = tumor_of(pushed)
    dark, bright = (
        pushed.with_array(np.where(lost.array, value, pushed.array)) for value in (1e-3, pushed.array.max())
    )
    return deform_image(dark, lost), deform_image(bright, lost)


def probes() -> np.ndarray:
    """World points around the push, within 15 mm."""
    offsets = np.random.default_rng(1).normal(size=(200, 3))
    offsets *= 15 * np.random.default_rng(2).random((200, 1)) / np.linalg.norm(offsets, axis=1, keepdims=True)
    return PLACE_MM + offsets


def test_a_known_push_is_recovered_beside_a_masked_tumor(filled: tuple[ImageDeformation, ImageDeformation]) -> None:
    """Mean length within 1 mm of the truth, vectors within 1.5 mm; across the midline noise makes < 1.5 mm."""
    points = probes()
    # At a point of the pushed brain, what came there was moved by the push at its source.
    truth = push_at(points - push_at(points))
    found = filled[0].displacement_mm(points)
    lengths = np.linalg.norm(found, axis=1).mean(), np.linalg.norm(truth, axis=1).mean()
    assert abs(lengths[0] - lengths[1]) < 1.0
    assert np.linalg.norm(found - truth, axis=1).mean() < 1.5
    far = np.array([30.0, -20, 20]) + np.random.default_rng(4).normal(0, 12, (200, 3))
    assert np.linalg.norm(filled[0].displacement_mm(far), axis=1).mean() < 1.5
    assert filled[0].translation_mm < 1.5 and filled[0].size == pytest.approx(1, abs=0.02)


def test_a_scanners_noise_is_not_taken_for_displacement(healthy: Volume) -> None:
    """The template with 6 % noise, that of a poor scanner, is displaced by less than 1 mm on average."""
    noise = np.random.default_rng(3).normal(0, 0.06 * healthy.array.max(), healthy.shape)
    noisy = np.where(healthy.array > 0, np.maximum(healthy.array + noise, 1e-3), 0).astype(np.float32)
    inside = np.argwhere(brain_of(healthy))[::101] @ healthy.affine[:3, :3].T + healthy.affine[:3, 3]
    found = deform_image(healthy.with_array(noisy))
    assert np.linalg.norm(found.displacement_mm(inside), axis=1).mean() < 1.0


def test_what_is_in_the_mask_has_no_influence(filled: tuple[ImageDeformation, ImageDeformation]) -> None:
    """A dark and a bright tumor give the same field, to the bit."""
    points = np.concatenate([probes(), TUMOR_MM + np.random.default_rng(3).normal(0, 25, (200, 3))])
    np.testing.assert_array_equal(filled[0].displacement_mm(points), filled[1].displacement_mm(points))


def test_the_template_itself_is_not_displaced(healthy: Volume) -> None:
    """Against itself the displacement is below 0.1 mm on average and below a sixth of the 3 mm lattice everywhere."""
    found = deform_image(healthy)
    points = np.argwhere(brain_of(healthy))[::97] @ healthy.affine[:3, :3].T + healthy.affine[:3, 3]
    lengths = np.linalg.norm(found.displacement_mm(points), axis=1)
    assert lengths.mean() < 0.1 and lengths.max() < 0.5
    assert np.quantile(np.abs(found.jacobian(points) - 1), 0.99) < 0.1


def test_a_head_with_its_skull_is_refused(healthy: Volume) -> None:
    """An image whose signal is no brain's volume says so."""
    with pytest.raises(DataError, match="without its skull"):
        deform_image(healthy.with_array(np.ones(healthy.shape, dtype=np.float32)))


def test_a_cohort_gets_a_healthy_range_and_words_for_what_is_missing(tmp_path: Path, healthy: Volume) -> None:
    """Two controls and a patient without T1w: rows for the bundle and the brain, a status instead of a number."""
    bundle = Bundle.parse("AFleft")
    mask = healthy.with_array(np.zeros(healthy.shape, dtype=bool))
    mask.array[50:60, 40:60, 45:55] = True
    groups = {"sub-1": "control", "sub-2": "control", "sub-3": "glioma"}
    for place, key in enumerate(groups):
        write_image(mask, cohorts.mask_path(tmp_path, key, bundle))
        if key != "sub-3":
            noise = np.random.default_rng(place).normal(0, 0.05 * healthy.array.max(), healthy.shape)
            image = np.where(healthy.array > 0, np.maximum(healthy.array + noise, 1e-3), 0).astype(np.float32)
            write_image(healthy.with_array(image), cohorts.image_path(tmp_path, key, "t1w"))
    cohorts.write_participants(tmp_path, pd.DataFrame({"participant_id": list(groups), "group": list(groups.values())}))
    cohort = cohorts.load_cohort(tmp_path)
    made = deform_images(cohort.where(group="glioma"), cohort.where(group="control"), bundles=[bundle])
    table = made.to_frame().set_index(["participant_id", "bundle"])
    assert (table.loc[["sub-1", "sub-2"], "status"] == Status.OK).all() and len(table) == 6
    assert (table.loc["sub-3", "status"] == Status.UNAVAILABLE).all()
    assert table.loc["sub-3", "v_norm_mm"].isna().all() and "T1w" in made.failed["sub-3"]
    assert made.plot().get_ylabel() and "group control" in str(made)


def test_what_is_kept_depends_on_all_that_enters(
    tmp_path: Path, healthy: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept for the same input; made again for another mask, image, group, bundle name or setting."""
    cohort = tmp_path / "cohort"
    bundle, other = Bundle.parse("AFleft"), Bundle.parse("AFright")
    mask = healthy.with_array(np.zeros(healthy.shape, dtype=bool))
    mask.array[50:60, 40:60, 45:55] = True
    write_image(mask, cohorts.mask_path(cohort, "sub-1", bundle))
    write_image(healthy, cohorts.image_path(cohort, "sub-1", "t1w"))
    made: list[int] = []

    def rest(image: Volume, lost: Volume | None = None) -> ImageDeformation:
        made.append(1)
        lattice = image_deformation.load_template().lattice
        still = np.zeros((*lattice.shape, 3), dtype=np.float32)
        field = Deformation(lattice=lattice, to_moving=still, to_fixed=still)
        return ImageDeformation(affine=np.eye(4), field=field, lost=lost)

    monkeypatch.setattr(image_deformation_cohort, "deform_image", rest)

    def times(group: str = "control", named: Bundle = bundle) -> int:
        """How many images are registered when the same is asked again."""
        made.clear()
        cohorts.write_participants(cohort, pd.DataFrame({"participant_id": ["sub-1"], "group": [group]}))
        loaded = cohorts.load_cohort(cohort)
        deform_images(loaded, loaded, bundles=[named], out=tmp_path / "run")
        return len(made)

    assert [times(), times()] == [1, 0]
    assert [times("glioma"), times("glioma")] == [1, 0]
    assert [times("glioma", other), times("glioma", other)] == [1, 0]
    assert times() == 1
    mask.array[50, 40, 45] = False
    write_image(mask, cohorts.mask_path(cohort, "sub-1", bundle))
    assert [times(), times()] == [1, 0]
    write_image(healthy.with_array(healthy.array * 2), cohorts.image_path(cohort, "sub-1", "t1w"))
    assert [times(), times()] == [1, 0]
    monkeypatch.setattr(image_deformation_cohort, "LEAST_SEEN", 0.9)
    assert [times(), times()] == [1, 0]
