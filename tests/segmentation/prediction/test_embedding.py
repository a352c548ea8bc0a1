import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from makers.segmentation import MakeModel, on_grid

from shiftkit import cohorts
from shiftkit.distances import edge_distance_map
from shiftkit.errors import ConfigError, DataError
from shiftkit.geometry import resample
from shiftkit.images import read_image, write_image
from shiftkit.segmentation.network.networks import Architecture, build_network
from shiftkit.segmentation.prediction import embedding
from shiftkit.segmentation.prediction.embedding import (
    capture,
    embed,
    feature_means,
    feature_statistics,
    layers_of,
    pool,
)
from shiftkit.segmentation.samples.samples import load_sample
from shiftkit.types import Case, Cohort, Volume


def test_feature_means_weigh_the_brain(controls: Cohort, make_model: MakeModel) -> None:
    """One vector a depth, as long as it has channels; on the first depth equal to the weighted mean by hand."""
    model = make_model()
    sample = on_grid(controls.cases[:1])[0]
    means = feature_means(model.network, sample)
    assert {name: len(mean) for name, mean in means.items()} == {"encoder-1": 4, "encoder-2": 8, "encoder-3": 16}
    image = torch.from_numpy(sample.image)[None]
    with torch.no_grad():
        output = model.network.get_submodule("model.0")(image)
    brain = torch.nn.functional.avg_pool3d((image[:, :1] != 0).float(), 2)
    by_hand = (output * brain).sum(dim=(0, 2, 3, 4)) / brain.sum()
    torch.testing.assert_close(torch.from_numpy(means["encoder-1"]).float(), by_hand, atol=1e-5, rtol=1e-4)
    statistics = feature_statistics(model.network, [sample, sample])
    assert statistics["encoder-2"]["n"] == 2 and max(statistics["encoder-2"]["sd"]) < 1e-5


@pytest.mark.parametrize("name", ["unet", "segresnet", "dynunet"])
def test_layers_run_from_the_input_down_and_up_again(name: str) -> None:
    """Every network has an encoder that narrows, a decoder that widens again, and a head with one channel a bundle."""
    network = build_network(Architecture(name=name, in_channels=4, out_channels=2, channels=(8, 16, 32, 64))).eval()
    layers = layers_of(network)
    maps, output = capture(network, torch.randn(1, 4, 32, 32, 32), layers)
    assert list(maps) == list(layers), "in the order in which the network computes them"
    sizes = [features.shape[2] for features in maps.values()]
    bottom = sizes.index(min(sizes))
    assert sizes[: bottom + 1] == sorted(sizes[: bottom + 1], reverse=True)
    assert sizes[bottom:] == sorted(sizes[bottom:])
    assert sum(layer.startswith("decoder") for layer in layers) >= 3
    torch.testing.assert_close(maps["head"], output)


def test_a_layer_can_be_named_by_depth_or_path(make_model: MakeModel) -> None:
    """Named layers come in the order given; an unknown one is refused with the names that exist."""
    network = make_model().network
    assert list(layers_of(network, ("decoder-1", "encoder-2"))) == ["decoder-1", "encoder-2"]
    assert layers_of(network, ("model.0",))["model.0"] is layers_of(network)["encoder-1"]
    with pytest.raises(ConfigError, match=r"encoder-1.*got encoder-9"):
        layers_of(network, ("encoder-9",))


def test_pooling_is_the_mean_over_the_region() -> None:
    """At full resolution it is the masked mean; at half, voxels weigh by the share that lies in the region."""
    features = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    mask = torch.zeros(1, 4, 4, 4)
    mask[0, 1:3, :, 2] = 1
    assert pool(features, mask)[0, 0] == pytest.approx(float(features[0, 0][mask[0] == 1].mean()))
    half = torch.zeros(1, 8, 8, 8)
    half[0, :3, :2, :2] = 1  # one whole voxel of the layer, and half of the next
    expected = (float(features[0, 0, 0, 0, 0]) + 0.5 * float(features[0, 0, 1, 0, 0])) / 1.5
    assert float(pool(features, half)[0, 0]) == pytest.approx(expected)
    assert torch.isnan(pool(features, torch.zeros(1, 4, 4, 4))).all()


