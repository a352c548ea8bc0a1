import base64
import gzip

import nibabel as nib
import numpy as np
import pytest
from makers.reports import ball, head, unpacked

from shiftkit.reports.volumes import LAYERS, pack

BOX = np.array([[-70.0, -80, -70], [70, 80, 70]])


@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PIR"])
def test_packed_masks_lie_where_they_were(orientation: str) -> None:
    """Whatever the voxel order, a mask's center of mass stays within half a voxel, and each layer has its own bit."""
    image = head(orientation)
    layers = {"reference": ball(image, (30, 10, -5), 16), "tumor": ball(image, (-30, -20, 15), 12)}
    packed = pack(image, {"case": layers}, BOX, (0, 1), 2.5)
    bits = unpacked(packed.overlays["case"])
    affine = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed.overlays["case"]))).affine
    for name, center in (("reference", (30, 10, -5)), ("tumor", (-30, -20, 15))):
        found = affine[:3, :3] @ np.argwhere(bits & LAYERS[name]).mean(axis=0) + affine[:3, 3]
        assert np.abs(found - center).max() < 2
        # The page's voxels are the image's own, so none is added or lost.
        assert np.count_nonzero(bits & LAYERS[name]) == np.count_nonzero(layers[name].array)
    assert not (bits & LAYERS["prediction"]).any()
    assert unpacked(packed.image).dtype == np.uint8


def test_thin_masks_survive_coarser_voxels() -> None:
    """A bundle as thin as two fine voxels keeps its volume within a third on voxels 2.5 times as large."""
    image = head(spacing=2.0)
    mask = ball(image, (20, 0, 0), 6)
    packed = pack(image, {"case": {"reference": mask}}, BOX, (0, 1), 3.0)
    volume = unpacked(packed.overlays["case"]).sum() * 27.0
    assert volume == pytest.approx(mask.array.sum() * 8.0, rel=0.33)
