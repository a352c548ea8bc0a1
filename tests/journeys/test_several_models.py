"""Several source models in one decomposition: networks, another tool's masks, tables of scores."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.segmentation import BUNDLES, with_tumors

import shiftkit as sk
from shiftkit.catalogue import TABLES
from shiftkit.cli import main
from shiftkit.errors import ConfigError
from shiftkit.files import read_json
from shiftkit.images import read_image, write_image
from shiftkit.tables import read_table
from shiftkit.types import Cohort

QUICK = ["--bootstrap", "100", "--permutations", "99", "--no-sensitivity", "--jobs", "1"]
NETWORKS = """
import torch
from torch import nn

import shiftkit as sk


class Bright(nn.Module):
    def __init__(self, level):
        super().__init__()
        self.bright = nn.Conv3d(1, 1, 1)
        nn.init.constant_(self.bright.weight, 20)
        nn.init.constant_(self.bright.bias, -20 * level)

    def forward(self, image):
        left = (torch.linspace(1, -1, image.shape[2]) > 0).float()[:, None, None]
        share = self.bright(image).sigmoid()
        return torch.cat([share * left, share * (1 - left)], dim=1)


def made(name, level, bundles=("AFleft", "AFright")):
    return sk.Model(
        name=name, network=Bright(level), modality="fa", bundles=list(bundles), spacing_mm=2.5, shape=(24, 24, 16),
        output="probabilities",
    )


def low():
    return made("low", 0.6)


def high():
    return made("high", 0.85)


def third():
    return made("third", 0.7)


def elsewhere():
    return made("elsewhere", 0.6, ("PYTleft", "PYTright"))
"""


@pytest.fixture
def networks(tmp_path: Path) -> str:
    """A file of networks."""
    (tmp_path / "nets.py").write_text(NETWORKS)
    return f"{tmp_path / 'nets.py'}:"


def tables_of(run: Path) -> dict[str, pd.DataFrame]:
    """Every table of a run."""
    return {path.stem: read_table(path, TABLES[path.stem]) for path in (run / "tables").glob("*.tsv")}


def test_two_networks_and_a_tool_stand_side_by_side(
    networks: str, controls: Cohort, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run, one page: the first model's numbers are those that it has alone; whom the tool lacks fails by name.

    Bundles that the tool lacks are named.
    """
    glioma = with_tumors(patients, tmp_path / "glioma")
    for case in (*glioma.cases[1:], *controls.cases):
        mask = read_image(case.masks[BUNDLES[0]])
        place = tmp_path / "nnunet" / case.key / "AF_left.nii.gz"
        write_image(mask.with_array(np.roll(mask.array, 1, axis=2)), place)
    both = ["--cohort", str(glioma.root), "--reference", str(controls.root), "--allow", "duplicate,peaks,flip", *QUICK]
    beside = ["--model", f"{networks}high", "--predictions", str(tmp_path / "nnunet")]
    words = ["decompose", "--model", f"{networks}low", *beside, *both, "--out", str(tmp_path / "run")]
    assert main([*words, "--dry-run"]) == 0
    assert "with model low, score them, decompose the drop, set high, nnunet beside it" in (
        planned := " ".join(capsys.readouterr().out.split())
    )
    assert "1 without predictions would fail" in planned and not (tmp_path / "run").exists()
    assert main(words) == 4
    said = capsys.readouterr()
    assert f"{glioma.cases[0].key}, nnunet: there is no prediction" in said.err
    told = " ".join(said.out.split())
    assert f"high and low share {len(glioma)} patients, {len(controls)} controls and 2 bundles" in told
    lost = f"1 participant without a score by nnunet ({glioma.cases[0].key}); bundles without scores by"
    assert f"{lost} nnunet (AFright)" in told
    run = tables_of(tmp_path / "run")
    assert set(run["scores"]["model"]) == set(run["decomposition"]["model"]) == {"low", "high", "nnunet"}
    own = run["scores"][run["scores"]["model"] == "low"]
    alone = sk.decompose(own, n_bootstrap=100, n_permutations=99, sensitivity=False).table
    kept = run["decomposition"]
    kept = kept[(kept["model"] == "low") & kept["method"].isin(alone["method"])].reset_index(drop=True)
    shown = ["estimate", "low", "high", "n_patients", "n_controls"]
    np.testing.assert_allclose(kept[shown].astype(float), alone[shown].astype(float), rtol=1e-6)
    n = run["models"].set_index("model")["n_patients"]
    assert set(n["high"]) == {len(glioma)} and set(n["nnunet"]) == {len(glioma) - 1}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Models side by side" in page and f"{lost} nnunet (AFright)" in page
    record = read_json(tmp_path / "run" / "run.json")
    assert record["models"]["verdict"] in page and len(record["models"]["differences"]) == 6
    inputs = record["inputs"]
    assert {"model", "model high", "predictions nnunet"} <= set(inputs)


