import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from shiftkit.analyses.layouts import find_predictions, parse_bundle
from shiftkit.analyses.scoring import score
from shiftkit.cohorts import load_cohort, mask_path, write_description, write_participants
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.types import Bundle, Cohort, Volume

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
LABELS = ("AFleft", "PYTright")
KEYS = ("sub-1", "sub-2")
Mask = NDArray[np.bool_]


def reference(key: str, label: str) -> Mask:
    mask = np.zeros((12, 10, 8), dtype=bool)
    x = 1 if label == "AFleft" else 7
    mask[x : x + 3, 2 : 6 + KEYS.index(key), 2:5] = True
    return mask


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    root = tmp_path / "cohort"
    write_description(root, "cohort")
    write_participants(root, pd.DataFrame({"participant_id": KEYS, "group": "control"}))
    for key in KEYS:
        for label in LABELS:
            image = Volume(array=reference(key, label), affine=AFFINE)
            write_image(image, mask_path(root, key, Bundle.parse(label)))
    return load_cohort(root)


def put(path: Path, array: NDArray[np.generic]) -> None:
    write_image(Volume(array=array, affine=AFFINE), path)


def perfect(folder: Path, cohort: Cohort, **options: bool) -> bool:
    table = score(folder, cohort, metrics=["dice"], **options)  # type: ignore[arg-type]
    assert len(table) == 4
    assert table.frame["model"].unique().tolist() == [folder.name]
    return bool((table.frame["value"] == 1).all())


@pytest.mark.parametrize(
    "place",
    [
        "{key}/tractseg_output/bundle_segmentations/{name}.nii.gz",
        "{key}/bundle_segmentations/{name}.nii.gz",
        "{key}/{name}.nii.gz",
    ],
)
def test_tractseg_layout(cohort: Cohort, tmp_path: Path, place: str) -> None:
    """Folders of one file a bundle, under TractSeg's names, with or without its own folders between."""
    root = tmp_path / "tool"
    for key in KEYS:
        put(root / place.format(key=key, name="AF_left"), reference(key, "AFleft"))
        put(root / place.format(key=key, name="CST_right"), reference(key, "PYTright"))
        put(root / place.format(key=key, name="CC_1"), reference(key, "PYTright"))
    assert perfect(root, cohort)


def test_tractseg_folder_of_one_participant(cohort: Cohort, tmp_path: Path) -> None:
    """One participant's folder carries the participant's name, whatever stands between its letters."""
    for label, name in zip(LABELS, ("AF_left", "CST_right"), strict=True):
        put(tmp_path / "sub_1" / "bundle_segmentations" / f"{name}.nii.gz", reference("sub-1", label))
    found = find_predictions(tmp_path / "sub_1")
    assert list(found.cases) == ["sub_1"]
    renamed = find_predictions(tmp_path / "sub_1").of(cohort["sub-1"])
    assert renamed is None  # "sub_1" is not "sub-1": only the prefix "sub-" may be missing
    (tmp_path / "sub_1").rename(tmp_path / "1")
    table = score(tmp_path / "1", cohort, metrics=["dice"])
    assert table.counts() == {"ok": 2, "unavailable": 2}


def test_nnunet_label_maps(cohort: Cohort, tmp_path: Path) -> None:
    """One label map a case; values are named in dataset.json."""
    root = tmp_path / "nnunet"
    for key in KEYS:
        labels = reference(key, "AFleft").astype(np.uint8) + 2 * reference(key, "PYTright").astype(np.uint8)
        put(root / f"{key}.nii.gz", labels)
    named = {"background": 0, "AF_left": 1, "CST_right": 2}
    (root / "dataset.json").write_text(json.dumps({"labels": named, "file_ending": ".nii.gz"}))
    assert perfect(root, cohort)


def test_nnunet_regions_let_bundles_overlap(cohort: Cohort, tmp_path: Path) -> None:
    """A bundle that is a region is all of its values; the shared value belongs to both bundles."""
    root = tmp_path / "regions"
    shared = np.zeros((12, 10, 8), dtype=bool)
    shared[5, 5, 5] = True
    for key in KEYS:
        left, right = (reference(key, label) | shared for label in LABELS)
        put(mask_path(cohort.root, key, Bundle.parse("AFleft")), left)
        put(mask_path(cohort.root, key, Bundle.parse("PYTright")), right)
        put(root / f"{key}.nii.gz", np.select([left & right, left, right], [3, 1, 2], 0).astype(np.uint8))
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "AFleft": [1, 3], "PYTright": [2, 3]}}))
    assert perfect(root, cohort)


def test_one_folder_a_bundle(cohort: Cohort, tmp_path: Path) -> None:
    """One binary file a case in a folder a bundle, as one nnU-Net a bundle leaves; the prefix may be missing."""
    root = tmp_path / "binary"
    for key in KEYS:
        for label in ("AFleft", "PYT_right"):
            put(root / label / f"{key.removeprefix('sub-')}.nii.gz", reference(key, label.replace("_", "")))
    assert perfect(root, cohort)


def test_missed_label_in_a_label_map_is_a_missed_bundle(cohort: Cohort, tmp_path: Path) -> None:
    """A label map without a bundle's value is an empty prediction, which counts as missed."""
    root = tmp_path / "nnunet"
    for key in KEYS:
        put(root / f"{key}.nii.gz", reference(key, "AFleft").astype(np.uint8))
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "AF_left": 1, "CST_right": 2}}))
    assert score(root, cohort, metrics=["dice"]).counts() == {"ok": 2, "missed": 2}


def test_float_masks_with_nan_count_as_outside(cohort: Cohort, tmp_path: Path) -> None:
    """NaN voxels, which some tools write outside of the brain, are outside."""
    root = tmp_path / "nan"
    for key in KEYS:
        for label in LABELS:
            array = reference(key, label).astype(np.float32)
            array[array == 0] = np.nan
            put(root / label / f"{key}.nii.gz", array)
    assert perfect(root, cohort)


def test_folders_without_a_known_layout_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    """The message lists the layouts; labels that are not a mapping are refused with the file's name."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"TractSeg's.*nnU-Net's") as error:
        find_predictions(tmp_path / "empty")
    assert "participants.tsv" in str(error.value)
    (tmp_path / "empty" / "dataset.json").write_text('{"labels": ["AF"]}')
    with pytest.raises(DataError, match=r"dataset\.json must hold"):
        find_predictions(tmp_path / "empty")


def test_names_of_bundles() -> None:
    """Tools' spellings become the vocabulary's; what is no name is none."""
    spellings = ("AF_left", "AFleft", "AF-Left", "CST_right", "IFO_left", "CC")
    assert [str(parse_bundle(name)) for name in spellings] == [
        "AFleft",
        "AFleft",
        "AFleft",
        "PYTright",
        "IFOFleft",
        "CC",
    ]
    assert parse_bundle("left") is None
    assert parse_bundle("a.b") is None
