import dataclasses
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from makers.segmentation import BUNDLES, PATCH, SHAPE, Counting, MakeModel
from torch import nn

from shiftkit import cohorts
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.images import read_image, write_image
from shiftkit.segmentation.prediction import inference
from shiftkit.segmentation.prediction.inference import Passage, each_case, infer, logits, predict_probabilities
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.segmentation.samples.warping import mirror
from shiftkit.types import Bundle, Case, Cohort, Volume
from shiftkit.work import Work


def reoriented(case: Case, root: Path, codes: str) -> Case:
    """The same images with voxel axes in another order and direction."""
    images: dict[str, Path] = {}
    for modality, path in case.images.items():
        image = nib.Nifti1Image.from_filename(path)
        start = nib.orientations.io_orientation(image.affine)
        turn = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
        images[modality] = cohorts.image_path(root, case.key, modality)
        images[modality].parent.mkdir(parents=True, exist_ok=True)
        nib.save(image.as_reoriented(turn), images[modality])
        if modality == "peaks":
            cohorts.write_peaks_sidecar(images[modality])
    return dataclasses.replace(case, images=images)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PIR", "SLA"])
@pytest.mark.parametrize("modality", ["fa", "peaks"])
def test_axis_order_does_not_matter(
    controls: Cohort, make_model: MakeModel, tmp_path: Path, codes: str, modality: str
) -> None:
    """However an image is stored, the same place in the world gets the same probability."""
    model = make_model(modality=modality)
    case = controls.cases[0]
    plain = predict_probabilities(model, case)
    turned = predict_probabilities(model, reoriented(case, tmp_path, codes))
    for bundle in BUNDLES:
        one = nib.as_closest_canonical(nib.Nifti1Image(plain[bundle].array, plain[bundle].affine))
        two = nib.as_closest_canonical(nib.Nifti1Image(turned[bundle].array, turned[bundle].affine))
        np.testing.assert_allclose(one.affine, two.affine, atol=1e-5)
        np.testing.assert_allclose(one.get_fdata(), two.get_fdata(), atol=1e-4)


