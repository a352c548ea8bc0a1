import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, spatial

from shiftkit.images import read_image
from shiftkit.phantoms import fibers, render
from shiftkit.phantoms import template as anatomy
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import draw_person
from shiftkit.phantoms.render import Rendering
from shiftkit.types import Bundle


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_bundle_volumes_are_those_of_people(controls: list[Rendering]) -> None:
    """The median volume of each bundle lies between 5 and 45 ml."""
    for bundle in controls[0].masks:
        volume = np.median([one.masks[bundle].array.sum() * 0.064 for one in controls])
        assert 5 <= volume <= 45, bundle.label


def test_participants_differ_as_people_do(controls: list[Rendering]) -> None:
    """The same bundle of two participants overlaps with a median Dice between 0.45 and 0.8."""
    for bundle in controls[0].masks:
        pairs = itertools.combinations([one.masks[bundle].array for one in controls], 2)
        assert 0.45 <= np.median([dice(a, b) for a, b in pairs]) <= 0.8, bundle.label


def test_left_and_right_are_not_mirror_images() -> None:
    """Mirrored, a left bundle of the template departs from the right one by voxels, not by rounding."""
    affine, shape = render.grid(4.0)
    rng = np.random.default_rng(0)
    masks = {bundle: template_mask(courses, affine, shape, rng) for bundle, courses in anatomy.bundle_courses().items()}
    lateral = -affine[0, 3] / 4.0
    assert lateral != 0
    for bundle, mask in masks.items():
        if bundle.hemisphere == "left":
            mirrored = ndimage.affine_transform(mask.astype(float), np.diag([-1.0, 1, 1]), (2 * lateral, 0, 0), order=1)
            assert dice(mirrored > 0.5, masks[bundle.mirrored]) < 0.85, bundle.label


def template_mask(
    courses: tuple[anatomy.Course, ...], affine: np.ndarray, shape: tuple[int, int, int], rng: np.random.Generator
) -> np.ndarray:
    streamlines = anatomy.grow_bundle(courses, 400, rng)
    population = fibers.rasterize(streamlines, np.ones(streamlines.shape[:2], dtype=bool), affine, shape)
    return population.mask(render._THRESHOLD, shape)  # pyright: ignore[reportPrivateUsage]


def test_bundles_lie_where_the_population_has_them(shared_data: Path) -> None:
    """On 1 mm voxels, at least 75 percent of a bundle and of its population map lie within 5 mm of the other."""
    affine, shape = render.grid(1.0)
    rng = np.random.default_rng(0)
    for bundle, courses in anatomy.bundle_courses().items():
        own = np.argwhere(template_mask(courses, affine, shape, rng)) + affine[:3, 3]
        real = read_image(shared_data / "hcp1065" / f"{bundle.name}_{bundle.hemisphere}.nii.gz")
        theirs = np.argwhere(real.array > 0) @ real.affine[:3, :3].T + real.affine[:3, 3]
        for one, other in ((own, theirs), (theirs, own)):
            distance, _ = spatial.cKDTree(other).query(one, distance_upper_bound=5.01)
            assert (distance <= 5).mean() >= 0.75, bundle.label


def test_branches_leave_a_common_trunk() -> None:
    """A branch runs with the main course at one end and ends elsewhere; all shares of streamlines add up to one."""
    for bundle, (main, *branches) in anatomy.bundle_courses().items():
        grown = anatomy.grow_bundle((main, *branches), 200, np.random.default_rng(0))
        assert grown.shape[0] == 200 and grown.shape[2] == 3
        assert branches and 0.3 <= main.share < 1, bundle.label
        assert main.share + sum(one.share for one in branches) == pytest.approx(1)
        for branch in branches:
            apart = [np.linalg.norm(branch.waypoints_mm[end] - main.waypoints_mm[end]) for end in (0, -1)]
            assert min(apart) == 0 and max(apart) > 8, bundle.label


def test_a_branch_moves_with_its_trunk() -> None:
    """Waypoints that a branch shares with the main course follow the same ones, and its own follow the junction."""
    for main, *branches in anatomy.bundle_courses().values():
        for branch in branches:
            moved = main.waypoints_mm[branch.follows]
            shared = (moved == branch.waypoints_mm).all(axis=1)
            assert 2 <= shared.sum() < len(shared)
            junction = set(branch.follows[~shared].tolist())
            assert len(junction) == 1 and junction < set(branch.follows[shared].tolist())


