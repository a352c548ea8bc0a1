"""How real the phantom's people are, and what a cohort costs.

    python benchmarks/phantom.py --against CHECKOUT --out benchmarks/phantom.md

Bundle volumes, overlap between participants, agreement with a population average (where ``../shared/data`` or
``SHIFTKIT_DATA`` has it) and between raters; processor time of one case and, beside an older checkout, of a factorial
cohort; pictures of three patients of each profile. What the profiles cost a network: ``end_to_end.py``.
"""

import argparse
import itertools
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import spatial

from shiftkit.bundles import bundle_named
from shiftkit.images import read_image
from shiftkit.phantoms import fibers, render
from shiftkit.phantoms import template as anatomy
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import Person, draw_person, generator
from shiftkit.phantoms.raters import draw_generosity
from shiftkit.types import Bundle

# Measured in a process of its own, after a first small case has compiled and loaded what every case shares.
ONE_CASE = """
import resource, sys, time
import numpy as np
from shiftkit.phantoms.acquisition import load_profile
from shiftkit.phantoms.people import draw_person
from shiftkit.phantoms.render import render
profile, patient, seed = load_profile(sys.argv[1]), sys.argv[2] == "glioma", int(sys.argv[3])
render(draw_person(seed, "sub-x001", patient), profile, np.random.default_rng(0), 4.0)
times = []
for i in range(2, 7):
    start = time.process_time()
    render(draw_person(seed, f"sub-x{i:03d}", patient), profile, np.random.default_rng(0), 2.0)
    times.append(time.process_time() - start)
print(min(times), np.median(times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
# Written by one process, after a small cohort has compiled and loaded what every cohort shares.
ONE_COHORT = """
import sys, tempfile, time
from pathlib import Path
from shiftkit.phantoms import phantom
from shiftkit.work import Work
with tempfile.TemporaryDirectory() as folder:
    phantom(Path(folder) / "small", n_healthy=1, n_glioma=1, spacing_mm=5, factorial=True, work=Work(jobs=1))
    start = time.process_time()
    n = int(sys.argv[1])
    phantom(Path(folder) / "cohort", n_healthy=n, n_glioma=n, spacing_mm=2, seed=1, factorial=True, work=Work(jobs=1))
    print(time.process_time() - start)
"""
DATA = Path(os.environ.get("SHIFTKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
AVERAGE, PERSON = "hcp1065", "tractseg_subject/bundle_segmentations"
PATIENTS = ("mild", "moderate", "severe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the tables")
    parser.add_argument("--people", type=int, default=8, help="controls whose bundles are compared, and raters")
    parser.add_argument("--seed", type=int, default=1, help="other than that of the built-in cohorts")
    parser.add_argument("--against", type=Path, help="an older checkout, to time beside this one")
    parser.add_argument("--cohort", type=int, default=12, help="controls, and patients, of the cohort that is timed")
    parser.add_argument("--turns", type=int, default=2, help="how often either is timed")
    options = parser.parse_args()
    against = f" --against CHECKOUT --cohort {options.cohort} --turns {options.turns}" if options.against else ""
    lines = [
        "# The digital phantom",
        "",
        f"`python benchmarks/phantom.py --people {options.people} --seed {options.seed}{against} --out "
        f"benchmarks/phantom.md`, {platform.machine()}, one thread.",
        "",
        *bundles(options.people, options.seed),
        "",
        *cost(options),
        "",
        *pictures(options.seed),
    ]
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)


def bundles(people: int, seed: int) -> list[str]:
    """What the phantom's bundles are like, beside what is published, and which of them lie outside."""
    source = load_profile("source")
    masks: dict[Bundle, list[np.ndarray]] = {}
    for i in range(1, people + 1):
        key = f"sub-h{i:03d}"
        made = render.render(draw_person(seed, key, False), source, generator(seed, key, "scan source"), 2.5)
        for bundle, mask in made.masks.items():
            masks.setdefault(bundle, []).append(mask.array)
    rows = [
        f"Bundles of {people} controls at 2.5 mm. *Near*: share of voxels of the template's bundles at 1 mm within "
        "5 mm of the population average, and the other way round. *Weighted Dice*: of a participant's mask with the "
        f"mean of the others'. Raters: {people} of one control, all with one protocol.",
        "",
        "| bundle | volume, ml: median (range) | population average, ml | one real person, ml "
        "| Dice between participants: median | weighted Dice: median | phantom near population "
        "| population near phantom | Dice between raters: mean |",
        "|---" * 9 + "|",
    ]
    raters = rated(draw_person(seed, "sub-h001", False), people)
    shared = [weighted_dice(one) for one in masks.values()]
    thin, thick = [], []
    for (bundle, courses), weighted in zip(anatomy.bundle_courses().items(), shared, strict=True):
        volumes = [float(mask.sum()) * 2.5**3 / 1000 for mask in masks[bundle]]
        pairs = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks[bundle], 2)]
        average, person = (real_volume_ml(folder, bundle) for folder in (AVERAGE, PERSON))
        if person is not None and max(volumes) < person:
            thin.append(bundle.label)
        if average is not None and min(volumes) > average:
            thick.append(bundle.label)
        near = agreement(bundle, courses, seed)
        rows.append(
            f"| {bundle.label} | {np.median(volumes):.1f} ({min(volumes):.1f}–{max(volumes):.1f}) "
            f"| {shown(average)} | {shown(person)} | {np.median(pairs):.2f} | {np.median(weighted):.2f} "
            f"| {near[0]} | {near[1]} | {raters[bundle]:.2f} |"
        )
    agreed = float(np.mean(list(raters.values())))
    outside = [bundle.label for bundle, dice in raters.items() if not 0.85 <= round(dice, 2) <= 0.90]
    rows.append(f"| mean | | | | | | | | {agreed:.2f} |")
    return [*rows, "", *published(thin, thick, np.concatenate(shared), agreed, outside)]


