import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from makers.layouts import GRID, LINE, image, mask, trk, volume

from shiftkit.bundles import TRACTSEG_ORDER
from shiftkit.cohorts.peaks import load_peaks
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image, read_mask, write_image
from shiftkit.importers import import_cohort
from shiftkit.importers.hcp105 import GRID_AFFINE, GRID_SHAPE
from shiftkit.importers.streamlines import read_streamlines, streamline_mask
from shiftkit.types import Bundle


def labels(cohort_case) -> set[str]:
    return {bundle.label for bundle in cohort_case.masks}


def test_tractseg_single_masks(tmp_path: Path) -> None:
    """A TractSeg folder gives peaks without NaN, with a sidecar, and bundles under their common names."""
    subject = tmp_path / "in" / "subject_7"
    peaks = np.ones((20, 20, 20, 9), dtype=np.float32)
    peaks[0] = np.nan
    write_image(volume(peaks), subject / "peaks.nii.gz")
    for name in ("AF_left", "CST_right", "IFO_left"):
        mask(subject / "bundle_segmentations" / f"{name}.nii.gz")
    cohort = import_cohort("tractseg", tmp_path / "in", tmp_path / "out", group="target_control")
    case = cohort["sub-subject7"]
    assert case.group == "target_control"
    assert labels(case) == {"AFleft", "PYTright", "IFOFleft"}
    loaded = load_peaks(case)
    assert (loaded.array[0] == 0).all() and (loaded.array[1:] == 1).all()
    assert import_cohort("tractseg", subject, tmp_path / "one").cases[0].participant_id == "sub-subject7"


def test_tractseg_one_file(tmp_path: Path) -> None:
    """Channels of the one-file output become the bundles of TractSeg's order."""
    stacked = np.zeros((6, 6, 6, 72), dtype=np.uint8)
    for channel in range(72):
        stacked.reshape(-1, 72)[channel, channel] = 1
    write_image(volume(stacked), tmp_path / "in" / "s1" / "tractseg_output" / "bundle_segmentations.nii.gz")
    case = import_cohort("tractseg", tmp_path / "in", tmp_path / "out").cases[0]
    assert len(case.masks) == 72
    at = TRACTSEG_ORDER.index("CST_left")
    assert np.flatnonzero(read_mask(case.masks[Bundle.parse("PYTleft")]).array.ravel()).tolist() == [at]


def test_tractoinferno(tmp_path: Path) -> None:
    """Sets become splits, maps modalities, and streamlines masks on the grid of the maps."""
    for name, subject in (("trainset", "sub-1001"), ("testset", "sub-1002")):
        folder = tmp_path / "in" / "derivatives" / name / subject
        image(folder / "anat" / f"{subject}__T1w.nii.gz", 2)
        image(folder / "dti" / f"{subject}__fa.nii.gz", 0.5)
        trk(folder / "tractography" / f"{subject}__AF_L.trk", LINE)
        trk(folder / "tractography" / f"{subject}__PYT_R.trk", LINE, LINE[::-1] + 2)
    cohort = import_cohort("tractoinferno", tmp_path / "in", tmp_path / "out")
    assert [case.attributes["split"] for case in cohort] == ["train", "test"]
    case = cohort["sub-1001"]
    assert set(case.images) == {"t1w", "fa"} and labels(case) == {"AFleft", "PYTright"}
    expected = streamline_mask(LINE.astype(float), np.array([2]), GRID, (20, 20, 20)).array
    np.testing.assert_array_equal(read_mask(case.masks[Bundle.parse("AFleft")]).array, expected)


def test_brainptm(tmp_path: Path) -> None:
    """Four tracts become four masks, cases without CST stay, and raw diffusion comes along for `prepare`."""
    for case, tracts in (
        ("case_1", ("CST_left", "CST_right", "OR_left", "OR_right")),
        ("case_2", ("OR_left", "OR_right")),
    ):
        folder = tmp_path / "in" / case
        image(folder / "T1.nii.gz", 3)
        image(folder / "brain_mask.nii.gz")
        write_image(volume(np.ones((20, 20, 20, 4), dtype=np.float32)), folder / "Diffusion.nii.gz")
        (folder / "Diffusion.bval").write_text("0 1000 1000 1000\n")
        (folder / "Diffusion.bvec").write_text("0 1 0 0\n0 0 1 0\n0 0 0 1\n")
        for tract in tracts:
            mask(folder / f"{tract}.nii.gz")
    cohort = import_cohort("brainptm", tmp_path / "in", tmp_path / "out", group="glioma")
    assert labels(cohort["sub-case1"]) == {"PYTleft", "PYTright", "ORleft", "ORright"}
    assert labels(cohort["sub-case2"]) == {"ORleft", "ORright"}
    raw = {path.name for path in (tmp_path / "out" / "sub-case1" / "dwi").iterdir()}
    assert {"sub-case1_dwi.nii.gz", "sub-case1_dwi.bval", "sub-case1_dwi.bvec"} <= raw


