"""What a participant's own masks say, and what they cannot say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.distance.case import Anatomy
from shiftkit.cohorts.folder import load_cohort, mask_path, tumor_path, write_description, write_participants
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.types import Bundle, Volume


def test_a_brain_mask_under_the_tumors_name_is_refused(tmp_path: Path) -> None:
    """A tumor of 1.6 liters would put every bundle at distance 0; one of half a liter is taken."""
    bundle, mask = Bundle.parse("AFleft"), np.zeros((60, 60, 60), bool)
    affine = np.diag([2.0, 2, 2, 1])
    write_description(tmp_path, "one")
    write_participants(tmp_path, pd.DataFrame({"participant_id": ["sub-1"], "group": ["glioma"]}))
    mask[2:5, 2:9, 2:5] = True
    write_image(Volume(array=mask, affine=affine), mask_path(tmp_path, "sub-1", bundle))
    for size, fits in ((58, False), (40, True)):
        tumor = np.zeros_like(mask)
        tumor[60 - size :, 60 - size :, 60 - size :] = True
        write_image(Volume(array=tumor, affine=affine), tumor_path(tmp_path, "sub-1"))
        case = load_cohort(tmp_path).cases[0]
        if fits:
            found = Anatomy.of(case, [bundle])
            assert (
                found.tumor_volume_ml == pytest.approx(512) and float(found.columns(bundle)["tumor_distance_mm"]) > 10
            )
        else:
            with pytest.raises(DataError, match="marks 1561 ml"):
                Anatomy.of(case, [bundle])
