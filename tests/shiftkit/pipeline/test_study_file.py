"""Study files: what is wrong is told by name, all of it at once, before anything is looked up."""

from pathlib import Path
from typing import Any

import pytest

import shiftkit as sk
from shiftkit.api import VERBS
from shiftkit.errors import ConfigError
from shiftkit.pipeline.study_file import DECIDED, UNFOLLOWED, read_study

GOOD: dict[str, Any] = {"healthy": "controls", "patients": "hospital"}


def test_defaults_are_the_published_design() -> None:
    """Three inputs, the decoder beside scratch, five folds."""
    asked = read_study(GOOD, VERBS)
    assert (asked.modalities, asked.strategies, asked.folds) == (("t1w", "ap", "peaks"), ("decoder", "scratch"), 5)
    assert asked.primary == "decoder"
    assert read_study({**GOOD, "metric": "DSC"}, VERBS).metric == "dice"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"stratgies": ["decoder"]}, "stratgies is not known; did you mean strategies?"),
        ({"strategies": ["decodr"]}, "got 'decodr'; did you mean decoder"),
        ({"strategies": ["scratch", "decoder"]}, "which cannot be scratch"),
        ({"strategies": ["decoder", "none"]}, "do not name none"),
        ({"strategies": []}, "strategies must name at least one"),
        ({"strategies": ["head", "head"]}, "strategies names one twice"),
        ({"training": ["plain", "implant"]}, "got 'implant'; did you mean implants"),
        ({"folds": 1}, "folds must be at least 2; got 1"),
        ({"folds": "five"}, "folds must be a whole number"),
        ({"metric": "dicee"}, "metric is one of dice"),
        ({"metric": "95HD"}, "asked on the metric's own scale"),
        ({"metric": "assd"}, "got 'assd'"),
        ({"metric": "brier"}, "got 'brier'"),
        ({"train": {"epoch": 3}}, "[train] epoch is not known; did you mean epochs"),
        ({"train": {"epochs": 0}}, "[train] epochs must be at least 1; got 0"),
        ({"finetune": {"seed": 1}}, "[finetune] seed is decided by the study itself"),
        ({"decompose": {"include": 3}}, "[decompose] include must be a list"),
        ({"decompose": {"equivalence_margin": 0.1}}, "is decided by the study itself"),
        ({"decompose": {"level": 0.55}}, "[decompose] level cannot be given in a study: the study's own"),
        ({"decompose": {"covariates": ["age"]}}, "covariates cannot be given in a study: the answers do not adjust"),
        ({"decompose": {"session": "ses-1"}}, "[decompose] session cannot be given in a study: training and"),
        ({"decompose": {"equivalence_margin": 0.1}}, "is the study's own margin"),
        ({"train": 3}, "train must be a table"),
        ({"checkpoints": {"fa": "mine"}}, "[checkpoints] fa is none of the modalities"),
        ({"training": ["implants"], "checkpoints": {"peaks": "x"}}, "needs networks that are trained here"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], told: str) -> None:
    """Each wrong key or value, with the nearest that is right where one is near."""
    with pytest.raises(ConfigError) as caught:
        read_study({**GOOD, **wrong}, VERBS)
    assert told in str(caught.value)


def test_a_question_ends_a_sentence() -> None:
    """No full stop after a question mark."""
    with pytest.raises(ConfigError) as caught:
        read_study({**GOOD, "modalitis": ["t1w"]}, VERBS)
    assert str(caught.value).endswith("did you mean modalities?")


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    """With the file's name; nothing is looked up or written."""
    file = tmp_path / "study.toml"
    file.write_text('healthy = "x"\nfolds = 0\nstrategies = ["decodr"]\n')
    with pytest.raises(ConfigError) as caught:
        sk.study(file, out=tmp_path / "out")
    for part in ("study.toml cannot be used", "folds must", "decodr", "patients must name a cohort"):
        assert part in str(caught.value)
    file.write_text("healthy = \n")
    with pytest.raises(ConfigError, match="must be a TOML file"):
        sk.study(file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_paths_are_taken_from_the_file_and_names_from_everywhere(tmp_path: Path) -> None:
    """A cohort beside the file is found from anywhere; anything else stays the name it is."""
    (tmp_path / "controls").mkdir()
    file = tmp_path / "study.toml"
    file.write_text('healthy = "controls"\npatients = "glioma"\n')
    asked = read_study(file, VERBS)
    assert asked.named(asked.healthy) == str(tmp_path / "controls")
    assert asked.named(asked.patients) == "glioma"


def test_what_the_study_decides_are_options_of_the_verbs() -> None:
    """An option that a verb no longer has must not stay in the list."""
    from shiftkit.options import options_of

    for verb, names in (*DECIDED.items(), ("decompose", tuple(UNFOLLOWED))):
        lost = set(names) - set(options_of(VERBS[verb])) - {"device", "jobs"}
        assert not lost, (verb, lost)
