from pathlib import Path

import numpy as np
import pytest

from shiftkit.cohorts.folder import load_cohort
from shiftkit.images import read_image, read_mask
from shiftkit.importers import import_cohort
from shiftkit.names import find_model
from shiftkit.phantoms import phantom
from shiftkit.segmentation.network.checkpoints import Model, load_model
from shiftkit.segmentation.network.exporting import verify_model
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.types import Case, Cohort


@pytest.fixture(scope="module")
def reference() -> Model:
    """The model that is shipped."""
    return load_model(find_model("reference"))


def center_x(path: Path) -> float:
    """World x of a mask's center of mass."""
    mask = read_mask(path)
    return float((mask.affine[:3, :3] @ np.argwhere(mask.array).mean(axis=0) + mask.affine[:3, 3])[0])


def dice(case: Case, source: Case) -> list[float]:
    values: list[float] = []
    for bundle in source.bundles:
        one, two = read_mask(case.masks[bundle]).array, read_mask(source.masks[bundle]).array
        values.append(float(2 * (one & two).sum() / (one.sum() + two.sum())))
    return values


def test_the_shipped_model_is_sound_and_small(reference: Model) -> None:
    """At most 5 MB of safetensors, ten bundles from peaks, and every check passes."""
    folder = find_model("reference")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 5e6
    assert reference.modality == "peaks" and len(reference.bundles) == 10
    assert verify_model(folder).sound
    assert not list(folder.rglob("state"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """A healthy phantom participant of another seed: nobody the model was trained on."""
    return phantom(tmp_path_factory.mktemp("phantom"), n_healthy=1, n_glioma=0, seed=12345)["healthy"]


@pytest.mark.slow
def test_an_unseen_healthy_phantom_is_segmented(reference: Model, stranger: Cohort, tmp_path: Path) -> None:
    """Every bundle of a healthy brain that the model never saw reaches a Dice of 0.7."""
    made = predict(reference, stranger, out=tmp_path / "p", device="cpu")
    assert not any(reference.has_seen(case) for case in stranger)
    assert min(dice(made.cohort.cases[0], stranger.cases[0])) > 0.7


@pytest.mark.slow
def test_a_real_brain_keeps_its_grid_and_sides(reference: Model, shared_data: Path, tmp_path: Path) -> None:
    """Real peaks in LAS with NaN: the grid stays, left bundles lie left, right ones right; no Dice is promised."""
    import_cohort("tractseg", shared_data / "tractseg_subject", tmp_path / "cohort")
    cohort = load_cohort(tmp_path / "cohort")
    source = cohort.cases[0]
    image = read_image(source.images["peaks"])
    assert image.orientation == "LAS"
    made = predict(reference, cohort, out=tmp_path / "p", device="cpu")
    assert not made.failed
    case = made.cohort.cases[0]
    for bundle in reference.bundles:
        mask = read_mask(case.masks[bundle])
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert mask.array.any()
        assert (center_x(case.masks[bundle]) < 0) == (bundle.hemisphere == "left"), bundle
