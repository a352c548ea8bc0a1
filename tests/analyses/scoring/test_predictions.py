import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from shiftkit.analyses.scoring.predictions import find_predictions, merge_predictions
from shiftkit.analyses.scoring.study import score
from shiftkit.api import score as shiftkit_score
from shiftkit.bundles import TRACTSEG_ORDER
from shiftkit.cohorts.folder import load_cohort, mask_path, write_description, write_participants
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


def perfect(folder: Path, cohort: Cohort, **options: bool | float) -> bool:
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


def write_nnunet(root: Path, key: str, probabilities: NDArray[np.floating], labels: Mask, **names: object) -> None:
    """What nnU-Net writes: a label map, and an array (C, Z, Y, X) beside it."""
    put(root / f"{key}.nii.gz", labels)
    np.savez_compressed(root / f"{key}.npz", probabilities=probabilities.T)
    (root / f"{key}.pkl").write_bytes(b"this would be code: it must never be opened")
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **names}}))


def softmax_of(key: str) -> NDArray[np.float16]:
    """Shape (X, Y, Z, 3): 0.7 for the bundle inside of it, 0.4 one voxel around it, less elsewhere."""
    channels = [reference(key, label) for label in LABELS]
    bundles = np.stack([np.where(one, 0.7, np.where(np.roll(one, 1, axis=2), 0.4, 0.0)) for one in channels], axis=-1)
    return np.concatenate([1 - bundles.sum(axis=-1, keepdims=True), bundles], axis=-1).astype(np.float16)


def test_nnunet_probabilities(cohort: Cohort, tmp_path: Path) -> None:
    """The array beside a label map gives Brier scores and thresholds, on the grid of the label map."""
    root = tmp_path / "nnunet"
    for key in KEYS:
        probabilities = softmax_of(key)
        write_nnunet(root, key, probabilities, probabilities.argmax(-1).astype(np.uint8), AF_left=1, CST_right=2)
    assert perfect(root, cohort)
    scores = score(root, cohort, metrics=["brier", "dice"], threshold=0.3).frame
    brier, dice = (
        scores[scores["metric"] == name].set_index(["participant_id", "bundle"])["value"] for name in ("brier", "dice")
    )
    inside, wider = reference("sub-2", "AFleft"), np.roll(reference("sub-2", "AFleft"), 1, axis=2)
    assert dice["sub-2", "AF"] == 2 * inside.sum() / (inside.sum() + (inside | wider).sum())
    errors = 0.3**2 * inside.sum() + 0.4**2 * (wider & ~inside).sum()
    near = np.linalg.norm((np.argwhere(np.ones(inside.shape))[:, None] - np.argwhere(inside)[None]) * 2.0, axis=2).min(
        axis=1
    )
    assert brier["sub-2", "AF"] == pytest.approx(errors / (near <= 10).sum(), rel=1e-3)


def test_nnunet_regions_have_their_own_channels(cohort: Cohort, tmp_path: Path) -> None:
    """Trained on regions, channels are the regions in the order of dataset.json, without background."""
    root = tmp_path / "regions"
    for key in KEYS:
        left, right = (reference(key, label) for label in LABELS)
        probabilities = np.stack([np.where(one, 0.9, 0.1) for one in (right, left)], axis=-1).astype(np.float32)
        labels = (left + 2 * right).astype(np.uint8)
        write_nnunet(root, key, probabilities, labels, CST_right=[2, 3], AF_left=[1, 3])
    brier = score(root, cohort, metrics=["brier"]).frame["value"]
    assert brier.tolist() == pytest.approx([0.01] * 4, rel=1e-4)


