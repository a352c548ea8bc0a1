"""Configuration: precedence, strictness, registered names."""

from pathlib import Path

import pytest

from shiftkit.api import VERBS
from shiftkit.config import find_file, read_file, read_record, registered_names, resolve
from shiftkit.errors import ConfigError, DataError
from shiftkit.names import find_cohort, find_model


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_flag_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    """The three sources of a value are asked in the documented order."""
    file = write(tmp_path / "c.toml", '[finetune]\nstrategy = "full"\nfolds = 5\n')
    options = resolve("finetune", VERBS, {"folds": 3, "strategy": None, "seed": None}, file)
    assert options == {"folds": 3, "strategy": "full"}, "what neither gives keeps the default of the signature"


def test_every_unknown_key_and_wrong_type_is_named_at_once(tmp_path: Path) -> None:
    """One error lists all problems of the file with their places."""
    wrong = '[decompose]\nmetrik = "dice"\nout = "x"\nseed = "one"\nlevel = true\nn_bootstrap = 9\n'
    file = write(tmp_path / "c.toml", wrong + "[decomp]\n[models]\na = 1\n")
    with pytest.raises(ConfigError) as caught:
        read_file(file, VERBS)
    for part in (
        "c.toml",
        "metrik",
        "out is not known",
        "n_bootstrap must be at least 100; got 9",
        "seed must be a whole number",
        "level must be a number",
        "[decomp]",
        "[models]",
    ):
        assert part in str(caught.value)


def test_lists_become_tuples_and_integers_pass_as_numbers(tmp_path: Path) -> None:
    """TOML's types are turned into those of the function."""
    file = write(tmp_path / "c.toml", '[decompose]\nbundles = ["AF", "FAT"]\nequivalence_margin = 1\n')
    assert resolve("decompose", VERBS, {}, file) == {"bundles": ("AF", "FAT"), "equivalence_margin": 1}


def test_broken_toml_is_a_config_error(tmp_path: Path) -> None:
    """A file that is not TOML is refused with its name."""
    with pytest.raises(ConfigError, match="must be a TOML file"):
        read_file(write(tmp_path / "c.toml", "[decompose\n"), VERBS)


def test_a_folder_does_not_stand_in_for_a_built_in_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a folder has a built-in model's name, the name alone is refused and ./name is the folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reference").mkdir()
    (tmp_path / "glioma").mkdir()
    for find, name in ((find_model, "reference"), (find_cohort, "glioma")):
        with pytest.raises(ConfigError, match=f"Write ./{name}"):
            find(name)
    assert find_model("./reference") == Path("reference") == find_model(Path("reference"))


def test_a_misspelled_name_is_answered_with_the_nearest() -> None:
    """The built-in name that was likely meant."""
    with pytest.raises(DataError, match=r"reference; did you mean reference\?"):
        find_model("refrence")


def test_names_are_found_upwards_and_relative_to_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project file above the current folder registers cohorts relative to itself."""
    write(tmp_path / "shiftkit.toml", '[cohorts]\nhospital = "data/hospital"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert find_file() == tmp_path / "shiftkit.toml"
    assert registered_names("cohorts") == {"hospital": tmp_path / "data" / "hospital"}
    assert registered_names("models") == {}


@pytest.mark.parametrize("part", ["seeds", "configuration", "inputs"])
@pytest.mark.parametrize("value", ["null", "true", "3", "[]", '"decompose"'])
def test_a_record_of_another_kind_is_refused(part: str, value: str, tmp_path: Path) -> None:
    """Each part of a run.json is a mapping; anything else is no record of a decomposition."""
    parts = {"seeds": '{"decompose": 0}', "configuration": "{}", "inputs": "{}"}
    for text, sound in ((parts, True), (parts | {part: value}, False)):
        (tmp_path / "run.json").write_text("{" + ", ".join(f'"{name}": {one}' for name, one in text.items()) + "}")
        if sound:
            assert read_record(tmp_path / "run.json")["inputs"] == {}
        else:
            with pytest.raises(ConfigError, match="no such settings"):
                read_record(tmp_path / "run.json")
