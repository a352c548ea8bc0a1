import dataclasses
from pathlib import Path

import numpy as np
import pytest

from shiftkit.errors import ConfigError
from shiftkit.phantoms import acquisition
from shiftkit.phantoms.acquisition import draw_pose, load_profile, measure_peaks
from shiftkit.phantoms.people import Person, draw_person
from shiftkit.phantoms.render import render
from shiftkit.phantoms.warp import jacobian

SOURCE = (Path(acquisition.__file__).parent / "profiles" / "source.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def person() -> Person:
    return draw_person(1, "sub-h001", False)


def edited(folder: Path, key: str, value: str) -> Path:
    lines = [f"{key} = {value}" if line.startswith(f"{key} ") else line for line in SOURCE.splitlines()]
    path = folder / f"{key}.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_shipped_profiles_are_read_and_differ() -> None:
    """From source to severe, scans get noisier, blurrier and less sure of directions, and tumors larger."""
    source, mild, moderate, severe = (load_profile(name) for name in acquisition.PROFILES)
    for better, worse in ((source, mild), (mild, moderate), (moderate, severe)):
        assert worse.noise >= better.noise and worse.peak_angle_deg >= better.peak_angle_deg
        assert worse.blur_mm >= better.blur_mm and worse.merged_deg >= better.merged_deg
    assert mild.peak_angle_deg > source.peak_angle_deg and severe.peak_angle_deg > moderate.peak_angle_deg
    assert mild.gliomas.volume_ml < moderate.gliomas.volume_ml < severe.gliomas.volume_ml


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SOURCE + "nois = 1\n", "nois"),
        (SOURCE.replace("noise = 0.02", ""), "noise"),
        (SOURCE.replace("noise = 0.02", 'noise = "much"'), "much"),
        (SOURCE.replace("[0.0, 0.0, 0.0]", "[0.0, 0.0]"), "blur_mm"),
        (SOURCE + "[gliomas]\nmas = [0, 1]\n", "mas"),
        (SOURCE + "[gliomas]\nmass = 0.5\n", "mass"),
        ("gliomas = 1\n" + SOURCE, "gliomas"),
        ("noise = = 1", "cannot be read"),
        (SOURCE.replace("noise = 0.02", "noise = nan"), "noise must lie"),
        (SOURCE.replace("noise = 0.02", "noise = -0.1"), "noise must lie"),
        (SOURCE.replace("offset_mm = 0.5", "offset_mm = inf"), "offset_mm must lie"),
        (SOURCE.replace("[0.0, 0.0, 0.0]", "[0.0, nan, 0.0]"), "blur_mm must lie"),
        (SOURCE.replace("fa_scale = 1.0", "fa_scale = 1e30"), "fa_scale must lie"),
        ("a = " + "[" * 100_000, "nested too deep"),
    ],
)
def test_faulty_profiles_are_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    """Unknown and missing keys, wrong types, values that no scan has and broken TOML are refused by name."""
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        load_profile(path)


def test_a_missing_profile_is_refused(tmp_path: Path) -> None:
    """A path without a file is refused, whether given as text or as a path."""
    for path in (tmp_path / "none.toml", str(tmp_path / "none.toml")):
        with pytest.raises(ConfigError, match="none"):
            load_profile(path)


def test_noise_does_what_it_says(tmp_path: Path, person: Person) -> None:
    """Eight times the noise departs more from the noiseless image; nothing but noise changes."""
    images = [
        render(person, load_profile(edited(tmp_path, "noise", value)), np.random.default_rng(0), 4.0)
        for value in ("0.0", "0.01", "0.08")
    ]
    clean, some, much = (one.images["t1w"].array for one in images)
    assert 4 < np.std(much - clean) / np.std(some - clean) < 12
    assert all((images[0].masks[b].array == images[2].masks[b].array).all() for b in images[0].masks)


def test_label_style_thickens_and_thins(tmp_path: Path, person: Person) -> None:
    """Thicker masks hold the usual ones, which hold the thinner ones; images do not change."""
    thin, usual, thick = (
        render(person, load_profile(edited(tmp_path, "label_style", value)), np.random.default_rng(0), 4.0)
        for value in ("-1.0", "0.0", "1.0")
    )
    for bundle, mask in usual.masks.items():
        assert not (thin.masks[bundle].array & ~mask.array).any()
        assert not (mask.array & ~thick.masks[bundle].array).any()
        assert thin.masks[bundle].array.sum() < mask.array.sum() < thick.masks[bundle].array.sum()
    assert (thin.images["peaks"].array == thick.images["peaks"].array).all()


