"""Measurements and a run that several tests look at; each is made once."""

from pathlib import Path

import numpy as np
import pytest
from makers.bundles import PYT, Study, elsewhere, template_of, tube, write_masks

from shiftkit import cohorts
from shiftkit.analyses.deformation.template import BundleTemplate
from shiftkit.analyses.deformation.v_norm import Measurement, measure
from shiftkit.cli import main
from shiftkit.images import write_image
from shiftkit.types import Volume


@pytest.fixture(scope="session")
def healthy() -> BundleTemplate:
    """Of one tube that nothing has pushed, 2 mm."""
    return template_of(tube(2.0)).template()


@pytest.fixture(scope="session")
def pushed(healthy: BundleTemplate) -> tuple[Measurement, Volume]:
    """That tube with its middle pushed by 6 mm."""
    return measure(tube(2.0, push_mm=6.0), healthy)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Patients that differ by more than a tumor pushes, and four controls that differ a little.

    Patient 1 is bent, 2 is pushed by 6 mm, 3 has an empty mask in the baseline, 4 is pushed by 12 mm and not in the
    baseline; 5 is empty, 6 cut in two, the mask of 9 damaged, as is that of control 9. Patient 1 has another bundle
    that no control has, pushed by 4 mm.
    """
    root = tmp_path_factory.mktemp("study")
    far = tube(2.5, 12.0)
    cut = far.array.copy()
    cut[:, 14:20] = False
    now = {
        "sub-g1": tube(2.5, bend_mm=5.0),
        "sub-g2": tube(2.5, 6.0, bend_mm=-5.0),
        "sub-g3": tube(2.5, 3.0),
        "sub-g4": far,
        "sub-g5": far.with_array(np.zeros_like(cut)),
        "sub-g6": far.with_array(cut),
        "sub-g9": far,
    }
    before = {key: elsewhere(tube(2.5, bend_mm=bend)) for key, bend in (("sub-g1", 5.0), ("sub-g2", -5.0))}
    before["sub-g3"] = far.with_array(np.zeros_like(cut))
    healthy = {f"sub-h{i}": tube(2.5, push) for i, push in ((0, -1.0), (1, 0.0), (2, 1.0), (3, 2.0), (9, 0.0))}
    for folder, push_mm in (("glioma", 4.0), ("earlier", 0.0)):
        write_image(tube(2.5, push_mm, bend_mm=5.0), cohorts.mask_path(root / folder, "sub-g1", PYT))
    made = Study(
        now=write_masks(root / "glioma", "glioma", now),
        before=write_masks(root / "earlier", "glioma", before),
        healthy=write_masks(root / "healthy", "control", healthy),
    )
    for damaged in (made.now["sub-g9"], made.healthy["sub-h9"]):
        next(iter(damaged.masks.values())).write_bytes(b"no image")
    return made


@pytest.fixture(scope="session")
def run(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``deform`` makes of the study; it ends with 4, as two masks are damaged."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["deform", *study.words(), "--out", str(out)]) == 4
    return out
