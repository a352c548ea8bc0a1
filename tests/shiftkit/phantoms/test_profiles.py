from pathlib import Path

import numpy as np
import pytest

from shiftkit.errors import ConfigError
from shiftkit.phantoms import acquisition
from shiftkit.phantoms.acquisition import draw_pose, load_profile
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
    """The target scan is noisier, blurrier and less sure of its directions than the source scan."""
    source, target = load_profile("source"), load_profile("target")
    assert target.noise > source.noise
    assert target.peak_angle_deg > source.peak_angle_deg
    assert max(target.blur_mm) > max(source.blur_mm) == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (SOURCE + "nois = 1\n", "nois"),
        (SOURCE.replace("noise = 0.02", ""), "noise"),
        (SOURCE.replace("noise = 0.02", 'noise = "much"'), "much"),
        (SOURCE.replace("[0.0, 0.0, 0.0]", "[0.0, 0.0]"), "blur_mm"),
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
    pose = draw_pose(load_profile("target"), np.random.default_rng(4))
    relative = pose.warp.forward - pose.offset_mm
    assert np.abs(relative[..., [0, 2]]).max() < 1e-9
    assert np.abs(relative[..., 1]).max() > 1.0
    assert jacobian(pose.warp.forward).min() > 0