def test_hcp105_with_legacy_headers(tmp_path: Path) -> None:
    """Version 1 headers without an affine land on HCP's grid, where version 2 headers of the same line land too."""
    line = np.array([[-30.0, -20, 10], [-28, 15, 12]], dtype=np.float32)
    new = tmp_path / "in" / "599469" / "tracts" / "AF_left.trk"
    trk(new, line, affine=GRID_AFFINE, shape=GRID_SHAPE)
    content = bytearray(new.read_bytes())
    content[440:504] = bytes(64)  # the affine
    content[992:996] = (1).to_bytes(4, "little")  # the version
    old = new.with_name("IFO_right.trk")
    old.write_bytes(bytes(content))
    case = import_cohort("hcp105", tmp_path / "in", tmp_path / "out")["sub-599469"]
    masks = {bundle.label: read_mask(path) for bundle, path in case.masks.items()}
    assert set(masks) == {"AFleft", "IFOFright"}
    assert masks["AFleft"].shape == GRID_SHAPE
    np.testing.assert_array_equal(masks["AFleft"].array, masks["IFOFright"].array)
    np.testing.assert_allclose(masks["IFOFright"].affine, GRID_AFFINE)
    expected = streamline_mask(line.astype(float), np.array([2]), GRID_AFFINE, GRID_SHAPE).array
    np.testing.assert_array_equal(masks["AFleft"].array, expected)


def test_brats_labels(tmp_path: Path) -> None:
    """All labels make up the tumor by default, chosen ones if asked; the core leaves edema out."""
    array = np.zeros((20, 20, 20), dtype=np.uint8)
    array[5:7], array[7:10], array[10:11] = 1, 2, 4
    folder = tmp_path / "in" / "BraTS20_Training_001"
    write_image(volume(array), folder / "BraTS20_Training_001_seg.nii.gz")
    image(folder / "BraTS20_Training_001_t1.nii.gz")
    image(folder / "BraTS20_Training_001_t1ce.nii.gz", 9)
    case = import_cohort("brats", tmp_path / "in", tmp_path / "all", group="glioma").cases[0]
    assert case.tumor is not None and case.tumor_core is not None
    np.testing.assert_array_equal(read_mask(case.tumor).array, array > 0)
    np.testing.assert_array_equal(read_mask(case.tumor_core).array, np.isin(array, (1, 4)))
    assert read_image(case.images["t1w"]).array.max() == 1
    assert case.number("tumor_volume_ml") == pytest.approx((array > 0).sum() * 8 / 1000, abs=0.05)
    some = import_cohort("brats", tmp_path / "in", tmp_path / "some", group="glioma", tumor_labels=(1, 4)).cases[0]
    assert some.tumor is not None
    np.testing.assert_array_equal(read_mask(some.tumor).array, np.isin(array, (1, 4)))


def test_brats_labels_of_another_release(tmp_path: Path) -> None:
    """Enhancing tumor asked for as 4 and coded 3 is refused by the patient's name, and labels that nobody has are."""
    for name, labels in (("P1", (1, 2, 4)), ("P2", (1, 2, 3)), ("P3", (1, 2))):
        array = np.zeros((20, 20, 20), dtype=np.uint8)
        for place, label in enumerate(labels, start=5):
            array[place] = label
        write_image(volume(array), tmp_path / "in" / name / f"{name}_seg.nii.gz")
    for wanted, said in (((1, 4), "P2: .* 4, which is absent, and 3 is left over"), ((1, 7), "7 occurs in none")):
        with pytest.raises(DataError, match=said):
            import_cohort("brats", tmp_path / "in", tmp_path / "out", group="glioma", tumor_labels=wanted)
        assert not (tmp_path / "out").exists()
    cohort = import_cohort("brats", tmp_path / "in", tmp_path / "out", group="glioma", tumor_labels=(1, 3, 4))
    assert [int(read_mask(one.tumor).array.sum()) for one in cohort if one.tumor] == [800, 800, 400]


