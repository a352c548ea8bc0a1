import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from makers.segmentation import PATCH, RECIPE, interrupted, on_grid, same_weights

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import Model
from shiftkit.segmentation.training.epochs import Anchor, Restraint, Schedule, make_optimizer
from shiftkit.segmentation.training.fitting import fit
from shiftkit.segmentation.training.processes import alone
from shiftkit.segmentation.training.source import train
from shiftkit.segmentation.training.states import StateFolder
from shiftkit.segmentation.transfer.strategies import STRATEGIES, freeze
from shiftkit.types import Cohort

KILLED = """
import os, signal, sys
import numpy as np, torch
from pathlib import Path
from shiftkit.cohorts.folder import load_cohort
from shiftkit.segmentation.training import states
from shiftkit.segmentation.training.recipes import Recipe
from shiftkit.segmentation.training.source import train
from shiftkit.work import Work
# What every child would import, seconds each: the optimizer's first step alone imports the compiler.
import matplotlib.backends.backend_svg, torch._dynamo
import monai.inferers.utils, monai.losses.dice, monai.networks.nets.unet
torch.set_num_threads(1)
cohort, folder = load_cohort(Path(sys.argv[1])), Path(sys.argv[2])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
replace, save_file = Path.replace, states.save_file

def arm(moment, count):
    # Die at the count-th call of what the moment names.
    calls = iter(range(1, 1000))
    now = lambda: next(calls) == count

    def half_written(tensors, path):
        save_file(tensors, path)
        if now():
            os.truncate(path, path.stat().st_size // 2)
            die()

    def moved(path, target):
        last = now()
        if last and moment == "before the move":
            die()
        made = replace(path, target)
        if last:
            die()
        return made

    if moment == "half-written weights":
        states.save_file = half_written
    elif moment in ("before the move", "after the move"):
        Path.replace = moved
    return lambda done, total, text: die() if moment == "step" and text.startswith("Training") and now() else None

def run(name, *plan):
    child = os.fork()
    if child == 0:
        recipe = Recipe(modality="fa", epochs=12, patience=50, patch=(16, 24, 16), device="cpu", channels=(4, 8),
                        shape=(24, 24, 16))
        work = Work(progress=arm(*plan) if plan else None)
        train(cohort, out=folder / name, recipe=recipe, resume=True, work=work)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert run("whole") == 0
rng = np.random.default_rng(0)
moments = rng.permutation(["step"] * 5 + ["half-written weights", *["before the move", "after the move"] * 2])
kills = [run("killed", moment, int(rng.integers(1, 10 if moment == "step" else 3))) for moment in moments]
assert len(kills) == 10 and set(kills) == {-signal.SIGKILL}, kills
epochs = len(__import__("json").loads((folder / "killed" / "state" / "log.json").read_text())["log"])
assert 0 < epochs < 12, epochs
assert run("killed") == 0
"""


@pytest.mark.slow
def test_training_killed_ten_times_ends_with_the_same_weights(controls: Cohort, tmp_path: Path) -> None:
    """Kill −9 at ten drawn moments, some while the state is written, and resuming changes no bit of any file.

    Trained on patches, with augmentation and early stopping, so that all that is drawn or remembered counts.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, controls.root, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert same_weights(tmp_path / "whole", tmp_path / "killed")
    for name in ("training.csv", "training.svg"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    assert not (tmp_path / "killed" / "state").exists()


@pytest.mark.parametrize("patch", [None, PATCH])
def test_interrupted_at_every_epoch_resumes_to_the_same_weights(
    controls: Cohort, trained: Path, tmp_path: Path, patch: tuple[int, int, int] | None
) -> None:
    """Stopping in the middle of every epoch in turn changes nothing."""
    recipe, whole = replace(RECIPE, patch=patch), trained
    if patch is not None:
        whole = tmp_path / "whole"
        train(controls, out=whole, recipe=recipe)
    steps = sum(case.attributes["split"] == "train" for case in controls)
    for epoch in range(recipe.epochs):
        with pytest.raises(KeyboardInterrupt):
            train(
                controls,
                out=tmp_path / "parts",
                resume=True,
                work=interrupted("Training", epoch * steps + 2),
                recipe=recipe,
            )
    train(controls, out=tmp_path / "parts", resume=True, recipe=recipe)
    assert same_weights(whole, tmp_path / "parts")


def test_unfinished_or_finished_folders_are_not_overwritten(controls: Cohort, tmp_path: Path) -> None:
    """A folder with a checkpoint or a state is kept unless resume says to use it; no state outlives its training."""
    recipe = replace(RECIPE, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        train(controls, out=tmp_path / "m", work=interrupted("Training", 6), recipe=recipe)
    with pytest.raises(ConfigError, match="holds state"):
        train(controls, out=tmp_path / "m", recipe=recipe)
    shutil.copytree(tmp_path / "m" / "state", tmp_path / "state")
    train(controls, out=tmp_path / "m", resume=True, recipe=recipe)
    with pytest.raises(ConfigError, match="holds configs"):
        train(controls, out=tmp_path / "m", recipe=recipe)
    shutil.copytree(tmp_path / "state", tmp_path / "m" / "state")  # killed between the last two steps
    assert train(controls, out=tmp_path / "m", resume=True, recipe=recipe).name == "m"
    assert not (tmp_path / "m" / "state").exists()


OTHER = {
    "schedule.epochs is 3 there, 5 now": {"epochs": 5},
    "schedule.batch_size is 1 there, 2 now": {"batch_size": 2},
    "schedule.augmentation is light there, strong now": {"augmentation": "strong"},
    "schedule.patience is None there, 3 now": {"patience": 3},
    "seed is 0 there, 1 now": {"seed": 1},
    "patch is None there, \\[16, 12, 8\\] now": {"patch": PATCH},
    "architecture.channels is \\[4, 8, 16\\] there, \\[4, 8\\] now": {"channels": (4, 8)},
    "bundles is \\['AFleft', 'AFright'\\] there, \\['AFright'\\] now": {"bundles": ["AFright"]},
    "modality is fa there, peaks now": {"modality": "peaks"},
}


@pytest.fixture(scope="module")
def halted(controls: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that was stopped in its second epoch."""
    out = tmp_path_factory.mktemp("halted") / "m"
    with pytest.raises(KeyboardInterrupt):
        train(controls, out=out, work=interrupted("Training", 7), recipe=RECIPE)
    return out


