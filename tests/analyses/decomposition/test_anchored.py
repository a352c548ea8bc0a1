"""The anchored split: its identities, its jackknife, and what it finds in cohorts whose truth is known."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from makers import additive
from makers.additive import N_BUNDLES
from makers.decays import rows as made

from shiftkit.analyses.decomposition.anchored import (
    anchored,
    design_of,
    far_cut,
    outcome_table,
    recovered,
    replicate,
)
from shiftkit.analyses.decomposition.rows import Rows
from shiftkit.analyses.decomposition.verdict import Moment, Region, Verdict

MARGIN = 0.02
FIELDS = ("total", "systematic", "upper", "outermost")


def verdicts(n: int, *args: int, **options: object) -> list[Verdict]:
    return [anchored(made(*args, seed, **options)[0]).verdict(MARGIN) for seed in range(n)]


def brute_force(rows: Rows) -> tuple[float, float, float]:
    """T, U and δ by a dense penalized least squares fit, row by row as the design is written."""
    cut = 40.0
    patient = rows.patient
    d, level, person, y = (one[patient] for one in (rows.distance_mm, rows.level, rows.person, rows.outcome))
    k = len(rows.levels)
    m0 = np.array([rows.outcome[rows.control & (rows.level == one)].mean() for one in range(k)])
    zone = np.digitize(d, [3.0, 10.0, 20.0, cut], right=True)
    assert np.bincount(zone)[:4].min() >= 3
    near = np.eye(5)[zone][:, :4]
    # 0.1 Σ (D_k − D̄)² as pseudo-rows.
    ridge = np.sqrt(0.1) * np.hstack([np.eye(k) - 1 / k, np.zeros((k, 4))])
    both = np.vstack([np.hstack([np.eye(k)[level], near]), ridge]), np.append(m0[level] - y, np.zeros(k))
    theta = np.linalg.lstsq(*both, rcond=None)[0]
    n_i = np.bincount(person)
    share = np.bincount(level, 1 / n_i[person], k) / rows.n_patients
    total = share @ m0 - np.mean([y[person == p].mean() for p in range(rows.n_patients)])
    exposure = np.mean([near[person == p].mean(axis=0) for p in range(rows.n_patients)], axis=0)
    return total, total - exposure @ theta[k:], theta[-1]


def without(rows: Rows, person: int) -> Rows:
    """The rows as if a participant had never been there."""
    part = rows.take(rows.person != person)
    return replace(
        part,
        person=part.person - (part.person > person),
        people=tuple(np.delete(np.array(rows.people), person)),
        n_patients=rows.n_patients - (person < rows.n_patients),
    )


def test_the_fit_is_the_penalized_least_squares_that_is_written() -> None:
    """T, U and the outermost bin's δ equal a dense fit, and φ the far rows' share of what λmax leaves."""
    rows, _ = made(30, 25)
    found = anchored(rows)
    assert found.design.far_mm == 40
    values = (found.replicates.total[0], found.replicates.upper[0], found.replicates.outermost[0])
    assert values == pytest.approx(brute_force(rows), abs=1e-10)
    d = rows.distance_mm[rows.patient]
    kappa = np.exp(-d[d > 40] / 25).mean() / np.exp(-d[(d > 20) & (d <= 40)] / 25).mean()
    assert found.design.phi[25.0] == pytest.approx(kappa / (1 - kappa))


@pytest.mark.parametrize("age", [False, True])
def test_the_jackknife_is_the_refit_without_each_participant(age: bool) -> None:
    """Every statistic without a participant equals the same design's statistic of a table that lacks them."""
    rows, ages = made(14, 12, n_target=6, age_effect=0.02)
    covariates = ages if age else None
    design = design_of(rows, covariates)
    found = replicate(design, outcome_table(rows))
    for person in (0, 7, 16, 27):
        keep = np.arange(len(rows.people)) != person
        fixed = replace(
            design,
            cohort=design.cohort[keep],
            there=design.there[keep],
            covariates=design.covariates[keep],
            **{name: getattr(design, name)[keep[:14]] for name in ("bins", "shapes")},
        )
        again = replicate(fixed, outcome_table(without(rows, person)), np.ones((1, keep.sum())))
        for name in (*FIELDS, "raw", "acquisition", "systematic_by_level", "upper_by_level", "total_by_level", "share"):
            np.testing.assert_allclose(getattr(found, name)[1 + person], getattr(again, name)[0], atol=1e-9)


