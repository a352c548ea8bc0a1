from pathlib import Path

import pytest
from makers.segmentation import GRID

from shiftkit.errors import ConfigError
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.types import Cohort


def test_patches_that_do_not_fit_are_refused(controls: Cohort, tmp_path: Path) -> None:
    """Before anything is loaded, the message names the size, what it must be, and the box."""
    for patch, words in (((10, 8, 8), "multiples of 4"), ((4, 4, 4), "larger than 4"), ((32, 8, 8), "24 × 24 × 16")):
        with pytest.raises(ConfigError, match=words):
            train(controls, out=tmp_path / "m", recipe=Recipe(modality="fa", patch=patch, **GRID))
    with pytest.raises(ConfigError, match="`shape` must be"):
        train(controls, out=tmp_path / "m", recipe=Recipe(modality="fa", **{**GRID, "shape": (24, 24, 18)}))
    assert not (tmp_path / "m").exists()
