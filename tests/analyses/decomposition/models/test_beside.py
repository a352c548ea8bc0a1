"""Several source models: each against its own controls, paired over the participants that both have."""

import numpy as np
import pandas as pd
import pytest
from makers import additive, simulated
from makers.decompositions import FAST as QUICK

from shiftkit.analyses.decomposition.anchored import anchored
from shiftkit.analyses.decomposition.models.beside import compare
from shiftkit.analyses.decomposition.result import Settings
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import MODELS
from shiftkit.errors import DataError
from shiftkit.tables import parse_table

# Of what is compared nothing is resampled.
FAST = {**QUICK, "inference": Inference(n_bootstrap=100, n_permutations=99)}
PARTS = ["total", "systematic", "tumor"]
SETTINGS = Settings(metric="dice", grid_mm=np.array([5.0, 20.0]), margin=0.02, inference=Inference())


def two_models(seed: int, far: tuple[float, float], near: tuple[float, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of 24 patients and 30 controls by two networks that find the same images hard.

    What the tumor takes does not fade alike: of the first as a line to 24 mm, of the second as a bell to about 40 mm.
    No part of the estimate is used.
    """
    rng = np.random.default_rng(seed)
    distance = additive.distances(rng, 24)
    line, bell = np.maximum(1 - distance / 24, 0), np.exp(-((distance / 14) ** 2) / 2)
    first = additive.frame(rng, distance, far[0] + near[0] * line)
    patient = (first["group"] == "glioma").to_numpy()
    lost = np.zeros(len(first))
    lost[patient] = (far[0] - far[1] + near[0] * line - near[1] * bell).ravel()
    own = rng.normal(0, 0.02, first["participant_id"].nunique())[pd.factorize(first["participant_id"])[0]]
    value = first["value"] + 0.05 + lost + own + rng.normal(0, 0.03, len(first))
    return first, first.assign(model="other", value=value.clip(0, 1))


def truth(first: pd.DataFrame, far: tuple[float, float], near: tuple[float, float]) -> dict[str, float]:
    """What the second model loses beyond the first: a patient's rows weigh alike, and so do patients."""
    distance = first.loc[first["group"] == "glioma", "tumor_distance_mm"]
    line, bell = np.maximum(1 - distance / 24, 0), np.exp(-((distance / 14) ** 2) / 2)
    tumor = float((near[1] * bell - near[0] * line).mean())
    return {"systematic": far[1] - far[0], "tumor": tumor, "total": far[1] - far[0] + tumor}


@pytest.mark.parametrize(
    ("far", "near", "shown"),
    [
        ((0.06, 0.06), (0.10, 0.08), ""),
        ((0.04, 0.11), (0.10, 0.08), "systematic"),
        ((0.05, 0.05), (0.0, 0.20), "tumor"),
    ],
    ids=["alike", "the systematic part differs", "the tumor's part differs"],
)
def test_intervals_of_differences_hold_what_was_simulated(
    far: tuple[float, float], near: tuple[float, float], shown: str
) -> None:
    """In 40 cohorts intervals miss the truth no more than they may, and what differs is shown in most, by its part.

    Tumors of the two models fade by different shapes, and the second model is better on everybody.
    """
    missed, words = dict.fromkeys(PARTS, 0), list[dict[str, str]]()
    for seed in range(40):
        first, other = two_models(seed, far, near)
        rows = build_rows(first, "dice")
        one = anchored(rows)
        told = {
            part: made[2]
            for part, made in compare(one, anchored(build_rows(other, "dice"), None, one.design), SETTINGS).items()
        }
        for part, value in truth(first, far, near).items():
            missed[part] += not told[part].low <= value <= told[part].high
        words.append({part: made.word for part, made in told.items()})
    # 40 draws of 5 %: more than 6 in one of a hundred.
    assert max(missed.values()) <= 6, missed
    for part in ("systematic", "tumor"):
        wrong = sum(word[part] == "smaller" for word in words) if part == shown else 0
        found = sum(word[part] == "larger" for word in words)
        assert wrong == 0 and (found >= 28 if part == shown else found <= 4), (part, found)


def test_a_further_model_changes_no_number_of_the_first() -> None:
    """The first model's tables, sentences and curve are those that it has alone; the further one's stand apart."""
    first = simulated.scores(24, 20, seed=3, model="A")
    alone = decompose(first, **FAST)
    both = decompose(first, beside={"B": simulated.scores(24, 20, seed=3, systematic=1.0, model="B")}, **FAST)
    for name in ("table", "curve", "recovery", "agreement", "entered", "scores", "strata"):
        pd.testing.assert_frame_equal(getattr(alone, name), getattr(both, name))
    assert (alone.claim, alone.notes) == (both.claim, both.notes) and alone.models.empty and alone.beside.empty
    assert set(both.beside["model"]) == {"B"} and "Models side by side" in [one.title for one in both.findings]
    parse_table(both.models, MODELS, "models")


def test_each_model_is_held_against_its_own_scores_of_controls() -> None:
    """A model that is worse on everybody by the same amount loses no more in patients, which the table says."""
    first = simulated.scores(24, 20, seed=3, model="A")
    lower = first.assign(model="B", value=first["value"] - 0.1)
    rows = decompose(first, beside={"B": lower}, **FAST).models.set_index("component")
    np.testing.assert_allclose(rows.loc[["controls", "patients"], "difference"], -0.1, atol=1e-9)
    np.testing.assert_allclose(rows.loc[PARTS, ["difference", "difference_low", "difference_high"]], 0, atol=1e-9)
    assert set(rows.loc[PARTS, "word"]) == {"not_shown"} and set(rows.loc[PARTS, "status"]) == {"ok"}
    assert set(rows.loc[["controls", "patients"], "status"]) == {"constant"}  # no spread, no interval


def test_who_and_what_one_model_lacks_is_left_out_of_both_and_named() -> None:
    """Numbers are those of a table that lacks the same rows from the start; people and bundles stand in a sentence."""
    first = simulated.scores(24, 20, seed=3, model="A")
    second = simulated.scores(24, 20, seed=4, systematic=0.9, model="B")
    second["tumor_distance_mm"] = first["tumor_distance_mm"]
    lost = second["participant_id"].isin(["sub-003", "sub-030"]) | (second["bundle"] == "FAT")
    second.loc[lost, ["status", "value"]] = ["unavailable", np.nan]
    more = first[first["participant_id"] == "sub-001"].assign(participant_id="sub-900", model="B")
    result = decompose(first, beside={"B": pd.concat([second, more], ignore_index=True)}, **FAST)
    (note,) = result.compared
    assert "23 patients, 19 controls and 8 bundles" in note
    assert "bundles with too few scores by both (FATleft, FATright)" in note
    assert "2 participants without a score by B (sub-003, sub-030)" in note
    assert ", on the 23 patients and 19 controls that both have" in next(
        one.claim for one in result.findings if one.key == "models"
    )
    assert "1 participant without one by A (sub-900)" in note
    assert note in str(result) and set(result.models["n_left_out"]) == {3}
    kept = decompose(first[~lost], beside={"B": second[~lost]}, **FAST).models
    pd.testing.assert_frame_equal(kept.drop(columns="n_left_out"), result.models.drop(columns="n_left_out"))


def test_intervals_hold_for_all_models_at_once() -> None:
    """With a second and a third model intervals are those of Bonferroni's level, and p-values twice as large."""
    first, second = (
        simulated.scores(24, 20, seed=3, systematic=one, model=name) for one, name in ((0.5, "A"), (0.6, "B"))
    )
    second["value"] += np.random.default_rng(1).normal(0, 0.03, len(second))
    third = second.assign(model="C")
    both = decompose(first, beside={"B": second, "C": third}, **FAST).models
    stricter = {**FAST, "inference": Inference(n_bootstrap=100, n_permutations=99, level=0.975)}
    one = decompose(first, beside={"B": second}, **stricter).models
    ends = ["difference", "difference_low", "difference_high"]
    np.testing.assert_allclose(both.loc[both["model"] == "B", ends], one[ends])
    np.testing.assert_allclose(both["p_adjusted"], np.minimum(2 * both["p_value"], 1))


def test_models_without_a_participant_in_common_are_not_compared() -> None:
    """The first model's result stands; the comparison has a status and a sentence, and no number."""
    first = simulated.scores(24, 20, seed=3, model="A")
    stranger = first.assign(model="B", participant_id=first["participant_id"].str.replace("sub-", "sub-9"))
    result = decompose(first, beside={"B": stranger}, **FAST)
    assert set(result.models["status"]) == {"unavailable"} and result.models["difference"].isna().all()
    assert "have too few scores of the same participants" in result.compared[0]
    assert "B is not compared with A" in next(one.claim for one in result.findings if one.key == "models")


def test_the_figure_shows_the_numbers_that_are_compared() -> None:
    """Where the further model has scored the easier half only, the first one is drawn as it is on that half."""
    first = simulated.scores(24, 20, seed=3, model="A")
    hard = first["participant_id"].isin([f"sub-{number:03d}" for number in range(1, 9)])
    first.loc[hard, "value"] -= 0.2
    second = first[~hard].assign(model="B", value=lambda rows: rows["value"] + 0.01 * (rows["group"] == "glioma"))
    result = decompose(first, beside={"B": second}, **FAST)
    ax = next(one for one in result.findings if one.key == "models").plot()
    drawn = sorted(float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() not in (None, "None", ""))
    told = result.models[result.models["component"].isin(PARTS)]
    np.testing.assert_allclose(drawn, sorted([*told["first"], *told["estimate"]]))
    assert not [points for points in ax.collections if len(points.get_offsets())], "no patients of other sets"


def test_reasons_why_models_are_not_compared_are_the_right_ones() -> None:
    """Controls that the further model has seen are named as that, and the first model's bundles are not missing."""
    first = simulated.scores(24, 20, seed=3, model="A")
    seen = first.assign(model="B", seen=np.where(first["group"] == "control", "yes", "n/a"))
    (note,) = decompose(first, beside={"B": seen}, **FAST).compared
    assert "too few scores of the same participants" in note and "20 participants that B has seen (" in note
    assert "by A" not in note and "without" not in note


def test_a_bundle_lies_in_one_place_whichever_model_is_scored() -> None:
    """Distances that a further model lacks are the first one's; other ones are refused by bundle and participant."""
    first = simulated.scores(24, 20, seed=3, model="A")
    without = first.assign(model="B", tumor_distance_mm=np.nan)
    assert set(decompose(first, beside={"B": without}, **FAST).models["status"]) <= {"ok", "range", "constant"}
    turned = first.assign(model="B", tumor_distance_mm=first["tumor_distance_mm"] + 5)
    with pytest.raises(DataError, match=r"one distance from the tumor.* of sub-\d+ is .* mm for A and .* mm for B"):
        decompose(first, beside={"B": turned}, **FAST)


def test_scores_of_other_settings_are_no_comparison() -> None:
    """NSD at two tolerances is two metrics."""
    first = simulated.scores(12, 12, seed=3, model="A").assign(metric="nsd", tolerance_mm=2.0)
    with pytest.raises(DataError, match="must share its settings"):
        decompose(first, beside={"B": first.assign(model="B", tolerance_mm=3.0)}, metric="nsd", **FAST)
