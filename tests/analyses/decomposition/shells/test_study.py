from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers.tubes import SHAPE, two_groups

from shiftkit.analyses.decomposition.reading import read_once
from shiftkit.analyses.decomposition.shells.counts import ErrorCounts
from shiftkit.analyses.decomposition.shells.findings import ShellResult
from shiftkit.analyses.decomposition.shells.model import COMPONENTS, METRICS, ShellModel
from shiftkit.analyses.decomposition.shells.study import EDGES_MM, shells
from shiftkit.analyses.statistics.inference import Inference
from shiftkit.catalogue import DECOMPOSITION, SHELLS
from shiftkit.errors import ConfigError, DataError
from shiftkit.tables import parse_table
from shiftkit.types import Bundle, Cohort, Predictions
from shiftkit.work import Work

BUNDLES = tuple(Bundle(name=name, hemisphere=side) for name in ("AF", "PYT") for side in ("left", "right"))
N_SECTIONS = 8
FAR = np.asarray(EDGES_MM[:-1]) >= 40


def simulate(
    seed: int, n: int = 60, systematic: float = 0.05, tumor: float = 0.5, decay_mm: float = 10.0, at: int | None = None
) -> tuple[ErrorCounts, ErrorCounts, dict[str, float]]:
    """Counts of patients and controls, and the true components on the Dice scale.

    Each section of a bundle has healthy error rates of its own; those of patients are higher by ``systematic``, and by
    ``tumor`` decaying with the distance to a section near the tumor (``at``, or drawn).
    """
    rng = np.random.default_rng(seed)
    healthy = rng.uniform(0.1, 0.3, (2, len(BUNDLES), N_SECTIONS))
    if at is not None:
        healthy[:, :, at] = 0.45
    none, alone = np.zeros((2, n, len(BUNDLES)))
    made: list[ErrorCounts] = []
    dice: list[np.ndarray] = []
    for patient in (True, False):
        n_shells = len(EDGES_MM) - 1 if patient else 1
        counts = np.zeros((4, n, len(BUNDLES), n_shells, N_SECTIONS))
        for i in range(n):
            person = rng.normal(0, 0.02)
            side, place = rng.integers(2), rng.integers(N_SECTIONS) if at is None else at
            for b in range(len(BUNDLES)):
                away = np.abs(np.arange(N_SECTIONS) - place) * 8.0 + (0 if b % 2 == side else 70)
                voxels = rng.integers(20, 60, N_SECTIONS)
                state = np.clip(healthy[:, b] + person, 0.02, 0.95)
                shift = np.array([[1.0], [0.6]]) * tumor * np.exp(-away / decay_mm) * patient
                both = np.clip(state + systematic * patient + shift, 0.02, 0.95)
                missed = rng.binomial(voxels, both[0])
                false = rng.negative_binomial(voxels - missed + 1e-9, 1 - both[1])
                shell = np.searchsorted(EDGES_MM, away, side="right") - 1 if patient else np.zeros(N_SECTIONS, int)
                found = voxels - missed
                counts[:, i, b, shell, np.arange(N_SECTIONS)] = [voxels, missed, found + false, false]
                none[i, b], alone[i, b] = (expected_dice(voxels, rates) for rates in (state, state + systematic))
        made.append(
            ErrorCounts(
                participants=tuple(f"sub-{i}" for i in range(n)),
                bundles=BUNDLES,
                **dict(zip(("reference", "missed", "predicted", "false"), counts, strict=True)),
                skipped={},
            )
        )
        if patient:
            reference, missed, predicted, _ = counts.sum(axis=(3, 4))
            both_dice = 2 * (reference - missed) / (reference + predicted)
            dice = [none.copy(), alone.copy(), both_dice]
    clean, shifted, seen = (float(each.mean()) for each in dice)
    return made[0], made[1], {"systematic": clean - shifted, "tumor": shifted - seen}


def expected_dice(voxels: np.ndarray, rates: np.ndarray) -> float:
    found = voxels * (1 - rates[0])
    return float(2 * found.sum() / (voxels.sum() + (found / (1 - rates[1])).sum()))


def run(patients: ErrorCounts, controls: ErrorCounts, seed: int = 0) -> ShellResult:
    return shells(patients, controls, ("model", "peaks"), inference=Inference(n_bootstrap=300, seed=seed))


def pooled(result: ShellResult) -> pd.DataFrame:
    rows = result.decomposition()
    return rows[rows["bundle"] == "all"].set_index("component")


@pytest.mark.parametrize("seed", range(4))
def test_both_components_are_recovered_on_the_dice_scale(seed: int):
    """With both shifts, each component lies within 0.012 of the truth, two standard errors of 60 against 60."""
    patients, controls, truth = simulate(seed)
    found = pooled(run(patients, controls))
    for component, value in truth.items():
        assert abs(found["estimate"][component] - value) < 0.012
    assert found["low"]["tumor"] > 0


