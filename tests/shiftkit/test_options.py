"""One way for an option to travel: signatures of the public functions, flags, configuration keys, bounds."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import shiftkit as sk
from shiftkit.api import VERBS
from shiftkit.cli import main
from shiftkit.cli.commands import app
from shiftkit.cli.flags import as_value, in_flags
from shiftkit.config import read_file
from shiftkit.errors import ConfigError
from shiftkit.options import Input, options_of, settings_of

OF_THE_COMMAND_LINE = {"--help", "--config", "--json"}


def commands() -> dict[str, Any]:
    """Every command by its words, without doctor and slurm, which are of the command line alone."""
    top: Any = typer.main.get_command(app)
    found = {name: one for name, one in top.commands.items() if name not in ("doctor", "model", "slurm")}
    return found | {f"model {name}": one for name, one in top.commands["model"].commands.items()}


def test_every_verb_is_a_public_function_and_the_other_way_round() -> None:
    """Commands and `VERBS` are the same, and each function that is public is one of them."""
    assert set(commands()) == set(VERBS)
    for function in VERBS.values():
        assert getattr(sk, function.__name__) is function


@pytest.mark.parametrize("verb", VERBS)
def test_each_flag_stands_in_the_signature_and_each_option_has_a_flag(verb: str) -> None:
    """Flags and arguments are those of the signature, in its order; a parameter without a flag is Python's alone."""
    options, command = options_of(VERBS[verb]), commands()[verb]
    given = [name for one in command.params if not OF_THE_COMMAND_LINE & set(one.opts) for name in [one.name]]
    assert given == list(options)
    for one in command.params:
        if one.name in options and (flag := options[one.name].flag):
            assert "/".join([*one.opts, *one.secondary_opts]) == flag
    alone = set(inspect.signature(VERBS[verb]).parameters) - set(options)
    assert alone <= {"progress", "announce", "settings", "replay", "title", "findings", "cohorts", "notes"}


@pytest.mark.parametrize("verb", VERBS)
def test_jobs_and_seed_have_one_default_everywhere(verb: str) -> None:
    """Every core, and seed 0, whatever the verb and whether it is asked from Python or the command line."""
    for name in ("jobs", "seed"):
        if name in options_of(VERBS[verb]):
            assert options_of(VERBS[verb])[name].default == 0
    # Where there are processes, they can be those of a cluster.
    assert ("jobs" in options_of(VERBS[verb])) == ("scheduler" in options_of(VERBS[verb]))


LIBRARY = {
    "decompose": "shiftkit.analyses.decomposition.study:decompose",
    "phantom": "shiftkit.phantoms.cohort:phantom",
    "implant": "shiftkit.phantoms.implants.cohort:implant",
    "predict": "shiftkit.segmentation.prediction.cohort:predict",
    "score": "shiftkit.analyses.scoring.study:score",
    "deform": "shiftkit.analyses.deformation.study:deform",
    "train": "shiftkit.segmentation.training.recipes:Recipe",
    "finetune": "shiftkit.segmentation.transfer.finetuning:Transfer",
}


@pytest.mark.parametrize("verb", LIBRARY)
def test_defaults_are_those_of_the_library(verb: str) -> None:
    """A setting that the function below has too means the same when it is left out."""
    from importlib import import_module

    module, name = LIBRARY[verb].split(":")
    below = inspect.signature(getattr(import_module(module), name)).parameters
    own = {"train": {"epochs"}, "score": {"metrics"}, "finetune": {"shots"}}.get(
        verb, set()
    )  # None and () mean: as below
    shared = [name for name in settings_of(VERBS[verb], options_of(VERBS[verb])) if name in below and name not in own]
    assert shared
    for name in shared:
        assert options_of(VERBS[verb])[name].default == below[name].default, name


def from_python(verb: str, name: str, value: Any, _: Path) -> str:
    needed = {one: "x" for one, said in options_of(VERBS[verb]).items() if said.default is inspect.Parameter.empty}
    with pytest.raises(ConfigError) as caught:
        VERBS[verb](**needed, **{name: value})
    return str(caught.value)