def test_levels_add_up_to_the_pooled_numbers() -> None:
    """ΣW_k of every level's total and systematic part is T and S, exactly, in the sample and in every draw."""
    found = anchored(made(20, 16, missing=0.3)[0]).replicates
    np.testing.assert_allclose((found.share * found.total_by_level).sum(axis=1), found.total, atol=1e-12)
    np.testing.assert_allclose((found.share * found.systematic_by_level).sum(axis=1), found.systematic, atol=1e-12)
    np.testing.assert_allclose(found.share.sum(axis=1), 1, atol=1e-12)


def test_a_shift_of_all_patients_is_systematic_and_nothing_else() -> None:
    """What all patients lose alike moves T, S, U and both ends of every interval by itself, and no tumor's part."""
    rows, _ = made(24, 20)
    moved = replace(rows, outcome=rows.outcome - 0.3 * rows.patient)
    first, second = (anchored(one).verdict(MARGIN) for one in (rows, moved))
    for name in ("value", "low", "high", "bound_low", "bound_high"):
        assert getattr(second.systematic, name) - getattr(first.systematic, name) == pytest.approx(0.3, abs=1e-9)
        assert getattr(second.tumor, name) == pytest.approx(getattr(first.tumor, name), abs=1e-9)
    assert second.total.value - first.total.value == pytest.approx(0.3)


def test_the_order_of_participants_does_not_matter() -> None:
    """Patients among patients and controls among controls can stand in any order."""
    rows, ages = made(20, 16, age_effect=0.03)
    rng = np.random.default_rng(0)
    order = np.append(rng.permutation(20), 20 + rng.permutation(16))
    moved = replace(rows, person=order[rows.person])
    old = anchored(rows, ages).verdict(MARGIN)
    new = anchored(moved, ages[np.argsort(order)]).verdict(MARGIN)
    for part in ("total", "systematic", "tumor"):
        for name in ("value", "low", "high", "bound_low", "bound_high", "p_value"):
            a, b = getattr(getattr(old, part), name), getattr(getattr(new, part), name)
            assert a == pytest.approx(b, abs=1e-9, nan_ok=True)


def test_a_constant_outcome_has_no_interval() -> None:
    """Where nobody differs from anybody the status says so and no word is given."""
    rows, _ = made(20, 20)
    told = anchored(replace(rows, outcome=np.full(len(rows.outcome), 0.7))).verdict(MARGIN)
    assert told.status == "constant"
    assert told.total.value == pytest.approx(0)
    assert np.isnan(told.systematic.value)


def test_the_far_cut_needs_ten_patients_and_two_fifths() -> None:
    """The first of 40, 30, 20 mm beyond which max(10, 0.4 n) patients have a row, strictly; else there is none."""
    near = np.full((30, 2), 5.0)
    for n, cut in ((12, 35.0), (11, np.nan)):
        distance = near.copy()
        distance[:n, 1] = 36.0
        assert far_cut(distance) == pytest.approx(30.0 if n == 12 else cut, nan_ok=True)
    distance[:12, 1] = 40.0
    assert far_cut(distance) == 30.0
    assert np.isnan(far_cut(np.full((9, 2), 90.0)))


@pytest.mark.parametrize(
    ("sizes", "options", "status", "finite"),
    [
        ((4, 20), {}, "too_few", False),
        ((9, 20), {}, "too_few_for_split", True),
        ((20, 4), {}, "too_few", False),
    ],
)
def test_small_cohorts_get_a_total_only(sizes: tuple[int, int], options: dict, status: str, finite: bool) -> None:
    """Fewer than 5 of either cohort: T without interval; fewer than 10 patients: T with its interval."""
    told = anchored(made(*sizes, **options)[0]).verdict(MARGIN)
    assert told.status == status
    assert np.isfinite(told.total.value)
    assert np.isfinite(told.total.low) == finite
    assert np.isnan([told.systematic.value, told.systematic.low, told.tumor.value]).all()


def test_an_unmeasured_far_or_near_field_gets_a_total_only() -> None:
    """Without rows far from any tumor, or without rows near one, no split is given and the status says which."""
    rows, _ = made(30, 30)
    for distance, status in ((15.0, "far_field_unmeasured"), (70.0, "near_field_unmeasured")):
        told = anchored(replace(rows, distance_mm=np.where(rows.patient, distance, np.inf))).verdict(MARGIN)
        assert told.status == status
        assert np.isfinite(told.total.low)