def test_without_a_tumor_effect_none_is_shown():
    """A purely systematic shift yields no tumor part: its interval holds 0 and the status says so."""
    patients, controls, truth = simulate(11, tumor=0.0)
    found = pooled(run(patients, controls))
    assert found["status"]["tumor"] == "no_tumor_effect_shown"
    assert abs(found["estimate"]["tumor"]) < 0.005
    assert abs(found["estimate"]["systematic"] - truth["systematic"]) < 0.012


def test_without_a_systematic_shift_the_plateau_is_flat_at_zero():
    """A purely local tumor effect leaves the systematic part's interval around 0."""
    patients, controls, _ = simulate(12, systematic=0.0)
    found = pooled(run(patients, controls))
    assert found["low"]["systematic"] < 0 < found["high"]["systematic"]
    assert found["low"]["tumor"] > 0


def test_an_effect_that_reaches_the_plateau_is_not_split():
    """With a decay length of 80 mm the far field is no plateau: the total is given and the parts are not."""
    found = pooled(run(*simulate(13, decay_mm=80.0)[:2]))
    assert set(found["status"][["systematic", "tumor"]]) == {"split_withheld"}
    assert found["estimate"][["systematic", "tumor"]].isna().all()
    assert found["estimate"]["total"] > 0.1


def test_an_unseen_far_field_is_not_split():
    """Where hardly any patient has voxels beyond the plateau's edge, the parts are withheld."""
    patients, controls, _ = simulate(14)
    near = ~FAR[:, None]
    arrays = {name: getattr(patients, name) * near for name in ("reference", "missed", "predicted", "false")}
    found = pooled(run(replace(patients, **arrays), controls))
    assert set(found["status"][["systematic", "tumor"]]) == {"split_withheld"}


def test_a_difficult_place_is_not_blamed_on_the_tumor():
    """Tumors that always sit where healthy people's errors are highest too show no excess there without a shift."""
    patients, controls, _ = simulate(15, systematic=0.0, tumor=0.0, at=3)
    rows = run(patients, controls).to_frame()
    nearest = rows[(rows["bundle"] == "all") & (rows["shell_low_mm"] == 0)]
    assert (nearest["observed"] > 0.4).all()
    assert (nearest["low"] < 0).all()
    assert (nearest["high"] > 0).all()


