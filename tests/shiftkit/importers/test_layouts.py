"""Layouts as they lie on disk, with the file names that the data sets have."""

from pathlib import Path

import numpy as np
import pytest
from makers import layouts
from makers.layouts import GRID, LINE, image, mask, trx

import shiftkit as sk
from shiftkit.checks import check
from shiftkit.cli import main
from shiftkit.cohorts.folder import load_cohort
from shiftkit.errors import DataError
from shiftkit.images import read_mask
from shiftkit.importers import FORMATS, import_cohort
from shiftkit.importers.streamlines import header_grid, read_groups, read_streamlines, streamline_mask
from shiftkit.types import Bundle, Case


def labels(case: Case) -> set[str]:
    return {bundle.label for bundle in case.masks}


def test_brainptm_as_unpacked(tmp_path: Path) -> None:
    """Tracts beside the data are found, cases are patients, and dummies of test cases are no reference."""
    cohort = import_cohort("brainptm", layouts.brainptm(tmp_path / "in"), tmp_path / "out")
    assert {case.key: labels(case) for case in cohort} == {
        "sub-case1": {"PYTleft", "PYTright", "ORleft", "ORright"},
        "sub-case2": {"ORleft", "ORright"},
        "sub-case61": set(),
    }
    assert [case.group for case in cohort] == ["glioma"] * 3
    assert [case.attributes["split"] for case in cohort] == ["train", "train", "test"]
    for ending in ("bval", "bvec"):
        assert (tmp_path / "out" / "sub-case61" / "dwi" / f"sub-case61_dwi.{ending}").is_file()
    one = import_cohort("brainptm", tmp_path / "in" / "sheba75_data_train", tmp_path / "one")
    assert len(labels(one["sub-case1"])) == 4


def test_tractoinferno_brain_is_all_tissues(tmp_path: Path) -> None:
    """The brain is what CSF, gray and white matter mark together; with two of them there is none."""
    source = layouts.tractoinferno(tmp_path / "in")
    (source / "derivatives" / "testset" / "sub-1030" / "mask" / "sub-1030__mask_gm.nii.gz").unlink()
    cohort = import_cohort("tractoinferno", source, tmp_path / "out")
    assert labels(cohort["sub-1006"]) == {"AFleft", "PYTright", "CCPa"}
    brain = read_mask(tmp_path / "out" / "sub-1006" / "dwi" / "sub-1006_desc-brain_mask.nii.gz").array
    assert np.flatnonzero(brain.any(axis=(1, 2))).tolist() == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]
    assert not (tmp_path / "out" / "sub-1030" / "dwi" / "sub-1030_desc-brain_mask.nii.gz").exists()
    assert [case.attributes["split"] for case in cohort] == ["train", "test"]


@pytest.mark.parametrize("n_volumes", [72, 73])
def test_training_data_of_tractseg(tmp_path: Path, n_volumes: int) -> None:
    """Masks in one file are told apart by TractSeg's order, behind a background if there is one; peaks come along."""
    cohort = import_cohort("hcp105", layouts.hcp_training(tmp_path / "in", n_volumes), tmp_path / "out")
    case = cohort["sub-599469"]
    assert len(case.masks) == 72 and set(case.images) == {"peaks"}
    at = np.flatnonzero(read_mask(case.masks[Bundle.parse("AFleft")]).array.ravel())
    assert at.tolist() == [n_volumes - 72]


def test_another_number_of_volumes_is_refused(tmp_path: Path) -> None:
    """Of 20 volumes nobody knows which is which."""
    with pytest.raises(DataError, match="it has 20"):
        import_cohort("hcp105", layouts.hcp_training(tmp_path / "in", 20), tmp_path / "out")


def test_sessions_stay_sessions(tmp_path: Path) -> None:
    """Two sessions of one participant become two cases of one row."""
    cohort = import_cohort("tractseg", layouts.tractseg(tmp_path / "in"), tmp_path / "out")
    assert [case.key for case in cohort] == ["sub-P01_ses-post", "sub-P01_ses-pre"]
    assert all(labels(case) == {"AFleft", "AFright", "PYTleft"} for case in cohort)
    assert (tmp_path / "out" / "participants.tsv").read_text().splitlines()[1:] == ["sub-P01\tcontrol"]


def test_pyafq_of_three_releases(tmp_path: Path) -> None:
    """Bundles are found by file or by group, in folders of sessions and of newer releases, on the FA map's grid."""
    cohort = import_cohort("pyafq", layouts.pyafq(tmp_path / "in"), tmp_path / "out")
    assert {case.key: labels(case) for case in cohort} == {
        "sub-02": {"AFleft", "ILFright"},
        "sub-03": {"AFleft", "PYTright"},
        "sub-NDARAA948VFH_ses-HBNsiteRU": {"AFleft", "PYTright", "FP"},
    }
    assert all(set(case.images) == {"fa"} for case in cohort)
    expected = streamline_mask(np.concatenate([LINE + 4, LINE + 6]), np.array([2, 2]), GRID, (20, 20, 20)).array
    np.testing.assert_array_equal(read_mask(cohort["sub-03"].masks[Bundle.parse("PYTright")]).array, expected)


