"""The decomposition: equal to statsmodels, exact where it must be, and silent where it must be."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from makers import simulated

from shiftkit.analyses.decomposition.hemispheric import hemispheric
from shiftkit.analyses.decomposition.regression import exponential, regress
from shiftkit.analyses.decomposition.result import Decomposition
from shiftkit.analyses.decomposition.rows import build_rows
from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.scoring.metrics import METRICS
from shiftkit.analyses.statistics.inference import (
    Inference,
    draw_weights,
    holm,
    interval,
    p_value,
    permute_within,
    strata_of,
)
from shiftkit.analyses.statistics.quasi import fit
from shiftkit.catalogue import DECOMPOSITION, RECOVERY, SENSITIVITY
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import parse_table

QUICK = Inference(n_bootstrap=200, n_permutations=199)
FAST = {"inference": QUICK, "sensitivity": False}


def pooled(result: Decomposition, component: str, method: str = "regression") -> pd.Series:
    table = result.table
    keep = (table["bundle"] == "all") & (table["component"] == component) & (table["method"] == method)
    return table[keep].iloc[0]


def test_quasi_likelihood_equals_statsmodels_glm() -> None:
    """Estimates of the fractional logit equal a binomial GLM's within 1e-6, with weights and exact 0 and 1."""
    import statsmodels.api as sm

    frame = simulated.scores(8, 6)
    frame.loc[[3, 40], "value"] = [0.0, 1.0]
    rows = build_rows(frame, "dice")
    design = np.column_stack([rows.patient.astype(float), np.exp(-rows.distance_mm / 12)])
    weight = np.random.default_rng(0).integers(0, 4, len(rows.people)).astype(float)[rows.person]
    found = fit(rows.outcome, rows.level, design, weight, len(rows.levels), logit=True)
    dummies = np.eye(len(rows.levels))[rows.level]
    model = sm.GLM(rows.outcome, np.column_stack([dummies, design]), family=sm.families.Binomial(), freq_weights=weight)
    expected = model.fit(tol=1e-12).params
    assert found.converged
    np.testing.assert_allclose(np.concatenate([found.intercepts, found.slopes]), expected, atol=1e-6)


def test_least_squares_equals_numpy() -> None:
    """Without the logit link the fit is weighted least squares."""
    rows = build_rows(simulated.scores(5, 5), "dice")
    design = np.column_stack([rows.patient.astype(float), np.exp(-rows.distance_mm / 8)])
    weight = np.random.default_rng(1).uniform(0.1, 2, len(rows.outcome))
    found = fit(rows.outcome, rows.level, design, weight, len(rows.levels), logit=False)
    full = np.column_stack([np.eye(len(rows.levels))[rows.level], design]) * np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(full, rows.outcome * np.sqrt(weight), rcond=None)[0]
    np.testing.assert_allclose(np.concatenate([found.intercepts, found.slopes]), expected, atol=1e-8)


def test_profiled_decay_is_the_best_of_the_grid() -> None:
    """The coarse-to-fine search ends at the grid point that an exhaustive search finds."""
    grid = np.geomspace(2, 40, 25)
    for seed in range(5):
        rows = build_rows(simulated.scores(20, 20, decay_mm=15, seed=seed), "dice")
        found = regress(rows, np.zeros((len(rows.outcome), 0)), np.zeros((0, len(rows.people))), exponential(grid))
        deviances = [
            fit(
                rows.outcome,
                rows.level + len(rows.levels) * rows.patient,
                np.exp(-rows.distance_mm / decay)[:, None],
                np.ones(len(rows.outcome)),
                2 * len(rows.levels),
                logit=True,
            ).deviance
            for decay in grid
        ]
        assert found.chosen[0] == int(np.argmin(deviances))


def test_a_bootstrap_draw_is_the_fit_of_the_copied_participants() -> None:
    """A weight of two is the same as having the participant twice."""
    frame = simulated.scores(8, 8)
    rows = build_rows(frame, "dice")
    weight = np.ones(len(rows.people))
    weight[[0, 3]], weight[[1, 10]] = 2, 0
    grid = np.array([5.0, 12.0, 25.0])
    empty = np.zeros((len(rows.outcome), 0))
    drawn = regress(rows, empty, weight[None], exponential(grid)).draws[0]
    copies = [
        frame[frame["participant_id"] == name].assign(participant_id=f"{name}x{copy}")
        for name, times in zip(rows.people, weight, strict=True)
        for copy in range(int(times))
    ]
    copied = build_rows(pd.concat(copies), "dice")
    direct = regress(
        copied, np.zeros((len(copied.outcome), 0)), np.zeros((0, len(copied.people))), exponential(grid)
    ).values
    np.testing.assert_allclose(drawn, direct, atol=1e-8)


