from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.analyses.deformation.registration import Surface, align
from shiftkit.analyses.deformation.result import ranked, with_healthy_range
from shiftkit.analyses.deformation.study import deform
from shiftkit.analyses.deformation.template import Controls, outside_of_use, skeleton_of
from shiftkit.analyses.deformation.v_norm import measure, measure_against_own
from shiftkit.catalogue import DEFORMATION, DEFORMATION_PROFILES
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image, write_image
from shiftkit.results import Estimate
from shiftkit.tables import read_table
from shiftkit.types import Bundle, Cohort, Volume

HALF_LENGTH_MM = 30.0
CENTER_MM = np.array([-30.3, 0.4, 0.7])  # no face of the shape on a voxel's center


def grid(spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Affine and world points of a box around the tube, in a left-handed order of axes."""
    n = np.ceil(np.array([52.0, 84, 44]) / spacing_mm).astype(int)
    affine = np.diag([-spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = (-4, -42, -22)
    index = np.stack(np.meshgrid(*(np.arange(k) for k in n), indexing="ij"), axis=-1)
    return affine, index @ affine[:3, :3].T + affine[:3, 3]


def tube(
    spacing_mm: float = 2.5, push_mm: float = 0.0, radius_mm: float = 6.0, motion: Rotation | None = None
) -> Volume:
    """A bundle along y at x = −30 mm, its middle third pushed towards the midline, or all of it rotated."""
    affine, points = grid(spacing_mm)
    points = points - CENTER_MM
    if motion is not None:
        points = motion.inv().apply((points - (2.0, -1.0, 1.5)).reshape(-1, 3)).reshape(points.shape)
    x = points[..., 0] - push_mm * np.exp(-((points[..., 1] / 12.0) ** 2))
    inside = (np.hypot(x, points[..., 2] * 1.3) < radius_mm) & (np.abs(points[..., 1]) < HALF_LENGTH_MM)
    return Volume(array=inside, affine=affine)


def template_of(*masks: Volume) -> Controls:
    return Controls.of({f"sub-{index}": mask for index, mask in enumerate(masks)})


@pytest.mark.parametrize("spacing_mm", [1.0, 2.0, 2.5])
def test_identical_masks_are_not_deformed(spacing_mm: float) -> None:
    """A mask against the template of itself: no motion, no displacement anywhere, full overlap, at every voxel size."""
    mask = tube(spacing_mm)
    found, image = measure(mask, template_of(mask, mask).template())
    assert found.v_norm_mm == 0
    assert (found.translation_mm, found.rotation_deg) == (0, 0)
    assert (found.dice_before, found.dice_after) == (1, 1)
    assert (found.jacobian_min, found.jacobian_max) == (1, 1)
    assert not image.array.any()


def test_position_is_not_deformation() -> None:
    """A bundle that is turned and shifted gives back the motion, and next to no V-Norm."""
    motion = Rotation.from_euler("xz", [4.0, 7.0], degrees=True)
    still, moved = tube(2.0), tube(2.0, motion=motion)
    found = align(Surface.of(still), Surface.of(moved))
    # Roll, and the place along the bundle, are what a straight tube on voxels shows least.
    axis, truth = found.rotation[:, 1], motion.as_matrix()[:, 1]
    assert np.degrees(np.arccos(axis @ truth)) < 1.0
    assert found.angle_deg < 12
    across = found.translation_mm - (2.0, -1.0, 1.5)
    assert np.hypot(across[0], across[2]) < 0.6
    assert abs(across[1]) < 1.2
    measured, _ = measure(moved, template_of(still).template())
    assert measured.v_norm_mm < 0.5
    assert measured.dice_after > 0.9


def test_a_known_push_is_measured_where_it_is_at_every_voxel_size() -> None:
    """A push of 6 mm in the middle: within 15 % or 0.5 mm of the truth at 1, 2 and 2.5 mm, and at its place."""
    values: dict[float, float] = {}
    for spacing_mm in (1.0, 2.0, 2.5):
        found, _ = measure(tube(spacing_mm, push_mm=6.0), template_of(tube(spacing_mm)).template())
        values[spacing_mm] = found.v_norm_mm
        profile = np.array(found.profile_mm)
        # The rigid part takes some of a push that is the same on a third of the bundle, robustly little.
        assert profile[14:18].mean() > 3.0
        assert profile[[2, 3, 28, 29]].mean() < 2.0
        assert found.dice_after > 0.9 > found.dice_before
    # Over the tube: the mean of 6 exp(−(y/12)²), less what a shift of the whole takes of it.
    y = np.linspace(-HALF_LENGTH_MM, HALF_LENGTH_MM, 601)
    push = 6 * np.exp(-((y / 12) ** 2))
    truth = min(float(np.abs(push - shift).mean()) for shift in np.linspace(0, 3, 61))
    for value in values.values():
        assert abs(value - truth) < max(0.15 * truth, 0.5)
    assert np.ptp(list(values.values())) < 0.3


def test_the_map_lies_on_the_participants_grid_and_agrees_with_the_mean() -> None:
    """The image has the mask's grid, is zero outside it, and its mean is the V-Norm."""
    mask = tube(2.0, push_mm=6.0)
    found, image = measure(mask, template_of(tube(2.0)).template())
    assert image.shape == mask.shape
    np.testing.assert_array_equal(image.affine, mask.affine)
    assert not image.array[~mask.array].any()
    assert float(image.array[mask.array].mean()) == pytest.approx(found.v_norm_mm, abs=0.15)
    assert found.quantiles_mm == tuple(sorted(found.quantiles_mm))


def test_swelling_shows_in_the_jacobian() -> None:
    """A thicker bundle has expanded, a thinner one contracted."""
    healthy = template_of(tube(2.0, radius_mm=6.0)).template()
    thick, thin = (measure(tube(2.0, radius_mm=r), healthy)[0] for r in (8.0, 4.5))
    assert thick.jacobian_mean > 1.15
    assert thin.jacobian_mean < 0.9
    assert thick.jacobian_min > 0


def test_what_a_tumor_destroyed_is_not_taken_for_displacement() -> None:
    """A bite out of a bundle that lies in the tumor's core adds next to nothing; without the core's mask it does."""
    whole = tube(2.0)
    _, points = grid(2.0)
    bite = np.linalg.norm(points - (-36, 0, 0), axis=-1) < 9
    bitten = whole.with_array(whole.array & ~bite)
    healthy = template_of(whole).template()
    looked = measure(bitten, healthy)[0].v_norm_mm
    masked = measure(bitten, healthy, lost=whole.with_array(bite))[0].v_norm_mm
    assert masked < 0.5 * looked


def test_rigid_alignment_is_not_dragged_by_what_is_pushed() -> None:
    """With the middle third pushed by 6 mm, the whole is shifted by less than the mean push, 2.1 mm."""
    motion = align(Surface.of(tube(2.0)), Surface.of(tube(2.0, push_mm=6.0)))
    assert 0 < motion.distance_mm < 2.1


def test_a_template_is_as_large_as_its_controls_and_lies_between_them() -> None:
    """The template has the controls' mean volume and mean place, and leaving one out leaves it out."""
    masks = [tube(2.5, push_mm=push) for push in (-3.0, 0.0, 3.0)]
    controls = template_of(*masks)
    template = controls.template()
    volume = np.mean([mask.array.sum() * mask.voxel_volume_ml for mask in masks])
    assert template.volume_ml == pytest.approx(volume, rel=0.1)
    assert np.argwhere(template.mask.array).mean(axis=0) @ template.mask.affine[:3, :3] == pytest.approx(
        tuple(CENTER_MM - template.mask.affine[:3, 3]),
        abs=1.25,  # half a voxel
    )
    assert controls.template(without="sub-2").n_controls == 2
    assert (controls.mean_mask("sub-2").array != controls.mean_mask().array).any()


def test_the_skeleton_runs_along_the_bundle() -> None:
    """32 points from the posterior to the anterior end, on the center line."""
    points = skeleton_of(tube(2.0))
    assert points.shape == (32, 3)
    assert (np.diff(points[:, 1]) >= -1e-9).all()
    assert np.ptp(points[:, 1]) > 50
    assert np.abs(points[4:28, 0] - CENTER_MM[0]).max() < 1.5


def test_masks_that_are_no_measure_get_a_word() -> None:
    """Empty, tiny and disconnected masks are named so; a whole one is not."""
    whole = tube(2.5)
    empty = whole.with_array(np.zeros_like(whole.array))
    tiny, halves = empty.array.copy(), whole.array.copy()
    tiny[10, 10, 5:10] = True
    halves[:, 14:20] = False
    assert outside_of_use(whole, 5.0) is None
    assert outside_of_use(empty, 5.0) == "empty"
    assert outside_of_use(whole.with_array(tiny), 5.0) == "too_small"
    assert outside_of_use(whole.with_array(halves), 5.0) == "disconnected"


# --- cohorts ---------------------------------------------------------------------------------------------------------


def write(folder: Path, group: str, masks: dict[str, Volume]) -> Cohort:
    for key, mask in masks.items():
        write_image(mask, cohorts.mask_path(folder, key, Bundle.parse("AFleft")))
    rows = pd.DataFrame({"participant_id": list(masks), "group": group, "tumor_side": "n/a"})
    if group == "glioma":
        rows["tumor_side"] = "left"
    cohorts.write_participants(folder, rows)
    return cohorts.load_cohort(folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Cohort]:
    """Four controls that differ a little; patients: pushed, empty, cut in two."""
    root = tmp_path_factory.mktemp("study")
    healthy = {f"sub-h{i}": tube(2.5, push_mm=push) for i, push in enumerate((-1.0, 0.0, 1.0, 2.0))}
    pushed = tube(2.5, push_mm=12.0)
    cut = pushed.array.copy()
    cut[:, 14:20] = False
    patients = {
        "sub-g1": pushed,
        "sub-g2": pushed.with_array(np.zeros_like(cut)),
        "sub-g3": pushed.with_array(cut),
    }
    return write(root / "glioma", "glioma", patients), write(root / "healthy", "control", healthy)


@pytest.fixture(scope="module")
def run(study: tuple[Cohort, Cohort], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    glioma, healthy = study
    words = ["--cohort", str(glioma.root), "--reference", str(healthy.root), "--out", str(out), "--jobs", "1"]
    assert main(["deform", *words, "-q"]) == 0
    return out


def test_a_run_holds_tables_maps_templates_and_figures(run: Path) -> None:
    """Every row is there with a number or a word, tables fit their schemas, and the map is the patient's own."""
    table = read_table(run / "tables" / "deformation.tsv", DEFORMATION).set_index("participant_id")
    assert len(table) == 7
    assert table["status"].to_dict() == {
        **{f"sub-h{i}": "ok" for i in range(4)},
        "sub-g1": "ok",
        "sub-g2": "empty",
        "sub-g3": "disconnected",
    }
    number = table["v_norm_mm"].notna()
    assert (number == (table["status"] == "ok")).all()
    assert table.loc["sub-g1", "side"] == "ipsi"
    assert table.loc["sub-g1", "percentile"] == 100
    assert table.loc["sub-g1", "z"] > 3
    profiles = read_table(run / "tables" / "deformation_profiles.tsv", DEFORMATION_PROFILES)
    assert (profiles.groupby("participant_id").size() == 32).all()
    assert (profiles["v_norm_mm"].notna() == (profiles["status"] == "ok")).all()
    image = read_image(run / "maps" / "sub-g1" / "sub-g1_label-AFleft_desc-vnorm_map.nii.gz")
    assert image.array.max() > table.loc["sub-g1", "v_norm_mm"]
    for name in ("templates/label-AFleft_mask.nii.gz", "figures/deformation.svg", "run.json"):
        assert (run / name).is_file(), name


def test_an_interrupted_run_ends_with_the_same_tables(run: Path, study: tuple[Cohort, Cohort]) -> None:
    """With measurements lost and tables gone, --resume gives the same tables to the byte and keeps what is there."""
    before = {path.name: path.read_bytes() for path in (run / "tables").iterdir()}
    records = sorted((run / "measurements").rglob("*.json"))
    times = {path: path.stat().st_mtime_ns for path in records[1:]}
    records[0].unlink()
    for path in (run / "tables").iterdir():
        path.unlink()
    glioma, healthy = study
    words = ["--cohort", str(glioma.root), "--reference", str(healthy.root), "--out", str(run), "--jobs", "1"]
    assert main(["deform", *words, "--resume", "-q"]) == 0
    assert before == {path.name: path.read_bytes() for path in (run / "tables").iterdir()}
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_folder_in_use_is_refused(
    run: Path, study: tuple[Cohort, Cohort], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --resume nothing is overwritten: exit 2, and the way on is named."""
    assert main(["deform", "--cohort", str(study[0].root), "--reference", str(study[1].root), "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err


def test_too_few_controls_are_refused(study: tuple[Cohort, Cohort]) -> None:
    """Two controls make no healthy range, a name that nobody has is an error, and so is a lattice of 10 mm."""
    glioma, healthy = study
    with pytest.raises(DataError, match="at least 3 controls"):
        deform(glioma, healthy.where(lambda case: case.key < "sub-h2"))
    with pytest.raises(DataError, match="XX"):
        deform(glioma, healthy, bundles=("XX",))
    with pytest.raises(ConfigError, match="1–4 mm"):
        deform(glioma, healthy, spacing_mm=10)


def test_a_damaged_mask_of_a_control_costs_that_control_only(study: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    """The template is made of the others, the control's row says unavailable, and everyone else has a number."""
    glioma, _ = study
    masks = {f"sub-h{i}": tube(2.5, push_mm=push) for i, push in enumerate((-1.0, 0.0, 1.0, 2.0))}
    healthy = write(tmp_path / "healthy", "control", masks)
    next(iter(healthy.cases[0].masks.values())).write_bytes(b"no image")
    result = deform(glioma.where(lambda case: case.key == "sub-g1"), healthy)
    status = result.table.set_index("participant_id")["status"].to_dict()
    assert status == {"sub-h0": "unavailable", "sub-h1": "ok", "sub-h2": "ok", "sub-h3": "ok", "sub-g1": "ok"}
    assert list(result.failed) == ["sub-h0"]


def test_a_damaged_mask_costs_its_participant_only(study: tuple[Cohort, Cohort], tmp_path: Path) -> None:
    """The row says unavailable, the reason is kept, and the run ends with exit code 4."""
    glioma, healthy = study
    broken = write(tmp_path / "glioma", "glioma", {"sub-g9": tube(2.5)})
    next(iter(broken.cases[0].masks.values())).write_bytes(b"no image")
    words = ["--cohort", str(broken.root), "--reference", str(healthy.root), "--out", str(tmp_path / "out")]
    assert main(["deform", *words, "--jobs", "1", "-q"]) == 4
    table = read_table(tmp_path / "out" / "tables" / "deformation.tsv", DEFORMATION)
    assert table.set_index("participant_id").loc["sub-g9", "status"] == "unavailable"
    assert "sub-g9" in (tmp_path / "out" / "logs" / "failed.tsv").read_text()
    assert glioma.root.is_dir()


# --- the healthy range -----------------------------------------------------------------------------------------------


def rows_of(values: dict[str, list[float]]) -> list[dict[str, object]]:
    return [
        {
            "participant_id": f"sub-{group}{index}",
            "cohort": group,
            "group": group,
            "bundle": "AF",
            "hemisphere": "left",
            "side": "n/a" if group == "control" else "ipsi",
            "v_norm_mm": value,
            "profile_mm": [value, float("nan")],
            "status": "ok",
        }
        for group, some in values.items()
        for index, value in enumerate(some)
    ]


def test_controls_are_ranked_among_the_others() -> None:
    """Over many controls of one distribution, left-out percentiles are uniform and z-scores standard."""
    values = np.random.default_rng(0).normal(4, 1, 400).tolist()
    table = with_healthy_range(rows_of({"control": values}), {}).table
    assert table["percentile"].between(0, 100).all()
    assert np.quantile(table["percentile"], [0.1, 0.5, 0.9]) == pytest.approx([10, 50, 90], abs=1.5)
    assert (table["z"].mean(), table["z"].std()) == pytest.approx((0, 1), abs=0.02)


def test_ties_count_half_and_a_missing_place_has_a_status() -> None:
    """A patient like half of the controls lies at the 50th percentile; a point where nothing is left has a word."""
    result = with_healthy_range(rows_of({"control": [1.0, 2.0, 2.0, 3.0], "glioma": [2.0]}), {})
    patient = result.patients.iloc[0]
    assert patient["percentile"] == 50
    assert patient["z"] == pytest.approx(0)
    gone = result.profiles[result.profiles["point"] == 2]
    assert set(gone["status"]) == {"empty"}
    assert gone["v_norm_mm"].isna().all()


def test_controls_that_do_not_vary_give_a_percentile_and_a_word_instead_of_z() -> None:
    """With controls all alike there is no z-score and the row says constant; with too few there is neither number."""
    alike = with_healthy_range(rows_of({"control": [2.0, 2.0, 2.0, 2.0], "glioma": [5.0]}), {})
    patient = alike.patients.iloc[0]
    assert (patient["percentile"], patient["range_status"], patient["status"]) == (100, "constant", "ok")
    assert np.isnan(patient["z"])
    few = with_healthy_range(rows_of({"control": [2.0], "glioma": [5.0]}), {}).patients.iloc[0]
    assert few["range_status"] == "too_few"
    assert np.isnan([few["percentile"], few["z"]]).all()
    for frame in (alike.table, alike.profiles):
        assert (frame["z"].notna() == (frame["range_status"] == "ok")).all()


def test_findings_speak_and_draw() -> None:
    """The claim holds the share beyond the healthy range with its interval; figures have one series a group."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    controls = np.linspace(1.0, 2.5, 30).tolist()
    result = with_healthy_range(rows_of({"control": controls, "glioma": [5.0, 4.0, 3.0, 1.2, 1.1, 1.3]}), {})
    values, profiles = result.findings()
    assert "Of a patient's bundles, 50% [12%, 88%] on the tumor's side lie beyond" in values.claim
    assert "the 95th percentile of 30 controls" in values.claim
    assert "of healthy bundles 6% would by chance" in values.claim
    assert "mean V-Norm, glioma ipsi: 2.60 [" in str(result)
    axes = values.plot()
    assert len(axes.get_legend().get_texts()) == 2
    assert len(axes.containers) == 2  # a mean with its interval a group
    assert profiles.plot().get_ylabel() == "V-Norm [mm]"
    assert "<table" in result._repr_html_()
    plt.close("all")


def test_the_mean_push_is_told_where_there_is_one() -> None:
    """An estimate of the push stands in the claim and among the estimates; one that is not given does not."""
    rows = rows_of({"control": [1.0, 1.5, 2.0, 2.5], "glioma": [5.0, 1.2]})
    push = Estimate(name="tumors' mean push", value=0.4, low=0.1, high=0.7, unit="mm", n=6)
    told = with_healthy_range(rows, {}, push)
    assert "are pushed by 0.40 [0.10, 0.70] mm" in told.findings()[0].claim
    assert told.estimates[-1] == push
    unknown = Estimate(name="tumors' mean push", value=float("nan"), status="too_few")
    assert "pushed by" not in with_healthy_range(rows, {}, unknown).findings()[0].claim


def test_few_controls_make_no_percentile() -> None:
    """With 9 controls the claim says so, and that a tenth of healthy people would lie beyond all of them."""
    result = with_healthy_range(rows_of({"control": list(range(9)), "glioma": [20.0, 3.0]}), {})
    assert "lie further than any of 9 controls" in result.findings()[0].claim
    assert "of healthy bundles 10% would by chance" in result.findings()[0].claim
    assert set(result.patients["n_controls"]) == {9}


def test_the_share_by_chance_is_what_healthy_people_show() -> None:
    """Patients of the controls' own distribution lie beyond as often as the claim says: 10 controls, and 40."""
    rng = np.random.default_rng(1)
    for n, chance in ((10, 1 / 11), (40, 2 / 41)):
        draws = [
            pd.DataFrame({"group": ["control"] * n + ["glioma"] * 40, "v_norm_mm": rng.normal(size=n + 40)})
            for _ in range(60)
        ]
        frame = pd.concat([one.assign(draw=index, status="ok") for index, one in enumerate(draws)], ignore_index=True)
        patients = ranked(frame, ["draw"]).query("group == 'glioma'")
        assert (patients["percentile"] > 95).mean() == pytest.approx(chance, abs=0.02)


def test_legends_cover_no_data() -> None:
    """Legends of both figures lie above the axes, on a wide and on a narrow page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from shiftkit.style import COLUMN_MM, styled

    result = with_healthy_range(rows_of({"control": [1.0, 1.5, 2.0, 2.5], "glioma": [5.0, 1.2]}), {})
    with styled():
        for finding in result.findings():
            for width_mm in COLUMN_MM.values():
                figure, axes = plt.subplots(figsize=(width_mm / 25.4, 3.3), layout="constrained")
                finding.plot(axes)
                figure.canvas.draw()
                box = axes.get_legend().get_window_extent()
                assert box.y0 >= axes.get_window_extent().y1 - 1
                assert box.x1 <= figure.bbox.x1 + 1
    plt.close("all")


# --- real and rendered anatomy ---------------------------------------------------------------------------------------


def test_patients_displacement_is_ranked_rightly() -> None:
    """Phantom patients at 2.5 mm against their own masks without tumor: V-Norm ranks as the push does."""
    from scipy import stats

    from shiftkit.phantoms import render
    from shiftkit.phantoms.people import draw_person

    affine, shape = render.grid(2.5)
    measured, true = [], []
    for key in ("sub-g002", "sub-g003", "sub-g008", "sub-g011"):
        person = draw_person(3, key, True)
        assert person.tumor is not None
        bundle = Bundle.parse(f"FAT{person.tumor.side}")
        clean, pushed = (
            Volume(
                array=render.bundle_population(bundle, person, None, affine, shape, tumor).mask(0.18, shape),
                affine=affine,
            )
            for tumor in (False, True)
        )
        core = render.tumor_masks(person, affine, shape)["core"]
        measured.append(measure_against_own(pushed, clean, lost=core)[0].v_norm_mm)
        points = np.argwhere(clean.array) * 2.5 + affine[:3, 3]
        true.append(float(np.linalg.norm(person.tumor.push.to_participant(points) - points, axis=1).mean()))
    assert stats.spearmanr(measured, true).statistic > 0.75


def test_left_bundles_of_a_population_against_mirrored_right_ones(shared_data: Path) -> None:
    """Left and mirrored right maps differ in size and course: overlap grows by much, nothing folds."""
    for name in ("AF", "FAT", "ILF"):
        left, right = (read_image(shared_data / "hcp1065" / f"{name}_{side}.nii.gz") for side in ("left", "right"))
        mirror = np.diag([-1.0, 1, 1, 1])
        masks = [  # counts of streamlines have holes
            Volume(array=ndimage.binary_closing(one.array > 0, iterations=4), affine=affine)
            for one, affine in ((left, left.affine), (right, mirror @ right.affine))
        ]
        found, image = measure(masks[0], template_of(masks[1]).template())
        assert 1 < found.v_norm_mm < 12
        assert found.dice_after > found.dice_before + 0.2
        assert found.jacobian_min > 0
        assert image.array.max() < 30


def test_the_public_function_takes_paths(study: tuple[Cohort, Cohort]) -> None:
    """`sk.deform` needs names or paths only, and refuses a reference without controls."""
    glioma, healthy = study
    with pytest.raises(DataError, match="must hold controls"):
        sk.deform(str(healthy.root), reference=str(glioma.root))
