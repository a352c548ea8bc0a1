"""Names of bundles, whoever wrote them, through the two doors by which they come in."""

from pathlib import Path

import numpy as np
import pytest

from shiftkit.analyses.scoring.predictions import find_predictions
from shiftkit.bundles import BUNDLE_NAMES, TRACTSEG_ORDER, bundle_named, choose_bundles
from shiftkit.errors import DataError
from shiftkit.images import write_image
from shiftkit.importers import import_cohort
from shiftkit.types import Bundle, Volume

THERE = [Bundle.parse(label) for label in ("AFleft", "AFright", "FATleft", "CC", "PYTleft", "PYTright")]
SPELLINGS = {
    "left_AF": "AFleft",
    "AF_L": "AFleft",
    "AF-Left": "AFleft",
    "AFleft": "AFleft",
    "AF_left": "AFleft",
    "Arcuate_Fasciculus_R": "AFright",
    "lh.CST": "PYTleft",
    "CST-right": "PYTright",
    "PT_right": "PYTright",
    "MDLF_left": "MLFleft",
    "IOFF_left": "IFOFleft",
    "IFOFleft": "IFOFleft",
    "IFO_R": "IFOFright",
    "Cingulum_left": "CGleft",
    "OpticRadiation_left": "ORleft",
    "SLF_III_right": "SLFIIIright",
    "CC_1": "CC1",
    "CC": "CC",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_import_and_score_read_a_name_alike(spelling: str, tmp_path: Path) -> None:
    """A bundle that is imported under a name is found under the same one when a tool's masks are scored."""
    folder = tmp_path / "in" / "subject" / "bundle_segmentations"
    write_image(Volume(array=np.ones((3, 3, 3)), affine=np.eye(4)), folder / f"{spelling}.nii.gz")
    expected = {Bundle.parse(SPELLINGS[spelling])}
    assert set(import_cohort("tractseg", tmp_path / "in", tmp_path / "out").bundles) == expected
    assert find_predictions(tmp_path / "in").bundles == expected


@pytest.mark.parametrize("name", ["left", "lh", "_R", "a.b", ".hidden", "12", ""])
def test_what_is_no_name_is_none(name: str) -> None:
    """A side alone, a number, and names with other dots, as of hidden files, stand for no bundle."""
    assert bundle_named(name) is None


@pytest.mark.parametrize(
    "name", sorted({"AF_left", "CST_right", "IFO_left", "IFOF_R", "ILF_L", "PYT_right", "OR_left"})
)
def test_names_are_mapped_by_the_table(name: str) -> None:
    """A data set's name becomes the table's name, with its side."""
    bundle = bundle_named(name)
    assert bundle is not None
    assert bundle.name == BUNDLE_NAMES[name.rsplit("_", 1)[0]]
    assert bundle.hemisphere == {"l": "left", "r": "right"}[name.rsplit("_", 1)[1][0].lower()]


def test_no_two_tractseg_bundles_share_a_name() -> None:
    """The 72 bundles of TractSeg stay 72, with names that fit into file names."""
    found = {bundle_named(name) for name in TRACTSEG_ORDER}
    assert len(found) == 72
    assert all(bundle is not None and Bundle.parse(bundle.label) == bundle for bundle in found)


@pytest.mark.parametrize(
    ("names", "hemispheres", "chosen"),
    [
        ((), (), "AFleft AFright CC FATleft PYTleft PYTright"),
        (("AF",), (), "AFleft AFright"),
        (("AF_left",), (), "AFleft"),
        (("af-Left", "CST_right"), (), "AFleft PYTright"),
        (("AF", "CC"), ("left", "none"), "AFleft CC"),
        (("AF", "CC"), ("L", "Midline"), "AFleft CC"),
    ],
)
def test_bundles_are_chosen_by_any_of_their_spellings(
    names: tuple[str, ...], hemispheres: tuple[str, ...], chosen: str
) -> None:
    """A name alone is both sides; case, signs, sides and the names of other tools are understood."""
    assert " ".join(map(str, choose_bundles(THERE, names, hemispheres))) == chosen


@pytest.mark.parametrize(
    ("names", "hemispheres", "told"),
    [
        (("AFT",), (), r"got AFT; did you mean AF or FAT\?"),
        (("FAT_right",), (), r"AF, CC, FAT, PYT; got FAT_right; did you mean FATleft"),
        (("AF",), ("lft",), r"`hemispheres` .*got lft; did you mean left\?"),
        (("FAT",), ("right",), r"none of FAT lies in right"),
    ],
)
def test_a_bundle_that_is_not_there_is_told_with_the_nearest(
    names: tuple[str, ...], hemispheres: tuple[str, ...], told: str
) -> None:
    """A name, a side of it, or both together that match nothing."""
    with pytest.raises(DataError, match=told):
        choose_bundles(THERE, names, hemispheres)
