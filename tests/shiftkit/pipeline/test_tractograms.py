from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers.layouts import GRID, image, mask, pyafq, trk, trx

import shiftkit as sk
from shiftkit.catalogue import TABLES
from shiftkit.cli import main
from shiftkit.cohorts.folder import image_path, load_cohort, mask_path, tumor_path, write_participants
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_mask
from shiftkit.importers.streamlines import streamline_mask
from shiftkit.pipeline.inputs import Tool
from shiftkit.pipeline.scores import adopt
from shiftkit.pipeline.tractograms import read_folders
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort
from shiftkit.work import Work

ACROSS = np.array([[-10.3, 0.3, 0.3], [10.3, 0.3, 0.3]], dtype=np.float32)
ALONG = np.array([[0.3, -10.3, 0.3], [0.3, 10.3, 0.3]], dtype=np.float32)
LEFT = Bundle.parse("AFleft")


def cohort(root: Path, group: str, *names: str) -> Cohort:
    """Participants with a reference mask of AFleft, patients with a tumor."""
    for name in names:
        image(image_path(root, name, "fa"), 0.5)
        mask(mask_path(root, name, LEFT), 12)
        if group == "glioma":
            mask(tumor_path(root, name), 5)
    write_participants(root, pd.DataFrame({"participant_id": names, "group": group}))
    return load_cohort(root)


def tool(found: Path, least: int | None = None) -> Tool:
    return Tool(name="tracker", predicted=read_folders([found], least))


@pytest.mark.parametrize("name", ["01/AF_left.trk", "01/tractseg_output/TOM_trackings/AF_left.trx", "sub-01/AF_L.trx"])
def test_streamlines_become_predictions_on_the_references_grid(name: str, tmp_path: Path) -> None:
    """Files of either kind in either place; from two streamlines on only their crossing is inside."""
    patients = cohort(tmp_path / "in", "glioma", "sub-01", "sub-02")
    path = tmp_path / "tool" / name
    trx(path, {}, ACROSS, ALONG) if name.endswith(".trx") else trk(path, ACROSS, ALONG)
    one, other = (streamline_mask(line, np.array([2]), GRID, (20, 20, 20)).array for line in (ACROSS, ALONG))
    for least, expected in ((None, one | other), (2, one & other)):
        made = adopt(tool(tmp_path / "tool", least), patients, tmp_path / f"out{least}", Work(jobs=1))
        assert made.failed == {"sub-02": "there is no prediction of it"}
        np.testing.assert_array_equal(read_mask(made.cohort["sub-01"].masks[LEFT]).array, expected)


def test_a_group_a_bundle_and_what_is_understood(tmp_path: Path) -> None:
    """PyAFQ's file of all bundles is read group by group; the layout and what nobody asked for are told."""
    patients = cohort(tmp_path / "in", "glioma", "sub-03")
    predicted = tool(pyafq(tmp_path / "tool")).predicted
    told = " ".join(predicted.told(patients))
    assert "(tractograms, voxels of at least 1 streamline): 1 of 1 cases" in told and "PYTright" in told


def test_a_whole_decomposition_starts_from_streamlines(tmp_path: Path) -> None:
    """The verb takes the folder, plans with it, and refuses the count where it says nothing."""
    patients = cohort(tmp_path / "glioma", "glioma", *(f"sub-p{n}" for n in range(3)))
    controls = cohort(tmp_path / "healthy", "control", *(f"sub-c{n}" for n in range(3)))
    for case in (*patients, *controls):
        trk(tmp_path / "tool" / case.key / "AF_left.trk", ACROSS, ALONG)
    given = {"cohort": patients, "reference": controls, "out": tmp_path / "run", "dry_run": True}
    planned = sk.decompose(predictions=tmp_path / "tool", streamlines=2, **given)
    assert "3 patients" in planned.verdict
    with pytest.raises(ConfigError, match="`streamlines` says how others' `predictions` are read"):
        sk.decompose(model="reference", streamlines=2, **given)