def from_toml(verb: str, name: str, value: Any, folder: Path) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    (folder / "c.toml").write_text(f"[{verb}]\n{name} = {text}\n")
    with pytest.raises(ConfigError) as caught:
        read_file(folder / "c.toml", VERBS)
    return str(caught.value)


@pytest.mark.parametrize("told", [from_python, from_toml])
@pytest.mark.parametrize(
    ("verb", "name", "value", "problem"),
    [
        ("decompose", "n_bootstrap", 99, "must be at least 100; got 99"),
        ("decompose", "level", 1.5, "must be at least 0.5 and at most 0.9999; got 1.5"),
        ("decompose", "seed", -1, "must be at least 0; got -1"),
        ("decompose", "bundles", "AF", "must be a list, each item text; got 'AF'"),
        ("finetune", "folds", 1, "must be at least 2; got 1"),
        ("finetune", "folds", True, "must be a whole number; got True"),
        ("train", "patch", [48, 0, 48], "must be at least 1; got [48, 0, 48]"),
        ("train", "patch", [48, 48], "must be a list of 3, each item a whole number; got [48, 48]"),
        ("phantom", "spacing_mm", 9, "must be at least 1 and at most 5; got 9"),
        ("score", "threshold", 2.0, "must be at least 0 and at most 1; got 2.0"),
    ],
)
def test_types_and_bounds_are_the_same_in_python_and_in_the_file(
    told: Callable[..., str], verb: str, name: str, value: Any, problem: str, tmp_path: Path
) -> None:
    """The sentence is the same; only how the option is called differs."""
    assert problem in told(verb, name, value, tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("decompose --scores x --out y --bootstrap 99", "Error: --bootstrap must be at least 100; got 99."),
        ("finetune --model x --cohort y --out z --folds 1", "Error: --folds must be at least 2; got 1."),
        ("phantom x --spacing 9", "Error: --spacing must be at least 1 and at most 5; got 9.0."),
        ("validate --cell unheard-of", "Error: --cell must be part of a cell's name"),
        ("decompose --out z", "Error: A decomposition needs --model and --cohort, or --scores, a table"),
    ],
)
def test_flags_have_the_same_bounds_and_errors_name_the_flag(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What Python calls `n_bootstrap` is --bootstrap on the command line, in errors of the library too; exit 2."""
    assert main(words.split()) == 2
    assert told in capsys.readouterr().err


CLOSED = [(verb, name) for verb in VERBS for name, one in options_of(VERBS[verb]).items() if one.words]


@pytest.mark.parametrize(("verb", "name"), CLOSED)
def test_words_that_an_option_does_not_know_are_refused_before_anything_is_read(verb: str, name: str) -> None:
    """The sentence names all of them and the near one, though nothing else that was given exists."""
    function, option = VERBS[verb], options_of(VERBS[verb])[name]
    needed = {one: "x" for one, said in options_of(function).items() if said.default is inspect.Parameter.empty}
    meant = option.words[-1]
    near = f"{meant[:-1]}" if len(meant) > 2 else f"{meant}x"
    for wrong in ([near], (near,)) if option.several else (near,):
        with pytest.raises(
            ConfigError, match=f"`{name}` must be .*{', '.join(option.words)}; got {near}; did you mean"
        ):
            function(**{**needed, name: wrong})
    assert option.problem([meant] if option.several else meant) is None
    assert option.problem(3) is not None


def test_words_of_the_signatures_are_those_that_are_known_inside() -> None:
    """A network, strategy, augmentation, shape, format, map, study or group that is added is added to the signature."""
    from shiftkit.cohorts.preparation import MAPS
    from shiftkit.importers import FORMATS
    from shiftkit.phantoms.implants.growth import SHAPES
    from shiftkit.pipeline.studies import STUDIES
    from shiftkit.segmentation.network.networks import NETWORKS
    from shiftkit.segmentation.samples.augmentation import AUGMENTATIONS
    from shiftkit.segmentation.transfer.strategies import STRATEGIES
    from shiftkit.words import words_of

    inside = {
        "network": NETWORKS,
        "augmentation": AUGMENTATIONS,
        "strategy": STRATEGIES,
        "shape": SHAPES,
        "format_": FORMATS,
        "maps": MAPS,
        "include": STUDIES,
        "group": words_of("group"),
        "unwritten": ("unavailable", "missed"),
        "normalization": ("instance", "batch"),
    }
    for verb, name in CLOSED:
        assert set(options_of(VERBS[verb])[name].words) == set(inside[name]), name


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "device" in options_of(VERBS[verb])])
def test_a_device_of_another_form_is_refused_at_once(verb: str) -> None:
    """The same for every verb that takes one, before PyTorch is loaded; forms that exist pass."""
    device = options_of(VERBS[verb])["device"]
    for wrong in ("gpu", "cuda:", "cuda:x", "CPU", "mps:0", ""):
        assert device.problem(wrong) == f"must be auto, cpu, cuda, cuda:N or mps; got {wrong!r}"
    assert [device.problem(one) for one in ("auto", "cpu", "cuda", "cuda:1", "mps")] == [None] * 5


def test_options_in_backticks_become_flags_of_the_verb_and_nothing_else_does() -> None:
    """Arguments keep their name in capitals, and words that are no option stay as they are."""
    message = in_flags(
        "`n_bootstrap` and `metrics`, not `shiftkit.toml` or `nonsense`.", options_of(VERBS["decompose"])
    )
    assert message == "--bootstrap and `metrics`, not `shiftkit.toml` or `nonsense`."
    assert in_flags("Give `run`.", options_of(VERBS["cite"])) == "Give [RUN]."


def test_pairs_are_read_alike_from_flags_and_the_file(tmp_path: Path) -> None:
    """A name may hold blanks, and a comma where no pair follows; what is no pair is a usage error."""
    columns = options_of(VERBS["decompose"])["columns"]
    words = ["participant=ID,value=Dice, AF", "group=my group"]
    expected = {"participant": "ID", "value": "Dice, AF", "group": "my group"}
    assert as_value(columns, words) == expected
    (tmp_path / "c.toml").write_text(
        '[decompose.columns]\nparticipant = "ID"\nvalue = "Dice, AF"\ngroup = "my group"\n'
    )
    assert read_file(tmp_path / "c.toml", VERBS)["decompose"]["columns"] == expected
    assert main(["decompose", "--scores", "x", "--out", "y", "--columns", "ID"]) == 2
    assert columns.problem({"value": 3}) == "must be pairs of a name and text; got {'value': 3}"


def test_inputs_are_no_settings() -> None:
    """What a run works on has a flag, but no key in a file and no place in the record."""
    options = options_of(VERBS["decompose"])
    assert {"model", "cohort", "out", "resume", "filters"} <= {
        name for name, one in options.items() if isinstance(one.option, Input)
    }
    assert "out" not in settings_of(VERBS["decompose"], options)


def test_help_of_a_public_function_shows_every_option() -> None:
    """``help(sk.decompose)`` lists them with their defaults: there is no ``**options``."""
    shown = str(inspect.signature(sk.decompose))
    assert "n_bootstrap" in shown and "= 2000" in shown and "**" not in shown


def test_signatures_are_read_without_heavy_packages() -> None:
    """Importing the public functions loads neither torch nor pandas nor matplotlib nor numpy."""
    code = (
        "import shiftkit.api, sys; print([m for m in ('torch', 'pandas', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_that_python_can_do_without_is_needed_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Without ``--out`` a verb ends with a usage error, and nothing is computed."""
    assert inspect.signature(sk.decompose).parameters["out"].default is None
    assert main(["decompose", "--scores", "x"]) == 2
    told = capsys.readouterr().err
    assert "Usage error" in told and "--out" in told