def test_angular_error_does_what_it_says(tmp_path: Path, person: Person) -> None:
    """Leading peaks of a blunter scan turn away from a sharp scan's by about the degrees that the profile says."""
    sharp = load_profile(edited(tmp_path, "peak_angle_deg", "0.0"))
    clear = edited(tmp_path, "peak_angle_deg", "10.0")
    made = [render(person, profile, np.random.default_rng(0), 4.0) for profile in (sharp, load_profile(clear))]
    first, second = (one.images["peaks"].array[..., :3] for one in made)
    strong = np.linalg.norm(first, axis=-1) > 0.7
    cosine = np.abs((first * second).sum(-1)) / np.maximum(
        np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1), 1e-6
    )
    angle = np.degrees(np.arccos(np.clip(cosine[strong], 0, 1)))
    assert 5 < np.sqrt((angle**2).mean()) < 15


def test_distortion_is_along_y_and_never_folds() -> None:
    """Echo-planar distortion moves tissue along the phase-encoding axis only, without folding."""
    pose = draw_pose(load_profile("mild"), np.random.default_rng(4))
    relative = pose.warp.forward - pose.offset_mm
    assert np.abs(relative[..., [0, 2]]).max() < 1e-9
    assert np.abs(relative[..., 1]).max() > 1.0
    assert jacobian(pose.warp.forward).min() > 0


def test_scans_of_one_profile_vary(person: Person) -> None:
    """Some people lie still, others do not: over scans the factor has mean 1 and the profile's standard deviation."""
    moderate = load_profile("moderate")
    noise = np.array([moderate.draw_scan(np.random.default_rng(i)).noise for i in range(400)]) / moderate.noise
    assert noise.mean() == pytest.approx(1, abs=0.08)
    assert noise.std() == pytest.approx(moderate.variation, abs=0.08)
    assert load_profile("source").draw_scan(np.random.default_rng(0)) == load_profile("source")


def test_a_head_is_turned_by_the_degrees_that_are_drawn() -> None:
    """Misalignment alone is a rotation: distances stay to 1 percent, and the mean angle is that of the profile."""
    turned = dataclasses.replace(load_profile("source"), rotation_deg=5.0, offset_mm=0.0)
    angles: list[float] = []
    for seed in range(40):
        points = np.random.default_rng(1).uniform((-40, -60, -30), (40, 20, 50), (50, 3))
        moved = draw_pose(turned, np.random.default_rng(seed)).warp.to_participant(points)
        before, after = (one - one.mean(axis=0) for one in (points, moved))
        assert np.linalg.norm(after, axis=1) == pytest.approx(np.linalg.norm(before, axis=1), rel=0.01)
        u, _, v = np.linalg.svd(before.T @ after)
        angles.append(float(np.degrees(np.arccos((np.trace(u @ v) - 1) / 2))))
    assert np.sqrt(np.mean(np.square(angles)) / 3) == pytest.approx(5.0, rel=0.2)


def test_age_widens_ventricles() -> None:
    """Twenty years add 10 ml inside the brain, mostly by moving walls of ventricles, the cortex less; nothing folds."""
    profile = dataclasses.replace(load_profile("source"), aging=1.0, offset_mm=0.0)
    warp = draw_pose(profile, np.random.default_rng(0), 56).warp
    wall, cortex = np.array([[22.0, 0, 20]]), np.array([[60.0, 0, 20]])
    grown = [float((warp.to_participant(one) - one)[0, 0]) for one in (wall, cortex)]
    assert 0.5 < grown[0] < 6 and 0 <= grown[1] < 0.3 * grown[0]
    assert (jacobian(warp.forward)[4:-4, 4:-4, 4:-4] - 1).sum() * 0.125 == pytest.approx(10, rel=0.15)
    assert jacobian(warp.forward).min() > 0


def test_a_blunt_scan_merges_crossings(tmp_path: Path, person: Person) -> None:
    """Where directions under 60 degrees apart are one peak, fewer voxels have a second one."""
    made = [
        render(person, load_profile(edited(tmp_path, "merged_deg", value)), np.random.default_rng(0), 4.0)
        for value in ("30.7", "60.0")
    ]
    sharp, blunt = ((np.linalg.norm(one.images["peaks"].array[..., 3:6], axis=-1) > 0.25).sum() for one in made)
    assert blunt < 0.9 * sharp


def test_errors_of_peaks_are_there_with_and_without_a_blur() -> None:
    """A blur of nearly nothing changes nothing: angular errors and false peaks reach the images of thick slices too."""
    rng = np.random.default_rng(0)
    inside = np.zeros((14, 12, 10), dtype=bool)
    inside[2:-2, 2:-2, 2:-2] = True
    peaks = (rng.standard_normal((*inside.shape, 3, 3)) * inside[..., None, None]).astype(np.float32)
    sharp = dataclasses.replace(load_profile("severe"), blur_mm=(0.0, 0.0, 0.0))
    barely = dataclasses.replace(sharp, blur_mm=(1e-3, 1e-3, 1e-3))
    one, other = (measure_peaks(peaks, inside, scan, 2.0, np.random.default_rng(1)) for scan in (sharp, barely))
    assert np.abs(one - sharp.peak_scale * peaks)[inside].mean() > 0.1
    np.testing.assert_allclose(one, other, atol=1e-6)
