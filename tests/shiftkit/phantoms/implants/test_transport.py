import numpy as np
import pytest

from shiftkit.geometry import resample
from shiftkit.phantoms.implants.brains import Brain
from shiftkit.phantoms.implants.growth import Growth
from shiftkit.phantoms.implants.transport import Transport, show
from shiftkit.phantoms.warp import interpolate, jacobian
from shiftkit.types import Volume


@pytest.fixture(scope="module")
def transport(brain: Brain, grown: Growth) -> Transport:
    return Transport(brain=brain, growth=grown)


@pytest.fixture(scope="module")
def images(brain: Brain) -> dict[str, Volume]:
    """White matter everywhere: two crossing fibers, of which the first is the longer."""
    grid, shape = brain.mask, brain.mask.shape
    peaks = np.zeros((*shape, 9), dtype=np.float32)
    peaks[grid.array, 1], peaks[grid.array, 3] = 0.9, 0.4  # along y, and along x
    maps = {"fa": 0.5, "ap": 0.6, "t1w": 700.0, "md": 0.8}
    made = {name: grid.with_array((value * grid.array).astype(np.float32)) for name, value in maps.items()}
    return made | {"peaks": grid.with_array(peaks)}


def test_peaks_turn_as_streamlines_that_are_carried_along(
    transport: Transport, grown: Growth, images: dict[str, Volume]
) -> None:
    """Each peak points along the tangent of a transported streamline of its fiber, to 4°; some turn by over 10°."""
    peaks = transport.pull_peaks(images["peaks"].array)
    for fiber, along in ((0, np.array([0.0, 1, 0])), (1, np.array([1.0, 0, 0]))):
        starts = grown.center_mm + grown.radius_mm * np.random.default_rng(0).uniform(-1.6, 1.6, (60, 3))
        starts = starts[transport.brain.depth_at(starts) > 16]
        ahead, behind = (grown.push.to_participant(starts + step * along) for step in (1.0, -1.0))
        tangents = (ahead - behind) / np.linalg.norm(ahead - behind, axis=1, keepdims=True)
        voxels = transport.grid.voxels((ahead + behind) / 2)
        # Both fibers keep one sign and one order everywhere, so their channels can be interpolated here.
        there = interpolate(peaks[..., 3 * fiber : 3 * fiber + 3], voxels, np.zeros(3), 1.0)
        there /= np.linalg.norm(there, axis=1, keepdims=True)
        angle = np.rad2deg(np.arccos(np.clip(np.abs((there * tangents).sum(axis=1)), 0, 1)))
        assert np.median(angle) < 2 and np.quantile(angle, 0.95) < 4
        assert np.rad2deg(np.arccos(np.clip(np.abs(tangents @ along), 0, 1))).max() > 10


def test_signs_and_order_of_peaks_do_not_matter(transport: Transport, images: dict[str, Volume]) -> None:
    """With both shuffled from voxel to voxel the same axes come out, to rounding."""
    rng = np.random.default_rng(5)
    peaks = images["peaks"].array
    whole = peaks.reshape(-1, 3, 3) * rng.choice([-1.0, 1.0], (peaks[..., 0].size, 3, 1)).astype(np.float32)
    swapped = rng.random(len(whole)) < 0.5
    whole[swapped] = whole[swapped][:, [1, 0, 2]]

    def dyads(array: np.ndarray) -> np.ndarray:
        vectors = transport.pull_peaks(array).reshape(-1, 3, 3)
        return np.einsum("vpi,vpj->vij", vectors, vectors)

    inside = transport.brain.depth_mm.ravel() > 12  # at the edge the nearest voxel may hold no peak
    assert dyads(whole.reshape(peaks.shape))[inside] == pytest.approx(dyads(peaks)[inside], abs=1e-3)


def test_masks_change_their_volume_as_the_jacobian_says(brain: Brain, grown: Growth) -> None:
    """A mask beside the tumor, and one around it: their volume after is the determinant summed over them before."""
    # Voxels of 2 mm: a mask of 4 mm does not tell a push by less than half a voxel.
    affine = brain.mask.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine = Brain(mask=resample(brain.mask, affine, tuple(2 * n for n in brain.mask.shape), order=0))
    transport = Transport(brain=fine, growth=grown)
    points = fine.mask.world(np.argwhere(np.ones(fine.mask.shape)))
    determinant = jacobian(grown.push.forward, grown.push.spacing_mm)
    for shift, radius in ((25.0, 14.0), (0.0, 30.0)):
        ball = np.linalg.norm(points - grown.center_mm - np.array([-shift, 0, 0]), axis=1) < radius
        mask = fine.mask.with_array(ball.reshape(fine.mask.shape))
        at = interpolate(determinant[..., None], points[ball], grown.push.origin_mm, grown.push.spacing_mm)
        assert transport.pull_mask(mask).array.sum() == pytest.approx(at.sum(), rel=0.04)
    assert at.mean() > 1.1  # the ball around the tumor has grown