def test_brats_of_two_releases(tmp_path: Path) -> None:
    """Patients are gliomas, time points sessions, the odd file is read; the side is the mask's within the brain."""
    cohort = import_cohort("brats", layouts.brats(tmp_path / "in"), tmp_path / "out")
    assert {case.key: case.group for case in cohort} == dict.fromkeys(
        (
            "sub-BraTS20Training001",
            "sub-BraTS20Training355",
            "sub-BraTSGLI00008_ses-000",
            "sub-BraTSGLI00008_ses-001",
        ),
        "glioma",
    )
    volumes = [int(read_mask(case.tumor).array.sum()) for case in cohort if case.tumor]
    cores = [int(read_mask(case.tumor_core).array.sum()) for case in cohort if case.tumor_core]
    assert (volumes, cores) == ([1200, 800, 1200, 1200], [800, 400, 800, 800])
    # Rows of the grid run from right to left.
    assert [case.attributes["tumor_side"] for case in cohort] == ["right", "right", "left", "left"]


def test_numbers_of_two_releases_in_one_map_are_asked_about(tmp_path: Path) -> None:
    """3 and 4 in one map may be tumor and cavity, which only the user can tell."""
    folder = tmp_path / "in" / "BraTS-GLI-00005-100"
    layouts.labels(folder / "BraTS-GLI-00005-100-seg.nii.gz", 1, 2, 3, 4)
    with pytest.raises(DataError, match="resection cavity"):
        import_cohort("brats", tmp_path / "in", tmp_path / "out")
    cohort = import_cohort("brats", tmp_path / "in", tmp_path / "out", tumor_labels=(1, 2, 3))
    assert cohort.cases[0].tumor is not None
    assert read_mask(cohort.cases[0].tumor).array.sum() == 1200


def test_an_import_without_references_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verb says that nothing can be scored, and `check` calls no such cohort sound."""
    source, out = layouts.brats(tmp_path / "in"), tmp_path / "out"
    assert main(["import", "brats", str(source), str(out)]) == 0
    assert "no reference masks" in capsys.readouterr().out
    report = check(load_cohort(out))
    assert "not sound" in str(report) and [one.check for one in report.problems].count("reference") == 1


def test_an_unknown_layout_is_shown_beside_the_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3; the message has what the folder holds, every layout that is read, and the format that would fit."""
    image(tmp_path / "in" / "imagesTr" / "BRATS_001.nii.gz")
    mask(tmp_path / "in" / "labelsTr" / "BRATS_001.nii.gz")
    assert main(["import", "hcp105", str(tmp_path / "in"), str(tmp_path / "out")]) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "imagesTr/BRATS_001.nii.gz, labelsTr/BRATS_001.nii.gz" in told
    assert all(one.LAYOUT.split()[0] in told for one in FORMATS.values())
    with pytest.raises(DataError, match="It fits brats: name that format"):
        import_cohort("hcp105", layouts.brats(tmp_path / "brats"), tmp_path / "out")


def test_dense_voxels_alone(tmp_path: Path) -> None:
    """A voxel counts from so many streamlines; one that is entered twice by the same streamline counts once."""
    across = np.array([[-10.3, 0.3, 0.3], [10.3, 0.3, 0.3]], dtype=np.float32)
    along = np.array([[0.3, -10.3, 0.3], [0.3, 10.3, 0.3]], dtype=np.float32)
    source = tmp_path / "in"
    layouts.trk(source / "599469" / "tracts" / "AF_left.trk", np.concatenate([across, across[::-1]]), along)
    image(source / "599469" / "FA.nii.gz")
    marked = {}
    for n in (1, 2):
        case = sk.import_cohort("hcp105", source, tmp_path / str(n), streamlines=n).cases[0]
        marked[n] = read_mask(case.masks[Bundle.parse("AFleft")]).array
    one, other = (streamline_mask(line, np.array([2]), GRID, (20, 20, 20)).array for line in (across, along))
    np.testing.assert_array_equal(marked[1], one | other)
    np.testing.assert_array_equal(marked[2], one & other)
    assert marked[2].sum() == 1


def test_trx_is_read_as_its_library_writes_it(tmp_path: Path) -> None:
    """Points, lengths, groups and grid come back; a damaged file is refused by name."""
    path = tmp_path / "a.trx"
    longer = np.concatenate([LINE, LINE + 2]).astype(np.float32)
    trx(path, {"Left Arcuate": [1], "CST_R": [0, 1]}, LINE, longer)
    points, lengths = read_streamlines(path)
    np.testing.assert_allclose(points, np.concatenate([LINE, longer]))
    assert lengths.tolist() == [2, 4] and read_groups(path) == ["CST_R", "Left Arcuate"]
    points, lengths = read_streamlines(path, group="Left Arcuate")
    np.testing.assert_allclose(points, longer)
    assert lengths.tolist() == [4]
    grid = header_grid(path)
    assert grid is not None and grid[1] == (20, 20, 20)
    np.testing.assert_allclose(grid[0], GRID)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"a\.trx must be a readable tractogram"):
        read_streamlines(path)