@pytest.mark.parametrize("seed", range(12))
def test_p_is_the_smallest_alpha_whose_interval_excludes_nothing(seed: int) -> None:
    """At a level just under 1 − p the interval excludes 0, just above it holds 0, for every part."""
    rows, _ = made(14, 12, seed, systematic=0.02 * (seed % 4), tumor=0.06, noise=0.06)
    found = anchored(rows)
    systematic = found.ends()
    p = systematic.p_value
    total = found.moment(found.replicates.total)
    for p, interval in ((systematic.p_value, systematic.interval), (total.p_value, total.interval)):
        for level, excludes in ((1 - 1.001 * p, True), (1 - 0.999 * p, False)):
            if 0 < level < 1 and p < 1:
                low, high = interval(level)
                assert (low > 0 or high < 0) == excludes
        if p >= 1:
            low, high = interval(0.05)
            assert low <= 0 <= high


def test_words_intervals_and_p_never_contradict_each_other() -> None:
    """Over cohorts of every kind a word, its interval, its p and the status say the same."""
    seen: set[str] = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        rows, _ = made(
            int(rng.integers(10, 30)),
            int(rng.integers(5, 30)),
            seed,
            systematic=rng.choice([-0.05, 0.0, 0.05]),
            tumor=rng.choice([-0.1, 0.0, 0.1]),
            noise=rng.choice([0.01, 0.05]),
        )
        told = anchored(rows).verdict(MARGIN)
        if np.isnan(told.systematic.low):
            continue
        for part in (told.total, told.systematic, told.tumor):
            seen.add(part.word)
            excludes = part.low > 0 or part.high < 0
            assert excludes == (part.p_value <= 0.05)
            assert excludes == (part.word in ("shown", "negative", "worse_near", "better_near"))
            assert not np.isfinite(part.value) or part.low <= part.value <= part.high
            assert np.isnan(part.bound_low) or part.low <= part.bound_low <= part.bound_high <= part.high
            assert (part.status == "range") == bool(part.bound_high - part.bound_low > MARGIN)
        assert np.isnan(told.tumor.value) == np.isnan(told.systematic.value)
        if np.isfinite(told.systematic.value):
            assert told.systematic.value + told.tumor.value == pytest.approx(told.total.value)
    assert {"shown", "negative", "not_shown", "worse_near", "better_near"} <= seen


def test_a_tumor_effect_that_helps_is_told_far_from_the_tumor_without_bounds() -> None:
    """Where bundles near the tumor do better, the pair is (U, T − U) and no bounds are printed."""
    found = anchored(made(40, 40, tumor=-0.15)[0])
    told = found.verdict(MARGIN)
    assert told.tumor.word == "better_near"
    assert told.systematic.value == pytest.approx(found.replicates.upper[0])
    assert np.isnan([told.systematic.bound_low, told.tumor.bound_high]).all()


def test_a_small_part_of_a_large_drop_is_negligible() -> None:
    """The 90 % interval within the margin makes a part negligible, unless the drop is too small to say so."""
    quiet = {"systematic": 0.0, "noise": 0.01}
    assert {one.systematic.word for one in verdicts(10, 40, 40, tumor=0.3, **quiet)} == {"negligible"}
    assert "negligible" not in {one.systematic.word for one in verdicts(10, 40, 40, tumor=0.03, **quiet)}


def test_the_region_covers_either_end_and_shrinks_to_students_interval() -> None:
    """Without width q is Student's; far apart it is one-sided; in between the coverage is as asked."""
    for gap, expected in ((0.0, 2.0860), (100.0, 1.7247)):
        region = Region(low=Moment(value=0.0, se=1.0, df=20.0), high=Moment(value=gap, se=0.5, df=30.0))
        assert region.reach(0.95) == pytest.approx(expected, abs=1e-3)
        assert region.coverage(region.reach(0.95)) == pytest.approx(0.95, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "bias"),
    [({}, 0.006), ({"responders": 0.5}, 0.006), ({"tumor": 0.0}, 0.004)],
)
def test_both_parts_are_found_whatever_the_shape(options: dict, bias: float) -> None:
    """A decay that no stacked shape has, all or half of the patients responding: small bias and honest coverage."""
    truth = 0.08
    told = verdicts(150, 30, 30, **options)
    values = [one.systematic.value for one in told if np.isfinite(one.systematic.value)]
    assert np.mean(values) == pytest.approx(truth, abs=bias)
    covered = np.mean([one.systematic.low <= truth <= one.systematic.high for one in told])
    assert covered >= 0.91  # 0.93 less twice the Monte Carlo error