def test_total_is_systematic_plus_tumor_and_matches_the_raw_drop() -> None:
    """The parts add up exactly; in a balanced design nothing is left for composition."""
    result = decompose(simulated.scores(), **FAST)
    parts = {name: pooled(result, name)["estimate"] for name in ("total", "systematic", "tumor", "raw", "residual")}
    assert parts["total"] == pytest.approx(parts["systematic"] + parts["tumor"], abs=1e-12)
    assert parts["raw"] == pytest.approx(parts["total"] + parts["residual"], abs=1e-12)
    assert abs(parts["residual"]) < 1e-8


def test_known_effects_are_found() -> None:
    """With 100 + 100 participants both parts lie within 0.015 of what was simulated, and λ within a third."""
    frame = simulated.scores(100, 100, seed=4)
    result = decompose(frame, **FAST)
    quiet = simulated.scores(100, 100, seed=4, systematic=0.0, tumor=0.0)
    far = simulated.scores(100, 100, seed=4, tumor=0.0)
    patient = frame["group"] == "glioma"
    truth = {
        "systematic": (quiet["value"] - far["value"])[patient].mean(),
        "tumor": (far["value"] - frame["value"])[patient].mean(),
    }
    # The same draws of people and noise: the difference between the tables is the effect itself.
    for name, value in truth.items():
        assert pooled(result, name)["estimate"] == pytest.approx(value, abs=0.015)
    assert result.status == "ok"
    decay = next(one for one in result.estimates if one.name == "decay_length")
    assert decay.value == pytest.approx(12, rel=1 / 3)
    assert decay.low < decay.value < decay.high


def test_no_tumor_effect_is_not_given_one() -> None:
    """Without an effect of distance the status says so and no decay length is given."""
    result = decompose(simulated.scores(40, 40, tumor=0.0, seed=5), **FAST)
    assert result.status == "no_tumor_effect_shown"
    assert np.isnan(result.estimates[-1].value)
    assert abs(pooled(result, "tumor")["estimate"]) < 0.02


def test_no_systematic_shift_is_not_given_one() -> None:
    """Without a systematic shift its interval holds 0 and its test does not reject."""
    row = pooled(decompose(simulated.scores(60, 60, systematic=0.0, tumor=1.5, seed=6), **FAST), "systematic")
    assert row["low"] < 0 < row["high"]
    assert row["p_value"] > 0.05


def test_an_unobserved_far_field_withholds_the_split() -> None:
    """With an effect that reaches beyond every distance there is a total and no split."""
    result = decompose(simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7), **FAST)
    assert result.status == "split_withheld"
    assert np.isnan(pooled(result, "systematic")["estimate"])
    assert np.isnan(pooled(result, "tumor")["p_value"])
    assert np.isfinite(pooled(result, "total")["estimate"])
    assert "only the total" in result.verdict


def test_a_withheld_split_is_withheld_under_other_choices_too() -> None:
    """The sensitivity table gives no part that the primary analysis refuses to give."""
    frame = simulated.scores(100, 100, systematic=0.3, tumor=2.5, decay_mm=80.0, seed=7)
    result = decompose(frame, **{**FAST, "sensitivity": True})
    parts = result.sensitivity[~result.sensitivity["analysis"].str.startswith("placebo")]
    assert parts["estimate"].isna().all()


def test_few_patients_are_exploratory() -> None:
    """Under 20 patients the result carries the label wherever it stands."""
    result = decompose(simulated.scores(15, 20, tumor=2.0), **FAST)
    assert set(result.table["status"]) <= {"exploratory", "no_tumor_effect_shown", "split_withheld"}
    assert "exploratory" in result.verdict


