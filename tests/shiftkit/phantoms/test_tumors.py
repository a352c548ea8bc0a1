from dataclasses import replace

import numpy as np
import pytest

from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.implants.brains import TEMPLATE_BOX_MM, Brain
from shiftkit.phantoms.people import Person, brain_distance, template_brain
from shiftkit.phantoms.render import Rendering, grid, render, tumor_distances, tumor_masks, world
from shiftkit.phantoms.template import template
from shiftkit.phantoms.tumors import Tumor, draw_tumor
from shiftkit.phantoms.warp import coarse_points, jacobian


def everywhere(points_mm: np.ndarray) -> np.ndarray:
    return np.ones(points_mm.shape[:-1], dtype=bool)


@pytest.fixture(scope="module")
def free() -> Tumor:
    """A tumor in a boundless brain: nothing damps its push."""
    return draw_tumor(np.random.default_rng(3), np.full(coarse_points().shape[:3], 100.0), everywhere)


@pytest.fixture(scope="module")
def rendered(patients: list[Person]) -> list[tuple[Rendering, Rendering]]:
    """Three patients, each without and with the tumor, by the same scanner."""
    source = load_profile("source")
    return [
        (render(one, source, np.random.default_rng(0), 4.0, False), render(one, source, np.random.default_rng(0), 4.0))
        for one in patients[:3]
    ]


def shell(center: np.ndarray, radius: float, count: int = 4000) -> np.ndarray:
    normal = np.random.default_rng(0).standard_normal((count, 3))
    return center + radius * normal / np.linalg.norm(normal, axis=1, keepdims=True)


def test_implants_are_placed_in_the_templates_box() -> None:
    """The box in whose shares a drawn place is carried to another brain is that of the template's brain."""
    brain = Brain(mask=template()["t1w"].with_array(template_brain()))
    for told, found in zip(TEMPLATE_BOX_MM, brain.box_mm, strict=True):
        assert told == pytest.approx(found, abs=0.1)


def test_mass_effect_never_folds(patients: list[Person]) -> None:
    """The Jacobian of every tumor's push is positive everywhere, both ways."""
    for one in patients:
        assert one.tumor is not None
        assert jacobian(one.tumor.push.forward).min() > 0
        assert jacobian(one.tumor.push.backward).min() > 0


def test_push_is_outward_and_decays(free: Tumor) -> None:
    """Tissue moves away from the center, less and less with distance."""
    moved: list[float] = []
    for factor in (1.0, 1.3, 1.7, 2.2, 3.0):
        points = shell(free.center_mm, factor * free.radius_mm)
        push = free.push.to_participant(points) - points
        outward = (push * (points - free.center_mm)).sum(-1) / (factor * free.radius_mm)
        assert (outward > 0).all()
        assert np.linalg.norm(push - outward[:, None] * (points - free.center_mm) / (factor * free.radius_mm)) < (
            0.1 * np.linalg.norm(push)
        )
        moved.append(float(outward.mean()))
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.25 * moved[0]


def test_push_conserves_volume_around_the_source(free: Tumor) -> None:
    """Beyond 1.3 radii, where no skull is near, tissue keeps its volume to 5 percent."""
    factor = np.linalg.norm(coarse_points() - free.center_mm, axis=-1) / free.radius_mm
    inside = np.zeros(factor.shape, dtype=bool)
    inside[2:-2, 2:-2, 2:-2] = True
    determinant = jacobian(free.push.forward)[inside & (factor > 1.3)]
    assert np.abs(determinant - 1).max() < 0.05


def test_push_displaces_the_volume_that_was_drawn(free: Tumor) -> None:
    """What leaves a sphere around the tumor is the drawn share of the tumor's volume, to a tenth."""
    radius = 2.0 * free.radius_mm
    pushed = free.push.to_participant(shell(free.center_mm, radius))
    grown = (np.linalg.norm(pushed - free.center_mm, axis=1) ** 3).mean() - radius**3
    assert grown == pytest.approx(free.mass * free.radius_mm**3, rel=0.1)


def test_skull_does_not_move(patients: list[Person]) -> None:
    """Outside the participant's brain the push is zero."""
    for one in patients:
        assert one.tumor is not None
        own = one.warp.to_template(coarse_points())
        index = np.round((own - coarse_points()[0, 0, 0]) / 5.0).astype(int)
        index = np.clip(index, 0, np.array(brain_distance().shape) - 1)
        outside = brain_distance()[tuple(np.moveaxis(index, -1, 0))] == 0
        deep_outside = outside & (np.abs(own - coarse_points()[0, 0, 0] - 5.0 * index).max(-1) < 1.0)
        moved = np.linalg.norm(one.tumor.push.forward, axis=-1)
        assert moved[deep_outside].max() < 0.35 < moved.max()


def test_sites_follow_gliomas() -> None:
    """Over 40 tumors both sides and all four sites occur, frontal ones most often."""
    far = np.full(coarse_points().shape[:3], 100.0)
    tumors = [draw_tumor(np.random.default_rng(seed), far, everywhere) for seed in range(40)]
    counts = {site: sum(one.site == site for one in tumors) for site in ("frontal", "temporal", "insular", "parietal")}
    assert min(counts.values()) >= 1
    assert max(counts, key=lambda site: counts[site]) in ("frontal", "temporal")
    assert 10 <= sum(one.side == "left" for one in tumors) <= 30
    assert all((one.center_mm[0] < 0) == (one.side == "left") for one in tumors)


