from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.scoring.study import score
from shiftkit.analyses.scoring.surfaces import MaskPair
from shiftkit.cohorts.folder import load_cohort, mask_path, write_description, write_participants
from shiftkit.errors import DataError
from shiftkit.images import read_image, read_mask, write_image
from shiftkit.types import Bundle, Cohort, Volume

NAMES = {"AF": "AF", "CST": "PYT", "IFO": "IFOF", "ILF": "ILF"}
KEY = "sub-tractsegsubject"


@pytest.fixture
def cohort(shared_data: Path, tmp_path: Path) -> Cohort:
    """The real subject's masks of the four bundles that the population maps have too."""
    root = tmp_path / "cohort"
    write_description(root, "cohort")
    write_participants(root, pd.DataFrame({"participant_id": [KEY], "group": ["control"]}))
    for theirs, ours in NAMES.items():
        for side in ("left", "right"):
            mask = read_mask(shared_data / "tractseg_subject" / "bundle_segmentations" / f"{theirs}_{side}.nii.gz")
            write_image(mask, mask_path(root, KEY, Bundle.parse(f"{ours}{side}")))
    return load_cohort(root)


def test_real_masks_against_themselves(shared_data: Path, cohort: Cohort) -> None:
    """The tool's own folder against the same masks: every overlap 1, every distance 0, nothing missing."""
    frame = score(shared_data / "tractseg_subject", cohort).frame
    assert len(frame) == 8 * 11
    perfect = {"hd95": 0, "assd": 0, "adjacency": 0, "volume_overreach": 0}
    assert all(row["value"] == perfect.get(row["metric"], 1) for _, row in frame.iterrows())
    assert set(frame["status"]) == {"ok"}


@pytest.mark.parametrize("voxels", [(2, 0, 0), (0, -3, 0), (0, 0, 1), (2, -1, 2)])
def test_real_masks_shifted_by_a_known_vector(cohort: Cohort, tmp_path: Path, voxels: tuple[int, int, int]) -> None:
    """The Hausdorff distance is the vector's length, other distances are at most that, and volumes agree."""
    length = float(np.linalg.norm(np.array(voxels) * 2.5))
    root = tmp_path / "shifted"
    write_description(root, "shifted")
    write_participants(root, pd.DataFrame({"participant_id": [KEY]}))
    for bundle, path in cohort.cases[0].masks.items():
        mask = read_mask(path)
        shifted = np.roll(mask.array, voxels, axis=(0, 1, 2))
        write_image(mask.with_array(shifted), mask_path(root, KEY, bundle))
        # In direction of the shift, the outermost voxel has nothing nearer than where it came from.
        there, back = MaskPair.of(shifted, mask.array, mask.spacing_mm).surface_distances_mm
        assert max(there.max(), back.max()) == pytest.approx(length)
    values = score(root, cohort, tolerance_mm=length + 1e-6).frame.pivot(
        index=["bundle", "hemisphere"], columns="metric", values="value"
    )
    assert (values["hd95"] <= length + 1e-6).all()
    assert (values["assd"] < values["hd95"]).all()
    assert (values["adjacency"] < length).all()
    assert (values["nsd"] == 1).all()
    assert (values["volume_similarity"] == 1).all()
    assert (values["dice"] < 1).all()
    np.testing.assert_allclose(values["sensitivity"], values["precision"])
    np.testing.assert_allclose(values["sensitivity"] + values["volume_overreach"], 1)


def test_real_masks_against_the_population_maps(shared_data: Path, cohort: Cohort, tmp_path: Path) -> None:
    """Population maps lie on another grid: refused, then resampled; each is nearest to the subject's own bundle."""
    dice: dict[str, dict[str, float]] = {}
    for name in (f"{ours}_{side}" for ours in NAMES.values() for side in ("left", "right")):
        root = tmp_path / name
        write_description(root, name)
        write_participants(root, pd.DataFrame({"participant_id": [KEY]}))
        counts = read_image(shared_data / "hcp1065" / f"{name}.nii.gz")
        present = Volume(array=counts.array > 0, affine=counts.affine)
        for bundle in cohort.bundles:
            write_image(present, mask_path(root, KEY, bundle))
        if name == "AF_left":
            with pytest.raises(DataError, match=r"157, 189, 136.*73, 87, 73.*`resample`"):
                score(root, cohort, metrics=["dice"])
        frame = score(root, cohort, metrics=["dice"], resample=True).frame
        labels = frame["bundle"] + "_" + frame["hemisphere"]
        dice[name] = dict(zip(labels, frame["value"], strict=True))
    table = pd.DataFrame(dice)  # rows: the subject's masks, columns: population maps
    for label in table.index:
        assert table[label].idxmax() == label
        mirrored = label.replace("left", "R").replace("right", "left").replace("R", "right")
        assert table.loc[label, mirrored] < 0.01
        assert table.loc[label, label] > 0.1