def test_nnunet_arrays_turned_to_ras_are_turned_back(cohort: Cohort, tmp_path: Path) -> None:
    """One of nnU-Net's readers turns images to RAS+; the order that fits the label map is found without the pickle."""
    root, flip = tmp_path / "nnunet", AFFINE @ np.diag([-1.0, -1, 1, 1])
    for key in KEYS:
        for label in LABELS:
            stored = Volume(array=reference(key, label).transpose(1, 0, 2), affine=flip[:, [1, 0, 2, 3]])
            write_image(stored, mask_path(cohort.root, key, Bundle.parse(label)))
        own = softmax_of(key).transpose(1, 0, 2, 3)
        write_nnunet(
            root, key, own.transpose(1, 0, 2, 3)[::-1, ::-1], own.argmax(-1).astype(np.uint8), AF_left=1, CST_right=2
        )
        write_image(Volume(array=own.argmax(-1).astype(np.uint8), affine=flip[:, [1, 0, 2, 3]]), root / f"{key}.nii.gz")
    scores = score(root, cohort, metrics=["dice"], threshold=0.6).frame
    assert (scores["value"] == 1).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: np.savez(path, probabilities=np.array([{"code": 1}], dtype=object)), "damaged"),
        (lambda path: np.savez(path, other=np.zeros((3, 8, 10, 12))), "'probabilities'; it does not"),
        (lambda path: np.savez(path, softmax=np.zeros((3, 7, 10, 12))), "nnU-Net crops them"),
        (lambda path: np.savez(path, softmax=np.zeros((3, 8, 10, 12), dtype=int)), "must hold fractions"),
        (lambda path: np.savez(path, softmax=softmax_of("sub-1")[..., [0, 2, 1]].T), "agree in 0%"),
        (lambda path: np.savez(path, softmax=softmax_of("sub-1")[..., :2].T), "must have a channel 2"),
    ],
    ids=["cut", "empty", "pickle", "name", "cropped", "whole numbers", "other prediction", "channels"],
)
def test_unusable_arrays_are_refused(damage: Any, message: str, cohort: Cohort, tmp_path: Path) -> None:
    """Damaged arrays, pickles, cropped ones, and such as contradict the label map are named with a way out."""
    root = tmp_path / "nnunet"
    for key in KEYS:
        probabilities = softmax_of(key)
        write_nnunet(root, key, probabilities, probabilities.argmax(-1).astype(np.uint8), AF_left=1, CST_right=2)
    damage(root / "sub-1.npz")
    with pytest.raises(DataError, match=message) as error:
        score(root, cohort, metrics=["dice"], threshold=0.5)
    assert "sub-1.npz" in str(error.value) or "crops" in message


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


@pytest.mark.parametrize("place", ["{key}/", "{key}/tractseg_output/"])
def test_tractseg_in_one_file(cohort: Cohort, tmp_path: Path, place: str) -> None:
    """The file with 72 volumes is read in TractSeg's order; with fewer volumes it is refused."""
    for key in KEYS:
        stacked = np.zeros((12, 10, 8, len(TRACTSEG_ORDER)), dtype=np.uint8)
        for label, name in zip(LABELS, ("AF_left", "CST_right"), strict=True):
            stacked[..., TRACTSEG_ORDER.index(name)] = reference(key, label)
        put(tmp_path / "ts" / f"{place.format(key=key)}bundle_segmentations.nii.gz", stacked)
    assert perfect(tmp_path / "ts", cohort)
    put(tmp_path / "ts" / f"{place.format(key='sub-1')}bundle_segmentations.nii.gz", stacked[..., :2])
    assert "72 in TractSeg's order" in score(tmp_path / "ts", cohort, metrics=["dice"]).failed["sub-1"]


def test_tractseg_probabilities_count_from_a_half(cohort: Cohort, tmp_path: Path) -> None:
    """Where there are fractions in place of masks, 0.5 and more is inside, or another threshold if one is given."""
    for key in KEYS:
        for label, name in zip(LABELS, ("AF_left", "CST_right"), strict=True):
            share = np.where(reference(key, label), 0.8, 0.3).astype(np.float32)
            put(tmp_path / "ts" / key / "bundle_segmentations" / f"{name}.nii.gz", share)
    assert perfect(tmp_path / "ts", cohort)
    assert not perfect(tmp_path / "ts", cohort, threshold=0.25)


def test_bids_derivatives(cohort: Cohort, tmp_path: Path) -> None:
    """The hemisphere as an entity or in the label, masks and probabilities, in any folder of the participant."""
    for key in KEYS:
        put(tmp_path / "bids" / key / "dwi" / f"{key}_space-T1w_hemi-L_label-AF_mask.nii.gz", reference(key, "AFleft"))
        share = reference(key, "PYTright").astype(np.float32) * 0.9
        put(tmp_path / "bids" / key / "anat" / f"{key}_label-CSTright_desc-x_probseg.nii.gz", share)
        put(tmp_path / "bids" / key / "anat" / f"{key}_label-tumor_mask.nii.gz", reference(key, "AFleft"))
    assert perfect(tmp_path / "bids", cohort)
    found = find_predictions(tmp_path / "bids")
    assert found.layout == "BIDS derivative"
    assert found.ignored == tuple(f"{key}/anat/{key}_label-tumor_mask.nii.gz" for key in KEYS)
    rows = pd.DataFrame({"participant_id": KEYS})
    write_participants(tmp_path / "bids", rows)  # as derivatives have it; its hemispheres are entities still
    assert perfect(tmp_path / "bids", cohort)