def test_the_hemispheric_estimator_equals_its_definition() -> None:
    """On complete data the difference in differences equals the one computed with group means."""
    frame = simulated.scores(12, 9)
    rows = build_rows(frame, "dice")
    values, _, n = hemispheric(rows, np.zeros((0, len(rows.people))))
    healthy = frame[frame["group"] == "control"].groupby(["bundle", "hemisphere"])["value"].mean()
    patients = frame[frame["group"] == "glioma"]
    expected = healthy.reindex(list(zip(patients["bundle"], patients["hemisphere"], strict=True))).to_numpy()
    lost = pd.Series(expected - patients["value"].to_numpy(), index=patients["side"])
    assert n == 12
    assert values[1] == pytest.approx(lost["contra"].mean())
    assert values[2] == pytest.approx(lost["ipsi"].mean() - lost["contra"].mean())


def test_recovery_is_paired_and_keeps_the_source_controls() -> None:
    """A model that halves the systematic effect recovers about half of it and none of the tumor's."""
    before = simulated.scores(60, 60, systematic=0.8, tumor=1.2, seed=8)
    after = simulated.scores(60, 60, systematic=0.4, tumor=1.2, seed=8, model="m+decoder")
    after.loc[after["group"] == "control", "value"] -= 0.05  # forgetting, which must not count as repair
    result = decompose(before, finetuned={"m+decoder": after}, **FAST)
    rows = result.recovery.set_index("component")
    assert rows.loc["systematic", "recovered"] == pytest.approx(0.5, abs=0.12)
    assert rows.loc["tumor", "low"] < 0.1
    assert rows.loc["tumor", "recovered"] == pytest.approx(0.0, abs=0.15)
    lost = rows.loc["forgetting", "before"] - rows.loc["forgetting", "after"]
    assert lost == pytest.approx(0.05, abs=1e-9)


def test_tables_have_their_published_columns() -> None:
    """What is written under tables/ passes its own schema."""
    before = simulated.scores()
    after = simulated.scores(systematic=0.2, model="m+full")
    result = decompose(before, finetuned={"m+full": after}, inference=QUICK)
    for frame, schema in (
        (result.table, DECOMPOSITION),
        (result.recovery, RECOVERY),
        (result.sensitivity, SENSITIVITY),
    ):
        parse_table(frame, schema, schema.name)
        assert len(frame)


def test_the_same_seed_gives_the_same_numbers() -> None:
    """Seed and data determine every number; another seed moves the intervals only."""
    frame = simulated.scores()
    first, again, other = (
        decompose(frame, inference=replace(QUICK, seed=seed), sensitivity=False).table for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    np.testing.assert_array_equal(first["estimate"], other["estimate"])
    assert not first["low"].equals(other["low"])


@pytest.mark.parametrize("metric", [name for name, one in METRICS.items() if not one.bounded])
def test_unbounded_metrics_count_as_worse_when_larger(metric: str) -> None:
    """A positive component means worse in patients for distances too; they may exceed 1, for they enter as logs."""
    frame = simulated.scores()
    frame["metric"], frame["value"] = metric, 20 * (1 - frame["value"])
    result = decompose(frame, metric=metric, **FAST)
    assert pooled(result, "total")["estimate"] > 0
    assert "log " in result.verdict


def test_an_unknown_metric_is_refused() -> None:
    """Which direction is worse cannot be guessed of a metric that shiftkit does not know."""
    with pytest.raises(ConfigError, match="`metric` is one of dice"):
        decompose(simulated.scores().assign(metric="iou"), metric="iou", **FAST)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f[f["group"] == "glioma"], "control"),
        (lambda f: f[f["group"] == "control"], "glioma"),
        (lambda f: f.assign(value=0.5), "must vary"),
        (lambda f: f.assign(tumor_distance_mm=np.where(f["group"] == "glioma", 7.0, np.nan)), "Distances"),
        (lambda f: f.assign(tumor_distance_mm=np.nan), "tumor_distance_mm is empty"),
        (lambda f: f.assign(value=np.where(f.index == 3, np.nan, f["value"])), "must have a value"),
        (lambda f: f.assign(value=f["value"] * 2), "must lie in 0–1"),
        (lambda f: f.assign(metric="nsd"), "it holds nsd"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "stands twice"),
        (lambda f: f.assign(penalty_mm=np.where(f["group"] == "glioma", 100.0, 50.0)), "share its settings"),
        (lambda f: f.assign(model=np.where(f.index == 3, "other", "m")), "one model"),
    ],
)
def test_bad_input_is_refused_by_name(spoil: object, message: str) -> None:
    """Input that cannot be decomposed raises an error that says what is wrong, never a number."""
    with pytest.raises(DataError, match=message):
        decompose(spoil(simulated.scores()), **FAST)  # type: ignore[operator]


