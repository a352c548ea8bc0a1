"""A network of one's own, from a file of code, through predict, features and decompose."""

from pathlib import Path

import pandas as pd
import pytest
from makers.segmentation import with_tumors, write_cohort

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.catalogue import TABLES
from shiftkit.cli import main
from shiftkit.images import read_image, write_image
from shiftkit.tables import read_table
from shiftkit.types import Cohort

CODE = '''
import torch
from torch import nn

import shiftkit as sk


class Halves(nn.Module):
    """What is bright on the left, and what is bright on the right."""

    def __init__(self):
        super().__init__()
        self.bright = nn.Conv3d(1, 1, 1)
        nn.init.constant_(self.bright.weight, 20)
        nn.init.constant_(self.bright.bias, -12)

    def forward(self, image):
        left = (torch.linspace(1, -1, image.shape[2]) > 0).float()[:, None, None]
        share = self.bright(image).sigmoid()
        return torch.cat([share * left, share * (1 - left)], dim=1)


class Broken(Halves):
    """NaN where an image is much too bright."""

    def forward(self, image):
        return super().forward(image) / (image < 1.5).all()


def describe(network):
    return sk.Model(
        network=network, modality="fa", bundles=["AFleft", "AFright"], spacing_mm=2.5, shape=(24, 24, 16),
        output="probabilities",
    )


def make_network():
    return describe(Halves())


def broken():
    return describe(Broken())


def bare():
    return Halves()
'''


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file with a network."""
    path = tmp_path / "net.py"
    path.write_text(CODE)
    return path


def test_predict_takes_a_file_of_code(code: Path, patients: Cohort, tmp_path: Path) -> None:
    """``--model file.py:function`` segments as a checkpoint does: each side's tube is found where it lies."""
    words = ["--model", f"{code}:make_network", "--cohort", str(patients.root), "--device", "cpu", "-q"]
    assert main(["predict", *words, "--out", str(tmp_path / "masks")]) == 0
    scores = sk.score(tmp_path / "masks", patients, metrics=["dice"])
    assert scores.frame["value"].mean() > 0.8


def test_the_main_job_takes_it(code: Path, controls: Cohort, patients: Cohort, tmp_path: Path) -> None:
    """``decompose`` runs, and the page says that nobody knows whom the network has seen."""
    with_tumors(patients, tmp_path / "glioma")
    words = ["--model", f"{code}:make_network", "--cohort", str(tmp_path / "glioma"), "--reference", str(controls.root)]
    words += [
        "--allow",
        "duplicate,peaks,flip",
        "--bootstrap",
        "100",
        "--permutations",
        "99",
        "--no-sensitivity",
        "--jobs",
        "1",
        "-q",
    ]
    assert main(["decompose", *words, "--out", str(tmp_path / "run")]) == 0
    table = read_table(tmp_path / "run" / "tables" / "scores.tsv", TABLES["scores"])
    assert set(table["model"]) == {"Halves"} and table["value"].mean() > 0.8
    assert "Who model Halves was trained on is not known" in (tmp_path / "run" / "report.html").read_text()


def test_nan_fails_its_participant_alone(
    code: Path, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose image gives NaN is named, exit 4, without a single mask; if that is everybody, exit 5."""
    first, second = patients.cases[:2]
    rows = pd.DataFrame({"participant_id": [first.key, second.key], "group": "glioma"})
    for root, bad in ((tmp_path / "some", {first.key}), (tmp_path / "all", {first.key, second.key})):
        for case in (first, second):
            image = read_image(case.images["fa"])
            array = image.array.copy()
            if case.key in bad:
                array[12, 12, 8] = 90
            write_image(image.with_array(array), cohorts.image_path(root, case.key, "fa"))
        cohorts.write_participants(root, rows)
        cohorts.write_description(root, root.name)
    words = ["predict", "--model", f"{code}:broken", "--device", "cpu", "-q", "--cohort"]
    assert main([*words, str(tmp_path / "some"), "--out", str(tmp_path / "masks")]) == 4
    told = capsys.readouterr().err
    assert "1 failed" in told and first.key in told and "finite" in told
    assert not list((tmp_path / "masks").rglob(f"{first.key}*mask.nii.gz"))
    assert len(list((tmp_path / "masks").rglob(f"{second.key}*mask.nii.gz"))) == 2
    assert main([*words, str(tmp_path / "all"), "--out", str(tmp_path / "none")]) == 5
    assert second.key in capsys.readouterr().err
    assert not list(tmp_path.glob("none/**/*.nii.gz"))


def test_no_configuration_file_names_code(
    code: Path, patients: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ``shiftkit.toml`` above the current folder cannot have code run: not as a name, nor as a setting of a verb."""
    ran = tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w').close()\n" + CODE)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    toml = tmp_path / "shiftkit.toml"
    words = ["predict", "--cohort", str(patients.root), "--out", "out", "-q"]
    toml.write_text('[models]\nmine = "net.py:make_network"\n')
    assert main([*words, "--model", "mine"]) == 2
    assert "command line" in capsys.readouterr().err
    toml.write_text(f'[predict]\nmodel = "{code}:make_network"\n')
    assert main([*words, "--model", "reference"]) == 2
    assert "model is not known" in capsys.readouterr().err
    toml.write_text(f'[decompose]\nmodel = "{code}:make_network"\n')
    assert main(["decompose", "--cohort", str(patients.root), "--out", "out", "-q"]) == 2
    assert not ran.exists(), "nothing of the file was run"
    toml.unlink()
    assert main([*words, "--model", f"{code}:bare"]) == 2
    assert "must return shiftkit.Model" in capsys.readouterr().err and ran.exists()


def test_it_is_tuned_and_its_folds_are_named_with_its_code(
    code: Path, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``finetune`` writes folds; ``file.py:function@folder`` gives each patient the fold that never saw them."""
    tuned, words = tmp_path / "tuned", ["--cohort", str(patients.root), "--device", "cpu", "-q"]
    asked = ["finetune", "--model", f"{code}:make_network", *words, "--folds", "2", "--epochs", "1"]
    assert main([*asked, "--reference", str(patients.root), "--out", str(tuned)]) == 3, "patients are no controls"
    write_cohort(tmp_path / "controls", 4)
    asked += ["--reference", str(tmp_path / "controls"), "--out", str(tuned)]
    assert main(asked) == 2
    assert "Strategy decoder has to know" in capsys.readouterr().err
    assert not tuned.exists()
    assert main([*asked, "--strategy", "head", "--shots", "2"]) == 2
    assert main([*asked, "--strategy", "head"]) == 0
    assert main(["predict", "--model", f"{code}:make_network@{tuned}", *words, "--out", str(tmp_path / "again")]) == 0
    first, again = (cohorts.load_cohort(one) for one in (tuned / "predictions", tmp_path / "again"))
    for one, two in zip(first, again, strict=True):
        assert all(path.read_bytes() == two.masks[bundle].read_bytes() for bundle, path in one.masks.items())
    assert sk.load_model(tuned / "fold-1", source=f"{code}:make_network").name == "Halves+head"
    capsys.readouterr()
    assert main(["predict", "--model", str(tuned / "fold-1"), *words, "--out", str(tmp_path / "bare")]) == 2
    assert "file.py:function@" in capsys.readouterr().err
    code.write_text(CODE.replace("* left", "* left.sqrt()"))
    assert main([*asked, "--strategy", "head", "--resume"]) == 2
    assert "have changed since" in capsys.readouterr().err