@pytest.mark.parametrize("table", ["{key}/anat/{key}_desc-wm_dseg.tsv", "dseg.tsv", "desc-wm_dseg.tsv"])
def test_bids_parcellations(cohort: Cohort, tmp_path: Path, table: str) -> None:
    """A label map goes with the lookup table beside it, or with the one above all."""
    for key in KEYS:
        both = reference(key, "AFleft") * 3 + reference(key, "PYTright") * 7
        put(tmp_path / "bids" / key / "anat" / f"{key}_desc-wm_dseg.nii.gz", both.astype(np.uint8))
        place = tmp_path / "bids" / table.format(key=key)
        place.write_text("index\tname\n0\tBackground\n3\tAF_left\n7\tCST_right\n")
    assert perfect(tmp_path / "bids", cohort)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", "index\tname\tcolor\n3\tAF_left\tred\n7\tCST_right\tblue\n"),
        ("lut.csv", "name,label\nAF_left,3\nCST_right,7\n"),
        ("atlas.txt", "# FreeSurfer's\n0 Unknown 0 0 0 0\n3 AF_left 255 0 0 0\n7 CST_right 0 0 255 0\n"),
        ("names.json", '{"3": "AF_left", "7": "CST_right"}'),
        ("names.json", '{"AF_left": 3, "CST_right": 7}'),
    ],
)
def test_one_atlas_with_a_lookup_table(cohort: Cohort, tmp_path: Path, name: str, text: str) -> None:
    """Whole numbers in one file a case, and which is which in a table beside them; two tables are refused."""
    for key in KEYS:
        both = reference(key, "AFleft") * 3 + reference(key, "PYTright") * 7
        put(tmp_path / "atlas" / f"{key}.nii.gz", both.astype(np.uint8))
    (tmp_path / "atlas" / name).write_text(text)
    assert perfect(tmp_path / "atlas", cohort)
    (tmp_path / "atlas" / "second.tsv").write_text("index\tname\n3\tAF_right\n")
    with pytest.raises(DataError, match="one lookup table"):
        find_predictions(tmp_path / "atlas")


def test_a_lookup_table_names_each_value_once(cohort: Cohort, tmp_path: Path) -> None:
    """Two names of one value leave doubt; a value that no row names is refused when it is met."""
    both = reference("sub-1", "AFleft") * 3 + reference("sub-1", "PYTright") * 7
    put(tmp_path / "atlas" / "sub-1.nii.gz", both.astype(np.uint8))
    (tmp_path / "atlas" / "labels.tsv").write_text("index\tname\n3\tAF_left\n3\tCST_right\n")
    with pytest.raises(DataError, match="two names for one"):
        find_predictions(tmp_path / "atlas")
    (tmp_path / "atlas" / "labels.tsv").write_text("index\tname\n3\tAF_left\n")
    with pytest.raises(DataError, match="holds 7 too"):
        score(tmp_path / "atlas", cohort, metrics=["dice"])


def test_one_folder_a_case_is_told_from_one_a_bundle(cohort: Cohort, tmp_path: Path) -> None:
    """By which of both is called as bundles are: a folder ``1`` with a file ``AF_left``, and the other way round."""
    for key in KEYS:
        for label in LABELS:
            put(tmp_path / "cases" / key.removeprefix("sub-") / f"{label}.nii.gz", reference(key, label))
    assert perfect(tmp_path / "cases", cohort)
    assert find_predictions(tmp_path / "cases").layout == "one folder a case"