def test_nothing_systematic_is_seldom_shown() -> None:
    """S = 0 with a strong tumor effect: shown or negative in about 5 % of cohorts."""
    told = verdicts(200, 30, 30, systematic=0.0)
    wrong = np.mean([one.systematic.word in ("shown", "negative") for one in told])
    assert wrong <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 200)


def test_a_covariate_takes_its_own_difference_away() -> None:
    """Patients one standard deviation older: without age S is wrong by age's effect, with it right."""
    pairs = [made(40, 40, seed, age_gap=1.0, age_effect=0.04) for seed in range(30)]
    plain = np.mean([anchored(rows).replicates.systematic[0] for rows, _ in pairs])
    adjusted = [anchored(rows, ages) for rows, ages in pairs]
    assert plain == pytest.approx(0.12, abs=0.01)
    assert np.mean([one.replicates.systematic[0] for one in adjusted]) == pytest.approx(0.08, abs=0.008)
    assert np.mean([one.replicates.raw[0] - one.replicates.total[0] for one in adjusted]) == pytest.approx(
        0.04, abs=0.008
    )


def test_target_controls_split_the_systematic_part() -> None:
    """Acquisition and disease add up to S exactly, with bounds of S moved by the acquisition."""
    found = anchored(made(40, 40, systematic=0.10, n_target=20, acquisition=0.06)[0])
    told = found.verdict(MARGIN)
    acquisition, disease = found.disease(told)
    assert acquisition.value + disease.value == pytest.approx(told.systematic.value)
    assert acquisition.value == pytest.approx(0.06, abs=0.03)
    assert disease.bound_low == pytest.approx(told.systematic.bound_low - acquisition.value)


def test_bundles_are_simultaneous_and_wider_than_alone() -> None:
    """An interval that holds for all levels at once excludes 0 exactly where the adjusted p says so."""
    found = anchored(made(40, 40, tumor=0.1)[0])
    levels = found.by_level(MARGIN, 0.95, np.random.default_rng(0))
    for parts in levels.values():
        for part in parts:
            assert part.p_adjusted >= part.p_value * 0.99
            assert (part.low > 0 or part.high < 0) == (part.p_adjusted <= 0.05)
    for total, far, near in zip(*levels.values(), strict=True):
        if np.isfinite(far.value):
            assert total.value == pytest.approx(far.value + near.value)


def test_a_level_that_few_patients_have_gets_no_row_but_stays_in_the_fit() -> None:
    """Four patients with a level: no part of its own, yet their rows count in T."""
    rows, _ = made(30, 30)
    keep = (rows.level != 3) | rows.control | (rows.person < 4)
    found = anchored(rows.take(keep))
    parts = found.by_level(MARGIN, 0.95, np.random.default_rng(0))
    assert [parts[name][3].status for name in parts] == ["too_few"] * 3
    assert found.replicates.share[0, 3] > 0


def test_fieller_covers_a_recovered_fraction_and_says_when_it_is_unbounded() -> None:
    """Halving S is found within its interval; a fraction of nothing has no bounds."""
    before, _ = made(40, 40, systematic=0.10)
    after = replace(before, outcome=before.outcome + 0.05 * before.patient)
    first = anchored(before)
    second = anchored(after, design=first.design)
    share, low, high = recovered(first.replicates.systematic, second.replicates.systematic, first.stratum, 0.95)
    assert low < share < high
    assert share == pytest.approx(0.5, abs=0.2)
    nothing = anchored(made(40, 40, systematic=0.0)[0])
    moved = nothing.replicates.systematic + np.random.default_rng(0).normal(0, 0.01, 81)
    assert np.isnan(recovered(nothing.replicates.systematic, moved, nothing.stratum, 0.95)[1])


