"""Fixtures that more than one room uses."""

import os
from pathlib import Path

import pytest

# Tests run side by side already: work in every core means work in one.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("LOKY_MAX_CPU_COUNT", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images that lies beside a checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("SHIFTKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not at hand ({folder.name} is absent; set SHIFTKIT_DATA)")
    return folder
