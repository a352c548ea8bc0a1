import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.cohorts.folder import (
    image_path,
    load_cohort,
    mask_path,
    probability_path,
    read_participants,
    tumor_path,
    write_description,
    write_participants,
)
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.types import Bundle, Volume

AF = Bundle.parse("AFleft")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if not (root / "participants.tsv").exists():
        participants = sorted(path.name for path in root.glob("sub-*"))
        write_participants(root, pd.DataFrame({"participant_id": participants, "group": "control"}))
    return root


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every path the writers name is found again as what it is, sessions included."""
    for key in ("sub-01", "sub-02_ses-a", "sub-02_ses-b"):
        paths = [image_path(tmp_path, key, modality) for modality in ("t1w", "fa", "peaks")]
        paths += [mask_path(tmp_path, key, AF), mask_path(tmp_path, key, Bundle(name="CC"))]
        paths += [probability_path(tmp_path, key, AF), tumor_path(tmp_path, key), tumor_path(tmp_path, key, "core")]
        touch(tmp_path, *(path.relative_to(tmp_path).as_posix() for path in paths))
    write_description(tmp_path, "three scans")
    cohort = load_cohort(tmp_path)
    assert [case.key for case in cohort] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    for case in cohort:
        assert case.images == {m: image_path(tmp_path, case.key, m) for m in ("t1w", "fa", "peaks")}
        assert case.masks == {b: mask_path(tmp_path, case.key, b) for b in (AF, Bundle(name="CC"))}
        assert case.probabilities == {AF: probability_path(tmp_path, case.key, AF)}
        assert (case.tumor, case.tumor_core) == (tumor_path(tmp_path, case.key), tumor_path(tmp_path, case.key, "core"))
    assert cohort.description["Name"] == "three scans"


def test_plain_name_wins_and_single_candidates_serve(tmp_path: Path) -> None:
    """The name without further entities is taken; without it, the only candidate."""
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_space-MNI_T1w.nii.gz",
        "sub-01/dwi/sub-01_space-T1w_res-2_model-tensor_param-fa_dwimap.nii.gz",
        "sub-01/dwi/sub-01_desc-brain_mask.nii.gz",
        "sub-01/dwi/notes.nii.gz",
    )
    case = load_cohort(tmp_path)["sub-01"]
    assert case.images["t1w"].name == "sub-01_T1w.nii.gz"
    assert "model-tensor" in case.images["fa"].name
    assert case.masks == {}


def test_ambiguous_files_are_named(tmp_path: Path) -> None:
    """Two files that could be the same thing are an error that names both, and a filter settles it."""
    names = ("sub-01_space-ACPC_T1w.nii.gz", "sub-01_space-MNI_T1w.nii.gz")
    touch(tmp_path, *(f"sub-01/anat/{name}" for name in names))
    with pytest.raises(DataError, match=f"{names[0]} or {names[1]}"):
        load_cohort(tmp_path)
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": {"space": ["ACPC", "native"]}}))
    assert load_cohort(tmp_path, filters=path)["sub-01"].images["t1w"].name == names[0]


def test_filters_know_null_and_long_names(tmp_path: Path) -> None:
    """Null asks for absence, a long entity name means the short one, and a filter can leave nothing."""
    touch(tmp_path, "sub-01/dwi/sub-01_res-1_param-fa_dwimap.nii.gz", "sub-01/dwi/sub-01_param-fa_dwimap.nii.gz")
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"fa": {"resolution": 1}}))
    assert "res-1" in load_cohort(tmp_path, filters=path)["sub-01"].images["fa"].name
    path.write_text(json.dumps({"image": {"res": None}}))
    assert "res-1" not in load_cohort(tmp_path, filters=path)["sub-01"].images["fa"].name
    assert load_cohort(tmp_path, filters={"fa": {"space": ("X",)}})["sub-01"].images == {}


def test_sessions_can_be_chosen(tmp_path: Path) -> None:
    """A filter on the session leaves the others out."""
    touch(tmp_path, *(f"sub-01/ses-{s}/anat/sub-01_ses-{s}_T1w.nii.gz" for s in ("pre", "post")))
    assert len(load_cohort(tmp_path)) == 2
    assert [case.session for case in load_cohort(tmp_path, filters={"session": {"ses": ("pre",)}})] == ["ses-pre"]


def test_lesion_roi_is_a_tumor_mask(tmp_path: Path) -> None:
    """``label-lesion_roi`` is read as the tumor, and gives way to ``label-tumor_mask``."""
    touch(tmp_path, "sub-01/anat/sub-01_label-lesion_roi.nii.gz")
    tumor = load_cohort(tmp_path)["sub-01"].tumor
    assert tumor is not None and "lesion" in tumor.name
    touch(tmp_path, "sub-01/anat/sub-01_label-tumor_mask.nii.gz")
    assert load_cohort(tmp_path)["sub-01"].tumor == tumor_path(tmp_path, "sub-01")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00\x01\x02", b"name\tgroup\nsub-01\tcontrol\n", b"participant_id\nsub-01\nsub-01\n"],
    ids=["empty", "binary", "no column", "twice"],
)
def test_corrupt_participants_are_refused(content: bytes, tmp_path: Path) -> None:
    """A damaged participants.tsv is invalid data, named, and never a cohort."""
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"participants\.tsv"):
        load_cohort(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe\x00"])
def test_corrupt_description_is_refused(content: bytes, tmp_path: Path) -> None:
    """A damaged dataset_description.json is invalid data, named."""
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "dataset_description.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset_description\.json"):
        load_cohort(tmp_path)


def test_missing_values_and_unknown_columns(tmp_path: Path) -> None:
    """``n/a`` and empty cells are missing, unknown columns stay, and a byte order mark does not matter."""
    text = "participant_id\tgroup\tage\thandedness\nsub-01\tcontrol\tn/a\tleft\nsub-02\tglioma\t61\t\n"
    (tmp_path / "participants.tsv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    expected = {"sub-01": {"group": "control", "handedness": "left"}, "sub-02": {"group": "glioma", "age": "61"}}
    assert read_participants(tmp_path) == expected


def test_no_cohort_where_there_is_none(tmp_path: Path) -> None:
    """A missing folder, and one without participants, are invalid data."""
    with pytest.raises(DataError, match="nowhere"):
        load_cohort(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"participants\.tsv"):
        load_cohort(tmp_path)
    touch(tmp_path)
    with pytest.raises(DataError):
        load_cohort(tmp_path)


def test_a_thousand_participants_are_indexed_in_seconds(tmp_path: Path) -> None:
    """1,000 participants with 16 files each are indexed in under 5 s."""
    bundles = [
        Bundle.parse(f"{name}{side}") for name in ("AF", "FAT", "IFOF", "ILF", "PYT") for side in ("left", "right")
    ]
    for i in range(1000):
        key = f"sub-{i:04d}"
        (tmp_path / key / "anat").mkdir(parents=True)
        (tmp_path / key / "dwi").mkdir()
        paths = [image_path(tmp_path, key, modality) for modality in ("t1w", "fa", "ap", "peaks")]
        paths += [mask_path(tmp_path, key, bundle) for bundle in bundles]
        for path in [*paths, tumor_path(tmp_path, key), tumor_path(tmp_path, key, "core")]:
            path.touch()
    keys = [f"sub-{i:04d}" for i in range(1000)]
    write_participants(tmp_path, pd.DataFrame({"participant_id": keys, "group": "control"}))
    start = time.perf_counter()
    cohort = load_cohort(tmp_path)
    assert time.perf_counter() - start < 5
    assert len(cohort) == 1000 and len(cohort.bundles) == 10


@pytest.mark.parametrize("name", ["sub-_.._.._x", "sub-", "sub-a b", "sub-<b>", "sub-a\nb", "sub-" + "x" * 100])
def test_folders_whose_names_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    """Paths are made of a participant's name: only letters and digits are taken, and the folder is named."""
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="letters and digits") as error:
        load_cohort(tmp_path)
    assert "\n" not in str(error.value)


