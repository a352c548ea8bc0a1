"""Types: labels, grids and filters behave as their names say."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftkit.errors import DataError
from shiftkit.results import Estimate
from shiftkit.status import Status
from shiftkit.types import Bundle, Case, Cohort, Predictions, Volume

names = st.from_regex(r"[A-Z][A-Z0-9]{0,7}", fullmatch=True)


@given(names, st.sampled_from(["left", "right", "none"]))
def test_a_label_reads_back_as_its_bundle(name: str, hemisphere: str) -> None:
    """Writing a bundle as a label and parsing it loses nothing."""
    bundle = Bundle(name=name, hemisphere=hemisphere)  # type: ignore[arg-type]
    assert Bundle.parse(bundle.label) == bundle
    assert bundle.mirrored.mirrored == bundle


@pytest.mark.parametrize("label", ["", "AF-left", "AF left", "../AF"])
def test_labels_of_other_characters_are_refused(label: str) -> None:
    """What could not stand in a file name is not a bundle label."""
    with pytest.raises(DataError):
        Bundle.parse(label)


def test_spacing_and_volume_follow_an_oblique_affine() -> None:
    """Rotating a grid changes neither its spacing nor its voxel volume."""
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([1.0, 2.0, 3.0])
    volume = Volume(array=np.zeros((2, 2, 2)), affine=affine)
    assert volume.spacing_mm == pytest.approx((1, 2, 3))
    assert volume.voxel_volume_ml == pytest.approx(0.006)


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_singular_affines_are_refused(affine: np.ndarray) -> None:
    """An affine that does not map voxels to places is an error at once."""
    with pytest.raises(DataError, match="affine"):
        Volume(array=np.zeros((2, 2, 2)), affine=affine)


def test_missing_numbers_are_nan_and_text_is_refused() -> None:
    """n/a in participants.tsv is NaN; a word where a number belongs is named."""
    case = Case(participant_id="sub-1", attributes={"age": "old"})
    assert np.isnan(case.number("tumor_volume_ml"))
    with pytest.raises(DataError, match=r"age of sub-1.*'old'"):
        case.number("age")


def test_where_combines_attributes_and_a_predicate() -> None:
    """A case is kept only if everything asked for holds."""
    cases = tuple(
        Case(participant_id=f"sub-{i}", attributes={"group": group, "split": split})
        for i, (group, split) in enumerate([("control", "train"), ("control", "test"), ("glioma", "test")])
    )
    cohort = Cohort(name="c", root=Path(), cases=cases)
    assert [case.participant_id for case in cohort.where(group="control", split=("val", "test"))] == ["sub-1"]
    assert [case.participant_id for case in cohort.where(lambda case: case.group == "glioma")] == ["sub-2"]


def test_ages_that_bids_hides_are_their_bound() -> None:
    """89+ is read as 89."""
    assert Case(participant_id="sub-1", attributes={"age": "89+"}).number("age") == 89


def test_an_estimate_without_a_number_says_why() -> None:
    """A withheld value prints in words why there is none, never a number."""
    text = str(Estimate(name="tumor", value=float("nan"), status="split_withheld"))
    assert Status.SPLIT_WITHHELD.phrase in text
    assert "nan" not in text


def test_people_are_found_by_id_and_by_place() -> None:
    """Of a cohort and of predictions; whoever is not there is an error of that kind."""
    cases = tuple(Case(participant_id=f"sub-{n}", session=s) for n in (1, 2) for s in ("ses-a", "ses-b"))
    cohort = Cohort(name="c", root=Path(), cases=cases)
    predictions = Predictions(cohort=cohort, model="m", modality="fa")
    for people in (cohort, predictions):
        assert people["sub-2"] is people["sub-2_ses-a"] is people[2]
        assert people[-1] is people["sub-2_ses-b"]
        assert [case.key for case in people] == [case.key for case in cases] and len(people) == 4
        with pytest.raises(KeyError, match="sub-3"):
            people["sub-3"]
        with pytest.raises(IndexError):
            people[4]


def test_masks_of_some_bundles_alone() -> None:
    """Masks and probabilities of others are gone, images and people stay."""
    both = [Bundle.parse("AFleft"), Bundle.parse("CC")]
    paths = dict.fromkeys(both, Path("x.nii.gz"))
    case = Case(participant_id="sub-1", images={"fa": Path("fa.nii.gz")}, masks=paths, probabilities=paths)
    kept = Cohort(name="c", root=Path(), cases=(case,)).only(both[:1])
    assert (list(kept[0].masks), list(kept[0].probabilities)) == (both[:1], both[:1])
    assert kept[0].images == case.images and kept.bundles == (both[0],)