def test_what_was_understood_is_told(cohort: Cohort, tmp_path: Path) -> None:
    """Layout, cases and bundles that were found, and bundles and images that were not."""
    put(tmp_path / "ts" / "sub-1" / "bundle_segmentations" / "AF_left.nii.gz", reference("sub-1", "AFleft"))
    put(tmp_path / "ts" / "sub-1" / "FA.nii.gz", reference("sub-1", "AFleft"))
    found = find_predictions(tmp_path / "ts")
    first, second = found.told(cohort)
    assert first == "Predictions ts (TractSeg): 1 of 2 cases of cohort, bundles AFleft."
    assert second == "Bundles of cohort without a prediction: PYTright."
    assert found.ignored == ("sub-1/FA.nii.gz",)


def test_several_folders_are_one_tool(cohort: Cohort, tmp_path: Path) -> None:
    """Cases of two folders are put together; a case in both is refused, and a folder that is named twice."""
    for key, part in zip(KEYS, ("a", "b"), strict=True):
        for label in LABELS:
            put(tmp_path / part / key / f"{label}.nii.gz", reference(key, label))
    both = merge_predictions([tmp_path / "a", tmp_path / "b"])
    assert both.model == "a+b" and all(both.of(case) for case in cohort)
    with pytest.raises(DataError, match="a is named twice"):
        merge_predictions([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    shutil.copytree(tmp_path / "a", tmp_path / "c" / "a")
    with pytest.raises(DataError, match=rf"sub-1 is predicted in {tmp_path}/a and in {tmp_path}/c/a: several"):
        merge_predictions([tmp_path / "a", tmp_path / "c" / "a"])


def test_cases_are_found_as_importers_name_participants(cohort: Cohort, tmp_path: Path) -> None:
    """What TractSeg wrote into ``sub1`` is of sub-1; with a folder ``1`` beside it, it is not known which."""
    for key in KEYS:
        for label in LABELS:
            put(tmp_path / "p" / key.replace("-", "") / f"{label}.nii.gz", reference(key, label))
    assert perfect(tmp_path / "p", cohort)
    shutil.copytree(tmp_path / "p" / "sub1", tmp_path / "p" / "1")
    with pytest.raises(DataError, match=r"sub1 and 1|1 and sub1"):
        score(tmp_path / "p", cohort, metrics=["dice"])


def test_folders_without_a_known_layout_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    """The message lists the layouts; labels that are not a mapping are refused with the file's name."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"TractSeg's.*nnU-Net's") as error:
        find_predictions(tmp_path / "empty")
    assert "participants.tsv" in str(error.value)
    (tmp_path / "empty" / "dataset.json").write_text('{"labels": ["AF"]}')
    with pytest.raises(DataError, match=r"dataset\.json must hold"):
        find_predictions(tmp_path / "empty")


def test_a_bundle_is_found_by_any_of_its_names_and_suffixes(cohort: Cohort, tmp_path: Path) -> None:
    """A cohort that says CST, files that say cst_l, and one file that is not compressed."""
    for key in KEYS:
        folder = cohort.root / key / "dwi"
        (folder / f"{key}_label-PYTright_mask.nii.gz").rename(folder / f"{key}_label-CSTright_mask.nii.gz")
        put(tmp_path / "p" / key / "AF_L.nii.gz", reference(key, "AFleft"))
        put(tmp_path / "p" / key / f"cst_r.nii{'.gz' * (key == 'sub-1')}", reference(key, "PYTright"))
    assert perfect(tmp_path / "p", load_cohort(cohort.root))
    put(tmp_path / "p" / "sub-1" / "cst_r.nii", reference("sub-1", "PYTright"))
    with pytest.raises(DataError, match=r"as \.nii and as \.nii\.gz"):
        find_predictions(tmp_path / "p")


def test_predictions_of_other_bundles_are_refused_with_both_lists(cohort: Cohort, tmp_path: Path) -> None:
    """Nothing scored is no success."""
    for key in KEYS:
        put(tmp_path / "p" / key / "XYZ_left.nii.gz", reference(key, "AFleft"))
    with pytest.raises(DataError, match="none of AFleft, PYTright; present but not understood: XYZleft"):
        score(tmp_path / "p", cohort, metrics=["dice"])


def test_what_stands_there_under_two_names_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    """Two files, folders, labels or cases that mean the same are both named: one would win in silence."""
    mask = reference("sub-1", "AFleft")
    for name in ("AFleft", "AF_L"):
        put(tmp_path / "files" / "sub-1" / f"{name}.nii.gz", mask)
        put(tmp_path / "folders" / name / "sub-1.nii.gz", mask)
        put(tmp_path / "labels" / "sub-1.nii.gz", mask.astype(np.uint8))
    (tmp_path / "labels" / "dataset.json").write_text(json.dumps({"labels": {"AF_left": 1, "left_AF": 2}}))
    for middle in ("", "tractseg_output"):
        put(tmp_path / "twice" / "sub-1" / middle / "bundle_segmentations" / "AF_left.nii.gz", mask)
    for folder, words in (
        ("files", "both names of bundle AFleft"),
        ("folders", "both names of bundle AFleft"),
        ("labels", "both names of bundle AFleft"),
        ("twice", "both names of the case sub-1"),
    ):
        with pytest.raises(DataError, match=words):
            find_predictions(tmp_path / folder)
    for name in ("sub-1", "1"):
        put(tmp_path / "cases" / name / "bundle_segmentations" / "AF_left.nii.gz", mask)
    with pytest.raises(DataError, match=r"sub-1 and 1|1 and sub-1"):
        score(tmp_path / "cases", cohort, metrics=["dice"])


def test_labels_that_dataset_json_does_not_name_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    """A map of another tool beside the wrong dataset.json would be scored under wrong names; ignored ones are not."""
    for key in KEYS:
        array = 2 * reference(key, "AFleft") + 3 * reference(key, "PYTright")
        put(tmp_path / "n" / f"{key}.nii.gz", array.astype(np.uint8))
    labels = {"background": 0, "AF_left": 1, "CST_right": 2}
    (tmp_path / "n" / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(DataError, match=r"0, 1, 2;.* holds 3 too"):
        score(tmp_path / "n", cohort, metrics=["dice"])
    labels = {"background": 0, "AF_left": 2, "ignore": 3}
    (tmp_path / "n" / "dataset.json").write_text(json.dumps({"labels": labels}))
    assert score(tmp_path / "n", cohort, metrics=["dice"]).counts()["ok"] == 2


def test_predictions_of_nobody_are_told(cohort: Cohort, tmp_path: Path) -> None:
    """Cases that the cohort does not have are named; a few of very many."""
    for key in (*KEYS, "sub-99"):
        put(tmp_path / "p" / key / "AF_L.nii.gz", reference("sub-1", "AFleft"))
    assert find_predictions(tmp_path / "p").strangers(cohort) == "sub-99"
    told: list[str] = []
    shiftkit_score(tmp_path / "p", cohort, metrics=["dice"], jobs=1, announce=told.append)
    assert "Predictions of nobody in cohort: sub-99." in told


def test_a_reference_that_carries_another_name_is_not_scored(cohort: Cohort, tmp_path: Path) -> None:
    """The mask of one participant in the folder of another is refused by name before anything is compared."""
    for key in KEYS:
        put(tmp_path / "p" / key / "AF_L.nii.gz", reference(key, "AFleft"))
    path = mask_path(cohort.root, "sub-1", Bundle.parse("AFleft"))
    path.rename(path.with_name(path.name.replace("sub-1", "sub-2")))
    with pytest.raises(DataError, match=r"folder of sub-1 carry its name; sub-2_label-AFleft"):
        shiftkit_score(tmp_path / "p", load_cohort(cohort.root), metrics=["dice"], jobs=1)


@pytest.mark.parametrize("value", ["-1", "1.5", "1e9", "[1, -2]"])
def test_a_value_that_no_label_map_holds_is_refused(value: str, tmp_path: Path) -> None:
    """A negative label would count channels from the end, a broken one would be cut."""
    put(tmp_path / "sub-1.nii.gz", reference("sub-1", "AFleft").astype(np.uint8))
    (tmp_path / "dataset.json").write_text(f'{{"labels": {{"background": 0, "AF_left": {value}}}}}')
    with pytest.raises(DataError, match="is no label"):
        find_predictions(tmp_path)


def test_a_folder_that_shiftkit_predicted_into_goes_by_the_models_name(cohort: Cohort) -> None:
    """The columns ``model`` and ``modality`` hold names, never the record that the folder keeps of its model."""
    write_description(cohort.root, "net on it", Model={"Name": "net", "Digest": ["0" * 64], "Modality": "fa"})
    frame = score(cohort.root, cohort, metrics=["dice"]).to_frame()
    assert set(frame["model"]) == {"net"} and set(frame["modality"]) == {"fa"}
