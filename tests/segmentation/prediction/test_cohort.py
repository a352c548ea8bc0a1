import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from makers.segmentation import BUNDLES, SHAPE

from shiftkit import cohorts
from shiftkit.errors import ConfigError, DataError, ModelMismatchError
from shiftkit.images import read_image, read_mask, write_image
from shiftkit.segmentation.network.checkpoints import Model
from shiftkit.segmentation.prediction.calibration import (
    ABSTAIN_BELOW,
    GRID,
    choose_thresholds,
    confidence,
    measure_overconfidence,
)
from shiftkit.segmentation.prediction.cohort import predict, read_predictions
from shiftkit.segmentation.prediction.inference import infer, predict_probabilities
from shiftkit.segmentation.samples.samples import canonical_peaks, load_sample, to_own_grid
from shiftkit.segmentation.samples.warping import mirror
from shiftkit.types import Bundle, Case, Cohort, Volume
from shiftkit.work import Work

MakeModel = Callable[..., Model]


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


def test_predictions_lie_on_the_participants_own_grid(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Masks and probabilities have each image's shape, affine and axis order, LPS here."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    assert [case.key for case in made.cohort] == [case.key for case in controls] and not made.failed
    for case, source in zip(made.cohort, controls, strict=True):
        image = read_image(source.images["fa"])
        assert image.orientation == "LPS"
        for bundle in BUNDLES:
            probability, mask = read_image(case.probabilities[bundle]), read_mask(case.masks[bundle])
            for volume in (probability, mask):
                assert volume.shape == image.shape
                np.testing.assert_allclose(volume.affine, image.affine, atol=1e-5)
            assert probability.array.min() >= 0 and probability.array.max() <= 1
            near = np.abs(probability.array - 0.5) > 1 / 255
            assert np.array_equal(mask.array[near], probability.array[near] >= 0.5)


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


def test_the_way_to_the_model_grid_and_back_is_exact(controls: Cohort) -> None:
    """At the model's own spacing nothing is interpolated: a mask comes back to the bit."""
    case = controls.cases[0]
    sample = load_sample(case, "fa", 2.5, SHAPE, BUNDLES)
    assert sample.target is not None
    for channel, bundle in zip(sample.target, BUNDLES, strict=True):
        back = to_own_grid(channel.astype(np.float32), sample)
        assert np.array_equal(back.array > 0.5, read_mask(case.masks[bundle]).array)


def test_model_grid_runs_from_left_to_right(controls: Cohort) -> None:
    """On the model's grid the first axis runs to the right: the left bundle lies in its lower half."""
    sample = load_sample(controls.cases[0], "fa", 2.5, SHAPE, BUNDLES)
    assert sample.target is not None
    assert np.argwhere(sample.target[0])[:, 0].mean() < SHAPE[0] / 2 < np.argwhere(sample.target[1])[:, 0].mean()
    assert np.linalg.det(sample.affine[:3, :3]) > 0 and (np.diag(sample.affine)[:3] == 2.5).all()


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


def test_canonical_peaks_take_nan_and_empty_images() -> None:
    """NaN becomes a voxel without a peak, and an image without any peak stays empty."""
    peaks = np.zeros((3, 3, 3, 9), np.float32)
    assert not canonical_peaks(peaks).any()
    peaks[1, 1, 1] = np.nan
    peaks[0, 0, 0, :3] = [0.2, 0.1, -0.7]
    made = canonical_peaks(peaks)
    assert np.isfinite(made).all()
    np.testing.assert_allclose(made[0, 0, 0, :3], [-0.2, -0.1, 0.7])


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


def test_a_failed_case_does_not_stop_the_others(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """A participant without the modality is reported with the reason; all others are segmented."""
    bare = dataclasses.replace(controls.cases[1], images={"peaks": controls.cases[1].images["peaks"]})
    mixed = dataclasses.replace(controls, cases=(controls.cases[0], bare, *controls.cases[2:]))
    made = predict(make_model(), mixed, out=tmp_path / "p", device="cpu")
    assert list(made.failed) == [bare.key] and "reads fa" in made.failed[bare.key]
    assert len(made.cohort) == len(controls) - 1
    alone = dataclasses.replace(controls, cases=(bare,))
    with pytest.raises(DataError, match="The model reads fa"):
        predict(make_model(), alone, out=tmp_path / "q", device="cpu")
    assert not (tmp_path / "q").exists()  # nothing that would pass for a result


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


def test_interrupted_prediction_resumes_to_the_same_bytes(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Stopped half-way and resumed, every file is that of an undisturbed run; another model is refused."""

    def stop(done: int, total: int, text: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    predict(make_model(), controls, out=tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        predict(make_model(), controls, out=tmp_path / "parts", device="cpu", work=Work(progress=stop))
    with pytest.raises(ConfigError, match="resume"):
        predict(make_model(), controls, out=tmp_path / "parts", device="cpu")
    with pytest.raises(ConfigError, match="made otherwise"):
        predict(make_model(seed=1), controls, out=tmp_path / "parts", device="cpu", resume=True)
    predict(make_model(), controls, out=tmp_path / "parts", device="cpu", resume=True)
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()}
    assert files == {path.relative_to(tmp_path / "parts") for path in (tmp_path / "parts").rglob("*") if path.is_file()}
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes(), file


def test_predictions_read_back(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """A folder of predictions says who made it; a plain cohort is refused."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    again = read_predictions(tmp_path / "p")
    assert (again.model, again.modality, again.cohort) == (made.model, made.modality, made.cohort)
    with pytest.raises(DataError, match="which model"):
        read_predictions(controls.root)


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


def test_expected_dice_is_right_for_calibrated_probabilities() -> None:
    """Where voxels are drawn from their probabilities, the expected Dice is the mean of the drawn ones."""
    rng = np.random.default_rng(0)
    probability = rng.beta(0.5, 0.5, (12, 12, 12))
    mask = probability >= 0.5
    drawn = [rng.random(probability.shape) < probability for _ in range(200)]
    dice = [2 * (mask & one).sum() / (mask.sum() + one.sum()) for one in drawn]
    assert confidence(probability, mask).predicted_dice == pytest.approx(np.mean(dice), abs=0.002)


def test_confidence_at_its_limits() -> None:
    """Certainty has no entropy; a coin flip has one bit; an empty mask is nothing to rely on."""
    ones = np.ones((2, 2, 2))
    assert confidence(ones, ones > 0.5).entropy_bits == 0 and not confidence(ones, ones > 0.5).abstain
    assert confidence(ones / 2, ones > 0).entropy_bits == 1
    empty = confidence(ones * 0.01, ones > 2)
    assert empty.predicted_dice == 0 < ABSTAIN_BELOW and empty.abstain and np.isnan(empty.entropy_bits)


def test_overconfidence_is_taken_off(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """On the participants it was measured on, the corrected expected Dice is the true one on average."""
    model = make_model()
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in controls]
    sure = dataclasses.replace(model, thresholds=dict.fromkeys(BUNDLES, 0.3))
    excess = measure_overconfidence(sure, samples)
    gaps = []
    for sample in samples:
        for probability, reference in zip(infer([sure], sample), sample.target, strict=True):
            mask = probability >= 0.3
            true = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
            gaps.append(confidence(probability, mask, excess).predicted_dice - true)
    assert abs(np.mean(gaps)) < 1e-3 < abs(excess)
    assert measure_overconfidence(sure, []) == 0


def test_confidence_table_has_a_row_a_mask(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Every predicted mask has its expected Dice in the table, and its volume in ml."""
    made = predict(make_model(), controls, out=tmp_path / "p", device="cpu")
    lines = (tmp_path / "p" / "tables" / "confidence.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(controls) * len(BUNDLES)
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    mask = read_mask(made.cohort[row["participant_id"]].masks[BUNDLES[0]])
    assert float(row["volume_ml"]) == pytest.approx(mask.array.sum() * 2.5**3 / 1000, abs=1e-3)
    assert json.loads((tmp_path / "p" / "dataset_description.json").read_text())["Model"]["Name"] == "small"


def test_thresholds_are_the_best_of_the_grid(controls: Cohort, make_model: MakeModel) -> None:
    """No other threshold of the grid has a higher mean Dice; bundles that nobody has keep theirs."""
    model = make_model()
    samples = [load_sample(case, "fa", 2.5, SHAPE, BUNDLES) for case in controls.cases[:2]]
    chosen = choose_thresholds(model, samples)

    def mean_dice(column: int, threshold: float) -> float:
        values = []
        for sample in samples:
            inside = infer([model], sample)[column] >= threshold
            reference = sample.target[column]
            values.append(2 * (inside & reference).sum() / (inside.sum() + reference.sum()))
        return float(np.mean(values))

    for column, bundle in enumerate(BUNDLES):
        assert mean_dice(column, chosen[bundle]) >= max(mean_dice(column, one) for one in GRID) - 1e-4
    unknown = [dataclasses.replace(sample, known=np.array([False, True])) for sample in samples]
    assert choose_thresholds(model, unknown)[BUNDLES[0]] == 0.5
    assert choose_thresholds(model, []) == model.thresholds