def published(thin: list[str], thick: list[str], shared: np.ndarray, agreed: float, outside: list[str]) -> list[str]:
    """What studies report, and where the phantom differs.

    ``thin`` and ``thick`` are bundles that are so in all participants, ``shared`` weighted Dice of every participant
    and bundle, ``agreed`` the raters' mean Dice, and ``outside`` bundles for which theirs is.
    """
    low, middle, high = np.percentile(shared, (25, 50, 75))
    level = "lower" if middle < 0.747 else "higher"
    spread = "narrower" if high - low < 0.277 else "wider"
    mean = "inside" if 0.85 <= round(agreed, 2) <= 0.90 else "outside"
    return [
        "Beside what is published; nothing was tuned to it:",
        "",
        "- **Volume.** Two measures frame it, both taken from the files themselves: streamlines of a population "
        "average (Yeh FC, Nat Commun 13:4933 (2022), doi 10.1038/s41467-022-32595-4), subsampled and so thinner than "
        "a mask, and masks of one real person by TractSeg (Wasserthal J et al., NeuroImage 183:239 (2018), doi "
        "10.1016/j.neuroimage.2018.07.070), which are thick. Thicker than the average in every participant: "
        f"{words(thick)}. **Thinner than the real person's in every participant: {words(thin)}.**",
        "- **Overlap between people.** Of the bundles of people of the Human Connectome Project with those of their "
        "template, the weighted Dice had a median of 0.75 and an interquartile range of 0.28 (Radwan AM et al., "
        "NeuroImage 254:119029 (2022), doi 10.1016/j.neuroimage.2022.119029; 68 bundles, densities of streamlines). "
        f"Here, with masks in place of densities, the median is {middle:.2f} and the range {high - low:.2f}: **a "
        f"{level} overlap, a {spread} range**. No published Dice of pairs of people was found to set beside ours.",
        "- **Agreement between raters.** Twenty trained raters with one protocol reached a Dice of 0.85 to 0.90 for "
        "three bundles of five people (Rheault F et al., Hum Brain Mapp 43:2134 (2022), doi 10.1002/hbm.25777); 24 "
        "raters before them an overlap of about 0.70 for the pyramidal tract (Rheault F et al., Hum Brain Mapp "
        f"41:1859 (2020), doi 10.1002/hbm.24917, as its preprint says). The phantom's mean, {agreed:.2f}, is {mean} "
        f"0.85–0.90; **outside are single bundles: {words(outside)}.**",
        "- **Raters against people.** Protocols of 42 groups differed more than people did (Schilling KG et al., "
        "NeuroImage 243:118502 (2021), doi 10.1016/j.neuroimage.2021.118502). That has no counterpart among these "
        "controls, whose raters share one protocol; patients of `moderate` and `severe` have raters of another "
        "(`label_style`).",
    ]