@pytest.mark.parametrize(
    ("values", "words"),
    [((0, 0.02), "from 0 to 0.02"), ((0, 50, 100), "from 0 to 100"), ((0, np.nan), "NaN"), ((0, 1, 2), "labels")],
    ids=["density", "percent", "NaN", "labels"],
)
def test_masks_that_are_none_are_not_imported(values: tuple[float, ...], words: str, tmp_path: Path) -> None:
    """A map that could be cut anywhere is refused with its range, and no cohort is left."""
    folder = tmp_path / "in" / "599469" / "bundle_segmentations"
    array = np.zeros((20, 20, 20), dtype=np.float32)
    for number, value in enumerate(values):
        array[4 * number : 4 * number + 4] = value
    write_image(volume(array), folder / "AF_left.nii.gz")
    with pytest.raises(DataError, match=words):
        import_cohort("tractseg", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_undeclared_orientation_is_not_declared_by_importing(tmp_path: Path) -> None:
    """A mask whose header says nothing of left and right is refused: a copy would say what nobody knows."""
    path = tmp_path / "in" / "599469" / "bundle_segmentations" / "AF_left.nii.gz"
    mask(path)
    nib.save(nib.Nifti1Image(np.asarray(nib.Nifti1Image.from_filename(path).dataobj), None), path)
    with pytest.raises(DataError, match="declare its orientation"):
        import_cohort("tractseg", tmp_path / "in", tmp_path / "out")


def test_real_bundles_of_dipy(tmp_path: Path) -> None:
    """The minimal bundles inside DIPY's package import, and every streamline point lies in its mask."""
    import dipy.data

    archive = Path(dipy.data.__file__).parent / "files" / "minimal_bundles.zip"
    if not archive.is_file():
        pytest.skip("this DIPY comes without its minimal bundles")
    with zipfile.ZipFile(archive) as bundles:
        bundles.extractall(tmp_path / "in")
    cohort = import_cohort("hcp105", tmp_path / "in", tmp_path / "out")
    assert len(cohort) == 5
    for case in cohort:
        assert labels(case) == {"AFleft", "PYTright", "CCForcepsMajor"}
    for label, name in (("AFleft", "AF_L"), ("PYTright", "CST_R"), ("CCForcepsMajor", "CC_ForcepsMajor")):
        found = read_mask(cohort["sub-1"].masks[Bundle.parse(label)])
        points, _ = read_streamlines(tmp_path / "in" / "sub_1" / f"{name}.trk")
        inverse = np.linalg.inv(found.affine)
        index = np.floor(points @ inverse[:3, :3].T + inverse[:3, 3] + 0.5).astype(int)
        assert ((index >= 0) & (index < found.shape)).all()
        assert found.array[tuple(index.T)].all()
        assert found.array.sum() >= len(np.unique(index, axis=0))


def test_streamlines_of_another_space_are_refused(tmp_path: Path) -> None:
    """Streamlines that lie off the images' grid are refused by name instead of giving an empty mask."""
    folder = tmp_path / "in" / "trainset" / "sub-1001"
    image(folder / "anat" / "sub-1001__T1w.nii.gz", 2)
    trk(folder / "tractography" / "sub-1001__AF_L.trk", LINE + 60)
    with pytest.raises(DataError, match=r"AF_L\.trk lie outside"):
        import_cohort("tractoinferno", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("kind", ["image", "streamlines"])
def test_damaged_file_leaves_no_cohort(kind: str, damage: str, tmp_path: Path) -> None:
    """One damaged file among sound ones is named, and nothing is left at the target."""
    folder = tmp_path / "in" / "trainset" / "sub-1001"
    image(folder / "anat" / "sub-1001__T1w.nii.gz", 2)
    trk(folder / "tractography" / "sub-1001__AF_L.trk", *[LINE + i / 10 for i in range(30)])
    bad = folder / "dti" / "sub-1001__fa.nii.gz" if kind == "image" else folder / "tractography" / "sub-1001__ILF_L.trk"
    image(bad) if kind == "image" else trk(bad, *[LINE + i / 10 for i in range(30)])
    content = bad.read_bytes()
    bad.write_bytes({"cut": content[: len(content) * 2 // 3], "empty": b"", "text": b"no data at all" * 200}[damage])
    with pytest.raises(DataError, match=bad.name):
        import_cohort("tractoinferno", tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    """Unknown formats and groups, a full target, and a folder in another layout each have their error."""
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="hcp105"):
        import_cohort("hcp", tmp_path / "in", tmp_path / "out")
    with pytest.raises(ConfigError, match="target_control"):
        import_cohort("hcp105", tmp_path / "in", tmp_path / "out", group="patient")
    with pytest.raises(DataError, match="layout of hcp105"):
        import_cohort("hcp105", tmp_path / "in", tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="new or empty"):
        import_cohort("hcp105", tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").exists()


def test_table_of_an_import_is_complete(tmp_path: Path) -> None:
    """Every imported participant has a row with its group."""
    for name in ("a1", "b2"):
        mask(tmp_path / "in" / name / "bundle_segmentations" / "AF_left.nii.gz")
    import_cohort("tractseg", tmp_path / "in", tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out" / "participants.tsv", sep="\t")
    assert rows.to_dict("list") == {"participant_id": ["sub-a1", "sub-b2"], "group": ["control", "control"]}
