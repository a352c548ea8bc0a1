"""What the demonstration says and draws before its decomposition."""

from pathlib import Path

import pytest

from shiftkit.names import BUILT_IN_MODELS
from shiftkit.phantoms import phantom
from shiftkit.pipeline import demo
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.work import Work


class Said(Exception):
    """Ends the demonstration as soon as it has said something."""


def _stop(text: str) -> None:
    raise Said(text)


def test_the_duration_is_said_before_anything_is_drawn(tmp_path: Path) -> None:
    """How long it takes is the first thing that is told, in minutes and for the cores that are used."""
    out = tmp_path / "demo"
    with pytest.raises(Said, match=r"about \d+ minutes on 1 idle core\.$"):
        demo.rehearse(out, device="cpu", seed=0, resume=False, announce=_stop, work=Work(jobs=1))
    assert not (out / "phantom").exists()


def test_the_reference_model_has_not_seen_the_controls_of_the_demonstration(tmp_path: Path) -> None:
    """They come from another seed than those that have trained it, which the same numbers of people would be."""
    model = load_model(BUILT_IN_MODELS["reference"])
    own = phantom(tmp_path / "own", n_healthy=1, n_glioma=0, seed=demo._SEED, work=Work(jobs=1))  # pyright: ignore[reportPrivateUsage]
    built_in = phantom(tmp_path / "built-in", n_healthy=1, n_glioma=0, seed=0, work=Work(jobs=1))
    assert not model.has_seen(own["healthy"].cases[0])
    assert model.has_seen(built_in["healthy"].cases[0])