def test_sessions_are_named_as_participants_are(tmp_path: Path) -> None:
    """A session's folder that leads elsewhere is refused too."""
    touch(tmp_path, "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz")
    (tmp_path / "sub-01" / "ses-.._x").mkdir()
    with pytest.raises(DataError, match="ses- and up to 60 letters"):
        load_cohort(tmp_path)


def test_a_cohort_goes_by_a_name_that_pages_can_show(tmp_path: Path) -> None:
    """Markup and formulas in the folder's own name do not enter tables."""
    names = {"=1+1": "1+1", "<b>x": "bx", "glioma": "glioma"}
    for folder, name in names.items():
        touch(tmp_path / folder, "sub-01/anat/sub-01_T1w.nii.gz")
        assert load_cohort(tmp_path / folder).name == name


def test_ids_and_attributes_are_checked_where_they_enter(tmp_path: Path) -> None:
    """A formula as an id is refused; as an attribute it is written as a text."""
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    (tmp_path / "participants.tsv").write_text("participant_id\n=1+1\n")
    with pytest.raises(DataError, match="formula"):
        load_cohort(tmp_path)
    write_participants(tmp_path, pd.DataFrame({"participant_id": ["sub-01"], "site": ["=1+1"]}))
    assert "'=1+1" in (tmp_path / "participants.tsv").read_text()


def test_an_infinite_age_is_none(tmp_path: Path) -> None:
    """A number that is infinite, by word or by size, is refused by its column."""
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    for text in ("inf", "1e999"):
        (tmp_path / "participants.tsv").write_text(f"participant_id\tage\nsub-01\t{text}\n")
        with pytest.raises(DataError, match="age of sub-01"):
            load_cohort(tmp_path)["sub-01"].number("age")


def test_a_derivative_says_what_it_is(tmp_path: Path) -> None:
    """A README that is there stays; masks get a sidecar once there are any; each column of the table has a meaning."""
    write_description(tmp_path, "mine")
    assert "# mine" in (tmp_path / "README.md").read_text() and "*_dwimap.*" in (tmp_path / ".bidsignore").read_text()
    assert not (tmp_path / "mask.json").exists()  # without any mask it would be one without a file
    (tmp_path / "README.md").write_text("My own words.\n")
    mask = mask_path(tmp_path, "sub-01_ses-02", Bundle.parse("AFleft"))
    write_image(Volume(array=np.ones((3, 3, 3), dtype=bool), affine=np.eye(4)), mask)
    write_description(tmp_path, "mine")
    assert (tmp_path / "README.md").read_text() == "My own words.\n"
    assert json.loads((tmp_path / "mask.json").read_text())["Type"] == "ROI"
    write_participants(tmp_path, pd.DataFrame({"participant_id": ["sub-01"], "group": ["control"], "iq": [100]}))
    meanings = json.loads((tmp_path / "participants.json").read_text())
    assert list(meanings) == ["participant_id", "group", "iq"] and "glioma" in meanings["group"]["Levels"]
    assert load_cohort(tmp_path)["sub-01"].masks
