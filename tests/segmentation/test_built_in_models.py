from functools import cache
from pathlib import Path

import numpy as np
import pytest

from shiftkit.cohorts.folder import load_cohort
from shiftkit.images import read_image, read_mask
from shiftkit.importers import import_cohort
from shiftkit.names import BUILT_IN_MODELS, find_model, is_of_phantom
from shiftkit.phantoms import phantom
from shiftkit.segmentation.network.checkpoints import Model, load_model
from shiftkit.segmentation.network.exporting import verify_model
from shiftkit.segmentation.prediction.cohort import predict
from shiftkit.types import Case

READS = {"reference": "peaks"}
"""What each model reads that is shipped."""
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(params=READS)
def shipped(request: pytest.FixtureRequest) -> Model:
    """Each model that is shipped."""
    return built_in(request.param)


@cache
def built_in(name: str) -> Model:
    return load_model(find_model(name))


def center_x(path: Path) -> float:
    """World x of a mask's center of mass."""
    mask = read_mask(path)
    return float((mask.affine[:3, :3] @ np.argwhere(mask.array).mean(axis=0) + mask.affine[:3, 3])[0])


def dice(case: Case, source: Case) -> np.ndarray:
    """Of each bundle of the second, by whatever masks the first has."""
    values: list[float] = []
    for bundle in source.bundles:
        one, two = read_mask(case.masks[bundle]).array, read_mask(source.masks[bundle]).array
        values.append(float(2 * (one & two).sum() / (one.sum() + two.sum())))
    return np.array(values)


def test_the_models_that_are_shipped_are_these() -> None:
    """A built-in name is one that is known here, and has a checkpoint."""
    assert set(BUILT_IN_MODELS) == set(READS)
    assert {path.name for path in next(iter(BUILT_IN_MODELS.values())).parent.iterdir()} == set(READS)


def test_a_shipped_model_is_sound_and_small(shipped: Model) -> None:
    """At most 5 MB of safetensors, ten bundles from what it is said to read, and every check passes."""
    folder = find_model(shipped.name)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 5e6
    assert shipped.modality == READS[shipped.name] and len(shipped.bundles) == 10
    assert verify_model(folder).sound
    assert is_of_phantom(shipped.digest)
    assert not list(folder.rglob("state"))


def test_the_card_says_what_was_measured(shipped: Model) -> None:
    """Its evaluation stands in the committed table, word for word: unseen people, patients, a real subject."""
    card = (find_model(shipped.name) / "docs" / "README.md").read_text(encoding="utf-8")
    told = card.split("\n## Evaluation\n")[1].strip()
    page = (BENCHMARKS / "models.md").read_text(encoding="utf-8")
    assert told == page.split(f"\n## {shipped.name}\n")[1].split("\n## ")[0].strip()
    (heads,) = (line for line in told.splitlines() if line.startswith("| bundle |"))
    everybody = {"`source` (20)", "`severe` (20)", "beyond `severe` (20)", "`moderate` (24)", "`severe` (24)"}
    assert not [one for one in everybody if one not in heads]
    assert told.count("\n| ") == 12  # heads, all, ten bundles
    assert "real subject" in heads if shipped.modality == "peaks" else "On real images it was not tried" in told
    assert str(shipped) in card and "missing" not in told


@pytest.mark.slow
def test_an_unseen_healthy_phantom_is_segmented(shipped: Model, tmp_path: Path) -> None:
    """Every bundle of brains that the model never saw is met better than by another person's mask of it.

    Each reaches a Dice of 0.7.
    """
    healthy = phantom(tmp_path / "cohort", n_healthy=2, n_glioma=0, seed=12345)["healthy"]
    made = predict(shipped, healthy, out=tmp_path / "p", device="cpu").cohort
    assert not any(shipped.has_seen(case) for case in healthy)
    one, two = healthy
    reached = np.array([dice(found, case) for found, case in zip(made, healthy, strict=True)])
    assert (reached > dice(one, two)).all()
    assert reached.min() > 0.7


@pytest.mark.slow
def test_a_shipped_model_knows_whom_it_has_seen(shipped: Model, tmp_path: Path) -> None:
    """Healthy people of the built-in cohort."""
    made = phantom(tmp_path / "built-in", n_healthy=1, n_glioma=1, seed=0)
    assert shipped.has_seen(made["healthy"].cases[0])
    assert not shipped.has_seen(made["glioma"].cases[0])
    assert len(shipped.participants) == 40


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, modality in READS.items() if modality == "peaks"])
def test_a_real_brain_keeps_its_grid_and_sides(name: str, shared_data: Path, tmp_path: Path) -> None:
    """Real peaks in LAS with NaN: the grid stays, left bundles lie left, right ones right; no Dice is promised."""
    import_cohort("tractseg", shared_data / "tractseg_subject", tmp_path / "cohort")
    cohort = load_cohort(tmp_path / "cohort")
    source = cohort.cases[0]
    image = read_image(source.images["peaks"])
    assert image.orientation == "LAS"
    made = predict(built_in(name), cohort, out=tmp_path / "p", device="cpu")
    assert not made.failed
    case = made.cohort.cases[0]
    for bundle in built_in(name).bundles:
        mask = read_mask(case.masks[bundle])
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert mask.array.any()
        assert (center_x(case.masks[bundle]) < 0) == (bundle.hemisphere == "left"), bundle
