"""Image-level shift: each property tells what was done to the images, and the claim names the channel."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from shiftkit import cohorts
from shiftkit.analyses.features.images import image_shift, measure
from shiftkit.analyses.features.result import ImageShift
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import IMAGES, TABLES
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.tables import read_table, write_table
from shiftkit.types import Cohort, Volume
from shiftkit.work import Work

SHAPE = (20, 22, 18)
ONE = Work(jobs=1)


def picture(rng: np.random.Generator, noise: float, blur: float, scale: float) -> np.ndarray:
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.9
    image = 1 + 0.3 * np.sign(np.sin(5 * x)) + 0.02 * rng.standard_normal()
    image = ndimage.gaussian_filter(image, blur) if blur else image
    return (scale * (image + noise * rng.standard_normal(SHAPE)) * brain).astype(np.float32)


def make(root: Path, n: int, seed: int, spacing_mm: float = 2.0, **ways: dict[str, float]) -> Cohort:
    """Participants with one image a modality; ``ways`` says how each is made."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        key = f"sub-{root.name}{number:02d}"
        for modality, way in ways.items():
            image = picture(rng, **({"noise": 0.05, "blur": 0.0, "scale": 1.0} | way))
            affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
            write_image(Volume(array=image, affine=affine), cohorts.image_path(root, key, modality))
        rows.append({"participant_id": key, "group": "control"})
    cohorts.write_description(root, root.name)
    cohorts.write_participants(root, pd.DataFrame(rows))
    return cohorts.load_cohort(root)


def difference(result: ImageShift, modality: str, name: str) -> float:
    table = result.to_frame().set_index(["modality", "property"])
    return float(table.loc[(modality, name), "difference"])


def test_each_property_answers_to_what_was_done(tmp_path: Path) -> None:
    """Noise raises noise, blur lowers sharpness, scaling moves intensity alone; the untouched channel stays."""
    plain: dict[str, float] = {}
    controls = make(tmp_path / "c", 12, 1, fa=plain, t1w=plain, ap=plain, md=plain)
    patients = make(tmp_path / "p", 12, 2, fa={"noise": 0.1}, t1w={"blur": 1.0}, ap={"scale": 1.4}, md=plain)
    result = image_shift(patients, controls, inference=Inference(n_permutations=199), work=ONE)
    assert difference(result, "fa", "noise") > 3
    assert difference(result, "t1w", "sharpness") < -2
    assert difference(result, "ap", "intensity") > 3
    assert abs(difference(result, "ap", "contrast")) < 1.5
    table = result.to_frame()
    shown = table[table["p_adjusted"] <= 0.05]
    assert {"fa", "t1w", "ap"} <= set(shown["modality"])
    assert "md" not in set(shown["modality"])


def test_the_claim_names_the_channel_that_differs_most_and_the_spacing(tmp_path: Path) -> None:
    """The noisy modality is named, and voxels of another size are told in mm rather than in standard deviations."""
    controls = make(tmp_path / "c", 8, 1, fa={}, t1w={})
    patients = make(tmp_path / "p", 8, 2, spacing_mm=2.5, fa={"noise": 0.3}, t1w={})
    result = image_shift(patients, controls, inference=Inference(n_permutations=199), work=ONE)
    assert "of fa channel 1" in result.claim
    assert "2.00 mm in controls, 2.50 in patients" in result.claim
    row = result.table[(result.table["property"] == "spacing") & (result.table["modality"] == "t1w")].iloc[0]
    assert row["status"] == "constant" and row["controls"] == 2.0


def test_noise_is_that_which_was_added() -> None:
    """On a linear ramp the estimate is the noise's standard deviation over the range, within a tenth."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 10, 40)[:, None, None] * np.ones((40, 40, 40))
    found = measure(ramp + 0.5 * rng.standard_normal((40, 40, 40)), np.ones((40, 40, 40), bool), (1.0, 1.0, 1.0))
    low, high = np.percentile(ramp, [1, 99])
    assert found["noise"] == pytest.approx(0.5 / (high - low), rel=0.1)


def test_few_participants_and_flat_images_have_a_status(tmp_path: Path) -> None:
    """Three against three is too few; identical constants are ``constant``; the table fits its schema."""
    few = image_shift(make(tmp_path / "p", 3, 1, fa={}), make(tmp_path / "c", 3, 2, fa={}), work=ONE)
    assert set(few.to_frame()["status"]) == {"too_few"}
    assert "too few" in few.claim
    write_table(few.to_frame(), IMAGES, tmp_path / "images.tsv")
    read_table(tmp_path / "images.tsv", TABLES["images"])


def test_cohorts_without_a_common_modality_are_refused(tmp_path: Path) -> None:
    """Both lists stand in the message."""
    with pytest.raises(DataError, match=r"has t1w.*has fa"):
        image_shift(make(tmp_path / "p", 1, 1, t1w={}), make(tmp_path / "c", 1, 2, fa={}))
