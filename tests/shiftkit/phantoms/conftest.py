"""Small phantoms that several tests look at: 4 mm, few participants."""

from pathlib import Path

import numpy as np
import pytest

from shiftkit.phantoms import phantom
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import Person, draw_person
from shiftkit.phantoms.render import Rendering, render
from shiftkit.types import Cohort

SPACING_MM = 4.0


@pytest.fixture(scope="session")
def controls() -> list[Rendering]:
    source = load_profile("source")
    people = [draw_person(5, f"sub-h{i:03d}", False) for i in range(1, 7)]
    return [render(one, source, np.random.default_rng(i), SPACING_MM) for i, one in enumerate(people)]


@pytest.fixture(scope="session")
def patients() -> list[Person]:
    return [draw_person(5, f"sub-g{i:03d}", True) for i in range(1, 9)]


@pytest.fixture(scope="session")
def factorial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cohort]:
    folder: Path = tmp_path_factory.mktemp("factorial")
    return phantom(folder, n_healthy=0, n_glioma=2, spacing_mm=SPACING_MM, seed=5, factorial=True, fields=True)
