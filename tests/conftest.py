"""Fixtures that more than one room uses."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from makers.phantoms import copy_of_phantom

from shiftkit.types import Cohort

# Tests run side by side already: work in every core means work in one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that at the end no process waits long for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images that lies beside a checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("SHIFTKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand ({folder.name} is absent; set SHIFTKIT_DATA)")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Cohort]]:
    """Phantom cohorts of a size, copied into a folder; see `makers.phantoms.copy_of_phantom`."""
    base = tmp_path_factory.getbasetemp()
    return partial(copy_of_phantom, base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)