def test_reference_masks_end_at_the_core_and_where_tissue_is_mostly_new(transport: Transport) -> None:
    """They move along and lose these two, both of which lie in the tumor, and nothing else."""
    everywhere = transport.grid.with_array(transport.brain.mask.array)
    left = transport.pull_bundle(everywhere).array
    core, new = transport.core.array, transport.kept < 0.5
    assert core.any() and not (left & core).any()
    assert (new & ~core).any() and not (left & new).any() and transport.depth[new].max() < 1.2
    assert (left | core | new)[transport.pull_mask(everywhere).array].all()


def test_a_tumor_adds_nothing_to_a_bundle(brain: Brain, grown: Growth) -> None:
    """A bundle through the middle of a tumor: its tissue swells by half, old tissue stays as much, the mask shrinks.

    Beside the tumor, where the flow is of an incompressible medium, what is kept is all.
    """
    affine = brain.mask.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine = Brain(mask=resample(brain.mask, affine, tuple(2 * n for n in brain.mask.shape), order=0))
    transport = Transport(brain=fine, growth=grown)
    aside = fine.mask.world(np.argwhere(np.ones(fine.mask.shape))) - grown.center_mm
    tube = (np.linalg.norm(aside[:, ::2], axis=1) < 10) & (np.abs(aside[:, 1]) < 30)
    mask = fine.mask.with_array(tube.reshape(fine.mask.shape))
    share, before = transport.pull(mask.array.astype(np.float32)), mask.array.sum()
    assert transport.pull_mask(mask).array.sum() > 1.5 * before
    assert (share * transport.kept).sum() == pytest.approx(before, rel=0.05)
    assert 0.4 * before < transport.pull_bundle(mask).array.sum() < before
    flowing = (transport.depth > 1.3) & transport.moved & (fine.depth_mm > 20)
    assert flowing.any() and transport.kept[flowing] == pytest.approx(1, abs=0.1)


def test_a_tumor_shows_as_it_should(transport: Transport, images: dict[str, Volume]) -> None:
    """T1w is darker, FA and power lower, peaks shorter, in the core gone, in edema too; other maps are moved alone."""
    scene = show(images, transport)
    core, tumor, edema = transport.core.array, transport.tumor.array, scene.edema.array
    assert edema.any() and not (edema & tumor).any()
    means = {
        name: [volume.array[place].mean() for place in (core, tumor, edema)] for name, volume in scene.images.items()
    }
    for name, before in (("t1w", 700.0), ("fa", 0.5), ("ap", 0.6)):
        assert means[name][0] < 0.65 * before and means[name][1] < 0.75 * before and means[name][2] < before
    length = np.linalg.norm(scene.images["peaks"].array[..., :3], axis=-1)
    assert length[core].max() == 0 and length[tumor & ~core].mean() < 0.6 and length[edema].mean() < 0.8
    still = transport.brain.depth_mm > 8
    assert scene.images["md"].array[still] == pytest.approx(0.8, abs=0.01)


def test_where_nothing_reaches_not_a_bit_changes(
    transport: Transport, images: dict[str, Volume], grown: Growth
) -> None:
    """Beyond the mass effect and edema every image is its former self."""
    far = (transport.depth > 1.35 + grown.edema_mm / grown.radius_mm + 0.1) & ~transport.moved
    assert far.any()
    for name, volume in show(images, transport).images.items():
        assert (volume.array[far] == images[name].array[far]).all()


def test_a_tumor_of_no_volume_changes_nothing(brain: Brain, images: dict[str, Volume]) -> None:
    """Images stay what they were, to the bit; the masks of tumor and edema are empty, the displacement is zero."""
    nothing = Transport(brain=brain, growth=None)
    scene = show(images, nothing)
    assert all((volume.array == images[name].array).all() for name, volume in scene.images.items())
    assert not (nothing.tumor.array | nothing.core.array | scene.edema.array).any()
    assert not nothing.displacement_mm.any()
