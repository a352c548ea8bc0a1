from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shiftkit.cohorts.folder import image_path, load_cohort, write_participants
from shiftkit.cohorts.peaks import frame_rotation, load_peaks
from shiftkit.cohorts.preparation import prepare
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image, write_image
from shiftkit.types import Cohort, Volume


def oblique(handed: int) -> np.ndarray:
    """An affine turned by 25° about z and 15° about x, in either handedness."""
    a, b = np.deg2rad(25), np.deg2rad(15)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([2.0 * handed, 2, 2])
    return affine


def write_raw(root: Path, key: str, affine: np.ndarray, fiber: np.ndarray, directions: int = 64) -> None:
    """A block of fibers that run along ``fiber`` (world axes) beside free water, b-vectors in FSL's convention."""
    from dipy.data import get_sphere

    world = get_sphere(name="repulsion100").vertices[:directions]
    bvals = np.r_[0, 0, np.full(len(world), 1000.0)]
    along = np.r_[[0, 0], (world @ fiber) ** 2]
    signal = 1000 * np.exp(-bvals[None] * (0.2e-3 + 1.5e-3 * along))
    water = 1000 * np.exp(-bvals * 2.5e-3)
    rng = np.random.default_rng(3)
    data = np.where(np.arange(6)[:, None, None, None] < 4, signal, water) + rng.normal(0, 2, (6, 6, 6, len(bvals)))
    folder = root / key / "dwi"
    write_image(Volume(array=data.astype(np.float32), affine=affine), folder / f"{key}_dwi.nii.gz")
    write_image(Volume(array=np.ones((6, 6, 6), dtype=bool), affine=affine), folder / f"{key}_desc-brain_mask.nii.gz")
    bvecs = np.r_[np.zeros((2, 3)), world @ frame_rotation(affine, "bvec")]
    np.savetxt(folder / f"{key}_dwi.bval", bvals[None], fmt="%g")
    np.savetxt(folder / f"{key}_dwi.bvec", bvecs.T, fmt="%.8f")


def cohort_of(root: Path, *keys: str) -> Cohort:
    write_participants(root, pd.DataFrame({"participant_id": list(keys), "group": "control"}))
    return load_cohort(root)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    root = tmp_path_factory.mktemp("dwi")
    fiber = np.array([0.8, 0.5, 0.33])
    fiber /= np.linalg.norm(fiber)
    write_raw(root, "sub-l", oblique(-1), fiber)
    write_raw(root, "sub-r", oblique(1), fiber)
    made = prepare(cohort_of(root, "sub-l", "sub-r"))
    assert made.failed == {} and made.written == 6
    return root, fiber


@pytest.mark.parametrize("key", ["sub-l", "sub-r"])
def test_peaks_are_in_world_axes(prepared: tuple[Path, np.ndarray], key: str) -> None:
    """The strongest peak runs along the fibers in world RAS+, from oblique grids of either handedness."""
    root, fiber = prepared
    peaks = load_peaks(load_cohort(root)[key]).array[:4, ..., :3]
    unit = peaks / np.linalg.norm(peaks, axis=-1, keepdims=True)
    angle = np.rad2deg(np.arccos(np.clip(np.abs(unit @ fiber), 0, 1)))
    assert np.median(angle) < 6  # half the distance between neighbors on the sphere of candidate directions


def test_maps_tell_fibers_from_water(prepared: tuple[Path, np.ndarray]) -> None:
    """FA is near that of the simulated tensor in fibers and near 0 in water; anisotropic power is higher in fibers."""
    root, _ = prepared
    fa = read_image(image_path(root, "sub-r", "fa")).array
    ap = read_image(image_path(root, "sub-r", "ap")).array
    lengths = np.array([1.7, 0.2, 0.2])
    expected = np.sqrt(1.5 * ((lengths - lengths.mean()) ** 2).sum() / (lengths**2).sum())
    assert abs(fa[:4].mean() - expected) < 0.02
    assert fa[4:].mean() < 0.1
    assert ap[:4].mean() > ap[4:].mean() + 0.5


def test_preparing_again_makes_only_what_is_missing(prepared: tuple[Path, np.ndarray]) -> None:
    """Maps that are there are kept; a missing one is made again with the same voxels."""
    root, _ = prepared
    path = image_path(root, "sub-l", "ap")
    before, kept = path.read_bytes(), image_path(root, "sub-l", "fa").stat().st_mtime_ns
    path.unlink()
    again = prepare(load_cohort(root))
    assert again.written == 1
    assert path.read_bytes() == before
    assert image_path(root, "sub-l", "fa").stat().st_mtime_ns == kept


def test_bad_gradients_fail_one_participant_only(tmp_path: Path) -> None:
    """A participant whose b-vectors do not fit is named with the reason; the others are prepared."""
    write_raw(tmp_path, "sub-a", np.diag([-2.0, 2, 2, 1]), np.array([1.0, 0, 0]), directions=20)
    write_raw(tmp_path, "sub-b", np.diag([-2.0, 2, 2, 1]), np.array([1.0, 0, 0]), directions=20)
    (tmp_path / "sub-b" / "dwi" / "sub-b_dwi.bval").write_text("0 0 1000\n")
    made = prepare(cohort_of(tmp_path, "sub-a", "sub-b"), maps=("fa",))
    assert set(made.failed) == {"sub-b"} and "b-values" in made.failed["sub-b"]
    assert made.cohort["sub-a"].images.keys() == {"fa"}


def test_what_cannot_be_prepared_is_refused(tmp_path: Path) -> None:
    """A cohort without raw diffusion images, or an unknown map, is refused with its own error."""
    (tmp_path / "sub-a").mkdir()
    cohort = cohort_of(tmp_path, "sub-a")
    with pytest.raises(DataError, match="dwi"):
        prepare(cohort)
    with pytest.raises(ConfigError, match="md"):
        prepare(cohort, maps=("md",))