def test_patients_who_lack_bundles_and_lose_more_are_no_effect_of_the_tumor() -> None:
    """Two of five patients lose 0.10 more everywhere and lack half of their rows: no tumor's part in 40 cohorts.

    Words at most as often as by chance, and the mean of its estimate, which cannot be negative, below 0.003.
    """
    words, values = Counter[str](), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        near, bad = additive.distances(rng, 30), rng.random(30) < 0.4
        there = rng.random(near.shape) < np.where(bad, 0.5, 1.0)[:, None]
        drop = np.where(bad, 0.15, 0.05)[:, None] * np.ones(12)
        told = anchored(additive.rows(rng, near, drop, there=there)).verdict(MARGIN)
        words[told.tumor.word] += 1
        values.append(np.nan_to_num(told.tumor.value))
    assert words["worse_near"] <= 2 and words["better_near"] <= 5, words
    assert abs(np.mean(values)) < 0.003


@pytest.mark.parametrize("way", [-1, 1])
def test_bundles_that_lose_more_where_they_lie_are_no_effect_of_the_tumor(way: int) -> None:
    """A shift of each bundle that goes with its mean distance to the tumors is systematic, in 40 cohorts of 30 + 30."""
    words = Counter[str]()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        near = additive.distances(rng, 30)
        mean = near.mean(axis=0)
        drop = 0.08 + way * 0.04 * (mean - mean.mean()) / mean.std() * np.ones((30, 1))
        words[anchored(additive.rows(rng, near, drop)).verdict(MARGIN).tumor.word] += 1
    assert words["worse_near"] <= 3 and words["better_near"] <= 3, words


@pytest.mark.parametrize("helps", [0.0, 0.02])
def test_tables_without_a_gap_are_split_whatever_the_tumor_does(helps: float) -> None:
    """Where no row is missing and no shape of decay fits, the split is given, and its interval holds the truth.

    Without an effect of the tumor, and with one that helps a little: the slopes of the shapes cannot be negative.
    """
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        near = additive.distances(rng, 30)
        effect = helps * np.exp(-near / 12)
        told = anchored(additive.rows(rng, near, 0.08 - effect)).verdict(MARGIN)
        assert told.status in ("ok", "range")
        held += told.tumor.low <= -effect.mean() <= told.tumor.high
    assert held >= 36


def test_aging_may_differ_between_the_cohorts() -> None:
    """Patients age by 0.05 a standard deviation, controls not: the drop at the patients' age is found and covered."""
    held, values = 0, []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        age = rng.normal(0.5, 1, 30), rng.normal(-0.5, 1, 30)
        table = additive.rows(rng, additive.distances(rng, 30), 0.06, age=age, aging=(0.05, 0.0))
        years = table.frame.drop_duplicates("participant_id").set_index("participant_id")["age"]
        found = anchored(table, years.loc[list(table.people)].to_numpy()[:, None]).verdict(MARGIN)
        truth = 0.06 + 0.05 * age[0].mean()
        held += found.systematic.low <= truth <= found.systematic.high
        values.append(found.total.value - truth)
    assert held >= 36 and abs(np.mean(values)) < 0.006


def test_disease_is_told_over_the_bundles_that_target_controls_have() -> None:
    """Acquisition alone, which takes more from bundles that target controls lack, is no disease in 20 of 20 cohorts."""
    shown = held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        takes = np.where(np.arange(12) % 2, 0.15, 0.03)
        target_there = np.broadcast_to(np.arange(12) % 2 == 0, (15, 12))
        table = additive.rows(
            rng,
            additive.distances(rng, 30),
            takes * np.ones((30, 1)),
            n_targets=15,
            acquisition=takes,
            target_there=target_there,
        )
        found = anchored(table)
        acquisition, disease = found.disease(found.verdict(MARGIN))
        held += acquisition.low < 0.03 < acquisition.high
        shown += disease.word != "not_shown"
    assert shown <= 3 and held >= 17


def test_a_bundle_that_the_tumor_spares_is_not_said_to_be_harmed() -> None:
    """The tumor hurts half of the bundles: in 10 cohorts of 60 + 60 words of these, and none of the others."""
    harmed = np.arange(12) % N_BUNDLES < N_BUNDLES // 2
    right = wrong = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        near = additive.distances(rng, 60)
        table = additive.rows(rng, near, 0.08 + 0.3 * np.exp(-near / 12) * harmed, n_controls=60)
        parts = anchored(table).by_level(MARGIN, 0.95, rng)["tumor"]
        for (bundle, _), part in zip(table.levels, parts, strict=True):
            if part.word == "worse_near":
                right, wrong = right + (int(bundle[1]) < N_BUNDLES // 2), wrong + (int(bundle[1]) >= N_BUNDLES // 2)
    assert wrong <= 1 and right >= 20, (right, wrong)