def test_scores_of_streamlines_are_those_of_the_masks_that_a_decomposition_makes_of_them(tmp_path: Path) -> None:
    """`score` reads tractograms as `decompose` does, sections and maps of errors too; streamlines counted are settings.

    Masks written by hand give the same table. Whoever has none is `unavailable`, and of masks nothing is counted.
    """
    patients = cohort(tmp_path / "in", "glioma", "sub-01", "sub-02", "sub-03")
    for name in ("01", "02"):
        trk(tmp_path / "tool" / name / "AF_left.trk", ACROSS, ALONG)
    volumes: list[float] = []
    for least in (1, 2):
        adopted = adopt(tool(tmp_path / "tool", least), patients, tmp_path / f"masks-{least}", Work(jobs=1))
        along, maps = tmp_path / f"along-{least}.tsv", tmp_path / f"maps-{least}"
        drawn = sk.score(tmp_path / "tool", patients, streamlines=least, sections=along, error_maps=maps, jobs=1)
        asked = [name for name in drawn.frame if name not in ("model", "modality")]
        expected = sk.score(adopted, patients, jobs=1).frame
        pd.testing.assert_frame_equal(drawn.frame[asked], expected[asked])
        assert set(drawn.frame.loc[drawn.frame["participant_id"] == "sub-03", "status"]) == {"unavailable"}
        assert along.is_file() and any(maps.rglob("*.nii.gz"))
        volumes.append(expected.loc[expected["metric"] == "volume_similarity", "value"].iloc[0])
    assert volumes[0] > volumes[1]
    with pytest.raises(ConfigError, match="are masks already"):
        sk.score(adopted, patients, streamlines=2)


def test_scoring_streamlines_in_parts_and_on_the_command_line(tmp_path: Path) -> None:
    """`--min-streamlines` holds for parts too; streamlines off the grid cost their participant alone, with exit 4."""
    patients = cohort(tmp_path / "in", "glioma", "sub-01", "sub-02")
    for name in ("01", "02"):
        trk(tmp_path / "tool" / name / "AF_left.trk", ACROSS, ALONG)
    words = ["score", "--predictions", str(tmp_path / "tool"), "--cohort", str(patients.root), "--jobs", "1"]
    words += ["--metric", "dice", "--min-streamlines", "2", "--out"]
    assert main([*words, str(tmp_path / "whole.tsv")]) == 0
    parts = [main([*words, str(tmp_path / "parts.tsv"), "--shard", shard]) for shard in ("1/2", "2/2", "merge/2")]
    assert parts == [0, 0, 0]
    assert (tmp_path / "parts.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    trk(tmp_path / "tool" / "01" / "AF_left.trk", ACROSS + 60)
    assert main([*words, str(tmp_path / "off.tsv")]) == 4
    left = read_table(tmp_path / "off.tsv", TABLES["scores"])
    assert set(left["participant_id"]) == {"sub-02"}
    assert "lie outside" in (tmp_path / "logs" / "failed.tsv").read_text()


def test_masks_are_no_streamlines(tmp_path: Path) -> None:
    """Counting streamlines of masks is refused, and streamlines off the grid fail their participant by name."""
    patients = cohort(tmp_path / "in", "glioma", "sub-01", "sub-02")
    mask(tmp_path / "masks" / "01" / "AF_left.nii.gz")
    with pytest.raises(DataError, match="there is none"):
        read_folders([tmp_path / "masks"], 2)
    trk(tmp_path / "tool" / "01" / "AF_left.trk", ACROSS + 60)
    trk(tmp_path / "tool" / "02" / "AF_left.trk", ACROSS)
    made = adopt(tool(tmp_path / "tool"), patients, tmp_path / "out", Work(jobs=1))
    assert list(made.failed) == ["sub-01"] and "lie outside" in made.failed["sub-01"]