@pytest.mark.parametrize("words", OTHER)
def test_other_settings_are_not_mixed_in(
    words: str, controls: Cohort, halted: Path, trained: Path, tmp_path: Path
) -> None:
    """A half-made or finished training asked to go on otherwise is refused, naming what differs, and left as it is."""
    for source in (halted, trained):
        out = tmp_path / source.parent.name / "m"
        shutil.copytree(source, out)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(ConfigError, match=words):
            train(controls, out=out, resume=True, recipe=replace(RECIPE, **OTHER[words]))
        assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_other_participants_are_not_mixed_in(controls: Cohort, halted: Path, trained: Path, tmp_path: Path) -> None:
    """Nobody may be left out, added, or be another image under the same name."""
    fewer = replace(controls, cases=controls.cases[1:])
    images = [case.images for case in (*controls.cases[1:], controls.cases[0])]
    swapped = tuple(replace(case, images=other) for case, other in zip(controls, images, strict=True))
    shutil.copytree(halted, tmp_path / "m")
    with pytest.raises(ConfigError, match=r"participants.sub-c00 is [0-9a-f]{12}… there, nothing now"):
        train(fewer, out=tmp_path / "m", resume=True, recipe=RECIPE)
    with pytest.raises(ConfigError, match=r"participants.sub-c00 is .* and 1 more"):
        train(replace(controls, cases=swapped), out=tmp_path / "m", resume=True, recipe=RECIPE)
    with pytest.raises(ConfigError, match=r"participants\.sub-c00 is"):
        train(fewer, out=trained, resume=True, recipe=RECIPE)


def test_states_of_other_networks_or_anchors_are_refused(
    controls: Cohort, make_model: Callable[..., Model], tmp_path: Path
) -> None:
    """A fine-tuning is not continued from another source, with other frozen layers or another pull."""
    samples = on_grid(controls.cases[:2])
    schedule = Schedule(epochs=2, learning_rate=1e-3)

    def tune(seed: int = 0, strategy: str = "full", strength: float = 0.1, further: str = "a") -> None:
        network = make_model(seed=seed).network
        freeze(network, STRATEGIES[strategy].trains)
        anchor = Anchor(
            weights={name: one.detach().clone() for name, one in network.named_parameters()}, strength=strength
        )
        settings = {"further": further}
        fit(
            network,
            samples,
            [],
            schedule,
            seed=0,
            processes=alone("cpu"),
            state=StateFolder(tmp_path, settings),
            restraint=Restraint(anchor=anchor),
        )

    tune()
    tune()
    for words, other in (
        ("network.start", {"seed": 1}),
        ("network.trained", {"strategy": "decoder"}),
        ("anchor is 0.1 there, 0.2 now", {"strength": 0.2}),
        ("further is a there, b now", {"further": "b"}),
    ):
        with pytest.raises(ConfigError, match=words):
            tune(**other)


def test_a_state_without_settings_is_refused(controls: Cohort, halted: Path, tmp_path: Path) -> None:
    """What an earlier version left says nothing about its settings, and is not guessed at."""
    shutil.copytree(halted, tmp_path / "m")
    log = tmp_path / "m" / "state" / "log.json"
    record = json.loads(log.read_text())
    log.write_text(json.dumps({name: record[name] for name in ("log", "best")}))
    with pytest.raises(ConfigError, match="is nothing there, "):
        train(controls, out=tmp_path / "m", resume=True, recipe=RECIPE)


def test_moments_lie_as_their_parameters_do(controls: Cohort, make_model: Callable[..., Model], tmp_path: Path) -> None:
    """Read from disk, Adam's moments have each parameter's memory format: the fused optimizer refuses others."""
    network, schedule = make_model().network, Schedule(epochs=1, learning_rate=1e-3)
    fit(network, on_grid(controls.cases[:2]), [], schedule, seed=0, processes=alone("cpu"), state=StateFolder(tmp_path))
    optimizer = make_optimizer(network, schedule, None)
    settings = json.loads((tmp_path / "log.json").read_text())["settings"]
    StateFolder(tmp_path, settings).restore(network, optimizer)
    convolutions = [one for one in network.parameters() if one.ndim == 5 and not one.is_contiguous()]
    assert convolutions
    for parameter in convolutions:
        moments = optimizer.state[parameter]
        assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == parameter.stride()
        assert moments["exp_avg"].abs().sum() > 0
