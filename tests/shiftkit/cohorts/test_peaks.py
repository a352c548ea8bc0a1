import json
from pathlib import Path

import numpy as np
import pytest

from shiftkit.cohorts.folder import cohort_digest, image_path, load_cohort
from shiftkit.cohorts.peaks import (
    frame_rotation,
    load_peaks,
    peaks_reference,
    read_sidecar,
    sidecar_path,
    write_peaks_sidecar,
)
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.types import Case, Volume


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


def test_turned_peaks_and_a_virtual_tumor_are_other_inputs(tmp_path: Path) -> None:
    """The digest of a cohort changes with what its sidecars say of how images are read, wherever these lie."""
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tglioma\n")
    image = image_path(tmp_path, "sub-01", "peaks")
    write_image(Volume(array=np.ones((4, 4, 4, 9), np.float32), affine=np.eye(4)), image)
    tumor = tmp_path / "sub-01" / "anat" / "sub-01_label-tumor_mask.nii.gz"
    write_image(Volume(array=np.ones((4, 4, 4), np.uint8), affine=np.eye(4)), tumor)

    def digest() -> str:
        return cohort_digest(load_cohort(tmp_path))

    seen = [digest()]
    write_peaks_sidecar(image, "xyz")
    seen.append(digest())
    write_peaks_sidecar(image, "ijk")
    seen.append(digest())
    tumor.with_name("sub-01_label-tumor_mask.json").write_text('{"Virtual": true}')
    seen.append(digest())
    assert len(set(seen)) == 4
    tumor.with_name("sub-01_label-tumor_mask.json").write_text('{"Virtual": true, "Description": "none is there"}')
    assert digest() == seen[-1]
    sidecar = image.with_name(image.name.replace(".nii.gz", ".json"))
    sidecar.rename(tmp_path / "param-peaks_dwimap.json")
    assert digest() == seen[-1]