def test_one_patient_gives_a_status_and_no_number() -> None:
    """One patient is too few: the table says so and the verdict gives no number."""
    result = decompose(simulated.scores(1, 20), **FAST)
    assert result.status in ("too_few", "not_converged")
    assert result.table["estimate"].isna().all() or set(result.table["method"]) == {"regression", "hemispheric"}
    assert result.verdict.startswith("No number is given")


def test_one_hemisphere_only_leaves_the_hemispheric_estimator_out() -> None:
    """Without the other hemisphere there is no contrast, and no number in its place."""
    frame = simulated.scores(30, 30)
    result = decompose(frame[frame["hemisphere"] == "left"], **FAST)
    assert np.isnan(pooled(result, "tumor", "hemispheric")["estimate"])
    assert pooled(result, "tumor", "hemispheric")["status"] == "too_few"
    assert np.isfinite(pooled(result, "total")["estimate"])


def test_aliased_covariates_are_refused_by_name() -> None:
    """A site that is the cohort in disguise would delete the systematic part; age may be adjusted for."""
    frame = simulated.scores()
    with pytest.raises(ConfigError, match="site=B"):
        decompose(frame, covariates=["site"], **FAST)
    adjusted = decompose(frame, covariates=["age"], **FAST)
    assert pooled(adjusted, "total")["estimate"] == pytest.approx(
        pooled(decompose(frame, **FAST), "total")["estimate"], abs=0.01
    )


def test_seen_controls_are_left_out() -> None:
    """Controls marked as seen by the model do not enter, however good their scores."""
    frame = simulated.scores().assign(seen="no")
    extra = simulated.scores(0, 5, seed=9).assign(seen="yes", value=0.99)
    extra["participant_id"] = "seen-" + extra["participant_id"]
    both = pd.concat([frame, extra], ignore_index=True)
    assert pooled(decompose(both, **FAST), "total")["n_controls"] == 20


def test_target_controls_split_the_systematic_part() -> None:
    """Healthy people scanned like the patients tell acquisition from disease; the parts add up exactly."""
    frame = simulated.scores(60, 60, systematic=0.8, seed=3)
    extra = simulated.scores(50, 0, systematic=0.5, tumor=0.0, seed=3)
    extra = extra.assign(group="target_control", side="n/a", tumor_side="n/a", tumor_distance_mm=np.nan)
    extra["participant_id"] = "target-" + extra["participant_id"]
    result = decompose(pd.concat([frame, extra]), **FAST)
    parts = {name: pooled(result, name) for name in ("systematic", "acquisition", "disease")}
    assert parts["acquisition"]["estimate"] + parts["disease"]["estimate"] == pytest.approx(
        parts["systematic"]["estimate"], abs=1e-12
    )
    assert parts["acquisition"]["low"] > 0
    assert parts["acquisition"]["p_value"] < 0.05
    assert parts["acquisition"]["estimate"] > parts["disease"]["estimate"]
    assert any("scanned like the patients: of the systematic part" in note for note in result.notes)
    without = decompose(frame, **FAST)
    assert parts["systematic"]["estimate"] == pytest.approx(pooled(without, "systematic")["estimate"], abs=1e-12)


def test_covariates_are_centered_in_every_draw() -> None:
    """A covariate's mean within a resampled cohort is no part of the shift: adding to it changes nothing."""
    frame = simulated.scores(20, 20)
    moved = frame.assign(age=frame["age"] + np.where(frame["group"] == "glioma", 30.0, 0.0))
    first, second = (decompose(one, covariates=["age"], **FAST).table for one in (frame, moved))
    for column in ("estimate", "low", "high"):
        np.testing.assert_allclose(first[column], second[column], atol=1e-8)


def test_other_choices_are_tabled_with_placebos_that_find_nothing() -> None:
    """Spline, volume, sites and both placebos are there; the placebos' tests do not reject."""
    frame = simulated.scores(40, 40, seed=11)
    number = frame["participant_id"].str[-1].astype(int)
    frame["site"] = np.where(frame["group"] == "glioma", np.where(number % 2 == 0, "B", "C"), "A")
    table = decompose(frame, **{**FAST, "sensitivity": True}).sensitivity
    names = set(table["analysis"])
    assert {
        "spline with a flat tail",
        "tumor effect changes with tumor volume",
        "patients of site B left out",
        "patients of site C left out",
        "placebo: tumor mirrored",
        "placebo: tumors in controls",
    } <= names
    placebos = table[table["analysis"].str.startswith("placebo")]
    assert (placebos["p_value"] > 0.05).all()
    spline = table[(table["analysis"] == "spline with a flat tail")].set_index("component")["estimate"]
    plain = decompose(frame, **FAST)
    assert spline["tumor"] == pytest.approx(pooled(plain, "tumor")["estimate"], abs=0.01)