@pytest.mark.parametrize(
    ("models", "code", "told"),
    [
        (["low", "low"], 2, "two are called low"),
        (["reference", "reference"], 2, "reference is named twice in --model"),
        (["low", "elsewhere"], 5, "elsewhere predicts PYTleft PYTright, cohort glioma has reference masks of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_models_that_cannot_stand_side_by_side_are_refused(
    models: list[str],
    code: int,
    told: str,
    networks: str,
    controls: Cohort,
    patients: Cohort,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One model twice, two of one name, and models of nothing in common: before an image is read."""
    glioma = with_tumors(patients, tmp_path / "glioma")
    words = [word for one in models for word in ("--model", one if one == "reference" else f"{networks}{one}")]
    words += ["--cohort", str(glioma.root), "--reference", str(controls.root), "--out", str(tmp_path / "run")]
    assert main(["decompose", *words]) == code
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_fine_tuned_model_belongs_to_the_first(
    networks: str, controls: Cohort, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside several source models, one that may be tuned from another, or is one of these, is refused by name."""
    sk.predict(f"{networks}high", patients, out=tmp_path / "tuned" / "predictions", probabilities=False)
    words = ["--cohort", str(patients.root), "--reference", str(controls.root), "--out", str(tmp_path / "run")]
    words += ["--finetuned", str(tmp_path / "tuned")]
    for further, told in (("high", "high is given as both"), ("third", "high may be another's")):
        models = ["--model", f"{networks}low", "--model", f"{networks}{further}"]
        assert main(["decompose", *models, *words]) == 2
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def several(tmp_path: Path) -> Path:
    """A table of scores by two source models, and by the first one fine-tuned."""
    tables = [
        simulated.scores(24, 20, seed=3, model=name, systematic=systematic)
        for name, systematic in (("mine", 0.5), ("nnunet", 0.9), ("mine+decoder", 0.2))
    ]
    frame = pd.concat(tables)
    frame[frame["bundle"].isin(["AF", "PYT"])].to_csv(tmp_path / "scores.tsv", sep="\t", index=False)
    return tmp_path / "scores.tsv"


def test_a_table_of_scores_holds_several_source_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--model`` given twice names the first and one beside it; what is not named counts as fine-tuned, as before.

    Python says the same without a folder; ``--anonymous`` tells source models by number.
    """
    table, options = several(tmp_path), {"n_bootstrap": 100, "n_permutations": 99, "sensitivity": False}
    result = sk.decompose(table, model=["mine", "nnunet"], **options)
    assert set(result.recovery["model"]) == {"mine+decoder"} and set(result.models["model"]) == {"nnunet"}
    assert "nnunet loses more in patients than mine" in str(result)
    words = ["decompose", "--scores", str(table), "--model", "mine", "--model", "nnunet", *QUICK, "--anonymous"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "model 2 loses more in patients than model" in " ".join(capsys.readouterr().out.split())
    run = tables_of(tmp_path / "run")
    assert set(run["scores"]["model"]) == {"model", "model 2", "model+decoder"}
    shown = ["difference", "difference_low", "difference_high"]
    np.testing.assert_allclose(result.models[shown].astype(float), run["models"][shown], rtol=1e-6)


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (["mine", "mine"], "mine is named twice"),
        (["mine", "other"], "it is other"),
        (["nnunet", "mine"], "mine+decoder may be another's"),
        ([], "or several. The others count as fine-tuned"),
    ],
)
def test_names_that_leave_a_doubt_are_refused(models: list[str], told: str, tmp_path: Path) -> None:
    """A model twice, one that the table has not, a fine-tuned model that is not the first one's, and no name at all."""
    table = several(tmp_path)
    with pytest.raises(ConfigError, match=told.replace("+", r"\+")):
        sk.decompose(table, model=models, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