def test_signs_of_peaks_do_not_matter(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """A peak and its opposite are the same fiber; software that writes the other sign gets the same masks."""
    case = controls.cases[0]
    peaks = read_image(case.images["peaks"])
    signs = np.random.default_rng(0).choice([-1, 1], (*peaks.shape, 3, 1))
    path = tmp_path / "peaks.nii.gz"
    write_image(peaks.with_array((peaks.array.reshape(*peaks.shape, 3, 3) * signs).reshape(peaks.array.shape)), path)
    cohorts.write_peaks_sidecar(path)
    flipped = dataclasses.replace(case, images={"peaks": path})
    model = make_model(modality="peaks")
    one, two = predict_probabilities(model, case), predict_probabilities(model, flipped)
    for bundle in BUNDLES:
        np.testing.assert_allclose(one[bundle].array, two[bundle].array, atol=1e-5)


def test_nan_in_peaks_is_survived(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Tools write NaN where there is no peak; the prediction is that for zeros."""
    case = controls.cases[0]
    peaks = read_image(case.images["peaks"])
    path = tmp_path / "peaks.nii.gz"
    write_image(peaks.with_array(np.where(peaks.array == 0, np.nan, peaks.array)), path)
    cohorts.write_peaks_sidecar(path)
    model = make_model(modality="peaks")
    holed = predict_probabilities(model, dataclasses.replace(case, images={"peaks": path}))
    for bundle, volume in predict_probabilities(model, case).items():
        assert np.isfinite(holed[bundle].array).all()
        np.testing.assert_array_equal(holed[bundle].array, volume.array)


def test_intensity_scale_does_not_matter(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Scanners differ in units: an image times any factor gives the same masks."""
    case = controls.cases[0]
    image = read_image(case.images["fa"])
    path = tmp_path / "fa.nii.gz"
    write_image(image.with_array(image.array * 730), path)
    one = predict_probabilities(make_model(), case)
    two = predict_probabilities(make_model(), dataclasses.replace(case, images={"fa": path}))
    for bundle in BUNDLES:
        np.testing.assert_allclose(one[bundle].array, two[bundle].array, atol=1e-4)


def test_wrong_channels_and_spacing_end_with_a_mismatch(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """The message names the channel count or the spacing (exit code 5)."""
    case = controls.cases[0]
    image = read_image(case.images["fa"])
    path = tmp_path / "fa.nii.gz"
    write_image(image.with_array(np.stack([image.array] * 2, axis=-1)), path)
    with pytest.raises(ModelMismatchError, match=r"1 channel.* has 2"):
        predict_probabilities(make_model(), dataclasses.replace(case, images={"fa": path}))
    write_image(Volume(array=image.array, affine=np.diag([6.0, 6, 6, 1])), path)
    with pytest.raises(ModelMismatchError, match="6 × 6 × 6 mm"):
        predict_probabilities(make_model(), dataclasses.replace(case, images={"fa": path}))


def test_ensembles_average_probabilities(controls: Cohort, make_model: MakeModel) -> None:
    """Several models give the mean of what each gives; models that differ in bundles are refused."""
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    models = [make_model(seed=seed) for seed in range(3)]
    mean = np.mean([infer([model], sample) for model in models], axis=0)
    np.testing.assert_allclose(infer(models, sample), mean, atol=1e-6)
    other = make_model(bundles=(Bundle.parse("CC"),))
    with pytest.raises(ModelMismatchError, match="bundles"):
        predict_probabilities([models[0], other], controls.cases[0])


def test_mirrored_inference_commutes_with_mirroring(controls: Cohort, make_model: MakeModel) -> None:
    """Averaged over mirror images, a mirrored brain gets the mirrored prediction with sides swapped."""
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    model = make_model()
    plain = infer([model], sample, mirrored=True)
    flipped = infer([model], mirror(sample), mirrored=True)
    np.testing.assert_allclose(flipped[::-1, ::-1], plain, atol=1e-5)
    assert np.abs(infer([model], sample) - plain).max() > 1e-3
    with pytest.raises(ConfigError, match="both sides"):
        infer([make_model(bundles=BUNDLES[:1])], sample, mirrored=True)


WINDOWS = [(8, 8, 8), (16, 12, 8), (24, 8, 12), (20, 24, 16), (4, 16, 16)]


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_of_a_local_network_give_the_whole(window: tuple[int, int, int]) -> None:
    """A network that looks at one voxel at a time, coordinates included, says the same in windows as at once."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(4, 6, 1), nn.ReLU(), nn.Conv3d(6, 2, 1))
    image = torch.randn(1, 4, 24, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(logits(network, image, window), logits(network, image), atol=1e-5, rtol=1e-5)


class Ones(nn.Module):
    """Says one everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One logit a voxel and bundle."""
        return torch.ones_like(image[:, :2]) * self.one


@pytest.mark.parametrize("window", WINDOWS)
def test_weights_of_windows_sum_to_one(window: tuple[int, int, int]) -> None:
    """Where every window says one, every voxel gets one: none is left out and none counts twice."""
    with torch.no_grad():
        made = logits(Ones(), torch.zeros(1, 4, 24, 24, 16), window)
    assert made.shape == (1, 2, 24, 24, 16)
    torch.testing.assert_close(made, torch.ones_like(made), atol=1e-6, rtol=0)


class Mean(nn.Module):
    """Says everywhere what the window's mean is."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """One logit a voxel."""
        return image[:, :1].mean(dim=(2, 3, 4), keepdim=True).expand_as(image[:, :1]) * self.one


def test_windows_are_weighted_by_a_gaussian() -> None:
    """Where windows disagree, each counts by exp(-d²/2σ²), d from its middle, σ an eighth of it, 0.001 at least."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 4, 24, 12, 8)).astype(np.float32)
    with torch.no_grad():
        made = logits(Mean(), torch.from_numpy(image), (8, 12, 8))[0, 0].numpy()
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in (8, 12, 8)]
    weight = np.clip(np.einsum("i,j,k->ijk", *axes), 1e-3, None)
    total, weights = np.zeros((24, 12, 8)), np.zeros((24, 12, 8))
    for start in (0, 4, 8, 12, 16):
        total[start : start + 8] += weight * image[0, 0, start : start + 8].mean()
        weights[start : start + 8] += weight
    np.testing.assert_allclose(made, total / weights, atol=1e-5)


def test_a_window_as_large_as_the_box_is_the_whole_box(controls: Cohort, make_model: MakeModel) -> None:
    """To the bit."""
    model = make_model()
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    assert np.array_equal(infer([model], sample, window=SHAPE), infer([model], sample))


def test_no_more_than_a_window_is_computed_at_once(controls: Cohort, make_model: MakeModel) -> None:
    """The network never sees more than one window, windows overlap by half, and the output is gathered on the CPU."""
    network = Counting(make_model().network)
    image = torch.from_numpy(load_sample(controls.cases[0], "fa", 2.5, SHAPE).image)[None]
    with torch.inference_mode():
        made = logits(network, image, PATCH)
    assert set(network.seen) == {(1, 4, *PATCH)}
    assert len(network.seen) == 2 * 3 * 3  # steps of 8, 6 and 4 voxels through 24 × 24 × 16
    assert made.device.type == "cpu" and made.dtype == torch.float32


def test_a_model_of_patches_predicts_in_windows_of_them(controls: Cohort, make_model: MakeModel) -> None:
    """Without being told; any other window, the whole box included, can be asked for, and gives another answer."""
    whole = make_model()
    patched = dataclasses.replace(whole, patch=PATCH)
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    own = infer([patched], sample)
    assert np.array_equal(own, infer([whole], sample, window=PATCH))
    assert np.array_equal(infer([patched], sample, window=SHAPE), infer([whole], sample))
    assert np.abs(own - infer([whole], sample)).max() > 1e-3
    both = infer([whole, patched], sample)
    np.testing.assert_allclose(both, (own + infer([whole], sample)) / 2, atol=1e-6)


def test_windows_and_mirror_images_go_together(controls: Cohort, make_model: MakeModel) -> None:
    """Averaged over mirror images in windows, a probability is a probability and differs from the plain one."""
    model = dataclasses.replace(make_model(), patch=PATCH)
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE)
    made = infer([model], sample, mirrored=True)
    assert made.min() >= 0 and made.max() <= 1
    assert np.abs(made - infer([model], sample)).max() > 1e-3


def test_reading_and_writing_overlap_with_computing(
    controls: Cohort, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first case is computed the next is read, while the next is computed the first is written; in order."""
    monkeypatch.setattr(inference, "helper_threads", lambda most: 1)
    first, second, third = (case.key for case in controls.cases[:3])
    next_is_read, first_is_written = threading.Event(), threading.Event()
    order: list[tuple[int, int, str]] = []

    def look(case: Case) -> str:
        if case.key == second:
            next_is_read.set()
        return case.key

    def compute(case: Case, item: str) -> str:
        if case.key == first:
            assert next_is_read.wait(10)
        if case.key == second:
            assert first_is_written.wait(10)
        return item + "!"

    written: list[str] = []

    def write(case: Case, made: str) -> None:
        written.append(made)
        first_is_written.set()

    passage = Passage(read=look, compute=compute, write=write)
    work = Work(progress=lambda *call: order.append(call))
    assert each_case([make_model()], controls.cases[:3], passage, "cpu", work, "Looking") == {}
    assert written == [f"{key}!" for key in (first, second, third)]
    assert order == [(done, 3, "Looking") for done in (1, 2, 3)]


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_the_threads_change_nothing(
    controls: Cohort, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Who fails, with what, and what is left out do not depend on how many threads help."""
    monkeypatch.setattr(inference, "helper_threads", lambda most: threads)
    bad_to_read, bad_to_write, nothing_to_do = (controls.cases[number].key for number in (1, 3, 4))
    done: list[str] = []

    def read(case: Case) -> str | None:
        if case.key == bad_to_read:
            raise DataError("unreadable")
        return None if case.key == nothing_to_do else case.key

    def write(case: Case, made: str) -> None:
        if case.key == bad_to_write:
            raise ModelMismatchError("unwritable")
        done.append(made)

    passage = Passage(read=read, compute=lambda case, item: item, write=write)
    failed = each_case([make_model()], controls.cases, passage, "cpu", Work(), "Looking")
    assert failed == {bad_to_read: "unreadable", bad_to_write: "unwritable"}
    assert sorted(done) == sorted(case.key for case in controls if case.key not in (*failed, nothing_to_do))
    with pytest.raises(DataError, match="unreadable"):
        each_case([make_model()], controls.cases[1:2], passage, "cpu", Work(), "Looking")
    with pytest.raises(RuntimeError, match="disk"):  # what is not one participant's alone ends all
        full = dataclasses.replace(passage, write=lambda case, made: _full())
        each_case([make_model()], controls.cases, full, "cpu", Work(), "Looking")


def _full() -> None:
    raise RuntimeError("disk")