def test_what_is_seen_has_the_drawn_volume(patients: list[Person]) -> None:
    """The mask inside the brain holds the drawn volume to 8 percent on 4 mm voxels, and 5–150 ml in any case."""
    affine, shape = grid(4.0)
    for one in patients:
        assert one.tumor is not None
        seen = tumor_masks(one, affine, shape)["tumor"].array.sum() * 0.064
        assert 5 <= seen <= 150
        assert seen == pytest.approx(one.tumor.volume_ml, rel=0.08)


def test_tumor_stays_in_its_hemisphere(patients: list[Person]) -> None:
    """At most a tenth of a tumor crosses the midline, where the falx would hold it."""
    affine, shape = grid(4.0)
    x = world(affine, shape)[..., 0]
    for one in patients:
        assert one.tumor is not None
        mask = tumor_masks(one, affine, shape)["tumor"].array
        assert (x[mask] * one.tumor.center_mm[0] < 0).mean() < 0.1


def test_fibers_end_in_the_core_and_masks_move_with_the_tissue(
    patients: list[Person], rendered: list[tuple[Rendering, Rendering]]
) -> None:
    """No bundle voxel lies in a core; a bundle beside the tumor loses voxels there or is displaced; far ones stay."""
    affected = 0
    for one, (without, having) in zip(patients, rendered, strict=False):
        distances = tumor_distances(one, 4.0)
        assert having.core is not None
        for bundle, mask in having.masks.items():
            assert not (mask.array & having.core.array).any()
            affected += bool((without.masks[bundle].array & having.core.array).any())
            if distances.get(bundle.label, 0.0) > 60:
                both = (mask.array & without.masks[bundle].array).sum()
                assert 2 * both / (mask.array.sum() + without.masks[bundle].array.sum()) > 0.95
    assert affected > 0


def test_tumor_darkens_and_blurs(rendered: list[tuple[Rendering, Rendering]]) -> None:
    """Inside a tumor FA and the leading peak are far weaker than in the same voxels without it."""
    without, having = rendered[0]
    assert having.tumor is not None and having.core is not None
    core, rim = having.core.array, having.tumor.array & ~having.core.array
    for place, share in ((core, 0.6), (rim, 0.95)):
        assert having.images["fa"].array[place].mean() < share * without.images["fa"].array[place].mean()


def test_growth_patterns_differ() -> None:
    """All three occur; expansive tumors push more than infiltrating ones, and necrotic ones have the most edema."""
    far = np.full(coarse_points().shape[:3], 100.0)
    tumors = [draw_tumor(np.random.default_rng(seed), far, everywhere) for seed in range(40)]
    by = {family: [one for one in tumors if one.family == family] for family in {one.family for one in tumors}}
    assert set(by) == {"expansive", "infiltrating", "necrotic"}
    mass, edema = (
        {family: np.mean([getattr(one, name) for one in some]) for family, some in by.items()}
        for name in ("mass", "edema_mm")
    )
    assert mass["expansive"] > mass["infiltrating"] + 0.15
    assert edema["necrotic"] > max(edema["expansive"], edema["infiltrating"])
    assert all(np.linalg.det(one.axes) == pytest.approx(1) for one in tumors)


def test_edema_spreads_along_white_matter_and_ends(free: Tumor) -> None:
    """It falls with depth to zero at its reach, and beyond the infiltrated rim it keeps to white matter."""
    swollen = replace(free, edema_mm=20.0)
    depth = np.linspace(0, 1.35 + 20.0 / free.radius_mm, 50)
    white = swollen.edema(depth, np.ones(50))
    assert (np.diff(white) <= 1e-12).all() and white[0] == 1 and white[-1] == pytest.approx(0, abs=1e-9)
    gray = swollen.edema(depth, np.zeros(50))
    assert (gray[depth > 1.36] == 0).all() and (gray[depth < 1.3] == white[depth < 1.3]).all()


def test_edema_weakens_peaks(patients: list[Person]) -> None:
    """With edema that takes 60 percent, peaks around the tumor are shorter than with edema that takes none."""
    one = patients[0]
    assert one.tumor is not None
    made = [
        render(
            replace(one, tumor=replace(one.tumor, edema_mm=20.0, fading=fading)),
            load_profile("source"),
            np.random.default_rng(0),
            4.0,
        )
        for fading in (0.0, 0.6)
    ]
    depth = one.tumor.depth(world(*grid(4.0)))
    around = (depth > 1.1) & (depth < 1.3) & (made[0].images["t1w"].array > 0)
    strong, weak = (np.linalg.norm(m.images["peaks"].array[..., :3], axis=-1)[around].mean() for m in made)
    assert weak < 0.8 * strong


def test_masks_lack_cut_fibers_all_along(patients: list[Person]) -> None:
    """A rater who draws what leads from end to end draws less, also far from the core; images do not change."""
    far = 0
    for one in patients[:4]:
        assert one.tumor is not None
        made = [
            render(
                replace(one, tumor=replace(one.tumor, severed=severed)),
                load_profile("source"),
                np.random.default_rng(0),
                4.0,
            )
            for severed in (False, True)
        ]
        depth = one.tumor.depth(world(*grid(4.0)))
        for bundle, mask in made[0].masks.items():
            assert not (made[1].masks[bundle].array & ~mask.array).any()
            far += int((mask.array & ~made[1].masks[bundle].array & (depth > 2)).sum())
        assert (made[0].images["peaks"].array == made[1].images["peaks"].array).all()
    assert far > 0
