from pathlib import Path

import pytest
from makers.segmentation import MakeModel

from shiftkit.errors import ConfigError
from shiftkit.segmentation.network.checkpoints import load_model
from shiftkit.segmentation.transfer.finetuning import Transfer
from shiftkit.segmentation.transfer.shots import Shots, finetune_shots
from shiftkit.types import Cohort


def test_learning_curves_cover_every_combination(patients: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Each strategy meets each number of patients in each draw, on the same patients as its control."""
    shots = Shots(numbers=(1, 2), draws=2, transfer=Transfer(folds=2, epochs=1, device="cpu"))
    made = finetune_shots(make_model(), patients, shots, out=tmp_path)
    assert set(made) == {(s, n, d) for s in ("decoder", "scratch") for n in (1, 2) for d in (0, 1)}
    for count in (1, 2):
        seen = [
            set(load_model(tmp_path / strategy / f"shots-{count}" / "draw-0" / "fold-1").participants)
            for strategy in ("decoder", "scratch")
        ]
        assert seen[0] == seen[1] and len(seen[0]) == count


def test_more_shots_than_patients_are_refused_before_anything_is_trained(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Of 2, 3 and 9 patients, four outside a fold allow the first two: nothing is loaded, trained or written."""
    three = Transfer(folds=3)
    for shots, told in (
        (Shots(numbers=(2, 3, 9), draws=1, transfer=three), "the 4 patients outside a fold; got 9"),
        (Shots(numbers=(2,), draws=0, transfer=three), "at least one draw"),
        (Shots(numbers=(5, 0), transfer=three), "the 4 patients outside a fold; got 5, 0"),
        (Shots(numbers=(2,), strategies=("magic",), transfer=Transfer()), "`strategy` must be one of"),
    ):
        with pytest.raises(ConfigError, match=told):
            finetune_shots(make_model(), patients, shots, out=tmp_path / "t")
    assert not (tmp_path / "t").exists()
