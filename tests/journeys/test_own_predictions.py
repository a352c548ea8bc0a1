"""Masks that other tools made, straight into the main job."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from makers.segmentation import BUNDLES, with_tumors

from shiftkit.catalogue import TABLES
from shiftkit.cli import main
from shiftkit.images import read_image, write_image
from shiftkit.tables import read_table
from shiftkit.types import Case, Cohort

NUMBERS = ["--bootstrap", "100", "--permutations", "99", "--no-sensitivity", "--jobs", "1"]


def test_two_tools_layouts_enter_one_decomposition(
    controls: Cohort, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patients of nnU-Net and controls of TractSeg, a row off, without a model: scores, shells and pictures.

    What was understood is said; whoever has no prediction fails by name and counts as left out of their own cohort;
    ``--resume`` gives the same bytes.
    """
    glioma = with_tumors(patients, tmp_path / "glioma")
    description = {"labels": {"background": 0, "AF_left": 1, "AF_right": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "nnunet").mkdir()
    (tmp_path / "nnunet" / "dataset.json").write_text(json.dumps(description))
    for case in glioma.cases[1:]:
        masks = [read_image(case.masks[bundle]) for bundle in BUNDLES]
        labels = sum((number * np.roll(one.array, 1, axis=2) for number, one in enumerate(masks, start=1)))
        write_image(masks[0].with_array(np.asarray(labels, dtype=np.uint8)), tmp_path / "nnunet" / f"{case.key}.nii.gz")
    for case in controls.cases[1:]:
        for bundle in BUNDLES:
            place = tmp_path / "tractseg" / case.key / "bundle_segmentations" / f"AF_{bundle.hemisphere}.nii.gz"
            write_image(read_image(case.masks[bundle]), place)
    write_image(read_image(place), place.with_name("UF_left.nii.gz"))
    write_image(read_image(place), place.parents[1] / "FA.nii.gz")
    words = ["decompose", "--predictions", str(tmp_path / "nnunet"), "--predictions", str(tmp_path / "tractseg")]
    words += ["--cohort", str(glioma.root), "--reference", str(controls.root), "--out", str(tmp_path / "run"), *NUMBERS]
    words += ["--allow", "duplicate,peaks,flip"]
    assert main(words) == 4
    said = capsys.readouterr()
    assert "5 of 6 cases of glioma, bundles AFleft AFright" in said.out
    assert "no reference mask of it in controls: UFleft." in said.out
    assert "not understood: tractseg/sub-c05/FA.nii.gz." in said.out
    for failed in (glioma.cases[0], controls.cases[0]):
        assert f"{failed.key}: there is no prediction" in said.err
    entered = read_table(tmp_path / "run" / "tables" / "entered.tsv", TABLES["entered"])
    lost = entered[entered["reason"].str.startswith("failed")].set_index("group")
    assert lost["n_participants"].to_dict() == {"glioma": 1, "control": 1} and set(lost["n_rows"]) == {0}
    assert f"1 patient (failed: {glioma.cases[0].key})" in " ".join(said.out.splitlines()[-4:])
    told = (tmp_path / "run" / "CITATION.md").read_text()
    n = len(controls) - 1
    assert f"5 patients (glioma, 1 left out); {n} unseen controls (controls, 1 left out)" in told and "nan" not in told
    scores = read_table(tmp_path / "run" / "tables" / "scores.tsv", TABLES["scores"])
    by_group = scores.groupby("group")["value"].mean()
    assert by_group["control"] == 1 and by_group["glioma"] < 0.9
    assert not read_table(tmp_path / "run" / "tables" / "shells.tsv", TABLES["shells"]).empty
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Who model nnunet+tractseg was trained on is not known" in page and "5 of 6 cases of glioma" in page
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "tables").iterdir()}
    assert main([*words, "--resume"]) == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "tables").iterdir()} == before


def test_a_dry_run_looks_at_who_has_predictions(
    controls: Cohort, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run would refuse or lack, its dry run tells: bundles of some alone, people without, strangers only."""

    def put(*cases: Case, missing: int = 0) -> None:
        shutil.rmtree(tmp_path / "masks", ignore_errors=True)
        for case in cases:
            for bundle in BUNDLES[missing if case == cases[0] else 0 :]:
                write_image(read_image(case.masks[bundle]), tmp_path / "masks" / case.key / f"{bundle.label}.nii.gz")

    def tried(code: int) -> str:
        words = ["--predictions", str(tmp_path / "masks"), "--cohort", str(patients.root), "--dry-run"]
        assert main(["decompose", *words, "--reference", str(controls.root), "--out", str(tmp_path / "run")]) == code
        said = capsys.readouterr()
        return said.out + said.err

    put(*patients.cases[1:], *controls.cases)
    assert f"of {len(patients) - 1} patients of {patients.name}" in (said := tried(0)) and "1 without" in said
    put(*patients, *controls, missing=1)
    assert f"{patients.cases[0].key} has no {BUNDLES[0]}" in tried(3)
    for some, lacking in ((controls, patients), (patients, controls)):
        put(*some)
        assert f"masks holds those of {some.name}, and of nobody of {lacking.name} ({lacking[0].key}, " in tried(3)
    shutil.rmtree(tmp_path / "masks")
    write_image(read_image(patients[0].masks[BUNDLES[0]]), tmp_path / "masks" / "sub-x9" / "AF_left.nii.gz")
    assert "none of those in masks (sub-x9) is in" in tried(3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--scores", "t.tsv", "--cohort", "nowhere/at/all"], "--cohort would be passed over"),
        (["--scores", "t.tsv", "--reference", "healthy"], "--reference would be passed over"),
        (["--scores", "t.tsv", "--predictions", "masks"], "--predictions would be passed over"),
        (["--predictions", "masks", "--cohort", "glioma", "--include", "features"], "Leave features out"),
        (["--model", "reference", "--cohort", "glioma", "--unwritten", "missed"], "none are given"),
        (["--model", "reference", "--cohort", "glioma", "--min-streamlines", "2"], "none are given"),
        (["--predictions", "masks"], "needs --model and --cohort"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_contradict_each_other_are_refused(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that was given is passed over in silence: exit 2, before anything is read."""
    assert main(["decompose", *words, "--out", str(tmp_path / "run")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