@given(seed=st.integers(0, 1000), n=st.integers(6, 12))
@settings(max_examples=15, deadline=None)
def test_parts_add_up(seed: int, n: int):
    """Systematic and tumor make the total, total and residual the raw drop, in every metric, group and draw."""
    patients, controls, _ = simulate(seed, n=n)
    groups = np.array([[True] * len(BUNDLES), [bundle.name == "AF" for bundle in BUNDLES]])
    model = ShellModel(patients=patients, controls=controls, far=FAR, groups=groups)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=5).astype(float)
    parts = dict(zip(COMPONENTS, np.moveaxis(model.evaluate(weights, weights).components, 3, 0), strict=True))
    assert parts["total"].shape == (5, 2, len(METRICS))
    np.testing.assert_allclose(parts["total"], parts["systematic"] + parts["tumor"], atol=1e-12)
    np.testing.assert_allclose(parts["raw"], parts["total"] + parts["residual"], atol=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_weight_of_two_is_a_participant_drawn_twice(seed: int):
    """Participants are what is resampled: a weight of 2 equals the same participant's counts appearing twice."""
    patients, controls, _ = simulate(seed, n=30)
    groups = np.ones((1, len(BUNDLES)), dtype=bool)
    model = ShellModel(patients=patients, controls=controls, far=FAR, groups=groups)
    weights = np.ones((1, 30))
    weights[0, seed % 30] = 2
    twice = [*range(30), seed % 30]
    names = ("reference", "missed", "predicted", "false")
    longer = [
        replace(counts, participants=tuple(map(str, twice)), **{name: getattr(counts, name)[twice] for name in names})
        for counts in (patients, controls)
    ]
    double = ShellModel(patients=longer[0], controls=longer[1], far=FAR, groups=groups)
    np.testing.assert_allclose(
        model.evaluate(weights, weights).components,
        double.evaluate(np.ones((1, 31)), np.ones((1, 31))).components,
        atol=1e-12,
    )


def test_controls_reproduce_their_own_error_rates():
    """The healthy profile gives controls' mean error rates back exactly, so a baseline is never off by weighting."""
    _, controls, _ = simulate(16)
    model = ShellModel(patients=controls, controls=controls, far=np.array([True]), groups=np.ones((1, 4), dtype=bool))
    ones = np.ones((1, len(controls.participants)))
    total = model.evaluate(ones, ones).components[0, 0, :, COMPONENTS.index("total")]
    np.testing.assert_allclose(total, 0, atol=1e-12)


def test_under_twenty_patients_is_exploratory():
    """A small series is labeled so."""
    patients, controls, _ = simulate(17, n=12)
    assert pooled(run(patients, controls))["status"]["total"] == "exploratory"


def test_tables_fit_their_schemas():
    """Shells and components are rows of the published tables, in their columns and order, with every shell named."""
    result = run(*simulate(18, n=20)[:2])
    frame = parse_table(result.to_frame(), SHELLS, "shells")
    assert list(frame) == list(SHELLS.columns)
    assert len(frame) == 3 * 2 * (len(EDGES_MM) - 1)
    assert set(parse_table(result.decomposition(), DECOMPOSITION, "parts")["method"]) == {"shell"}
    assert list(result.decomposition()) == list(DECOMPOSITION.columns)


def test_the_finding_speaks_and_draws():
    """The finding holds the numbers of its claim, rounded as all others, and a figure with one series a rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    result = run(*simulate(19, n=25)[:2])
    (finding,) = result.findings
    total = finding.estimates[0]
    digits = 2 if total.value >= 0.1 else 3
    told = f"a drop of {total.value:.{digits}f} [{total.low:.{digits}f}, {total.high:.{digits}f}] Dice:"
    assert told in finding.claim
    assert finding.figure is not None
    axes = finding.figure(None)
    assert len(axes.get_legend().get_texts()) == 2
    plt.close("all")


# --- from images -----------------------------------------------------------------------------------------------------


def from_images(
    made: Predictions, glioma: Cohort, found: Predictions, healthy: Cohort, n_bootstrap: int = 100
) -> ShellResult:
    reading = read_once(
        {"patients": [made], "controls": [found]}, {"patients": glioma, "controls": healthy}, work=Work(jobs=1)
    )
    assert reading.counts is not None
    return shells(*reading.counts, ("m", "fa"), inference=Inference(n_bootstrap=n_bootstrap))


def test_a_stretch_missed_at_the_tumor_is_the_tumors(tmp_path: Path):
    """A prediction that is perfect but for the stretch beside the tumor loses, on the Dice scale, just that stretch."""
    tumor = np.zeros(SHAPE, dtype=bool)
    tumor[0:4, 10:14, 10:13] = True
    result = from_images(*two_groups(tmp_path, tumor, slice(10, 14)))
    found = pooled(result)
    loss = (1 - 2 * 32 / (36 + 32)) / 2  # of two bundles
    assert found["estimate"]["tumor"] == pytest.approx(loss, abs=1e-9)
    assert found["estimate"]["systematic"] == pytest.approx(0, abs=1e-9)
    rows = result.to_frame()
    missed = rows[(rows["bundle"] == "all") & (rows["rate"] == "fn")].set_index("shell_low_mm")["excess"]
    assert missed[0.0] > 0.3
    assert missed[[10.0, 20.0, 40.0, 60.0]].tolist() == [0, 0, 0, 0]


def test_without_tumor_masks_there_is_no_number(tmp_path: Path):
    """Patients without tumor masks get the status unavailable, and the cases are named."""
    result = from_images(*two_groups(tmp_path, None, slice(10, 14)), n_bootstrap=50)
    assert set(result.components["status"]) == {"unavailable"}
    assert result.components["estimate"].isna().all()
    assert set(result.to_frame()["status"]) == {"unavailable"}
    assert len(result.skipped) == 6
    assert "not available" in result.findings[0].claim


def test_controls_without_predictions_are_refused(tmp_path: Path):
    """The baseline cannot come from nowhere: the error says how many controls there were."""
    tumor = np.zeros(SHAPE, dtype=bool)
    tumor[2, 10, 10] = True
    made, glioma, healthy_made, healthy = two_groups(tmp_path, tumor, slice(10, 14))
    one = replace(healthy_made, cohort=healthy_made.cohort.where(lambda case: case.key == "sub-h0"))
    with pytest.raises(DataError, match="at least 2 controls with predictions"):
        from_images(made, glioma, one, healthy)
    with pytest.raises(DataError, match="Shells need a bundle"):
        from_images(made, glioma, healthy_made, healthy.where(group="glioma"))


@pytest.mark.parametrize(
    ("edges", "plateau"), [((0, 5, 2, np.inf), 5), ((1, 5, np.inf), 5), ((0, 5, 9), 5), ((0, 5, np.inf), 7)]
)
def test_edges_are_checked(edges: tuple[float, ...], plateau: float):
    """Edges that leave voxels out, or a plateau that begins within a shell, are refused before anything is computed."""
    nothing = np.zeros((0, 0, 0, 0))
    counts = dict.fromkeys(("reference", "missed", "predicted", "false"), nothing)
    empty = ErrorCounts(participants=(), bundles=(), skipped={}, **counts)
    with pytest.raises(ConfigError, match=r"edges|plateau"):
        shells(empty, empty, ("m", "fa"), edges_mm=edges, plateau_mm=plateau)