def weighted_dice(masks: list[np.ndarray]) -> list[float]:
    """Of each mask with the mean of the others: voxels count as much as both say (doi 10.1016/j.nicl.2017.07.020)."""
    total = np.sum(masks, axis=0)
    others = [(total - mask) / (len(masks) - 1) for mask in masks]
    return [
        float((mask + other)[mask & (other > 0)].sum() / (mask.sum() + other.sum()))
        for mask, other in zip(masks, others, strict=True)
    ]


def real_volume_ml(folder: str, bundle: Bundle) -> float | None:
    """Volume of a real bundle from a file of the shared data, whatever that calls it."""
    for path in sorted((DATA / folder).glob("*.nii.gz")):
        if bundle_named(path.name.removesuffix(".nii.gz")) == bundle:
            image = read_image(path)
            return float((image.array > 0).sum() * image.voxel_volume_ml)
    return None


def shown(volume_ml: float | None) -> str:
    return "" if volume_ml is None else f"{volume_ml:.1f}"


def words(labels: list[str]) -> str:
    return ", ".join(labels) or "none"


def rated(person: Person, raters: int) -> dict[Bundle, float]:
    """Mean Dice between raters who draw the same anatomy."""
    affine, shape = render.grid(2.5)
    drawn: dict[Bundle, list[np.ndarray]] = {}
    for rater in range(raters):
        seen = replace(person, generosity=draw_generosity(np.random.default_rng(rater), person.bundles))
        for bundle in seen.bundles:
            population = render.bundle_population(bundle, seen, None, affine, shape, False)
            drawn.setdefault(bundle, []).append(population.mask(render._THRESHOLD, shape))
    return {
        bundle: float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in itertools.combinations(masks, 2)]))
        for bundle, masks in drawn.items()
    }


def agreement(bundle: Bundle, courses: tuple[anatomy.Course, ...], seed: int) -> tuple[str, str]:
    folder = DATA / AVERAGE
    if not folder.is_dir():
        return "not at hand", "not at hand"
    affine, shape = render.grid(1.0)
    streamlines = anatomy.grow_bundle(courses, 600, np.random.default_rng(seed))
    population = fibers.rasterize(streamlines, np.ones(streamlines.shape[:2], dtype=bool), affine, shape)
    own = np.argwhere(population.mask(render._THRESHOLD, shape)) + affine[:3, 3]
    real = read_image(folder / f"{bundle.name}_{bundle.hemisphere}.nii.gz")
    theirs = np.argwhere(real.array > 0) @ real.affine[:3, :3].T + real.affine[:3, 3]
    shares = [
        (spatial.cKDTree(other).query(one, distance_upper_bound=5.01)[0] <= 5).mean()
        for one, other in ((own, theirs), (theirs, own))
    ]
    return f"{shares[0]:.2f}", f"{shares[1]:.2f}"


def cost(options: argparse.Namespace) -> list[str]:
    rows = [
        "One case at 2 mm, drawn and rendered: processor time (user and system) of five cases, peak memory of the "
        "process.",
        "",
        "| case | s: best | s: median | GiB |",
        "|---|---|---|---|",
    ]
    for profile, kind in (("source", "control"), ("moderate", "glioma")):
        best, median, memory = map(float, timed(ONE_CASE, profile, kind, str(options.seed)).split())
        rows.append(f"| {kind}, {profile} profile | {best:.2f} | {median:.2f} | {memory:.2f} |")
    if options.against:
        seconds: dict[str, list[float]] = {"now": [], "before": []}
        for _ in range(options.turns):  # in turns, so that a busy machine is busy for both
            seconds["now"].append(float(timed(ONE_COHORT, str(options.cohort))))
            seconds["before"].append(float(timed(ONE_COHORT, str(options.cohort), root=options.against)))
        now, before = min(seconds["now"]), min(seconds["before"])
        rows += [
            "",
            f"A factorial cohort of {options.cohort} + {options.cohort} at 2 mm, written to disk, processor "
            f"time (best of {options.turns}, in turns): {now:.1f} s, before {before:.1f} s; "
            f"{before / now:.2f} times as fast.",
        ]
    return rows


