"""Measurements that several tests look at; each is made once."""

import pytest
from makers.bundles import template_of, tube

from shiftkit.analyses.deformation.template import BundleTemplate
from shiftkit.analyses.deformation.v_norm import Measurement, measure
from shiftkit.types import Volume


@pytest.fixture(scope="session")
def healthy() -> BundleTemplate:
    """Of one tube that nothing has pushed, 2 mm."""
    return template_of(tube(2.0)).template()


@pytest.fixture(scope="session")
def pushed(healthy: BundleTemplate) -> tuple[Measurement, Volume]:
    """That tube with its middle pushed by 6 mm."""
    return measure(tube(2.0, push_mm=6.0), healthy)