def test_reference_rows_equal_pooling_by_hand(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """One vector a participant, region and layer; that of the left AF is the mean of the feature map in its mask."""
    model = make_model()
    made, failed = embed(model, controls, out=tmp_path, layers=("encoder-1", "decoder-1"), device="cpu")
    assert failed == {}
    rows = made.rows
    assert set(rows["region"]) == {"brain", "reference", "mirror", "predicted"}
    assert (rows.groupby("participant_id").size() == 1 + 3 * 2).all()
    sample = load_sample(controls.cases[0], "fa", 2.5, model.shape, model.bundles)
    layers = layers_of(model.network, ("decoder-1",))
    maps, _ = capture(model.network, torch.from_numpy(sample.image)[None], layers)
    by_hand = maps["decoder-1"][0][:, torch.from_numpy(sample.target[0])].mean(dim=1)
    own = made.where(participant_id=controls.cases[0].participant_id, region="reference", hemisphere="left")
    np.testing.assert_allclose(own.layers["decoder-1"][0], by_hand.numpy(), rtol=1e-4, atol=1e-5)


def test_the_mirror_of_a_left_mask_lies_on_the_right(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """In a cohort symmetric about the middle, the mirrored left mask is the right mask."""
    made, _ = embed(make_model(), controls, out=tmp_path)
    reference, mirror = (
        made.where(participant_id=controls.cases[0].participant_id, region=region, hemisphere="right")
        for region in ("reference", "mirror")
    )
    assert mirror.rows["volume_ml"].iloc[0] == pytest.approx(reference.rows["volume_ml"].iloc[0], rel=0.2)
    np.testing.assert_allclose(mirror.layers["encoder-1"], reference.layers["encoder-1"], atol=0.35)


def _with_tumor(case: Case, root: Path) -> Case:
    """A tumor at the left end of the left bundle."""
    mask = np.zeros((24, 24, 16), dtype=bool)
    affine = np.diag([-2.5, -2.5, 2.5, 1.0])
    affine[:3, 3] = [28.75, 28.75, -18.75]
    mask[17:20, 8:11, 6:9] = True  # the image's first axis runs to the left
    path = cohorts.tumor_path(root, case.key)
    write_image(Volume(array=mask, affine=affine), path)
    return dataclasses.replace(case, tumor=path, attributes={**case.attributes, "tumor_side": "left"})


def test_shells_lie_on_the_tumors_side_and_their_mirrors_on_the_other(
    patients: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """Every shell has a row in each hemisphere, of equal volume; together they hold the bundle voxels of that side."""
    case = _with_tumor(patients.cases[0], tmp_path / "images")
    cohort = dataclasses.replace(patients, cases=(case,))
    model = make_model()
    made, _ = embed(model, cohort, out=tmp_path / "out", shells_mm=(0, 10, float("inf")))
    shells = made.rows[made.rows["region"].str.startswith("shell")]
    assert set(shells["region"]) == {"shell 0-10 mm", "shell >10 mm"}
    volumes = shells.pivot(index="region", columns="hemisphere", values="volume_ml")
    np.testing.assert_allclose(volumes["left"], volumes["right"])
    sample = load_sample(case, "fa", 2.5, model.shape, model.bundles)
    left = sample.target.any(axis=0)[:12].sum() * 2.5**3 / 1000
    assert volumes["left"].sum() == pytest.approx(left, rel=0.05)


def test_shells_are_measured_by_the_distance_of_all_analyses(
    patients: Cohort, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes follow from `shiftkit.distances`; if that measured twice as far, edges twice as far would cut alike."""
    case = _with_tumor(patients.cases[0], tmp_path / "images")
    cohort = dataclasses.replace(patients, cases=(case,))
    model = make_model()

    def volumes(name: str, edges_mm: tuple[float, ...]) -> list[float]:
        made, _ = embed(model, cohort, out=tmp_path / name, layers=("head",), shells_mm=edges_mm)
        here = made.rows["region"].str.startswith("shell") & (made.rows["hemisphere"] == "left")
        return made.rows.loc[here, "volume_ml"].tolist()

    sample = load_sample(case, "fa", 2.5, model.shape, model.bundles)
    tumor = resample(read_image(case.tumor), sample.affine, model.shape).array > 0.5
    distance = edge_distance_map(tumor, (2.5, 2.5, 2.5))
    inside = sample.target.any(axis=0) & sample.brain & sample.brain[::-1]
    inside[model.shape[0] // 2 :] = False  # the tumor is left
    by_hand = [float((inside & near).sum()) * 2.5**3 / 1000 for near in (distance < 10, distance >= 10)]
    assert volumes("once", (0, 10, float("inf"))) == pytest.approx(by_hand)
    monkeypatch.setattr(embedding, "edge_distance_map", lambda *given: 2 * edge_distance_map(*given))
    assert volumes("twice", (0, 20, float("inf"))) == pytest.approx(by_hand)


def test_stored_vectors_are_used_again_unless_the_model_changed(
    controls: Cohort, make_model: MakeModel, tmp_path: Path
) -> None:
    """A second run does not touch the files; another model's vectors are made anew; a damaged file too."""
    first, _ = embed(make_model(), controls, out=tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    damaged = tmp_path / f"{controls.cases[2].key}.npz"
    damaged.write_bytes(b"half a file")
    again, _ = embed(make_model(), controls, out=tmp_path)
    np.testing.assert_array_equal(first.layers["encoder-3"], again.layers["encoder-3"])
    changed = [path.name for path in tmp_path.iterdir() if path.stat().st_mtime_ns != stamps[path.name]]
    assert changed == [damaged.name]
    other, _ = embed(make_model(seed=1), controls, out=tmp_path)
    assert np.abs(other.layers["encoder-3"] - again.layers["encoder-3"]).max() > 1e-3


def test_a_participant_who_cannot_be_embedded_is_named(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """One without the model's modality is listed with the reason, the others go on; if nobody has it, an error."""
    bare = dataclasses.replace(controls.cases[0], images={})
    cohort = dataclasses.replace(controls, cases=(bare, *controls.cases[1:]))
    made, failed = embed(make_model(), cohort, out=tmp_path)
    assert list(failed) == [bare.key] and "fa" in failed[bare.key]
    assert made.rows["participant_id"].nunique() == 5
    with pytest.raises(DataError, match="fa"):
        embed(make_model(), dataclasses.replace(controls, cases=(bare,)), out=tmp_path / "none")


def test_nothing_is_left_on_the_network(controls: Cohort, make_model: MakeModel, tmp_path: Path) -> None:
    """Hooks are removed even where the network fails."""
    network = make_model().network
    with pytest.raises(RuntimeError):
        capture(network, torch.zeros(1, 99, 8, 8, 8), layers_of(network))
    assert all(not module._forward_hooks for module in network.modules())
