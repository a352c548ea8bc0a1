from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.analyses.learning_curves import learning_curves
from shiftkit.analyses.scoring.table import ScoreTable
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import CURVES, SHOTS
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import read_table, write_table

BUNDLES = ("AF", "FAT", "PYT")


def scored(dice: np.ndarray, *, bundles: tuple[str, ...] = BUNDLES, noise: float = 0.0, seed: int = 0) -> ScoreTable:
    """One row a participant and bundle around each participant's Dice."""
    rng = np.random.default_rng(seed)
    base = {"cohort": "c", "group": "glioma", "model": "m", "modality": "fa", "hemisphere": "left", "side": "ipsi"}
    rest = {"metric": "dice", "unit": "1", "tumor_distance_mm": 5.0}
    rows = [
        {**base, **rest, "participant_id": f"sub-{i:02d}", "bundle": bundle, "value": value + rng.normal(0, noise)}
        | {"status": "ok" if np.isfinite(value) else "unavailable"}
        for i, value in enumerate(dice)
        for bundle in bundles
    ]
    return ScoreTable(frame=pd.DataFrame(rows))


def row(curves: pd.DataFrame, strategy: str, shots: int, quantity: str) -> pd.Series:
    return curves.set_index(["strategy", "shots", "quantity"]).loc[(strategy, shots, quantity)]


def test_gains_are_paired_by_participant() -> None:
    """Where everybody gains 0.05, the gain is 0.05 to the digit, however much participants differ."""
    people = np.linspace(0.4, 0.8, 12)
    runs = {("decoder", 4, d): scored(people + 0.05) for d in (0, 1)} | {("scratch", 4, 0): scored(people - 0.2)}
    curves = learning_curves(runs, zero_shot=scored(people), inference=Inference(n_bootstrap=400)).curves
    gain, control = (row(curves, "decoder", 4, f"gain_over_{name}") for name in ("zero_shot", "scratch"))
    assert (gain["value"], gain["low"], gain["high"]) == pytest.approx((0.05, 0.05, 0.05))
    assert (control["value"], control["low"]) == pytest.approx((0.25, 0.25))
    dice = row(curves, "decoder", 4, "dice")
    assert dice["high"] - dice["low"] > 0.1 and (dice["n_patients"], dice["n_draws"]) == (12, 2)
    assert dice["status"] == "exploratory"


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Over 200 simulated studies the 95 % interval of the gain holds the true gain in 95 % of them, ± 4."""
    rng = np.random.default_rng(5)
    held = []
    for seed in range(20):
        # Ten strategies at a time: gains are paired, so that of each is a study of its own.
        people = rng.normal(0.6, 0.08, 14)
        tuned = {
            (f"full {i}", 8, 0): scored(people + rng.normal(0.03, 0.04, 14), noise=0.02, seed=10 * seed + i)
            for i in range(10)
        }
        inference = Inference(n_bootstrap=300, seed=seed)
        curves = learning_curves(tuned, zero_shot=scored(people), inference=inference).curves
        gain = curves[curves["quantity"] == "gain_over_zero_shot"]
        held += ((gain["low"] <= 0.03) & (gain["high"] >= 0.03)).to_list()
    assert len(held) == 200
    assert 0.91 <= np.mean(held) <= 0.99


def test_more_bundles_or_draws_are_not_more_participants() -> None:
    """The same Dice in thirty bundles, or in four draws, gives the interval of one bundle and one draw."""
    people = np.linspace(0.4, 0.8, 10)
    many = tuple(f"B{i}" for i in range(30))
    one = learning_curves({("full", 2, 0): scored(people, bundles=("B0",))}, zero_shot=scored(people, bundles=("B0",)))
    more = learning_curves(
        {("full", 2, d): scored(people, bundles=many) for d in range(4)}, zero_shot=scored(people, bundles=many)
    )
    for name in ("low", "high"):
        assert row(one.curves, "full", 2, "dice")[name] == pytest.approx(row(more.curves, "full", 2, "dice")[name])


def test_only_participants_scored_in_every_run_are_compared() -> None:
    """Somebody whose prediction failed in one run is in none of the curves, and the finding says so."""
    people = np.full(8, 0.6)
    lacking = np.where(np.arange(8) == 3, np.nan, people)
    found = learning_curves({("full", 2, 0): scored(lacking)}, zero_shot=scored(people))
    assert set(found.curves["n_patients"]) == {7} and found.left_out == 1
    assert "1 of the patients" in " ".join(found.findings[0].caveats)
    with pytest.raises(DataError, match="none has a Dice in all 2 runs"):
        learning_curves({("full", 2, 0): scored(np.full(8, np.nan))}, zero_shot=scored(people))
    with pytest.raises(ConfigError, match="at least one"):
        learning_curves({}, zero_shot=scored(people))


def test_the_claim_names_the_smallest_number_that_helps() -> None:
    """Better from 4 patients on: the claim says 4; never better: it says that, too."""
    people = np.linspace(0.5, 0.7, 9)
    wobble = np.where(np.arange(9) % 2, 0.02, -0.02)
    runs = {("decoder", n, 0): scored(people + wobble + gain) for n, gain in ((2, 0.0), (4, 0.1), (8, 0.2))}
    runs |= {("scratch", n, 0): scored(people - 0.3) for n in (2, 4, 8)}
    found = learning_curves(runs, zero_shot=scored(people))
    assert "With 8 patients, decoder reaches" in found.claim
    assert "better than the source model: 4." in found.claim
    none = learning_curves({("decoder", 2, 0): runs["decoder", 2, 0]}, zero_shot=scored(people))
    assert "With none of these numbers" in none.claim


def test_two_participants_give_no_interval() -> None:
    """Means are given and intervals are not: two people say nothing about others."""
    found = learning_curves({("full", 2, 0): scored(np.array([0.5, 0.6]))}, zero_shot=scored(np.array([0.4, 0.5])))
    dice = row(found.curves, "full", 2, "dice")
    assert dice["value"] == pytest.approx(0.55) and np.isnan(dice["low"]) and dice["status"] == "too_few"
    assert "nan" not in str(found)


def test_tables_read_back_and_the_figure_has_every_strategy(tmp_path: Path) -> None:
    """Both tables pass their schema; each run has a row a bundle and one for all; the legend names what is drawn."""
    people = np.linspace(0.5, 0.7, 5)
    runs = {(s, n, d): scored(people, seed=d) for s in ("decoder", "scratch") for n in (2, 4) for d in (0, 1)}
    found = learning_curves(runs, zero_shot=scored(people))
    for frame, table in ((found.runs, SHOTS), (found.curves, CURVES)):
        write_table(frame, table, tmp_path / f"{table.name}.tsv")
        assert len(read_table(tmp_path / f"{table.name}.tsv", table)) == len(frame)
    assert len(found.runs) == (len(runs) + 1) * (len(BUNDLES) + 1)
    axes = found.plot()
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"zero-shot", "decoder", "scratch"}
    assert "<table" in found._repr_html_() and len(found.estimates) == len(found.to_frame())
