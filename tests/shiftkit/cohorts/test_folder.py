import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from shiftkit.cohorts.layout import candidate, read_filters
from shiftkit.cohorts.peaks import (
    frame_rotation,
    load_peaks,
    peaks_reference,
    read_sidecar,
    sidecar_path,
    write_peaks_sidecar,
)
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import write_image
from shiftkit.types import Bundle, Case, Volume

AF = Bundle.parse("AFleft")
letters = st.text("abcXYZ019", min_size=1, max_size=5)


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


@given(letters, letters, letters)
def test_further_entities_never_change_what_a_file_is(space: str, desc: str, model: str) -> None:
    """A file stays the FA map whatever space, description or model its name tells, and loses to the plain name."""
    further = candidate(Path(f"sub-01_space-{space}_model-{model}_param-fa_desc-{desc}_dwimap.nii.gz"))
    plain = candidate(Path("sub-01_param-fa_dwimap.nii.gz"))
    assert further is not None and plain is not None
    assert further.slot == plain.slot == ("image", "fa")
    assert further.rank > plain.rank


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


@pytest.mark.parametrize("text", ["", "[]", '{"t1w": 3}', '{"t1w": {"space": {}}}', "{"])
def test_bad_filter_files_are_usage_errors(text: str, tmp_path: Path) -> None:
    """A filter file of any other shape is refused with the file's name."""
    path = tmp_path / "filter.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"filter\.json"):
        read_filters(path)


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


def test_peaks_come_in_world_axes_whatever_the_sidecar_says(tmp_path: Path) -> None:
    """The same fibers stored in world, voxel and FSL axes load as the same vectors, NaN as no peak."""
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:3, :3] = [[-2 * np.cos(turn), -2 * np.sin(turn), 0], [-2 * np.sin(turn), 2 * np.cos(turn), 0], [0, 0, 2]]
    world = np.random.default_rng(1).normal(size=(3, 3, 3, 3, 3)).astype(np.float32)
    for reference in ("xyz", "ijk", "bvec"):
        stored = (world @ frame_rotation(affine, reference)).reshape(3, 3, 3, 9).astype(np.float32)
        stored[0, 0, 0] = np.nan
        path = tmp_path / f"{reference}.nii.gz"
        write_image(Volume(array=stored, affine=affine), path)
        write_peaks_sidecar(path, reference)
        assert peaks_reference(path) == reference
        loaded = load_peaks(Case(participant_id="sub-01", images={"peaks": path})).array.reshape(3, 3, 3, 3, 3)
        assert (loaded[0, 0, 0] == 0).all()
        np.testing.assert_allclose(loaded[1:], world[1:], atol=1e-5)


def test_peaks_without_a_usable_sidecar_are_refused(tmp_path: Path) -> None:
    """Missing, damaged and unknown sidecars are refused with the way to write one."""
    path = tmp_path / "sub-01_param-peaks_dwimap.nii.gz"
    with pytest.raises(DataError, match="OrientationEncoding"):
        peaks_reference(path)
    for text in ("{", "[]", "{}", '{"OrientationEncoding": {"Reference": "mni"}}'):
        sidecar_path(path).write_text(text)
        with pytest.raises(DataError, match="Write a file"):
            peaks_reference(path)


def test_sidecars_are_inherited_and_the_nearest_wins(tmp_path: Path) -> None:
    """A JSON file applies to what lies below it and has all of its entities; nearer files override, key by key."""
    image = image_path(tmp_path, "sub-01_ses-a", "peaks")
    image.parent.mkdir(parents=True)
    for place, content in (
        ("dwimap.json", {"Software": "top", "Model": "CSD"}),
        ("param-peaks_dwimap.json", {"Software": "peaks", "OrientationEncoding": {"Reference": "bvec"}}),
        ("param-fa_dwimap.json", {"OrientationEncoding": {"Reference": "mni"}}),
        ("sub-01/sub-01_ses-b_dwimap.json", {"Software": "another session"}),
        ("sub-01/ses-a/sub-01_ses-a_dwimap.json", {"OrientationEncoding": {"Reference": "ijk"}}),
    ):
        (tmp_path / place).write_text(json.dumps(content))
    assert read_sidecar(image) == {"Software": "peaks", "Model": "CSD", "OrientationEncoding": {"Reference": "ijk"}}
    assert peaks_reference(image) == "ijk"
    write_peaks_sidecar(image, "xyz")
    assert peaks_reference(image) == "xyz"
    assert (
        peaks_reference(image_path(tmp_path, "sub-01_ses-a", "peaks").with_name("sub-01_param-peaks_dwimap.nii"))
        == "bvec"
    )


def test_sidecars_above_the_cohort_do_not_count(tmp_path: Path) -> None:
    """What lies above the cohort's folder, or beside it, says nothing of its images."""
    image = image_path(tmp_path / "cohort", "sub-01", "peaks")
    image.parent.mkdir(parents=True)
    (tmp_path / "param-peaks_dwimap.json").write_text('{"OrientationEncoding": {"Reference": "xyz"}}')
    assert read_sidecar(image) == {}