def timed(program: str, *words: str, root: Path | None = None) -> str:
    single = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")}
    if root is not None:
        single["PYTHONPATH"] = str(root)
    command = [sys.executable, "-P", "-c", program, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=single).stdout


def pictures(seed: int) -> list[str]:
    people = first_of_each_growth(seed)
    for profile in PATIENTS:
        draw_patients(seed, people, profile, Path(__file__).with_name(f"phantom_{profile}.png"))
    return [
        "The first patient of each growth pattern, in each profile at 2 mm: T1w, FA and colored leading peaks (red "
        "left to right, green back to front, blue up) through the tumor; then outlines of tumor (red) and core "
        "(orange) and, seen from the side and from the front, of reference masks of that hemisphere (cyan). The left "
        "of a picture is the participant's left.",
        "",
        " ".join(f"![Three patients of the profile {profile}](phantom_{profile}.png)" for profile in PATIENTS),
        "",
        "What the profiles cost a network, and how that falls with the distance to the tumor, is in "
        "[end_to_end.md](end_to_end.md).",
    ]


def first_of_each_growth(seed: int) -> list[str]:
    first: dict[str, str] = {}
    gliomas = load_profile("moderate").gliomas
    for number in range(1, 25):
        key = f"sub-g{number:03d}"
        tumor = draw_person(seed, key, True, gliomas).tumor
        assert tumor is not None
        first.setdefault(tumor.family, key)
        if len(first) == 3:
            break
    return list(first.values())


def draw_patients(seed: int, people: list[str], profile: str, path: Path) -> None:
    """Images of patients at 2 mm through the tumor, plain and with outlines of tumor, core and bundles."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(people), 6, figsize=(13, 2.55 * len(people)), facecolor="black", gridspec_kw={"wspace": 0.02, "hspace": 0.1}
    )
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.005, top=0.94)
    target = load_profile(profile)
    for row, key in zip(axes, people, strict=True):
        person = draw_person(seed, key, True, target.gliomas)
        made = render.render(person, target, generator(seed, key, "scan target"), 2.0)
        assert person.tumor is not None and made.tumor is not None and made.core is not None
        t1w, fa = made.images["t1w"].array, made.images["fa"].array
        color = np.abs(made.images["peaks"].array[..., :3])
        x, y, z = np.argwhere(made.core.array).mean(axis=0).round().astype(int)
        held = [np.flatnonzero((t1w > 0).any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
        wide, long, high = (slice(max(int(one[0]) - 3, 0), int(one[-1]) + 4) for one in held)
        axial, coronal, sagittal = (wide, long, z), (wide, y, high), (x, long, high)
        views = [(t1w, axial), (fa, axial), (color, axial), (t1w, axial), (t1w, sagittal), (t1w, coronal)]
        for column, (ax, (image, cut)) in enumerate(zip(row, views, strict=True)):
            # Peaks of single fibers reach 1: a common top keeps crossings and noise as dim as they are.
            top = 0.7 if image is color else np.percentile(image, 99.7)
            shade = np.clip(np.moveaxis(image[cut], 0, 1) / top, 0, 1)
            ax.imshow(shade, origin="lower", cmap="gray", interpolation="bilinear")
            masks = [m for b, m in made.masks.items() if b.hemisphere == person.tumor.side] if column > 3 else []
            outlines = [(mask, "cyan") for mask in masks] + [(made.tumor, "red"), (made.core, "orange")] * (column > 2)
            for volume, edge in outlines:
                if volume.array[cut].any():
                    ax.contour(volume.array[cut].T, [0.5], colors=edge, linewidths=0.8)
            ax.axis("off")
        tumor = person.tumor
        title = f"{tumor.family}, {tumor.side} {tumor.site}, {tumor.volume_ml:.0f} ml, edema {tumor.edema_mm:.0f} mm"
        row[0].text(0.0, 1.0, title, color="white", fontsize=8.5, transform=row[0].transAxes, va="bottom")
    for column, name in enumerate(("T1w", "FA", "peaks", "T1w, outlines", "T1w, bundles", "T1w, bundles")):
        figure.text((column + 0.5) / 6, 0.97, name, color="white", fontsize=9.5, ha="center")
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