def test_the_reach_of_the_tumor_is_where_its_effect_meets_the_margin() -> None:
    """Beyond the stated distance the curve lies within the margin of its far end, and just before it does not."""
    result = decompose(simulated.scores(60, 60, seed=2), **FAST)
    reach = next(one for one in result.estimates if one.name == "tumor_reach")
    assert reach.low <= reach.value <= reach.high
    curve = result.curve[result.curve["shape"] == "exponential"]
    excess = np.interp([reach.value - 3, reach.value + 3], curve["distance_mm"], curve["drop"]) - curve["drop"].iloc[-1]
    assert excess[0] > 0.02 > excess[1]


def test_the_tumor_test_uses_the_contrast_between_hemispheres() -> None:
    """An effect of 0.02 Dice, too small for tests within one side, is found with 50 patients."""
    frame = simulated.scores(50, 50, systematic=0.15, tumor=0.5, decay_mm=8.0, between=0.2, within=0.2, seed=1)
    row = pooled(decompose(frame, **FAST), "tumor")
    assert row["estimate"] < 0.03
    assert row["p_value"] < 0.02


def test_a_tumor_effect_that_was_not_shown_gets_no_recovered_fraction() -> None:
    """Without a tumor effect the recovery table names the reason instead of a share."""
    before = simulated.scores(40, 40, tumor=0.0, seed=5)
    after = simulated.scores(40, 40, tumor=0.0, systematic=0.2, seed=5, model="m+full")
    result = decompose(before, finetuned={"m+full": after}, **FAST)
    row = result.recovery.set_index("component").loc["tumor"]
    assert row["status"] == "no_tumor_effect_shown"
    assert np.isnan(row["recovered"])


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")  # checked below instead
def test_a_mixed_model_agrees_where_it_can_be_trusted() -> None:
    """On the scale of Dice a mixed model with a participant effect finds the same tumor slope within two of its errors.

    Its variance of participants is checked to be above zero first: statsmodels can return effects of exactly zero.
    """
    import statsmodels.formula.api as smf

    frame = simulated.scores(60, 60, seed=12)
    rows = build_rows(frame, "dice")
    table = frame.reset_index(drop=True).assign(
        level=[str(number) for number in rows.level],
        cohort=[str(number) for number in rows.cohort],
        near=np.exp(-rows.distance_mm / 12),
    )
    mixed = smf.mixedlm("value ~ level * cohort + near", table, groups=table["participant_id"]).fit()
    assert float(mixed.cov_re.iloc[0, 0]) > 1e-6
    found = fit(
        rows.outcome,
        rows.level + len(rows.levels) * rows.patient,
        np.exp(-rows.distance_mm / 12)[:, None],
        np.ones(len(rows.outcome)),
        2 * len(rows.levels),
        logit=False,
    )
    assert found.slopes[0] == pytest.approx(mixed.params["near"], abs=2 * mixed.bse["near"])


def test_holm_p_values_and_strata() -> None:
    """P is never 0, Holm is monotone, and permutation stays within strata of at least two."""
    assert p_value(9.0, np.zeros(99)) == pytest.approx(0.01)
    adjusted = holm(np.array([0.04, 0.01, np.nan, 0.03]))
    np.testing.assert_allclose(adjusted, [0.06, 0.03, np.nan, 0.06])
    volume = np.append(np.arange(12.0), np.nan)
    strata = strata_of(volume)
    order = permute_within(strata, np.random.default_rng(0))
    assert sorted(order) == list(range(13))
    assert (strata[order] == strata).all()
    assert (np.bincount(strata) >= 4).all()


@pytest.mark.slow
def test_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    """Over 2,000 samples of 20 the expanded percentile interval of a mean covers in 93–97 %."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        sample = rng.normal(size=20)
        draws = draw_weights([20], 500, rng) @ sample / 20
        low, high = interval(draws, 0.95, 20)
        hits += low <= 0 <= high
    assert 0.93 <= hits / 2000 <= 0.97