def test_peaks_follow_bundles_in_world_axes(controls: list[Rendering]) -> None:
    """Where a bundle runs straight, a peak follows it: pyramidal tract up, inferior fibers from back to front."""
    peaks = controls[0].images["peaks"]
    points = render.world(*render.grid(4.0))
    cases = {"PYTleft": (2, (points[..., 2] > -5) & (points[..., 2] < 15)), "ILFright": (1, points[..., 1] > -1000)}
    for label, (axis, where) in cases.items():
        vectors = peaks.array.reshape(*peaks.shape, 3, 3)[controls[0].masks[Bundle.parse(label)].array & where]
        length = np.linalg.norm(vectors, axis=-1)
        along = np.abs(vectors[..., axis]) / np.maximum(length, 1e-6)
        best = np.where(length > 0.15, along, 0).max(axis=1)
        assert np.median(best) > 0.8, label


def test_peaks_agree_with_the_tangents_of_streamlines() -> None:
    """In voxels of a bundle, one of up to three peaks lies within 20 degrees of the streamlines' own tangent."""
    person = draw_person(5, "sub-h001", False)
    sharp = replace(load_profile("source"), peak_angle_deg=0.0, false_peak=0.0, offset_mm=0.0)
    made = render.render(person, sharp, np.random.default_rng(0), 4.0)
    affine = made.images["peaks"].affine
    for label in ("AFleft", "PYTright", "FATleft", "IFOFright"):
        points = person.warp.to_participant(person.bundles[Bundle.parse(label)])
        tangent = np.gradient(points, axis=1)
        tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
        voxel = np.round((points - affine[:3, 3]) / 4.0).astype(int)
        sums = np.zeros((*made.images["peaks"].shape, 3))
        counts = np.zeros(made.images["peaks"].shape)
        inside = ((voxel >= 0) & (voxel < counts.shape)).all(-1)
        np.add.at(sums, tuple(voxel[inside].T), tangent[inside])
        np.add.at(counts, tuple(voxel[inside].T), 1)
        many = (counts > 40) & made.masks[Bundle.parse(label)].array
        mean = sums[many] / np.linalg.norm(sums[many], axis=-1, keepdims=True)
        vectors = made.images["peaks"].array.reshape(*counts.shape, 3, 3)[many]
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        cosine = np.abs(np.einsum("vpc,vc->vp", vectors / np.maximum(length, 1e-6), mean)).max(axis=1)
        assert (cosine > np.cos(np.deg2rad(20))).mean() > 0.85, label


def test_up_to_three_peaks_strongest_first(controls: list[Rendering]) -> None:
    """Voxels with one, two and three fiber populations all occur; the first peak leads on the whole."""
    brain = controls[0].images["t1w"].array > 0
    length = np.linalg.norm(controls[0].images["peaks"].array.reshape(*brain.shape, 3, 3), axis=-1)[brain]
    populations = (length > 0.25).sum(axis=1)
    assert all((populations == count).sum() > 5 for count in (1, 2, 3))
    assert (length[:, 0] >= length[:, 1] - 0.2).mean() > 0.95


def test_strongest_merges_what_a_scan_cannot_tell_apart() -> None:
    """Populations 20 degrees apart become one peak with their common volume; 60 degrees apart stay two."""
    angles = np.deg2rad([0, 20, 80])
    directions = np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], axis=1)[None].astype(np.float32)
    peaks = fibers.strongest(np.array([[0.4, 0.3, 0.2]], dtype=np.float32), directions, np.float32(0.86))
    length = np.linalg.norm(peaks[0], axis=-1)
    assert length[0] == pytest.approx(0.7, abs=0.02)
    assert length[1] == pytest.approx(0.2, abs=1e-6)
    assert length[2] == 0


def test_smoothing_in_a_box_is_smoothing_on_the_grid() -> None:
    """A family of fibers is rasterized the same on its own part of the grid as on the whole."""
    affine, shape = render.grid(4.0)
    courses = next(iter(anatomy.bundle_courses().values()))
    streamlines = anatomy.grow_bundle(courses, 50, np.random.default_rng(0))
    population = fibers.rasterize(streamlines, np.ones(streamlines.shape[:2], dtype=bool), affine, shape)
    density = np.zeros(shape)
    density[population.box] = population.density
    sums = np.zeros(shape)
    voxel = np.floor((streamlines - affine[:3, 3]) / 4.0).astype(int)
    np.add.at(sums, tuple(voxel.reshape(-1, 3).T), 1.0)
    assert density.shape != population.density.shape
    edge = population.density.copy()
    edge[1:-1, 1:-1, 1:-1] = 0
    assert edge.max() == 0
    assert (density[sums > 5] > 0).all()
